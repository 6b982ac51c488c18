"""Exported folders: every file with every damage is refused in one line that names it."""
import json
import os
import shutil
import subprocess
import sys

import pytest

import export
from exporting import folders
from command_line import UserError
from exporting.manifest import Folder
from test_commands import ROOT, environment, run
from test_predict import random_run


def replaced(change):
    """A damage that puts `change(bytes)` into a file."""
    def damage(path):
        with open(path, 'rb') as stream:
            data = stream.read()
        with open(path, 'wb') as stream:
            stream.write(change(data))
    return damage


def instead(make):
    """A damage that puts something else in the place of a file."""
    def damage(path):
        os.unlink(path)
        make(path)
    return damage


DAMAGES = {
    'missing': os.unlink, 'empty': replaced(lambda data: b''),
    'cut short': replaced(lambda data: data[:len(data) // 2]), 'longer': replaced(lambda data: data + b'\n'),
    'a bit flipped': replaced(lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]),
    'without a line': replaced(lambda data: b'\n'.join(data.split(b'\n')[:-2] + data.split(b'\n')[-1:])),
    'of another file': replaced(lambda data: b'<pad>\n<unk>\n<s>\n</s>\na\n'),
    'a folder': instead(os.mkdir), 'a pipe': instead(os.mkfifo),
    'a link to nothing': instead(lambda path: os.symlink('nothing', path))}
MANIFESTS = {
    'not JSON': '{', 'a list': '[]', 'no files': '{"format": "global-attention export"}', 'deep': '[' * 100000,
    'files as a list': '{"format": "global-attention export", "files": []}',
    'endless digits': '{"format": "global-attention export", "files": %s}' % ('1' * 10 ** 7),
    'another format': '{"format": "global-attention run", "files": {}}',
    'hashes as numbers': '{"format": "global-attention export", "files": {"one": 1, "text/two": 2}}'}


class Run(object):
    """What `folders.new_folder` needs of a run."""

    def manifest(self):
        return {'files': {'weights.h5': 'ab'}}


@pytest.fixture
def folder(tmp_path):
    """A small exported folder."""
    with folders.new_folder(str(tmp_path / 'folder'), 'web', Run()) as hidden:
        os.makedirs(os.path.join(hidden, 'text'))
        for name in ('one', 'text/two'):
            with open(os.path.join(hidden, name), 'wb') as stream:
                stream.write(b'first\nsecond\n')
    return tmp_path / 'folder'


def test_a_whole_folder_is_read(folder):
    found = Folder(str(folder), UserError)
    assert sorted(found.files) == ['one', 'text/two'] and found.check() == 2 and found.check('two') == 1
    assert found.read_file('text/two') == b'first\nsecond\n'
    manifest = json.loads((folder / 'manifest.json').read_text(encoding='ascii'))
    assert (manifest['kind'], manifest['weights']) == ('web', 'ab')


@pytest.mark.parametrize('damage', sorted(DAMAGES))
@pytest.mark.parametrize('name', ['one', 'text/two'])
def test_each_damage_of_a_file_is_refused_and_the_other_file_is_read(folder, name, damage):
    DAMAGES[damage](str(folder / name))
    found = Folder(str(folder), UserError)
    for call in (found.check, lambda: found.read_file(name)):
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value).startswith('%s: ' % (folder / name)) and '\n' not in str(caught.value)
    assert found.read_file({'one': 'text/two', 'text/two': 'one'}[name]) == b'first\nsecond\n'


def test_a_file_that_the_manifest_does_not_have_is_not_read(folder):
    (folder / 'tokenizer.source.model').write_bytes(b'x')
    with pytest.raises(UserError, match='tokenizer.source.model: is not in manifest.json'):
        Folder(str(folder), UserError).read_file('tokenizer.source.model')


@pytest.mark.parametrize('damage', ['missing', 'empty', 'cut short', 'of another file', 'a folder', 'a pipe',
                                    'a link to nothing'])
def test_each_damage_of_the_manifest_is_refused(folder, damage):
    DAMAGES[damage](str(folder / 'manifest.json'))
    with pytest.raises(UserError, match='^%s: ' % (folder / 'manifest.json')):
        Folder(str(folder), UserError)


@pytest.mark.parametrize('kind', sorted(MANIFESTS))
def test_other_json_is_no_manifest(folder, kind):
    (folder / 'manifest.json').write_text(MANIFESTS[kind])
    with pytest.raises(UserError, match='^%s' % folder):
        Folder(str(folder), UserError).check()


def test_the_manifest_is_checked_without_this_program(folder):
    def check():
        done = subprocess.run([sys.executable, '-S', str(ROOT / 'exporting' / 'manifest.py'), str(folder)],
                              cwd=str(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        return done.returncode, done.stdout.decode('ascii'), done.stderr.decode('ascii')

    assert check() == (0, '%s: 2 files are as they were exported\n' % folder, '')
    DAMAGES['a bit flipped'](str(folder / 'one'))
    code, out, err = check()
    assert (code, out, err.count('\n')) == (1, '', 1) and err.startswith('%s: is not as it' % (folder / 'one'))


@pytest.mark.slow
def test_a_saved_model_has_a_manifest(tmp_path):
    export.main([str(random_run(tmp_path / 'run')), str(tmp_path / 'model')])
    assert list(Folder(str(tmp_path / 'model'), UserError).files) == ['saved_model.pb']
    DAMAGES['a bit flipped'](str(tmp_path / 'model' / 'saved_model.pb'))
    with pytest.raises(UserError, match='saved_model.pb: is not as it was exported'):
        Folder(str(tmp_path / 'model'), UserError).check()


@pytest.mark.slow
def test_an_onnx_folder_refuses_each_damage_of_each_file(tmp_path, summary):
    for name in ('onnx', 'onnxruntime'):
        pytest.importorskip(name, reason='%s is not installed: make onnx' % name)
    pairs = ''.join('%s b c\t%s d\n' % (word, word) for word in ('aa', 'ab', 'ba', 'bb') * 9)
    (tmp_path / 'train.tsv').write_text(pairs)
    result = run('train.py', '--train', 'train.tsv', '--run', 'run', '--source-tokenizer', 'unigram',
                 '--target-tokenizer', 'bpe', '--source-vocabulary', '270', '--target-vocabulary', '270',
                 '--units', '4', '--embedding', '4', '--epochs', '1', '--threads', '1', cwd=tmp_path)
    assert result.code == 0, result.stderr
    export.main(['--format', 'onnx', str(tmp_path / 'run'), str(tmp_path / 'whole')])
    files, tried = sorted(Folder(str(tmp_path / 'whole'), UserError).files) + ['manifest.json'], 0
    assert {'config.json', 'step.onnx', 'settings.py', 'tokenizer.source.model', 'vocab.target.txt'} < set(files)

    def translate(folder):
        done = subprocess.run([sys.executable, 'translate.py'], cwd=str(folder), input=b'aa b\n',
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        return done.returncode, done.stdout, done.stderr.decode('utf-8')

    code, expected, _ = translate(tmp_path / 'whole')
    assert code == 0 and expected.count(b'\n') == 1
    for name in files:
        for damage in sorted(DAMAGES):
            # Python itself reads translate.py, before that can check anything.
            if name == 'translate.py' and damage != 'longer':
                continue
            shutil.copytree(str(tmp_path / 'whole'), str(tmp_path / 'damaged'),
                            ignore=shutil.ignore_patterns('__pycache__'))
            DAMAGES[damage](str(tmp_path / 'damaged' / name))
            code, out, err = translate(tmp_path / 'damaged')
            shutil.rmtree(str(tmp_path / 'damaged'))
            if name == 'manifest.json' and damage in ('longer', 'a bit flipped'):  # may be the same JSON
                assert (code, out) in ((0, expected), (1, b''))
                continue
            assert (code, out, err.count('\n')) == (1, b'', 1), (name, damage, err)
            named = 'exporting' if name.startswith('exporting/') else name
            assert err.startswith('translate.py: %s' % (tmp_path / 'damaged' / named)), (name, damage, err)
            tried += 1
    summary('ONNX folder: %d damages of %d files refused' % (tried, len(files)))
