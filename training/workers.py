"""The processes that divide the batches of a training: those that horovodrun started, or this one alone.

    horovodrun -np 2 -H localhost:2 --gloo .venv/bin/python train.py --accumulate 2

Worker 0 reads and writes the run; the others compute their batches of each group and write nothing. This is the only
module that imports Horovod, and only if horovodrun started the process.
"""
import contextlib
import json
import os
import signal

from command_line import UserError, require, tell
import numpy as np

# HOROVOD_CYCLE_TIME: milliseconds until Horovod looks for new sums; its default of 5 is half of a short update.
# HOROVOD_STALL_CHECK_TIME_SECONDS: the others may wait for minutes while worker 0 reads text or decodes.
HOROVOD = {'HOROVOD_CYCLE_TIME': '1', 'HOROVOD_STALL_CHECK_TIME_SECONDS': '600'}
LAST = os.path.join('checkpoint', 'last').encode('ascii')   # in a run that has a checkpoint


class WorkerEnded(Exception):
    """Another worker has ended, and has reported why: this one ends too, without a message."""


def connect():
    """The `Workers` of this process; with several of them it waits until all have started.

    # Raises
        UserError: horovodrun started this process, and Horovod is not installed.
    """
    if int(os.environ.get('HOROVOD_SIZE', 1)) < 2:
        return Workers()
    for name, value in HOROVOD.items():
        os.environ.setdefault(name, value)
    watch = _watch() if os.environ.get('HOROVOD_RANK') == '0' else None
    import tf_session  # noqa: F401  first: it fixes the import order
    try:
        import horovod.tensorflow as horovod
    except ImportError as error:
        raise UserError('several workers need Horovod: install it with make distributed (%s)' % error) from error
    return HorovodWorkers(horovod, watch)


class Workers(object):
    """One process alone: its sums are its own values, and there is nothing to wait for.

    # Attributes
        rank, size: number of this worker, from 0, and number of workers.
        here: number of workers on this machine.
        threads: the setting of that name. Set it before the first sum: TensorFlow keeps the first session's threads.
    """
    rank, size, here = 0, 1, 1
    threads = 1

    @property
    def is_first(self):
        return self.rank == 0

    def own(self, count):
        """The numbers below `count` that this worker takes."""
        return range(self.rank, count, self.size)

    def sum(self, values):
        """The sum over all workers of a float64 array, which has one shape on all of them."""
        return np.asarray(values, 'f8')

    def broadcast(self, array):
        """Worker 0's value of an array, which has one shape and type on all workers."""
        return array

    def share(self, value):
        """Worker 0's value, something that JSON has."""
        return value

    def barrier(self):
        """Waits until all workers are here."""
        self.sum([0.])

    def sum_gradients(self, gradients, idle):
        """Adds to the graph the sums of gradients over all workers.

        # Arguments
            gradients: list of dense tensors.
            idle: integer scalar tensor; where it is 1 this worker adds zeros.

        # Returns
            List of tensors.
        """
        return gradients

    @contextlib.contextmanager
    def agreeing(self):
        """The workers leave the `with` block together: if one of them has an error, all end, with one message."""
        yield

    @contextlib.contextmanager
    def joined(self):
        """In the `with` block, the end of another worker raises `WorkerEnded` here."""
        yield

    def wait_for_first(self):
        """Waits for the end of worker 0, which reports for all; nothing on worker 0."""

    def watch_run(self, path):
        """From here on, the report of a worker's death says whether this run has a checkpoint; on worker 0."""


class HorovodWorkers(Workers):
    """The workers of a horovodrun.

    # Arguments
        horovod: the module `horovod.tensorflow`.
        watch: of worker 0, from `_watch`.
    """

    def __init__(self, horovod, watch):
        self._horovod, self._watch, self._session = horovod, watch, None
        horovod.init()
        self.rank, self.size, self.here = horovod.rank(), horovod.size(), horovod.local_size()

    def _run(self, values, dtype, name):
        """Sum of an array ('sum'), or worker 0's array ('broadcast')."""
        import tensorflow as tf
        import tf_session
        if self._session is None:
            self._session, self._graph = tf_session.new_session(self.threads), {}
        key = name, np.dtype(dtype).name
        with self._session.graph.as_default():
            if key not in self._graph:
                feed = tf.placeholder(np.dtype(dtype), [None], name='_'.join(key))
                result = (self._horovod.allreduce(feed, op=self._horovod.Sum) if name == 'sum'
                          else self._horovod.broadcast(feed, 0))
                self._graph[key] = feed, result
            feed, result = self._graph[key]
            return self._session.run(result, {feed: values})

    def sum(self, values):
        values = np.asarray(values, 'f8')
        return self._run(values.ravel(), 'f8', 'sum').reshape(values.shape)

    def broadcast(self, array):
        array = np.asarray(array)
        data = self._run(np.frombuffer(array.tobytes(), 'u1'), 'u1', 'broadcast') if array.size else array
        return np.frombuffer(data.tobytes(), array.dtype).reshape(array.shape)

    def share(self, value):
        data = json.dumps(value).encode('ascii') if self.is_first else b''
        size = int(self.broadcast(np.array([len(data)]))[0])
        return json.loads(self.broadcast(np.frombuffer(data.ljust(size), 'u1')).tobytes().decode('ascii'))

    def sum_gradients(self, gradients, idle):
        # One tensor for all: its parts are always summed in one order, so that equal runs give equal bits. Horovod
        # would join the gradients that are ready at a time, and the order in a ring depends on the place.
        import tensorflow as tf
        flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], 0)
        flat = tf.cond(idle > 0, lambda: tf.zeros_like(flat), lambda: flat)
        total = self._horovod.allreduce(tf.identity(flat, name='gradients'), op=self._horovod.Sum)
        parts = tf.split(total, [gradient.shape.num_elements() for gradient in gradients])
        return [tf.reshape(part, gradient.shape) for part, gradient in zip(parts, gradients)]

    @contextlib.contextmanager
    def agreeing(self):
        error = None
        try:
            yield
        except (UserError, SystemExit) as raised:
            error = raised
        failed = np.flatnonzero(self.sum([float(error is not None and rank == self.rank) for rank in range(self.size)]))
        if len(failed) and failed[0] == self.rank:
            raise error
        if len(failed):
            raise WorkerEnded

    @contextlib.contextmanager
    def joined(self):
        try:
            yield
        except Exception as error:
            # Horovod tells this to the others when one worker ends by itself.
            if 'Horovod has been shut down' in str(error):
                raise WorkerEnded from error
            raise
        finally:
            if self._watch is not None:
                os.write(self._watch, b'.')
                self._watch = None

    def wait_for_first(self):
        if not self.is_first:
            with contextlib.suppress(WorkerEnded), self.joined():
                self.barrier()

    def watch_run(self, path):
        os.write(self._watch, os.fsencode(os.path.abspath(path)) + b'\0')


def _watch():
    """Starts a process that reports the death of this one. Gloo aborts when the connection to a worker breaks.

    # Returns
        File descriptor. What is written to it: the path of the run and a NUL, when the training is to begin; a byte
        before the end of this process, which prevents the report.
    """
    reader, writer = os.pipe()
    if os.fork():
        os.close(reader)
        return writer
    try:
        os.close(writer)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        told = b''.join(iter(lambda: os.read(reader, 2 ** 16), b''))
        path, ended = told[:-1], told[-1:] not in (b'', b'\0')
        if not ended:
            tell('train.py: a worker was killed, or its machine cannot be reached any more: %s' % (
                'the last checkpoint is complete; continue it with --resume'
                if path and os.path.lexists(os.path.join(path, LAST)) else
                'start it again, with --resume if the run has a config.json'))
    finally:
        os._exit(0)


def check_group(settings, workers):
    """UserError unless the workers can divide the batches of a group evenly."""
    require(settings.accumulate % workers.size == 0, '--accumulate %d cannot be divided among %d workers: give a '
            'multiple of %d', settings.accumulate, workers.size, workers.size)
