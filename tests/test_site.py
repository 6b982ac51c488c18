"""The static site of `make site`."""
import json
import os
import re
import subprocess
import sys

import pytest

from test_commands import ROOT

DOCS = os.path.join(str(ROOT), 'docs')
SITE_PYTHON = ROOT / '.venv-site' / 'bin' / 'python'
sys.path.insert(0, DOCS)
try:
    import build_site
finally:
    del sys.path[0]


def test_each_page_has_a_place_in_the_navigation():
    listed = re.findall(r': ([\w./-]+\.md)$', (ROOT / 'docs' / 'mkdocs.yml').read_text(encoding='utf-8'), re.MULTILINE)
    pages = ['docs/' + name for name in os.listdir(DOCS) if name.endswith('.md')]
    notebooks = ['docs/' + name.replace('.ipynb', '.md') for name in os.listdir(DOCS) if name.endswith('.ipynb')]
    assert sorted(listed) == sorted(pages + notebooks + ['README.md', 'README.zh-CN.md', 'CHANGELOG.md',
                                                         'CONTRIBUTING.md', 'samples/README.md'])


def test_formulas_are_found_and_code_is_left_alone():
    text = 'a `$PATH` and $h_t$\n\n$$\na_t(s)\n= x\n$$\n\n```sh\necho $A $B\n```\n'
    assert build_site.formulas(text) == [('h_t', False), ('\na_t(s)\n= x\n', True)]
    marked = build_site.with_marks(text, 'page')
    assert [marked.count(build_site.MARK % ('page', number)) for number in range(3)] == [1, 1, 0]
    assert '$' not in re.sub('`[^`]+`', '', marked) and 'echo $A $B' in marked and '`$PATH`' in marked


def test_a_notebook_becomes_a_page_with_its_code_outputs_and_pictures(tmp_path):
    cells = [{'cell_type': 'markdown', 'source': ['# 1. Two: words\n', '[here](#1.-Two:-words)\n', '<details>']},
             {'cell_type': 'code', 'source': 'draw()', 'outputs': [
                 {'output_type': 'stream', 'name': 'stdout', 'text': ['5\n']},
                 {'output_type': 'display_data', 'data': {'image/png': 'AQID', 'text/plain': 'figure'}}]}]
    (tmp_path / 'one.ipynb').write_text(json.dumps({'cells': cells}), encoding='utf-8')
    page = build_site.notebook_page(str(tmp_path / 'one.ipynb'), str(tmp_path))
    assert '[here](#1-two-words)\n<details markdown="1">' in page
    assert '```python\ndraw()\n```' in page and '```text\n5\n```' in page and 'figure' not in page
    picture, = re.findall(r'!\[\]\((.*)\)', page)
    assert (tmp_path / picture).read_bytes() == bytes([1, 2, 3])


@pytest.mark.slow
def test_the_site_has_formulas_without_a_script_and_asks_no_other_server(tmp_path):
    if not SITE_PYTHON.exists():
        pytest.skip('needs the environment of make site')

    def build(*arguments):
        return subprocess.run([str(SITE_PYTHON), os.path.join(DOCS, 'build_site.py')] + [str(one) for one in arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    demo = tmp_path / 'demo'
    demo.mkdir()
    (demo / 'index.html').write_text('<p>a model</p>', encoding='utf-8')
    done = build(tmp_path / 'site', demo)
    assert done.returncode == 0, done.stdout.decode('utf-8')
    pages = {path.name: path.read_text(encoding='utf-8') for path in (tmp_path / 'site').glob('**/*.html')}
    for name in ('tutorial.html', 'tutorial.zh-CN.html'):
        assert pages[name].count('<math') == pages[name].count('</math>') > 30
        assert not re.search(r'formula-\w|\$\$', pages[name])
        assert len(re.findall('<details>\\s*<summary>[^<]+</summary>\\s*<div class="highlight">', pages[name])) == 4
    for name, page in pages.items():
        assert not re.search('<(?:script|img|iframe)[^>]*src=.?(?:https?:)?//|<link[^>]*href=.?(?:https?:)?//', page)
    assert 'href="demo/index.html"' in pages['README.zh-CN.html']
    entries = json.loads((tmp_path / 'site' / 'search' / 'search_index.json').read_text(encoding='utf-8'))['docs']
    assert any('softmax' in entry['text'] and entry['location'].startswith('docs/tutorial.zh-CN') for entry in entries)
    # What the user has in a folder is not replaced.
    assert build(demo).returncode == 1 and (demo / 'index.html').exists()
