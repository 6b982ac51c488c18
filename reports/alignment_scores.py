"""Attention against gold alignments. NumPy only."""
import collections
import math

from command_line import UserError

import numpy as np

AlignmentScores = collections.namedtuple('AlignmentScores', 'agreement linked error_rate links')
AlignmentScores.__doc__ = """`agreement`: share of the `linked` target tokens whose most attended source token is one of
their gold links. `error_rate`: AER, with `links` links of attention. NaN where nothing can be compared."""


def alignment_scores(weights, gold):
    """Compares attention with gold links.

    Attention links each target token to its most attended source token, as in section 4.5 of Luong et al. (2015). Gold
    links are positions in the reference, which the decoder must have been fed.

    The alignment error rate (Och and Ney 2003) is 1 - (|A & S| + |A & P|) / (|A| + |S|), for the links A of attention,
    the sure gold links S, and P, the sure and the possible ones.

    # Arguments
        weights: for each sentence (T, S); row j is of the step that emits target token j.
        gold: for each sentence its `sure` and its `possible` links (i, j).

    # Returns
        `AlignmentScores`.

    # Raises
        UserError: the numbers of sentences differ, or a link lies outside its sentence.
    """
    if len(gold) != len(weights):
        raise UserError('%d sentences with attention, but %d alignments: give both for the same text'
                        % (len(weights), len(gold)))
    linked = found = in_sure = in_gold = all_sure = 0
    for number, (matrix, (sure, possible)) in enumerate(zip(weights, gold), 1):
        matrix, sure = np.asarray(matrix), set(sure)
        possible = sure | set(possible)
        for i, j in sorted(possible):
            if i >= matrix.shape[1] or j >= matrix.shape[0]:
                raise UserError('alignment of sentence %d: link %d-%d lies outside its %d source and %d target tokens: '
                                'tokenise as the alignment counts' % (number, i, j, *matrix.shape[::-1]))
        attended = {(int(row.argmax()), j) for j, row in enumerate(matrix)}
        linked += len({j for _, j in possible})
        found += len(attended)
        in_sure += len(attended & sure)
        in_gold += len(attended & possible)  # also the target tokens that agree: each has one link
        all_sure += len(sure)
    return AlignmentScores(in_gold / linked if linked else math.nan, linked,
                           1 - (in_sure + in_gold) / (found + all_sure) if found + all_sure else math.nan, found)
