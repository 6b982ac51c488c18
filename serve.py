"""Serves trained runs over HTTP: a page to try them, and an interface for programs.

    serve.py --run runs/translate                        # http://127.0.0.1:8000/
    serve.py --run runs/global --run runs/local          # two runs side by side
    curl -H 'Content-Type: application/json' -d '{"text": "where is the book ?"}' http://127.0.0.1:8000/translate

`make serve-setup` installs what it needs, and `make serve` starts it on the run of the demonstration.
"""
import collections
import os
import re
import signal
import socket
import sys
import threading

from command_line import CommandParser, UserError, positive_int, run_command, tell
from reports.page_about import read_examples
from storage.run_directory import RunDirectory, last_run
from settings import SETTINGS

GRACE = 3.  # seconds beyond the time limit of a request, to finish begun requests after SIGTERM


def parse(argv):
    parser = CommandParser(prog='serve.py', doc=__doc__)
    parser.add_argument('--run', metavar='DIR', action='append',
                        help='run directory (default: the one in runs/ trained last); more than one: all are served')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (default: %(default)s, this machine '
                        'only); 0.0.0.0 is open to the network')
    parser.add_argument('--port', type=int, default=8000, metavar='N',
                        help='port; 0: any free port (default: %(default)s)')
    parser.add_argument('--examples', metavar='FILE', help='texts to try on the page, one a line (default: for the '
                        'samples, some of their test part)')
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
    parser.add_argument('--time-limit', type=float, default=25., metavar='S',
                        help='seconds after which a request is ended with status 503 (default: %(default)s)')
    parser.add_argument('--threads', type=SETTINGS['threads'].parse, default=0, metavar='N',
                        help='threads of TensorFlow; 0: the setting of the run (default: %(default)s)')
    options = parser.parse_args(argv)
    if not 0 <= options.port <= 65535:
        parser.error('--port must be from 0 to 65535')
    if not 0 <= options.wait <= 10000:
        parser.error('--wait must be from 0 to 10000')
    if not 0.1 <= options.time_limit <= 3600:
        parser.error('--time-limit must be from 0.1 to 3600')
    if options.token is not None and not re.match(r'[!-~]+\Z', options.token):
        parser.error('--token must be letters, digits and signs of ASCII without spaces: a header can carry no others')
    return options


def listen(host, port):
    """A socket that is bound to an address; it accepts nothing before it listens.

    # Raises
        UserError: the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return listener
    except (OSError, UnicodeError) as error:
        raise cannot_listen(host, port, error)


def cannot_listen(host, port, error):
    """The `UserError` for an address that cannot be used."""
    return UserError('cannot listen on %s, port %d: %s: choose another --host or --port'
                     % (host, port, getattr(error, 'strerror', None) or error))


def run_names(paths):
    """OrderedDict of name to path: the last part of each path, or the whole paths if two of these are equal."""
    short = [os.path.basename(os.path.normpath(path)) for path in paths]
    names = short if len(set(short)) == len(short) else paths
    if len(set(names)) < len(names):
        raise UserError('%s: is given twice: omit one --run' % max(names, key=names.count))
    return collections.OrderedDict(zip(names, paths))


def main(argv):
    options = parse(argv)
    try:
        from serving.application import Limits, Service, is_loopback, make_application
        from serving.connections import Server
    except ImportError as error:
        if error.name not in ('flask', 'waitress', 'prometheus_client'):
            raise
        raise UserError('%s is not installed: make serve-setup installs it' % error.name)
    names = run_names(options.run or [last_run()])
    for path in names.values():
        RunDirectory.open(path).read_config()
    examples = read_examples(options.examples) if options.examples else None
    listener = listen(options.host, options.port)
    from translator import Translator
    translators = collections.OrderedDict((name, Translator.load(path, options.threads))
                                          for name, path in names.items())
    limits = Limits(characters=options.max_characters, beam_width=options.max_beam_width, seconds=options.time_limit)
    service = Service(translators, limits, options.batch_size, options.wait / 1000, options.queue, examples)
    address, port = listener.getsockname()[:2]
    local = is_loopback(address)
    try:
        server = Server(make_application(service, options.token, local), listener)
    except OSError as error:  # another program was faster
        raise cannot_listen(options.host, port, error)
    stop, received = threading.Event(), []

    def receive(signum, frame):
        received.append(signum)
        service.stopping = True
        stop.set()
        signal.signal(signum, signal.SIG_DFL)  # the second one ends the process

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, receive)
    if not local:
        tell('%s is open to the network: %s' % (options.host, 'everybody who has the token can use it' if options.token
             else 'everybody who reaches it can use it; --token TEXT restricts that'))
    host = '[%s]' % options.host if ':' in options.host else options.host
    tell('serving %s at http://%s:%d/' % (', '.join(names), host, port))
    server.run_until(stop, limits.seconds + GRACE)
    code = 128 + signal.SIGINT if received == [signal.SIGINT] else 0
    if not service.close(1.):
        tell('ended with requests that took too long')
        os._exit(code)  # the exit of the interpreter would wait for their threads
    tell('finished the requests that had begun')
    return code


if __name__ == '__main__':
    run_command(main, os.path.basename(sys.argv[0]))
