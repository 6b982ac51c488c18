"""Decodes requests together that arrive together. Needs no web library."""
import collections
import concurrent.futures
import threading
import time

from command_line import UserError

Request = collections.namedtuple('Request', 'texts options future arrived')


class Busy(Exception):
    """The queue is full: the client should try again later."""


class Batcher(object):
    """Collects requests for one translator and decodes those with equal options together.

    # Arguments
        translator: object with `translate(texts, batch_size, divide=..., **options)`.
        batch_size: maximum number of texts decoded together, unless a single request has more.
        wait: seconds from its arrival that a request waits for others.
        queue: maximum number of texts that wait.
        observe: function called with the number of texts of each batch.
        workers: maximum number of batches decoded at a time.
    """

    def __init__(self, translator, batch_size=32, wait=0.005, queue=256, observe=None, workers=1):
        self.translator, self.batch_size, self.wait, self.limit = translator, batch_size, wait, queue
        self.observe = observe or (lambda count: None)
        self.waiting = collections.deque()
        self.changed = threading.Condition()
        self.closed = False
        self.threads = [threading.Thread(target=self._work, name='batcher', daemon=True) for _ in range(workers)]
        for thread in self.threads:
            thread.start()

    def submit(self, texts, options):
        """Adds a request to the queue.

        # Arguments
            texts: list of strings.
            options: dict of the search's options; their values are hashable.

        # Returns
            A `concurrent.futures.Future` of the list of hypotheses of each text.

        # Raises
            Busy: the queue has no room for so many texts.
        """
        request = Request(texts, tuple(sorted(options.items())), concurrent.futures.Future(), time.time())
        with self.changed:
            # A request larger than the whole queue is accepted if the queue is empty.
            if self.closed or self.waiting and self.length() + len(texts) > self.limit:
                raise Busy
            self.waiting.append(request)
            self.changed.notify()
        return request.future

    def length(self):
        """Number of texts that wait."""
        return sum(len(request.texts) for request in list(self.waiting))

    def close(self):
        """Refuses further requests, and returns when those in the queue are done."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        for thread in self.threads:
            thread.join()

    def _take(self):
        """The requests of the next batch, in the order of their arrival; none when the batcher is closed and empty."""
        with self.changed:
            while not self.closed:
                left = None     # until a request arrives
                if self.waiting:
                    left = self.waiting[0].arrived + self.wait - time.time()
                    if left <= 0 or self.length() >= self.batch_size:
                        break
                self.changed.wait(left)
            batch, others, count = [], [], 0
            while self.waiting:
                request = self.waiting.popleft()
                fits = not batch or (request.options == batch[0].options and
                                     count + len(request.texts) <= self.batch_size)
                (batch if fits else others).append(request)
                count += len(request.texts) if fits else 0
            self.waiting.extend(others)
            # The request of a client that is gone is cancelled.
            return [request for request in batch if request.future.set_running_or_notify_cancel()], bool(batch)

    def _work(self):
        while True:
            batch, removed_any = self._take()
            if batch:
                self._answer(batch)
            elif not removed_any:
                return

    def _answer(self, batch):
        texts = [text for request in batch for text in request.texts]
        self.observe(len(texts))
        try:
            # The texts of several clients stay together: other threads have other batches.
            results = self.translator.translate(texts, self.batch_size, divide=len(batch) == 1,
                                                **dict(batch[0].options))
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
