"""Rules of the house that a program can check: directions of imports, names of modules, file lengths."""
import ast
import collections
import os
import re
import subprocess
import sys

import pytest

from command_line import VERSION
from test_commands import ROOT, trained  # noqa: F401

FLAT = ('attention', 'seq2seq_model', 'decoder_cell', 'token_loss', 'model_layers',
        'pointer_generator', 'beam_search', 'translator', 'settings', 'search_options', 'command_line', 'tf_session',
        'attention_windows')
PACKAGES = ('kernels', 'decoding', 'text', 'training', 'storage', 'reports', 'reference', 'parity', 'serving',
            'exporting', 'stories')
COMMANDS = ('train', 'predict', 'evaluate', 'export', 'regress', 'serve')
# From the top down: a module imports from lower rows, and a package from itself too.
LAYERS = (
    COMMANDS, ('exporting',), ('attention_windows', 'reference', 'serving'), ('translator', 'training'),
    ('decoding',), ('parity',), ('seq2seq_model',), ('kernels',),
    ('decoder_cell', 'pointer_generator', 'stories', 'token_loss'),
    ('model_layers', 'beam_search'), ('attention',), ('reports',), ('text',), ('storage',),
    ('tf_session',), ('search_options',), ('settings',), ('command_line',))
MOST_AT_THE_TOP = 20
LEVEL = {name: -number for number, row in enumerate(LAYERS) for name in row}
# Names that the project of a user is likely to have. `from translator import Translator` must work beside them.
USERS_NAMES = ('data', 'metrics', 'session', 'search', 'layers', 'memory', 'files', 'model', 'models', 'utils',
               'config', 'optimizer', 'tokenizers', 'plots', 'vocabulary', 'schedule')
MAXIMUM_LINES = 420


def python_files():
    if not (ROOT / '.git').exists():
        pytest.skip('no git checkout')
    names = subprocess.check_output(['git', 'ls-files', '--cached', '--others', '--exclude-standard', '*.py'],
                                    cwd=str(ROOT)).decode().split()
    return [name for name in names if os.path.exists(str(ROOT / name))]


@pytest.fixture(scope='module')
def sources():
    """{path: syntax tree} of the project's modules, without tests and stand-alone programs."""
    found = collections.OrderedDict()
    for name in python_files():
        top = name.split('/')[0]
        if top in PACKAGES or '/' not in name:
            found[name] = ast.parse((ROOT / name).read_text(encoding='utf-8'))
    return found


def imported(tree):
    """Top-level names of all that a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split('.')[0], node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split('.')[0], node.lineno


def test_imports_run_one_way(sources):
    wrong = []
    for path, tree in sources.items():
        own = path.split('/')[0].replace('.py', '')
        assert own in LEVEL, '%s: add it to LAYERS in %s' % (path, os.path.basename(__file__))
        for name, line in imported(tree):
            if name in LEVEL and name != own and LEVEL[name] >= LEVEL[own]:
                wrong.append('%s:%d imports %s' % (path, line, name))
    assert wrong == []


def test_no_module_imports_a_command(sources):
    wrong = [(path, name) for path, tree in sources.items() for name, _ in imported(tree) if name in COMMANDS]
    assert wrong == []


def test_attention_needs_keras_and_tensorflow_only(sources):
    assert {name for name, _ in imported(sources['attention.py'])} <= {'keras', 'tensorflow', 'collections', 'warnings'}


def test_text_needs_no_tensorflow_but_in_its_graph_module(sources):
    wrong = [path for path, tree in sources.items() if path.startswith('text/') and path != 'text/graph_text.py'
             for name, _ in imported(tree) if name in ('tensorflow', 'keras', 'tf_session')]
    assert wrong == []


def test_no_layer_is_a_lambda_layer(sources):
    """Keras cannot save a `Lambda` layer safely."""
    wrong = [path for path, tree in sources.items() for node in ast.walk(tree)
             if isinstance(node, ast.ImportFrom) and node.module.startswith('keras') and any(
                 alias.name == 'Lambda' for alias in node.names)]
    assert wrong == []


def test_strings_and_classes_have_one_style(sources):
    """Strings are formatted with `%`, as in Keras 2.2.4; a class names its base."""
    wrong = []
    for path, tree in sources.items():
        for node in ast.walk(tree):
            formats = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and (
                node.func.attr == 'format' and isinstance(node.func.value, ast.Str))
            if formats or isinstance(node, ast.JoinedStr) or isinstance(node, ast.ClassDef) and not node.bases:
                wrong.append('%s:%d' % (path, node.lineno))
    assert wrong == []


def test_a_file_has_one_job():
    """About 400 lines: a longer file has two jobs. Tests and generated files apart."""
    long = {}
    for name in python_files():
        lines = (ROOT / name).read_text(encoding='utf-8').count('\n')
        if not name.startswith('tests/') and lines > MAXIMUM_LINES:
            long[name] = lines
    assert long == {}


def test_top_level_names_are_not_those_of_a_users_modules(sources):
    own = {path.split('/')[0].replace('.py', '') for path in sources}
    assert own == set(FLAT) | set(PACKAGES) | (set(COMMANDS) & own)
    assert not own & set(USERS_NAMES)


def test_the_top_holds_what_is_read_beside_the_paper_and_what_is_run(sources):
    top = [path for path in sources if '/' not in path]
    assert len(top) <= MOST_AT_THE_TOP, top


def test_only_the_kit_asks_for_the_kind_of_kernels(sources):
    """`kernels.kit(settings)` chooses. `settings.py` names the choices and what they exclude."""
    wrong = ['%s:%d' % (path, node.lineno) for path, tree in sources.items() for node in ast.walk(tree)
             if isinstance(node, ast.Compare) and path != 'settings.py' and not path.startswith('kernels/')
             for side in [node.left] + node.comparators if isinstance(side, ast.Attribute) and side.attr == 'kernels']
    assert wrong == []


def run_beside_users_modules(folder, script):
    """Standard output of a script in a folder with modules of the names in `USERS_NAMES`."""
    for name in USERS_NAMES:
        (folder / (name + '.py')).write_text('raise RuntimeError("a module of the user")\n')
    (folder / 'script.py').write_text(script, encoding='utf-8')
    done = subprocess.run([sys.executable, 'script.py'], cwd=str(folder), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode('utf-8')


def test_the_imports_of_the_readme_work_beside_a_users_own_modules(tmp_path):
    assert run_beside_users_modules(tmp_path, 'from translator import Translator\nfrom attention import '
                                    'GlobalAttention\nprint(Translator.load.__name__)\n') == 'load\n'


@pytest.mark.slow
def test_the_python_examples_of_the_readme_run_beside_a_users_own_modules(trained, tmp_path):  # noqa: F811
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs' / 'translate').symlink_to(trained.path)
    search, layer = re.findall(r'^```(?:python)?\n(.*?)^```', readme, re.DOTALL | re.MULTILINE)
    lines = run_beside_users_modules(tmp_path, search).splitlines()
    assert len(lines) == 3 and all(line.endswith(')') for line in lines)
    assert run_beside_users_modules(tmp_path, layer + 'print(alignment.output_shape)\n') == '(None, None, None)\n'


@pytest.mark.parametrize('page', ['README.md', 'README.zh-CN.md'])
def test_the_readme_is_short(page):
    assert len((ROOT / page).read_text(encoding='utf-8').split('\n')) <= 131


def test_the_map_of_the_docs_names_every_page():
    pages = {path.name for path in (ROOT / 'docs').glob('*.md')} - {'README.md'}
    text = (ROOT / 'docs' / 'README.md').read_text(encoding='utf-8')
    assert {page for page in pages if '(%s)' % page not in text} == set()


def test_the_page_of_settings_is_that_of_the_table():
    sys.path.insert(0, str(ROOT / 'docs'))
    try:
        import settings_page
    finally:
        del sys.path[0]
    with open(settings_page.PATH, encoding='utf-8') as stream:
        assert stream.read() == settings_page.page(), 'run docs/settings_page.py'


def test_version_and_date_are_the_same_in_all_places():
    """`command_line.VERSION`, the newest entry of the CHANGELOG, and CITATION.cff."""
    changes, citation = ((ROOT / name).read_text(encoding='utf-8') for name in ('CHANGELOG.md', 'CITATION.cff'))
    version, date = re.search(r'^## (\S+) \((\S+)\)$', changes, re.M).groups()
    assert version == VERSION
    assert re.search('^version: (.*)$', citation, re.M).group(1) == version
    assert re.search("^date-released: '(.*)'$", citation, re.M).group(1) == date
