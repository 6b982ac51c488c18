"""Folders of `export.py --format web` on a web server of this process, and their model asked through Chromium."""
import contextlib
import functools
import http.server
import os
import threading

import pytest

from exporting import web_runtime

CHUNK = 20  # texts of one call: Chromium ends a script after 30 seconds


def need_runtime():
    """Skips a test where onnxruntime-web has not been brought."""
    if not os.path.exists(web_runtime.PACKAGE):
        pytest.skip('onnxruntime-web is not there: make web')


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line on stderr for each."""

    extensions_map = dict(http.server.SimpleHTTPRequestHandler.extensions_map, **{
        '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm'})

    def translate_path(self, path):
        path = path.split('?', 1)[0].lstrip('/')
        return '%s/%s' % (self.server.folder, path or 'index.html')

    def end_headers(self):
        self.send_header('Cache-Control', 'no-store')
        super().end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """The address of a folder. Its server's `folder` may be changed."""
    server = http.server.HTTPServer(('127.0.0.1', 0), Quiet)
    server.folder = str(folder)
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.05))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def address(server):
    return 'http://127.0.0.1:%d/' % server.server_address[1]


def open_page(browser, server, query=''):
    """Opens the page of a folder, and waits for its model."""
    browser.open_address(address(server) + query)
    browser.wait_for('return typeof engine !== "undefined" && Boolean(engine.model) || '
                     'document.getElementById("message").className === "error"')


def ask(browser, texts, **options):
    """The hypotheses of the page's model for each text."""
    found = []
    for start in range(0, len(texts), CHUNK):
        found += browser.run(
            'return (async () => { const found = [];'
            'for (const text of arguments[0]) {'
            'found.push((await engine.translate("", text, arguments[1])).hypotheses); } return found; })()',
            texts[start:start + CHUNK], options)
    return found
