import json
import os
import re
import shutil
import subprocess
import sys

import tf_session  # first: it fixes the import order
import numpy as np
import pytest
import tensorflow as tf
from keras import backend as K
from text.batches import pad
from text.vocabulary import Vocabulary
import beam_search
from storage.run_directory import RunDirectory
from settings import defaults, with_defaults
from seq2seq_model import Seq2Seq
from small_models import set_weights
from test_commands import ROOT


def python_blocks(name):
    """The ```python blocks of a page, each with the lines before it blank, so that errors name the right line."""
    with open(os.path.join(ROOT, name), encoding='utf-8') as file:
        text = file.read()
    return ['\n' * text[:found.start(1)].count('\n') + found.group(1)
            for found in re.finditer(r'^```python\n(.*?)^```', text, re.DOTALL | re.MULTILINE)]


@pytest.mark.slow
def test_the_keras_idiom_gives_the_outputs_of_greedy_search_for_the_same_run(tmp_path, monkeypatch, capsys):
    words = Vocabulary(['<pad>', '<unk>', '<s>', '</s>'] + 'we like the coat that your grandmother bought'.split())
    config = dict(defaults(), units=6, embedding=5, score='general', threads=1)
    # A real run directory without training. The seed gives outputs of several lengths, without <pad> and <s>, which the
    # idiom does not exclude.
    monkeypatch.chdir(tmp_path)
    vocabularies = {'vocab.%s.txt' % side: words.to_bytes() for side in ('source', 'target')}
    with RunDirectory.create('runs/translate', config, vocabularies, {}) as run, tf_session.temporary(threads=1):
        model = Seq2Seq(with_defaults(config), len(words), len(words))
        set_weights(model, seed=54, scale=3.)
        run.write_weights([(layer.name, [(weight.name, value) for weight, value in
                                         zip(layer.weights, K.batch_get_value(layer.weights))])
                           for layer in model.training_model.layers if layer.weights])
        limits = tf.placeholder(tf.int32, [None])
        found = beam_search.greedy(model.step, model.start(), limits)
        sources = [[4, 5, 6, 7, 8, 9, 4, 10, 11], [6, 1], [9], [8, 8, 4, 7]]
        expected = K.get_session().run(found, {model.source: pad(sources), limits: [9] * 4})

    example = {}
    with tf_session.opened(tf_session.new_session(threads=1)):  # not closed: Keras' functions outlive the models
        for block in python_blocks('docs/keras_idiom.md'):
            assert len(block.strip().split('\n')) <= 60
            exec(compile(block, 'docs/keras_idiom.md', 'exec'), example)
        for row, source in enumerate(sources):
            ids, alignment = example['translate'](example['encoder'], example['decoder'], source, 9)
            length = expected.lengths[row, 0]
            assert ids == expected.ids[row, 0, :length].tolist()
            assert np.max(np.abs(alignment - expected.weights[row, 0, :length, :len(source)])) < 1e-6
    assert len(set(expected.lengths[:, 0])) >= 3
    assert capsys.readouterr().out.split() == words.decode(example['ids'])


@pytest.mark.slow
@pytest.mark.parametrize('page', ['README.md', 'README.zh-CN.md'])
def test_the_layer_of_the_readme_trains_and_attends_to_valid_positions_only(page):
    block, = python_blocks(page)
    example = {}
    draw = np.random.RandomState(2)
    source, target = draw.randint(1, 1000, (4, 7)), draw.randint(1, 1000, (4, 5))
    source[0, 3:] = 0
    with tf_session.opened(tf_session.new_session(threads=1)):  # not closed, as above
        tf_session.seed_weights(1)
        exec(compile(block, page, 'exec'), example)
        model, batch = example['model'], ([source, target], target[:, :, None])
        before = model.test_on_batch(*batch)
        for _ in range(30):
            model.train_on_batch(*batch)
        after = model.test_on_batch(*batch)
        weights = example['alignment'].predict([source, target])
    assert after[0] < 0.9 * before[0] and after[1] > before[1]
    assert np.allclose(weights.sum(axis=2), 1) and (weights[0, :, 3:] == 0).all() and (weights[0, :, :3] > 0).all()


def commands(page):
    """The commands of a page's indented blocks, in order, without comments."""
    with open(os.path.join(ROOT, page), encoding='utf-8') as file:
        lines = file.read().splitlines()
    return [re.sub(r'\s+#.*', '', line[4:]) for line in lines
            if re.match('    (make|docker|mkdir|cut|echo|[.]venv) ?', line)]


def test_both_readmes_have_the_same_commands_and_figures():
    def figures(page):
        with open(os.path.join(ROOT, page), encoding='utf-8') as file:
            return re.findall(r'[0-9]+:[0-9]+|[0-9]+[.][0-9]+(?: %)?', file.read().split('Map\n')[-1].split('目录结构')[-1])

    assert commands('README.md') == commands('README.zh-CN.md') and len(commands('README.md')) > 20
    assert figures('README.md') == figures('README.zh-CN.md') and len(figures('README.md')) > 8


def test_the_files_that_the_pages_name_exist():
    pages = ['README.md', 'README.zh-CN.md', 'CONTRIBUTING.md', 'CHANGELOG.md'] + [
        'docs/' + path.name for path in (ROOT / 'docs').glob('*.md')]
    rooms = '|'.join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] not in '._')
    named = [(page, name) for page in pages for name in re.findall(
        r'(?<![\w/.-])((?:%s)/[\w/.-]*\w[.]\w+)' % rooms, (ROOT / page).read_text(encoding='utf-8'))]
    assert len(named) > 100
    known = [(page, name) for page, name in named if not name.startswith(('runs/', 'folder/'))]
    assert [(page, name) for page, name in known if not (ROOT / name).exists()] == []


def prose(path):
    """The Markdown of a page or of a notebook's text cells, without code."""
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.ipynb':
        text = '\n\n'.join(''.join(cell['source']) for cell in json.loads(text)['cells']
                           if cell['cell_type'] == 'markdown')
    return re.sub(r'`[^`\n]*`', '', re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE))


def anchors(path):
    """The anchors of a page's headings: as GitHub makes them, or as Jupyter does for a notebook."""
    headings = re.findall(r'^#+ +(.*?) *$', re.sub(r'^```.*?^```', '', path.read_text(encoding='utf-8'),
                                                   flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    if path.suffix == '.ipynb':
        return {heading.replace(' ', '-') for heading in re.findall(r'^#+ +(.*?) *$', prose(path), re.MULTILINE)}
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def test_relative_links_lead_to_files_and_headings_that_exist():
    pages = [path for pattern in ('*.md', 'docs/**/*.md', 'docs/*.ipynb', '*/README.md') for path in ROOT.glob(pattern)]
    links = [(page, link) for page in sorted(set(pages)) for link in re.findall(r'\]\(([^)\s]+)\)', prose(page))
             if not re.match('[a-z]+:', link)]
    assert len(links) > 120
    wrong = []
    for page, link in links:
        name, _, anchor = link.partition('#')
        target = page.parent / name if name else page
        if not target.exists() or anchor and anchor not in anchors(target):
            wrong.append('%s: %s' % (page.relative_to(ROOT), link))
    assert wrong == []


def copy_checkout(checkout):
    """Copies the files of the project into a new folder, with this interpreter as `.venv/bin/python`."""
    listed = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    files = subprocess.check_output(listed, cwd=str(ROOT))
    for name in filter(None, files.decode().split('\0')):
        if os.path.isfile(os.path.join(str(ROOT), name)):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.join(str(ROOT), name), str(checkout / name))
    (checkout / '.venv' / 'bin').mkdir(parents=True)
    (checkout / '.venv' / 'bin' / 'python').write_text('#!/bin/sh\nexec %s "$@"\n' % sys.executable)
    (checkout / '.venv' / 'bin' / 'python').chmod(0o755)


@pytest.mark.slow
def test_the_commands_of_the_readme_run_in_order_from_a_fresh_checkout(tmp_path):
    """All commands except Docker's, in a copy of the checkout. Trainings have one epoch of a small model, and `make` is
    replaced by its commands; everything else runs as written."""
    checkout = tmp_path / 'checkout'
    copy_checkout(checkout)
    small = ' --epochs 1 --units 16 --embedding 16'
    # An outer `make` passes its flags on: with them `make -n` would also print the directory.
    own = {name: value for name, value in os.environ.items() if name not in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS')}
    for command in commands('README.md'):
        if command.startswith('docker') or command in ('make test', 'make reference-check'):
            continue
        for line in (subprocess.check_output(['make', '-n', 'demo'], cwd=ROOT, env=own).decode().splitlines()[1:]
                     if command.startswith('make demo') else [command]):
            line = re.sub('(train.py.*)', r'\1' + small, re.sub(r'--epochs \d+', '', line))
            done = subprocess.run(line, shell=True, cwd=str(checkout), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert done.returncode == 0, (line, done.stderr.decode())
