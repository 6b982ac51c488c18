"""Pictures: values in the pixels, labels that would break the drawing, text for terminals, the page's data."""
import glob
import html.parser
import io
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from reports import label_fonts, plots
from reports.alignment_page import write_page
from reports.alignment_text import checked_weights, format_alignment
from reports.page_font import font_subset
from command_line import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(plots.__file__)))


def pixels(png):
    """(height, width, 3) of a PNG's bytes."""
    from PIL import Image
    return np.asarray(Image.open(io.BytesIO(png)).convert('RGB'))


def cell_colours(source_tokens, target_tokens, weights):
    """(T, S, 3): the colour at the centre of each cell of the written picture."""
    image = pixels(plots.alignment_png(source_tokens, target_tokens, weights, title='t'))
    figure = plots.alignment_figure(source_tokens, target_tokens, weights, title='t')
    centres = [[figure.axes[0].transData.transform((s, t)) for s in range(len(source_tokens))]
               for t in range(len(target_tokens))]
    return np.array([[image[int(image.shape[0] - y), int(x)] for x, y in row] for row in centres]).astype(int)


def drawn_texts(figure):
    return [text for axes in figure.axes[:1] for text in axes.texts]


def test_each_cell_has_the_colour_of_its_weight_at_its_place():
    weights = np.array([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]])
    colours = cell_colours(['the', 'red', 'book'], ['书', '红'], weights)
    import matplotlib.cm
    wanted = matplotlib.cm.get_cmap('Blues')(weights)[..., :3] * 255
    assert np.abs(colours - wanted).max() <= 2
    darkness = -colours.sum(-1)
    assert darkness[0, 0] < darkness[0, 1] < darkness[0, 2] < darkness[1, 0]
    assert darkness[0, 0] == darkness[1, 1] == darkness[1, 2]


def test_source_is_on_top_and_target_at_the_left():
    last = 'W' * 24  # leans out beyond the heat map
    figure = plots.alignment_figure(['a', 'bb', last], ['dddd', 'eeeee'], np.full((2, 3), 1 / 3))
    figure.canvas.draw()
    boxes = {text.get_text(): text.get_window_extent() for text in drawn_texts(figure)}
    heat_map = figure.axes[0].get_window_extent()
    assert set(boxes) == {'a', 'bb', last, 'dddd', 'eeeee'}
    assert all(boxes[name].y0 >= heat_map.y1 for name in ('a', 'bb', last))
    assert all(boxes[name].x1 <= heat_map.x0 for name in ('dddd', 'eeeee'))
    assert boxes['a'].x0 < boxes['bb'].x0 < boxes[last].x0
    assert boxes['dddd'].y0 > boxes['eeeee'].y0
    page = figure.bbox
    for box in boxes.values():
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1


HOSTILE = ['$x^2$', '$', '$$', '\\$', '\\$\\$', 'a_b^c', '\\frac{1}{2}', '$\\frac{', '%', '{', '', ' ', '\\', '\\\\']


def test_no_label_is_read_as_a_formula():
    from matplotlib.cbook import is_math_text
    for token in HOSTILE:
        text, _ = label_fonts.label_font(token, 10)
        assert not is_math_text(text)
        assert text.replace('\\$', '$') == token, 'matplotlib draws this for a text that is no formula'
    plots.alignment_png(HOSTILE, HOSTILE, np.eye(len(HOSTILE)), title='$ \\frac{ $')


def test_control_characters_and_lone_surrogates_are_drawn_as_replacements(capsys):
    assert label_fonts.label_font('a\n\x1b[31m\ud800\u2028\x00', 10)[0] == 'a□□[31m□□□'
    plots.alignment_png(['\n\n', '\x00书'], ['\ud800'], [[0.5, 0.5]])
    assert capsys.readouterr().err == ''


def test_right_to_left_text_is_refused_or_a_box_never_drawn_wrongly(tmp_path):
    for token in ('هذا', 'ספר'):
        with pytest.raises(UserError, match=token + '.*--html'):
            plots.plot_alignment(str(tmp_path / 'a.png'), ['a'], [token], [[1.0]])
        assert plots.alignment_figure([token], ['b'], [[1.0]]).axes[0].texts[0].get_text() == '□□□'
    assert os.listdir(str(tmp_path)) == []


def test_unknown_and_copied_words_are_marked_and_explained():
    figure = plots.alignment_figure(['a', 'b'], ['c', 'd'], np.eye(2), unknown=[1], copied=[0])
    colours = {text.get_text(): text.get_color() for text in drawn_texts(figure)}
    assert colours == {'a': 'black', 'b': plots.UNKNOWN_COLOUR, 'c': plots.COPIED_COLOUR, 'd': 'black'}
    assert {text.get_text() for text in figure.texts} == {'source →', '← output', 'unknown', 'copied'}
    assert format_alignment(['a', 'b'], ['c', 'd'], np.eye(2), [1], [0]) == 'c <copy>  a 1.00\nd         b <unk> 1.00'


def test_axes_and_colour_bar_have_names():
    figure = plots.alignment_figure(['a'], ['b'], [[1.0]], title='line 1, score -0.5')
    assert [text.get_text() for text in figure.texts] == ['source →', '← output', 'line 1, score -0.5']
    assert figure.axes[1].get_ylabel() == 'attention weight'


@pytest.mark.parametrize('source_length, target_length', [(3, 4), (57, 30), (120, 120)])
def test_cells_lie_exactly_on_the_grid(source_length, target_length):
    tokens = ['w'] * source_length, ['v'] * target_length
    weights = np.indices((target_length, source_length)).sum(0) % 2
    figure = plots.alignment_figure(*tokens, weights)
    image = pixels(plots.alignment_png(*tokens, weights))[..., 0].astype(int)
    left, bottom = figure.axes[0].transData.transform((-0.5, target_length - 0.5))
    right, top = figure.axes[0].transData.transform((source_length - 0.5, -0.5))
    assert np.allclose([left, bottom, right, top], np.rint([left, bottom, right, top]), atol=1e-6)
    side = int(round((right - left) / source_length))
    row = image[int(round(image.shape[0] - top)) + side // 2, int(round(left)):int(round(right))].reshape(-1, side)
    inner = row[:, 2:-2]  # the lines of the grid are one pixel wide
    assert np.array_equal(inner.min(1), inner.max(1)), 'no cell is mixed with the next one'
    assert set(inner[::2, 0]) != set(inner[1::2, 0]) and len(set(inner[:, 0])) == 2


def test_labels_of_120_tokens_are_all_there_and_legible():
    tokens = ['word%d' % n for n in range(120)]
    labels = drawn_texts(plots.alignment_figure(tokens, tokens, np.eye(120)))
    assert len(labels) == 240 and min(label.get_fontsize() for label in labels) * plots.DPI / 72 >= 16


@pytest.mark.parametrize('name, start', [
    ('a.svg', b'<?xml'), ('a.PDF', b'%PDF'), ('a.png', b'\x89PNG'), ('a', b'\x89PNG')])
def test_the_name_of_the_file_gives_its_format(tmp_path, name, start):
    written = []
    for _ in range(2):
        plots.plot_alignment(str(tmp_path / name), ['他', 'b'], ['书'], [[0.5, 0.5]], title='书')
        written.append((tmp_path / name).read_bytes())
    assert written[0].startswith(start) and (written[0] == written[1] or name == 'a.svg')


def test_bands_show_values_intervals_and_perplexity(tmp_path, monkeypatch):
    figures, make = [], plots._figure
    monkeypatch.setattr(plots, '_figure', lambda *size: figures.append(make(*size)) or figures[-1])
    plots.plot_bands(str(tmp_path / 'b.png'), [
        {'label': 'up to 10', 'lines': 1, 'score': 81.25, 'interval': (70.0, 90.5), 'perplexity': 1.5},
        {'label': 'over 10', 'lines': 7, 'score': 0.0}], 'BLEU')
    plots.plot_bands(str(tmp_path / 'c.png'), [{'label': 'over 10', 'lines': 7, 'score': 3.0}], 'BLEU')
    above, below = figures[0].axes
    assert [text.get_text() for text in above.texts] == ['81.25\n[70, 90.5]', '0']
    assert [text.get_text() for text in below.texts] == ['1.5']
    assert [bar.get_height() for bar in above.patches] == [81.25, 0.0]
    assert [label.get_text() for label in above.get_xticklabels()] == ['up to 10\n1 line', 'over 10\n7 lines']
    assert len(figures[1].axes) == 1
    assert [round(bar.get_width(), 3) for bar in above.patches] == [round(0.8 / 7, 3), 0.8]  # few lines: a thin bar


def test_the_axis_of_a_score_ends_at_its_maximum(tmp_path, monkeypatch):
    figures, make = [], plots._figure
    monkeypatch.setattr(plots, '_figure', lambda *size: figures.append(make(*size)) or figures[-1])
    plots.plot_bands(str(tmp_path / 'b.png'), [
        {'label': 'up to 10', 'lines': 196, 'score': 99.25, 'interval': (98.0, 99.5)},
        {'label': 'over 10', 'lines': 5, 'score': 100.0}], 'BLEU')
    axes, = figures[0].axes
    assert max(axes.get_yticks()) == 100 and axes.spines['left'].get_bounds() == (0, 100)
    low, high = axes.get_ylim()
    figures[0].canvas.draw()
    frame = axes.get_window_extent()
    for text in axes.texts:  # the labels are on the picture, and not on each other
        assert text.get_window_extent().y1 <= frame.y1


def test_long_tokens_are_cut():
    assert plots._cut('x' * 24, 24) == 'x' * 24
    assert plots._cut('x' * 25, 24) == 'x' * 23 + '…'
    assert plots._cut('书' * 5, 6) == '书书…'
    short = pixels(plots.alignment_png(['x' * 100], ['y' * 10 ** 5], [[1.0]]))
    assert max(short.shape) < 1000


@pytest.mark.parametrize('source_length, target_length', [(400, 3), (3, 400), (400, 400)])
def test_long_inputs_make_pictures_of_bounded_size(source_length, target_length):
    source, target = ['w%d' % n for n in range(source_length)], ['v%d' % n for n in range(target_length)]
    figure = plots.alignment_figure(source, target, np.zeros((target_length, source_length)))
    width, height = figure.get_size_inches() * plots.DPI
    assert width <= 3500 and height <= 3500
    labels = len(drawn_texts(figure))
    assert 100 < labels < 2 * plots.LONGEST_SIDE / plots.LABEL_PITCH + 2, 'labels neither overlap nor vanish'


def test_long_titles_are_cut_at_the_width_of_the_picture():
    for title in ('W' * 200, 'i' * 200, '书' * 200, 'short'):
        figure = plots.alignment_figure(['a'] * 5, ['b'], np.zeros((1, 5)), title=title)
        figure.canvas.draw()
        text = figure.texts[-1]
        width, box = figure.bbox.width, text.get_window_extent()
        assert 0 <= box.x0 and box.x1 <= width
        assert text.get_text() == title or text.get_text().endswith('…') and box.x1 > 0.85 * width


DRAW_SIXTY = '''
import os, sys
import numpy as np
from reports import plots

def resident():
    with open('/proc/self/statm') as stream:
        return int(stream.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2. ** 20

random = np.random.RandomState(0)
for number in range(60):
    if number == 20:
        before = resident()
    sides = [['%s%d' % (side, i) for i in random.randint(0, 9999, 12)] for side in 'st']
    plots.plot_alignment(sys.argv[1], *sides, random.dirichlet(np.ones(12), 12), 'line %d' % number)
print(resident() - before)
'''


@pytest.mark.slow
def test_a_picture_leaves_no_memory_behind(tmp_path):
    # In a process of its own: the memory of this one changes with what the tests before have left.
    grown = subprocess.check_output([sys.executable, '-c', DRAW_SIXTY, str(tmp_path / 'a.png')], cwd=ROOT)
    assert float(grown) < 15  # MB; the pixels of 40 pictures alone would take 100


def test_size_grows_with_the_number_of_tokens():
    few = plots.alignment_figure(['a'] * 5, ['b'] * 5, np.zeros((5, 5))).get_size_inches()
    many = plots.alignment_figure(['a'] * 15, ['b'] * 25, np.zeros((25, 15))).get_size_inches()
    assert np.allclose(many - few, [10 * plots.CELL, 20 * plots.CELL])


@pytest.mark.parametrize('source, target, weights', [
    (['a', 'b'], [], []), (['a', 'b'], [], np.zeros((0, 2))), ([], ['c'], np.zeros((1, 0))), ([], [], [])])
def test_empty_sides_make_a_picture(source, target, weights):
    assert pixels(plots.alignment_png(source, target, weights)).shape[1] > 50
    assert format_alignment(source, target, weights) == '\n'.join(target)


@pytest.mark.parametrize('weights, told', [
    (np.zeros((3, 2)), r'\(3, 2\).*2 target and 3 source tokens need \(2, 3\)'),
    (np.zeros(6), r'\(6,\)'),
    (np.zeros((0, 3)), r'\(0, 3\)'),
    ([[0.5, 0.5, 0], [0, 1.5, 0]], '0 to 1.5'),
    ([[0.5, 0.5, 0], [0, -0.5, 0]], '-0.5'),
    ([[0.5, 0.5, 0], [0, np.nan, 0]], 'nan')])
def test_wrong_weights_are_refused(weights, told):
    for make in (plots.alignment_png, format_alignment):
        with pytest.raises(ValueError, match=told):
            make(['a', 'b', 'c'], ['d', 'e'], weights)


def test_float32_sums_slightly_above_one_are_accepted():
    assert checked_weights(['a'], ['b'], np.float32([[1.000001]])) == 1


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    path = str(tmp_path / 'absent' / 'a.png')
    with pytest.raises(UserError, match='absent'):
        plots.plot_alignment(path, ['a'], ['b'], [[1.0]])
    with pytest.raises(UserError, match='absent'):
        write_page(path, [])


# Fonts

def sample_characters():
    files = glob.glob(os.path.join(ROOT, 'samples', '*', '*.tsv')) + [os.path.join(ROOT, 'samples', 'sentences.txt')]
    texts = []
    for name in files:
        if os.path.exists(name):
            with open(name, encoding='utf-8', newline='\n') as lines:
                texts.append(lines.read())
    return ''.join(sorted(set(''.join(texts)) - set('\n\t')))


def test_bundled_font_covers_the_samples():
    known = label_fonts.glyph_ids(label_fonts.BUNDLED_FONT)
    wanted = sample_characters() + '我你他是的，。？！'
    wanted += ''.join(bytes([lead, trail]).decode('gb2312') for lead in range(0xB0, 0xF8)  # level 1 and 2
                      for trail in range(0xA1, 0xFF) if not (lead == 0xD7 and trail > 0xF9))
    wanted += ''.join(bytes([lead, trail]).decode('big5') for lead in range(0xA4, 0xC6)  # the common traditional ones
                      for trail in [*range(0x40, 0x7F), *range(0xA1, 0xFF)])
    assert [character for character in wanted if ord(character) not in known] == []


def test_bundled_font_and_its_licence_are_there_and_small():
    assert os.path.getsize(label_fonts.BUNDLED_FONT) < 4e6
    with open(os.path.join(ROOT, 'reports', 'fonts', 'OFL.txt'), encoding='utf-8') as lines:
        assert 'SIL OPEN FONT LICENSE Version 1.1' in lines.read()


def test_labels_of_the_samples_are_drawn_without_a_warning(capsys):
    characters = sample_characters() + '我们看书'
    tokens = [characters[n:n + 12] for n in range(0, len(characters), 12)]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        plots.alignment_png(tokens, ['书'], np.zeros((1, len(tokens))), title='老师 (the teacher)')
    assert capsys.readouterr().err == ''


def test_chinese_is_drawn_with_glyphs_that_differ():
    images = [plots.alignment_png([], [token], np.zeros((1, 0))) for token in ('书', '人', '书')]
    assert images[0] == images[2] != images[1]


def test_font_is_chosen_label_by_label(monkeypatch, tmp_path):
    system = str(tmp_path / 'system.ttf')
    covered = {'DejaVuSans.ttf': 'abc□ ', 'NotoSansSC-Subset.ttf': 'ab书', 'system.ttf': 'a书龘'}
    monkeypatch.setattr(label_fonts, 'glyph_ids', lambda path: dict.fromkeys(map(ord, covered[os.path.basename(path)])))
    monkeypatch.setattr(label_fonts, '_system_fonts', lambda: [system])
    chosen = {text: os.path.basename(label_fonts.label_font(text, 9)[1].get_file()) for text in ('abc', 'b书', '书龘')}
    assert chosen == {'abc': 'DejaVuSans.ttf', 'b书': 'NotoSansSC-Subset.ttf', '书龘': 'system.ttf'}


def test_a_box_is_reported_with_its_character_once(monkeypatch, capsys):
    monkeypatch.setattr(label_fonts, '_reported', set())
    monkeypatch.setattr(label_fonts, '_system_fonts', lambda: [])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        plots.alignment_png(['\u9fa2', 'a\u9fa3'], ['b', '\u9fa2'], np.zeros((2, 2)))
        plots.alignment_png(['\u9fa4'], ['b'], np.zeros((1, 1)))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(':')[0] for line in lines] == [
        'no font has %s (U+%s)' % pair for pair in (('\u9fa2', '9FA2'), ('\u9fa3', '9FA3'), ('\u9fa4', '9FA4'))]
    assert label_fonts.label_font('a\u9fa3', 10)[0] == 'a□'
    plots.alignment_png([chr(0x10000 + n) for n in range(100)], ['b'], np.zeros((1, 100)))
    assert capsys.readouterr().err.count('\n') <= label_fonts.REPORTED


def test_missing_bundled_font_causes_no_crash(monkeypatch, capsys):
    monkeypatch.setattr(label_fonts, '_reported', set())
    monkeypatch.setattr(label_fonts, '_system_fonts', lambda: [])
    monkeypatch.setattr(label_fonts, 'BUNDLED_FONT', '/nowhere/font.ttf')
    plots.alignment_png(['书'], ['人'], [[1.0]])
    assert capsys.readouterr().err.count('\n') == 2


def test_importing_is_cheap_and_drawing_does_not_use_pyplot():
    code = ('import sys; from reports import plots; assert "matplotlib" not in sys.modules; '
            'plots.alignment_png(["a"], ["b"], [[1]]); '
            'assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules')
    subprocess.run([sys.executable, '-W', 'error::RuntimeWarning', '-c', code], cwd=ROOT, check=True,
                   env=dict(os.environ, MPLBACKEND='TkAgg', LANG='C'))


# Training curves

def curves(monkeypatch, rows):
    """The figure of `training_png`, as {panel: {curve: points}}."""
    kept = []
    make = plots._figure
    monkeypatch.setattr(plots, '_figure', lambda *size: kept.append(make(*size)) or kept[0])
    assert pixels(plots.training_png(rows)).std() > 5
    return {axes.get_ylabel(): {line.get_label(): [tuple(point) for point in line.get_xydata() if point[1] == point[1]]
                                for line in axes.lines if not line.get_label().startswith('_')}
            for axes in kept[0].axes}


def test_training_curves_hold_the_logged_values_and_gaps(monkeypatch):
    rows = [{'epoch': 1, 'step': 10, 'train_perplexity': 90.0, 'val_perplexity': float('nan'), 'val_bleu': ''},
            {'epoch': 2, 'step': '20', 'train_perplexity': '40.5', 'val_perplexity': None, 'val_bleu': '3.5'},
            {'epoch': 3, 'step': 30, 'train_perplexity': float('inf'), 'val_perplexity': 30, 'learning_rate': 0.001},
            {'epoch': 4, 'train_perplexity': 5, 'val_accuracy': 0.5}]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert curves(monkeypatch, rows) == {
            'perplexity': {'train perplexity': [(10, 90), (20, 40.5)], 'validation perplexity': [(30, 30)]},
            'bleu': {'validation bleu': [(20, 3.5)]}, 'learning rate': {'learning rate': [(30, 0.001)]}}


@pytest.mark.parametrize('rows, panels', [
    ([], {}),
    ([{'epoch': 1}], {}),
    ([{'val_accuracy': 0.5}, {'val_accuracy': 0.75}], {'accuracy': {'validation accuracy': [(1, 0.5), (2, 0.75)]}}),
    ([{'epoch': 1, 'val_perplexity': 2.0}, {'epoch': 2, 'val_perplexity': 2.0}],
     {'perplexity': {'validation perplexity': [(1, 2.0), (2, 2.0)]}}),
    ([{'epoch': 1, 'train_perplexity': 0.0}], {})])
def test_training_curves_of_thin_logs(monkeypatch, rows, panels):
    assert curves(monkeypatch, rows) == panels


@pytest.mark.parametrize('low', [1.001, 25.0])
@pytest.mark.parametrize('ratio', [1.0, 1.2, 4.0, 1000.0])
def test_perplexity_axis_has_readable_ticks_at_every_scale(monkeypatch, low, ratio):
    figures = []
    make = plots._figure
    monkeypatch.setattr(plots, '_figure', lambda *size: figures.append(make(*size)) or figures[0])
    plots.training_png([{'train_perplexity': low * ratio}, {'train_perplexity': low}])
    axes = figures[0].axes[0]
    bottom, top = axes.get_ylim()
    labels = [tick.label1.get_text() for tick in axes.yaxis.get_major_ticks() if bottom <= tick.get_loc() <= top]
    assert 2 <= len(labels) <= 12 and '' not in labels


# Text

def test_text_lists_the_source_tokens_of_the_largest_weights_in_aligned_columns():
    text = format_alignment(['a', 'red', 'book'], ['书', 'rouge', '红色'],
                            [[0.05, 0.02, 0.93], [0.3, 0.4, 0.3], [0.0, 1.0, 0.0]])
    assert text == ('书     book 0.93  a 0.05\n'
                    'rouge  red 0.40   a 0.30  book 0.30\n'
                    '红色   red 1.00')


def test_text_counts_cells_not_characters():
    text = format_alignment(['书', 'e\u0301', '本'], ['ab', '中', '，'],
                            [[0.5, 0.5, 0], [0.1, 0.9, 0], [0, 0.3, 0.7]])
    assert text == ('ab  书 0.50  e\u0301 0.50\n'
                    '中  e\u0301 0.90   书 0.10\n'
                    '，  本 0.70  e\u0301 0.30')


def test_text_shows_at_most_three_source_tokens_and_always_the_largest_weight():
    assert format_alignment(list('abcde'), ['x'], [[0.2] * 5]) == 'x  a 0.20  b 0.20  c 0.20'
    assert format_alignment(['s%d' % n for n in range(50)], ['x'], [[0.02] * 50]) == 'x  s0 0.02'
    tied = [[0.2 if n % 8 == 3 else 0.0 for n in range(40)]]
    assert format_alignment(list(map(str, range(40))), ['x'], tied) == 'x  3 0.20  11 0.20  19 0.20'
    assert format_alignment(['a', 'b'], ['x'], [[0.96, 0.04]]) == 'x  a 0.96'
    assert format_alignment(['a'], ['x', 'yy'], [[0.0], [1.0]]) == 'x\nyy  a 1.00'


def test_text_sends_no_control_sequence_to_the_terminal():
    assert format_alignment(['\x1b[2J'], ['a\nb'], [[1]]) == 'a□b  □[2J 1.00'


# The page (its behaviour in a browser: test_html_page.py)

class Page(html.parser.HTMLParser):
    """Collects the tags and the contents of the data element."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.data, self.in_data = [], '', False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.in_data = dict(attributes).get('id') == 'data'

    def handle_endtag(self, tag):
        self.in_data = False

    def handle_data(self, data):
        if self.in_data:
            self.data += data


def page_of(tmp_path, sentences):
    path = str(tmp_path / 'page.html')
    write_page(path, sentences)
    with open(path, encoding='utf-8', newline='') as file:
        return file.read()


NASTY = ['</script>', '<script>alert(1)</script>', '</script x', '<!--<script', '"', "'", '\\', '<!--', '-->', ']]>',
         '&lt;', '&', '\u2028', '\x00', '\r\n', '\ud800', '书', '😀', '"DATA"', '/*FONT*/', '{{', '%s',
         '<img src=x onerror=alert(1)>']


def test_page_returns_hostile_tokens_unchanged_and_gains_no_tag(tmp_path):
    weights = np.eye(len(NASTY))
    page = Page(page_of(tmp_path, [{'source': ' '.join(NASTY), 'source_tokens': NASTY, 'hypotheses': [
        {'text': ''.join(NASTY), 'tokens': NASTY, 'score': -0.25, 'weights': weights}]}]))
    assert json.loads(page.data)['sentences'] == [{'source': ' '.join(NASTY), 'source_tokens': NASTY, 'hypotheses': [
        {'text': ''.join(NASTY), 'tokens': NASTY, 'score': -0.25, 'weights': (1000 * weights).tolist()}]}]
    assert page.tags == Page(page_of(tmp_path, [])).tags
    assert not set('<>&\u2028\u2029') & set(page.data), 'browsers end a script sooner than this parser'


def test_page_rounds_weights_and_omits_infinity_and_nan(tmp_path):
    data = json.loads(Page(page_of(tmp_path, [
        {'source': 'a b', 'source_tokens': ['a', 'b'], 'hypotheses': [
            {'text': 'c', 'tokens': ['c'], 'score': np.float32(-0.5), 'weights': np.float32([[0.12345, 0.87655]])},
            {'text': 'd', 'tokens': ['d'], 'score': float('-inf'), 'weights': None},
            {'text': '', 'tokens': [], 'score': None, 'weights': []}]},
        {'source': '', 'source_tokens': [], 'hypotheses': []}])).data)['sentences']
    assert data[0]['hypotheses'] == [
        {'text': 'c', 'tokens': ['c'], 'score': -0.5, 'weights': [[123, 877]]},
        {'text': 'd', 'tokens': ['d'], 'score': None, 'weights': None},
        {'text': '', 'tokens': [], 'score': None, 'weights': []}]
    assert data[1] == {'source': '', 'source_tokens': [], 'hypotheses': []}


def test_page_has_no_external_reference(tmp_path):
    text = page_of(tmp_path, [{'source': '书', 'source_tokens': ['书'], 'hypotheses': []}])
    page = Page(text)
    assert [attributes for _, attributes in page.tags if 'src' in attributes or 'href' in attributes] == []
    # The name space of SVG is a name, which nothing reads.
    text = text.replace('http://www.w3.org/2000/svg', '')
    assert 'http:' not in text and 'https:' not in text and '@import' not in text
    assert text.count('url(') == text.count('url(data:font/ttf;base64,') == 1
    assert "default-src 'none'" in text


def test_page_carries_the_font_only_for_chinese(tmp_path):
    sentence = {'source': 'é', 'source_tokens': ['é'], 'hypotheses': []}
    without, with_one, with_two = [page_of(tmp_path, [dict(sentence, source=text)]) for text in ('é', '书', '书人')]
    assert len(without) < 40000 and 'font/ttf' not in without
    assert len(without) + 1000 < len(with_one) < len(with_two) < len(without) + 6000


def test_page_names_characters_that_its_font_lacks(tmp_path):
    sentence = {'source': '\u9fa3书\U0002123f', 'source_tokens': [], 'hypotheses': []}
    assert json.loads(Page(page_of(tmp_path, [sentence])).data)['outside'] == '\u9fa3 \U0002123f'


def test_part_of_the_font_has_the_same_glyphs(tmp_path):
    from matplotlib.ft2font import FT2Font
    path, whole = tmp_path / 'part.ttf', FT2Font(label_fonts.BUNDLED_FONT)
    path.write_bytes(font_subset('书人他们，。A\U0002123f\u9fa3'))
    part = FT2Font(str(path))
    assert sorted(map(chr, part.get_charmap())) == sorted('书人他们，。A')
    for font in (part, whole):
        font.set_size(40, 72)
    for character in '书人他们，。A':
        codes = ord(character)
        glyphs = [font.load_char(codes, flags=2) for font in (part, whole)]  # 2: without hinting
        assert len({(glyph.width, glyph.height, glyph.horiAdvance, glyph.bbox) for glyph in glyphs}) == 1
        outlines = [font.get_path() for font in (part, whole)]
        assert np.array_equal(outlines[0][0], outlines[1][0]) and len(outlines[0][0])
    assert font_subset('\u9fa3') == b'' == font_subset('')


def test_page_refuses_weights_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r'\(1, 1\)'):
        page_of(tmp_path, [{'source': 'a', 'source_tokens': ['a', 'b'], 'hypotheses': [
            {'text': 'c', 'tokens': ['c'], 'score': 0, 'weights': [[1]]}]}])


def test_the_marks_of_a_translation_reach_page_picture_and_text(tmp_path, monkeypatch, capsys):
    from reports import output_formats
    from text.vocabulary import SPECIALS, Vocabulary
    from translator import Hypothesis, Translator
    translator = Translator([], None, (None, Vocabulary([*SPECIALS, 'a'])), (None, Vocabulary([*SPECIALS, 'c'])))
    unknown, copied = translator._unknown_and_copied(['a', 'b', '<s>'], [4, 5, 1])
    assert (unknown, copied) == ([1, 2], [1])
    one = Hypothesis('c b', ['c', 'b'], -0.5, [-0.2, -0.2, -0.1], np.eye(2), True, [], -0.5, ['a', 'b'], [1], [1])
    page = output_formats.Page(str(tmp_path / 'page.html'))
    page.write(3, 'a b', [one])
    page.close()
    entry, = json.loads(Page((tmp_path / 'page.html').read_text(encoding='utf-8')).data)['sentences']
    assert entry['unknown'] == [1] and entry['hypotheses'][0]['copied'] == [1]
    assert entry['hypotheses'][0]['log_probabilities'] == [-0.2, -0.2]
    page = output_formats.Page(str(tmp_path / 'page.html'), lambda outputs: [[[('c', 0.5), ('d', 0.25)]] * len(
        output.tokens) for output in outputs])
    page.write(3, 'a b', [one], 'c d')
    page.close()
    entry, = json.loads(Page((tmp_path / 'page.html').read_text(encoding='utf-8')).data)['sentences']
    assert entry['reference'] == 'c d' and entry['hypotheses'][0]['candidates'] == [[['c', 0.5], ['d', 0.25]]] * 2
    drawn = []
    monkeypatch.setattr(plots, 'alignment_figure', lambda *args: drawn.append(args) or plots._figure())
    output_formats.Pictures(str(tmp_path)).write(3, 'a b', [one])
    assert drawn[0][3:] == ('line 3, score -0.500', [1], [1])
    output_formats.Pictures(str(tmp_path), 'svg').write(3, 'a b', [one])
    assert (tmp_path / '0003.svg').read_bytes().startswith(b'<?xml') and (tmp_path / '0003.png').exists()
    output_formats.AlignmentPrinter().write(3, 'a b', [one])
    assert capsys.readouterr().err == 'a b\nc         a 1.00\nb <copy>  b <unk> 1.00\n'
    output_formats.Pictures(str(tmp_path)).write(4, 'a b', [one._replace(source_tokens=['a', 'هذا'])])
    told = capsys.readouterr().err
    assert told.startswith('line 4 has no picture: ') and told.count('\n') == 1 and len(drawn) == 2
