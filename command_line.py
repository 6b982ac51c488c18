"""What every command shares: errors of the user, messages, argument types, and how a command runs.

The environment variables that NumPy and TensorFlow read when they are imported are set here too, so that every module
of this project imports this one first. Standard library only.
"""
import argparse
import io
import os
import signal
import sys

# Keras' orthogonal initialiser calls NumPy's SVD, whose last bits depend on the number of OpenBLAS threads.
os.environ['OPENBLAS_NUM_THREADS'] = '1'
# 1 hides TensorFlow's note about processor features and leaves its warnings and errors.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '1')
os.environ['KERAS_BACKEND'] = 'tensorflow'


class UserError(Exception):
    """A mistake of the user's, told in one line that names the place and the remedy.

    Commands catch this class alone (exit code 1): any other exception is a bug and shows its traceback.
    """


class Stopped(Exception):
    """A signal asked to stop, and all that is needed to go on is on disk; `signum` tells which signal."""

    def __init__(self, signum):
        super(Stopped, self).__init__('stopped by %s' % signal.Signals(signum).name)
        self.signum = signum


def tell(text):
    """A line on stderr: stdout carries results only."""
    print(text, file=sys.stderr, flush=True)


def positive_int(text):
    """The whole number from 1 that an option's text tells, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError('%r is not a number from 1' % text)
    return int(text)


def non_negative_int(text):
    """The whole number from 0 that an option's text tells, for argparse."""
    return 0 if text == '0' else positive_int(text)


def non_negative_float(text):
    """The finite number from 0 that an option's text tells, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float('inf'):
        raise argparse.ArgumentTypeError('%r is not a number from 0' % text)
    return value


def yes_or_no(text):
    """The boolean that the text `yes` or `no` of an option stands for, for argparse."""
    if text not in ('yes', 'no'):
        raise argparse.ArgumentTypeError('%r is neither yes nor no' % text)
    return text == 'yes'


def system_path(path):
    """A path out of a file as this locale's Python takes it: Python 3.6 thinks ASCII of the names where LANG=C."""
    return os.fsdecode(path.encode('utf-8', 'surrogateescape'))


def run_command(main, name):
    """Runs a command's `main` by the rules all of them share: UTF-8 in any locale, one line for a user's mistake.

    # Arguments
        main: function of the list of arguments.
        name: the command's file name, for messages.
    """
    for stream in ('stdin', 'stdout', 'stderr'):
        if getattr(sys, stream) is None:  # closed before the start, as by >&-
            setattr(sys, stream, open(os.devnull, 'r' if stream == 'stdin' else 'w'))
        raw = getattr(sys, stream).detach()
        # stdin splits lines in the data module, on \n alone. A path may hold surrogates, which stand for odd bytes.
        setattr(sys, stream, io.TextIOWrapper(raw, encoding='utf-8', errors='backslashreplace' if stream == 'stderr'
                                              else 'surrogateescape', newline='\n', line_buffering=stream != 'stdin'))
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        print('%s: %s' % (name, ' '.join(str(error).split('\n'))), file=sys.stderr)
        code = 1
    except Stopped as error:
        print('%s: %s; go on with --resume' % (name, error), file=sys.stderr)
        code = 128 + error.signum
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader has gone, which is no error; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
