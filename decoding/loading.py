"""Reads run directories into models of the current graph."""
import tf_session  # noqa: F401  first: it fixes the import order
import tensorflow as tf
from keras import backend as K

from command_line import require
from seq2seq_model import Seq2Seq
from settings import check, with_defaults
from storage.run_directory import RunDirectory
from text import vocabulary
from text.questions import separators
from text.tokenizers import read_tokenizers


def open_runs(paths):
    """The `RunDirectory` and the settings of each path, two lists, after checking that they make an ensemble.

    # Raises
        UserError: a directory holds no trained run, or the runs have other vocabularies or tokenisers than the first.
    """
    runs = [RunDirectory.open(path) for path in paths]
    configs = [with_defaults(run.read_config()) for run in runs]
    for run, settings in zip(runs, configs):
        check(settings)
        check_compatible(runs[0], configs[0], run, settings)
    return runs, configs


def read_vocabularies(run, settings):
    """The (tokeniser, vocabulary) of the source and of the target of a run."""
    return tuple(zip(read_tokenizers(run, settings), vocabulary.read_vocabularies(run)))


def load_models(runs, configs, source_vocabulary, target_vocabulary):
    """The models of runs in the current graph, with their best weights, ready for inference."""
    models = [load_model_weights(run, settings, source_vocabulary, target_vocabulary,
                                 'member_%d/' % number if len(runs) > 1 else '')
              for number, (run, settings) in enumerate(zip(runs, configs), 1)]
    for model in models:
        model.freeze_for_inference()
    return models


def check_compatible(first, first_settings, run, settings):
    """Raises `UserError` if the tokenisers, vocabularies or the setting `copy` of two runs differ."""
    for name in ('source_tokenizer', 'target_tokenizer', 'spacing_marks', 'copy'):
        value, first_value = getattr(settings, name), getattr(first_settings, name)
        require(value == first_value, '%s: %s is %s, and %s in %s: an ensemble needs runs that agree in this',
                run.file('config.json'), name, value, first_value, first.file('config.json'))
    files, first_files = run.manifest()['files'], first.manifest()['files']
    for name in ('tokenizer.source.model', 'tokenizer.target.model', 'vocab.source.txt', 'vocab.target.txt'):
        require(files.get(name) == first_files.get(name),
                '%s: differs from %s: an ensemble needs runs with the same vocabularies and tokenisers',
                run.file(name), first.file(name))


def load_model_weights(run, settings, source_vocabulary, target_vocabulary, scope):
    """Builds the model of a run in the name scope `scope` of the current graph, and loads its best weights."""
    with tf.name_scope(scope or None):
        # Keras' orthogonal initialiser would take memory while the graph is built, before the weights' shapes are read.
        model = Seq2Seq(with_defaults(dict(vars(settings), init_scale=1.)), len(source_vocabulary),
                        len(target_vocabulary), separators(settings, source_vocabulary))
    layers = [layer for layer in model.training_model.layers if layer.weights]
    expected = [(layer.name, [(weight.name[len(scope):], K.int_shape(weight), weight.dtype.base_dtype.as_numpy_dtype)
                              for weight in layer.weights]) for layer in layers]
    arrays = dict(run.read_weights(expected))
    K.batch_set_value([(weight, value) for layer in layers
                       for weight, value in zip(layer.weights, arrays[layer.name])])
    return model
