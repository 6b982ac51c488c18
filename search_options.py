"""Options of a search: one table of fields, one check, one merge with the settings of a run. Standard library only."""
import collections
import numbers

from command_line import UserError, non_negative_float, require
from settings import DECODING, SETTINGS, check_work

MAXIMUM_RATIO = 1000

Options = collections.namedtuple('Options', 'beam_width n_best length_penalty coverage_penalty min_length max_length '
                                 'max_length_ratio no_repeat_ngram')
Options.__new__.__defaults__ = (1, 1, 0., 0., 0, None, None, 0)
Options.__doc__ = """Options of a search.

beam_width: hypotheses K kept for each sentence; 1 is greedy search. n_best: hypotheses returned, up to K.
length_penalty, coverage_penalty: a hypothesis Y of L tokens, `</s>` included, is ranked by
log p(Y) / ((5 + L) / 6)^length_penalty + coverage_penalty * sum_s log(min(sum_t a_ts, 1)), eq. 14 of Wu et al. (2016),
https://arxiv.org/abs/1609.08144, s over the source tokens; length_penalty `'average'` ranks by log p(Y) / L.
min_length: number of tokens before `</s>` is allowed. max_length, max_length_ratio: maximum number of output tokens,
`</s>` included, and the same as a multiple of the source length; the smaller one applies, 2 S + 10 if both are `None`.
A min_length raises the limits that depend on the source length.
no_repeat_ngram: no n-gram of this length occurs twice in an output; 0 allows all.
"""


def length_penalty(text):
    """The `length_penalty` of `Options`, for argparse."""
    return text if text == 'average' else SETTINGS['length_penalty'].parse(text)


def check(options, name=str):
    """Checks the values of `Options`.

    # Arguments
        name: function that turns the name of a field into the name that messages show.

    # Raises
        UserError: a value is out of its range, or contradicts another.
    """
    for field in DECODING + ('n_best',):
        row, value = SETTINGS['beam_width' if field == 'n_best' else field], getattr(options, field)
        require(row.accepts(_plain(value)) or field == 'length_penalty' and value == 'average',
                '%s must be %s%s, not %.40r', name(field), row.expected,
                " or 'average'" if field == 'length_penalty' else '', value)
    ratio = _plain(options.max_length_ratio)
    require(ratio is None or type(ratio) in (int, float) and 0 < ratio <= MAXIMUM_RATIO,
            '%s must be a number above 0, at most %d, not %.40r', name('max_length_ratio'), MAXIMUM_RATIO,
            options.max_length_ratio)
    require(options.n_best <= options.beam_width, '%s %d is more than a beam of width %d finds: give a %s of at least '
            'as many', name('n_best'), options.n_best, options.beam_width, name('beam_width'))
    require(options.max_length is None or options.min_length <= options.max_length,
            '%s %s is above %s %s: lower the one or raise the other', name('min_length'), options.min_length,
            name('max_length'), options.max_length)
    check_work(options, name)


def _plain(value):
    """A number of NumPy as one of Python; booleans are no numbers here."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else value


def option_name(field):
    """The option of the command line for a field of `Options`."""
    return '--' + field.replace('_', '-')


def merge(settings, given=None):
    """Merges the settings of a run with the options of a user.

    # Arguments
        settings: settings of the run.
        given: object whose attributes are the options of the user; an option that is `None` or has no attribute is not
            set. A minimum length above the run's maximum raises that, and a maximum below its minimum lowers that.

    # Returns
        `Options`.

    # Raises
        UserError
    """
    given = _given(given)
    values = dict({field: getattr(settings, field) for field in DECODING}, **given)
    if values['max_length'] is not None and values['min_length'] > values['max_length']:
        if 'min_length' not in given:
            values['min_length'] = values['max_length']
        elif 'max_length' not in given:
            values['max_length'] = values['min_length']
    options = Options(**values)
    check(options, option_name)
    return options


def _given(options):
    values = {field: getattr(options, field, None) for field in Options._fields}
    return {field: value for field, value in values.items() if value is not None}


def add_options(parser, n_best=None):
    """Adds the options of the search to a command's parser.

    # Arguments
        n_best: help text of `--n-best`; `None` for a command without this option.

    # Returns
        Their group. An option that the user omits is `None`.
    """
    group = parser.add_argument_group('search', 'by default, the settings of the run')
    for field in DECODING:
        row = SETTINGS[field]
        kind, metavar, more = row.parse, 'N' if row.kind is int else 'X', ''
        if field == 'length_penalty':
            kind, metavar, more = length_penalty, 'A|average', '; average: by the mean score of a token'
        group.add_argument(row.option, type=kind, metavar=metavar, help=row.help + more)
    group.add_argument('--max-length-ratio', type=non_negative_float, metavar='X',
                       help='maximum number of output tokens, as a multiple of the source length')
    if n_best:
        group.add_argument('--n-best', type=SETTINGS['beam_width'].parse, metavar='N', help=n_best)
    return group


def check_usage(options, error):
    """Calls `error`, the parser's, if options of the command line contradict each other for any run."""
    given = _given(options)
    given.setdefault('beam_width', given.get('n_best', 1))
    try:
        check(Options(**given), option_name)
    except UserError as problem:
        error(str(problem))
