"""The page of alignments: one HTML file that needs no network, made from `alignment_page.html`."""
import base64
import json
import os
import re

from storage.files import write_bytes

import numpy as np
from reports.alignment_text import checked_weights, finite
from reports.label_fonts import BUNDLED_FONT

TEMPLATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'alignment_page.html')


def write_page(path, sentences):
    """Writes one self-contained page to look through alignments with mouse or keyboard.

    # Arguments
        path: file to write; `UserError` names it if that fails.
        sentences: dicts of `source` (text), `source_tokens` (S strings) and `hypotheses`, best first: dicts of
            `text`, `tokens` (T strings), `score` (a number or None) and `weights` (T, S) in [0, 1], or None from
            a model without attention.
    """
    data = []
    for sentence in sentences:
        source_tokens = list(sentence['source_tokens'])
        hypotheses = []
        for hypothesis in sentence['hypotheses']:
            weights = hypothesis['weights']
            if weights is not None:  # thousandths make a smaller page
                weights = checked_weights(source_tokens, hypothesis['tokens'], weights)
                weights = np.rint(weights * 1000).astype(int).tolist()
            hypotheses.append({'text': hypothesis['text'], 'tokens': list(hypothesis['tokens']),
                               'score': finite(hypothesis.get('score')), 'weights': weights})
        data.append({'source': sentence['source'], 'source_tokens': source_tokens, 'hypotheses': hypotheses})
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(',', ':'))
    with open(TEMPLATE, encoding='utf-8', newline='\n') as lines:
        template = lines.read()
    font = ''
    if re.search('[\u2e80-\u9fff\uff00-\uffef]', text):  # for a machine without a Chinese font
        with open(BUNDLED_FONT, 'rb') as lines:
            font = ('@font-face { font-family: "Bundled"; src: url(data:font/ttf;base64,%s) }'
                    % base64.b64encode(lines.read()).decode('ascii'))
    parts = re.split('/\\*FONT\\*/|"DATA"', template)
    page = parts[0] + font + parts[1] + html_safe(text) + parts[2]
    # A lone surrogate has no UTF-8; its backslash escape means the same to JSON.
    write_bytes(path, page.encode('utf-8', 'backslashreplace'))


def html_safe(json_text):
    """The same JSON without a character that HTML would read as markup, so that no text can end the script element."""
    return re.sub('[<>&\u2028\u2029]', lambda match: '\\u%04x' % ord(match.group()), json_text)
