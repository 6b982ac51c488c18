"""Every setting of a run: one table for the parser, the help, the docs and `config.json`. Standard library only."""
import argparse
import collections
import textwrap

from command_line import UserError, non_negative_float, non_negative_int, positive_int, yes_or_no

CONFIG_VERSION = 1
LARGEST = 2 ** 20  # of any size in the model: what is made of a few such still has a shape that TensorFlow can tell


class Setting(collections.namedtuple('Setting', 'name default kind choices group help')):
    """One row of the table: `kind` is `int`, `float`, `str`, `bool` or `'files'` (a list of one or two paths)."""
    __slots__ = ()

    @property
    def option(self):
        return '--' + self.name.replace('_', '-')


# Other defaults for what one sets out to do; --task and --preset choose them, and any option wins over them.
TASKS = ('translate', 'summarise', 'answer')
PRESETS = collections.OrderedDict([
    ('translate', {}),
    ('summarise', dict(
        data='samples/summarise', target_tokenizer='word', max_source_length=400, max_target_length=100, epochs=8,
        dropout=.2, word_dropout=0., metric='rouge-l', min_length=4, no_repeat_ngram=3)),
    ('answer', dict(
        data='samples/answer', target_tokenizer='word', max_source_length=400, epochs=16, dropout=.1, word_dropout=0.,
        metric='exact-match')),
    # Task 1 of Multi30k, lower-cased and tokenised; name its files with --train, --val and --test.
    ('multi30k', dict(
        source_tokenizer='space', target_tokenizer='space', min_count=2, score='general', units=256, embedding=256,
        encoder_units=512, tie_embeddings=True, batch_size=64, learning_rate=2e-3, dropout=.4,
        word_dropout=0., label_smoothing=.1, averaging=.999, beam_width=5))])


def _table():
    rows = []

    def add(group, name, default, kind, text, choices=None):
        rows.append(Setting(name, default, kind, choices, group, text))

    tokenizers = ('space', 'word', 'char', 'chinese', 'jieba', 'bpe', 'unigram')
    add('task', 'task', 'translate', str, 'gives other settings the defaults of the table below', TASKS)
    add('data', 'data', 'samples/translate', str,
        'folder with train.tsv, val.tsv and perhaps test.tsv (or .tsv.gz)')
    add('data', 'train', None, 'files',
        'training text in place of --data: two files of equal length, or one tab-separated')
    add('data', 'val', None, 'files', 'validation text; without it, part of the training text is held out')
    add('data', 'test', None, 'files', 'test text, remembered for evaluate.py')
    add('data', 'format', 'pairs', str, 'of the files: source and target; bAbI stories; context, question and answer '
        'with tabs between (qa)', ('pairs', 'babi', 'qa'))
    add('data', 'source_tokenizer', 'word', str, 'how source text becomes tokens', tokenizers)
    add('data', 'target_tokenizer', 'chinese', str, 'how target text becomes tokens', tokenizers)
    add('data', 'source_vocabulary', 10000, int, 'most source tokens kept; of bpe and unigram, subwords made')
    add('data', 'target_vocabulary', 10000, int, 'most target tokens kept; of bpe and unigram, subwords made')
    add('data', 'min_count', 1, int, 'drop tokens seen fewer times than this in the training text')
    add('data', 'share_vocabulary', False, bool, 'one vocabulary and one embedding for source and target')
    add('data', 'on_bad_utf8', 'error', str, 'what to do with bytes that are not UTF-8', ('error', 'replace'))
    add('data', 'max_source_length', 100, int, 'drop pairs with more source tokens')
    add('data', 'max_target_length', 60, int, 'drop pairs with more target tokens')

    add('attention', 'attention', 'global', str, 'which source positions are seen', ('global', 'local-m', 'local-p'))
    add('attention', 'score', 'concat', str, 'score between decoder and encoder states (additive is concat)',
        ('dot', 'general', 'concat', 'additive', 'scaled_dot', 'location', 'none'))
    add('attention', 'attention_units', None, int, 'width of the concat score; the state size by default')
    add('attention', 'attention_scale', False, bool, 'a trainable scalar on the scores')
    add('attention', 'attention_normalize', False, bool, 'normed additive score (with concat)')
    add('attention', 'window', 10, int, 'half-width W of the window of local attention')
    add('attention', 'input_feeding', False, bool, 'join the last attentional state to the next input')

    add('model', 'cell', 'lstm', str, 'kind of recurrent cell', ('lstm', 'gru'))
    add('model', 'units', 128, int, 'size D of the decoder state')
    add('model', 'encoder_units', None, int, 'size Dm of the encoder states, both directions together; D by default')
    add('model', 'embedding', 128, int, 'size E of the embeddings')
    add('model', 'encoder_layers', 1, int, 'encoder layers, 1 to 4')
    add('model', 'decoder_layers', 1, int, 'decoder layers, 1 to 4')
    add('model', 'bidirectional', True, bool, 'encoder reads both ways (each way D/2 wide)')
    add('model', 'residual', False, bool, 'add the input to the output of each layer from the second on')
    add('model', 'recurrent_activation', 'hard_sigmoid', str, 'gate activation', ('hard_sigmoid', 'sigmoid'))
    add('model', 'init_scale', 0.1, float,
        'draw all kernels and embeddings from a uniform distribution of this half-width; 0: as Keras does')
    add('model', 'tie_embeddings', False, bool, 'target embedding and output share their weights')
    add('model', 'copy', False, bool, 'an output may copy words of the source, those without an id too')
    add('model', 'source_embeddings', None, str, 'pretrained source vectors in word2vec or GloVe text format')
    add('model', 'target_embeddings', None, str, 'pretrained target vectors in word2vec or GloVe text format')

    add('training', 'epochs', 14, int, 'passes over the training text')
    add('training', 'max_minutes', 0.0, float,
        'start no further epoch after this many minutes of training; 0: no limit')
    add('training', 'batch_size', 32, int, 'pairs in a batch B')
    add('training', 'accumulate', 1, int, 'batches whose gradients make one update, weighted by tokens')
    add('training', 'optimizer', 'adam', str, 'how gradients move the weights', ('adam', 'sgd', 'rmsprop'))
    add('training', 'learning_rate', 4e-3, float,
        'learning rate at its highest; the default suits adam, and sgd wants about 1')
    add('training', 'warmup', 0, int, 'updates over which the learning rate rises from zero')
    add('training', 'decay', 'linear', str,
        'how the learning rate falls: over the run, at the end of epochs (step), or where no validation is a new best '
        '(plateau)', ('constant', 'linear', 'cosine', 'step', 'plateau'))
    add('training', 'decay_factor', 0.5, float, 'what step and plateau multiply the learning rate by')
    add('training', 'decay_start', 5, int, 'epochs before the first step')
    add('training', 'decay_every', 1, int, 'epochs from step to step')
    add('training', 'decay_patience', 2, int, 'validations without a new best after which plateau lowers the rate')
    add('training', 'clip_norm', 5.0, float, 'largest global norm of the gradient; 0: no limit')
    add('training', 'dropout', 0.3, float, 'dropout on the inputs of each layer')
    add('training', 'word_dropout', 0.05, float, 'share of input tokens replaced by <unk> in training')
    add('training', 'label_smoothing', 0.0, float, 'probability spread over the vocabulary in the training loss')
    add('training', 'coverage_loss', 0.0, float, 'weight in the training loss of attention that falls on a word again')
    add('training', 'weight_decay', 0.0, float, 'decoupled weight decay, times the learning rate')
    add('training', 'averaging', 0.99, float,
        'decay of the running average of the weights that is validated and kept; 0: none')
    add('training', 'validate_every', 0, int, 'validate after so many updates too; 0: at the end of each epoch alone')
    add('training', 'metric', 'perplexity', str,
        'score of the validation text that tells the best weights; all but perplexity decode it each time',
        ('perplexity', 'bleu', 'rouge-l', 'exact-match'))
    add('training', 'patience', 0, int, 'stop after so many validations without a new best; 0: never')
    add('training', 'keep', 0, int, 'best checkpoints kept besides the last')
    add('training', 'average', 0, int,
        'keep the mean of so many checkpoints at the end, if it is better than the best alone; 0: none')
    add('training', 'average_of', 'best', str, 'which checkpoints the mean is of', ('best', 'last'))
    add('training', 'seed', 1, int, 'decides weights, data order and dropout')

    add('decoding', 'beam_width', 1, int, 'outputs kept at each step')
    add('decoding', 'length_penalty', 0.0, float, 'A: rank by score / ((5 + length) / 6)^A')
    add('decoding', 'coverage_penalty', 0.0, float, 'rank lower what leaves source tokens without attention')
    add('decoding', 'min_length', 0, int, 'fewest tokens of an output')
    add('decoding', 'max_length', None, int, 'most tokens of an output; by default twice the source length and 10')
    add('decoding', 'no_repeat_ngram', 0, int, 'let no N tokens come twice in an output; 0: any may')

    add('run', 'threads', 0, int, 'threads of TensorFlow; 0: all cores. One is the reference for exact repetition')
    add('run', 'memory_limit', 0.0, float, 'GiB that training may take: what would take more is refused before it '
        'begins; 0: what the machine has left')
    add('run', 'tensorboard', False, bool, 'write scores, sample outputs and alignments for TensorBoard')
    return rows


SETTINGS = collections.OrderedDict((row.name, row) for row in _table())
# What of `search.Options` a run has defaults for.
DECODING = tuple(row.name for row in SETTINGS.values() if row.group == 'decoding')


def defaults():
    """OrderedDict of every setting's default."""
    return collections.OrderedDict((row.name, row.default) for row in SETTINGS.values())


def with_defaults(values):
    """Settings as attributes, every one of the table."""
    return argparse.Namespace(**dict(defaults(), **values))


def resolve_settings(given, preset=None):
    """Settings as attributes: those given; else as the preset has them, then the task; else the defaults."""
    return with_defaults(dict(PRESETS[given.get('task', 'translate')], **dict(PRESETS.get(preset, {}), **given)))


def shown(value):
    """A setting's value as help texts have it; 0 and 1 are no booleans here."""
    return value if value is not None and not isinstance(value, bool) else {None: 'none', True: 'yes'}.get(value, 'no')


def presets_text():
    """The table of presets as the options they stand for, for `--help`."""
    lines = ['Every setting is kept in config.json of the run directory. What these stand for, any option wins over:']
    for name, values in PRESETS.items():
        words = ['%s %s' % (SETTINGS[key].option, shown(value)) for key, value in values.items()]
        lines += ['', '--%s %s' % ('task' if name in TASKS else 'preset', name)]
        lines += textwrap.wrap(' '.join(words) or 'the defaults above', 110, initial_indent='    ',
                               subsequent_indent='    ', break_on_hyphens=False)
    return '\n'.join(lines)


def decoding(kept, given):
    """Keyword arguments of `Translator.translate`: what is given (`None`: is not), else a run's settings `kept`.

    A given least or greatest length wins over the run's own of the other kind.
    """
    given = {name: value for name, value in given.items() if value is not None}
    values = dict({name: getattr(kept, name) for name in DECODING}, **given)
    if values['max_length'] is not None and values['min_length'] > values['max_length']:
        if 'min_length' not in given:
            values['min_length'] = values['max_length']
        elif 'max_length' not in given:
            values['max_length'] = values['min_length']
    return values


def add_search_options(parser):
    """Options of the search; what the user leaves out is `None`, and then as the run has it. Returns their group."""
    group = parser.add_argument_group('search', 'what is left out is as the run was told by the options of the same '
                                      'names of train.py')
    for name, kind, metavar in (('beam_width', positive_int, 'N'), ('length_penalty', length_penalty, 'A|average'),
                                ('coverage_penalty', non_negative_float, 'B'), ('min_length', non_negative_int, 'N'),
                                ('max_length', positive_int, 'N'), ('no_repeat_ngram', non_negative_int, 'N')):
        more = '; average: by the score of a token on average' if name == 'length_penalty' else ''
        group.add_argument(SETTINGS[name].option, type=kind, metavar=metavar, help=SETTINGS[name].help + more)
    group.add_argument('--max-length-ratio', type=non_negative_float, metavar='X',
                       help='most tokens of an output, as a multiple of the source length')
    return group


def refuse_search_contradictions(options, error):
    """Ends the command by `error`, the parser's, where options of the search and `--n-best` contradict one another."""
    if (options.n_best or 1) > (options.beam_width or 1):
        error('--n-best %d needs a --beam-width of at least as many' % options.n_best)
    if options.max_length is not None and (options.min_length or 0) > options.max_length:
        error('--min-length %d is above --max-length %d' % (options.min_length, options.max_length))
    if options.max_length_ratio == 0:
        error('--max-length-ratio must be above 0')


def add_options(parser):
    """Adds one option for each setting, grouped as in the table; what the user leaves out stays out of the result."""
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
            options.update(type=row.kind, choices=row.choices,
                           metavar=None if row.choices else {int: 'N', float: 'X', str: 'TEXT'}[row.kind])
        groups[row.group].add_argument(row.option, **options)


def length_penalty(text):
    """What `search.Options` takes as `length_penalty`, for argparse."""
    return text if text == 'average' else non_negative_float(text)


def check(settings):
    """Refuses settings that contradict one another or make no model, in one line that names them and the remedy.

    # Raises
        UserError
    """
    def refuse(unless, text, *values):
        if not unless:
            raise UserError(text % values)

    for name in ('units', 'embedding', 'source_vocabulary', 'target_vocabulary', 'min_count', 'max_source_length',
                 'max_target_length', 'beam_width', 'window', 'epochs', 'batch_size', 'accumulate', 'decay_every',
                 'decay_patience'):
        refuse(getattr(settings, name) >= 1, '%s must be at least 1, not %s', SETTINGS[name].option,
               getattr(settings, name))
    for name in ('units', 'encoder_units', 'attention_units', 'embedding', 'window', 'max_source_length'):
        refuse((getattr(settings, name) or 0) <= LARGEST, '%s must be at most %d, not %s', SETTINGS[name].option,
               LARGEST, getattr(settings, name))
    for name in ('dropout', 'word_dropout', 'label_smoothing', 'averaging'):
        refuse(0 <= getattr(settings, name) < 1, '%s must lie in [0, 1), not %s', SETTINGS[name].option,
               getattr(settings, name))
    for name in ('encoder_layers', 'decoder_layers'):
        refuse(1 <= getattr(settings, name) <= 4, '%s must lie between 1 and 4, not %s', SETTINGS[name].option,
               getattr(settings, name))
    for name in ('init_scale', 'max_minutes', 'learning_rate', 'warmup', 'clip_norm', 'weight_decay', 'threads',
                 'decay_start', 'validate_every', 'patience', 'keep', 'average', 'length_penalty', 'coverage_penalty',
                 'memory_limit', 'min_length', 'no_repeat_ngram', 'coverage_loss'):
        refuse(0 <= getattr(settings, name) < float('inf'), '%s must not be negative or infinite, not %s',
               SETTINGS[name].option, getattr(settings, name))
    refuse(settings.learning_rate > 0, '--learning-rate must be above 0')
    refuse(0 < settings.decay_factor <= 1, '--decay-factor must lie in (0, 1], not %s', settings.decay_factor)
    refuse(0 <= settings.seed < 2 ** 31, '--seed must lie between 0 and 2147483647, not %s', settings.seed)
    refuse(settings.encoder_units is None or settings.encoder_units >= 1, '--encoder-units must be at least 1')
    for name in ('train', 'val', 'test'):
        refuse(len(getattr(settings, name) or ()) <= 2, '%s takes one tab-separated file or two files',
               SETTINGS[name].option)
    refuse(settings.train is not None or settings.val is None and settings.test is None,
           '--val and --test go with --train; with --data the folder holds them')
    width = settings.encoder_units or settings.units
    refuse(not settings.bidirectional or width % 2 == 0,
           'an encoder of %d units cannot be split between two directions: choose an even --encoder-units or '
           '--bidirectional no', width)
    score = 'concat' if settings.score == 'additive' else settings.score
    refuse(score not in ('dot', 'scaled_dot') or width == settings.units,
           '--score %s needs encoder and decoder states of one size, not --encoder-units %d and --units %d: '
           'make them equal or choose --score general', score, width, settings.units)
    refuse(score != 'location' or settings.attention == 'global',
           '--score location scores fixed source positions and does not go with --attention %s: '
           'choose --attention global or another score', settings.attention)
    refuse(score != 'none' or settings.attention == 'global',
           '--attention %s needs a score: choose one in place of --score none', settings.attention)
    refuse(score != 'none' or not settings.coverage_penalty,
           '--coverage-penalty needs attention, which --score none does not have: leave one of them out')
    refuse(settings.max_length is None or settings.max_length >= max(1, settings.min_length),
           '--max-length must be at least 1 and no less than --min-length %d, not %s', settings.min_length,
           settings.max_length)
    refuse(score != 'none' or not settings.attention_scale, '--attention-scale needs a score in place of --score none')
    refuse(score != 'none' or not settings.input_feeding,
           '--input-feeding feeds the attentional state, which --score none does not have: leave one of them out')
    refuse(score == 'concat' or not settings.attention_normalize,
           '--attention-normalize belongs to --score concat, not to --score %s', score)
    refuse(score == 'concat' or settings.attention_units is None,
           '--attention-units is the width of --score concat, not of --score %s', score)
    refuse(settings.attention_units is None or settings.attention_units >= 1, '--attention-units must be at least 1')
    refuse(not settings.residual or max(settings.encoder_layers, settings.decoder_layers) > 1,
           '--residual joins layers from the second on: give --encoder-layers or --decoder-layers of at least 2')
    refuse(not settings.share_vocabulary or settings.source_tokenizer == settings.target_tokenizer,
           '--share-vocabulary needs one tokeniser, not --source-tokenizer %s and --target-tokenizer %s',
           settings.source_tokenizer, settings.target_tokenizer)
    refuse(score != 'none' or not settings.copy,
           '--copy finds its words by attention, which --score none does not have: leave one of them out')
    refuse(score != 'none' or not settings.coverage_loss,
           '--coverage-loss is one of attention, which --score none does not have: leave one of them out')
    refuse(not settings.copy or settings.attention == 'global',
           '--copy shares probability out by attention, and under --attention %s that does not sum to 1: choose '
           '--attention global', settings.attention)
    refuse(not settings.copy or settings.source_tokenizer == settings.target_tokenizer,
           '--copy needs one tokeniser, not --source-tokenizer %s and --target-tokenizer %s',
           settings.source_tokenizer, settings.target_tokenizer)
    refuse(not settings.copy or settings.share_vocabulary or settings.source_tokenizer not in ('bpe', 'unigram'),
           '--copy needs the same subwords on both sides: add --share-vocabulary')
    refuse(not settings.copy or not settings.label_smoothing,
           '--label-smoothing would give probability to names that a source does not have: leave it or --copy out')
    refuse(not settings.share_vocabulary or settings.target_embeddings is None,
           '--target-embeddings has no table of its own under --share-vocabulary: give --source-embeddings alone')
