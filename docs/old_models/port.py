"""Ports of the two old models to PyTorch, for `adapters/torch_hooks.py`, with faults to choose from.

    python adapters/torch_hooks.py bundle ported --build docs/old_models/port.py:chars2vec

`FAULT=name` in the environment puts one deliberate fault into the port; `faults.py` tries them all.
"""
import os

import torch
from torch import nn
from torch.nn import functional as F

FAULT = os.environ.get('FAULT', '')


def tensor(weights, name):
    return torch.from_numpy(weights[name].copy())


class OldLSTM(nn.Module):
    """The LSTM of Keras 2: gates i, f, c, o with `hard_sigmoid`, one bias. Returns the output and its states."""

    def __init__(self, weights, name, sequences):
        super().__init__()
        self.kernel, self.recurrent, self.bias = [tensor(weights, '%s/%s' % (name, part))
                                                  for part in ('kernel', 'recurrent_kernel', 'bias')]
        self.name, self.sequences = name, sequences
        if FAULT == 'forget bias' and name == 'lstm_2':
            self.bias[50:100] += 1.

    def gate(self, x):
        if FAULT == 'sigmoid' and self.name == 'lstm_1':
            return torch.sigmoid(x)
        if FAULT == 'slope' and self.name == 'lstm_2':
            return F.hardsigmoid(x)
        return torch.clamp(0.2 * x + 0.5, 0., 1.)

    def forward(self, x):
        h = c = torch.zeros(len(x), self.recurrent.shape[0])
        states = []
        for t in range(x.shape[1]):
            if FAULT == 'lost states' and self.name == 'lstm_1' and t == 5:
                h, c = torch.zeros_like(h), torch.zeros_like(c)
            parts = torch.chunk(x[:, t] @ self.kernel + h @ self.recurrent + self.bias, 4, dim=1)
            i, f, g, o = [parts[n] for n in (0, 3, 1, 2)] if FAULT == 'gate order' and self.name == 'lstm_1' else parts
            c = self.gate(f) * c + self.gate(i) * torch.tanh(g)
            h = self.gate(o) * torch.tanh(c)
            states.append((h, c))
        one, two = [torch.stack(part, dim=1) for part in zip(*states)]
        return {'output': one if self.sequences else h, 'state_1': one, 'state_2': two}


class Chars2Vec(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.lstm_1, self.lstm_2 = OldLSTM(weights, 'lstm_1', True), OldLSTM(weights, 'lstm_2', False)

    def forward(self, letters):
        return self.lstm_2(self.lstm_1(letters)['output'])['output']


class Step(nn.Module):
    """A function as a module, so that a hook sees what it returns."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class Deepcut(nn.Module):
    """Data stays (B, T, channels), as in Keras; convolutions turn it round and back."""

    def __init__(self, weights):
        super().__init__()
        self.weights = {name: tensor(weights, name) for name in weights}
        for name, function in [('embedding_1', self.embedding('embedding_1')), ('maximum_1', self.maximum),
                               ('embedding_2', self.embedding('embedding_2')), ('concatenate_1', self.concatenate),
                               ('batch_normalization_1', self.norm('batch_normalization_1')),
                               ('batch_normalization_2', self.norm('batch_normalization_2')),
                               ('flatten_1', self.flatten), ('dense_13', self.dense('dense_13', torch.relu)),
                               ('dense_14', self.dense('dense_14', torch.sigmoid))]:
            self.add_module(name, Step(function))
        for n in range(1, 13):
            self.add_module('conv1d_%d' % n, Step(self.convolution('conv1d_%d' % n)))
            self.add_module('time_distributed_%d' % n,
                            Step(self.dense('time_distributed_%d/dense_%d' % (n, n), lambda x: x)))
            self.add_module('zero_padding1d_%d' % n, Step(self.padding(n)))

    def embedding(self, name):
        return lambda ids: self.weights[name + '/embeddings'][ids.long()]

    def norm(self, name):
        gamma, beta, mean, variance = [self.weights['%s/%s' % (name, part)] for part in (
            'gamma', 'beta', 'moving_mean', 'moving_variance')]
        epsilon = 1e-5 if FAULT == 'epsilon' and name == 'batch_normalization_1' else 1e-3
        return lambda x: (x - mean) / torch.sqrt(variance + epsilon) * gamma + beta

    def dense(self, name, activation):
        return lambda x: activation(x @ self.weights[name + '/kernel'] + self.weights[name + '/bias'])

    def convolution(self, name):
        kernel = self.weights[name + '/kernel'].permute(2, 1, 0)
        if FAULT == 'flipped kernel' and name == 'conv1d_4':
            kernel = kernel.flip(2)
        bias = self.weights[name + '/bias']
        return lambda x: torch.relu(F.conv1d(x.transpose(1, 2), kernel, bias)).transpose(1, 2)

    @staticmethod
    def padding(n):
        pads = (0, 0, n - 1, 0) if FAULT == 'padding in front' and n == 3 else (0, 0, 0, n - 1)
        return lambda x: F.pad(x, pads)

    @staticmethod
    def maximum(*windows):
        stacked = torch.stack(windows)
        return stacked.mean(0) if FAULT == 'mean for maximum' else stacked.max(0).values

    @staticmethod
    def concatenate(x, y, z):
        return torch.cat([x, z, y] if FAULT == 'order of concatenation' else [x, y, z], dim=-1)

    @staticmethod
    def flatten(x):
        return (x.transpose(1, 2) if FAULT == 'channels first' else x).flatten(1)

    def forward(self, characters, kinds):
        x = self.batch_normalization_1(self.embedding_1(characters))
        windows = []
        for n in range(1, 13):
            y = getattr(self, 'conv1d_%d' % n)(x)
            windows.append(getattr(self, 'zero_padding1d_%d' % n)(getattr(self, 'time_distributed_%d' % n)(y)))
        z = self.concatenate_1(x, self.maximum_1(*windows), self.embedding_2(kinds))
        return self.dense_14(self.dense_13(self.flatten_1(self.batch_normalization_2(z))))


def chars2vec(weights):
    return Chars2Vec(weights)


def deepcut(weights):
    return Deepcut(weights)
