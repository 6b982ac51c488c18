"""The port of `old_models_here.remedies` to PyTorch, as a reader of `docs/traps.md` would type it.

    python tests/remedies_torch.py BUNDLE PORT.pt      # saves the weights of the port, made from those of the bundle
"""
import os
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def gate(x):
    return torch.clamp(0.2 * x + 0.5, 0, 1)


class OldLSTM(nn.Module):
    def __init__(self, inputs, units, sequences=False, backwards=False, stateful=False):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(inputs, 4 * units))
        self.recurrent_kernel = nn.Parameter(torch.zeros(units, 4 * units))
        self.bias = nn.Parameter(torch.zeros(4 * units))
        self.sequences, self.backwards, self.stateful, self.states = sequences, backwards, stateful, None

    def forward(self, x, mask=None):
        if self.backwards:
            x, mask = x.flip(1), None if mask is None else mask.flip(1)
        h = c = torch.zeros(len(x), len(self.recurrent_kernel))
        if self.stateful and self.states is not None:
            h, c = self.states
        outputs = []
        for t in range(x.shape[1]):
            i, f, g, o = torch.chunk(x[:, t] @ self.kernel + h @ self.recurrent_kernel + self.bias, 4, dim=1)
            new_c = gate(f) * c + gate(i) * torch.tanh(g)
            new_h = gate(o) * torch.tanh(new_c)
            if mask is not None:
                new_h, new_c = [torch.where(mask[:, t, None], new, old) for new, old in ((new_h, h), (new_c, c))]
            h, c = new_h, new_c
            outputs.append(h)
        self.states = h, c
        return torch.stack(outputs, dim=1) if self.sequences else h


class OldGRU(nn.Module):
    """Resets before the product, with one bias."""

    def __init__(self, inputs, units, gate=gate):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(inputs, 3 * units))
        self.recurrent_kernel = nn.Parameter(torch.zeros(units, 3 * units))
        self.bias, self.gate = nn.Parameter(torch.zeros(3 * units)), gate

    def forward(self, x):
        U, h = torch.chunk(self.recurrent_kernel, 3, dim=1), torch.zeros(len(x), len(self.recurrent_kernel))
        for t in range(x.shape[1]):
            xz, xr, xh = torch.chunk(x[:, t] @ self.kernel + self.bias, 3, dim=1)
            z, r = self.gate(xz + h @ U[0]), self.gate(xr + h @ U[1])
            h = z * h + (1 - z) * torch.tanh(xh + (r * h) @ U[2])
        return h


class BothWays(nn.Module):
    """Two loops over the same mask; the output of the second is put back in order."""

    def __init__(self, inputs, units, sequences=False):
        super().__init__()
        self.one, self.other = OldLSTM(inputs, units, sequences), OldLSTM(inputs, units, sequences, backwards=True)

    def forward(self, x, mask=None):
        other = self.other(x, mask)
        return torch.cat([self.one(x, mask), other.flip(1) if other.ndim == 3 else other], dim=-1)


class Last(nn.Module):
    """The last output of a recurrent layer of PyTorch."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0][:, -1]


class OnPictures(nn.Module):
    """Runs a layer, whose channels are first, on data whose channels are last."""

    def __init__(self, layer, pads=(0, 0, 0, 0), value=0.):
        super().__init__()
        self.layer, self.pads, self.value = layer, pads, value

    def forward(self, x):
        return self.layer(F.pad(x.permute(0, 3, 1, 2), self.pads, value=self.value)).permute(0, 2, 3, 1)


class Step(nn.Module):
    """A function as a module, so that a hook sees its output."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def same(*sizes):
    """The pads of `padding='same'` for `F.pad`, columns first: pairs of (length, window, stride)."""
    pads = []
    for length, window, stride in sizes[::-1]:
        total = max((-(-length // stride) - 1) * stride + window - length, 0)
        pads += [total // 2, total - total // 2]
    return pads


def real_values_only(x):
    """An average over uneven padding: a quotient."""
    x = F.pad(x.permute(0, 3, 1, 2), same((8, 3, 3), (7, 3, 3)))
    ones = F.pad(torch.ones(1, 1, 8, 7), same((8, 3, 3), (7, 3, 3)))
    return (F.avg_pool2d(x, 3) / F.avg_pool2d(ones, 3)).permute(0, 2, 3, 1)


class Port(nn.Module):
    def __init__(self):
        super().__init__()
        self.hard_sigmoid, self.gate_order, self.reset_after = OldLSTM(2, 3), BothWays(2, 3), OldGRU(2, 3)
        self.two_biases, self.one_bias = Last(nn.GRU(2, 3, batch_first=True)), OldGRU(2, 3, torch.sigmoid)
        self.forget_bias, self.masked_steps = Last(nn.LSTM(2, 3, batch_first=True)), OldLSTM(2, 3, sequences=True)
        self.bidirectional_mask = BothWays(2, 3, sequences=True)
        self.go_backwards = OldLSTM(2, 3, sequences=True, backwards=True)
        self.stateful = OldLSTM(2, 3, stateful=True)
        self.masked_average = Step(lambda x, mask: (x * mask).sum(1) / mask.sum(1))
        self.same_padding = OnPictures(nn.Conv2d(2, 3, 3, stride=2), same((8, 3, 2), (7, 3, 2)))
        self.same_maximum = OnPictures(nn.MaxPool2d(3, 2), same((8, 3, 2), (7, 3, 2)), value=-torch.inf)
        self.channels, self.image_data_format = OnPictures(nn.Conv2d(2, 3, 2)), nn.Conv2d(2, 3, 2)
        self.flatten = Step(lambda pictures: pictures.permute(0, 2, 3, 1).flatten(1))
        self.average_over_padding = OnPictures(nn.AvgPool2d((2, 3), padding=(0, 1), count_include_pad=False))
        self.uneven_average = Step(real_values_only)
        self.batch_norm = OnPictures(nn.BatchNorm2d(2, eps=1e-3, momentum=0.01))
        self.leaky_relu = nn.LeakyReLU(negative_slope=0.3)
        self.embedding_row_0, self.masked_table = nn.Embedding(6, 2), OldLSTM(2, 2)

    def forward(self, x, ids, images, first):
        mask, words = (x != 0).any(2), ids != 0
        return [
            self.hard_sigmoid(x), self.gate_order(x), self.reset_after(x), self.two_biases(x), self.one_bias(x),
            self.forget_bias(x), self.masked_steps(x, mask), self.bidirectional_mask(x, mask),
            self.go_backwards(x), self.stateful(x), self.masked_average(x, mask[:, :, None].to(x.dtype)),
            self.same_padding(images), self.same_maximum(images), self.channels(images),
            self.flatten(images.permute(0, 3, 1, 2)), self.average_over_padding(images), self.uneven_average(images),
            self.batch_norm(images), self.leaky_relu(images), self.image_data_format(first),
            self.masked_table(self.embedding_row_0(ids.long()), words)]


def in_order(weight, order):
    """The gates of a kernel or bias in another order."""
    parts = np.split(weight, len(order), axis=-1)
    return np.concatenate([parts[i] for i in order], axis=-1)


def model(weights):
    """The port with the weights of the bundle."""
    made, values = Port(), {}
    for name, value in weights.items():
        key, *_, part = name.split('/')
        if key in ('two_biases', 'forget_bias'):        # layers of PyTorch: two biases, kernels transposed
            value = in_order(value, (1, 0, 2)) if key == 'two_biases' else value        # GRU: r, z, n; LSTM: the same
            into, both = key + '.layer.%s_l0', value if value.ndim == 2 else (value, 0 * value)
            values.update({into % 'bias_ih': both[0], into % 'bias_hh': both[1]} if part == 'bias' else {
                into % {'kernel': 'weight_ih', 'recurrent_kernel': 'weight_hh'}[part]: value.T})
        elif key in ('same_padding', 'channels', 'image_data_format'):
            value = value.transpose(3, 2, 0, 1) if part == 'kernel' else value
            values['%s.%s' % (key if key == 'image_data_format' else key + '.layer',
                              {'kernel': 'weight'}.get(part, part))] = value
        elif key == 'batch_norm':
            values['batch_norm.layer.' + {'gamma': 'weight', 'beta': 'bias', 'moving_mean': 'running_mean',
                                          'moving_variance': 'running_var'}[part]] = value
        elif key == 'embedding_row_0':
            values['embedding_row_0.weight'] = value
        else:
            inside = {'f': '.one', 'b': '.other'}[name.split('/')[1][0]] if name.count('/') > 1 else ''
            values['%s%s.%s' % (key, inside, part)] = value
    values['batch_norm.layer.num_batches_tracked'] = np.array(0)
    made.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in values.items()})
    return made


def saved(_):
    """The port with the weights of the file that `PORT` names."""
    made = Port()
    made.load_state_dict(torch.load(os.environ['PORT'], weights_only=True))
    return made


if __name__ == '__main__':
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'adapters'))
    import bundles
    torch.save(bundles.build(__file__ + ':model', bundles.Arrays(sys.argv[1])).state_dict(), sys.argv[2])
