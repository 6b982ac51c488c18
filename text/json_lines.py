"""The JSON of one input line and its outputs, of `predict.py` and of exported folders. Standard library only."""
import json
import math
import re

DIGITS = 6           # after the point: more than float32 holds


def json_line(source, source_tokens, hypotheses):
    """One JSON object; null for a number that is not finite and for the alignment of a model without attention.

    # Arguments
        source: str. source_tokens: list of str. hypotheses: objects with the fields of `translator.Hypothesis`.
    """
    text = json.dumps({'source': source, 'source_tokens': source_tokens, 'hypotheses': [
        {'text': hypothesis.text, 'tokens': hypothesis.tokens, 'score': _number(hypothesis.score),
         'ranking': _number(hypothesis.ranking),
         'log_probabilities': [_number(value) for value in hypothesis.log_probabilities],
         'alignment': None if hypothesis.alignment is None else [[_number(value) for value in row]
                                                                 for row in hypothesis.alignment.tolist()]}
        for hypothesis in hypotheses]}, ensure_ascii=False, allow_nan=False)
    # JSON leaves these characters as they are, but many readers of lines and terminals do not.
    return re.sub('[\x7f-\x9f\u2028\u2029]', lambda match: '\\u%04x' % ord(match.group()), text)


def _number(value):
    return round(float(value), DIGITS) if math.isfinite(value) else None
