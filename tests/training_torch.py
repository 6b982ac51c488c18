"""The port of `old_models_here.trained` to PyTorch, with its training, as a reader of `docs/traps.md` would type it.

    python tests/training_torch.py BUNDLE PORT.pt           # saves the port with the bundle's weights
    python tests/training_torch.py BUNDLE PORT.pt OUT       # loads it and trains it; and ports that lack a remedy
    python tests/training_torch.py BUNDLE float64 OUT       # computes the outputs in float64
    python tests/training_torch.py BUNDLE sgd OUT           # trains it with SGD, whose weight decay is the penalty
"""
import os
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim.lr_scheduler import LambdaLR

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'adapters'))
import bundles  # noqa: E402


class OldAdam(torch.optim.Optimizer):
    def __init__(self, parameters, lr):
        super().__init__(parameters, dict(lr=lr))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for w in group['params']:
                kept = self.state.setdefault(w, {'t': 0, 'm': torch.zeros_like(w), 'v': torch.zeros_like(w)})
                kept['t'] += 1
                t, m, v, lr, b1, b2 = kept['t'], kept['m'], kept['v'], group['lr'], 0.9, 0.999
                m.mul_(b1).add_((1 - b1) * w.grad)
                v.mul_(b2).add_((1 - b2) * w.grad ** 2)
                w -= lr * (1 - b2 ** t) ** 0.5 / (1 - b1 ** t) * m / (v.sqrt() + 1e-7)


class OldBatchNorm(nn.BatchNorm1d):
    """The moving averages of Keras 2.2.4."""

    def __init__(self, features, eps, momentum):
        super().__init__(features, eps, 1 - momentum)
        self.m, self.t, self.s = momentum, 0, [0., 0.]

    def forward(self, inputs):
        if not self.training:
            return super().forward(inputs)
        m, n = self.m, len(inputs)
        self.t += 1
        factor = n / (n - 1 - self.eps)
        with torch.no_grad():
            for i, (running, x) in enumerate(((self.running_mean, inputs.mean(0)),
                                              (self.running_var, factor * inputs.var(0, unbiased=False)))):
                s = self.s[i]
                self.s[i] = s = m * s + (1 - m) * x
                running.copy_(s / (1 - m ** self.t))
        return F.batch_norm(inputs, None, None, self.weight, self.bias, True, eps=self.eps)


class Port(nn.Module):
    def __init__(self, norm=OldBatchNorm):
        super().__init__()
        self.normed, self.first, self.last = norm(4, 1e-3, 0.9), nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return torch.softmax(self.last(torch.tanh(self.first(self.normed(x)))), dim=-1)


NAMES = {'kernel': 'weight', 'bias': 'bias', 'gamma': 'weight', 'beta': 'bias', 'moving_mean': 'running_mean',
         'moving_variance': 'running_var'}


def model(weights, norm=OldBatchNorm):
    made = Port(norm)
    values = {name.replace('/', '.'): torch.from_numpy(value.T.copy()) for name, value in weights.items()}
    values = {'%s.%s' % (name.split('.')[0], NAMES[name.split('.')[1]]): value for name, value in values.items()}
    made.load_state_dict(dict(values, **{'normed.num_batches_tracked': torch.tensor(0)}))
    return made


def clipped(p, y):
    return F.nll_loss(torch.log(p.clamp(1e-7, 1 - 1e-7)), y)


def unclipped(p, y):
    return F.nll_loss(torch.log(p + 1e-30), y)


def adam(parameters, lr):
    return torch.optim.Adam(parameters, lr, eps=1e-3)


WITHOUT = {'regularizer': {'rate': 0.05}, 'cross_entropy': {'loss': unclipped}, 'adam': {'optimizer': adam},
           'clipnorm': {'clip': clip_grad_value_}, 'decay': {'decay': 0.}}


def trained(made, arrays, folder, rate=0.1, optimizer=OldAdam, clip=clip_grad_norm_, decay=0.5, loss=clipped):
    """Writes the losses and the weights after each recorded update."""
    x, y = torch.from_numpy(arrays['input/x'].copy()), torch.from_numpy(arrays['target/last']).argmax(-1)
    found, losses = {}, []
    update = optimizer(made.parameters(), 0.01)
    rates = LambdaLR(update, lambda t: 1 / (1 + decay * t))
    for step in range(1, arrays.manifest['training']['steps'] + 1):
        update.zero_grad()
        value = loss(made(x), y) + rate * (made.last.weight ** 2).sum()
        value.backward()
        clip(made.parameters(), 0.5)
        update.step()
        rates.step()
        losses.append(float(value))
        values = made.state_dict()
        for name in arrays.files['weights.npz']:
            layer, part = name.split('/')[1:]
            found['step_%d/%s' % (step, name)] = values['%s.%s' % (layer, NAMES[part])].numpy().T.copy()
    found = {name: value for name, value in found.items() if name in arrays}
    bundles.write(folder, dict(found, losses=np.array(losses, 'float32')), 'training.npz')


def main(bundle, path, folder=None):
    arrays = bundles.Arrays(bundle)
    if folder is None:
        torch.save(bundles.build(__file__ + ':model', arrays).state_dict(), path)
        return
    weights = {name[len('parameter/'):]: arrays[name] for name in arrays.files['weights.npz']}
    if path == 'float64':
        torch.set_default_dtype(torch.float64)
        made = model(weights).eval()(torch.from_numpy(arrays['input/x'].astype('f8'))).detach().numpy()
        bundles.write(folder, {'float64/layer/last/output': made}, 'float64.npz')
        return
    if path == 'sgd':
        made = model(weights)
        trained(made, arrays, folder, 0., lambda parameters, lr: torch.optim.SGD([
            {'params': [made.last.weight], 'weight_decay': 2 * 0.1},
            {'params': [one for one in parameters if one is not made.last.weight]}], lr), lambda *_: None, 0.)
        return
    made = Port()
    made.load_state_dict(torch.load(path, weights_only=True))
    trained(made, arrays, os.path.join(folder, 'remedies'))
    for name, options in WITHOUT.items():
        trained(model(weights), arrays, os.path.join(folder, name), **options)
    norm = model(weights, lambda features, eps, m: nn.BatchNorm1d(features, eps, 1 - m))
    trained(norm, arrays, os.path.join(folder, 'moving_averages'))


if __name__ == '__main__':
    main(*sys.argv[1:])
