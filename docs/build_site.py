"""Writes the pages and both notebooks as one static site with search: `make site`.

    .venv-site/bin/python docs/build_site.py SITE [DEMO]     # DEMO: a folder of `export.py --format web`

The program copies the pages into a folder as they lie in the checkout, so that their relative links hold, writes the
notebooks as Markdown beside them and their formulas as MathML, which browsers show without a library, and calls MkDocs,
which checks each link and anchor. It is a hook of MkDocs as well (mkdocs.yml): `on_page_content` puts the formulas in.
"""
import base64
import glob
import json
import logging
import os
import re
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PAGES = ('README.md', 'README.zh-CN.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'LICENSE', 'samples/README.md',
         'docs/*.md', 'docs/*.png', 'docs/*.css', 'docs/*.txt', 'docs/figures/*.png', 'docs/figures/*.svg',
         'docs/old_models/build.py')
# Code first: a dollar in it is no formula.
FORMULA = re.compile(r'(```.*?```|`[^`\n]*`)|\$\$(.+?)\$\$|\$([^$\n]+(?:\n[^$\n]+)?)\$', re.DOTALL)
MARK = 'formula-%s-%d-end'


def notebook_page(path, folder):
    """A notebook as Markdown; its pictures go into `folder`, beside the page."""
    with open(path, encoding='utf-8') as stream:
        notebook = json.load(stream)
    name = os.path.basename(path)[:-len('.ipynb')]
    parts = []
    for cell in notebook['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            parts.append(source)
            continue
        parts.append('```python\n%s\n```' % source)
        printed = ''.join(''.join(output['text']) for output in cell['outputs'] if output['output_type'] == 'stream')
        if printed:
            parts.append('<div class="output" markdown="1">\n\n```text\n%s\n```\n\n</div>' % printed.rstrip('\n'))
        for output in cell['outputs']:
            data = output.get('data', {})
            for kind in ('png', 'gif'):
                if 'image/' + kind in data:
                    picture = '%s-%d.%s' % (name, len(parts), kind)
                    with open(os.path.join(folder, picture), 'wb') as stream:
                        stream.write(base64.b64decode(''.join(data['image/' + kind])))
                    parts.append('![](%s)' % picture)
                    break
    text = '\n\n'.join(parts).replace('<details>', '<details markdown="1">')
    # Jupyter's anchors are the headings with hyphens; MkDocs' are those of GitHub, as on all pages.
    return re.sub(r'\]\(#([^)]+)\)', lambda found: '](#%s)' % slug(found.group(1)), text)


def slug(heading):
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


def formulas(text):
    """TeX formulas of a text: what each stands for, whether it is a block."""
    return [(block or inline, bool(block)) for code, block, inline in FORMULA.findall(text) if not code]


def with_marks(text, name):
    """The text with a mark in place of each formula, so that Markdown leaves it alone."""
    count = iter(range(10 ** 6))
    return FORMULA.sub(lambda found: found.group(1) or MARK % (name, next(count)), text)


def on_page_content(html, page, **_):
    """MkDocs' hook: MathML for the marks of `with_marks`."""
    marked = os.path.join(os.path.dirname(page.file.abs_src_path), '.formulas.json')
    name = slug(os.path.basename(page.file.src_uri))
    if os.path.exists(marked):
        with open(marked, encoding='utf-8') as stream:
            for number, formula in enumerate(json.load(stream).get(name, ())):
                html = html.replace(MARK % (name, number), formula)
    return html


def assemble(folder, demo=None):
    """The pages, as MkDocs takes them, in `folder`."""
    from latex2mathml.converter import convert
    for pattern in PAGES:
        for path in glob.glob(os.path.join(ROOT, pattern)):
            target = os.path.join(folder, os.path.relpath(path, ROOT))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(path, target)
    found = {}
    for path in glob.glob(os.path.join(HERE, '*.ipynb')):
        text = notebook_page(path, os.path.join(folder, 'docs'))
        page = os.path.basename(path)[:-len('ipynb')] + 'md'
        found[slug(page)] = [
            convert(tex, display='block') if block else '<span class="formula">%s</span>' % convert(tex)
            if len(tex) > 40 else convert(tex) for tex, block in formulas(text)]
        with open(os.path.join(folder, 'docs', page), 'w', encoding='utf-8') as stream:
            stream.write(with_marks(text, slug(page)))
    with open(os.path.join(folder, 'docs', '.formulas.json'), 'w', encoding='utf-8') as stream:
        json.dump(found, stream)
    for path in glob.glob(os.path.join(folder, '**', '*.md'), recursive=True):
        with open(path, encoding='utf-8') as stream:
            text = stream.read()
        with open(path, 'w', encoding='utf-8') as stream:
            # GitHub begins a list after any line, Python's Markdown after an empty one.
            text = re.sub(r'^(#.*)\n(?=[-*] )', r'\1\n\n', text, flags=re.MULTILINE)
            stream.write(re.sub(r'(\]\([^)\s]*)\.ipynb', r'\1.md', text))
    if demo:
        shutil.copytree(demo, os.path.join(folder, 'demo'))


def main(argv):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    site = os.path.abspath(argv[0])
    logging.basicConfig(level=logging.WARNING, format='%(message)s')     # MkDocs' links that lead nowhere
    index = os.path.join(site, 'search', 'search_index.json')
    if os.path.isdir(site) and os.listdir(site) and not os.path.exists(index):
        sys.exit('%s: is no site, and would be replaced: name a new folder' % site)
    with tempfile.TemporaryDirectory() as folder:
        assemble(folder, *argv[1:])
        config = load_config(os.path.join(HERE, 'mkdocs.yml'), docs_dir=folder, site_dir=site)
        if len(argv) > 1:
            config.nav.insert(2, {'Try it': 'demo/index.html'})
        config.plugins.on_startup(command='build', dirty=False)
        build(config)
    print('%s: %d pages%s. To see it: %s -m http.server --directory %s' % (
        site, len(glob.glob(os.path.join(site, '**', '*.html'), recursive=True)),
        '' if len(argv) > 1 else ', without a model to try: make demo trains one', sys.executable, site))


if __name__ == '__main__':
    main(sys.argv[1:])
