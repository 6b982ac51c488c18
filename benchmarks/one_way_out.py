"""One way out of this program as a process of its own, for `ways_out.py`; runs in the Python that this way needs.

    one_way_out.py KIND FOLDER LINES.json BEAM_WIDTH

It loads, writes "ready", and for each number N on standard input translates the first N lines and writes the seconds
and the processor seconds. An empty line ends it: it writes its last outputs, a list of tokens for each line.
"""
import json
import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BATCH = 32
processor_time = [time.process_time]    # of the process that translates


def predict(folder, width):
    """`Translator`, as predict.py uses it."""
    sys.path.insert(0, ROOT)
    from translator import Translator
    loaded = Translator.load(folder, threads=1)
    return lambda texts, tokens: [found[0].tokens for found in loaded.translate(texts, beam_width=width)]


def onnx(folder, width):
    sys.path.insert(0, folder)
    from translate import Translator
    loaded = Translator(folder, threads=1)
    return lambda texts, tokens: [found[0].tokens for found in loaded.translate(texts, beam_width=width)]


def saved_model(folder, width):
    """A SavedModel that was exported with this beam width, in batches sorted by length."""
    import tensorflow as tf
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    session = tf.Session(graph=tf.Graph(), config=config)
    signature = tf.saved_model.loader.load(session, ['serve'], folder).signature_def['serving_default']
    (name, given), = signature.inputs.items()

    def translate(texts, tokens):
        order, results = sorted(range(len(texts)), key=lambda i: -len(tokens[i])), [None] * len(texts)
        for start in range(0, len(order), BATCH):
            batch = order[start:start + BATCH]
            rows = [texts[i] if name == 'text' else tokens[i] for i in batch]
            if name != 'text':
                rows = [row + [''] * (len(rows[0]) - len(row)) for row in rows]
            for i, words in zip(batch, session.run(signature.outputs['tokens'].name, {given.name: rows})):
                results[i] = [word.decode('utf-8') for word in words[0] if word]
        return results
    return translate


def serve(folder, width):
    """serve.py on one thread, with requests of 32 lines, one after the other."""
    import http.client
    import socket
    import subprocess
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, os.path.join(ROOT, 'serve.py'), '--run', folder, '--threads', '1',
                               '--port', str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def server_time():
        with open('/proc/%d/stat' % server.pid) as stream:
            fields = stream.read().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / float(os.sysconf('SC_CLK_TCK'))

    def post(texts):
        connection = http.client.HTTPConnection('127.0.0.1', port)
        connection.request('POST', '/translate', json.dumps({'text': texts, 'beam_width': width, 'alignments': False}),
                           {'Content-Type': 'application/json'})
        answer = json.loads(connection.getresponse().read().decode('utf-8'))
        return [one['hypotheses'][0]['tokens'] for one in answer['results']]

    processor_time[0] = server_time
    while True:
        try:
            post(['.'])
            break
        except ConnectionError:
            if server.poll() is not None:
                raise
            time.sleep(.2)

    def translate(texts, tokens):
        if not texts:
            server.terminate()
        return [found for start in range(0, len(texts), BATCH) for found in post(texts[start:start + BATCH])]
    return translate


def keras3(folder, width):
    """docs/port_keras3, sentence by sentence."""
    sys.path.insert(0, os.path.join(ROOT, 'docs', 'port_keras3'))
    from model import load
    from search import translate
    model, bundle = load(folder)
    return lambda texts, tokens: [translate(model, bundle, row, beam_width=width)[0].tokens for row in tokens]


def pytorch(folder, width):
    """docs/port_example: greedy search on batches sorted by length."""
    sys.path.insert(0, os.path.join(ROOT, 'docs', 'port_example'))
    import numpy as np
    import torch
    import port
    torch.set_num_threads(1)
    with open(os.path.join(folder, 'MANIFEST.json'), encoding='utf-8') as stream:
        settings = json.load(stream)['files']['run.npz']['model']
    with np.load(os.path.join(folder, 'run.npz'), allow_pickle=False) as arrays:
        arrays = dict(arrays)
    model = port.Port(settings, port.parameters_of(arrays))
    index = {word: i for i, word in enumerate(arrays['vocabulary/source'])}

    def translate(texts, tokens):
        order, results = sorted(range(len(tokens)), key=lambda i: -len(tokens[i])), [None] * len(tokens)
        for start in range(0, len(order), BATCH):
            rows = [[index.get(word, 1) for word in tokens[i]] for i in order[start:start + BATCH]]
            source = torch.tensor([row + [0] * (len(rows[0]) - len(row)) for row in rows])
            with torch.no_grad():
                found = model.greedy(source, torch.tensor([2 * len(row) + 10 for row in rows]))['ids'].tolist()
            for i, ids in zip(order[start:start + BATCH], found):
                results[i] = [arrays['vocabulary/target'][id_] for id_ in ids if id_ not in (0, port.END)]
        return results
    return translate


def main(kind, folder, lines, width):
    translate = {'predict': predict, 'onnx': onnx, 'saved_model': saved_model, 'serve': serve, 'keras3': keras3,
                 'pytorch': pytorch}[kind](folder, int(width))
    with open(lines, encoding='utf-8') as stream:
        texts, tokens = json.load(stream)
    translate(texts[:2], tokens[:2])
    print('ready', flush=True)
    for line in iter(sys.stdin.readline, '\n'):
        count, start, busy = int(line), time.perf_counter(), processor_time[0]()
        outputs = translate(texts[:count], tokens[:count])
        print(time.perf_counter() - start, processor_time[0]() - busy, flush=True)
    translate([], [])
    print(json.dumps(outputs), flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
