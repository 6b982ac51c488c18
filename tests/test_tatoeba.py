"""The packed model of real text, and the controls of the tutorial."""
import os

from command_line import UserError  # first: it sets the environment of NumPy
import numpy as np
import pytest

from samples import tatoeba
from settings import defaults
from storage.run_directory import RunDirectory
from storage.weights_file import WeightsReader
from test_commands import ROOT
from text.vocabulary import Vocabulary


def test_a_packed_run_has_the_settings_vocabularies_and_nearly_the_weights_of_the_run(tmp_path):
    draw = np.random.RandomState(1)
    arrays = {'one/kernel:0': draw.normal(size=(7, 3)).astype('f'), 'one/bias:0': draw.normal(size=3).astype('f'),
              'two/kernel:0': np.zeros((2, 5), 'f')}
    words = Vocabulary(['<pad>', '<unk>', '<s>', '</s>', 'tea', '茶']).to_bytes()
    with RunDirectory.create(str(tmp_path / 'run'), dict(defaults(), units=6), dict.fromkeys(
            tatoeba.VOCABULARIES, words), {}) as run:
        run.write_weights([(layer, [(name, arrays[name]) for name in sorted(arrays) if name.startswith(layer)])
                           for layer in ('one', 'two')])
    tatoeba.main(['pack', str(tmp_path / 'run'), str(tmp_path / 'run.npz')])
    tatoeba.unpack(str(tmp_path / 'again'), str(tmp_path / 'run.npz'))
    again = RunDirectory.open(str(tmp_path / 'again'))
    assert again.read_config() == RunDirectory.open(str(tmp_path / 'run')).read_config()
    assert all(again.read_file(name) == words for name in tatoeba.VOCABULARIES)
    reader = WeightsReader(again.read_file('weights.h5'), 'weights.h5')
    for name, array in arrays.items():
        found = reader.read('%s/%s' % (name[:3], name))
        # Half a step of 127, of the largest weight of the row or column; a vector is exact.
        allowed = 0 if array.ndim < 2 else abs(array).max(axis=array.shape.index(min(array.shape)), keepdims=True)
        assert np.all(abs(found - array) <= allowed / 254. + 1e-7), name
    with pytest.raises(UserError, match='again'):
        tatoeba.unpack(str(tmp_path / 'again'), str(tmp_path / 'run.npz'))


def test_the_committed_model_is_small():
    assert os.path.getsize(tatoeba.PACKED) < 10 ** 6


@pytest.mark.slow
def test_the_committed_model_translates_and_knows_what_it_does_not_know():
    with tatoeba.load() as translator:
        (music,), (unknown,) = translator.translate(['She likes music.', 'I met Gwendolyn in Boston.'], beam_width=5)
    assert music.text == '她喜欢音乐。' and music.alignment[music.tokens.index('音')].argmax() == 2
    assert [unknown.source_tokens[s] for s in unknown.unknown] == ['Gwendolyn']


def test_controls_show_a_picture_and_draw_it_anew(monkeypatch):
    pytest.importorskip('IPython', reason='needs IPython: make tutorial-setup')
    monkeypatch.syspath_prepend(os.path.join(str(ROOT), 'docs'))
    import tutorial_figures
    import tutorial_widgets
    shown, drawn = [], []
    monkeypatch.setattr(tutorial_widgets, 'display', lambda bundle, **_: shown.append(bundle))

    def draw(text, step):
        drawn.append((text, step))
        return tutorial_figures.note('%s %d' % (text, step))

    widgets = tutorial_widgets.play(draw, text='May 5', step=(3, 1, 9))
    assert drawn == [('May 5', 3)] and shown[0]['image/png'].startswith('iVBORw0')
    if not widgets:
        pytest.skip('needs ipywidgets: make tutorial-setup')
    before = widgets['picture'].value
    widgets['step'].value = 7
    assert drawn[1:] == [('May 5', 7)] and widgets['picture'].value != before and tutorial_widgets.WIDGET in shown[0]
