"""The two kinds of kernels, and the one place that chooses: `kit(settings)`. Letters as in `attention.py`.

`--kernels keras` computes as Keras 2.2.4 does, bit for bit; `--kernels fast` has the same mathematics, weights and
names with loops whose gradients are written by hand. In a Keras model of your own the fast layers take the place of
those that they are named after:

    from kernels import GRU, LSTM, GlobalAttention, LocalAttention
"""
import collections

import tf_session  # noqa: F401  first: it fixes the import order
from keras import layers

import attention
from decoder_cell import InputFeedingRNN
from kernels.attention_blocks import GlobalAttention
from kernels.attention_windows import LocalAttention
from kernels.decoder import FeedingDecoder
from kernels.fused_loss import FusedLoss
from kernels.recurrent import GRU, LSTM
from settings import attends_in_blocks
from token_loss import TokenLoss

Kit = collections.namedtuple(
    'Kit', 'recurrent_layers global_attention local_attention decoder_loop token_loss')
Kit.__doc__ = """What differs between the two kinds of kernels.

recurrent_layers: classes of the names 'lstm' and 'gru'. global_attention, local_attention: classes. decoder_loop: the
RNN class of a `DecoderCell` with input feeding. token_loss: function of (model, smoothing, attention_loss), a
`TokenLoss` or what has its methods.
"""


def kit(settings):
    """The `Kit` of a run's settings."""
    parts = attention.GlobalAttention, attention.LocalAttention, InputFeedingRNN
    if attends_in_blocks(settings):
        parts = GlobalAttention, LocalAttention, FeedingDecoder
    if settings.kernels == 'keras':
        return Kit({'lstm': layers.LSTM, 'gru': layers.GRU}, *parts, token_loss=_loss_of_logits)
    return Kit({'lstm': LSTM, 'gru': GRU}, *parts, token_loss=FusedLoss)


def _loss_of_logits(model, smoothing, attention_loss):
    return TokenLoss(smoothing, attention_loss)
