"""The page of `export.py --format web` in Chromium: a model of the samples, tokenisers, use, damage, no network."""
import hashlib
import json
import os
import random
import shutil
import socket

import numpy as np
import pytest

import export
import web_pages
from browser import DOWN, open_browser
from command_line import UserError
from exporting import web_runtime
from reports.page_about import languages
from settings import defaults
from test_commands import ROOT, one_line, run
from test_predict import random_run
from text.subwords import SubwordTokenizer
from text.tokenizers import make_tokenizer
from text.spacing_marks import MarkingTokenizer
from text.vocabulary import Vocabulary

pytest.importorskip('onnx', reason='onnx is not installed: make onnx')
SAMPLE = str(ROOT / 'samples' / 'translate' / 'test.tsv')


# Without a browser

def test_what_a_page_cannot_do_is_refused_in_one_line(tmp_path):
    random_run(tmp_path / 'run', source_tokenizer='jieba')
    one_line(run('export.py', '--format', 'web', 'run', 'page', cwd=tmp_path), 'export.py', 'run', 'jieba',
             '--format onnx')
    assert not (tmp_path / 'page').exists()


@pytest.mark.parametrize('data, told', [(None, 'make web'), (b'another package', 'is not onnxruntime-web')])
def test_without_the_right_package_one_line_names_the_remedy(tmp_path, monkeypatch, data, told):
    package = tmp_path / 'package.tgz'
    if data:
        package.write_bytes(data)
    monkeypatch.setattr(web_runtime, 'PACKAGE', str(package))
    with pytest.raises(UserError, match=told) as error:
        web_runtime.runtime_files()
    assert '\n' not in str(error.value)


def test_examples_belong_to_the_page():
    with pytest.raises(SystemExit) as ended:
        export.parse(['--examples', 'file', 'run', 'folder'])
    assert ended.value.code == 2


@pytest.mark.parametrize('train, source, target, expected', [
    (['data/train.de', 'data/train.en'], 'x', 'y', ['de', 'en']),
    (['a.fr.gz', 'b.fr.gz', 'a.pt.gz', 'b.pt.gz'], 'x', 'y', ['fr', 'pt']),
    (['train.tsv'], 'the of a to is that book', '的 一 书 a', ['en', 'zh']),
    (None, 'le les et un une est livre', '▁der ▁die das und ein ist', ['fr', 'de']),
    (None, 'the of a to is that', 'RED BLUE GREEN', None), (['train.src', 'train.ref'], 'x', 'y', None)])
def test_languages_are_named_where_they_are_sure(train, source, target, expected):
    settings = type('Settings', (object,), dict(defaults(), train=train))
    vocabularies = [Vocabulary(['<pad>', '<unk>', '<s>', '</s>'] + text.split()) for text in (source, target)]
    assert languages(settings, vocabularies) == expected


# In Chromium

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A page of a run of samples/translate, trained for a short time."""
    web_pages.need_runtime()
    path = tmp_path_factory.mktemp('web')
    for command in (['train.py', '--data', str(ROOT / 'samples' / 'translate'), '--run', 'run', '--epochs', '2',
                     '--units', '32', '--embedding', '32', '--threads', '2'],
                    ['export.py', '--format', 'web', 'run', 'page']):
        done = run(command[0], *command[1:], cwd=path)
        assert done.code == 0, done.stderr
    return path


@pytest.fixture(scope='module')
def page(folder, tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp('browser')) as browser, web_pages.served(folder / 'page') as server:
        browser.server = server
        yield browser


def opened(browser, query='?lang=en'):
    web_pages.open_page(browser, browser.server, query)
    browser.wait_for('return document.querySelector("tbody td") && !document.getElementById("message").textContent')
    return browser


@pytest.mark.slow
@pytest.mark.parametrize('width', [1, 5])
def test_outputs_are_those_of_predict_on_the_test_part_of_the_samples(folder, page, width):
    with open(SAMPLE, encoding='utf-8') as stream:
        lines = [line.split('\t')[0] for line in stream]
    (folder / 'text').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    done = run('predict.py', '--run', 'run', '--input', 'text', '--json', '--beam-width', width, '--n-best', width,
               cwd=folder)
    wanted = [json.loads(line)['hypotheses'] for line in done.stdout.decode('utf-8').splitlines()]
    found = web_pages.ask(opened(page), lines, beam_width=width, n_best=width)
    assert len(found) == len(wanted) == 400
    assert [[one['text'] for one in row] for row in found] == [[one['text'] for one in row] for row in wanted]
    for row, others in zip(found, wanted):
        for one, other in zip(row, others):
            assert np.allclose(one['score'], other['score'], atol=1e-4)
            assert not one['tokens'] or np.allclose(one['alignment'], other['alignment'], atol=1e-3)


ALPHABETS = ['ab é9.,:;\'"-’“”„‚()[]$%!?/#', '我爱学习。，“”—…Python 3.5 ', '‿▁ a.b‿c', 'नमस्ते हिन्दी ไทย',
             '\u200c\u200da\u0301 ٣.٤ ²½Ⅷ', '\x1c\x85\xa0\u3000\ufeff\u200b\tx', '😀👍🏽𠀀𐀀ﬃ\U0001f9ff', 'aaab__--',
             '<unk> <0x41> </s>']


def random_texts(count):
    draw = random.Random(1)
    letters = ''.join(ALPHABETS)
    texts = [''.join(draw.choice(draw.choice(ALPHABETS + [letters])) for _ in range(draw.randint(0, 12)))
             for _ in range(count)]
    everything = [chr(point) for point in range(0x20000) if not 0xD800 <= point < 0xE000]
    return texts + ['a'.join(everything[start:start + 64]) for start in range(0, len(everything), 64)]


@pytest.mark.slow
def test_texts_are_divided_and_joined_as_in_python(page):
    texts = random_texts(2000)
    scores = dict([('▁', -3.), ('a', -2.), ('b', -2.5), ('ab', -3.), ('▁a', -2.2), ('▁ab', -4.), ('我', -5.), ('爱', -5.),
                   ('我爱', -6.), ('aa', -2.1), ('aaa', -2.05), ('😀', -7.)])
    opened(page)
    page.run('return fetch("config.json").then(answer => answer.json()).then(config => {'
             'window.sets = new CharacterSets(config.characters); })')
    kinds = [(name, make_tokenizer(name), {'source_tokenizer': name}, None)
             for name in ('space', 'word', 'char', 'chinese')]
    kinds += [(name + ' with marks', MarkingTokenizer(make_tokenizer(name)),
               {'target_tokenizer': name, 'spacing_marks': True}, None) for name in ('word', 'chinese')]
    kinds += [(kind, SubwordTokenizer(kind, scores), {'source_tokenizer': kind},
               ''.join([kind + '\n'] + ['%s\t%r\n' % row for row in scores.items()])) for kind in ('bpe', 'unigram')]
    for name, tokenizer, settings, model in kinds:
        side = 'target' if 'target_tokenizer' in settings else 'source'
        for start in range(0, len(texts), 500):
            some = texts[start:start + 500]
            tokens = [tokenizer.tokenize(text) for text in some]
            draw = random.Random(start)
            # As a model may say them.
            mixed = [draw.sample(row, len(row)) for row in (row + ['<unk>'] * (model is None) for row in tokens)]
            found = page.run(
                'const one = makeTokenizer(arguments[0], arguments[1], sets, arguments[2] || undefined);'
                'return [arguments[3].map(text => one.tokenize(text)), arguments[4].map(row => one.detokenize(row))]',
                settings, side, model, some, mixed)
            assert found[0] == tokens, name
            assert found[1] == [tokenizer.detokenize(row) for row in mixed], name
    jieba = make_tokenizer('jieba')
    rows = [['研究生', '命', 'Python', '，', '好'], ['a', '昨天', 'b'], ['…', '—', '好']]
    assert page.run('const one = new JiebaTokenizer(sets); return arguments[0].map(row => one.detokenize(row))', rows) \
        == [jieba.detokenize(row) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize('size', [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000])
def test_hashes_are_sha256(page, size):
    opened(page)
    data = bytes(random.Random(size).randrange(256) for _ in range(size))
    assert page.run('return sha256(Uint8Array.from(arguments[0]))', list(data)) == hashlib.sha256(data).hexdigest()


def type_text(browser, text):
    browser.run('const text = document.getElementById("text"); text.value = arguments[0]; text.oninput()', text)


@pytest.mark.slow
@pytest.mark.parametrize('width, height, language', [(1280, 900, 'en'), (390, 844, 'zh')])
def test_the_page_is_used_by_mouse_and_keyboard(page, width, height, language):
    chinese = language == 'zh'
    page.emulate(width, height)
    try:
        opened(page, '?lang=' + language)
        assert page.texts('#title') == ['翻译：英语 → 中文 (run)' if chinese else 'Translation: English → Chinese (run)']
        text = page.run('return document.getElementById("text").value')
        assert text and text == page.texts('#examples button')[0], 'the first page is not empty'
        assert page.run('return document.activeElement.id') == 'text'
        page.press(*'the zorblax book')
        page.wait_for('return document.querySelectorAll(".source > *").length === 3')
        assert page.texts('#notices li') == [
            '模型不认识 1 个词（共 3 个）：zorblax' if chinese else '1 of 3 words are unknown to the model: zorblax']
        assert page.texts('.source .unknown bdi') == ['zorblax']
        assert page.texts('.legend .unknown') == ['未登录词' if chinese else 'unknown word']
        assert page.texts('.legend .copied') == [], 'no run copies'
        texts = page.texts('.outputs label bdi')
        assert len(texts) == 5
        assert page.run('return document.documentElement.scrollWidth') <= width
        assert page.run('return [...document.querySelectorAll("small")].map(e => e.getClientRects().length)') == [1] * 5
        page.click('.outputs label:nth-of-type(2)')
        page.press(DOWN)
        assert page.run('return document.querySelectorAll(".outputs input")[2].checked'), 'arrow keys'
        for role in ('button', 'textbox', 'combobox', 'slider', 'toolbar', 'radio'):
            assert page.named(role) and '' not in page.named(role), role
        page.click('#clear')
        assert page.texts('section:not([hidden])') == [] and page.texts('#notices li') == []
        assert page.run('return document.getElementById("legend").hidden')
        assert not page.run('return document.getElementById("hint").hidden')
        page.click('#examples button:nth-of-type(2)')
        page.wait_for('return document.querySelector("section:not([hidden])")')
        type_text(page, '')
        page.wait_for('return !document.querySelector("section:not([hidden])")')
        type_text(page, 'book ' * 101)
        page.wait_for('return document.querySelectorAll("#notices li").length')
        assert '101' in page.texts('#notices li')[0] and '100' in page.texts('#notices li')[0]
        type_text(page, 'book ' * 401)
        page.wait_for('return document.getElementById("message").className === "error"')
        assert '401' in page.texts('#message')[0] and '400' in page.texts('#message')[0]
        assert page.complaints() == []
    finally:
        page.emulate()


@pytest.mark.slow
def test_attention_grows_is_pinned_and_is_saved(page):
    opened(page)
    tokens, weights = page.texts('.output bdi'), page.run(
        'const {view} = [...views.values()][0]; return view.weights')
    page.run('const slider = document.querySelector("input[type=range]"); slider.value = 2; slider.oninput()')
    seen = 'return [...document.querySelectorAll(arguments[0])].map(e => getComputedStyle(e).visibility === "visible")'
    assert page.run(seen, '.output > *') == [t < 2 for t in range(len(tokens))]
    assert page.run(seen, 'tbody tr') == [t < 2 for t in range(len(tokens))]
    assert np.allclose(page.shades(), np.array(weights[1]) / 1000, atol=0.006), 'the last step that is shown'
    page.run('document.querySelector(".player button").focus()')
    page.press('\ue007')
    page.wait_for('return document.querySelectorAll(".later").length === 0 && '
                  'document.querySelector("input[type=range]").value > 3')
    page.click('.output > :nth-child(1)')
    page.hover('.output > :nth-child(3)')
    assert np.allclose(page.shades(), np.array(weights[2]) / 1000, atol=0.006)
    page.hover('#title')
    page.run('document.activeElement.blur()')
    assert np.allclose(page.shades(), np.array(weights[0]) / 1000, atol=0.006), 'what is pinned stays'
    assert page.run('return document.querySelectorAll("[aria-pressed=true]").length') == 1
    page.run('document.querySelector(".output > *").focus()')
    page.press('\ue00c')
    assert page.run('return document.querySelectorAll("[aria-pressed=true]").length') == 0, 'Escape'
    files = page.run(
        'const {view} = [...views.values()][0];'
        'const data = {sources: view.sources, tokens: view.hypothesis.tokens, weights: view.weights};'
        'return Promise.all(Object.values(ALIGNMENT_FILES).map(async make => {'
        'const bytes = new Uint8Array(await (await make(data)).arrayBuffer());'
        'return [bytes.length, [...bytes.slice(0, 4)], new TextDecoder().decode(bytes)]; }))')
    assert files[0][1] == [0x89, 0x50, 0x4e, 0x47] and files[0][0] > 3000
    assert files[1][2].startswith('<svg') and files[1][2].count('<rect') == 1 + len(tokens) * len(weights[0])
    rows = files[2][2].lstrip('\ufeff').split('\r\n')
    assert len(rows) == len(tokens) + 2
    assert rows[1].split(',') == [tokens[0]] + ['%.3f' % (weight / 1000) for weight in weights[0]]


@pytest.mark.slow
def test_another_output_is_forced(folder, page):
    opened(page)
    source = page.run('return document.getElementById("text").value')
    page.run('document.querySelector("details").open = true;'
             'document.querySelector(".forced input").value = "我爱书。";'
             'document.querySelector(".forced button").click()')
    page.wait_for('return document.querySelectorAll("details tbody tr").length === 4')
    (folder / 'pairs').write_text('%s\t我爱书。\n' % source, encoding='utf-8')
    done = run('predict.py', '--run', 'run', '--score-pairs', '--input', 'pairs', '--json', cwd=folder)
    score = json.loads(done.stdout.decode('utf-8'))['hypotheses'][0]['score']
    assert page.texts('details h2') == ['Forced output, score %.3f' % score]


@pytest.mark.slow
def test_a_link_carries_the_text_and_the_beam(page):
    opened(page)
    page.run('document.getElementById("beam").value = 3')
    type_text(page, 'the book & 100% #1 <b>')
    page.wait_for('return document.querySelector(".source bdi").textContent === "the" && '
                  'location.hash.includes("beam=3")')
    link = page.run('return document.getElementById("link").href')
    outputs = page.texts('.outputs bdi')
    browser_hash = link[link.index('#'):]
    opened(page, '?lang=en' + browser_hash)
    assert page.run('return document.getElementById("text").value') == 'the book & 100% #1 <b>'
    assert page.texts('.outputs bdi') == outputs and len(outputs) == 3
    assert page.run('return document.images.length') == 0


@pytest.mark.slow
def test_nothing_leaves_the_page_and_it_works_without_a_network(folder, tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp('offline')) as browser:
        with web_pages.served(folder / 'page') as server:
            browser.server = server
            opened(browser)
            browser.wait_for('return navigator.serviceWorker.ready.then(one => Boolean(one.active))')
            asked = browser.run('return performance.getEntriesByType("resource").map(e => e.name)')
            assert {name.split('/')[2] for name in asked} == {'127.0.0.1:%d' % server.server_address[1]}
            refused = browser.run('return fetch("http://127.0.0.1:9/").then(() => "sent", error => "refused")')
            assert refused == 'refused'
            assert any('Content Security Policy' in line for line in browser.complaints())
            type_text(browser, 'the book')
            browser.wait_for('return document.querySelectorAll(".source bdi").length === 2')
            later = browser.run('return performance.getEntriesByType("resource").map(e => e.name)')
            assert later == asked, 'no request after the page is loaded'
            port = server.server_address[1]
        with pytest.raises(OSError):
            socket.create_connection(('127.0.0.1', port), 2)
        opened(browser)
        assert len(browser.texts('.outputs label')) == 5, 'loaded again without a server'


@pytest.mark.slow
def test_a_damaged_file_is_refused_and_named(folder, tmp_path, tmp_path_factory):
    names = sorted(os.listdir(str(folder / 'page')))
    with open_browser(tmp_path_factory.mktemp('damaged')) as browser, web_pages.served(tmp_path) as server:
        for name in names:
            if name in ('index.html', 'font.ttf', 'service_worker.js'):
                continue  # the page itself; a picture of letters; what only keeps files, and checks each
            copy = tmp_path / name
            shutil.copytree(str(folder / 'page'), str(copy))
            data = (copy / name).read_bytes()
            (copy / name).write_bytes(data[:len(data) // 2] + b'\0' + data[len(data) // 2 + 1:])
            server.folder = str(copy)
            browser.send('/url', {'url': 'about:blank'})
            browser.send('/url', {'url': web_pages.address(server) + '?lang=en'})
            if name.endswith(('.onnx', '.txt', '.json', '.wasm')):
                told = browser.wait_for('const one = document.getElementById("message");'
                                        'return one && one.className === "error" && one.textContent')
                assert told.startswith(name + ': ') or name == 'manifest.json', (name, told)
            else:
                browser.wait_for('return document.readyState === "complete"')
                assert any('integrity' in line and name in line for line in browser.complaints()), name
            assert browser.texts('.outputs label') == [] or name == 'style.css', name
            browser.complaints()


@pytest.mark.slow
def test_the_folder_is_described_by_its_manifest(folder):
    files = json.loads((folder / 'page' / 'manifest.json').read_text(encoding='utf-8'))['files']
    assert set(files) == set(os.listdir(str(folder / 'page'))) - {'manifest.json'}
    for name, wanted in files.items():
        assert hashlib.sha256((folder / 'page' / name).read_bytes()).hexdigest() == wanted, name
