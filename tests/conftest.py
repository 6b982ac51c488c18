"""Adds the checkout to the path, and provides fixtures with a TensorFlow session for each test."""
import gc
import os
import signal
import sys

from hypothesis import HealthCheck, settings
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

# A script's background job ignores SIGINT, and so would every command that a test means to interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A graph is many thousands of objects. At Python's own threshold the collector visits them again and again, for a fifth
# of the time of all fast tests.
gc.set_threshold(100000, 20, 20)

# The same cases at every run, however busy the machine is.
settings.register_profile('project', max_examples=150, deadline=None, derandomize=True, database=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('project')


@pytest.fixture
def session():
    """An empty graph and its session, single-threaded so that values repeat."""
    import tf_session
    with tf_session.temporary(threads=1) as one:
        yield one


@pytest.fixture
def float64():
    """Keras in float64 during a test. Request it before `session`."""
    import tf_session  # noqa: F401  fixes the import order
    from keras import backend as K
    K.set_floatx('float64')
    yield
    K.set_floatx('float32')


@pytest.fixture
def summary(record_property):
    """Function that adds a line to the end of pytest's report, such as how many cases were tried."""
    return lambda line: record_property('summary', line)


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.getreports('passed') + terminalreporter.getreports('failed'):
        for name, line in report.user_properties if report.when == 'call' else ():
            if name == 'summary':
                terminalreporter.write_line(line)
