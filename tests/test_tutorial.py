"""The tutorial notebooks: the same code in both languages, and outputs that a new run prints again."""
import io
import json
import os
import re
import sys
import tokenize

import matplotlib
import numpy as np
import pytest

from test_commands import ROOT

DOCS = os.path.join(str(ROOT), 'docs')
sys.path.insert(0, DOCS)
try:
    import run_tutorial
    import tutorial_figures
finally:
    del sys.path[0]

NUMBER = re.compile(r'-?\d+(?:\.\d*)?(?:e[-+]\d+)?')
TOLERANCE = 2e-4  # of printed values with four digits; cells whose numbers depend on a training have their own


def read(name):
    with open(os.path.join(DOCS, name), encoding='utf-8') as stream:
        return json.load(stream)


def code(notebook):
    """For each code cell its tokens without strings and comments, which differ between the languages."""
    found = []
    for cell in notebook['cells']:
        if cell['cell_type'] == 'code':
            source = ''.join(cell['source']).replace('%matplotlib', 'matplotlib')
            found.append([token.string for token in tokenize.generate_tokens(io.StringIO(source).readline)
                          if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.STRING)])
    return found


def printed(notebook):
    """For each code cell with compared numbers: its tolerance, and the text that it printed."""
    for cell in notebook['cells']:
        if cell['cell_type'] == 'code' and not {'times', 'solution'} & set(cell['metadata']):
            yield cell['metadata'].get('tolerance'), ''.join(
                ''.join(output['text']) for output in cell['outputs'] if output.get('name') == 'stdout')


def test_both_languages_have_the_same_code():
    english, chinese = [code(read(name)) for name in run_tutorial.NOTEBOOKS]
    assert len(english) > 25 and english == chinese


@pytest.mark.parametrize('name', run_tutorial.NOTEBOOKS)
def test_the_outputs_are_committed_without_errors_and_small(name):
    path, notebook = os.path.join(DOCS, name), read(name)
    assert os.path.getsize(path) < 2.5e6    # pictures of 144 dpi
    outputs = [output for cell in notebook['cells'] for output in cell.get('outputs', ())]
    assert not [output for output in outputs if output['output_type'] == 'error' or output.get('name') == 'stderr']
    assert sum('image/png' in output.get('data', {}) for output in outputs) >= 6
    assert len(''.join(text for _, text in printed(notebook))) > 3000


def test_a_text_that_arrives_in_pieces_is_one_output():
    def stream(name, text):
        return {'output_type': 'stream', 'name': name, 'text': text}
    picture = {'output_type': 'display_data', 'data': {}}
    assert run_tutorial.join_streams([
        stream('stdout', 'a [1.'), stream('stdout', ']'), stream('stdout', '\n'), picture, stream('stdout', 'b'),
        stream('stderr', 'c'), picture, picture]) == [
            stream('stdout', 'a [1.]\n'), picture, stream('stdout', 'b'), stream('stderr', 'c'), picture, picture]


def test_only_the_words_with_weight_are_coloured_in_a_notebook_too():
    with matplotlib.rc_context({'figure.facecolor': (1, 1, 1, 0)}):  # as `%matplotlib inline` sets it
        frame = np.asarray(tutorial_figures.alignment_frame(['tea', 'sun'], ['a'], np.array([[1., 0.]]), 0)).astype(int)
    height, width = frame.shape[:2]
    row = frame[int(height * (1 - 2.2 / 3.1))]                   # in the words' boxes, below the letters
    left, right = (row[int(width * x / 2.7)] for x in (.6, 1.55))
    assert left.tolist() < [100, 140, 200] and right.min() > 240 and frame[0, 0].tolist() == [255, 255, 255]


@pytest.mark.slow
def test_the_notebooks_print_their_numbers_again():
    pytest.importorskip('nbclient', reason='needs nbclient: make tutorial-setup')
    pytest.importorskip('ipykernel', reason='needs ipykernel: make tutorial-setup')
    done = run_tutorial.execute_all([os.path.join(DOCS, name) for name in run_tutorial.NOTEBOOKS], solutions=True)
    for name, notebook in zip(run_tutorial.NOTEBOOKS, done):
        solutions = [cell for cell in notebook['cells'] if 'solution' in cell['metadata']]
        assert len(solutions) == 4
        for cell in solutions:
            assert cell['outputs'][0]['text'] == cell['metadata']['solution'], name
        for (tolerance, expected), (_, found) in zip(printed(read(name)), printed(notebook)):
            if tolerance is None:  # words too: nothing here depends on a training
                assert NUMBER.sub('#', found).split() == NUMBER.sub('#', expected).split()
            pairs = list(zip(*[[float(number) for number in NUMBER.findall(text)] for text in (found, expected)]))
            wrong = [(a, b) for a, b in pairs if abs(a - b) > (tolerance or TOLERANCE) * max(1., abs(b))]
            assert not wrong, (name, expected, found)
            assert len(NUMBER.findall(found)) == len(NUMBER.findall(expected))
