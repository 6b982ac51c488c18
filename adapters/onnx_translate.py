"""Translates text with a model exported by `export.py --format onnx`: needs onnxruntime and NumPy only.

    python translate.py < text.en > text.zh
    python translate.py --beam-width 5 --n-best 3 --json < text.en

In Python:

    from translate import Translator
    for hypothesis in Translator('folder').translate(['where is the book ?'], beam_width=5)[0]:
        print(hypothesis.text, hypothesis.score)

The search is that of `predict.py`: the same formulas, and the same outputs. The folder has all that this program reads.
Letters in shapes: B sentences, K hypotheses of each, M candidates of each, S source length, V vocabulary, X names.
"""
import argparse
from collections import namedtuple
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)


def refused(message):
    """The exception for a damaged program: one line on stderr and exit code 1, or what a failed import raises."""
    return SystemExit('translate.py: ' + message) if __name__ == '__main__' else ImportError(message)


# Modules of this folder, if they are as they were exported:
try:
    from exporting.manifest import Folder
except Exception:  # a damaged module may raise anything
    raise refused('%s: is missing or damaged: copy the exported folder again'
                  % os.path.join(HERE, 'exporting')) from None
Folder(HERE, refused).check('.py')
from command_line import CommandParser, UserError, positive_int, require, run_command  # noqa: E402
import search_options  # noqa: E402
from text.json_lines import json_line  # noqa: E402
from text.tokenizers import read_tokenizers  # noqa: E402
from text.vocabulary import END, PAD, START, Vocabulary  # noqa: E402
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

CHUNK = 1024        # lines that are translated before their outputs are written
TINY = 1e-37        # the minimum attention to a word of the source when it is copied

Hypothesis = namedtuple('Hypothesis', 'text tokens score log_probabilities alignment ranking source_tokens')
Hypothesis.__doc__ = """One output: tokens without `</s>`; score, the sum of log_probabilities (nats, `</s>` included);
alignment (T, S); ranking, the score with the penalties; source_tokens, of the text."""

Beam = namedtuple('Beam', 'ids log_probabilities weights score')
Beam.__doc__ = """One hypothesis in a search: lists with an entry per token, and log p."""


def length_divisor(length, penalty):
    """((5 + L) / 6)^alpha, eq. 14 of Wu et al. (2016); or L for the penalty 'average'."""
    return length if penalty == 'average' else ((5. + length) / 6.) ** penalty


def repeated(ids, n):
    """Ids that would complete an n-gram which `ids` already has."""
    return [ids[i + n - 1] for i in range(len(ids) - n + 1) if ids[i:i + n - 1] == ids[len(ids) - n + 1:]]


class Translator(object):
    """A folder of `export.py --format onnx`.

    # Arguments
        folder: its path. threads: of onnxruntime; 0: all cores.

    # Raises
        UserError: a file that is not as it was exported.
    """

    def __init__(self, folder=HERE, threads=0):
        files = Folder(folder, UserError)
        config = json.loads(files.read_file('config.json').decode('utf-8'))
        self.settings, self.search = config['settings'], config['search']
        self.tokenizers = read_tokenizers(files, argparse.Namespace(**self.settings))
        self.vocabularies = [Vocabulary.from_bytes(files.read_file(name), files.file(name))
                             for name in ('vocab.source.txt', 'vocab.target.txt')]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.encoder, self.step = [onnxruntime.InferenceSession(
            files.read_file(name), options, providers=['CPUExecutionProvider'])
            for name in ('encoder.onnx', 'step.onnx')]
        self.states = sorted(one.name for one in self.step.get_inputs() if one.name.startswith('state_'))
        self.inputs = {one.name for one in self.step.get_inputs()}
        self.outputs = {one.name for one in self.step.get_outputs()}

    def translate(self, texts, batch_size=32, **options):
        """The best hypotheses for each text, a list of lists of `Hypothesis`.

        # Arguments
            texts: list of str. batch_size: sentences decoded together. options: fields of `search_options.Options`,
            such as `beam_width`, `n_best`, `length_penalty`; omitted ones are as exported.

        # Raises
            UserError: an option out of its range, or a text that is too long for `--score location`.
        """
        options = self._options(**options)
        results = [[Hypothesis('', [], 0., [], np.zeros((0, 0), 'f'), 0., [])] for _ in texts]
        longest = self.settings['max_source_length'] if self.settings.get('long_sources') == 'truncate' else None
        sources = [self.tokenizers[0].tokenize(text)[:longest] for text in texts]
        for text, tokens in zip(texts, sources):
            require(self.settings['score'] != 'location' or len(tokens) <= self.settings['max_source_length'],
                    'a source of %d tokens is longer than the %d of this model with --score location, shorten it: '
                    '%.40s', len(tokens), self.settings['max_source_length'], text)
        order = sorted((i for i, tokens in enumerate(sources) if tokens), key=lambda i: len(sources[i]))
        for start in range(0, len(order), batch_size):
            batch = order[start:start + batch_size]
            for i, hypotheses in zip(batch, self._search([sources[i] for i in batch], options)):
                results[i] = [one._replace(source_tokens=sources[i]) for one in hypotheses]
        return results

    def _options(self, **given):
        """The exported options of the search, with those that are given, as `search_options.Options`."""
        given = {name: value for name, value in given.items() if value is not None}
        options = search_options.merge(argparse.Namespace(**self.search), argparse.Namespace(
            **dict({'max_length_ratio': self.search['max_length_ratio']}, **given)))
        return options if 'n_best' in given else options._replace(n_best=min(self.search['n_best'],
                                                                             options.beam_width))

    def _search(self, sources, options):
        """Hypotheses for a batch of token lists, by beam search; width 1 is greedy search."""
        width, target = options.beam_width, self.vocabularies[1]
        ids = np.full((len(sources), max(map(len, sources))), PAD, 'int64')
        names = [target.names(tokens) if self.settings['copy'] else [] for tokens in sources]
        copied = ids.copy()
        for row, tokens in enumerate(sources):
            ids[row, :len(tokens)] = self.vocabularies[0].encode(tokens)
            copied[row, :len(tokens)] = target.encode(tokens, names[row])
        encoded = dict(zip([one.name for one in self.encoder.get_outputs()], self.encoder.run(None, {'source': ids})))
        states = {name: encoded[name] for name in self.states}
        if 'attentional' in self.inputs:
            states['attentional'] = np.zeros((len(sources), 1, self.settings['units']), 'f')
        look = {name: encoded[name] for name in ('memory', 'keys', 'mask')}
        limits = [self._limit(len(tokens), options) for tokens in sources]
        live, finished = [[Beam([], [], [], 0.)] for _ in sources], [[] for _ in sources]
        active, time = list(range(len(sources))), 0
        while active:
            # A place without a live hypothesis holds <pad>, and its values are ignored.
            places = max(len(live[b]) for b in active)
            tokens = np.full((len(active), places), PAD, 'int64')
            for row, b in enumerate(active):
                tokens[row, :len(live[b])] = [(one.ids or [START])[-1] for one in live[b]]
            values, candidates, log_p, weights, states = self._step(
                tokens, time, look, states, copied[active], [live[b] for b in active], options)
            time, kept_rows, parents = time + 1, [], []
            for row, b in enumerate(active):
                expanded = [(live[b][k].score + float(log_p[row, k, m]), k, m) for k in range(len(live[b]))
                            for m in range(values.shape[2]) if values[row, k, m] > -np.inf]
                expanded.sort(key=lambda one: -one[0])
                old, live[b], rows = live[b], [], []
                for score, k, m in expanded[:width - len(finished[b])]:
                    one = Beam(old[k].ids + [int(candidates[row, k, m])],
                               old[k].log_probabilities + [float(log_p[row, k, m])],
                               old[k].weights + [weights[row, k]], score)
                    if one.ids[-1] == END or time >= limits[b]:
                        finished[b].append((self._ranking(one, len(sources[b]), options), one))
                    else:
                        live[b].append(one)
                        rows.append(k)
                finished[b].sort(key=lambda pair: -pair[0])
                hope = [one.score / length_divisor(limits[b], options.length_penalty) for one in live[b]]
                best = finished[b][options.n_best - 1][0] if len(finished[b]) >= options.n_best else -np.inf
                if hope and best < max(hope):
                    kept_rows.append(row)
                    parents.append(rows + [0] * (width - len(rows)))
            active = [active[row] for row in kept_rows]
            if active:
                parents = np.array(parents)[:, :max(len(live[b]) for b in active), None]
                look = {name: value[kept_rows] for name, value in look.items()}
                states = {name: np.take_along_axis(value[kept_rows], parents, 1) for name, value in states.items()}
        return [[self._hypothesis(ranking, one, names[b], len(sources[b]))
                 for ranking, one in pairs[:options.n_best]] for b, pairs in enumerate(finished)]

    def _limit(self, length, options):
        """The maximum number of tokens of an output, `</s>` included, for a source of this length."""
        limits = [options.max_length] if options.max_length else []
        if options.max_length_ratio:
            limits.append(max(1, int(options.max_length_ratio * length + 1e-6)))
        limit = min(limits or [2 * length + 10])
        if options.min_length:
            limit = max(limit, options.min_length + 1)          # one more token for `</s>`
        return min(limit, options.max_length or limit)

    def _step(self, tokens, time, look, states, copied, live, options):
        """One step: logits and ids of the allowed candidates and their log-probabilities (B, K, M), weights (B, K, S),
        new states. Excluded candidates have the logit minus infinity."""
        target, count = len(self.vocabularies[1]), max(options.beam_width, 2)
        whole = self.settings['copy'] or options.no_repeat_ngram     # then NumPy chooses, from all logits
        wanted = ['normaliser'] + (['logits'] if whole else ['top_values', 'top_ids'])
        wanted += sorted(self.outputs & {'weights', 'switch'}) + ['new_' + name for name in states]
        feeds = dict(look, tokens=tokens, time=np.array([time], 'f'), count=np.array([min(count + 3, target)]))
        feeds.update(states)
        found = dict(zip(wanted, self.step.run(wanted, {name: feeds[name] for name in self.inputs if name in feeds})))
        weights = found.get('weights', np.zeros(tokens.shape + copied.shape[1:], 'f'))
        if whole:
            logits, normaliser = found['logits'], found['normaliser']
            if self.settings['copy']:
                logits = self._mixture(logits - normaliser, found['switch'], weights, copied)
                normaliser = np.log(np.exp(logits).sum(axis=2, keepdims=True))
            values = logits.copy()
            values[:, :, [PAD, START]] = -np.inf
            if time < options.min_length:
                values[:, :, END] = -np.inf
            for row, hypotheses in enumerate(live):
                for k, one in enumerate(hypotheses):
                    if options.no_repeat_ngram:
                        values[row, k, repeated(one.ids, options.no_repeat_ngram)] = -np.inf
                    if not np.isfinite(values[row, k]).any():           # no token is allowed: the sentence ends
                        values[row, k, END] = logits[row, k, END]
            ids = np.argsort(-values, axis=2, kind='stable')[:, :, :count]
            values = np.take_along_axis(values, ids, 2)
        else:
            values, ids, normaliser = found['top_values'], found['top_ids'], found['normaliser']
            excluded = (ids == PAD) | (ids == START) | (ids == END) & (time < options.min_length)
            values = np.where(excluded, -np.inf, values)
            order = np.argsort(-values, axis=2, kind='stable')[:, :, :count]
            values, ids = [np.take_along_axis(x, order, 2) for x in (values, ids)]
        return values, ids, values - normaliser, weights, {name: found['new_' + name] for name in states}

    @staticmethod
    def _mixture(log_p, switch, weights, copied):
        """See et al. (2017), eq. 9, as logarithms (B, K, V + X): p_gen P_vocab + (1 - p_gen) attention to the word."""
        size = max(log_p.shape[2], int(copied.max()) + 1)
        p = np.zeros(log_p.shape[:2] + (size,), log_p.dtype)
        copies, there = p.copy(), np.zeros((len(copied), 1, size), bool)
        for row, ids in enumerate(copied):
            there[row, 0, ids[ids != PAD]] = True
            for s, word in enumerate(ids):
                copies[row, :, word] += weights[row, :, s]
        sigmoid = [1. / (1. + np.exp(-x)) for x in (switch, -switch)]
        p[:, :, :log_p.shape[2]] = np.where(there.any(axis=2, keepdims=True), sigmoid[0], 1.) * np.exp(log_p)
        with np.errstate(divide='ignore'):
            return np.log(p + np.where(there, sigmoid[1] * np.maximum(copies, TINY), 0.).astype(p.dtype))

    @staticmethod
    def _ranking(one, length, options):
        """log p(Y) / lp(Y) + beta sum_s log(min(sum_t a_ts, 1)) over the tokens of the source."""
        value = one.score / length_divisor(len(one.ids), options.length_penalty)
        if options.coverage_penalty:
            covered = np.clip(np.sum(one.weights, axis=0)[:length], 1e-7, 1.)
            value += options.coverage_penalty * float(np.log(covered).sum())
        return value

    def _hypothesis(self, ranking, one, names, length):
        ids = one.ids[:-1] if one.ids[-1] == END else one.ids
        tokens = self.vocabularies[1].decode(ids, names)
        return Hypothesis(self.tokenizers[1].detokenize(tokens), tokens, sum(one.log_probabilities),
                          one.log_probabilities, np.array(one.weights)[:len(ids), :length], ranking, [])


def main(argv):
    parser = CommandParser(prog='translate.py', doc=__doc__.split('\n')[0])
    parser.add_argument('--batch-size', type=positive_int, default=32, metavar='N')
    parser.add_argument('--threads', type=positive_int, default=0, metavar='N', help='default: all cores')
    parser.add_argument('--json', action='store_true', help='write an object for each line, with tokens and alignment')
    search_options.add_options(parser, 'outputs of each line; needs --beam-width')
    options = parser.parse_args(argv)
    search_options.check_usage(options, parser.error)
    translator = Translator(threads=options.threads)
    asked = {name: getattr(options, name) for name in search_options.Options._fields}
    data = sys.stdin.buffer.read()
    lines = (data[3:] if data.startswith(b'\xef\xbb\xbf') else data).split(b'\n')
    lines = lines[:-1] if lines[-1] == b'' else lines
    for number, line in enumerate(lines):
        try:
            lines[number] = (line[:-1] if line.endswith(b'\r') else line).decode('utf-8')
        except UnicodeDecodeError:
            raise UserError('standard input: line %d: not UTF-8' % (number + 1))
    for start in range(0, len(lines), CHUNK):
        texts = lines[start:start + CHUNK]
        for text, hypotheses in zip(texts, translator.translate(texts, options.batch_size, **asked)):
            if options.json:
                print(json_line(text, hypotheses[0].source_tokens, hypotheses))
            else:
                print('\n'.join(' '.join(one.text.split('\n')) for one in hypotheses))
        sys.stdout.flush()


if __name__ == '__main__':
    run_command(main, 'translate.py')
