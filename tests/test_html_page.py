"""The alignment page in a real browser: headless Chromium, steered by WebDriver's JSON over plain urllib."""
import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from reports.alignment_page import write_page
from test_plots import NASTY, pixels

pytestmark = pytest.mark.slow

BROWSER = next(filter(None, map(shutil.which, ['chromium', 'chromium-browser', 'google-chrome', 'chrome'])), None)
DRIVER = shutil.which('chromedriver')
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars',
         '--window-size=1200,900']
TAB, HOME, END, LEFT, UP, RIGHT, DOWN = '\ue004', '\ue011', '\ue010', '\ue012', '\ue013', '\ue014', '\ue015'
ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'  # the key of an element's name, fixed by the standard

SENTENCES = [
    {'source': 'He read a book.', 'source_tokens': ['He', 'read', 'a', 'book', '.'], 'hypotheses': [
        {'text': '他看书。', 'tokens': ['他', '看', '书', '。'], 'score': -0.1, 'weights': [
            [1.0, 0, 0, 0, 0], [0.1, 0.9, 0, 0, 0], [0, 0, 0.25, 0.75, 0], [0, 0, 0, 0, 1.0]]},
        {'text': '书', 'tokens': ['书'], 'score': -2.5, 'weights': [[0.2, 0, 0, 0.8, 0]]}]},
    {'source': ' '.join(NASTY), 'source_tokens': NASTY, 'hypotheses': [
        {'text': ''.join(NASTY), 'tokens': NASTY, 'score': None, 'weights': np.eye(len(NASTY))}]},
    {'source': '', 'source_tokens': [], 'hypotheses': [{'text': '', 'tokens': [], 'score': 0.0, 'weights': []}]},
    {'source': 'no attention', 'source_tokens': ['no', 'attention'], 'hypotheses': [
        {'text': '没有', 'tokens': ['没', '有'], 'score': -1.0, 'weights': None}]},
]


def rgba(css):
    """The numbers of `rgb(…)` or `rgba(…)`."""
    return [float(number) for number in css.split('(')[1].rstrip(')').split(',')]


class Browser:
    """As much of a WebDriver client as is needed here."""

    def __init__(self, port, folder):
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.address = 'http://127.0.0.1:%d/session' % port
        options = {'binary': BROWSER, 'args': FLAGS + ['--user-data-dir=' + folder]}
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
        self.send('/url', {'url': 'file://' + path})
        deadline = time.time() + 20
        while not self.run('return document.getElementById("title").textContent'):
            assert time.time() < deadline, 'the page shows nothing'
            time.sleep(0.05)

    def texts(self, selector):
        return self.run('return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)', selector)

    def shades(self):
        """How strongly each source word is shaded, from 0 to 1."""
        colours = [rgba(colour) for colour in self.run(
            'return [...document.getElementById("source").children].map(e => getComputedStyle(e).backgroundColor)')]
        return [round(colour[3], 2) if len(colour) == 4 else 1.0 for colour in colours]

    def screenshot(self):
        return base64.b64decode(self.send('/screenshot'))

    def complaints(self):
        return [entry['message'] for entry in self.send('/se/log', {'type': 'browser'}) if entry['level'] == 'SEVERE']


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    if not BROWSER or not DRIVER:
        pytest.skip('needs Chromium and chromedriver (Debian: apt-get install chromium chromium-driver)')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp('browser')
    driver = subprocess.Popen([DRIVER, '--port=%d' % port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    window = None
    try:
        for _ in range(100):
            try:
                window = Browser(port, str(folder))
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


@pytest.fixture
def page(browser, tmp_path):
    path = str(tmp_path / 'page.html')
    write_page(path, SENTENCES)
    browser.open(path)
    yield browser
    assert browser.complaints() == []


def test_hovering_shades_the_source_words_attended_to(page):
    assert page.texts('#source > *') == ['He', 'read', 'a', 'book', '.']
    assert page.texts('#output > *') == ['他', '看', '书', '。']
    assert page.shades() == [0, 0, 0, 0, 0]
    page.hover('#output > :nth-child(3)')
    assert page.shades() == [0, 0, 0.25, 0.75, 0]
    assert page.texts('#source .most') == ['book']
    assert page.texts('#told') == ['书 ← book 0.750, a 0.250']
    page.hover('#output > :nth-child(2)')
    assert page.shades() == [0.1, 0.9, 0, 0, 0]
    page.hover('#title')
    assert page.shades() == [0, 0, 0, 0, 0]


def test_shading_is_seen_in_the_picture(page):
    page.hover('#output > :nth-child(4)')
    image = pixels(page.screenshot()).astype(int)

    def colours(selector, place):
        found = page.run('return [...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect())'
                         '.map(b => [%s])' % place, selector)
        return np.array([image[int(y), int(x)] for x, y in found])

    words = colours('#source > *', 'b.left + 2, b.top + 4')  # beside the letters
    assert np.abs(words - ([[255, 255, 255]] * 4 + [[255, 170, 0]])).max() <= 2
    cells = colours('tbody tr:nth-child(3) td', 'b.left + b.width / 2, b.top + b.height / 2')
    wanted = [255 - weight * (255 - np.array([8, 69, 148])) for weight in (0, 0, 0.25, 0.75, 0)]
    assert np.abs(cells - wanted).max() <= 2


def test_keyboard_alone_reaches_sentences_words_and_hypotheses(page):
    page.press(TAB)
    assert page.run('return document.activeElement.id') == 'list'
    page.press(TAB)
    assert page.shades() == [1, 0, 0, 0, 0], 'the first word has the focus'
    page.press(RIGHT)
    assert page.shades() == [0.1, 0.9, 0, 0, 0]
    page.press(END)
    assert page.shades() == [0, 0, 0, 0, 1]
    page.press(RIGHT)
    assert page.shades() == [0, 0, 0, 0, 1]
    page.press(LEFT)
    assert page.shades() == [0, 0, 0.25, 0.75, 0]
    page.press(HOME)
    assert page.shades() == [1, 0, 0, 0, 0]
    page.press(TAB, DOWN)
    assert page.texts('#output > *') == ['书'], 'arrow keys choose among the hypotheses'
    assert page.texts('tbody th') == ['书']
    page.press(TAB)
    assert page.run('return document.activeElement.id') == 'heat'
    page.click('#list')
    page.run('document.getElementById("list").focus()')
    page.press(END)
    assert page.texts('#title') == ['Sentence 4 of 4']
    page.press(UP, UP)
    assert page.texts('#title') == ['Sentence 2 of 4']
    assert page.run('return document.activeElement.id') == 'list'


def test_choosing_a_hypothesis_changes_words_and_heat_map(page):
    assert page.texts('#choice label') == [' 1. 他看书。 score -0.100', ' 2. 书 score -2.500']
    page.click('#choice label:nth-of-type(2)')
    assert page.texts('#output > *') == ['书']
    assert page.texts('thead th') == ['He', 'read', 'a', 'book', '.']
    assert page.run('return document.querySelectorAll("tbody td").length') == 5
    page.hover('#output > :nth-child(1)')
    assert page.shades() == [0.2, 0, 0, 0.8, 0]
    page.click('#list > :nth-child(3)')
    page.click('#list > :nth-child(1)')
    assert page.texts('#output > *') == ['他', '看', '书', '。'], 'back to the best'


def test_heat_map_and_words_point_at_each_other(page):
    page.hover('tbody tr:nth-child(2) td:nth-of-type(5)')
    assert page.texts('#output .now') == ['看']
    assert page.shades() == [0.1, 0.9, 0, 0, 0]
    page.hover('#output > :nth-child(1)')
    assert page.texts('tbody tr.now th') == ['他']


def test_hostile_text_stays_text(page):
    page.click('#list > :nth-child(2)')
    # JSON in JSON: the driver itself refuses a lone surrogate.
    assert page.run('const wanted = JSON.parse(arguments[0]), shown = document.getElementById("source").children;'
                    'return wanted.length === shown.length && wanted.every((text, s) => shown[s].textContent === text)',
                    json.dumps(NASTY))
    assert page.texts('#output > :nth-child(2)') == ['<script>alert(1)</script>']
    assert page.run('return [document.scripts.length, document.images.length]') == [2, 0]
    page.hover('#output > :last-child')
    assert page.shades() == [0] * (len(NASTY) - 1) + [1]


def test_sentences_without_words_or_attention_are_shown(page):
    page.click('#list > :nth-child(3)')
    assert page.texts('#output > *') == ['(empty)'] and page.texts('#heat') == ['(nothing to align)']
    page.click('#list > :nth-child(4)')
    assert page.texts('#output > *') == ['没', '有'] and page.texts('#heat') == ['This model has no attention.']
    page.hover('#output > :nth-child(1)')
    assert page.shades() == [0, 0]


def test_page_asks_the_network_for_nothing(page):
    asked = page.run('return performance.getEntriesByType("resource").map(e => e.name)')
    assert [name for name in asked if not name.startswith('data:')] == []


def luminance(rgb):
    """Relative luminance of WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_text_has_enough_contrast_in_light_and_dark(page, scheme):
    page.send('/goog/cdp/execute', {'cmd': 'Emulation.setEmulatedMedia', 'params': {
        'features': [{'name': 'prefers-color-scheme', 'value': scheme}]}})
    page.hover('#output > :nth-child(1)')  # shades the first word fully
    colours = page.run(
        'const style = s => getComputedStyle(document.querySelector(s));'
        'const of = (text, back) => [style(text).color, style(back).backgroundColor];'
        'return [of("body", "body"), of("#source > *", "#source > *"), of("#help", "body"),'
        'of("#list .output", "#list"), of("#list .output", "#list > [aria-selected=true]"),'
        'of("#output .now", "#output .now")]')
    ratios = []
    for pair in colours:
        low, high = sorted(luminance(rgba(colour)[:3]) for colour in pair)
        ratios.append((high + 0.05) / (low + 0.05))
    page.send('/goog/cdp/execute', {'cmd': 'Emulation.setEmulatedMedia', 'params': {'features': []}})
    assert min(ratios) >= 4.5, dict(zip(map(str, colours), ratios))


def test_a_page_of_a_thousand_sentences_holds_one_heat_map_and_scrolls_to_the_chosen_row(browser, tmp_path):
    rng = np.random.RandomState(1)
    sentences = [{'source': 'word ' * 25, 'source_tokens': ['word'] * 25, 'hypotheses': [
        {'text': '词' * 25, 'tokens': ['词'] * 25, 'score': -1.0, 'weights': rng.dirichlet(np.ones(25), 25)}
        for _ in range(5)]} for _ in range(1000)]
    path = str(tmp_path / 'page.html')
    write_page(path, sentences)
    assert os.path.getsize(path) < 16e6
    browser.open(path)
    assert browser.run('return document.querySelectorAll("table").length') == 1, 'one heat map, not a thousand'
    browser.run('document.getElementById("list").focus()')
    browser.press(END)
    assert browser.texts('#title') == ['Sentence 1000 of 1000']
    assert browser.run('const box = document.querySelector("[aria-selected=true]").getBoundingClientRect();'
                       'return box.top >= 0 && box.bottom <= innerHeight'), 'the chosen row is scrolled into view'
