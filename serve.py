"""Serves trained runs over HTTP: a page to try them, and an interface for programs.

    serve.py --run runs/translate                        # http://127.0.0.1:8000/
    serve.py --run runs/global --run runs/local          # two runs side by side
    curl -H 'Content-Type: application/json' -d '{"text": "where is the book ?"}' http://127.0.0.1:8000/translate

`make serve-setup` installs what it needs, and `make serve` starts it on the run of the demonstration.
"""
import collections
import os
import signal
import socket
import sys
import threading
import time

from command_line import CommandParser, UserError, positive_int, run_command, tell
from storage.run_directory import RunDirectory, last_run
from settings import SETTINGS

GRACE = 30.  # seconds to finish begun requests after SIGTERM
MAXIMUM_BODY = 2 ** 24  # bytes that the server reads; the application refuses smaller bodies with a JSON error


def parse(argv):
    parser = CommandParser(prog='serve.py', doc=__doc__)
    parser.add_argument('--run', metavar='DIR', action='append',
                        help='run directory (default: the one in runs/ trained last); more than one: all are served')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (default: %(default)s, this machine '
                        'only); 0.0.0.0 is open to the network')
    parser.add_argument('--port', type=int, default=8000, metavar='N',
                        help='port; 0: any free port (default: %(default)s)')
    parser.add_argument('--token', metavar='TEXT', help='require the header "Authorization: Bearer TEXT"')
    parser.add_argument('--batch-size', type=positive_int, default=32, metavar='N',
                        help='maximum number of texts decoded together (default: %(default)s)')
    parser.add_argument('--wait', type=float, default=5., metavar='MS',
                        help='milliseconds that a text waits for others (default: %(default)s)')
    parser.add_argument('--queue', type=positive_int, default=256, metavar='N',
                        help='maximum number of waiting texts; more are refused with status 503 (default: %(default)s)')
    parser.add_argument('--max-characters', type=positive_int, default=20000, metavar='N',
                        help='maximum number of characters of a request (default: %(default)s)')
    parser.add_argument('--max-beam-width', type=positive_int, default=16, metavar='N',
                        help='maximum beam width of a request (default: %(default)s)')
    parser.add_argument('--threads', type=SETTINGS['threads'].parse, default=0, metavar='N',
                        help='threads of TensorFlow; 0: the setting of the run (default: %(default)s)')
    options = parser.parse_args(argv)
    if not 0 <= options.port <= 65535:
        parser.error('--port must be from 0 to 65535')
    if not 0 <= options.wait <= 10000:
        parser.error('--wait must be from 0 to 10000')
    if options.token is not None and not options.token.isprintable() or options.token == '':
        parser.error('--token must be text of printable characters')
    return options


def listen(host, port):
    """A listening socket.

    # Raises
        UserError: the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
        return listener
    except (OSError, UnicodeError) as error:
        raise UserError('cannot listen on %s, port %d: %s: choose another --host or --port'
                        % (host, port, getattr(error, 'strerror', None) or error))


def run_names(paths):
    """OrderedDict of name to path: the last part of each path, or the whole paths if two of these are equal."""
    short = [os.path.basename(os.path.normpath(path)) for path in paths]
    names = short if len(set(short)) == len(short) else paths
    if len(set(names)) < len(names):
        raise UserError('%s: is given twice: omit one --run' % max(names, key=names.count))
    return collections.OrderedDict(zip(names, paths))


def serve(server, stop):
    """Answers requests until the event `stop`, then finishes those that have begun, in at most `GRACE` seconds."""
    from waitress import wasyncore
    while not stop.is_set():
        wasyncore.loop(timeout=0.5, use_poll=True, map=server._map, count=1)
    wasyncore.dispatcher.close(server)  # no further connections
    deadline = time.time() + GRACE
    while time.time() < deadline and any(channel.requests or channel.total_outbufs_len
                                         for channel in list(server.active_channels.values())):
        wasyncore.loop(timeout=0.05, use_poll=True, map=server._map, count=1)
    server.task_dispatcher.shutdown(timeout=1)


def main(argv):
    options = parse(argv)
    try:
        import waitress
        from serving.application import Limits, Service, make_application
    except ImportError as error:
        if error.name not in ('flask', 'waitress', 'prometheus_client'):
            raise
        raise UserError('%s is not installed: make serve-setup installs it' % error.name)
    names = run_names(options.run or [last_run()])
    for path in names.values():
        RunDirectory.open(path).read_config()
    listener = listen(options.host, options.port)
    from translator import Translator
    translators = collections.OrderedDict((name, Translator.load(path, options.threads))
                                          for name, path in names.items())
    service = Service(translators, Limits(characters=options.max_characters, beam_width=options.max_beam_width),
                      options.batch_size, options.wait / 1000, options.queue)
    server = waitress.create_server(
        make_application(service, options.token, options.host), sockets=[listener], threads=64, connection_limit=1000,
        channel_timeout=60, max_request_body_size=MAXIMUM_BODY, asyncore_use_poll=True, ident=None,
        clear_untrusted_proxy_headers=True)
    stop, received = threading.Event(), []

    def receive(signum, frame):
        received.append(signum)
        service.stopping = True
        stop.set()
        signal.signal(signum, signal.SIG_DFL)  # the second one ends the process

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, receive)
    if options.host not in ('127.0.0.1', '::1', 'localhost'):
        tell('%s is open to the network: %s' % (options.host, 'everybody who has the token can use it' if options.token
             else 'everybody who reaches it can use it; --token TEXT restricts that'))
    tell('serving %s at http://%s:%d/' % (', '.join(names), options.host, listener.getsockname()[1]))
    serve(server, stop)
    service.close()
    tell('finished the requests that had begun')
    return 128 + signal.SIGINT if received == [signal.SIGINT] else 0


if __name__ == '__main__':
    run_command(main, os.path.basename(sys.argv[0]))
