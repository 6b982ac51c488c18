"""The page of alignments: one HTML file that needs no network, made from `alignment_page.html`."""
import base64
import json
import os
import re

from storage.output_files import write_output

import numpy as np
from reports.alignment_text import checked_weights, finite
from reports.label_fonts import BUNDLED_FONT, glyph_ids
from reports.page_font import font_subset

HERE = os.path.dirname(os.path.abspath(__file__))
# What every page with alignments has, in the order of loading: each script uses names of those before it.
PAGE_SCRIPTS = ('page_language.js', 'alignment_files.js', 'alignment_player.js', 'alignment_view.js')
PAGE_STYLES = ('alignment_view.css',)
# Chinese and kana with their punctuation: what a system without a Chinese font shows as boxes.
EAST_ASIAN = re.compile('[\u2e80-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff]')
EAST_ASIAN_RANGE = 'U+2E80-9FFF, U+F900-FAFF, U+FE30-FE4F, U+FF00-FFEF, U+20000-3FFFF'  # the same in CSS


def write_page(path, sentences):
    """Writes one self-contained page to look through alignments with mouse or keyboard.

    # Arguments
        path: file to write; `UserError` names it if that fails.
        sentences: dicts of `source` (text), `source_tokens` (S strings) and `hypotheses`, best first: dicts as for
            `hypothesis_data`. `unknown`, the positions of source tokens without an id, and `reference`, a text, may be
            absent.
    """
    data = []
    for sentence in sentences:
        tokens = list(sentence['source_tokens'])
        entry = {'source': sentence['source'], 'source_tokens': tokens,
                 'hypotheses': [hypothesis_data(tokens, hypothesis) for hypothesis in sentence['hypotheses']]}
        entry.update({name: sentence[name] for name in ('unknown', 'reference') if sentence.get(name)})
        data.append(entry)
    east_asian = set(EAST_ASIAN.findall(json.dumps(data, ensure_ascii=False)))
    outside = sorted(character for character in east_asian if ord(character) not in glyph_ids(BUNDLED_FONT))
    text = json.dumps({'sentences': data, 'outside': ' '.join(outside)}, ensure_ascii=False, allow_nan=False,
                      separators=(',', ':'))
    page = fill_template('alignment_page.html', {'/*FONT*/': font_face(east_asian), '"DATA"': html_safe(text)})
    # A lone surrogate has no UTF-8; its backslash escape means the same to JSON.
    write_output(path, page.encode('utf-8', 'backslashreplace'))


def hypothesis_data(source_tokens, hypothesis):
    """The data of an output that the pages show, as JSON values.

    # Arguments
        source_tokens: list of S strings.
        hypothesis: dict of `text`, `tokens` (T strings), `score` (a number or `None`) and `weights` (T, S) in [0, 1],
            or `None` from a model without attention. These may be absent: `unknown` and `copied`, positions of
            tokens; `log_probabilities` (T); `candidates`, for each token a list of (token, probability).

    # Returns
        The dict with weights as integers, in thousandths.

    # Raises
        ValueError: `weights` is not (T, S), or not in [0, 1].
    """
    tokens, weights = list(hypothesis['tokens']), hypothesis['weights']
    if weights is not None:  # thousandths make a smaller page
        weights = np.rint(checked_weights(source_tokens, tokens, weights) * 1000).astype(int).tolist()
    data = {'text': hypothesis['text'], 'tokens': tokens, 'score': finite(hypothesis.get('score')), 'weights': weights}
    data.update({name: list(hypothesis[name]) for name in ('unknown', 'copied') if hypothesis.get(name)})
    if hypothesis.get('log_probabilities'):
        data['log_probabilities'] = [round(float(value), 4) for value in hypothesis['log_probabilities'][:len(tokens)]]
    if hypothesis.get('candidates'):
        data['candidates'] = [[[token, round(float(probability), 4)] for token, probability in step]
                              for step in hypothesis['candidates'][:len(tokens)]]
    return data


def fill_template(name, values):
    """Fills in the template of a page.

    # Arguments
        name: file in this folder.
        values: dict of placeholder to text; the style and the scripts that the pages share are added.

    # Returns
        The page as text.
    """
    values = dict(values, **{'/*VIEW STYLE*/': ''.join(map(read_part, PAGE_STYLES)),
                             '/*VIEW SCRIPT*/': ''.join(map(read_part, PAGE_SCRIPTS))})
    pattern = '|'.join(map(re.escape, values))  # one pass, so that no inserted text is searched
    return re.sub(pattern, lambda match: values[match.group()], read_part(name))


def read_part(name):
    """The text of a file of the pages, in this folder."""
    with open(os.path.join(HERE, name), encoding='utf-8', newline='\n') as stream:
        return stream.read()


def font_face(characters):
    """A CSS rule with these characters of the bundled font; empty if it has none of them."""
    font = font_subset(characters)
    return ('@font-face { font-family: "Embedded"; src: url(data:font/ttf;base64,%s) }'
            % base64.b64encode(font).decode('ascii')) if font else ''


def html_safe(json_text):
    """Escapes the characters of JSON that HTML could read as markup: no text can end the script element."""
    return re.sub('[<>&\u2028\u2029]', lambda match: '\\u%04x' % ord(match.group()), json_text)
