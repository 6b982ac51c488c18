"""The alignment page in a real browser."""
import json
import os
import re

import numpy as np
import pytest

from reports.alignment_page import write_page
from browser import DOWN, END, HOME, LEFT, RIGHT, TAB, UP, open_browser, rgba
from test_plots import NASTY, pixels

pytestmark = pytest.mark.slow

SENTENCES = [
    {'source': 'He read a book.', 'source_tokens': ['He', 'read', 'a', 'book', '.'], 'unknown': [3],
     'reference': '他在看书。', 'hypotheses': [
        {'text': '他看书。', 'tokens': ['他', '看', '书', '。'], 'score': -0.1, 'copied': [2],
         'log_probabilities': [0.0, -0.5, -1.0, 0.0, 0.0], 'candidates': [[('他', 1.0)], [('看', 0.6), ('读', 0.3)]] * 2,
         'weights': [[1.0, 0, 0, 0, 0], [0.1, 0.9, 0, 0, 0], [0, 0, 0.25, 0.75, 0], [0, 0, 0, 0, 1.0]]},
        {'text': '书', 'tokens': ['书'], 'score': -2.5, 'weights': [[0.2, 0, 0, 0.8, 0]]}]},
    {'source': ' '.join(NASTY), 'source_tokens': NASTY, 'hypotheses': [
        {'text': ''.join(NASTY), 'tokens': NASTY, 'score': None, 'weights': np.eye(len(NASTY))}]},
    {'source': '', 'source_tokens': [], 'hypotheses': [{'text': '', 'tokens': [], 'score': 0.0, 'weights': []}]},
    {'source': 'no attention', 'source_tokens': ['no', 'attention'], 'hypotheses': [
        {'text': '没有', 'tokens': ['没', '有'], 'score': -1.0, 'weights': None}]},
]


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp('browser')) as window:
        yield window


@pytest.fixture
def page(browser, tmp_path):
    path = str(tmp_path / 'page.html')
    write_page(path, SENTENCES)
    browser.open(path)
    yield browser
    assert browser.complaints() == []


def test_hovering_shades_the_source_words_attended_to(page):
    assert page.texts('.source bdi') == ['He', 'read', 'a', 'book', '.']
    assert page.texts('.output bdi') == ['他', '看', '书', '。']
    assert page.shades() == [0, 0, 0, 0, 0]
    page.hover('.output > :nth-child(3)')
    assert page.shades() == [0, 0, 0.25, 0.75, 0]
    assert page.texts('.source .most bdi') == ['book']
    assert page.texts('.step') == ['书 ← book 0.750, a 0.250 · probability 0.368 · candidates: 他 1.000']
    page.hover('.output > :nth-child(2)')
    assert page.shades() == [0.1, 0.9, 0, 0, 0]
    page.hover('#title')
    assert page.shades() == [0, 0, 0, 0, 0]


def test_shading_is_seen_in_the_picture(page):
    page.hover('.output > :nth-child(4)')
    image = pixels(page.screenshot()).astype(int)

    def colours(selector, place):
        found = page.run('return [...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect())'
                         '.map(b => [%s])' % place, selector)
        return np.array([image[int(y), int(x)] for x, y in found])

    words = colours('.source > *', 'b.left + 2, b.top + 4')  # beside the letters
    assert np.abs(words - ([[255, 255, 255]] * 4 + [[255, 170, 0]])).max() <= 2
    cells = colours('tbody tr:nth-child(3) td', 'b.left + b.width / 2, b.top + b.height / 2')
    wanted = [255 - weight * (255 - np.array([8, 69, 148])) for weight in (0, 0, 0.25, 0.75, 0)]
    assert np.abs(cells - wanted).max() <= 2


def test_the_keyboard_reaches_sentences_words_cells_and_hypotheses(page):
    focus = 'return document.activeElement'
    for wanted in ('search', 'sort', 'list', 'link', 'language'):
        page.press(TAB)
        assert page.run(focus + '.id') == wanted
    page.press(TAB)
    assert page.run(focus + '.tagName') == 'SUMMARY'
    page.press(TAB, DOWN)
    assert page.texts('.output > *') == ['书'], 'arrow keys choose among the hypotheses'
    assert page.texts('tbody th') == ['书']
    page.press(UP, TAB)
    assert page.run(focus + '.id') == 'compare'
    page.press(TAB)
    assert page.shades('.output > *') == [1, 0.1, 0, 0], 'a source word has the focus'
    page.press(RIGHT)
    assert page.shades('.output > *') == [0, 0.9, 0, 0]
    page.press(TAB)
    assert page.shades() == [1, 0, 0, 0, 0], 'the first output word has the focus'
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
    page.press(TAB, TAB, TAB, DOWN, RIGHT)  # past the player's button and slider
    assert page.run(focus + '.getAttribute("aria-label")') == '看 ← read 0.900'
    assert page.texts('.step')[0].startswith('看 ← read: 0.900 · 看 ← read 0.900, He 0.100')
    page.press(END)
    assert page.run(focus + '.getAttribute("aria-label")') == '看 ← . 0.000'
    page.run('document.getElementById("list").focus()')
    page.press(END)
    assert page.texts('#title') == ['Sentence 4 of 4']
    page.press(UP, UP)
    assert page.texts('#title') == ['Sentence 2 of 4']
    assert page.run('return document.activeElement.id') == 'list'


def test_choosing_a_hypothesis_changes_words_and_heat_map(page):
    assert page.texts('#choice div label') == [' 1. 他看书。 score -0.100', ' 2. 书 score -2.500']
    page.click('#choice div label:nth-of-type(2)')
    assert page.texts('.output > *') == ['书']
    assert page.texts('thead th:not(.corner)') == ['He', 'read', 'a', 'book', '.']
    assert page.run('return document.querySelectorAll("tbody td").length') == 5
    page.hover('.output > :nth-child(1)')
    assert page.shades() == [0.2, 0, 0, 0.8, 0]
    page.click('#list > :nth-child(3)')
    page.click('#list > :nth-child(1)')
    assert page.texts('.output bdi') == ['他', '看', '书', '。'], 'back to the best'


def test_heat_map_and_words_point_at_each_other(page):
    page.hover('tbody tr:nth-child(2) td:nth-of-type(5)')
    assert page.texts('.output .now') == ['看']
    assert page.shades() == [0.1, 0.9, 0, 0, 0]
    page.hover('.output > :nth-child(1)')
    assert page.texts('tbody th.now') == ['他']


def test_a_source_word_shades_the_output_words_that_attended_to_it(page):
    page.hover('.source > :nth-child(1)')
    assert page.shades('.output > *') == [1, 0.1, 0, 0] and page.texts('.output .most') == ['他']
    assert page.texts('.step') == ['He → 他 1.000, 看 0.100']
    page.hover('thead th:nth-child(5)')
    assert page.shades('.output > *') == [0, 0, 0.75, 0]
    assert page.texts('thead th.now') == ['book']


def test_a_cell_shows_its_own_weight(page):
    page.hover('tbody tr:nth-child(3) td:nth-of-type(3)')
    assert page.texts('.step')[0].startswith('书 ← a: 0.250 · 书 ← book 0.750, a 0.250')
    assert page.texts('thead th.now') == ['a'] and page.texts('tbody th.now') == ['书']


def test_unknown_and_copied_words_are_marked_in_words_and_headings_and_named(page):
    assert page.texts('.source .unknown bdi') == ['book']
    assert page.texts('.output .copied bdi') == ['书']
    assert page.texts('thead .unknown bdi') == ['book'] and page.texts('tbody .copied bdi') == ['书']
    assert 'wavy' in page.run('return getComputedStyle(document.querySelector(".source .unknown bdi")).textDecoration')
    assert page.texts('.legend .unknown, .legend .copied') == ['unknown word', 'copied word']
    assert {'book (unknown word)', '书 (copied word)'} <= set(page.named('button'))


def test_assistive_technology_gets_names(page):
    cells = page.named('gridcell') or page.named('cell')
    assert '看 ← read 0.900' in cells and len([name for name in cells if '←' in name]) == 20
    assert {'He', 'book'} <= {name.strip() for name in page.named('columnheader')}
    assert '书' in page.named('rowheader')
    for role in ('listbox', 'searchbox', 'combobox', 'toolbar', 'grid'):
        assert page.named(role) and '' not in page.named(role), role


def test_two_outputs_are_compared_side_by_side(page):
    page.run('const select = document.getElementById("compare"); select.value = 1; select.onchange()')
    assert page.run('return document.querySelectorAll(".alignments > section").length') == 2
    assert page.texts('section:nth-child(2) .output bdi') == ['书']
    assert page.texts('section:nth-child(1) .differs bdi') == ['他', '看', '。']
    assert page.texts('section:nth-child(2) .differs bdi') == []
    page.hover('section:nth-child(2) .output > *')
    assert page.shades('section:nth-child(2) .source > *') == [0.2, 0, 0, 0.8, 0]
    page.click('#list > :nth-child(2)')
    assert page.run('return document.querySelectorAll(".alignments > section").length') == 1


def test_the_reference_is_beside_the_output(page):
    assert page.texts('#reference') == ['他在看书。']
    page.click('#list > :nth-child(4)')
    assert page.run('return document.getElementById("reference-part").hidden')


def test_search_and_order_of_the_list(page):
    page.click('#search')
    page.press(*'书')
    assert page.texts('#count') == ['2 of 4']
    assert page.run('return [...document.querySelectorAll("#list > :not([hidden])")].map(e => e.id)') == [
        'sentence-0', 'sentence-1']
    page.run('document.getElementById("search").value = ""; document.getElementById("search").oninput()')
    page.run('const sort = document.getElementById("sort"); sort.selectedIndex = 1; sort.onchange()')
    rows = 'return [...document.querySelectorAll("#list > div")].map(row => row.id)'
    assert page.run(rows) == ['sentence-1', 'sentence-3', 'sentence-0', 'sentence-2'], 'lowest score first'
    page.run('const sort = document.getElementById("sort"); sort.selectedIndex = 4; sort.onchange()')
    assert page.run(rows) == ['sentence-2', 'sentence-3', 'sentence-0', 'sentence-1'], 'shortest source first'


def test_a_link_leads_to_its_sentence(browser, tmp_path):
    path = str(tmp_path / 'page.html')
    write_page(path, SENTENCES)
    browser.open(path + '#4')
    assert browser.texts('#title') == ['Sentence 4 of 4']
    assert browser.run('return document.getElementById("link").href').endswith('page.html#4')
    browser.run('location.hash = "#1"')
    browser.wait_for('return document.getElementById("title").textContent === "Sentence 1 of 4"')
    browser.open(path + '#<script>')
    assert browser.texts('#title') == ['Sentence 1 of 4']


def test_the_page_speaks_chinese_and_leads_to_the_other_language(browser, tmp_path):
    path = str(tmp_path / 'page.html')
    write_page(path, SENTENCES)
    browser.open(path + '?lang=zh#4')
    assert browser.texts('#title') == ['第 4 句，共 4 句'] and browser.run('return document.title') == '对齐'
    assert browser.run('return document.documentElement.lang') == 'zh-CN'
    said = ['#link', 'summary', '#how', '#compare-label span', '#sort option', '#reference-name', 'legend']
    english = [text for selector in said for text in browser.texts(selector)
               if not re.search('[\u4e00-\u9fff]', text)]
    assert english == [] and len(browser.texts('#sort option')) == 6
    labels = browser.run('return [...document.querySelectorAll("[aria-label]")].map(one => one.ariaLabel)')
    assert labels and not [label for label in labels if re.match('Search|Sort|Sentences', label)]
    browser.click('#language')
    browser.wait_for('return document.getElementById("title").textContent === "Sentence 4 of 4"')


def test_words_of_mixed_directions(browser, tmp_path):
    path, tokens = str(tmp_path / 'page.html'), ['هذا', 'book', 'جديد']
    write_page(path, [{'source': ' '.join(tokens), 'source_tokens': tokens, 'hypotheses': [
        {'text': 'a b c', 'tokens': ['a', 'b', 'c'], 'score': 0, 'weights': np.eye(3)}]}])
    browser.open(path)
    lefts = browser.run('return [...document.querySelectorAll(".source > *")]'
                        '.map(e => e.getBoundingClientRect().left)')
    assert lefts[0] > lefts[1] > lefts[2]
    assert browser.run('return document.querySelector(".output").dir') == 'ltr'
    browser.run('document.querySelector(".source > *").focus()')
    browser.press(LEFT)
    assert browser.shades('.output > *') == [0, 1, 0], 'the left arrow goes on in a right-to-left line'


@pytest.mark.parametrize('width, height', [(1280, 900), (390, 844)])
def test_a_hundred_and_twenty_tokens_stay_readable_after_scrolling(browser, tmp_path, width, height):
    tokens, path = ['word%d' % n for n in range(120)], str(tmp_path / 'page.html')
    entry = {'source': ' '.join(tokens), 'source_tokens': tokens, 'hypotheses': [
        {'text': ' '.join(tokens), 'tokens': tokens, 'score': -1.0, 'weights': np.eye(120)}]}
    write_page(path, [entry, dict(entry, source='other')])
    browser.emulate(width, height)
    try:
        browser.open(path)
        browser.run('document.querySelector("tbody td").focus()')
        browser.press(*[DOWN] * 50 + [RIGHT] * 60)
        boxes = browser.run(
            'const box = e => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };'
            'return [document.querySelector(".heat"), document.activeElement, document.querySelector("tbody th.now"),'
            'document.querySelector("thead th.now")].map(box)')
        heat, cell, row, column = boxes
        assert browser.run('return document.activeElement.getAttribute("aria-label")') == 'word50 ← word60 0.000'
        for left, top, right, bottom in (cell, row, column):
            assert heat[0] - 1 <= left and right <= heat[2] + 1 and heat[1] - 1 <= top and bottom <= heat[3] + 1
        assert cell[0] >= row[2] - 1 and cell[1] >= column[3] - 1, 'the headings cover no cell'
        assert browser.run('return document.documentElement.scrollWidth') <= width, 'the page itself does not scroll'
        browser.run('document.querySelector("main").scrollTo(0, 500)')
        assert browser.run('return document.getElementById("list").children[0].offsetHeight') < 100, 'a row is short'
        browser.click('#list > :nth-child(2)')
        assert browser.run('const {scrollTop, scrollLeft} = document.querySelector(".heat");'
                           'return [document.querySelector("main").scrollTop, scrollTop, scrollLeft]') == [0, 0, 0]
        assert browser.run('return document.getElementById("help").getBoundingClientRect().top') < height
    finally:
        browser.emulate()


def test_hostile_text_stays_text(page):
    page.click('#list > :nth-child(2)')
    # JSON in JSON: the driver itself refuses a lone surrogate.
    assert page.run('const wanted = JSON.parse(arguments[0]), shown = document.querySelector(".source").children;'
                    'return wanted.length === shown.length &&'
                    'wanted.every((text, s) => shown[s].firstChild.textContent === text)',
                    json.dumps(NASTY))
    assert page.texts('.output > :nth-child(2)') == ['<script>alert(1)</script>']
    assert page.run('return [document.scripts.length, document.images.length]') == [2, 0]
    page.hover('.output > :last-child')
    assert page.shades() == [0] * (len(NASTY) - 1) + [1]


def test_sentences_without_words_or_attention_are_shown(page):
    page.click('#list > :nth-child(3)')
    assert page.texts('.output > *') == ['(empty)'] and page.texts('.heat') == ['(nothing to align)']
    page.click('#list > :nth-child(4)')
    assert page.texts('.output > *') == ['没', '有'] and page.texts('.heat') == ['This model has no attention.']
    page.hover('.output > :nth-child(1)')
    assert page.shades() == [0, 0]


def test_page_makes_no_network_request(page):
    asked = page.run('return performance.getEntriesByType("resource").map(e => e.name)')
    assert [name for name in asked if not name.startswith('data:')] == []


def luminance(rgb):
    """Relative luminance of WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_text_has_enough_contrast_in_light_and_dark(page, scheme):
    page.emulate(scheme=scheme)
    page.hover('.output > :nth-child(1)')  # shades the first word fully
    colours = page.run(
        'const style = s => getComputedStyle(document.querySelector(s));'
        'const of = (text, back) => [style(text).color, style(back).backgroundColor];'
        'return [of("body", "body"), of(".source > *", ".source > *"), of(".legend", "body"),'
        'of("#list .best", "aside"), of("#list .best", "#list > [aria-selected=true]"),'
        'of(".output .now", ".output .now")]')
    ratios = []
    for pair in colours:
        low, high = sorted(luminance(rgba(colour)[:3]) for colour in pair)
        ratios.append((high + 0.05) / (low + 0.05))
    page.emulate()
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
    # The row is scrolled into view, at once or smoothly.
    browser.wait_for('const box = document.querySelector("[aria-selected=true]").getBoundingClientRect();'
                     'return box.top >= 0 && box.bottom <= innerHeight')


@pytest.mark.parametrize('width', [1200, 360])
def test_the_order_of_the_sentences_is_readable_in_its_menu(page, width):
    page.emulate(width, 800)
    needed, given = page.run('''
        const menu = document.getElementById('sort'), copy = menu.cloneNode(true);
        copy.style.cssText = 'position: absolute; flex: none; width: max-content; max-width: none';
        document.body.append(copy);
        const widths = [copy.offsetWidth, menu.offsetWidth];
        copy.remove();
        return widths''')
    page.emulate()
    assert given >= needed
