"""Translates text with trained models: text in, hypotheses with their alignments out."""
import collections
import os
from concurrent.futures import ThreadPoolExecutor
import threading
import time

import tf_session  # first: it fixes the import order
import numpy as np
import beam_search
from command_line import require
from decoding import search_graph
from decoding.ensemble import attends, candidates_graph, forced_graph, search_sizes, sentence_bytes
from decoding.loading import load_models, open_runs, read_vocabularies
from search_options import Options
from search_options import check as check_options
from settings import check_work
from storage.machine import available_memory
from text.batches import pad, plan_batches
from text.vocabulary import END, START, UNK

MINIMUM_MEMORY = 2 ** 29  # bytes that a search may use, however little memory is free
TIMED_TOKENS = 2 ** 14  # source tokens, padding included, that are encoded together where a search has a deadline

Hypothesis = collections.namedtuple('Hypothesis', 'text tokens score log_probabilities alignment ended margins '
                                    'ranking source_tokens unknown copied')
Hypothesis.__new__.__defaults__ = ([], (), ())
Hypothesis.__doc__ = """One output for one source text.

`tokens` without `</s>`; `score` the sum of `log_probabilities` (nats), one for each token and, where `ended`, one for
`</s>`; `alignment` `(T, S)` the attention weights, a row for each token, without that of `</s>`; `margins` the logit of
each token minus that of the runner-up; `ranking` the score with its penalties, which orders the hypotheses of a text;
`source_tokens` the tokens of the source text, which the columns of `alignment` belong to.
"""


class Translator(object):
    """Translates texts with one model or an ensemble, loaded once. Several threads may call one translator.

    A process that was forked cannot use the translator of its parent, nor load one after its parent has: TensorFlow's
    threads do not survive a fork. Load in each worker process, after the fork, or start the processes by `spawn`.

    # Arguments
        models: a `Seq2Seq`, or a list of them in one graph: an ensemble, which averages their probabilities (and their
            attention weights) at each step.
        session: the `tf.Session` that holds them.
        source, target: pairs of a tokeniser and a vocabulary.
        workers: maximum number of batches decoded at a time.

    `Translator.load('runs/x')` makes one from a run directory. `close`, or the end of a `with` block, frees its memory.
    """

    def __init__(self, models, session, source, target, workers=1):
        self.models = models if isinstance(models, list) else [models]
        self.session = session
        self.source_tokenizer, self.source_vocabulary = source
        self.target_tokenizer, self.target_vocabulary = target
        self.workers = workers
        self._lock = threading.Lock()
        self._graphs = {}
        self._process = os.getpid()

    @classmethod
    def load(cls, paths, threads=0):
        """Reads run directories: their settings, vocabularies and best weights.

        # Arguments
            paths: one run directory, or a list of several that have the same vocabularies: an ensemble.
            threads: maximum number of batches decoded at a time, each on one core; 0: the setting of the (first) run.

        # Raises
            UserError: a directory holds no trained run, its files do not fit together, or the runs do not.
        """
        runs, configs = open_runs(paths if isinstance(paths, (list, tuple)) else [paths])
        source, target = read_vocabularies(runs[0], configs[0])
        threads = threads or configs[0].threads or tf_session.available_cores()
        session = tf_session.new_session(threads, parallel_runs=True)
        try:
            with tf_session.opened(session):
                models = load_models(runs, configs, source[1], target[1])
        except BaseException:
            tf_session.close(session)
            raise
        translator = cls(models, session, source, target, threads)
        translator.settings, translator.run = configs[0], runs[0]
        return translator

    def close(self):
        """Frees the models and their session. No other call may run then; later calls raise a `UserError`."""
        if self.session is not None:
            tf_session.close(self.session)
        self.models, self.session, self._graphs = [], None, {}

    def _check_usable(self):
        require(self.session is not None, 'this Translator is closed: load the run again')
        require(os.getpid() == self._process, 'this Translator was loaded before the process was forked, and the '
                'threads of TensorFlow do not survive a fork: load it in each worker process, after the fork; see '
                'docs/serving.md')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def encode(self, text):
        """Source tokens of a text, as many as the run reads."""
        settings = self.models[0].settings
        return self.source_tokenizer.tokenize(text)[:settings.max_source_length if settings.long_sources == 'truncate'
                                                    else None]

    def translate(self, texts, batch_size=32, max_length=None, progress=None, divide=True, deadline=np.inf,
                  overtake=False, **options):
        """The best hypotheses for each text, a list of lists in the order of the texts.

        # Arguments
            texts: list of str; one without any token gives one empty hypothesis.
            batch_size: maximum number of sentences decoded together, of similar length.
            max_length: maximum number of tokens of an output; by default 2 S + 10 for a source of S tokens.
            progress: function that takes the number of sentences that were just decoded.
            divide: Boolean, few sentences are divided among the threads; without it they stay together, for callers
                that decode other sentences at the same time.
            overtake: Boolean, do not wait for the searches of other threads that do not overtake: for small work.
            deadline: time since 1970 in seconds, as of `time.time()`, at which the search ends unfinished. A batch that
                is being encoded then is encoded to its end.
            options: `beam_width`, `n_best` and the other fields of `search_options.Options`. The first call with an
                option that adds a part to the search takes about a second longer, to build the graph.

        # Raises
            TimeoutError: the deadline has passed.
            UserError: texts that are no list of strings, options out of range, or a process that was forked.
        """
        self._check_usable()
        options = Options(max_length=max_length, **options)
        check_options(options)
        texts = self._strings(texts)
        results = [[Hypothesis('', [], 0., [], np.zeros((0, 0), 'f'), True, [], 0.)] for _ in texts]
        sources = [self.encode(text) for text in texts]
        # Longest first, so that the last batches, which not every thread has, are short.
        order = sorted((i for i, tokens in enumerate(sources) if tokens), key=lambda i: -len(sources[i]))
        size = max(1, min(batch_size, -(-len(order) // self.workers) if divide else batch_size))
        if order:
            longest = len(sources[order[0]])
            size = min(size, self._sentences_in_memory(longest, options))
            if deadline < np.inf:  # the encoder does not stop at the deadline: it gets batches that take little time
                size = min(size, max(1, TIMED_TOKENS // longest))
        batches = [order[start:start + size] for start in range(0, len(order), size)]

        def search(batch):
            limits = beam_search.max_lengths([len(sources[i]) for i in batch], options)
            return self._search([sources[i] for i in batch], limits, options, deadline, overtake)

        for batch, result in zip(batches, self.map_parallel(search, batches)):
            for row, i in enumerate(batch):
                rankings = result.rankings[row]
                require(np.isfinite(rankings[0]) and not np.any(np.isnan(rankings)), 'the ranking of an output is not '
                        'a finite number: lower length_penalty and coverage_penalty')
                results[i] = [self._hypothesis(result, row, n, sources[i], options)
                              for n in range(options.n_best) if rankings[n] > -np.inf]
            if progress:
                progress(len(batch))
        return results

    def _sentences_in_memory(self, longest, options):
        """Maximum number of sources of up to `longest` tokens in one batch, for all workers at the same time."""
        sizes = len(self.target_vocabulary), longest, int(beam_search.max_lengths([longest], options)[0])
        check_work(options._replace(max_length=sizes[2]), str)
        needed = sum(sentence_bytes(options, *sizes, **search_sizes(model)) for model in self.models)
        if needed * self.workers < MINIMUM_MEMORY:
            return MINIMUM_MEMORY // (needed * self.workers)
        memory = available_memory() or 2 ** 63  # if the system does not report it
        require(needed <= memory, 'a search with beam_width %d over %d tokens, for a source of %d tokens and outputs '
                'of up to %d, takes about %.1f GiB of memory, and there are %.1f GiB: lower beam_width or max_length, '
                'or shorten the source', options.beam_width, *sizes, needed / 2. ** 30, memory / 2. ** 30)
        return max(1, memory // (2 * self.workers * needed))

    @staticmethod
    def _strings(texts):
        require(not isinstance(texts, (str, bytes)), 'texts must be a list of strings, not one string: put it in a '
                'list, [text]')
        texts = list(texts)
        for number, text in enumerate(texts):
            require(isinstance(text, str), 'texts must be a list of strings, and item %d is of type %s', number,
                    type(text).__name__)
        return texts

    def map_parallel(self, function, batches):
        """Yields the value of a function for each batch, in order; `workers` threads compute them."""
        if self.workers == 1 or len(batches) < 2:
            yield from map(function, batches)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(function, batch) for batch in batches]
            try:
                for future in futures:
                    yield future.result()
            finally:  # after an error or Ctrl-C, do not wait for batches that have not begun
                for future in futures:
                    future.cancel()

    def _source_ids(self, tokens):
        for settings in (model.settings for model in self.models):
            require(settings.score != 'location' or len(tokens) <= settings.max_source_length,
                    'a source of %d tokens is longer than the %d of this model with --score location: shorten it, or '
                    'train with a larger --max-source-length', len(tokens), settings.max_source_length)
        return self.source_vocabulary.encode(tokens)

    def _names(self, tokens):
        """The words of a source without an id in the target vocabulary, for models that may copy them."""
        return self.target_vocabulary.names(tokens) if self.models[0].copied is not None else ()

    def _run(self, key, build, sources, feeds, run_options=None):
        """Runs a graph on one batch.

        # Arguments
            key: the graph's key: a graph is built once.
            build: function that builds the graph and returns its placeholders and its output tensors.
            sources: token lists of the batch.
            feeds: values of the placeholders.
            run_options: `tf.RunOptions`.

        # Returns
            Values of the output tensors.
        """
        source = pad([self._source_ids(tokens) for tokens in sources])
        with self._lock:
            if key not in self._graphs:
                # Hold the graph's mutation lock: a concurrent run must not see a half-built loop.
                with tf_session.opened(self.session), self.session.graph._mutation_lock():
                    self._graphs[key] = build()
            placeholders, tensors = self._graphs[key]
        feed = dict(zip(placeholders, feeds))
        feed.update((model.source, source) for model in self.models)
        if self.models[0].copied is not None:
            copied = pad([self.target_vocabulary.encode(tokens, self._names(tokens)) for tokens in sources])
            feed.update((model.copied, copied) for model in self.models)
        return self.session.run(tensors, feed, run_options)

    def _search(self, sources, limits, options, deadline=np.inf, overtake=False):
        require(not options.coverage_penalty or any(map(attends, self.models)),
                'coverage_penalty needs attention, which a model with --score none does not have: omit it')
        _require_time(deadline)
        found = self._run(('search',) + search_graph.kind(options), lambda: search_graph.build(self.models, options),
                          sources, search_graph.values(options, limits, deadline),
                          tf_session.OVERTAKE if overtake else None)
        _require_time(deadline)
        return found

    def _hypothesis(self, result, row, n, source, options):
        length = int(result.lengths[row, n])
        ids = result.ids[row, n, :length].tolist()
        ended = END in ids
        words = ids[:-1] if ended else ids
        tokens = self.target_vocabulary.decode(words, self._names(source))
        log_probabilities, margins = [x[row, n, :length].tolist() for x in (result.log_probabilities, result.margins)]
        score = sum(log_probabilities)
        has_penalty = options.length_penalty or options.coverage_penalty
        return Hypothesis(self.target_tokenizer.detokenize(tokens), tokens, score, log_probabilities,
                          result.weights[row, n, :len(words), :len(source)], ended, margins,
                          float(result.rankings[row, n]) if has_penalty else score, source,
                          *self._unknown_and_copied(source, words))

    def _unknown_and_copied(self, source, ids):
        """Positions of the source tokens without an id, and of the output's ids that are copied source tokens."""
        unknown = [s for s, i in enumerate(self.source_vocabulary.encode(source)) if i == UNK]
        return unknown, [t for t, i in enumerate(ids) if i >= len(self.target_vocabulary)]

    def score(self, pairs, batch_size=32, progress=None, deadline=np.inf, overtake=False):
        """Scores given targets by forced decoding.

        # Arguments
            pairs: list of (source text, target text); a source without tokens is scored as one unknown word.
            batch_size: maximum number of pairs scored together, of similar length.
            progress: function that takes the number of pairs that were just scored.
            deadline, overtake: as for `translate`; a batch that has begun is scored to its end.

        # Returns
            A `Hypothesis` for each pair, with the given tokens. A margin is the logit of the given token minus that of
            the best other token except `<pad>` and `<s>`: greedy search would not choose a token of negative margin.
        """
        self._check_usable()
        pairs = list(pairs)
        for number, pair in enumerate(pairs):
            require(isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(text, str) for text in pair),
                    'pairs must be a list of (source, target), and item %d is %.60r', number, pair)
        source_tokens = [self.encode(text) for text, _ in pairs]
        source = [tokens or [''] for tokens in source_tokens]
        tokens = [self.target_tokenizer.tokenize(text) for _, text in pairs]
        target = [self.target_vocabulary.encode(words, self._names(names)) for words, names in zip(tokens, source)]
        results = [None] * len(pairs)
        for batch, values in self._force('score', lambda: forced_graph(self.models), source, target, batch_size,
                                         (), deadline, overtake):
            for row, i in enumerate(batch):
                log_probabilities, margins = [value[row, :len(target[i]) + 1].tolist() for value in values[:2]]
                score = sum(log_probabilities)
                results[i] = Hypothesis(pairs[i][1], tokens[i], score, log_probabilities,
                                        values[2][row, :len(target[i]), :len(source_tokens[i])], True, margins, score,
                                        source_tokens[i], *self._unknown_and_copied(source_tokens[i], target[i]))
            if progress:
                progress(len(batch))
        return results

    def candidates(self, hypotheses, count=5, batch_size=32, progress=None):
        """The most probable tokens at each step of given outputs, by forced decoding.

        # Arguments
            hypotheses: list of `Hypothesis` with source tokens of this translator's tokeniser.
            count: maximum number of tokens of each step.
            batch_size: maximum number of outputs decoded together.
            progress: function that takes the number of outputs that were just decoded.

        # Returns
            For each output a list with an entry for each of its tokens: a list of (token, probability), the most
            probable first, without `<pad>` and `<s>`.
        """
        self._check_usable()
        sources = [list(one.source_tokens) or [''] for one in hypotheses]
        targets = [self.target_vocabulary.encode(one.tokens, self._names(source))
                   for one, source in zip(hypotheses, sources)]
        count, results = min(count, len(self.target_vocabulary) - 2), [None] * len(hypotheses)

        for batch, (values, ids) in self._force('candidates', lambda: candidates_graph(self.models), sources, targets,
                                                batch_size, [count]):
            for row, i in enumerate(batch):
                names = self._names(sources[i])
                results[i] = [[(token, float(value)) for token, value in zip(
                    self.target_vocabulary.decode(ids[row, t].tolist(), names), values[row, t]) if value > 0.]
                    for t in range(len(targets[i]))]
            if progress:
                progress(len(batch))
        return results

    def _force(self, key, build, sources, targets, batch_size, feeds=(), deadline=np.inf, overtake=False):
        """Pairs of indices and values of a graph of forced decoding, for batches of similar length.

        `build` as for `_run`: its first placeholders take what `forced_inputs` describes, the others `feeds`.
        """
        plan = plan_batches([len(ids) for ids in sources], [len(ids) for ids in targets], batch_size, 0, 0, False)

        def force(batch):
            _require_time(deadline)
            inputs, outputs = [pad([before + targets[i] + after for i in batch])
                               for before, after in (([START], []), ([], [END]))]
            return self._run(key, build, [sources[i] for i in batch],
                             [outputs] + [inputs] * len(self.models) + list(feeds),
                             tf_session.OVERTAKE if overtake else None)

        return zip(plan, self.map_parallel(force, plan))


def _require_time(deadline):
    if time.time() >= deadline:
        raise TimeoutError('the time limit is reached')
