"""The vocabularies and tokenisers of a run that another one continues (`--keep-vocabulary`)."""
from command_line import require
from settings import SETTINGS
from storage.run_directory import RunDirectory
from text.subwords import KINDS
from text.tokenizers import MODEL_FILE, read_tokenizers
from text.vocabulary import Vocabulary, read_vocabularies

# What decides the tokens of a text: it must be as in the run that is continued.
TOKENISING = ('source_tokenizer', 'target_tokenizer', 'share_vocabulary', 'spacing_marks')


def kept(settings):
    """What a new run takes from that of `--init-from`.

    # Returns
        [source tokeniser, target tokeniser], {file name: bytes} of their subword models, and [source vocabulary, target
        vocabulary].

    # Raises
        UserError: that run divides its text otherwise, or a file of it is missing or damaged.
    """
    run = RunDirectory.open(settings.init_from)
    config = run.read_config()
    for name in TOKENISING:
        given, value = getattr(settings, name), config.get(name, False)
        text = {True: 'yes', False: 'no'}.get(value, value)
        require(given == value, '%s: --keep-vocabulary keeps its tokens, and it was trained with %s %s: give that too',
                settings.init_from, SETTINGS[name].option, text)
    models = {MODEL_FILE % side: run.read_file(MODEL_FILE % side) for side in ('source', 'target')
              if config[side + '_tokenizer'] in KINDS}
    return read_tokenizers(run, settings), models, read_vocabularies(run)


def joined(old, new):
    """A vocabulary with the tokens of `old`, which keep their ids, and then the other tokens of `new`."""
    return Vocabulary(old.tokens + [token for token in new.tokens if token not in old.index])


def lost(old, new):
    """The share of the tokens of a vocabulary that another one does not have."""
    return sum(token not in new.index for token in old.tokens) / float(len(old))
