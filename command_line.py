"""What every command shares: the version, user errors, messages, the parser, argument types, and how a command runs.

This module also sets the environment variables that NumPy and TensorFlow read when they are imported, so every module
of this project imports it first. Standard library only.
"""
import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import sys
import textwrap

CO_GENERATOR = 0x20     # as in `inspect`, whose import takes as long as all others here
SHOWN = 500  # characters at both ends of a long message about wrong usage
VERSION = '2.0.0'  # of this project: `--version`, the manifests of runs, the image's label
ROOT = os.path.dirname(os.path.abspath(__file__))
ENTRY_POINT = 'GLOBAL_ATTENTION_ENTRY_POINT'  # environment variable of docker-entrypoint.sh

# Keras' orthogonal initialiser calls NumPy's SVD, whose last bits depend on the number of OpenBLAS threads.
os.environ['OPENBLAS_NUM_THREADS'] = '1'
# 1 hides TensorFlow's note about processor features and shows its warnings and errors.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '1')
os.environ['KERAS_BACKEND'] = 'tensorflow'
# Keras must not read keras.json: a malformed one ends the import, and its settings change every number.
os.environ['KERAS_HOME'] = os.devnull


class UserError(Exception):
    """A mistake of the user. The message is one line that names the place and the remedy.

    Commands catch only this class (exit code 1). Any other exception is a bug and shows its traceback.
    """


class Stopped(Exception):
    """The signal `signum` ended the training, and everything that resuming needs is on disk.

    `how` resumes it: a command, or the option to add to that of several workers.
    """

    def __init__(self, signum, how='--resume'):
        super(Stopped, self).__init__('stopped by %s; continue it with %s' % (signal.Signals(signum).name, how))
        self.signum = signum


class _StopSignals(object):
    """Raises KeyboardInterrupt in the main thread for SIGINT and SIGTERM, again and again until it is on its way out.

    Incomplete files are removed as it passes. It may be lost: a package catches everything while it is imported, Python
    ignores what a destructor or the callback of a weak reference raises, and a function in C may raise something else
    or crash.

    # Attributes
        received: the last of the two signals, or `None`.
    """

    NUMBERS = signal.SIGINT, signal.SIGTERM
    # Functions that Python calls when something is removed; the last one is a `__del__`.
    CALLBACKS = (('cb', '<frozen importlib._bootstrap>'), ('remove', 'weakref.py'), ('_remove', '_weakrefset.py'),
                 ('<lambda>', 'pywrap_tensorflow_internal.py'))
    AGAIN = .1      # seconds until the exception is raised again, unless it is being handled
    PATIENCE = 50   # so often what handles another exception may go on: it cleans up, or it is a part of the work

    def __init__(self):
        self.received, self._waited = None, 0

    def install(self):
        for number in self.NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # a shell's background job ignores SIGINT
                signal.signal(number, self._receive)

    @contextlib.contextmanager
    def held(self):
        """Both signals wait for the end of the `with` block, where an exception would do harm."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self.NUMBERS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.NUMBERS)

    def end(self):
        """From here on nothing is raised again."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _receive(self, number, frame):
        self.received = number
        signal.signal(signal.SIGALRM, self._raise_again)
        signal.setitimer(signal.ITIMER_REAL, self.AGAIN, self.AGAIN)
        # A generator may be one that Python closes because nobody needs it, as a destructor.
        if not frame.f_code.co_flags & CO_GENERATOR:
            self._raise_in(frame)

    def _raise_again(self, _, frame):
        handled = sys.exc_info()[1]  # in `except`, `finally` and `__exit__`: what has begun to clean up goes on
        self._waited += handled is not None
        if not isinstance(handled, KeyboardInterrupt) and (handled is None or self._waited >= self.PATIENCE):
            self._raise_in(frame)

    def _raise_in(self, frame):
        """Raises KeyboardInterrupt, unless Python would print an exception of this frame and go on."""
        while frame:
            name, file = frame.f_code.co_name, os.path.basename(frame.f_code.co_filename)
            if name == '__del__' or (name, file) in self.CALLBACKS:
                return
            frame = frame.f_back
        raise KeyboardInterrupt


stop_signals = _StopSignals()


def require(condition, message, *values):
    """Raises a `UserError` with `message % values` unless the condition holds."""
    if not condition:
        raise UserError(message % values)


def printable(text):
    """Escapes the control characters of a text, except tab and line feed, as `\\x1b`.

    Text, paths and names may come from strangers: their escape sequences must not reach the terminal.
    """
    return re.sub('[\0-\x08\x0b-\x1f\x7f-\x9f]', lambda match: '\\x%02x' % ord(match.group()), text)


def tell(text):
    """Writes lines to stderr: stdout carries results only."""
    print(printable(text), file=sys.stderr, flush=True)


def command(name, *arguments):
    """A command of this project as a hint shows it: the user can paste it where the running command was called.

    # Arguments
        name: file name of the command, such as `predict.py`.
        arguments: what follows; the shell reads each as one word.

    # Returns
        Text. In the container, whose entry point takes `predict.py ...`, the name alone.
    """
    return ' '.join(map(shlex.quote, _program(name) + list(arguments)))


def _program(name):
    if ENTRY_POINT in os.environ:
        return [name]
    python = sys.executable or 'python'
    base = os.path.basename(python)
    return [base if shutil.which(base) == python else _from_here(python), _from_here(os.path.join(ROOT, name))]


def sample_file(name):
    """The path of a file in `samples/` of this checkout, as it is seen from the current directory."""
    return _from_here(os.path.join(ROOT, 'samples', name))


def _from_here(path):
    """A path as it is seen from the current directory, absolute if it lies outside."""
    near = os.path.relpath(path)
    return path if near.startswith(os.pardir) else near


class CommandParser(argparse.ArgumentParser):
    """The parser of every command: examples, `--version`, no abbreviated options, no control characters in messages.

    # Arguments
        doc: docstring of the command's module. Its first line is the description, and each line `    NAME ...  # why`
            for the program `prog` (its last word, with subcommands) is an example.
        notes: text after the options.
        common: names of the options that `--help` shows; `--help-all` shows the rest too. `None`: `--help` shows all.
    """

    def __init__(self, doc=None, notes='', common=None, **kwargs):
        super(CommandParser, self).__init__(
            allow_abbrev=False, add_help=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        if doc is not None:
            self.description = textwrap.fill(doc.split('\n')[0], 80)
        self._examples, self._notes, self._common = examples(doc or '', self.prog), notes, common
        if common is not None:
            self.usage = '%(prog)s [option ...]   (--help: the most used options, --help-all: all)'
        self.add_argument('-h', '--help', action='help', help='show this help and exit')
        if common is not None:
            self.add_argument('--help-all', action=_HelpAll, nargs=0, default=argparse.SUPPRESS,
                              help='show every option and exit')
        self.add_argument('--version', action='version', version='%(prog)s ' + VERSION,
                          help='show the version and exit')

    def format_help(self):
        notes = self._notes
        if self._common is not None:
            rare = [action for action in self._actions
                    if action.dest not in self._common + ('help', 'help_all', 'version')]
            for action in rare:
                action.help = argparse.SUPPRESS
            notes = 'These are the most used options; --help-all shows %d more.' % len(rare)
        self.epilog = '\n\n'.join(filter(None, [notes, self._examples]))
        return super(CommandParser, self).format_help()

    def error(self, message):
        if len(message) > 2 * SHOWN:  # argparse repeats a wrong value as long as it is
            message = '%s ... %s' % (message[:SHOWN], message[-SHOWN:])
        message = printable(' '.join(message.split('\n')))
        self.exit(2, '%s: error: %s (%s --help lists the options)\n' % (self.prog, message, self.prog))


class _HelpAll(argparse.Action):
    """`--help-all`."""

    def __call__(self, parser, *_):
        parser._common = None
        parser.print_help()
        parser.exit()


def examples(doc, program):
    """The examples of a command in a docstring, as `--help` shows them: to paste, each below what it does."""
    words, shown = program.split(), []
    for line in re.findall('^    (.+)$', doc, re.MULTILINE):
        found = re.fullmatch(r'(.*?(?:^| ))%s(| .*?)(?: +# (.*))?' % ' '.join(map(re.escape, words)), line)
        if found:
            before, after, why = found.groups()
            shown += ['  # %s' % why] if why else []
            shown.append('  %s%s%s' % (before, ' '.join([command(words[0])] + words[1:]), after))
    return '\n'.join(['examples:'] + shown) if shown else ''


def _end_imports(kind, error, trace):
    """`sys.excepthook` of commands: one line for a signal and for missing packages during the imports."""
    name = os.path.basename(sys.argv[0])
    if stop_signals.received:
        _end_stopped(name)
    elif issubclass(kind, ImportError) and (kind is ModuleNotFoundError or sys.version_info[:2] != (3, 6)):
        tell('%s: this Python (%s, %d.%d) lacks packages (%s): %s'
             % ((name, sys.executable) + sys.version_info[:2] + (error, _remedy())))
    else:
        sys.__excepthook__(kind, error, trace)


def _remedy():
    """How to run the command with the packages that it needs."""
    venv = os.path.join(ROOT, '.venv')
    python = os.path.join(venv, 'bin', 'python')
    if not os.path.isfile(os.path.join(ROOT, 'setup.sh')):
        return 'install them'
    if os.path.realpath(sys.prefix) == os.path.realpath(venv):
        return 'make help lists what installs optional packages; make clean setup installs the others again'
    again = ' '.join(map(shlex.quote, [_from_here(python)] + sys.argv))
    return ('run %s' if os.path.isfile(python) else 'run make setup once, then %s') % again


# Only in the commands of this project, not in other programs that import its modules.
if os.path.dirname(os.path.abspath(getattr(sys.modules['__main__'], '__file__', ''))) in (
        [ROOT] + [os.path.join(ROOT, room) for room in ('parity', 'tests', 'benchmarks', 'docs')]):
    sys.excepthook = _end_imports
    stop_signals.install()


def positive_int(text):
    """The whole number from 1 to 10^9 in the text of an option, for argparse."""
    return _int(text, 1)


def non_negative_int(text):
    """The whole number from 0 to 10^9 in the text of an option, for argparse."""
    return _int(text, 0)


def _int(text, minimum):
    if not re.fullmatch('[0-9]{1,10}', text) or not minimum <= int(text) <= 10 ** 9:
        raise argparse.ArgumentTypeError('%r is not a whole number from %d to 1000000000' % (text[:40], minimum))
    return int(text)


def non_negative_float(text):
    """The number from 0 to 10^9 in the text of an option, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 10 ** 9:
        raise argparse.ArgumentTypeError('%r is not a number from 0 to 1000000000' % text[:40])
    return value


def yes_or_no(text):
    """The boolean in the text `yes` or `no` of an option, for argparse."""
    if text not in ('yes', 'no'):
        raise argparse.ArgumentTypeError('%r is neither yes nor no' % text)
    return text == 'yes'


def system_path(path):
    """Converts a path from a file to the encoding of the locale: under LANG=C Python 3.6 encodes names as ASCII."""
    return os.fsdecode(path.encode('utf-8', 'surrogateescape'))


def run_command(main, name):
    """Runs the `main` of a command: UTF-8 in any locale, one line for a mistake of the user, exit codes.

    # Arguments
        main: function of the list of arguments.
        name: the command's file name, for messages.
    """
    try:
        with stop_signals.held():
            stop_signals.install()
            _use_utf8()
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BaseException as error:
        if stop_signals.received:
            _end_stopped(name)  # whatever a package made of the exception
        code = _exit_code(error, name)
    stop_signals.end()
    sys.exit(code)


def _exit_code(error, name):
    """Tells an exception that ends a command, and raises it again if it is a bug."""
    if isinstance(error, UserError):
        tell('%s: %s' % (name, ' '.join(str(error).split('\n'))))
        return 1
    if isinstance(error, Stopped):
        tell('%s: %s' % (name, error))
        return 128 + error.signum
    if isinstance(error, BrokenPipeError):
        # The reader has closed the pipe, which is not an error. Python would report it again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    raise error


def _use_utf8():
    """The three standard streams in UTF-8, in any locale."""
    for stream in ('stdin', 'stdout', 'stderr'):
        if getattr(sys, stream) is None:  # closed before the start, as by >&-
            setattr(sys, stream, open(os.devnull, 'r' if stream == 'stdin' else 'w'))
        raw = getattr(sys, stream).detach()
        # text/ splits the lines of stdin, on \n alone. A path may hold surrogates, which stand for odd bytes.
        setattr(sys, stream, io.TextIOWrapper(raw, encoding='utf-8', errors='backslashreplace' if stream == 'stderr'
                                              else 'surrogateescape', newline='\n', line_buffering=stream != 'stdin'))


def _end_stopped(name):
    """Ends the process after a signal, when all `with` and `finally` blocks have ended."""
    stop_signals.end()
    number = signal.Signals(stop_signals.received)
    tell('%s: stopped by %s' % (name, number.name))
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(128 + number)  # destructors of TensorFlow would print more messages
