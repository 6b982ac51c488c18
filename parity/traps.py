"""The traps of Keras 2.2.4 and TensorFlow 1.12 for a port, one row each: when a layer meets it, and what to write.

`regress.py explain` lists the rows that a captured model meets; `compare` takes the usual causes of a difference from
them; `python -m parity.traps` writes the tables of docs/traps.md. NumPy only.
"""
from collections import namedtuple
import os
import sys

from parity import trap_tests as tests, version_traps

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'docs', 'traps.md')
BEGIN, END = '<!-- %s: written by python -m parity.traps -->', '<!-- end of %s -->'

Trap = namedtuple('Trap', 'key title classes applies keras3 pytorch onnx')
Trap.__doc__ = """One trap of layers or of training.

classes: names of the layers that can meet it; empty where it belongs to the training or to the whole model. applies:
function of a call and the bundle's arrays (or of the manifest and the arrays, without classes) that returns why the
trap matters there, or ''. keras3, pytorch, onnx: what to write there.
"""

ModelTrap = namedtuple('ModelTrap', 'title stages evidence')
ModelTrap.__doc__ = """One trap of this project's own model: the stages of the reference set that show it."""

GATED = ('LSTM', 'GRU', 'ConvLSTM2D')
RECURRENT = GATED + ('SimpleRNN', 'RNN')
WINDOWED = ('Conv1D', 'Conv2D', 'Conv3D', 'SeparableConv1D', 'SeparableConv2D', 'DepthwiseConv2D', 'MaxPooling1D',
            'MaxPooling2D', 'MaxPooling3D', 'AveragePooling1D', 'AveragePooling2D', 'AveragePooling3D')
CONVOLUTIONS = ('Conv1D', 'Conv2D', 'Conv3D')

TRAPS = (
    Trap('cudnn_gates', 'Weights of a cuDNN layer, whose gates are sigmoid, in a layer with other functions: '
         'Keras 2.2.4 converts them without a warning', ('LSTM', 'GRU', 'Bidirectional', 'TimeDistributed'),
         tests.cudnn_gates,
         'capture again with `recurrent_activation=\'sigmoid\'` in the function of `--build`: the recorded model is '
         'probably not the one that was trained', 'as Keras 3', 'as Keras 3'),
    Trap('hard_sigmoid', 'Gates are `hard_sigmoid` with slope 0.2 by default, not sigmoid', GATED, tests.hard_sigmoid,
         '`@keras.saving.register_keras_serializable()` before `def old_hard_sigmoid(x): return ops.clip(0.2 * x + '
         '0.5, 0, 1)`, and `recurrent_activation=old_hard_sigmoid`; the string `hard_sigmoid` has slope 1/6, and the '
         'registered function is what `Bidirectional` and a saved file need',
         'a cell of your own with `torch.clamp(0.2 * x + 0.5, 0, 1)`; `nn.LSTM` and `nn.GRU` have sigmoid',
         '`activations=["HardSigmoid", ...]`, `activation_alpha=[0.2]`, `activation_beta=[0.5]`, each twice for '
         'two directions'),
    Trap('reset_after', 'A GRU resets before the product: tanh(x W + (r * h) U)', ('GRU',), tests.reset_before,
         '`GRU(reset_after=False)`; the default is `True`',
         'a cell of your own: `nn.GRU` resets after the product and cannot hold these weights',
         '`linear_before_reset=0`'),
    Trap('two_biases', 'A GRU with `reset_after` has two biases, (2, 3 D): converted weights of cuDNN layers',
         ('GRU',), tests.two_biases, 'the same layout', 'row 0 into `bias_ih`, row 1 into `bias_hh`',
         '`B` is both rows, joined; `linear_before_reset=1`'),
    Trap('gate_order', 'Gates are in the order i, f, c, o (LSTM) and z, r, h (GRU)', ('LSTM', 'GRU'),
         tests.gate_order, 'the same order', 'LSTM: the same; GRU: r, z, n; `weight_ih` is the transpose',
         'LSTM: i, o, f, c; GRU: z, r, h'),
    Trap('one_bias', 'A recurrent layer has one bias', ('LSTM', 'GRU'), tests.one_bias, 'the same',
         'into `bias_ih`, and 0 into `bias_hh`', '`Wb`, and 0 for `Rb`'),
    Trap('forget_bias', '`unit_forget_bias` is stored in the bias: add nothing when you load it', ('LSTM',),
         tests.forget_bias, 'the same', 'the second quarter of the bias, as it is stored', 'as it is stored'),
    Trap('masked_steps', 'A masked step keeps the states and repeats the output before it', RECURRENT,
         tests.masked_steps,
         'the same, outside of `Bidirectional`; pass the mask, beside first states as an argument',
         '`pack_padded_sequence` gives 0 there: `torch.where(mask, new, old)` at each step',
         '`sequence_lens` gives 0 there; only for padding at the end'),
    Trap('bidirectional_mask', 'In `Bidirectional` a masked step repeats an output too; Keras 3 writes zeros there',
         ('Bidirectional',), tests.masked_steps,
         'two layers and `Concatenate`, the second with `go_backwards=True` and its output reversed',
         'two loops of your own over the same mask', 'two nodes, and the masked steps filled'),
    Trap('go_backwards', '`go_backwards` returns its output in the order in which it read', RECURRENT,
         tests.go_backwards, 'the same', 'flip the input; do not flip the output', '`direction="reverse"` flips both'),
    Trap('stateful', 'A stateful layer starts from the states of the call before; in `Bidirectional` it keeps '
         'none', RECURRENT, tests.stateful,
         '`stateful=True`, and a fixed batch size', 'pass the states yourself', 'states as inputs and outputs'),
    Trap('batch_norm', 'BatchNormalization: epsilon 1e-3 and momentum 0.99, the share of the old value; over pictures '
         'TensorFlow raises an epsilon below 1.001e-5 to that', ('BatchNormalization',), tests.batch_norm,
         'the same, but for the raised epsilon',
         '`eps=` as configured (default 1e-5), `momentum=` 1 less Keras\' (default 0.1)',
         '`epsilon` as configured (default 1e-5), `momentum` as in Keras'),
    Trap('same_padding', "`padding='same'` with strides pads less at the beginning than at the end", WINDOWED,
         tests.same_padding, 'the same', '`F.pad` by hand: (total // 2, total - total // 2), with `value=-torch.inf` '
         'before a maximum, then no padding',
         '`auto_pad="SAME_UPPER"`'),
    Trap('average_over_padding', 'An average over a padded window counts the real values only',
         ('AveragePooling1D', 'AveragePooling2D', 'AveragePooling3D'), tests.same_average, 'the same',
         '`count_include_pad=False`; the default counts the padding. Uneven padding: pad by hand, and divide by the '
         'same average of ones', '`count_include_pad=0`, the default'),
    Trap('masked_average', 'A masked average counts the valid steps only; a row of only padding gives 0 / 0',
         ('GlobalAveragePooling1D',), tests.masked_steps, 'the same: pass the mask',
         '`(x * mask).sum(1) / mask.sum(1)`', 'the same with `ReduceSum`'),
    Trap('channels', 'Kernels are (window, in, out), and data has its channels last', CONVOLUTIONS,
         tests.channels_last, 'the same', '`kernel.transpose` to (out, in, window); data to channels first',
         'as PyTorch'),
    Trap('flatten', 'Flatten reads (rows, columns, channels): the rows of the next kernel have this order',
         ('Flatten',), tests.flatten_order, 'the same', '`permute` to channels last before `flatten`',
         '`Transpose` before `Flatten`'),
    Trap('embedding_row_0', 'With `mask_zero` row 0 of an Embedding is a row like any other, not zeros',
         ('Embedding',), tests.embedding_row_0, 'the same', 'no `padding_idx`, which makes and keeps the row 0',
         '`Gather` of the table as it is'),
    Trap('leaky_relu', '`LeakyReLU` has the slope 0.3 by default', ('LeakyReLU',), tests.always,
         '`negative_slope=` as configured', '`negative_slope=` as configured (default 0.01)',
         '`alpha` as configured (default 0.01)'),
    Trap('regularizer', '`l2(x)` adds x times the sum of squares, not half of it, to the loss', (), tests.regularizer,
         'the same', 'add it to the loss; `weight_decay` of `2 x` in SGD only', 'not a part of the graph'),
    Trap('own_class', 'A layer of your own, or a Lambda layer: nothing converts it', (), tests.own_classes,
         'port its `call` and `compute_mask`', 'port its `call`, with the mask as an argument', 'port its `call`'),
    Trap('cross_entropy', 'Cross-entropy is computed from probabilities clipped to [1e-7, 1 - 1e-7]', (),
         tests.clipped, '`@keras.saving.register_keras_serializable()` before `def clipped(y, p): return '
         'keras.losses.categorical_crossentropy(y, ops.clip(p, 1e-7, 1 - 1e-7))`: on TensorFlow, Keras 3\'s own loss '
         'takes the logits',
         '`F.nll_loss(torch.log(p.clamp(1e-7, 1 - 1e-7)), y)`', 'not a part of the graph'),
    Trap('adam', "Adam's epsilon is 1e-7 and is outside of the root, after the bias correction", (), tests.adam,
         '`Adam(epsilon=1e-7)`: the same place',
         'an update of your own: w -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + 1e-7)', 'not a part of the graph'),
    Trap('clipnorm', '`clipnorm` clips the norm of all gradients together', (), tests.clipnorm, '`global_clipnorm=`',
         '`clip_grad_norm_`, which divides by norm + 1e-6', 'not a part of the graph'),
    Trap('decay', '`decay` of an optimiser lowers its rate, lr / (1 + decay t); it is no weight decay', (),
         tests.decay, '`InverseTimeDecay(lr, 1, decay)`', '`LambdaLR(optimizer, lambda t: 1 / (1 + decay * t))`',
         'not a part of the graph'),
    Trap('moving_averages', 'The first update replaces the moving averages of BatchNormalization, also those of a '
         'loaded model: a = sum of (1 - m) m^(t - i) x_i / (1 - m^t). The variance has the factor '
         'n / (n - 1 - epsilon), over pictures also n / (n - 1)', (), tests.moving_averages,
         'the averages go on from the stored ones, with the '
         'variance of the batch itself',
         'as Keras 3, but with n / (n - 1); a layer of your own: `s = m * s + (1 - m) * x` from 0, '
         '`running = s / (1 - m ** t)`', 'not a part of the graph'),
    Trap('race', 'A weight can change before the gradients of the same update are complete', (), tests.trained,
         'no such race: the recorded updates have none', 'no such race', 'not a part of the graph'),
    Trap('nested_masks', 'A nested model that is called twice keeps the masks of its first call', (),
         tests.nested_masks, 'each call has its own mask', 'each call has its own mask', 'each call has its own mask'),
    Trap('image_data_format', '`image_data_format` of `keras.json` decides where layers look for the channels', (),
         tests.channels_first, '`data_format=` for each layer', 'channels first', 'channels first'),
    Trap('float64', 'Arrays of 64-bit floats: JAX computes in 32 bits by default', (), tests.float64,
         '`JAX_ENABLE_X64=1` before the import, `keras.config.set_floatx("float64")` before the first '
         'layer',
         '`torch.set_default_dtype(torch.float64)`', 'type `double` throughout'))

MODEL_TRAPS = (
    ModelTrap('Gates are `hard_sigmoid` by default, not sigmoid', ('encoder_states', 'decoder_states'),
              '`encoder_states` of every case but `scaled_dot-gru`'),
    ModelTrap('A GRU resets before the product: tanh(x W + (r ⊙ h) U); PyTorch, cuDNN and Keras 3\'s default reset '
              'after it, with a second bias', ('encoder_states', 'decoder_states'),
              '`encoder_states` of `*-gru`; PyTorch\'s `nn.GRU` cannot hold such weights'),
    ModelTrap('A padded step keeps the states and repeats the output before it; in the backward direction the padding '
              'comes first, so the output is 0 there. Keras 3\'s `Bidirectional` writes 0 in both directions',
              ('encoder_states',), '`padded/encoder_states`, rows 1 to 4'),
    ModelTrap('The decoder has no mask: its padded steps are computed like any other', ('decoder_states',),
              '`padded/decoder_states` after the end of a target'),
    ModelTrap('The last state of the backward direction is the one at the first word', ('initial_states',),
              '`initial_states` of `dot-lstm`'),
    ModelTrap('The mask replaces scores; to multiply scores by it leaves e⁰ on each padded position',
              ('masked_scores', 'weights'),
              'mutants "mask dropped", "mask multiplied"; `test_scores_of_padding_are_replaced_not_multiplied`'),
    ModelTrap('A source of only padding gives weights 0 and context 0; `tf.contrib` gives NaN, and a softmax of equal '
              'scores 1/S', ('weights', 'context'), '`padded/weights`, row 4; '
              '`test_contrib_refuses_an_empty_source_where_ours_gives_zeros`'),
    ModelTrap('The context comes first in eq. 5; `tf.contrib`\'s wrapper has the state first and no tanh',
              ('attentional_states',), '`attentional_states`; '
              '`test_attention_layer_of_contrib_is_ours_without_tanh_and_with_swapped_rows`'),
    ModelTrap('With input feeding a step reads [embedding; h̃], in this order, and h̃₀ is 0', ('decoder_states',),
              '`decoder_states` of the cases with input feeding, step 0 and 1'),
    ModelTrap('`LuongAttention` is `general`; its `scale=True` is a trainable scalar that starts at 1', ('scores',),
              '`test_luong_attention_is_our_general_score`'),
    ModelTrap('local-p multiplies by the Gaussian after the softmax and does not normalise again; σ = W/2; S counts '
              'the row\'s own tokens', ('weights',), '`weights` of `local-p-*`'),
    ModelTrap('A local window is centred at t = 0, 1, 2, ... and holds |s - p| <= W, both ends included',
              ('masked_scores',), '`masked_scores` of `local-*`; mutant "window off by one"'),
    ModelTrap('local-m has no window once t is past the source by more than W: weights and context are 0',
              ('weights', 'context'), '`padded/weights` of `local-m-*`, row 3'),
    ModelTrap('`K.categorical_crossentropy` clips probabilities at 1e-7; losses here are from logits',
              ('token_losses',),
              '`test_an_improbable_token_costs_its_logits_not_the_clipped_probability_of_keras`'),
    ModelTrap('Keras divides the loss by the number of sample weights that are not 0: a mean over tokens, not over '
              'sentences', ('loss', 'losses'), '`loss`; mutants "loss over padding", "mean per batch"'),
    ModelTrap('`unit_forget_bias` stores the 1 in the bias (second quarter); `BasicLSTMCell` adds it at run time',
              ('initial', 'encoder_states'), '`initial/*/bias`; mutant "forget bias 0"'),
    ModelTrap('`clipnorm` of Keras 2.2.4 clips the global norm; in Keras 2.4 and later that is `global_clipnorm`',
              ('step_1',), '`test_a_gradient_below_the_limit_is_not_clipped_and_one_above_it_gets_that_norm`; '
              '`train-adam`, clipped at 1'),
    ModelTrap('Adam\'s epsilon is 1e-7 and is outside of the root', ('step_1',),
              '`step_1/parameter/*` of `train-adam`; `test_ten_steps_are_those_of_the_adam_of_keras`'),
    ModelTrap('Weight decay takes lr_t · wd · w off each matrix before the update, and nothing off a bias',
              ('step_1', 'step_2'), '`step_1/parameter/*` of `train-adam`; mutants "no weight decay", "decay on '
              'biases"'),
    ModelTrap('The average of the weights starts at the weights after the first update', ('step_1', 'step_2'),
              '`step_1/slot/*_average`; mutant "average not started at the weights"'),
    ModelTrap('Keras\' optimisers make gradients of embeddings dense: Adam moves rows that the batch does not hold',
              ('step_2',), '`step_2/parameter/source_embedding/embeddings`'),
    ModelTrap('`K.rnn` emits `states[0]` on a masked step of a custom cell; constants carry no mask',
              ('decoder_states',), '`DecoderCell` in `seq2seq_model.py`'),
    ModelTrap('A name has no embedding: it is fed as `<unk>`, in training and in a search', ('decoder_states',),
              '`padded/given` and `padded/decoder_states` of `copy-*`; mutant "a name fed as another word"'),
    ModelTrap('A name\'s id is valid in its own row only; the width V+X is that of the batch', ('logits',),
              '`padded/copied`; `-inf` in `padded/logits` of `copy-*`'),
    ModelTrap('1 - p_gen has few digits in float32 where p_gen is near 1; the sigmoid of the negated sum has all',
              ('logits',), '`padded/logits` of `copy-lstm.float32.npz`'),
    ModelTrap('Coverage enters the loss (eq. 12, 13), not the score (eq. 11)', ('coverage_losses', 'scores'),
              '`scores` and `coverage_losses` of `copy-lstm`'),
    ModelTrap('A finished hypothesis keeps its place, and the beam shrinks by it', ('beam',),
              '`padded/beam/*`; docs/bundles.md, The search'),
    ModelTrap('Weights drawn by the orthogonal initialiser depend on OpenBLAS\' threads and the processor: store '
              'weights, never seeds', ('parameter',), '`parameter/*`'),
    ModelTrap('Files of `save_weights` hold time stamps: hash arrays, not files', ('parameter',),
              '`test_the_same_weights_give_the_same_bytes_at_another_time`'))


def find_traps(manifest, arrays):
    """The traps that a captured model meets.

    # Arguments
        manifest: of the bundle. arrays: {array name: array} of all of its files, loaded when asked for.

    # Returns
        [(`Trap`, [(name of the call or '', why it matters there)])], in the order of the table, each with one or more.
    """
    found = []
    for trap in TRAPS:
        if trap.classes:
            places = [(call['name'], trap.applies(call, arrays)) for call in manifest['calls']
                      if call['class'] in trap.classes]
        else:
            places = trap.applies(manifest, arrays)
        places = [(name, why) for name, why in places if why]
        if places:
            found.append((trap, places))
    return found


def explain(manifest, arrays):
    """Lines for people: each trap that the model meets, where and why, and what to write elsewhere."""
    lines = []
    for trap, places in find_traps(manifest, arrays):
        lines.append('%s: %s' % (trap.key, trap.title.replace('`', '')))
        lines += ['    %s%s' % (name + ': ' if name else '', why) for name, why in places]
        lines += ['    in %s: %s' % (name, text.replace('`', ''))
                  for name, text in (('Keras 3', trap.keras3), ('PyTorch', trap.pytorch), ('ONNX', trap.onnx))]
    lines += version_traps.explain(manifest, arrays)
    return lines or ['no trap: nothing in this model is known to differ elsewhere']


def by_key(key):
    return next(trap for trap in TRAPS if trap.key == key)


# The tables of the guide

def tables():
    """{name: Markdown} of the generated tables."""
    def row(*cells):
        return '| %s |' % ' | '.join(cell.replace('|', '\\|') for cell in cells)

    layers = [row('trap', 'layers', 'Keras 3', 'PyTorch', 'ONNX'), '|---|---|---|---|---|']
    for trap in TRAPS:
        layers.append(row(trap.title, ', '.join(trap.classes) or 'model, training', trap.keras3, trap.pytorch,
                          trap.onnx))
    model = [row('trap', 'evidence'), '|---|---|'] + [row(trap.title, trap.evidence) for trap in MODEL_TRAPS]
    stages = []
    for trap in MODEL_TRAPS:
        stages += [stage for stage in trap.stages if stage not in stages]
    by_stage = [row('first stage that differs', 'traps'), '|---|---|'] + [
        row('`%s`' % stage, '; '.join(trap.title for trap in MODEL_TRAPS if stage in trap.stages))
        for stage in stages]
    return {'traps of layers': layers, 'traps of the model': model, 'traps by stage': by_stage}


def page_with_tables(text):
    """The guide with its generated tables generated again."""
    for name, lines in tables().items():
        begin, end = BEGIN % name, END % name
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = head + begin + '\n' + '\n'.join(lines) + '\n' + end + tail
    return text


def main():
    with open(PAGE, encoding='utf-8') as stream:
        text = stream.read()
    with open(PAGE, 'w', encoding='utf-8') as stream:
        stream.write(page_with_tables(text))


if __name__ == '__main__':
    sys.exit(main())
