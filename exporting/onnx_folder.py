"""The files of a folder that translates with onnxruntime and NumPy only."""
import os

from command_line import UserError
from reports.progress import Progress
from storage.files import to_json
from text.questions import separators
from text.vocabulary import Vocabulary

# Files of an ONNX directory besides the graphs: those of the run, and those of this checkout with their new names.
RUN_FILES = ('vocab.source.txt', 'vocab.target.txt', 'tokenizer.source.model', 'tokenizer.target.model')
PROGRAM_FILES = (('adapters/onnx_translate.py', 'translate.py'),) + tuple(
    (name, name) for name in ('command_line.py', 'search_options.py', 'settings.py', 'exporting/__init__.py',
                              'exporting/manifest.py', 'text/__init__.py', 'text/tokenizers.py',
                              'text/json_lines.py', 'text/spacing_marks.py', 'text/subwords.py', 'text/vocabulary.py'))


def vocabularies_of(run):
    """The source and the target vocabulary of a run."""
    return [Vocabulary.from_bytes(run.read_file(name), run.file(name)) for name in RUN_FILES[:2]]


def onnx_files(run, settings, search):
    """{name: bytes} of the graphs, and of the files of the run that whoever runs them reads.

    # Arguments
        run: `RunDirectory`. settings: its settings. search: `search_options.Options`.

    # Raises
        UserError: the package onnx is missing.
    """
    try:
        from exporting import onnx_graph
    except ImportError:
        raise UserError('ONNX graphs need the package onnx: make onnx installs it')
    import tf_session
    from reference.numpy_model import neutral
    from keras import backend as K
    from decoding.loading import load_model_weights
    vocabularies = vocabularies_of(run)
    progress = Progress(3, 'steps: weights, encoder, decoder')
    with tf_session.temporary():
        weights = load_model_weights(run, settings, *vocabularies, scope='').training_model.weights
        arrays = {neutral(weight.name): value for weight, value in zip(weights, K.batch_get_value(weights))}
    values = vars(settings)
    separated = separators(settings, vocabularies[0])
    with progress:
        progress.advance()
        files = {'encoder.onnx': onnx_graph.encoder(values, arrays, separated).SerializeToString()}
        progress.advance()
        files['step.onnx'] = onnx_graph.step(values, arrays).SerializeToString()
        progress.advance()
    files['config.json'] = to_json({'settings': values, 'search': search._asdict()})
    files.update((name, run.read_file(name)) for name in RUN_FILES if os.path.exists(run.file(name)))
    return files


def program_files():
    """{name: bytes} of the programs in an ONNX directory."""
    files, root = {}, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for source, name in PROGRAM_FILES:
        with open(os.path.join(root, source), 'rb') as stream:
            files[name] = stream.read()
    return files
