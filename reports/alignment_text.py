"""An alignment as text for a terminal; the check of weights and safe text, which all views of an alignment use."""
import math
import unicodedata

import numpy as np

SHOWN_WEIGHT = 0.05  # smaller weights are omitted
SHOWN_WORDS = 3
BOX = '\u25a1'  # replaces what cannot be shown; unlike U+FFFD, Chinese fonts have it


def format_alignment(source_tokens, target_tokens, weights, unknown=(), copied=()):
    """The alignment as text: a line for each target token with the source tokens it attends to most.

    Up to three source tokens appear, the largest weight first (equal ones in source order), if their weights are 0.05
    or more; the largest always appears unless it is 0. `<unk>` follows a source token that the model does not know,
    `<copy>` a target token that it copied. Columns are aligned; a wide East Asian character counts as two cells.

    # Arguments
        source_tokens, target_tokens: lists of S and T strings.
        weights: (T, S), each in [0, 1].
        unknown, copied: positions of source tokens without an id, and of copied target tokens.

    # Returns
        Text of T lines, without a final line feed.

    # Raises
        ValueError: `weights` is not (T, S), or not in [0, 1].
    """
    weights = checked_weights(source_tokens, target_tokens, weights)
    source = [printable(token) + ' <unk>' * (s in unknown) for s, token in enumerate(source_tokens)]
    target = [printable(token) + ' <copy>' * (t in copied) for t, token in enumerate(target_tokens)]
    rows = []
    for token, row in zip(target, weights):
        best = [s for s in np.argsort(-row, kind='stable')[:SHOWN_WORDS] if row[s] > 0]
        shown = [s for s in best[1:] if row[s] >= SHOWN_WEIGHT]
        rows.append([token] + ['%s %.2f' % (source[s], row[s]) for s in best[:1] + shown])
    widths = [max(display_width(row[n]) for row in rows if len(row) > n) for n in range(max(map(len, rows), default=0))]
    return '\n'.join('  '.join(cell + ' ' * (width - display_width(cell)) for cell, width in zip(row, widths)).rstrip()
                     for row in rows)


def checked_weights(source_tokens, target_tokens, weights):
    """`weights` as a float64 array (T, S); `ValueError` if it is not that, or not in [0, 1]."""
    weights = np.asarray(weights, dtype=np.float64)
    expected = (len(target_tokens), len(source_tokens))
    if weights.shape == (0,) and not expected[0]:
        weights = weights.reshape(expected)
    if weights.shape != expected:
        raise ValueError('alignment weights have shape %s, but %d target and %d source tokens need %s'
                         % (weights.shape, *expected, expected))
    # Float32 sums exceed 1 by a few units of the last place.
    if weights.size and not (weights.min() >= -1e-4 and weights.max() <= 1 + 1e-4):
        raise ValueError('alignment weights must lie in [0, 1], not reach from %g to %g'
                         % (weights.min(), weights.max()))
    return weights.clip(0, 1)


def display_width(text):
    """Cells that `text` takes in a terminal: two for wide East Asian characters, none for combining ones."""
    return sum(0 if unicodedata.category(character) in ('Mn', 'Me', 'Cf')
               else 2 if unicodedata.east_asian_width(character) in 'WF' else 1 for character in text)


def printable(text):
    """Replaces control characters, lone surrogates and the like in `text`, which a terminal would execute."""
    return ''.join(character if character.isprintable() else BOX for character in text)


def finite(value):
    """The value as a finite float, else `None`: JSON and curves have no infinity or NaN."""
    if value is None or value == '':
        return None
    value = float(value)
    return value if math.isfinite(value) else None
