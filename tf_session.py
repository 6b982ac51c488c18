"""The TensorFlow session: the one place that fixes import order, threads and seeds."""
import contextlib
import importlib
import io
import os
import re

import settings  # noqa: F401  sets the environment that NumPy and TensorFlow read when imported
import numpy as np
from command_line import UserError, require, stop_signals

for _name, _versions, _told in (('tensorflow', '1[.]1[2-5][.]', '1.12 to 1.15'),
                                ('keras', '2[.][23][.]', '2.2 or 2.3')):
    try:
        # Keras announces its backend on stderr. An exception in the import of TensorFlow is lost or crashes Python.
        with contextlib.redirect_stderr(io.StringIO()), stop_signals.held():
            _version = importlib.import_module(_name).__version__
    except (ImportError, AttributeError) as error:     # Keras 2.3 misses functions of TensorFlow 1.12
        raise UserError('%s cannot be imported here (%s): install the pinned versions (make setup)' % (
            _name, ' '.join(str(error).split())[:200]))
    require(re.match(_versions, _version), '%s %s is installed, and this program needs %s: install the pinned versions '
            '(make setup), or see docs/versions.md', _name, _version, _told)

import tensorflow as tf  # noqa: E402  after the check of the versions
from keras import backend as K  # noqa: E402
from keras.backend import tensorflow_backend  # noqa: E402
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig  # noqa: E402

# A run with these options does not wait for the loops of other runs, which keep the threads of the first pool.
OVERTAKE = tf.RunOptions(inter_op_thread_pool=1)

_process = None  # id of the process that created the first session

tf.logging.set_verbosity(tf.logging.ERROR)
# Every number depends on these, and a program may have imported Keras with other ones before.
K.set_floatx('float32')
K.set_epsilon(1e-7)
K.set_image_data_format('channels_last')


def available_cores():
    """Number of cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


class _Session(tf.Session):
    """A session whose callables, which Keras' functions hold, may be freed after it was closed.

    TensorFlow's own print an error on stderr then, whenever Python collects them.
    """

    class _Callable(tf.Session._Callable):
        def __del__(self):
            if not self._session._closed:
                super().__del__()

    def _make_callable_from_options(self, options):
        self._extend_graph()
        return self._Callable(self, options)


def new_session(threads=0, parallel_runs=False):
    """A session with a graph of its own, so that one process can hold several models.

    # Arguments
        threads: threads of TensorFlow, within an op and between ops; 0 for all cores. Results repeat bit for bit
            at an equal number of threads.
        parallel_runs: Boolean, for several calls of `run` at a time: each op then uses one thread, which is faster
            than dividing each op. The first session of a process decides this for all.

    # Returns
        `tf.Session`; enter `opened(session)` to build or run Keras models in it.

    # Raises
        UserError: the parent process created a session before the fork. Its threads do not survive the fork, and a
            session here would wait for them for ever.
    """
    global _process
    _process = _process or os.getpid()
    require(_process == os.getpid(), 'TensorFlow has run in the process that forked this one, and its threads do not '
            'survive a fork: load models only in the worker processes, after the fork, or start them with '
            "multiprocessing.get_context('spawn')")
    threads = threads or available_cores()
    config = tf.ConfigProto(
        intra_op_parallelism_threads=1 if parallel_runs else threads, inter_op_parallelism_threads=threads)
    if parallel_runs:
        for _ in range(2):
            config.session_inter_op_thread_pool.add(num_threads=threads)
    # This rewriting of graphs crashes on some, by chance of their addresses. Every bit is the same without it.
    config.graph_options.rewrite_options.dependency_optimization = RewriterConfig.OFF
    return _Session(graph=tf.Graph(), config=config)


@contextlib.contextmanager
def opened(session):
    """Makes Keras use the session and its graph inside the `with` block."""
    with session.graph.as_default(), session.as_default():
        yield session


def close(session):
    """Closes a session that is no longer needed, and frees its graph, which Keras would keep until the process ends."""
    session.close()
    for name in ('_GRAPH_LEARNING_PHASES', '_GRAPH_UID_DICTS'):     # Keras 2.3 leaves them to TensorFlow
        getattr(tensorflow_backend, name, {}).pop(session.graph, None)


def temporary(threads=0):
    """A new session, opened inside the `with` block and closed after it. Arguments as for `new_session`."""
    return _opened_once(new_session(threads))


@contextlib.contextmanager
def repeatable(dtype='float32'):
    """A new session with one thread, opened inside the `with` block, with Keras in `dtype`: for reference outputs."""
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    # Rewriting the graph takes seconds for each of these graphs and changes no bit of their outputs.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    K.set_floatx(dtype)
    try:
        with _opened_once(_Session(graph=tf.Graph(), config=config)) as session:
            seed_weights(1)
            yield session
    finally:
        K.set_floatx('float32')


@contextlib.contextmanager
def _opened_once(session):
    try:
        with opened(session):
            yield session
    finally:
        close(session)


def seed_weights(seed):
    """Seeds NumPy's global generator, from which all of Keras' initialisers draw, and the graph's own seed."""
    np.random.seed(seed)
    tf.set_random_seed(seed)
