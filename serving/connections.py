"""The connections of the web server: waitress, with limits for slow clients and every error as JSON.

A client that opens many connections, or sends its request byte by byte, delays no other one: a request must arrive in
`REQUEST_SECONDS`, and where all connections are taken, a new one replaces the oldest that waits for its client. What is
no translation, such as /health, has threads of its own, so that no search delays it.
"""
import collections
import json
import time

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher

CONNECTIONS = 400  # with a temporary file for each, fewer than the 1,024 files that a process may usually open
REQUEST_SECONDS = 20.  # for a whole request to arrive, from its first byte
IDLE_SECONDS = 60.  # between two requests of a connection, and for an answer that makes no progress
HEADER_BYTES = 2 ** 14
BODY_BYTES = 2 ** 24  # that the server reads; the application refuses smaller bodies with a clearer error
THREADS = 64  # that wait for translations, more than the requests of one kind that wait at the same time


class JsonErrorTask(ErrorTask):
    """The answer to a request that is not HTTP as it should be: JSON, as all errors of this server."""

    def execute(self):
        error = self.request.error
        body = json.dumps({'error': ' '.join(('%s: %s' % (error.reason, error.body)).split())})
        self.status = '%d %s' % (error.code, error.reason)
        self.response_headers += [('Content-Type', 'application/json'), ('Connection', 'close')]
        self.close_on_finish = True
        self.content_length = len(body)
        self.write(body.encode('ascii'))


class Channel(HTTPChannel):
    """A connection that knows since when it waits for its client."""

    error_task_class = JsonErrorTask
    begun = None  # time of the first byte of a request that has not arrived

    def received(self, data):
        """As `HTTPChannel.received`."""
        self.begun = self.begun or time.time()
        result = super(Channel, self).received(data)
        if self.request is None:
            self.begun = None
        return result

    def waits_since(self):
        """The time since which the server waits for the client; `None` while a request is answered."""
        if self.requests:
            return None
        return self.last_activity if self.begun is None else self.begun


class Server(TcpWSGIServer):
    """A WSGI server on a bound socket.

    # Arguments
        application: the WSGI application.
        listener: the socket; the server listens on it when it is made.

    # Raises
        OSError: the system refuses to listen.
    """

    channel_class = Channel

    def __init__(self, application, listener):
        settings = Adjustments(
            sockets=[listener], connection_limit=10 ** 6, max_request_header_size=HEADER_BYTES,
            max_request_body_size=BODY_BYTES, asyncore_use_poll=True, ident=None, cleanup_interval=1,
            clear_untrusted_proxy_headers=True)
        self.others = ThreadedTaskDispatcher()
        self.others.set_thread_count(4)
        translations = ThreadedTaskDispatcher()
        translations.set_thread_count(THREADS)
        super(Server, self).__init__(
            application, map={}, _sock=listener, dispatcher=translations, adj=settings, bind_socket=False,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()))

    def add_task(self, task):
        """Gives the next request of a channel to a thread."""
        request = task.requests[0]
        dispatcher = self.task_dispatcher if not request.error and request.path == '/translate' else self.others
        dispatcher.add_task(task)

    def maintenance(self, now):
        """Closes the connections of clients that are too slow; called every second."""
        for channel in list(self.active_channels.values()):
            since = channel.waits_since()
            if since is not None and now - since > (IDLE_SECONDS if channel.begun is None else REQUEST_SECONDS):
                channel.handle_close()

    def handle_accept(self):
        """Accepts a connection. Where all are taken, the client with most of them loses its oldest one."""
        if len(self.active_channels) >= CONNECTIONS:
            waiting = [channel for channel in self.active_channels.values() if channel.waits_since() is not None]
            count = collections.Counter(channel.addr[0] for channel in waiting)
            if waiting:
                min(waiting, key=lambda one: (-count[one.addr[0]], one.waits_since())).handle_close()
        if len(self.active_channels) < CONNECTIONS:
            super(Server, self).handle_accept()

    def readable(self):
        """Whether to accept; also calls `maintenance`."""
        accepts = super(Server, self).readable()
        # Where every connection has a request that is answered, a new one waits for the end of one of them.
        return accepts and (len(self.active_channels) < CONNECTIONS or
                            any(channel.waits_since() is not None for channel in self.active_channels.values()))

    def run_until(self, stop, seconds):
        """Answers requests until the event `stop`, then finishes those that have begun, in at most `seconds`."""
        while not stop.is_set():
            wasyncore.loop(timeout=0.5, use_poll=True, map=self._map, count=1)
        wasyncore.dispatcher.close(self)  # no further connections
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(channel.requests or channel.total_outbufs_len
                                             for channel in list(self.active_channels.values())):
            wasyncore.loop(timeout=0.05, use_poll=True, map=self._map, count=1)
        self.others.shutdown(timeout=0.5)
        self.task_dispatcher.shutdown(timeout=0.5)
