"""The server: real requests on loopback to a tiny trained run, also hostile ones; its page in Chromium."""
import collections
import concurrent.futures
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

pytest.importorskip('flask', reason='needs requirements-serve.txt')
pytest.importorskip('waitress', reason='needs requirements-serve.txt')
pytest.importorskip('prometheus_client', reason='needs requirements-serve.txt')

from command_line import UserError  # noqa: E402
import numpy as np  # noqa: E402
import serve  # noqa: E402
from serving import connections  # noqa: E402
from serving.batcher import Batcher, Busy  # noqa: E402
from browser import open_browser  # noqa: E402
from test_commands import ROOT  # noqa: E402

pytestmark = pytest.mark.slow
WORDS = ['red', 'blue', 'green', 'tea', 'book', 'sun', 'moon', 'cat']
TEXTS = ['%s %s %s' % (a, b, c) for a in WORDS[:4] for b in WORDS[2:6] for c in WORDS[4:]]


class Server:
    """A running serve.py."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / 'serve.py'), '--port', '0', '--threads', '2', *options], cwd=str(folder),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.told = []
        while not self.told or not self.told[-1].startswith('serving'):
            line = self.process.stderr.readline().decode('utf-8')
            assert line, self.told
            self.told.append(line.strip())
        self.port = int(self.told[-1].rstrip('/').rsplit(':', 1)[1])

    def send(self, path='/translate', body=None, method=None, **headers):
        """(status, headers, body) of one request; a dict is sent as JSON."""
        data = json.dumps(body).encode('utf-8') if isinstance(body, dict) else body
        headers = dict({'Content-Type': 'application/json'} if data is not None else {},
                       **{name.replace('_', '-'): value for name, value in headers.items()})
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        try:
            connection.request(method or ('GET' if data is None else 'POST'), path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode('utf-8')
        finally:
            connection.close()

    def translate(self, **body):
        status, _, text = self.send(body=body)
        assert status == 200, text
        return json.loads(text)

    def refused(self, status, *args, **kwargs):
        """The message of an error, which is always one JSON object."""
        found, headers, text = self.send(*args, **kwargs)
        assert found == status, text
        assert headers['Content-Type'] == 'application/json'
        error = json.loads(text)
        assert list(error) == ['error'] and '\n' not in error['error'] and len(error['error']) < 400
        return error['error']

    def stop(self, signum=signal.SIGTERM):
        self.process.send_signal(signum)
        try:
            self.process.wait(40)
        finally:
            self.process.kill()
        return self.process.returncode


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with two tiny runs, `a` and `b`."""
    path = tmp_path_factory.mktemp('serve')
    lines = ''.join('%s\t%s\n' % (text, ' '.join(word.upper() for word in text.split())) for text in TEXTS)
    for name in ('train', 'val'):
        (path / (name + '.tsv')).write_text(lines)
    for name, attention in (('a', 'global'), ('b', 'local-m')):
        done = subprocess.run(
            [sys.executable, str(ROOT / 'train.py'), '--run', name, '--train', 'train.tsv', '--val', 'val.tsv',
             '--target-tokenizer', 'space', '--attention', attention, '--units', '16', '--embedding', '16', '--epochs',
             '40', '--learning-rate', '0.01', '--batch-size', '8', '--threads', '1'], cwd=str(path),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout.decode('utf-8')
    return path


@pytest.fixture(scope='module')
def server(folder):
    one = Server(folder, '--run', 'a', '--run', 'b')
    yield one
    one.stop()


def predicted(folder, texts, *options):
    """The lines of predict.py."""
    (folder / 'input').write_text(''.join(text + '\n' for text in texts))
    done = subprocess.run([sys.executable, str(ROOT / 'predict.py'), '--run', 'a', '--input', 'input', '--threads', '1',
                           *options], cwd=str(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode('utf-8')
    return done.stdout.decode('utf-8').splitlines()


def test_answers_are_those_of_predict(server, folder):
    found = server.translate(text=TEXTS, beam_width=3, n_best=2)
    wanted = [json.loads(line) for line in predicted(folder, TEXTS, '--beam-width', '3', '--n-best', '2', '--json')]
    assert found['run'] == 'a' and len(found['results']) == len(wanted)
    for one, other in zip(found['results'], wanted):
        assert (one['source'], one['source_tokens']) == (other['source'], other['source_tokens'])
        assert [two['text'] for two in one['hypotheses']] == [two['text'] for two in other['hypotheses']]
        for mine, theirs in zip(one['hypotheses'], other['hypotheses']):
            assert mine['tokens'] == theirs['tokens'] and abs(mine['score'] - theirs['score']) < 1e-4
            assert all(abs(x - y) < 1e-3 for row, other_row in zip(mine['alignment'], theirs['alignment'])
                       for x, y in zip(row, other_row))


def test_given_outputs_have_the_scores_of_predict(server, folder):
    targets = ['%s TEA' % text.upper().split()[0] for text in TEXTS[:-1]] + ['']
    found = server.translate(text=TEXTS, target=targets)['results']
    wanted = predicted(folder, ['%s\t%s' % pair for pair in zip(TEXTS, targets)], '--score-pairs')
    assert [one['hypotheses'][0]['text'] for one in found] == targets
    assert all(abs(one['hypotheses'][0]['score'] - float(score)) < 1e-3 for one, score in zip(found, wanted))
    one, = found[0]['hypotheses']
    assert one['tokens'] == targets[0].split() and len(one['log_probabilities']) == 3
    assert [len(row) for row in one['alignment']] == [3, 3] and abs(sum(one['alignment'][0]) - 1) < 1e-3
    best = server.translate(text=TEXTS[0])['results'][0]['hypotheses'][0]
    again = server.translate(text=TEXTS[0], target=best['text'])['results'][0]['hypotheses']
    assert len(again) == 1 and abs(again[0]['score'] - best['score']) < 1e-4


def test_requests_that_come_together_are_decoded_together_and_each_gets_its_own_answer(server, folder):
    def batches():
        lines = server.send('/metrics')[2].splitlines()
        return [float(line.split()[1]) for name in ('count', 'sum') for line in lines
                if line.startswith('attention_batch_texts_%s ' % name)]

    before = batches()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda text: server.translate(text=text)['results'][0]['hypotheses'][0]['text'], TEXTS))
    assert found == predicted(folder, TEXTS)
    count, total = [after - earlier for after, earlier in zip(batches(), before)]
    assert total == len(TEXTS) and count < total / 2


def test_unknown_words_several_runs_and_empty_texts(server):
    result, = server.translate(text='red zorblax book', run='b')['results']
    assert result['unknown'] == [1] and len(result['hypotheses'][0]['alignment'][0]) == 3
    assert server.translate(text=[])['results'] == []
    empty, = server.translate(text='')['results']
    assert empty['source_tokens'] == [] and empty['hypotheses'][0]['text'] == ''
    assert server.translate(text='red', alignments=False)['results'][0]['hypotheses'][0]['alignment'] is None
    assert server.translate(question='what  is red', story='red book.')['results'][0]['source'] == (
        'what is red | red book.')


@pytest.mark.parametrize('body, told', [
    (b'', 'not valid JSON'), (b'{"text": ', 'not valid JSON'), (b'\xff', 'not valid JSON'),
    (b'[' * 100000, 'not valid JSON'), (b'{"text": "a", "text": "b"}', 'occurs twice'),
    (dict.fromkeys(map(str, range(50000))), "^unknown field '0', '1', "),
    ({'text': 'a', 'run': 'b' * 10 ** 6}, '^no run .{,70}: the'),
    (b'{"text": "a", "beam_width": ' + b'9' * 10 ** 6 + b'}', 'not a number'),
    (b'[]', 'JSON object'), ({}, 'text is missing'), ({'text': 5}, 'string or a list'), ({'text': ['a', 5]}, 'string'),
    ({'text': 'a\nb'}, 'one line'), ({'text': 'a', 'beam': 3}, "'beam'"), ({'text': 'a', 'run': 'c'}, 'a, b'),
    ({'text': 'a', 'run': ['a']}, 'no run'), ({'text': 'a', 'alignments': 1}, 'true or false'),
    ({'text': 'a', 'beam_width': 0}, 'beam_width|beam-width'), ({'text': 'a', 'beam_width': 10 ** 6}, 'at most 16'),
    ({'text': 'a', 'beam_width': 'x'}, 'beam.width'), ({'text': 'a', 'beam_width': [2]}, 'beam.width'),
    ({'text': 'a', 'n_best': 3}, 'n.best'), ({'text': 'a', 'max_length': 10 ** 9}, 'at most 1000'),
    ({'text': 'a', 'min_length': 10 ** 9}, 'at most 1000'), ({'text': 'a', 'length_penalty': -1}, 'length.penalty'),
    (b'{"text": "a", "length_penalty": NaN}', 'not a number'),
    (b'{"text": "a", "coverage_penalty": Infinity}', 'not a number'), (b'{"text": "\\ud800"}', 'surrogate'),
    ({'text': 'a ' * 496}, 'of 496 tokens, may have 1002 tokens, and 1000'),
    ({'text': 'a ' * 9999, 'max_length': 1000, 'beam_width': 2}, 'need 19998000 attention weights'),
    ({'text': ['a ' * 400] * 2, 'max_length': 1000, 'beam_width': 3, 'n_best': 3}, 'have 2400000 attention weights'),
    ({'text': 'a', 'target': 5}, 'target must be'), ({'text': ['a', 'b'], 'target': 'c'}, 'one line for each text'),
    ({'text': 'a', 'target': 'c', 'beam_width': 2}, 'omit beam_width'), ({'text': 'a', 'target': 'b\nc'}, 'one line'),
    ({'text': 'a', 'target': 'c ' * 1000}, 'may have 1001 tokens, and 1000 .* the target'),
    ({'text': 'a', 'target': 'c' * 20000}, '20001 characters'),
    ({'text': 'a ' * 5000, 'target': 'c ' * 500}, 'have 2505000 attention weights'),
    ({'question': 'a'}, 'question and story'), ({'text': 'a', 'question': 'b', 'story': 'c'}, 'or question'),
    ({'text': ['a'] * 129}, '129 texts'), ({'text': 'a' * 20001}, '20001 characters')])
def test_bad_input_gets_one_clear_error(server, body, told):
    import re
    assert re.search(told, server.refused(400, body=body))


def test_other_errors_are_json_too(server):
    assert '/openapi.json' in server.refused(404, '/nothing')
    server.refused(405, '/translate')
    assert 'application/json' in server.refused(415, body=b'{"text": "a"}', Content_Type='text/plain')
    for host in ('evil.example', '127.0.0.1.evil.example', 'localhost.evil.example', '[::1', '128.0.0.1', '[::2]:80'):
        assert 'this machine' in server.refused(403, '/health', Host=host)
    for host in ('LOCALHOST', 'LocalHost:80', '127.0.0.2', '[::1]', '[::1]:8000'):
        assert server.send('/health', Host=host)[0] == 200, host
    assert '1048576 bytes' in server.refused(413, body=b'{"text": "' + b'a' * 10 ** 7 + b'"}')
    assert server.translate(text='red')['run'] == 'a', 'and it goes on'


@pytest.mark.parametrize('status, request_', [
    (400, b'GET / HTTP/1.1\r\nno header\r\n\r\n'), (400, b'GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n'),
    (501, b'POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n'),
    (413, b'POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n'),
    (431, b'GET / HTTP/1.1\r\nContent-Length: ' + b'9' * 2 ** 14 + b'\r\n\r\n')])
def test_an_error_of_http_itself_is_json_too(server, status, request_):
    with socket.create_connection(('127.0.0.1', server.port), timeout=20) as connection:
        connection.sendall(request_)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == status and answer.headers['Content-Type'] == 'application/json'
        assert list(json.loads(answer.read().decode('ascii'))) == ['error']


def test_health_metrics_and_the_description_of_the_interface(server):
    health = json.loads(server.send('/health')[2])
    assert health['status'] == 'ok' and [run['attention'] for run in health['runs']] == ['global', 'local-m']
    assert 'attention_requests_total{path="/health",status="200"}' in server.send('/metrics')[2]
    interface = json.loads(server.send('/openapi.json')[2])
    assert set(interface['paths']) == {'/translate', '/health', '/metrics'}
    from serving.application import KNOWN
    schemas = interface['components']['schemas']
    assert set(schemas['Request']['properties']) == set(KNOWN)
    result, = server.translate(text='red')['results']
    assert set(result) == set(schemas['Answer']['properties']['results']['items']['properties'])
    assert set(result['hypotheses'][0]) == set(schemas['Hypothesis']['properties'])


def test_slow_and_vanished_clients_delay_no_other_request(server):
    slow = [socket.create_connection(('127.0.0.1', server.port)) for _ in range(80)]  # more than the server's threads
    body = json.dumps({'text': 'red blue tea'}).encode('ascii')
    head = ('POST /translate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n'
            'Content-Length: %d\r\n\r\n' % len(body)).encode('ascii')
    try:
        for one in slow:
            one.sendall(head[:20])
        gone = [socket.create_connection(('127.0.0.1', server.port)) for _ in range(20)]
        for one in gone:
            one.sendall(head + body)
            one.close()
        started = time.time()
        assert server.translate(text='red')['results']
        assert time.time() - started < 20
        slow[0].sendall(head[20:] + body)
        slow[0].settimeout(20)
        assert slow[0].recv(100).startswith(b'HTTP/1.1 200')
    finally:
        for one in slow:
            one.close()


def test_clients_that_take_all_connections_lose_their_oldest_ones(server):
    clients = []
    try:
        for _ in range(connections.CONNECTIONS + 50):
            clients.append(socket.create_connection(('127.0.0.1', server.port), timeout=20))
            clients[-1].sendall(b'GET /health HTTP/1.1\r\nX-Slow: ')
        assert server.send('/health')[0] == 200 and server.translate(text='red')['results']
        assert clients[0].recv(1) == b'', 'closed'
        clients[-1].sendall(b'no\r\nHost: localhost\r\n\r\n')
        assert clients[-1].recv(100).startswith(b'HTTP/1.1 200'), 'and the youngest is answered'
    finally:
        for one in clients:
            one.close()


def test_a_time_limit_ends_the_work_and_small_requests_overtake(folder):
    server = Server(folder, '--run', 'a', '--time-limit', '8')
    large = {'text': ['red ' * 30] * 128, 'beam_width': 16, 'min_length': 999, 'max_length': 1000, 'alignments': False}

    def used():
        with open('/proc/%d/stat' % server.process.pid) as stream:
            return sum(map(int, stream.read().rsplit(')', 1)[1].split()[11:13]))

    try:
        server.translate(text='red', beam_width=2)  # builds the graph
        answers, finished = [], []
        clients = [threading.Thread(target=lambda: answers.append(server.send(body=large))) for _ in range(2)]
        for client in clients:
            client.start()
        while not answers:
            assert server.send('/health')[0] == 200
            server.translate(text='red', beam_width=2)
            finished.append(len(answers))
        assert finished[0] == 0, 'a small request was answered before any of the large ones'
        for client in clients:
            client.join()
        assert {status for status, _, _ in answers} == {503}
        assert all('within 8 seconds' in json.loads(text)['error'] for _, _, text in answers)
        deadline = time.time() + 60
        before = -1
        while used() != before and time.time() < deadline:  # until a second without work
            before = used()
            time.sleep(1)
        assert used() == before
        answers.clear()
        # Two again: one alone may end before the limit on a fast machine.
        clients = [threading.Thread(target=lambda: answers.append(server.send(body=large))) for _ in range(2)]
        for client in clients:
            client.start()
        time.sleep(1)
    finally:
        assert server.stop() == 0
    for client in clients:
        client.join()
    assert [status for status, _, _ in answers] == [503, 503]


EXTREMES = dict(
    text=['', 'red', 'red ' * 495, 'r' * 20000, '\u2028\x00', [], ['red'] * 128], beam_width=[1, 16],
    n_best=[1, 2, 16], length_penalty=[0, 100, 1e-300, 'average'], coverage_penalty=[0, 1000],
    min_length=[0, 1, 999, 1000], max_length=[1, 1000], max_length_ratio=[1e-9, 1000], no_repeat_ngram=[0, 1, 100],
    alignments=[True, False], run=['a', 'b'])


def test_every_option_at_its_extremes_ends_in_an_answer_or_one_error(folder):
    server, counts = Server(folder, '--run', 'a', '--run', 'b', '--time-limit', '10'), collections.Counter()
    bodies = [dict({'text': 'red blue', field: value}) for field, values in EXTREMES.items() for value in values]
    bodies += [{'text': text, 'target': target}
               for text in EXTREMES['text'][:4] for target in ('', 'TEA', 'TEA ' * 999)]
    random = np.random.RandomState(1)
    for _ in range(60):
        bodies.append({'text': 'red'})
        for field, values in EXTREMES.items():
            if random.rand() < 0.5:
                bodies[-1][field] = values[random.randint(len(values))]
    try:
        for body in bodies:
            status, _, text = server.send(body=body)
            counts[status] += 1
            assert status in (200, 400, 503), (body, status, text[:200])
            assert status == 200 or list(json.loads(text)) == ['error'], body
            assert server.send('/health')[0] == 200, body
        with open('/proc/%d/status' % server.process.pid) as stream:
            peak = next(int(line.split()[1]) for line in stream if line.startswith('VmHWM')) // 1024
    finally:
        assert server.stop() == 0
    print('%d requests: %s; peak of memory %d MB' % (len(bodies), dict(counts), peak))
    assert counts[200] >= 40 and counts[400] >= 10 and peak < 1500


def test_health_is_answered_while_all_threads_wait_and_sigterm_finishes_the_requests_that_have_begun(folder):
    server = Server(folder, '--run', 'a', '--wait', '5000', '--batch-size', '128')
    found = []
    clients = [threading.Thread(target=lambda: found.append(server.send(body={'text': 'red blue tea'})))
               for _ in range(connections.THREADS)]
    for client in clients:
        client.start()
    time.sleep(1)  # the requests wait for others
    assert server.send('/health')[0] == 200 and server.send('/')[0] == 200 and not found
    assert server.stop() == 0
    for client in clients:
        client.join()
    assert {(status, json.loads(text)['results'][0]['source']) for status, _, text in found} == {(200, 'red blue tea')}
    assert len(found) == len(clients)


def test_a_token_is_required_and_an_open_network_is_reported(folder):
    (folder / 'examples.txt').write_text('red book\nblue tea\n')
    server = Server(folder, '--run', 'a', '--token', 'secret', '--host', '0.0.0.0', '--examples', 'examples.txt')
    try:
        assert 'open to the network' in server.told[0] and 'token' in server.told[0]
        for headers in ({}, {'Authorization': 'Bearer wrong'}, {'Authorization': 'secret'}):
            server.refused(401, body={'text': 'red'}, **headers)
        server.refused(401, '/metrics')
        assert server.send(body={'text': 'red'}, Authorization='Bearer secret')[0] == 200
        status, _, health = server.send('/health')
        assert status == 200 and json.loads(health)['runs'][0]['examples'] == ['red book', 'blue tea']
        assert server.send('/')[0] == 200
    finally:
        assert server.stop(signal.SIGINT) == 130


@pytest.mark.parametrize('host, address, is_open', [
    ('127.0.0.2', '127.0.0.2', False), ('LOCALHOST', 'LOCALHOST', False), ('::1', '[::1]', False),
    ('::', '[::]', True)])
def test_the_address_that_is_told_can_be_opened_and_loopback_is_not_called_open(folder, host, address, is_open):
    if ':' in host and not socket.has_ipv6 or not ipv6():
        pytest.skip('no IPv6 on this machine')
    server = Server(folder, '--run', 'a', '--host', host)
    try:
        assert server.told[-1] == 'serving a at http://%s:%d/' % (address, server.port)
        assert ('open to the network' in server.told[0]) == is_open
        with urllib.request.urlopen('http://%s:%d/health' % (address, server.port), timeout=60) as answer:
            assert json.loads(answer.read().decode('utf-8'))['status'] == 'ok'
    finally:
        assert server.stop() == 0


def ipv6():
    """Whether this machine has the loopback of IPv6."""
    try:
        serve.listen('::1', 0).close()
        return True
    except UserError:
        return False


def test_a_port_refuses_connections_until_the_server_is_ready(folder):
    with serve.listen('127.0.0.1', 0) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), timeout=5)
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen(1)
        with pytest.raises(UserError, match='cannot listen on 127.0.0.1, port [0-9]+: .*another --host or'):
            serve.listen(*other.getsockname())


@pytest.mark.parametrize('token', ['', '\u00fc', 'two words', 'tab\t', '\n'])
def test_a_token_that_no_header_can_carry_is_wrong_usage(token, capsys):
    with pytest.raises(SystemExit) as ended:
        serve.parse(['--token', token])
    assert ended.value.code == 2 and '--token must be' in capsys.readouterr().err


@pytest.mark.parametrize('options, told', [
    (['--run', 'nowhere'], 'nowhere'), (['--run', 'a', '--run', 'a'], 'twice'),
    (['--run', 'a', '--examples', 'none.txt'], 'none.txt'), (['--run', 'a', '--host', '8.8.8.8'], 'cannot listen')])
def test_errors_at_the_start_of_the_server_are_one_line(folder, options, told):
    done = subprocess.run([sys.executable, str(ROOT / 'serve.py'), '--port', '0', *options], cwd=str(folder),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 1 and told in done.stderr.decode('utf-8') and done.stderr.count(b'\n') == 1


# The batcher alone

class Slow:
    """A translator that returns upper case, records its calls, and waits for the event `go`."""

    def __init__(self, only_large=False):
        self.calls, self.overtaken, self.go, self.only_large = [], [], threading.Event(), only_large

    def translate(self, texts, batch_size, divide, deadline, overtake, **options):
        self.calls.append((list(texts), options))
        self.overtaken += [texts[0]] if overtake else []
        if not (overtake and self.only_large):
            self.go.wait(10)
        if 'bad' in texts:
            raise UserError('bad text')
        return [text.upper() for text in texts]


def test_batcher_groups_equal_options_and_isolates_a_bad_request():
    slow = Slow()
    batcher = Batcher(slow, batch_size=4, wait=0)
    first = batcher.submit(['a'], {'k': 1})
    while not slow.calls:
        time.sleep(0.01)
    futures = [batcher.submit(texts, {'k': k}) for texts, k in ((['b'], 1), (['bad'], 1), (['c'], 2), (['d'], 1))]
    slow.go.set()
    assert first.result(5) == ['A']
    assert [futures[n].result(5) for n in (0, 2, 3)] == [['B'], ['C'], ['D']]
    with pytest.raises(UserError, match='bad text'):
        futures[1].result(5)
    assert slow.calls[1] == (['b', 'bad', 'd'], {'k': 1}) and (['c'], {'k': 2}) in slow.calls
    batcher.close()


def test_batcher_refuses_beyond_its_queue_and_drops_cancelled_requests():
    slow = Slow()
    batcher = Batcher(slow, batch_size=1, wait=0, queue=3)
    futures = [batcher.submit(['a'], {})]
    while not slow.calls:
        time.sleep(0.01)
    futures += [batcher.submit([name], {}) for name in 'bcd']
    with pytest.raises(Busy):
        batcher.submit(['e'], {})
    assert futures[2].cancel()
    slow.go.set()
    assert [one.result(5) for one in futures if not one.cancelled()] == [['A'], ['B'], ['D']]
    assert [texts for texts, _ in slow.calls] == [['a'], ['b'], ['d']]
    batcher.close()
    with pytest.raises(Busy):
        batcher.submit(['e'], {})


def test_batches_are_decoded_at_the_same_time_and_a_request_waits_from_its_arrival():
    slow = Slow()
    batcher = Batcher(slow, batch_size=2, wait=1000, workers=2)
    futures = [batcher.submit([name], {}) for name in 'abcd']
    deadline = time.time() + 10
    while len(slow.calls) < 2 and time.time() < deadline:
        time.sleep(0.01)
    assert sorted(texts for texts, _ in slow.calls) == [['a', 'b'], ['c', 'd']]     # before any is finished
    futures.append(batcher.submit(['e'], {}))
    batcher.waiting[0] = batcher.waiting[0]._replace(arrived=time.time() - 1000)    # while the others were decoded
    slow.go.set()
    assert [one.result(5) for one in futures] == [['A'], ['B'], ['C'], ['D'], ['E']]
    batcher.close()


def test_small_requests_overtake_large_ones_of_which_only_some_may_wait():
    slow = Slow(only_large=True)
    batcher = Batcher(slow, batch_size=1, wait=0, queue=3, workers=2, large=3)
    large = [batcher.submit([name], {}, large=True) for name in 'abc']  # one of them waits
    while len(slow.calls) < 2:
        time.sleep(0.01)
    with pytest.raises(Busy):
        batcher.submit(['d'], {}, large=True)
    small = [batcher.submit([name], {}) for name in 'efg']
    assert [one.result(5) for one in small] == [['E'], ['F'], ['G']]
    assert not any(one.done() for one in large) and slow.overtaken == ['e', 'f', 'g']
    slow.go.set()
    assert [one.result(5) for one in large] == [['A'], ['B'], ['C']]
    assert batcher.submit(['d'], {}, large=True).result(5) == ['D'], 'there is room again'
    assert batcher.submit(['h'], {}).result(5) == ['H'] and slow.overtaken == ['e', 'f', 'g', 'h']
    assert batcher.close(5)


def test_a_small_request_that_came_before_a_large_one_began_overtakes_it_too():
    slow = Slow(only_large=True)
    batcher = Batcher(slow, batch_size=4, wait=0.2)
    large, small = batcher.submit(['a'], {}, large=True), batcher.submit(['b'], {})
    assert small.result(5) == ['B'] and not large.done() and slow.overtaken == ['b']
    slow.go.set()
    assert large.result(5) == ['A'] and batcher.close(5)


def test_small_and_large_requests_are_not_decoded_together_and_close_is_bounded():
    slow = Slow()
    batcher = Batcher(slow, batch_size=4, wait=0)
    first = batcher.submit(['a'], {})
    while not slow.calls:
        time.sleep(0.01)
    others = [batcher.submit([name], {}, large=name in 'bd') for name in 'bcde']
    assert not batcher.close(0.1)
    slow.go.set()
    assert [one.result(5) for one in [first] + others] == [['A'], ['B'], ['C'], ['D'], ['E']]
    assert sorted(texts for texts, _ in slow.calls) == [['a'], ['b', 'd'], ['c', 'e']]
    assert batcher.close(5)


# The page

@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp('browser')) as window:
        yield window


@pytest.mark.parametrize('width, height, scheme, language', [(1280, 900, 'light', 'en'), (390, 844, 'dark', 'zh')])
def test_the_page_translates_while_the_user_types(server, browser, width, height, scheme, language):
    browser.emulate(width, height, scheme)
    try:
        browser.open_address('http://127.0.0.1:%d/?lang=%s' % (server.port, language))
        assert browser.run('return document.activeElement.id') == 'text', 'keyboard alone'
        browser.press(*'red zorblax book')
        browser.wait_for('return document.querySelectorAll("section:not([hidden]) tbody td").length && '
                         'document.getElementById("message").textContent === ""')
        wanted = {run: server.translate(text='red zorblax book', run=run, beam_width=5, n_best=5)['results'][0]
                  for run in 'ab'}
        for n, run in enumerate('ab', 1):
            section = 'section:nth-of-type(%d) ' % n
            assert browser.texts(section + 'h2') == [run]
            assert browser.texts(section + '.source bdi') == ['red', 'zorblax', 'book']
            assert browser.texts(section + '.source .unknown bdi') == ['zorblax']
            best = wanted[run]['hypotheses'][0]
            assert browser.texts(section + '.output bdi') == best['tokens']
            assert len(browser.texts(section + '.outputs label')) == len(wanted[run]['hypotheses'])
        browser.hover('section .output > *')
        row = wanted['a']['hypotheses'][0]['alignment'][0]
        assert all(abs(x - y) <= 0.01 for x, y in zip(browser.shades('section:nth-of-type(1) .source > *'), row))
        browser.click('section .outputs label:nth-of-type(2)')
        assert browser.texts('section:nth-of-type(1) .output bdi') == wanted['a']['hypotheses'][1]['tokens']
        assert browser.run('return document.documentElement.scrollWidth') <= width
        assert ('翻译' in browser.texts('#title')[0]) == (language == 'zh')
        assert '' not in browser.named('button') + browser.named('textbox') + browser.named('combobox')
        assert browser.texts('#notices li') == ['模型不认识 1 个词（共 3 个）：zorblax' if language == 'zh' else
                                                '1 of 3 words are unknown to the model: zorblax']
        assert browser.texts('.legend .unknown') and not browser.texts('.legend .copied'), 'no run copies'
        browser.run('const form = document.querySelector("section .forced"); form.closest("details").open = true;'
                    'form.querySelector("input").value = "SUN TEA"; form.requestSubmit()')
        browser.wait_for('return document.querySelectorAll("section details .output bdi").length')
        assert browser.texts('section details .output bdi') == ['SUN', 'TEA']
        browser.run('const text = document.getElementById("text"); text.value = ""; text.oninput()')
        browser.wait_for('return !document.querySelector("section:not([hidden])") && !location.hash')
        assert browser.texts('#notices li') == []
    finally:
        browser.emulate()
    assert browser.complaints() == []


def test_the_page_shows_hostile_text_and_errors_as_text(server, browser):
    browser.open_address('http://127.0.0.1:%d/' % server.port)
    hostile = '<img src=x onerror=alert(1)></script>\u2028"'
    browser.run('const text = document.getElementById("text"); text.value = arguments[0]; text.oninput()', hostile)
    browser.wait_for('return document.querySelectorAll("section:not([hidden]) .source bdi").length')
    shown = ''.join(browser.texts('section:nth-of-type(1) .source bdi'))
    assert shown == hostile.replace('\u2028', '').replace(' ', '')
    assert browser.run('return [document.images.length, document.scripts.length]') == [0, 1]
    browser.run('const text = document.getElementById("text"); text.value = "a ".repeat(10001); text.oninput()')
    browser.wait_for('return document.getElementById("message").className === "error"')
    assert browser.texts('#message') == ['The text has 20001 characters, and the server takes at most 20000: '
                                         'shorten it.']
    assert browser.complaints() == []
