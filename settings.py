"""Every setting of a run: one table for the parser, the help, the docs and `config.json`. Standard library only."""
import argparse
import collections

from command_line import require, yes_or_no

CONFIG_VERSION = 1
AUTO = 'auto'  # the value of --alignments that calls a word aligner
# Upper bounds: far above any use, and low enough that no number alone can exhaust the memory or never return.
WIDTH, TOKENS, COUNT, BELOW_ONE = 2 ** 16, 2 ** 20, 10 ** 9, .999999
LARGEST_SEARCH = 10 ** 6  # beam width times length of the output, where both are given


class Setting(collections.namedtuple('Setting', 'name default kind choices group help minimum maximum')):
    """One row of the table.

    `kind` is `int`, `float`, `str`, `bool`, `'folder'`, `'file'` or `'files'` (a list); numbers lie between
    `minimum` and `maximum`. Where the default is `None`, `None` is a value too.
    """
    __slots__ = ()

    @property
    def option(self):
        return '--' + self.name.replace('_', '-')

    @property
    def expected(self):
        """The values that the setting accepts, as messages name them."""
        if self.choices:
            return 'one of ' + ', '.join(self.choices)
        if self.kind in (int, float):
            return '%s from %s to %s' % ('a whole number' if self.kind is int else 'a number', self.minimum,
                                         self.maximum)
        return {bool: 'true or false', str: 'a text', 'files': 'a list of paths'}.get(self.kind, 'a path')

    def accepts(self, value):
        """Whether a value has the kind of the setting and lies in its range."""
        if value is None and self.default is None:
            return True
        if self.choices:
            return value in self.choices
        if self.kind in (int, float):
            return type(value) in (int, self.kind) and self.minimum <= value <= self.maximum
        if self.kind is bool:
            return type(value) is bool
        if self.kind == 'files':
            return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_is_path, value))
        return _is_path(value)

    def parse(self, text):
        """The number in the text of an option, for argparse."""
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        if value is None or not self.accepts(value):
            raise argparse.ArgumentTypeError('%r is not %s' % (text[:40], self.expected))
        return value


def _is_path(value):
    """Whether a value is text without NUL and surrogates, except those that encode the undecodable bytes of a path."""
    try:
        return isinstance(value, str) and b'\0' not in value.encode('utf-8', 'surrogateescape')
    except UnicodeEncodeError:
        return False


# Other defaults for a task or a well-known corpus, set by --task and --preset; options override them.
TASKS = ('translate', 'summarise', 'answer')
PRESETS = collections.OrderedDict([
    ('translate', {}),
    ('summarise', dict(
        data='samples/summarise', target_tokenizer='word', max_source_length=400, long_sources='truncate',
        max_target_length=100, epochs=8, dropout=.2, word_dropout=0., metric='rouge-l', min_length=4,
        no_repeat_ngram=3)),
    ('answer', dict(
        data='samples/answer', target_tokenizer='word', max_source_length=400, epochs=16, dropout=.1, word_dropout=0.,
        metric='exact-match')),
    # In addition to those of answer, if --format is babi: a memory network of 3 hops (Sukhbaatar et al. 2015).
    ('answer --format babi', dict(
        encoder='memory', linear_start=15, hops=3, cell='gru', score='dot', units=64, embedding=64, init_scale=0.,
        learning_rate=5e-3, dropout=0., epochs=30, patience=12, batch_size=64, max_source_length=2000)),
    # Task 1 of Multi30k, lower-cased and tokenised; name its files with --train, --val and --test. Subwords of both
    # languages together spare it <unk>, and the length penalty was chosen on the validation text.
    ('multi30k', dict(
        source_tokenizer='bpe', target_tokenizer='bpe', source_vocabulary=8000, target_vocabulary=8000,
        share_vocabulary=True, score='general', units=256, embedding=256, encoder_units=512, tie_embeddings=True,
        batch_size=64, learning_rate=6e-3, warmup=100, dropout=.5, word_dropout=.1, label_smoothing=.1, averaging=.999,
        beam_width=5, length_penalty=1.))])

METAVARS = {int: 'N', float: 'X', str: 'NAME,NAME', 'file': 'FILE', 'folder': 'DIR'}
# The settings that `train.py --help` shows; `--help-all` shows all.
COMMON = (
    'task', 'data', 'train', 'val', 'test', 'format', 'source_tokenizer', 'target_tokenizer', 'attention', 'score',
    'cell', 'units', 'embedding', 'epochs', 'max_minutes', 'batch_size', 'learning_rate', 'dropout', 'beam_width',
    'threads')

CORPORA = [name for name in PRESETS if name.split()[0] not in TASKS]    # samples/ does not have them
GUIDED = {'multi30k': .1}   # presets that use --alignments auto with this weight, where the aligner is installed


def _table():
    rows = []

    def add(group, name, default, kind, text, minimum=None, maximum=None, choices=None):
        rows.append(Setting(name, default, kind, choices, group, text, minimum, maximum))

    def choose(group, name, default, choices, text):
        add(group, name, default, str, text, choices=choices)

    tokenizers = ('space', 'word', 'char', 'chinese', 'jieba', 'bpe', 'unigram')
    choose('task', 'task', 'translate', TASKS, 'sets the defaults of other settings (--help-all lists them)')
    add('data', 'data', 'samples/translate', 'folder',
        'folder with train.tsv, val.tsv and optionally test.tsv, or .csv, .jsonl, .tmx, packed too')
    add('data', 'train', None, 'files',
        'training text in place of --data: one table (tabs, .csv, .jsonl, .tmx), or source, then target files')
    add('data', 'val', None, 'files', 'validation text; without it, part of the training text is held out')
    add('data', 'test', None, 'files', 'test text, recorded for evaluate.py')
    choose('data', 'format', 'pairs', ('pairs', 'babi', 'qa'),
           'content of the files: source and target (pairs); bAbI stories; context, question and answer (qa); the end '
           'of a name tells CSV, JSON and TMX')
    add('data', 'columns', None, str, 'columns, JSON fields or TMX languages of source and target (with qa: context, '
        'question, answer): names, or numbers from 1, with commas: en,de')
    add('data', 'alignments', None, 'file',
        'links of the tokens of --train for --guided-alignment, in Pharaoh format: 0-0 1-2; auto: those that eflomal '
        'finds (make align)')
    choose('data', 'source_tokenizer', 'word', tokenizers, 'tokeniser of the source text')
    choose('data', 'target_tokenizer', 'chinese', tokenizers, 'tokeniser of the target text')
    add('data', 'source_vocabulary', 10000, int,
        'maximum number of source tokens; for bpe and unigram, the number of subwords', 1, 2 ** 24)
    add('data', 'target_vocabulary', 10000, int,
        'maximum number of target tokens; for bpe and unigram, the number of subwords', 1, 2 ** 24)
    add('data', 'min_count', 1, int, 'drop tokens seen fewer times than this in the training text', 1, COUNT)
    add('data', 'share_vocabulary', False, bool, 'one vocabulary and one embedding for source and target')
    add('data', 'spacing_marks', True, bool,
        'mark unusual spaces in the target tokens of word, chinese and jieba: outputs get the spacing of the text')
    choose('data', 'on_bad_utf8', 'error', ('error', 'replace'), 'what to do with bytes that are not UTF-8')
    add('data', 'max_source_length', 100, int, 'maximum number of source tokens', 1, TOKENS)
    choose('data', 'long_sources', 'drop', ('drop', 'truncate'),
           'drop pairs with more source tokens, or end these sources there, in training and in use')
    add('data', 'max_target_length', 60, int, 'drop pairs with more target tokens', 1, TOKENS)

    choose('attention', 'attention', 'global', ('global', 'local-m', 'local-p'),
           'source positions that attention covers: all, or a window that moves with the target position (local-m) or '
           'is predicted (local-p)')
    choose('attention', 'score', 'concat',
           ('dot', 'general', 'concat', 'additive', 'scaled_dot', 'location', 'none'),
           'score between decoder and encoder states; additive: another name of concat; none: no attention, a '
           'baseline')
    add('attention', 'attention_units', None, int, 'width of the concat score; the state size by default', 1, WIDTH)
    add('attention', 'attention_scale', False, bool, 'multiply the scores by a trainable scalar')
    add('attention', 'attention_normalize', False, bool, 'normed additive score (with concat)')
    add('attention', 'window', 10, int, 'half-width W of the window of local attention', 1, TOKENS)
    add('attention', 'hops', 1, int,
        'attention steps for each output token; each attentional state is the query of the next', 1, 100)
    add('attention', 'input_feeding', False, bool, 'concatenate the last attentional state to the next input')

    choose('model', 'encoder', 'recurrent', ('recurrent', 'dmn', 'memory'),
           'recurrent: reads the source as one sequence; dmn, memory: read the question and each sentence of a story '
           'separately, as dynamic memory networks, and as end-to-end memory networks do')
    choose('model', 'exact_match', 'state', ('state', 'flag'), "what dmn knows of a story's word that the question has "
           "too: the question's state there, or only 1 (flag)")
    choose('model', 'cell', 'lstm', ('lstm', 'gru'), 'kind of recurrent cell')
    add('model', 'units', 128, int, 'size D of the decoder state', 1, WIDTH)
    add('model', 'encoder_units', None, int,
        'size Dm of the encoder states, both directions together; D by default', 1, WIDTH)
    add('model', 'embedding', 128, int, 'size E of the embeddings', 1, WIDTH)
    add('model', 'encoder_layers', 1, int, 'encoder layers, 1 to 4', 1, 4)
    add('model', 'decoder_layers', 1, int, 'decoder layers, 1 to 4', 1, 4)
    add('model', 'bidirectional', True, bool, 'bidirectional encoder (each direction Dm/2 wide)')
    add('model', 'residual', False, bool, 'add the input to the output of each layer from the second on')
    choose('model', 'recurrent_activation', 'hard_sigmoid', ('hard_sigmoid', 'sigmoid'), 'gate activation')
    add('model', 'init_scale', 0.1, float,
        'draw all kernels and embeddings from a uniform distribution of this half-width; 0: as Keras does', 0, 100)
    add('model', 'tie_embeddings', False, bool, 'target embedding and output share their weights')
    add('model', 'copy', False, bool, 'the decoder may copy source words, also those without an id')
    add('model', 'init_from', None, 'folder',
        'run whose weights training starts from, where names and shapes are equal; embeddings by token')
    choose('model', 'keep_vocabulary', 'no', ('no', 'old', 'joined'),
           'with --init-from: vocabularies of the new text, of the old run, or of the old run and then the new text')
    add('model', 'source_embeddings', None, 'file', 'pretrained source vectors in word2vec or GloVe text format')
    add('model', 'target_embeddings', None, 'file', 'pretrained target vectors in word2vec or GloVe text format')

    add('training', 'epochs', 14, int, 'passes over the training text', 1, 10 ** 6)
    add('training', 'max_minutes', 0.0, float,
        'validate and stop at the first update after this many minutes of training; 0: no limit', 0, 10 ** 7)
    add('training', 'checkpoint_minutes', 0.0, float,
        'write a checkpoint inside an epoch after this many minutes; 0: only at validations', 0, 10 ** 7)
    add('training', 'batch_size', 32, int, 'pairs in a batch B', 1, WIDTH)
    add('training', 'accumulate', 1, int, 'batches whose gradients make one update, weighted by tokens', 1, WIDTH)
    add('training', 'group_by_length', False, bool,
        'batches of one update have similar lengths: with several workers none waits for a longer batch')
    add('training', 'linear_start', 0, int,
        'most epochs of --encoder memory without softmax; then the optimizer begins again', 0, COUNT)
    choose('training', 'optimizer', 'adam', ('adam', 'sgd', 'rmsprop'), 'rule that updates the weights')
    add('training', 'learning_rate', 4e-3, float,
        'maximum learning rate; the default suits adam, and sgd needs about 1', 1e-12, 1e38)
    add('training', 'warmup', 0, int, 'updates over which the learning rate rises from zero', 0, COUNT)
    choose('training', 'decay', 'linear', ('constant', 'linear', 'cosine', 'step', 'plateau'),
           'how the learning rate falls: over the run, at the end of epochs (step), or after validations without a new '
           'best (plateau)')
    add('training', 'decay_factor', 0.5, float, 'factor of the learning rate for step and plateau', 1e-6, 1)
    add('training', 'decay_start', 5, int, 'epochs before the first step', 0, 10 ** 6)
    add('training', 'decay_every', 1, int, 'epochs from step to step', 1, 10 ** 6)
    add('training', 'decay_patience', 2, int,
        'validations without a new best after which plateau lowers the rate', 1, COUNT)
    add('training', 'clip_norm', 5.0, float, 'maximum global norm of the gradient; 0: no limit', 0, COUNT)
    add('training', 'dropout', 0.3, float, 'dropout on the inputs of each layer', 0, BELOW_ONE)
    add('training', 'word_dropout', 0.05, float, 'share of input tokens replaced by <unk> in training', 0, BELOW_ONE)
    add('training', 'label_smoothing', 0.0, float,
        'probability spread over the vocabulary in the training loss', 0, BELOW_ONE)
    add('training', 'sampled_softmax', 0, int,
        'words drawn for the softmax of a training step, for large target vocabularies; the training figures are then '
        'estimates; 0: all words', 0, COUNT)
    add('training', 'coverage_loss', 0.0, float,
        'weight of the coverage loss, which penalises repeated attention to the same word', 0, 1000)
    add('training', 'guided_alignment', 0.0, float,
        "weight of the cross-entropy between attention and --alignments, or the supporting facts of bAbI", 0, 1000)
    add('training', 'weight_decay', 0.0, float, 'decoupled weight decay, times the learning rate', 0, 1000)
    add('training', 'averaging', 0.99, float,
        'decay of the running average of the weights that is validated and kept; 0: none', 0, BELOW_ONE)
    add('training', 'validate_every', 0, int,
        'validate after this many updates too; 0: only at the end of each epoch', 0, COUNT)
    choose('training', 'metric', 'perplexity', ('perplexity', 'bleu', 'rouge-l', 'exact-match'),
           'validation score that selects the best weights; all except perplexity decode the validation text each time')
    add('training', 'patience', 0, int, 'stop after this many validations without a new best; 0: never', 0, COUNT)
    add('training', 'keep', 0, int, 'best checkpoints kept besides the last', 0, 10000)
    add('training', 'average', 0, int,
        'keep the mean of this many checkpoints at the end, if it is better than the best one; 0: none', 0, 10000)
    choose('training', 'average_of', 'best', ('best', 'last'), 'which checkpoints --average takes')
    add('training', 'seed', 1, int, 'decides weights, data order and dropout', 0, 2 ** 31 - 1)

    add('decoding', 'beam_width', 1, int, 'hypotheses kept at each step', 1, 1000)
    add('decoding', 'length_penalty', 0.0, float, 'A: rank by score / ((5 + length) / 6)^A', 0, 100)
    add('decoding', 'coverage_penalty', 0.0, float,
        'lower the rank of outputs that leave source tokens without attention', 0, 1000)
    add('decoding', 'min_length', 0, int, 'minimum number of output tokens', 0, 10000)
    add('decoding', 'max_length', None, int,
        'maximum number of output tokens; by default twice the source length plus 10', 1, 10000)
    add('decoding', 'no_repeat_ngram', 0, int,
        'no sequence of N tokens occurs twice in an output; 0: no limit', 0, 100)

    choose('run', 'kernels', 'fast', ('fast', 'keras'),
           'keras: the loops and the loss of Keras and TensorFlow; fast: equal to 1e-6, in less time and memory')
    add('run', 'threads', 0, int,
        'threads of TensorFlow; 0: all cores; 1 is the reference for exact repetition', 0, 512)
    add('run', 'memory_limit', 0.0, float,
        'GiB that training may use: a run that needs more does not start; 0: the free memory', 0, 10 ** 6)
    add('run', 'tensorboard', False, bool, 'write scores, sample outputs and alignments for TensorBoard')
    return rows


SETTINGS = collections.OrderedDict((row.name, row) for row in _table())
# Settings that the first config.json files of version 1 do not have: the value with which such a run was trained.
ADDED = {'spacing_marks': False, 'kernels': 'keras', 'encoder': 'recurrent', 'exact_match': 'flag', 'hops': 1,
         'checkpoint_minutes': 0., 'init_from': None, 'alignments': None, 'guided_alignment': 0.,
         'group_by_length': False, 'sampled_softmax': 0, 'columns': None, 'long_sources': 'drop',
         'keep_vocabulary': 'no', 'linear_start': 0}
# The options of the search for which a run has defaults.
DECODING = tuple(row.name for row in SETTINGS.values() if row.group == 'decoding')


def defaults():
    """OrderedDict of every setting's default."""
    return collections.OrderedDict((row.name, row.default) for row in SETTINGS.values())


def with_defaults(values):
    """All settings as attributes: the dict `values`, else the value in `ADDED`, else the default."""
    return argparse.Namespace(**dict(defaults(), **dict(ADDED, **values)))


def resolve_settings(given, preset=None):
    """Settings as attributes: the dict `given` overrides the preset, that the task, and that the defaults."""
    task = given.get('task', 'translate')
    values = dict(defaults(), **PRESETS[task])
    for part in (PRESETS.get('%s --format %s' % (task, given.get('format')), {}), PRESETS.get(preset, {}), given):
        values.update(part)
    if 'linear_start' not in given:     # the softmax needs as many epochs
        values['linear_start'] = min(values['linear_start'], values['epochs'] // 2) * (values['encoder'] == 'memory')
    return with_defaults(values)


def shown(value):
    """The value of a setting as help texts show it; 0 and 1 are numbers, not booleans."""
    return value if value is not None and not isinstance(value, bool) else {None: 'none', True: 'yes'}.get(value, 'no')


def add_options(parser):
    """Adds one option for each setting, grouped as in the table; omitted options are absent from the result."""
    groups = collections.OrderedDict()
    for row in SETTINGS.values():
        if row.group not in groups:
            groups[row.group] = parser.add_argument_group(row.group + ' settings')
        options = {'dest': row.name, 'default': argparse.SUPPRESS,
                   'help': '%s (default: %s)' % (row.help.replace('%', '%%'), shown(row.default))}
        if row.kind is bool:
            options.update(nargs='?', const=True, type=yes_or_no, metavar='yes|no')
        elif row.kind == 'files':
            options.update(nargs='+', metavar='FILE')
        else:
            options.update(type=row.parse if row.kind in (int, float) else str, choices=row.choices,
                           metavar=METAVARS.get(row.kind))
        groups[row.group].add_argument(row.option, **options)


def check(settings):
    """Checks settings as `resolve_settings` returns them.

    # Raises
        UserError: a value out of its range, or settings that contradict each other. Names the options and the remedy.
    """
    for row in SETTINGS.values():
        value = getattr(settings, row.name)
        require(row.accepts(value), '%s must be %s, not %s', row.option, row.expected, repr(value)[:40])
    for name in ('train', 'val', 'test'):
        count = len(getattr(settings, name) or ())
        require(count < 2 or count % 2 == 0, '%s takes one tab-separated file, or source files and as many target '
                'files, not %d files', SETTINGS[name].option, count)
    require(settings.train is not None or settings.val is None and settings.test is None,
            '--val and --test belong to --train; with --data the folder holds them')
    require(settings.max_length is None or settings.max_length >= settings.min_length,
            '--max-length must be at least --min-length %d, not %s', settings.min_length, settings.max_length)
    check_work(settings, lambda name: SETTINGS[name].option)
    _check_alignments(settings)
    check_model(settings)
    _check_vocabularies(settings)


def attends_in_blocks(settings):
    """Whether the additive score and the windows of local attention are computed a block of pairs at a time.

    With several hops, input feeding runs in Keras' loop, with the attention in one piece.
    """
    return settings.kernels == 'fast' and not (settings.input_feeding and settings.hops > 1)


def check_work(options, name):
    """Raises `UserError` for options of a search that could take hours for one sentence.

    # Arguments
        options: settings, or `search_options.Options`.
        name: function that turns the name of a setting into the name that messages show.
    """
    longest = max(options.min_length, options.max_length or 0)
    require(options.beam_width * longest <= LARGEST_SEARCH, '%s %d and outputs of %d tokens take too long: their '
            'product can be at most %d: lower %s, %s or %s', name('beam_width'), options.beam_width, longest,
            LARGEST_SEARCH, *map(name, ('beam_width', 'min_length', 'max_length')))


def _check_alignments(settings):
    require(settings.alignments is None or settings.guided_alignment,
            '--alignments are read for --guided-alignment WEIGHT: give that too')
    require(settings.alignments is None or settings.format == 'pairs',
            '--alignments belong to --format pairs, not to %s', settings.format)
    require(settings.long_sources == 'drop' or settings.format != 'babi' and not settings.guided_alignment,
            '--format babi and --guided-alignment need whole sources: give --long-sources drop')
    require(not settings.guided_alignment or settings.alignments is not None or settings.format == 'babi',
            '--guided-alignment needs links: --alignments auto or FILE, or the supporting facts of --format babi')


def check_model(settings):
    """Raises `UserError` for settings of which no model can be built."""
    width = settings.encoder_units or settings.units
    require(not settings.bidirectional or width % 2 == 0,
            'an encoder of %d units cannot be split between two directions: choose an even --encoder-units or '
            '--bidirectional no', width)
    require(not settings.residual or max(settings.encoder_layers, settings.decoder_layers) > 1,
            '--residual needs two layers: give --encoder-layers or --decoder-layers of at least 2')
    score = 'concat' if settings.score == 'additive' else settings.score
    require(score not in ('dot', 'scaled_dot') or width == settings.units,
            '--score %s needs encoder and decoder states of one size, not --encoder-units %d and --units %d: '
            'make them equal or choose --score general', score, width, settings.units)
    require(score != 'location' or settings.attention == 'global',
            '--score location scores fixed source positions and cannot be combined with --attention %s: '
            'choose --attention global or another score', settings.attention)
    require(score != 'none' or settings.attention == 'global',
            '--attention %s needs a score: choose one in place of --score none', settings.attention)
    require(score != 'none' or settings.hops == 1 and settings.encoder == 'recurrent',
            '--hops and --encoder dmn need attention, which --score none does not have: choose another score')
    require(settings.encoder == 'recurrent' or not settings.copy, '--copy needs attention to words, and --encoder %s '
            'attends to sentences: omit one of them', settings.encoder)
    require(settings.encoder == 'memory' or not settings.linear_start,
            '--linear-start belongs to --encoder memory: omit one of them')
    require(settings.linear_start < settings.epochs, '--linear-start %d needs more --epochs', settings.linear_start)
    plain = score == 'dot' and settings.attention == 'global' and not settings.attention_scale
    require(settings.encoder != 'memory' or plain and not settings.input_feeding, '--encoder memory needs --score dot '
            'and --attention global, without --attention-scale and --input-feeding')
    for name in ('attention_scale', 'input_feeding', 'copy', 'coverage_loss', 'coverage_penalty', 'guided_alignment'):
        require(score != 'none' or not getattr(settings, name),
                '%s needs attention, which --score none does not have: omit one of them', SETTINGS[name].option)
    require(score == 'concat' or not settings.attention_normalize,
            '--attention-normalize belongs to --score concat, not to --score %s', score)
    require(score == 'concat' or settings.attention_units is None,
            '--attention-units is the width of --score concat, not of --score %s', score)
    require(not settings.copy or settings.attention == 'global',
            '--copy needs attention weights that sum to 1, and those of --attention %s do not: choose '
            '--attention global', settings.attention)
    require(not settings.copy or not settings.label_smoothing,
            '--label-smoothing would give probability to names that a source does not have: omit it or --copy')
    for name, why in (('copy', 'copies of words'), ('label_smoothing', 'probability spread over all words')):
        require(not settings.sampled_softmax or not getattr(settings, name),
                '--sampled-softmax has no %s: omit it or %s', why, SETTINGS[name].option)
    require(not settings.sampled_softmax or settings.kernels == 'fast',
            '--sampled-softmax belongs to --kernels fast: omit one of them')


def _check_vocabularies(settings):
    tokenizers = settings.source_tokenizer, settings.target_tokenizer
    require(settings.keep_vocabulary == 'no' or settings.init_from is not None,
            '--keep-vocabulary keeps that of a run to start from: give --init-from DIR too')
    for name in ('share_vocabulary', 'copy'):
        require(not getattr(settings, name) or tokenizers[0] == tokenizers[1],
                '%s needs one tokeniser, not --source-tokenizer %s and --target-tokenizer %s',
                SETTINGS[name].option, *tokenizers)
    require(not settings.copy or settings.share_vocabulary or settings.source_tokenizer not in ('bpe', 'unigram'),
            '--copy needs the same subwords on both sides: add --share-vocabulary')
    require(not settings.share_vocabulary or settings.target_embeddings is None,
            '--target-embeddings has no table of its own under --share-vocabulary: give only --source-embeddings')
