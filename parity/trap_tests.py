"""When a captured model meets a trap: tests on a layer's configuration and on the recorded arrays. NumPy only.

A test of a layer takes its call, as the manifest lists it, and the arrays, and returns why the trap matters, or "".
A test of the whole model takes the manifest and returns [(name of a call or '', why)].
"""
import math

import numpy as np

from parity.bundle import NUMBERS
from parity.numpy_layers import SMALLEST_EPSILON, is_fused

TOLERANCE = 1e-5
CUDNN_FUNCTIONS = (('recurrent_activation', 'sigmoid'), ('activation', 'tanh'))     # of a layer of cuDNN
KERAS_LAYERS = set('''
Activation ActivityRegularization Add AlphaDropout Average AveragePooling1D AveragePooling2D AveragePooling3D
BatchNormalization Bidirectional Concatenate Conv1D Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM2D Cropping1D
Cropping2D Cropping3D Dense DepthwiseConv2D Dot Dropout ELU Embedding Flatten GRU GaussianDropout GaussianNoise
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D
GlobalMaxPooling3D InputLayer LSTM LeakyReLU LocallyConnected1D LocallyConnected2D Masking MaxPooling1D MaxPooling2D
MaxPooling3D Maximum Minimum Model Multiply PReLU Permute RNN ReLU RepeatVector Reshape SeparableConv1D SeparableConv2D
Sequential SimpleRNN Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D Subtract ThresholdedReLU TimeDistributed
UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D'''.split())


def array(arrays, names, number=0):
    """The array of numbers under one of a call's names, or None."""
    found = arrays.get(names[number]) if len(names) > number and names[number] else None
    return found if found is not None and found.dtype.kind in NUMBERS else None


def number_in(config, name, default):
    """A number of a configuration; the default where the file of a stranger has something else."""
    value = config.get(name)
    return value if type(value) in (int, float) and -1e300 < value < 1e300 else default


def sizes_in(config, name):
    """The sizes of a window, one for each axis; None where there are none."""
    value = config.get(name)
    value = value if isinstance(value, list) else [value]
    return value if value and all(type(one) is int and one > 0 for one in value) else None


def has_padding(call, arrays):
    """Whether the mask of a call's input hides a step."""
    mask = array(arrays, call['input_masks'])
    return mask is not None and not mask.all()


def always(call, arrays):
    return 'configured'


# Recurrent layers

def unlike_cudnn(config):
    """Which functions of the configuration of an LSTM or GRU are not those of cuDNN, in words, or ''."""
    return ' and '.join('%s is %s' % (name, config.get(name)) for name, own in CUDNN_FUNCTIONS
                        if config.get(name) != own)


def cudnn_gates(call, arrays):
    """The old model itself is probably wrong: weights of a layer of cuDNN under other functions."""
    inner = call['config'].get('layer')
    config = inner.get('config') if isinstance(inner, dict) else call['config']
    return unlike_cudnn(config) if call.get('cudnn_weights') is True and isinstance(config, dict) else ''


def hard_sigmoid(call, arrays):
    if cudnn_gates(call, arrays):
        return ''
    names = [name for name in ('recurrent_activation', 'activation') if call['config'].get(name) == 'hard_sigmoid']
    return '%s is hard_sigmoid' % ' and '.join(names) if names else ''


def reset_before(call, arrays):
    return '' if call['config'].get('reset_after') else 'reset_after is False'


def two_biases(call, arrays):
    bias = array(arrays, call['weights'], 2)
    return 'the bias has the shape %s' % (bias.shape,) if bias is not None and bias.ndim == 2 else ''


def gate_order(call, arrays):
    return '%d kernels side by side' % (4 if call['class'] == 'LSTM' else 3)


def one_bias(call, arrays):
    bias = array(arrays, call['weights'], 2)
    return 'the bias has the shape %s' % (bias.shape,) if bias is not None and bias.ndim == 1 else ''


def forget_bias(call, arrays):
    bias = array(arrays, call['weights'], 2)
    if bias is None or bias.ndim != 1 or not call['config'].get('unit_forget_bias', True):
        return ''
    quarter = bias[len(bias) // 4:len(bias) // 2]
    return 'the mean of its forget bias is %.3g' % quarter.mean()


def masked_steps(call, arrays):
    if not has_padding(call, arrays):
        return ''
    mask = array(arrays, call['input_masks'])
    return 'the mask hides %d of %d steps' % (np.count_nonzero(~mask.astype(bool)), mask.size)


def go_backwards(call, arrays):
    config = call['config']
    return 'go_backwards and return_sequences' if config.get('go_backwards') and config.get('return_sequences') else ''


def stateful(call, arrays):
    return 'stateful' if call['config'].get('stateful') else ''


# Other layers

def fused(call, arrays):
    """Whether TensorFlow's fused kernel normalises: pictures whose channels are last."""
    x, axis = array(arrays, call['inputs']), call['config'].get('axis', -1)
    return x is not None and is_fused(x.ndim, axis)


def batch_norm(call, arrays):
    config, variance = call['config'], array(arrays, call['weights'], len(call['weights']) - 1)
    if variance is None:
        return ''
    epsilon = number_in(config, 'epsilon', 1e-3)
    raised = fused(call, arrays) and epsilon < SMALLEST_EPSILON
    epsilon = SMALLEST_EPSILON if raised else epsilon
    with np.errstate(all='ignore'):
        share = np.max(np.abs(np.sqrt((variance + epsilon) / (variance + 1e-5)) - 1.), initial=0.)
    why = 'epsilon %g%s, momentum %g' % (epsilon, ', to which TensorFlow raises the configured one' if raised else '',
                                         number_in(config, 'momentum', 0.99))
    return why + '; an epsilon of 1e-5 changes values by up to %.2g %%' % (100. * share)


def same_padding(call, arrays):
    """Only where the padding is not equal on both sides, or not half of the window."""
    config, x = call['config'], array(arrays, call['inputs'])
    if x is None or config.get('padding') != 'same':
        return ''
    window = sizes_in(config, 'kernel_size') or sizes_in(config, 'pool_size') or []
    strides, dilation = sizes_in(config, 'strides') or window, sizes_in(config, 'dilation_rate') or [1]
    first = 2 if config.get('data_format') == 'channels_first' else 1
    uneven = []
    for axis, (size, stride, length) in enumerate(zip(window, strides, x.shape[first:])):
        spread = dilation[min(axis, len(dilation) - 1)]
        size = (size - 1) * spread + 1
        total = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
        if total % 2 or stride > 1 and total // 2 != size // 2:
            uneven.append('%d before and %d after on axis %d' % (total // 2, total - total // 2, first + axis))
    return 'padding ' + ', '.join(uneven) if uneven else ''


def same_average(call, arrays):
    return "padding is 'same'" if call['config'].get('padding') == 'same' else ''


def channels_last(call, arrays):
    kernel = array(arrays, call['weights'])
    return 'the kernel has the shape %s' % (kernel.shape,) if kernel is not None else ''


def flatten_order(call, arrays):
    x = array(arrays, call['inputs'])
    return 'the input has the shape %s' % (x.shape,) if x is not None and x.ndim > 2 and (
        x.shape[-1] > 1 and np.prod(x.shape[1:-1]) > 1) else ''


def embedding_row_0(call, arrays):
    table = array(arrays, call['weights'])
    if not call['config'].get('mask_zero') or table is None or table.ndim != 2 or not len(table):
        return ''
    return 'row 0 has the norm %.3g' % np.linalg.norm(table[0]) if table[0].any() else ''


# The whole model

def regularizer(manifest, arrays):
    found = []
    for call in manifest['calls']:
        names = [name for name, value in call['config'].items() if name.endswith('_regularizer') and value]
        found.append((call['name'], ', '.join(names)))
    return found


def own_classes(manifest, arrays):
    return [(call['name'], 'its class is %s' % call['class']) for call in manifest['calls']
            if call['class'] not in KERAS_LAYERS]


def trained(manifest, arrays):
    training = manifest.get('training')
    return [('', '%s updates' % training.get('optimizer'))] if training else []


def moving_averages(manifest, arrays):
    if not trained(manifest, arrays):
        return []
    return [(call['name'], 'pictures: the variance has the factor twice' if fused(call, arrays) else 'trained')
            for call in manifest['calls'] if call['class'] == 'BatchNormalization']


def clipped(manifest, arrays):
    loss = (manifest.get('training') or {}).get('loss')
    losses = loss if isinstance(loss, list) else [loss] * len(manifest['outputs'])
    losses = [loss.get(name) for name in manifest['outputs']] if isinstance(loss, dict) else losses
    found = []
    for name, one in zip(manifest['output_arrays'], losses):
        if 'crossentropy' not in str(one):
            continue
        value = arrays.get(name)
        if value is not None and value.dtype.kind == 'f':
            low = np.count_nonzero((value < 1e-7) | (value > 1. - 1e-7))
            found.append((name, '%d of %d probabilities lie outside' % (low, value.size) if low else
                          'the loss takes probabilities'))
    return found


def optimizer(manifest):
    training = manifest.get('training') or {}
    config = training.get('config')
    return training.get('optimizer'), config if isinstance(config, dict) else {}


def adam(manifest, arrays):
    name, config = optimizer(manifest)
    return [('', 'epsilon is %g' % number_in(config, 'epsilon', 1e-7))] if name in ('Adam', 'Nadam', 'Adamax') else []


def clipnorm(manifest, arrays):
    value = number_in(optimizer(manifest)[1], 'clipnorm', 0.)
    return [('', 'clipnorm is %g' % value)] if value else []


def decay(manifest, arrays):
    value = number_in(optimizer(manifest)[1], 'decay', 0.)
    return [('', 'decay is %g' % value)] if value else []


def nested_masks(manifest, arrays):
    return [(name, 'its inner calls do not give its output') for name in manifest.get('nested_calls_that_differ', ())]


def channels_first(manifest, arrays):
    return [(call['name'], 'data_format is channels_first') for call in manifest['calls']
            if call['config'].get('data_format') == 'channels_first']


def float64(manifest, arrays):
    value = (manifest.get('keras') or {}).get('floatx')
    return [('', 'floatx is float64')] if value == 'float64' else []
