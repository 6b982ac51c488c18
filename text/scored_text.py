"""The text of a run that is scored: its test text, its validation text, or the lines that training held out."""
import collections
import itertools
import os

from command_line import require, system_path
from storage.files import file_sha256
from text.corpus import corpus_paths, hold_out, pairs_of_run

# Nothing there is a text, and reading it may have no end or do something.
SYSTEM_FOLDERS = ('/dev/', '/proc/', '/sys/')

ScoredText = collections.namedtuple('ScoredText', 'paths held_out files note')
ScoredText.__doc__ = """`paths`: its files. `held_out`: indices of the lines that count, `None` for all. `files`: all
files of the run's text. `note`: what it is, for the table of scores; '' for a test text."""


def scored_text(settings, recorded, split=None, trusted=False):
    """Chooses the text.

    A run may come from a stranger, who must not decide which files of this machine are read. A file outside the current
    directory is read only if its SHA-256 is recorded: whoever made the run has had its content.

    # Arguments
        settings: those of the run.
        recorded: the SHA-256 of the files of each part of the text, from the run's manifest.
        split: 'test' or 'val'; by default 'test' if the run has a test text, else 'val'.
        trusted: Boolean, files may be anywhere and of any content.

    # Raises
        UserError: there is no such text, it may not be read, or it is not the one of the training.
    """
    for name in (settings.train or [settings.data]) + (settings.val or []) + (settings.test or []):
        path = os.path.join(os.path.realpath(system_path(name)), '')
        require(trusted or not path.startswith(SYSTEM_FOLDERS), 'the run names its text as %s: name a text with '
                '--source and --target', name)
    texts = corpus_paths(settings)
    split = split or ('test' if 'test' in texts else 'val')
    require(split in texts or split == 'val', 'the run has no test text: score its validation text with --split val, '
            'or name a text with --source and --target')
    part = split if split in texts else 'train'
    here = os.path.join(os.path.realpath(os.curdir), '')
    outside = [path for path in texts[part] if not os.path.realpath(path).startswith(here)]
    if part == 'train' or outside and not trusted:
        hashes = recorded.get(part) if isinstance(recorded, dict) else None
        is_recorded = [file_sha256(path) for path in texts[part]] == hashes
        require(is_recorded or part != 'train', '%s: is not the text that the run was trained on, so that the lines '
                'which were held out are unknown: restore it, or name a text with --source and --target',
                ' '.join(texts[part]))
        require(is_recorded or trusted, 'the run names its text as %s, which is outside the current directory and is '
                'not the text that the run recorded: add --trust-run to read it, or name a text with --source and '
                '--target', ' '.join(outside))
    held_out = None
    if part == 'train':
        count = sum(1 for _ in pairs_of_run(settings, texts[part]))
        held_out = hold_out(count, settings.seed)
    note = {'test': '', 'val': 'of the validation text', 'train': 'that training held out'}[part]
    return ScoredText(texts[part], held_out, list(itertools.chain(*texts.values())), note)


def chosen(text, items):
    """The items, one for each line of a `ScoredText`, of the lines that count."""
    items = list(items)
    return items if text.held_out is None else [items[index] for index in text.held_out]
