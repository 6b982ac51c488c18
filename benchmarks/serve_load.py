"""The server under load: requests/s of N clients beside the lines/s of predict.py, in turns, with all answers compared.

    .venv/bin/python benchmarks/serve_load.py --run runs/translate --input text.en            # 32 clients, 60 s
    .venv/bin/python benchmarks/serve_load.py --run runs/translate --input text.en --alignments

Clients hold their connection and send the next line as soon as they have an answer. They run on the same machine. Other
work on it moves the times of each turn; the work for each second of processor time depends on it less.
"""
import argparse
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HEAD = 'POST /translate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n'
LENGTH = re.compile(br'\r\nContent-Length: (\d+)', re.IGNORECASE)


def predict(options, path):
    """(lines/s as predict.py tells it, seconds of processor time, its output lines)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, os.path.join(ROOT, 'predict.py'), '--run', options.run, '--input', path,
                           '--threads', str(options.threads)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rate = re.search(r'([0-9.]+) lines/s', done.stderr.decode('utf-8')).group(1)
    return (float(rate), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            done.stdout.decode('utf-8').split('\n')[:-1])


class Server(object):
    """serve.py in a process of its own, on a free port."""

    def __init__(self, options):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(ROOT, 'serve.py'), '--run', options.run, '--port', '0', '--threads',
             str(options.threads), '--wait', str(options.wait)], stderr=subprocess.PIPE)
        line = ''
        while not line.startswith('serving'):
            line = self.process.stderr.readline().decode('utf-8')
        self.port = int(line.strip().rstrip('/').rsplit(':', 1)[1])

    def memory(self):
        """Resident memory in MiB."""
        with open('/proc/%d/statm' % self.process.pid) as stream:
            return int(stream.read().split()[1]) * resource.getpagesize() / 2. ** 20

    def seconds(self):
        """Processor time so far."""
        with open('/proc/%d/stat' % self.process.pid) as stream:
            fields = stream.read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


def client(port, requests, start, stop, answers):
    """Sends requests from number `start` on until the time `stop`; adds (number, seconds, body) to `answers`."""
    connection, number = socket.create_connection(('127.0.0.1', port)), start
    while time.time() < stop:
        sent, received = time.time(), b''
        connection.sendall(requests[number % len(requests)])
        while b'\r\n\r\n' not in received:
            received += connection.recv(2 ** 16)
        head, body = received.split(b'\r\n\r\n', 1)
        while len(body) < int(LENGTH.search(head).group(1)):
            body += connection.recv(2 ** 16)
        answers.append((number % len(requests), time.time() - sent, body))
        number += 1
    connection.close()


def load(server, options, texts, seconds):
    """Answers of all clients, and the requests/s."""
    bodies = [json.dumps({'text': text, 'alignments': options.alignments}).encode('ascii') for text in texts]
    requests, answers = [(HEAD % len(body)).encode('ascii') + body for body in bodies], []
    started = time.time()
    threads = [threading.Thread(target=client, args=(server.port, requests, number * 31, started + seconds, answers))
               for number in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, len(answers) / (time.time() - started)


def differing(answers, wanted):
    """How many answers are errors, or other texts than predict.py's."""
    found = [(number, json.loads(body.decode('utf-8'))) for number, _, body in answers]
    return sum('results' not in data or data['results'][0]['hypotheses'][0]['text'] != wanted[number]
               for number, data in found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--run', required=True)
    parser.add_argument('--input', required=True, help='text with a sentence a line')
    parser.add_argument('--clients', type=int, default=32)
    parser.add_argument('--seconds', type=float, default=60., help='of load, in all')
    parser.add_argument('--turns', type=int, default=2)
    parser.add_argument('--threads', type=int, default=0)
    parser.add_argument('--wait', type=float, default=5., help='milliseconds, as of serve.py')
    parser.add_argument('--alignments', action='store_true', help='ask for the alignments too')
    options = parser.parse_args()
    with open(options.input, encoding='utf-8') as stream:
        texts = stream.read().split('\n')[:-1]
    with tempfile.NamedTemporaryFile('w', suffix='.txt') as one:
        one.write(texts[0] + '\n')
        one.flush()
        loading = predict(options, one.name)[1]
    server, shares, efforts = Server(options), [], []
    load(server, options, texts, 2.)        # builds the graph
    for turn in range(options.turns):
        lines, work, wanted = predict(options, options.input)
        before, started = server.memory(), server.seconds()
        answers, rate = load(server, options, texts, options.seconds / options.turns)
        times = [1000. * seconds for _, seconds, _ in answers]
        lines_a_second, requests_a_second = len(texts) / (work - loading), len(answers) / (server.seconds() - started)
        shares.append(rate / lines)
        efforts.append(requests_a_second / lines_a_second)
        print('predict.py %.0f lines/s; serve.py %.0f requests/s, %.2f of it; p50 %.0f ms, p99 %.0f ms; %d of %d '
              'answers differ; memory %.0f to %.0f MiB; a second of processor time: %.0f lines, %.0f requests, %.2f'
              % (lines, rate, shares[-1], np.percentile(times, 50), np.percentile(times, 99),
                 differing(answers, wanted), len(answers), before, server.memory(), lines_a_second,
                 requests_a_second, efforts[-1]), flush=True)
    print('mean share %.2f, of processor time %.2f; server ended with %d'
          % (np.mean(shares), np.mean(efforts), server.stop()))


if __name__ == '__main__':
    main()
