"""What the page that translates tells about a run: its languages, its limits, and texts to try."""
import collections
import itertools
import os
import re

from command_line import require
from storage.files import file_sha256
from text.corpus import read_pairs
from text.text_files import read_lines

SAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'samples')
EXAMPLES = 6
# Frequent words that few other languages have; scripts that belong to one language. Cyrillic and Arabic do not.
FUNCTION_WORDS = {
    'en': 'the of and to is that with', 'de': 'der die das und ein ist mit', 'fr': 'le les et un une est dans',
    'es': 'el los y que un una en', 'it': 'il di e che un una con', 'nl': 'het een en van de met op',
    'pt': 'o os e que um uma em', 'sv': 'och en som är med på ett'}
SCRIPTS = (('ja', '[\u3040-\u30ff]'), ('ko', '[\uac00-\ud7af]'), ('zh', '[\u4e00-\u9fff]'), ('el', '[\u0370-\u03ff]'),
           ('he', '[\u0590-\u05ff]'), ('th', '[\u0e00-\u0e7f]'))


def about_run(name, settings, vocabularies, examples=()):
    """A dict of JSON values.

    # Arguments
        name: of the run. settings: its settings. vocabularies: `Vocabulary` of source and target.
        examples: source texts to try.
    """
    return {'name': name, 'task': settings.task, 'score': settings.score, 'attention': settings.attention,
            'beam_width': settings.beam_width, 'copy': settings.copy, 'max_source_length': settings.max_source_length,
            'languages': languages(settings, vocabularies), 'examples': list(examples)}


def languages(settings, vocabularies):
    """ISO 639-1 codes of source and target, from the names of the texts or from frequent words; `None` if unsure."""
    files = [re.sub(r'\.gz$', '', path) for path in settings.train or []]
    ends = [path.rpartition('.')[2] for path in files[:len(files) // 2][:1] + files[len(files) // 2:][:1]]
    if len(files) > 1 and ends[0] != ends[1] and all(re.fullmatch('[a-z]{2}', end) for end in ends):
        return ends
    found = [_language(vocabulary.tokens[4:]) for vocabulary in vocabularies]
    return found if all(found) else None


def _language(tokens):
    """The language of a vocabulary, the most frequent tokens first."""
    frequent = [token.strip('▁‿').lower() for token in tokens[:150]]
    text = ''.join(frequent)
    for code, pattern in SCRIPTS:
        if len(re.findall(pattern, text)) > 0.3 * len(text):
            return code
    ranked = collections.Counter({code: len(set(words.split()) & set(frequent))
                                  for code, words in FUNCTION_WORDS.items()}).most_common(2)
    return ranked[0][0] if ranked[0][1] >= 4 and ranked[0][1] >= ranked[1][1] + 2 else None


def read_examples(path):
    """The first lines of a file, as source texts to try."""
    texts = [line.strip() for line in itertools.islice(read_lines(path), EXAMPLES)]
    require(all(texts), '%s: one of the first %d lines is empty: give a text on each', path, EXAMPLES)
    return texts


def sample_examples(manifest):
    """Source texts of this project's own samples, for a run that has them as its test part; else none.

    A run's own text may be private: no line of it is published unless the user names a file.
    """
    for task in sorted(os.listdir(SAMPLES)):
        path = os.path.join(SAMPLES, task, 'test.tsv')
        if os.path.isfile(path) and file_sha256(path) in (manifest.get('data') or {}).get('test', ()):
            pairs = list(read_pairs([path], 'qa' if task == 'answer' else 'pairs'))
            return [source for source, _ in pairs[::max(1, len(pairs) // EXAMPLES)]][:EXAMPLES]
    return []
