"""The model in PyTorch, written from docs/bundles.md: forward stages, loss, gradients, updates, greedy decoding.

    python docs/port_example/port.py reference ported
    python regress.py compare reference ported --stage-map docs/port_example/stage_map.json

Reads weights and inputs of each file of a reference set, and writes what PyTorch makes of them beside. Needs torch and
numpy only. Letters in shapes: B batch, S and T source and target length, E embedding, D and Dm state sizes.
"""
import json
import os
import sys

import numpy as np
import torch

PAD, UNK, START, END = 0, 1, 2, 3
TINY, LEAST_WEIGHT = 1e-37, 1e-7
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7


def hard_sigmoid(x):
    return torch.clamp(0.2 * x + 0.5, 0., 1.)


def masked_softmax(scores, valid):
    """Exactly 0 where hidden, and all 0 where nothing is valid."""
    weights = torch.softmax(torch.where(valid, scores, torch.full_like(scores, torch.finfo(scores.dtype).min)), -1)
    return torch.where(valid, weights, torch.zeros_like(weights))


class Port(object):
    """The model of one file. `settings` and `parameters` are those of the bundle."""

    def __init__(self, settings, parameters):
        self.settings, self.p = settings, parameters
        self.gate = hard_sigmoid if settings['recurrent_activation'] == 'hard_sigmoid' else torch.sigmoid
        self.dtype = next(iter(parameters.values())).dtype

    def cell(self, name, x, states):
        """One step of Keras' LSTM (i, f, c, o) or GRU (z, r, h; reset before the product)."""
        kernel, recurrent, bias = [self.p[name + '/' + part] for part in ('kernel', 'recurrent_kernel', 'bias')]
        if self.settings['cell'] == 'lstm':
            h, c = states
            i, f, g, o = torch.chunk(x @ kernel + h @ recurrent + bias, 4, dim=-1)
            c = self.gate(f) * c + self.gate(i) * torch.tanh(g)
            return [self.gate(o) * torch.tanh(c), c]
        h, = states
        x_z, x_r, x_h = torch.chunk(x @ kernel + bias, 3, dim=-1)
        u_z, u_r, u_h = torch.chunk(recurrent, 3, dim=-1)
        z, r = self.gate(x_z + h @ u_z), self.gate(x_r + h @ u_r)
        return [z * h + (1. - z) * torch.tanh(x_h + (r * h) @ u_h)]

    def layer(self, name, x, valid, backwards=False):
        """A padded step keeps the states and puts out the one it found."""
        units = self.p[name + '/recurrent_kernel'].shape[0]
        states = [torch.zeros(x.shape[0], units, dtype=self.dtype)] * (2 if self.settings['cell'] == 'lstm' else 1)
        outputs = [None] * x.shape[1]
        for s in reversed(range(x.shape[1])) if backwards else range(x.shape[1]):
            states = [torch.where(valid[:, s, None], new, old)
                      for new, old in zip(self.cell(name, x[:, s], states), states)]
            outputs[s] = states[0]
        return torch.stack(outputs, 1), states

    def encode(self, source):
        """ids (B, S) to encoder states (B, S, Dm) and the decoder's first states, a list for each layer."""
        settings, valid, last = self.settings, source != PAD, []
        x = self.p['source_embedding/embeddings'][source]
        for number in range(1, settings['encoder_layers'] + 1):
            below, name = x, 'encoder_%d' % number
            if settings['bidirectional']:
                forward, one = self.layer(name + '/forward', x, valid)
                backward, other = self.layer(name + '/backward', x, valid, backwards=True)
                x, states = torch.cat([forward, backward], -1), [torch.cat(pair, -1) for pair in zip(one, other)]
            else:
                x, states = self.layer(name, x, valid)
            if settings['residual'] and number > 1:
                x = x + below
            last.append(states)
        first = []
        for number in range(1, settings['decoder_layers'] + 1):
            states = last[min(number, len(last)) - 1]
            if 'bridge_%d_h/kernel' % number in self.p:
                states = [torch.tanh(state @ self.p['bridge_%d_%s/kernel' % (number, kind)] +
                                     self.p['bridge_%d_%s/bias' % (number, kind)])
                          for kind, state in zip('hc', states)]
            first.append(states)
        return x, first

    def scores(self, h, memory):
        """Eq. 7 and 8: decoder states (B, D) and encoder states (B, S, Dm) to (B, S)."""
        name = {'additive': 'concat'}.get(self.settings['score'], self.settings['score'])
        if name in ('dot', 'scaled_dot'):
            scores = torch.einsum('bd,bsd->bs', h, memory)
            scores = scores / memory.shape[-1] ** 0.5 if name == 'scaled_dot' else scores
        elif name == 'general':
            scores = torch.einsum('bd,bsd->bs', h @ self.p['attention/kernel'], memory)
        elif name == 'location':
            scores = (h @ self.p['attention/kernel'])[:, :memory.shape[1]]
        else:
            inner, v = memory @ self.p['attention/memory_kernel'], self.p['attention/score_kernel'][:, 0]
            if self.settings['attention_normalize']:
                inner, v = inner + self.p['attention/bias'], self.p['attention/norm'] * v / torch.sqrt(torch.sum(v * v))
            scores = torch.tanh(inner + (h @ self.p['attention/query_kernel'])[:, None]) @ v
        return self.p['attention/factor'] * scores if self.settings['attention_scale'] else scores

    def align(self, scores, h, valid, t):
        """Scores with the hidden ones at minus infinity, and weights, both (B, S)."""
        if self.settings['attention'] != 'global':
            window = float(self.settings['window'])
            if self.settings['attention'] == 'local-m':
                centre = torch.full((len(h), 1), float(t), dtype=self.dtype)
            else:
                inner = torch.tanh(h @ self.p['attention/position_kernel'])
                centre = torch.sigmoid(inner @ self.p['attention/position_score_kernel'])
                centre = centre * valid.sum(1, keepdim=True).to(self.dtype)
            distance = torch.arange(scores.shape[1], dtype=self.dtype)[None] - centre
            valid = valid & (distance.abs() <= window)
        weights = masked_softmax(scores, valid)
        if self.settings['attention'] == 'local-p':
            weights = weights * torch.exp(-2. * (distance / window) ** 2)
        return torch.where(valid, scores, torch.full_like(scores, -np.inf)), weights

    def start(self, source):
        memory, first = self.encode(source)
        return memory, first, torch.zeros(len(source), self.settings['units'], dtype=self.dtype)

    def mixture(self, logits, switch, weights, copied):
        """The copy distribution and the logarithm of See et al.'s eq. 9, both (B, V + X); p_gen is sigmoid(switch)."""
        size = max(logits.shape[1], int(copied.max()) + 1)
        there = torch.zeros(len(copied), size, dtype=self.dtype).scatter(1, copied, 1.)
        there[:, PAD] = 0.
        copies = torch.zeros(len(copied), size, dtype=self.dtype).scatter_add(1, copied, weights)
        p_gen = torch.where(there.any(1, keepdim=True), torch.sigmoid(switch), torch.ones_like(switch))
        p = torch.nn.functional.pad(p_gen * torch.softmax(logits, -1), (0, size - logits.shape[1]))
        p = p + torch.sigmoid(-switch) * there * copies.clamp(min=TINY)
        absent = torch.full_like(p, -np.inf)
        return copies, torch.where(p > 0., torch.log(torch.where(p > 0., p, torch.ones_like(p))), absent)

    def step(self, tokens, states, memory, valid, attentional, t, copied=None):
        """One decoder step: the stages, the layers' new states, and the state that input feeding needs."""
        table = self.p['source_embedding/embeddings' if self.settings['share_vocabulary'] else
                       'target_embedding/embeddings']
        x, new_states, stages = table[torch.where(tokens < len(table), tokens, UNK)], [], {}
        embedded = x
        if self.settings['input_feeding']:
            x = torch.cat([x, attentional], -1)
        for number, cell in enumerate(states, 1):
            below = x
            new_states.append(self.cell('decoder_%d' % number, x, cell))
            x = new_states[-1][0]
            if self.settings['residual'] and number > 1:
                x = x + below
        stages['decoder_states'] = attentional = x
        if self.settings['score'] != 'none':
            stages['scores'] = self.scores(x, memory)
            stages['masked_scores'], stages['weights'] = self.align(stages['scores'], x, valid, t)
            stages['context'] = torch.einsum('bs,bsd->bd', stages['weights'], memory)
            joined = torch.cat([stages['context'], x], -1)
            attentional = stages['attentional_states'] = torch.tanh(joined @ self.p['attentional_state/kernel'])
        out = attentional
        if 'output_projection/kernel' in self.p:
            out = out @ self.p['output_projection/kernel']
        stages['logits'] = out @ (table.T if self.settings['tie_embeddings'] else self.p['output/kernel'])
        if copied is not None:
            joined = torch.cat([stages['context'], stages['decoder_states'], embedded], -1)
            switch = joined @ self.p['pointer_generator/kernel'] + self.p['pointer_generator/bias']
            stages['p_gen'] = torch.sigmoid(switch)
            stages['vocabulary_logits'] = stages['logits']
            stages['copy_distribution'], stages['logits'] = self.mixture(stages['logits'], switch,
                                                                         stages['weights'], copied)
        return stages, new_states, attentional

    def forward(self, source, given, output, copied=None, alignments=None):
        """All teacher-forced stages, the loss among them."""
        memory, states, attentional = self.start(source)
        stages = {'encoder_states': memory,
                  'initial_states': torch.stack([state for layer in states for state in layer], 1)}
        steps = []
        for t in range(given.shape[1]):
            step, states, attentional = self.step(given[:, t], states, memory, source != PAD, attentional, t, copied)
            steps.append(step)
        stages.update({name: torch.stack([step[name] for step in steps], 1) for name in steps[0]})
        log_p, e = torch.log_softmax(stages['logits'], -1), self.settings['label_smoothing']
        each = -(1. - e) * torch.gather(log_p, 2, output[:, :, None])[:, :, 0]
        if e:   # not with names: the logarithm of those that a row has not is minus infinity
            each = each - e * log_p.mean(-1)
        rate = self.settings.get('coverage_loss')
        if rate:
            before = stages['weights'].cumsum(1) - stages['weights']
            again = torch.minimum(stages['weights'], before).sum(-1)
            stages['coverage_losses'] = torch.where(output != PAD, again, torch.zeros_like(again))
            each = each + rate * again
        if alignments is not None:
            gold = alignments.to(self.dtype) * (source != PAD)[:, None]
            gold = gold / gold.sum(-1, keepdim=True).clamp(min=1.)
            guided = -(gold * torch.log(stages['weights'].clamp(min=LEAST_WEIGHT))).sum(-1)
            stages['guided_losses'] = torch.where(output != PAD, guided, torch.zeros_like(guided))
            each = each + self.settings['guided_alignment'] * guided
        stages['token_losses'] = torch.where(output != PAD, each, torch.zeros_like(each))
        stages['loss'] = stages['token_losses'].sum() / (output != PAD).sum()
        return stages

    def greedy(self, source, limits, copied=None):
        memory, states, attentional = self.start(source)
        tokens, lengths = torch.full((len(source),), START), torch.zeros(len(source), dtype=torch.int32)
        running, found = limits > 0, []
        while running.any():
            stages, states, attentional = self.step(tokens, states, memory, source != PAD, attentional, len(found),
                                                    copied)
            allowed = stages['logits'].clone()
            allowed[:, [PAD, START]] = -np.inf
            best, ids = torch.topk(allowed, 2)
            weights = stages.get('weights', torch.zeros(source.shape, dtype=self.dtype))
            values = (ids[:, 0], best[:, 0] - torch.logsumexp(stages['logits'], -1), weights, best[:, 0] - best[:, 1],
                      ids[:, 1])
            found.append([torch.where(running[:, None] if value.dim() == 2 else running, value,
                                      torch.zeros_like(value)) for value in values])
            tokens, lengths = found[-1][0], lengths + running.int()
            running = running & (tokens != END) & (lengths < limits)
        names = ('ids', 'log_probabilities', 'weights', 'margins', 'runner_up')
        arrays = {name: torch.stack(list(column), 1) for name, column in zip(names, zip(*found))}
        return dict(arrays, lengths=lengths)


def parameters_of(arrays):
    return {name[len('parameter/'):]: torch.tensor(value, requires_grad=True)
            for name, value in arrays.items() if name.startswith('parameter/')}


def train(entry, arrays):
    """Our arrays of a training with Adam whose batches are recorded: losses, weights and slots."""
    settings, parameters, losses = entry['model'], parameters_of(arrays), []
    slots = {name: {kind: torch.zeros_like(value) for kind in ('m', 'v', 'average')}
             for name, value in parameters.items()}
    made = {name: value for name, value in arrays.items() if name.startswith(('input/', 'parameter/'))}
    batches = arrays['input/batches']
    for update, rows in enumerate(batches, 1):
        source, target = [torch.tensor(arrays['input/' + side][rows], dtype=torch.int64)
                          for side in ('source', 'target')]
        edge = torch.full((len(rows), 1), PAD)
        given, output = torch.cat([edge + START, target], 1), torch.cat([target, edge], 1)
        output[torch.arange(len(rows)), (target != PAD).sum(1)] = END
        loss = Port(settings, parameters).forward(source, given, output)['loss']
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        norm = torch.sqrt(sum((gradient ** 2).sum() for gradient in gradients))
        rate = settings['learning_rate'] * (1. - (update - 1) / len(batches))       # decay='linear'
        factor = rate * np.sqrt(1. - BETA_2 ** update) / (1. - BETA_1 ** update)
        share = min(settings['averaging'], (update - 1.) / (update + 8.))
        with torch.no_grad():
            for (name, value), gradient in zip(parameters.items(), gradients):
                slot, gradient = slots[name], gradient * settings['clip_norm'] / max(norm, settings['clip_norm'])
                if value.dim() > 1:     # no decay on biases
                    value -= rate * settings['weight_decay'] * value
                slot['m'] = BETA_1 * slot['m'] + (1. - BETA_1) * gradient
                slot['v'] = BETA_2 * slot['v'] + (1. - BETA_2) * gradient ** 2
                value -= factor * slot['m'] / (torch.sqrt(slot['v']) + EPSILON)
                slot['average'] = share * slot['average'] + (1. - share) * value
                prefix = 'step_%d/' % update
                if prefix + 'parameter/' + name in arrays:
                    made[prefix + 'parameter/' + name] = value.numpy().copy()
                    made.update(('%sslot/%s_%s' % (prefix, name, kind), one.numpy()) for kind, one in slot.items())
    return dict(made, losses=np.array(losses, arrays['losses'].dtype))


def port(entry, arrays):
    """Our arrays of a file from its weights and inputs."""
    parameters = parameters_of(arrays)
    model = Port(entry['model'], parameters)
    made = {'parameter/' + name: value for name, value in parameters.items()}
    for prefix in ('padded/', 'single/') if entry['kind'] == 'case' else ('',):
        source, given, output = [torch.tensor(arrays[prefix + name], dtype=torch.int64)
                                 for name in ('source', 'given', 'output')]
        copied = torch.tensor(arrays[prefix + 'copied'], dtype=torch.int64) if entry['model'].get('copy') else None
        more = {'copied': copied}
        if prefix + 'alignments' in arrays:
            more['alignments'] = torch.tensor(arrays[prefix + 'alignments'])
        stages = dict(model.forward(source, given, output, **more), source=source, given=given, output=output)
        stages.update((name, value) for name, value in more.items() if value is not None)
        if prefix == 'padded/' or entry.get('gradients'):
            gradients = torch.autograd.grad(stages['loss'], list(parameters.values()), allow_unused=True)
            stages.update(('gradient/' + name, torch.zeros_like(value) if gradient is None else gradient)
                          for (name, value), gradient in zip(parameters.items(), gradients))
        limits = torch.full((len(source),), 9) if entry['kind'] == 'case' else 2 * (source != PAD).sum(1) + 10
        with torch.no_grad():
            stages.update(('greedy/' + name, value) for name, value in model.greedy(source, limits, copied).items())
        made.update((prefix + name, value) for name, value in stages.items())
    made = {name: value.detach().numpy() for name, value in made.items()}
    if entry['kind'] == 'run':
        made['text/source'] = arrays['text/source']
        words = arrays['vocabulary/target']
        made['text/greedy'] = np.array([''.join(words[i] for i in row if i not in (PAD, END))
                                        for row in made['greedy/ids']])
    return made


def main(reference, folder):
    torch.set_num_threads(1)
    with open(os.path.join(reference, 'MANIFEST.json'), encoding='utf-8') as stream:
        manifest = json.load(stream)
    os.makedirs(folder, exist_ok=True)
    for name, entry in manifest['files'].items():
        with np.load(os.path.join(reference, name), allow_pickle=False) as stored:
            arrays = dict(stored)
        if 'separators' in entry:
            print('%s: the encoder %s is not in this port' % (name, entry['model']['encoder']), file=sys.stderr)
        elif entry['kind'] != 'training' or 'input/batches' in arrays:
            np.savez(os.path.join(folder, name), **(train if entry['kind'] == 'training' else port)(entry, arrays))


if __name__ == '__main__':
    main(*sys.argv[1:])
