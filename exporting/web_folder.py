"""The files of a folder that translates in a web page: a page, its program, the ONNX graphs and onnxruntime-web."""
import base64
import hashlib
import json
import os

from command_line import UserError
from exporting import web_runtime
from exporting.character_sets import character_sets
from reports.alignment_page import EAST_ASIAN, EAST_ASIAN_RANGE, PAGE_SCRIPTS, PAGE_STYLES, fill_template, read_part
from reports.page_font import font_subset
from storage.files import to_json

HERE = os.path.dirname(os.path.abspath(__file__))
# In the order of their loading: each uses names of those before it.
SCRIPTS = ('subwords.js', 'tokenizers.js', 'vocabulary.js', 'model.js', 'search.js', 'files.js', 'web_engine.js')
# The page sends nothing to any other host, and reads only from this folder.
POLICY = ("default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; font-src 'self'; "
          "connect-src 'self'; worker-src 'self'; img-src data:; base-uri 'none'; form-action 'none'")
MESSAGE = ('Loading … If nothing happens: this page needs a web server. In its folder run "python3 -m http.server" and '
           'open http://localhost:8000/')
# Browsers name languages themselves.
LANGUAGE_NAMES = ('中文英语德语法语西班牙语意大利语荷兰语葡萄牙语瑞典语日语韩语希腊语希伯来语泰语俄语乌克兰语波兰语捷克语阿拉伯语土耳其语'
                  '丹麦语芬兰语挪威语匈牙利语罗马尼亚语保加利亚语越南语印度尼西亚语印地语波斯语')
FONT = '@font-face { font-family: "Embedded"; src: url(font.ttf); unicode-range: %s }\n' % EAST_ASIAN_RANGE


def check_run(settings, path):
    """Refuses a run whose texts a page cannot divide into tokens.

    # Raises
        UserError
    """
    if settings.source_tokenizer == 'jieba':
        raise UserError('%s: a page does not have the dictionary of --source-tokenizer jieba, and cannot divide texts: '
                        'use --format onnx' % path)


def web_files(graphs, about):
    """All files of the folder but its manifest, {name: bytes}.

    # Arguments
        graphs: {name: bytes}: `encoder.onnx`, `step.onnx`, `config.json`, the vocabularies and subword models.
        about: dict as `page_about.about_run` returns it.

    # Raises
        UserError: onnxruntime-web is not there.
    """
    runtime = web_runtime.runtime_files()
    files = dict(graphs)
    config = json.loads(files['config.json'].decode('utf-8'))
    files['config.json'] = to_json(dict(config, characters=character_sets(), about=about))
    scripts = [(name, read_part(name)) for name in PAGE_SCRIPTS] + [
        (name, _read(name)) for name in SCRIPTS] + [('translation_page.js', read_part('translation_page.js'))]
    scripts = [(name, text.encode('utf-8')) for name, text in scripts]
    styles = FONT + ''.join(map(read_part, PAGE_STYLES + ('translation_page.css',)))
    files.update(runtime)
    files.update(scripts)
    files['style.css'] = styles.encode('utf-8')
    shown = b''.join(data for _, data in scripts) + files['vocab.source.txt'] + files['vocab.target.txt']
    files['font.ttf'] = font_subset(sorted(set(EAST_ASIAN.findall(shown.decode('utf-8') + LANGUAGE_NAMES))))
    if not files['font.ttf']:
        del files['font.ttf']
        files['style.css'] = files['style.css'].replace(FONT.encode('utf-8'), b'')
    tag = '<script defer src="%s" integrity="%s"></script>'
    page = fill_template('translation_page.html', {
        '<!--HEAD-->': '<meta http-equiv="Content-Security-Policy" content="%s">' % POLICY,
        '<!--STYLE-->': '<link rel="stylesheet" href="style.css" integrity="%s">\n'
                        '<link rel="modulepreload" href="%s" integrity="%s">' % (
                            integrity(files['style.css']), web_runtime.PART, integrity(runtime[web_runtime.PART])),
        '<!--MESSAGE-->': MESSAGE,
        '<!--SCRIPT-->': '\n'.join(tag % (name, integrity(data)) for name, data in
                                   [(web_runtime.SCRIPT, runtime[web_runtime.SCRIPT])] + scripts)})
    files['index.html'] = page.encode('utf-8')
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    version = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode('ascii')).hexdigest()[:16]
    files['service_worker.js'] = _read('service_worker.js').replace('"FILES"', json.dumps(hashes)).replace(
        '"VERSION"', json.dumps(version)).encode('utf-8')
    return files


def integrity(data):
    """The attribute by which a browser refuses other bytes (Subresource Integrity)."""
    return 'sha384-' + base64.b64encode(hashlib.sha384(data).digest()).decode('ascii')


def _read(name):
    with open(os.path.join(HERE, 'web', name), encoding='utf-8', newline='\n') as stream:
        return stream.read()
