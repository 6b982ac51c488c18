"""Decodes requests together that arrive together. Needs no web library."""
import collections
import concurrent.futures
import threading
import time

from command_line import UserError

Request = collections.namedtuple('Request', 'texts options future arrived deadline large')


class Busy(Exception):
    """The queue is full: the client should try again later."""


class Batcher(object):
    """Collects requests for one translator and decodes those with equal options together.

    # Arguments
        translator: object with `translate(texts, batch_size, divide=..., deadline=..., overtake=..., **options)` and,
            for given outputs, `score(pairs, batch_size, deadline=..., overtake=...)`.
        batch_size: maximum number of texts decoded together, unless a single request has more.
        wait: seconds from its arrival that a request waits for others.
        queue: maximum number of texts that wait, of small requests and of large ones.
        observe: function called with the number of texts of each batch.
        workers: maximum number of batches decoded at a time.
        large: maximum number of large requests that wait or are decoded. Small ones overtake them: while a large one is
            decoded, one more worker takes small ones only.
    """

    def __init__(self, translator, batch_size=32, wait=0.005, queue=256, observe=None, workers=1, large=32):
        self.translator, self.batch_size, self.wait = translator, batch_size, wait
        self.limit, self.large_limit = queue, large
        self.large, self.large_running = 0, 0  # large requests that are not answered, and batches of them
        self.observe = observe or (lambda count: None)
        self.waiting = collections.deque()
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self.overtaking = threading.Condition(lock)  # what the worker for small requests waits for
        self.closed = False
        self.threads = [threading.Thread(target=self._work, args=(number == workers,), name='batcher', daemon=True)
                        for number in range(workers + 1)]
        for thread in self.threads:
            thread.start()

    def submit(self, texts, options, deadline=float('inf'), large=False):
        """Adds a request to the queue.

        # Arguments
            texts: list of strings; pairs of strings, source and output, if the outputs are given.
            options: dict of the search's options, whose values are hashable; `None` if the outputs are given.
            deadline: time since 1970 in seconds at which the search ends unfinished.
            large: Boolean, the request may take long.

        # Returns
            A `concurrent.futures.Future` of the list of hypotheses of each text, or of `TimeoutError`.

        # Raises
            Busy: the queue has no room for so many texts, or for a large request.
        """
        options = None if options is None else tuple(sorted(options.items()))
        request = Request(texts, options, concurrent.futures.Future(), time.time(), deadline, large)
        with self.changed:
            # Large requests leave room for small ones. A request larger than the whole room is accepted if it is empty.
            waiting = sum(len(other.texts) for other in self.waiting if other.large == large)
            if self.closed or waiting and waiting + len(texts) > self.limit:
                raise Busy
            if large:
                if self.large >= self.large_limit:
                    raise Busy
                self.large += 1
            self.waiting.append(request)
            self.changed.notify()
            if self.large_running:
                self.overtaking.notify()
        if large:
            request.future.add_done_callback(self._leave)
        return request.future

    def _leave(self, future):
        with self.changed:
            self.large -= 1

    def length(self):
        """Number of texts that wait."""
        return sum(len(request.texts) for request in list(self.waiting))

    def close(self, seconds=threading.TIMEOUT_MAX):
        """Refuses further requests, and waits until those in the queue are done, at most `seconds`.

        # Returns
            Boolean, whether they are done.
        """
        with self.changed:
            self.closed = True
            self.changed.notify_all()
            self.overtaking.notify_all()
        end = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0., end - time.monotonic()))
        return not any(thread.is_alive() for thread in self.threads)

    def _take(self, small_only):
        """Takes the requests of the next batch, in the order of their arrival.

        # Returns
            The requests; whether the batcher is closed and empty.
        """
        def ready():
            """The requests that this worker may take."""
            if not small_only:
                return list(self.waiting)
            return [request for request in self.waiting if not request.large] if self.large_running else []

        with self.changed:
            while not self.closed:
                left = None     # until a request arrives
                requests = ready()
                if requests:
                    left = requests[0].arrived + self.wait - time.time()
                    if left <= 0 or sum(len(request.texts) for request in requests) >= self.batch_size:
                        break
                (self.overtaking if small_only else self.changed).wait(left)
            batch, count = [], 0
            for request in ready():
                if not batch or (request.options == batch[0].options and request.large == batch[0].large and
                                 count + len(request.texts) <= self.batch_size):
                    batch.append(request)
                    count += len(request.texts)
                    self.waiting.remove(request)
            # The request of a client that is gone is cancelled.
            taken = [request for request in batch if request.future.set_running_or_notify_cancel()]
            if taken and taken[0].large:
                self.large_running += 1
                self.overtaking.notify()
            return taken, not batch

    def _work(self, small_only):
        while True:
            batch, ended = self._take(small_only)
            if ended:
                return
            if batch:
                self._answer(batch)
                with self.changed:
                    self.large_running -= batch[0].large

    def _answer(self, batch):
        texts = [text for request in batch for text in request.texts]
        self.observe(len(texts))
        limits = dict(deadline=max(request.deadline for request in batch), overtake=not batch[0].large)
        try:
            if batch[0].options is None:  # one at a time: a batch has logits for the padding of the outputs too
                results = [[one] for one in self.translator.score(texts, 1, **limits)]
            else:  # The texts of several clients stay together: other threads have other batches.
                results = self.translator.translate(texts, self.batch_size, divide=len(batch) == 1,
                                                    **dict(batch[0].options, **limits))
        except Exception as error:
            if len(batch) > 1 and isinstance(error, UserError):  # one request is wrong: answer the others
                for request in batch:
                    self._answer([request])
                return
            for request in batch:
                request.future.set_exception(error)
            return
        start = 0
        for request in batch:
            request.future.set_result(results[start:start + len(request.texts)])
            start += len(request.texts)
