"""ONNX directories: the outputs of `translate.py` in a separate process, compared with those of `Translator`."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import export
from exporting import onnx_folder
import search_options
import web_pages
from browser import open_browser
from command_line import UserError
from exporting import web_folder
from exporting.manifest import write_manifest
from reports.page_about import about_run
from settings import SETTINGS
from text.json_lines import json_line
from test_commands import environment, one_line, run
from test_predict import random_run

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed: make onnx')
pytest.importorskip('onnx', reason='onnx is not installed: make onnx')

TEXTS = ['one two three', '', 'three', 'two unheard one of two three', 'one one', 'three three two one ' * 3]
# A story, several ends of a sentence, no question, no story, an unknown word in both, a second bar.
STORIES = ['one two ? | two three . one three two . three .', 'three | one . ? two', 'one two . three three', 'two ? |',
           'who ? | who two . one one', 'one | two | three . two', '| one two . one']
BEAM = ['--beam-width', '4', '--n-best', '3', '--length-penalty', '0.7']
KINDS = [
    (dict(), []), (dict(), BEAM + ['--coverage-penalty', '0.2', '--min-length', '2']),
    (dict(cell='gru', score='general', input_feeding=True, encoder_units=6), BEAM + ['--no-repeat-ngram', '2']),
    (dict(score='dot', encoder_layers=2, decoder_layers=2, residual=True, attention_scale=True), BEAM),
    (dict(score='scaled_dot', bidirectional=False, recurrent_activation='sigmoid', tie_embeddings=True), BEAM),
    (dict(score='concat', attention_normalize=True, attention_units=3, cell='gru', share_vocabulary=True), BEAM),
    (dict(score='location', max_source_length=12, embedding=3, tie_embeddings=True), BEAM),
    (dict(attention='local-m', window=1, long_sources='truncate', max_source_length=5), BEAM),
    (dict(attention='local-p', window=2, score='general'), BEAM),
    (dict(score='none', cell='gru', decoder_layers=2), BEAM),
    (dict(encoder='dmn', exact_match='state', hops=3, cell='gru', score='general', source_tokenizer='word'), BEAM),
    (dict(encoder='dmn', attention='local-p', window=1, input_feeding=True, encoder_layers=2, decoder_layers=2,
          residual=True, encoder_units=6, source_tokenizer='word'), []),
    (dict(encoder='dmn', exact_match='flag', score='additive', bidirectional=False, cell='gru',
          share_vocabulary=True, hops=2, source_tokenizer='word', target_tokenizer='word'),
     BEAM + ['--min-length', '15']),
    (dict(encoder='memory', hops=3, cell='gru', score='dot', source_tokenizer='word'), BEAM),
    (dict(encoder='memory', hops=1, exact_match='state', score='dot', share_vocabulary=True, decoder_layers=2,
          source_tokenizer='word', target_tokenizer='word'), []),
    (dict(hops=2, input_feeding=True, attention='local-m', score='dot'), BEAM + ['--length-penalty', 'average']),
    (dict(hops=3, copy=True, source_tokenizer='word', target_tokenizer='word'), BEAM),
    (dict(copy=True, source_tokenizer='word', target_tokenizer='word'), []),
    (dict(copy=True, source_tokenizer='word', target_tokenizer='word', cell='gru', score='general'),
     BEAM + ['--no-repeat-ngram', '1', '--max-length-ratio', '1.5'])]


def translate(folder, texts, *options, **changes):
    """translate.py in a process of its own, without this checkout on its path. texts: bytes."""
    return subprocess.run([sys.executable, 'translate.py'] + list(options), cwd=str(folder), input=texts,
                          env=environment(**changes), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def translated(folder, *options, texts=TEXTS):
    """The objects that translate.py writes for texts."""
    done = translate(folder, '\n'.join(texts).encode('utf-8') + b'\n', '--json', *options)
    assert done.returncode == 0, done.stderr.decode()
    lines = [json.loads(line) for line in done.stdout.decode('utf-8').splitlines()]
    assert [line['source'] for line in lines] == list(texts)
    return lines


@pytest.fixture(scope='module', params=KINDS, ids=str)
def exported(request, tmp_path_factory):
    """An ONNX folder of each kind of model; a translator of its run; texts, and its outputs for them."""
    from translator import Translator
    (changes, options), folder = request.param, tmp_path_factory.mktemp('exported')
    path = random_run(folder / 'run', **changes)
    export.main(['--format', 'onnx'] + options + [str(path), str(folder / 'folder')])
    asked = export.parse(options + ['x', 'y'])
    texts = STORIES if 'encoder' in changes else TEXTS
    with Translator.load(str(path), threads=1) as translator:
        outputs = translator.translate(texts, **search_options.merge(translator.settings, asked)._asdict())
        yield folder / 'folder', translator, texts, outputs


def compare(outputs, found, translator):
    """Asserts that outputs in JSON are those of the translator. Returns the number of texts with several."""
    several = 0
    for ours, theirs in zip(outputs, found):
        ours = [one for one in ours if one.ranking > -1e30]
        assert [one.text for one in ours] == [one['text'] for one in theirs]
        several += len(ours) > 1
        for one, other in zip(ours, theirs):
            assert one.tokens == other['tokens']
            assert np.allclose([one.score, one.ranking], [other['score'], other['ranking']], atol=2e-5)
            if translator.settings.score != 'none' and one.tokens:
                assert np.allclose(one.alignment, other['alignment'], atol=1e-5)
    return several


@pytest.mark.slow
def test_the_outputs_of_an_onnx_folder_are_those_of_predict(exported):
    folder, translator, texts, outputs = exported
    found = translated(folder, texts=texts)
    for text, ours, theirs in zip(texts, outputs, found):
        shape = json.loads(json_line(text, ours[0].source_tokens, ours))     # that of predict.py --json
        assert set(theirs) == set(shape) and theirs['source_tokens'] == shape['source_tokens']
        assert all(set(one) == set(shape['hypotheses'][0]) for one in theirs['hypotheses'])
        one, other = [line['hypotheses'][0]['alignment'] for line in (shape, theirs)]
        assert np.shape(one) == np.shape(other), (text, one, other)
    several = compare(outputs, [row['hypotheses'] for row in found], translator)
    assert several >= 4 or all(len(row) == 1 for row in outputs)


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """A browser, and a server of pages."""
    web_pages.need_runtime()
    with open_browser(tmp_path_factory.mktemp('browser')) as browser, web_pages.served('.') as server:
        yield browser, server


@pytest.mark.slow
def test_the_outputs_of_a_web_page_are_those_of_predict(exported, page, tmp_path):
    (folder, translator, texts, outputs), (browser, server) = exported, page
    graphs = {name: (folder / name).read_bytes() for name in os.listdir(str(folder))
              if name.endswith('.onnx') or name in onnx_folder.RUN_FILES + ('config.json',)}
    vocabularies = translator.source_vocabulary, translator.target_vocabulary
    for name, data in web_folder.web_files(graphs, about_run('run', translator.settings, vocabularies)).items():
        (tmp_path / name).write_bytes(data)
    write_manifest(str(tmp_path), 'web')
    server.folder = str(tmp_path)
    web_pages.open_page(browser, server)
    given = json.loads((folder / 'config.json').read_text(encoding='utf-8'))['search']
    compare(outputs, web_pages.ask(browser, texts, **given), translator)
    pairs = [(text, 'two one three one') for text in texts if text]
    forced = browser.run('return (async () => { const found = []; for (const [text, output] of arguments[0])'
                         'found.push((await engine.force("", text, output)).hypotheses); return found; })()', pairs)
    compare([[one] for one in translator.score(pairs)], forced, translator)
    assert browser.complaints() == []


@pytest.mark.slow
@pytest.mark.parametrize('source', ['jieba', 'space'])
def test_a_folder_needs_jieba_only_where_it_divides_sources(source, tmp_path):
    from translator import Translator
    words = ['研究生', '命', '研究', '生命', '昨天晚上', '，', '好', 'Python']
    path = random_run(tmp_path / 'run', words, source_tokenizer=source, target_tokenizer='jieba')
    export.main(['--format', 'onnx'] + BEAM + [str(path), str(tmp_path / 'folder')])
    texts = ['研究生命昨天晚上，Python好', '', '昨天晚上 好 ， 北京 研究 生命', '命好研究生 ，昨天晚上好']
    translator = Translator.load(str(path), threads=1)
    assert source == 'space' or translator.source_tokenizer.tokenize(texts[0])[:3] == ['研究', '生命', '昨天晚上']
    expected = [[one.text for one in row if one.ranking > -1e30]
                for row in translator.translate(texts, beam_width=4, n_best=3, length_penalty=.7)]
    assert len({word for row in expected for text in row for word in words if word in text}) >= 4
    rows = [[one['text'] for one in row['hypotheses']] for row in translated(tmp_path / 'folder', texts=texts)]
    assert rows == expected and sum(map(len, rows)) >= 8
    (tmp_path / 'hidden').mkdir()
    (tmp_path / 'hidden' / 'jieba.py').write_text('raise ImportError("no jieba")\n')
    done = translate(tmp_path / 'folder', texts[0].encode('utf-8') + b'\n', PYTHONPATH=tmp_path / 'hidden')
    if source == 'jieba':
        assert done.returncode == 1 and not done.stdout
        assert done.stderr == (b'translate.py: the tokenizer jieba needs the package jieba: '
                               b'python -m pip install jieba==0.42.1\n')
    else:
        assert done.returncode == 0 and done.stdout.decode('utf-8').splitlines() == rows[0]


@pytest.mark.parametrize('size', [5, 128, 10003])
def test_the_normaliser_counts_the_small_probabilities(size):
    import onnxruntime
    from onnx import TensorProto
    from exporting import onnx_graph
    graph, rng = onnx_graph.Graph({}), np.random.RandomState(0)
    graph.rename(onnx_graph.log_sum_exp(graph, 'x', size), 'y')
    model = graph.model({'x': (TensorProto.FLOAT, ['B', 'K', size])}, {'y': (TensorProto.FLOAT, ['B', 'K', 1])})
    x = rng.normal(-8., 1., (2, 3, size)).astype('f')
    x[:, :, 2] = 10.5                                          # nearly all of the probability
    found, = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {'x': x})
    assert np.allclose(found, np.log(np.exp(x.astype('d')).sum(axis=2, keepdims=True)), rtol=0, atol=5e-6)


def test_an_option_of_the_search_replaces_the_exported_one(tmp_path):
    path = random_run(tmp_path / 'run')
    export.main(['--format', 'onnx', str(path), str(tmp_path / 'folder')])
    assert {len(row['hypotheses']) for row in translated(tmp_path / 'folder')} == {1}
    wide = translated(tmp_path / 'folder', '--beam-width', '3', '--n-best', '2')
    assert [len(row['hypotheses']) for row in wide] == [2, 1, 2, 2, 2, 2]


def test_an_existing_directory_is_refused(tmp_path):
    path = random_run(tmp_path / 'run')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(UserError, match='exists already'):
        export.main(['--format', 'onnx', str(path), str(tmp_path / 'folder')])


def test_without_onnx_one_line_names_the_remedy(tmp_path):
    random_run(tmp_path / 'run')
    (tmp_path / 'onnx.py').write_text('raise ImportError("no onnx")\n')
    one_line(run('export.py', '--format', 'onnx', 'run', 'folder', cwd=tmp_path, PYTHONPATH=tmp_path), 'export.py',
             'make onnx')


@pytest.mark.parametrize('options, told', [
    (['--n-best', '3'], '--n-best 3 is more'), (['--beam-width', '0'], '--beam-width'),
    (['--length-penalty', 'mean'], '--length-penalty')])
def test_wrong_options_are_refused(tmp_path, options, told):
    path = random_run(tmp_path / 'run')
    export.main(['--format', 'onnx', str(path), str(tmp_path / 'folder')])
    done = translate(tmp_path / 'folder', b'one\n', '--beam-width', '2', *options)
    assert done.returncode == 2 and told in done.stderr.decode() and not done.stdout


def test_bad_lines_are_refused(tmp_path):
    path = random_run(tmp_path / 'run', score='location', max_source_length=2)
    export.main(['--format', 'onnx', str(path), str(tmp_path / 'folder')])
    for texts, told in ((b'one\n\xff\n', 'translate.py: standard input: line 2: not UTF-8'),
                        (b'one\none two three\n', 'translate.py: a source of 3 tokens is longer than the 2')):
        done = translate(tmp_path / 'folder', texts)
        assert done.returncode == 1 and done.stderr.decode().startswith(told) and not done.stdout
    whole = translate(tmp_path / 'folder', b'one two\none\n').stdout
    assert translate(tmp_path / 'folder', b'\xef\xbb\xbfone two\r\none').stdout == whole


def test_every_setting_of_the_model_is_tried():
    """Each value of a choice, and a value other than the default of every other setting that inference depends on."""
    not_of_inference = {'init_scale', 'init_from', 'keep_vocabulary', 'source_embeddings', 'target_embeddings'}
    for row in SETTINGS.values():
        if row.group in ('attention', 'model') and row.name not in not_of_inference:
            tried = {changes.get(row.name, row.default) for changes, _ in KINDS}
            if row.name in ('units', 'embedding'):      # random_run changes both
                continue
            assert tried >= set(row.choices) if row.choices else tried - {row.default}, row.name
