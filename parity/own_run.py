"""The training model of a run of `train.py`, for `regress.py convert RUN OUT`."""
import os

import tf_session  # noqa: F401  first: it fixes the import order

from command_line import UserError, require
from seq2seq_model import Seq2Seq
from settings import check, with_defaults
from storage.run_directory import RunDirectory
from text.vocabulary import read_vocabularies

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LAYERS = os.path.join(ROOT, 'docs', 'port_keras3', 'run_layers.py')     # its layers in Keras 3
LOST = 'a run trains with a loss and an optimiser of its own, which docs/port_keras3/port.py has for Keras 3'


def build(path):
    """The model of a run directory with the kernels of Keras, without its weights, and the path of its weights.

    # Raises
        UserError: no trained run, or one whose layers have no port each.
    """
    run = RunDirectory.open(path)
    settings = with_defaults(dict(run.read_config(), kernels='keras', guided_alignment=0.))
    check(settings)
    for name, has_none in (('--copy', settings.copy),
                           ('--encoder ' + settings.encoder, settings.encoder != 'recurrent')):
        if has_none:
            raise UserError('%s: was trained with %s, whose layers have no port each: write its bundle with regress.py '
                            'export, and run it with docs/port_keras3/model.py' % (path, name))
    weights = run.file('weights.h5')
    require(os.path.isfile(weights), '%s: has no weights yet: train it first', path)
    source, target = read_vocabularies(run)
    return Seq2Seq(settings, len(source), len(target)).training_model, weights
