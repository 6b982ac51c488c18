"""Whether a file of our reference set fits its entry of the manifest, before anything is computed from it.

The second half of `parity.fitting`: the settings, sizes and ids of this project's own models. No TensorFlow.
"""
import numpy as np

import search_options
import settings
from command_line import UserError, require
from parity.bundle import MANIFEST, NUMBERS, printable
from parity.compare import BATCHES
from parity.fitting import REMEDY, check_arrays
from storage.config_file import check_config
from storage.files import show
from text.batches import make_batch, pad
from text.subwords import KINDS
from text.vocabulary import END, PAD, SPECIALS, Vocabulary

WORDS = 'iu'        # types of ids


def check_file(path, entry, arrays):
    """One file of a set, except the shapes of most parameters, which only the model knows: see `check_arrays`.

    # Arguments
        path: of the file, for messages.
        entry: its entry of the manifest, as `bundle.read_manifest` checked it.
        arrays: all of its arrays by name.
    """
    kinds = {'case': _check_case, 'training': _check_training, 'run': _check_run}
    kind, model = entry.get('kind'), entry.get('model')
    require(isinstance(kind, str) and kind in kinds, '%s: its kind in %s is %s, and can be %s: %s', path, MANIFEST,
            show(kind), ', '.join(kinds), REMEDY)
    require(isinstance(model, dict), '%s: has no settings of a model in %s: %s', path, MANIFEST, REMEDY)
    check_config(model, path, complete=False)
    model = settings.with_defaults(model)
    try:
        settings.check_model(model)
        kinds[kind](path, entry, model, arrays)
    except UserError as error:  # those of this section name neither file nor remedy
        raise error if str(error).startswith(path) else UserError('%s: %s: %s' % (path, error, REMEDY))


def _check_case(path, entry, model, arrays):
    sizes = _check_sizes(path, entry, model, arrays)
    _check_beam(entry)
    if model.encoder != 'recurrent':
        _check_separators(entry, sizes[0], 3 if model.encoder == 'memory' else 2)
    for batch in BATCHES:
        source = _ids(path, arrays, batch + '/source', sizes[0])
        _check_location(model, batch + '/source', source)
        names = source.shape[1] if model.copy else 0    # a name that the source can have gets an id after the words
        output = _ids(path, arrays, batch + '/output', sizes[1] + names)
        targets = [[i for i in row if i not in (PAD, END)] for row in output.tolist()]
        ended = make_batch(targets, targets, range(len(targets)))[2]
        require(len(source) == len(output) and np.array_equal(ended, output),
                'the rows of %s/output are not those of %s/source, with </s> at their end', batch, batch)
        if model.copy:
            copied = _ids(path, arrays, batch + '/copied', sizes[1] + names)
            require(np.array_equal(copied != PAD, source != PAD), 'the rows of %s/copied are not those of %s/source',
                    batch, batch)
        gold = batch + '/alignments'
        require(bool(model.guided_alignment) == (gold in arrays), '%s and guided_alignment belong together', gold)
        if gold in arrays:
            check_arrays(path, arrays, {gold: (output.shape + source.shape[1:], NUMBERS)})


def _check_training(path, entry, model, arrays):
    sizes = _check_sizes(path, entry, model, arrays)
    require(not model.copy and not model.guided_alignment and model.encoder == 'recurrent',
            'trainings of a set have neither copy nor guided_alignment nor an encoder of stories')
    source, target = [_ids(path, arrays, 'input/' + side, size, END + 1)
                      for side, size in zip(('source', 'target'), sizes)]
    require(len(source) == len(target) and not len(source) % model.batch_size and source[:, 0].all() and
            target[:, 0].all(), 'input/source and input/target are not the same number of whole batches of %d '
            'sentences', model.batch_size)
    _check_location(model, 'input/source', source)


def _check_run(path, entry, model, arrays):
    sizes = []
    for side in ('source', 'target'):
        name = 'vocabulary/' + side
        check_arrays(path, arrays, {name: ((None,), 'U')})
        try:
            sizes.append(len(Vocabulary(arrays[name].tolist())))
        except ValueError as error:
            raise UserError('%s is no vocabulary: %s' % (name, printable(error)))
    _check_tables(path, model, sizes, arrays)
    _check_beam(entry)
    check_arrays(path, arrays, {'text/source': ((None,), 'U')})
    check_arrays(path, arrays, {'tokenizer/' + side: ((None,), 'U') for side in ('source', 'target')
                                if getattr(model, side + '_tokenizer') in KINDS}, 'export the run again')
    texts = arrays['text/source'].tolist()
    require(texts and all(text.strip() for text in texts), 'text/source has no sentence, or an empty one')


def _check_sizes(path, entry, model, arrays):
    """The sizes of both vocabularies of a case or a training."""
    sizes = entry.get('vocabulary')
    require(isinstance(sizes, list) and len(sizes) == 2 and all(
        type(size) is int and size > len(SPECIALS) for size in sizes), 'vocabulary in %s is not two sizes above %d',
            MANIFEST, len(SPECIALS))
    _check_tables(path, model, sizes, arrays)
    return sizes


def _check_tables(path, model, sizes, arrays):
    """The arrays whose shapes are the sizes of the model: it takes no more memory than the set before it is built."""
    require(not model.share_vocabulary or sizes[0] == sizes[1], 'share_vocabulary has vocabularies of %d and %d tokens',
            *sizes)
    gates = {'lstm': 4, 'gru': 3}[model.cell]
    width = (model.encoder_units or model.units) // (2 if model.bidirectional else 1)
    expected = {'source_embedding/embeddings': (sizes[0], model.embedding),
                'decoder_1/recurrent_kernel': (model.units, gates * model.units)}
    if model.encoder == 'memory':
        expected['memory_embedding/embeddings'] = sizes[0], (model.hops + 1) * model.units
    else:
        expected['encoder_1/%srecurrent_kernel' % ('forward/' if model.bidirectional else '')] = width, gates * width
    if not model.share_vocabulary:
        expected['target_embedding/embeddings'] = (sizes[1], model.embedding)
    check_arrays(path, arrays, {'parameter/' + name: (shape, 'f') for name, shape in expected.items()})


def _check_beam(entry):
    """The options of the beam search."""
    beam = entry.get('beam')
    require(isinstance(beam, dict) and set(beam) <= set(search_options.Options._fields),
            'beam in %s is not options of a search', MANIFEST)
    search_options.check(search_options.Options(**beam))


def _check_location(model, name, source):
    """The length of sources, for a layer with a weight for each position."""
    require(model.score != 'location' or source.shape[1] <= model.max_source_length,
            '%s has more than %d tokens, the most of --score location', name, model.max_source_length)


def _check_separators(entry, size, count):
    """The ids that divide a question and its story: one, and lists of ids."""
    found = entry.get('separators')
    whole = isinstance(found, list) and len(found) == count and all(isinstance(ids, list) for ids in found[1:])
    require(whole and all(type(i) is int and 0 <= i < size for i in sum(found[1:], found[:1])),
            'separators in %s are not ids of the vocabulary', MANIFEST)


def _ids(path, arrays, name, size, first=PAD + 1):
    """Padded ids (B, S) from `first` up to `size`, with padding after the end of each row only."""
    check_arrays(path, arrays, {name: ((None, None), WORDS)})
    ids = arrays[name]
    rows = [[i for i in row if i != PAD] for row in ids.tolist()]
    wrong = [i for row in rows for i in row if not first <= i < size]
    require(not wrong, '%s has the id %s, which is not from %d to %d', name, (wrong + [0])[0], first, size - 1)
    require(ids.size and np.array_equal(pad(rows), ids),
            '%s is empty, or not padded at the ends of its rows only', name)
    return ids
