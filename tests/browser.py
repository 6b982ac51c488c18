"""A real browser for tests: headless Chromium, controlled by WebDriver's JSON protocol over urllib."""
import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

BROWSER = next(filter(None, map(shutil.which, ['chromium', 'chromium-browser', 'google-chrome', 'chrome'])), None)
DRIVER = shutil.which('chromedriver')
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars',
         '--window-size=1200,900']
TAB, HOME, END, LEFT, UP, RIGHT, DOWN = '\ue004', '\ue011', '\ue010', '\ue012', '\ue013', '\ue014', '\ue015'
ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'  # the key of an element's name, fixed by the standard


def rgba(css):
    """The numbers of `rgb(…)` or `rgba(…)`."""
    return [float(number) for number in css.split('(')[1].rstrip(')').split(',')]


class Browser:
    """The part of a WebDriver client that these tests need."""

    def __init__(self, port, folder):
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.address = 'http://127.0.0.1:%d/session' % port
        options = {'binary': BROWSER, 'args': FLAGS + ['--user-data-dir=' + str(folder)]}
        answer = self.send('', {'capabilities': {'alwaysMatch': {
            'browserName': 'chrome', 'goog:chromeOptions': options, 'goog:loggingPrefs': {'browser': 'ALL'}}}})
        self.address += '/' + answer['sessionId']

    def send(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode('ascii')
        request = urllib.request.Request(self.address + path, data, {'Content-Type': 'application/json'}, method=method)
        with self.opener.open(request, timeout=60) as answer:
            return json.loads(answer.read().decode('utf-8'))['value']

    def run(self, script, *args):
        return self.send('/execute/sync', {'script': script, 'args': list(args)})

    def element(self, selector):
        return self.run('return document.querySelector(arguments[0])', selector)

    def hover(self, selector):
        move = {'type': 'pointerMove', 'origin': self.element(selector), 'x': 0, 'y': 0, 'duration': 0}
        self.send('/actions', {'actions': [{'type': 'pointer', 'id': 'mouse', 'actions': [move]}]})

    def click(self, selector):
        self.send('/element/%s/click' % self.element(selector)[ELEMENT], {})

    def press(self, *keys):
        self.send('/actions', {'actions': [{'type': 'key', 'id': 'keys', 'actions': [
            {'type': kind, 'value': key} for key in keys for kind in ('keyDown', 'keyUp')]}]})

    def open(self, path):
        self.open_address('file://' + path)

    def open_address(self, address):
        self.send('/url', {'url': 'about:blank'})  # an address that differs in its fragment alone would not load again
        self.send('/url', {'url': address})
        self.wait_for('return document.getElementById("title").textContent')

    def wait_for(self, script, *args):
        """The first true value of a script."""
        deadline = time.time() + 30
        while True:
            value = self.run(script, *args)
            if value:
                return value
            assert time.time() < deadline, 'the page does not come to: ' + script
            time.sleep(0.05)

    def emulate(self, width=None, height=None, scheme=None):
        """Sets the size of the window and `light` or `dark`; without arguments, as at first."""
        if width:
            self.devtools('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1,
                          mobile=False)
        else:
            self.devtools('Emulation.clearDeviceMetricsOverride')
        self.devtools('Emulation.setEmulatedMedia',
                      features=[{'name': 'prefers-color-scheme', 'value': scheme}] if scheme else [])

    def devtools(self, command, **values):
        return self.send('/goog/cdp/execute', {'cmd': command, 'params': values})

    def named(self, role):
        """Names of all elements of a role, as assistive technology sees them."""
        return [node.get('name', {}).get('value', '') for node in self.devtools('Accessibility.getFullAXTree')['nodes']
                if node.get('role', {}).get('value') == role]

    def texts(self, selector):
        return self.run('return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)', selector)

    def shades(self, selector='.source > *'):
        """How strongly each word is shaded, from 0 to 1."""
        colours = [rgba(colour) for colour in self.run(
            'return [...document.querySelectorAll(arguments[0])].map(e => getComputedStyle(e).backgroundColor)',
            selector)]
        return [round(colour[3], 2) if len(colour) == 4 else 1.0 for colour in colours]

    def screenshot(self):
        return base64.b64decode(self.send('/screenshot'))

    def complaints(self):
        return [entry['message'] for entry in self.send('/se/log', {'type': 'browser'}) if entry['level'] == 'SEVERE']


@contextlib.contextmanager
def open_browser(folder):
    """A `Browser` with its profile in `folder`; skips the test where there is none."""
    if not BROWSER or not DRIVER:
        pytest.skip('needs Chromium and chromedriver (Debian: apt-get install chromium chromium-driver)')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen([DRIVER, '--port=%d' % port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    window = None
    try:
        for _ in range(100):
            try:
                window = Browser(port, folder)
                break
            except urllib.error.HTTPError as error:
                pytest.skip('Chromium does not start: ' + error.read().decode('utf-8')[:300])
            except urllib.error.URLError:
                time.sleep(0.1)
        assert window, 'chromedriver does not answer'
        yield window
    finally:
        if window:
            window.send('', method='DELETE')
        driver.terminate()
        driver.wait(10)
