"""What `regress.py convert` writes beside the model: report, instructions, new_layers.py to fill."""
from collections import OrderedDict
import json
import os
import textwrap

import numpy as np

from parity import report
from parity.bundle import ArrayFile, printable
from parity.report_page import STYLE, escape

LISTED = 6
KERAS_CELLS = ('LSTMCell', 'GRUCell', 'SimpleRNNCell')
README = '''{what}

{install}
{pad}
    import keras
{imports}    model = keras.saving.load_model('model.keras'{custom})
    outputs = model.predict({inputs})
    # {shapes}

{more}'''


def layers(conversion):
    """[dict] of the layers' results in the order of the calculation: name, class, result, absolute, relative, ulp."""
    classes = {call['name']: call['class'] for call in conversion.manifest['calls']}
    rows = []
    for stage, group in report.stages_in_order(conversion.compared).items() if conversion.compared else ():
        word, (absolute, relative, ulp), worst = report.summary(group)
        rows.append(OrderedDict([('name', stage), ('class', classes.get(stage, '')),
                                 ('result', 'differs' if word == 'DIFFERS' else word), ('absolute', number(absolute)),
                                 ('relative', number(relative)), ('ulp', ulp),
                                 ('where', report.reason(worst) if worst.problem else '')]))
    return rows


def number(value):
    """A number that JSON has, or its name."""
    return value if np.isfinite(value) else str(value)


def largest(conversion):
    """(largest absolute difference, its ULP, its layer) of all stages."""
    rows = [row for row in layers(conversion) if isinstance(row['absolute'], float)]
    worst = max(rows, key=lambda row: row['absolute']) if rows else None
    return (worst['absolute'], worst['ulp'], worst['name']) if worst else (0., 0, '')


def not_converted(conversion):
    """[dict] of the layers that could not be converted, with what is known of each."""
    calls, rows = {call['name']: call for call in conversion.manifest['calls']}, []
    for problem in conversion.problems:
        call = calls[problem['call']]
        if any(other['call'].startswith(call['name'] + '/') for other in conversion.problems):
            continue        # a model that holds one of them
        rows.append(OrderedDict([('name', call['name']), ('class', call['class']), ('why', problem['why']),
                                 ('config', call['config']), ('inputs', call['inputs']), ('outputs', call['outputs']),
                                 ('input_masks', call['input_masks']), ('weights', call['weights']),
                                 ('states', call.get('states', []))]))
    return rows


def document(conversion):
    """The content of report.json."""
    facts = conversion.facts
    good, wrong = conversion.training
    return OrderedDict([
        ('done', conversion.done), ('source', conversion.source), ('source_sha256', conversion.manifest.get('source')),
        ('files', conversion.files), ('layers', layers(conversion)),
        ('not_compared', conversion.compared.missing if conversion.compared else []),
        ('causes', conversion.compared.causes if conversion.compared else []),
        ('not_converted', not_converted(conversion)), ('renamed', facts.get('renamed', {})),
        ('weights_times_1.2', facts.get('scaled', [])), ('old_keras', facts.get('classes', [])),
        ('training', OrderedDict([('compiled', facts.get('compiled', False)), ('agrees', good), ('differs', wrong),
                                  ('not_carried_over', facts.get('not_carried', []))])),
        ('onnx', conversion.onnx), ('environment', OrderedDict([
            ('old', conversion.manifest.get('environment')), ('new', facts.get('environment'))]))])


def as_json(conversion):
    return json.dumps(document(conversion), indent=1, allow_nan=False) + '\n'


def remarks(conversion):
    """Sentences for the report: what was changed, and what could not go along."""
    facts, lines = conversion.facts, []
    if facts.get('scaled'):
        lines.append('The weights of the hard_sigmoid gates are 1.2 times the old ones in: %s. Keras 3\'s hard_sigmoid '
                     'has the slope 1/6, Keras 2\'s 0.2, so that the outputs are the same; --keep-weights keeps the '
                     'weights and registers a function.' % ', '.join(facts['scaled']))
    if facts.get('classes'):
        lines.append('Import old_keras.py before loading: the file uses %s, which Keras 3 lacks.'
                     % ', '.join(facts['classes']))
    lines += ['Keras 3 takes no / in names: %s is now %s.' % pair for pair in sorted(facts.get('renamed', {}).items())]
    if conversion.compared:
        lines += training_lines(conversion)
    if conversion.onnx:
        lines.append('ONNX: %s.' % (conversion.onnx['problem'] or 'in onnxruntime the outputs agree to %.2g'
                                    % conversion.onnx['absolute']))
    return lines


def training_lines(conversion):
    """Sentences about the training of the converted model."""
    facts, (good, wrong) = conversion.facts, conversion.training
    lost = conversion.manifest.get('training_lost')
    if not conversion.manifest['training']:
        return ['Training: %s.' % (lost or 'the old model has no loss, so this one is not compiled')]
    lines = ['Not carried over: %s.' % lost] if lost else []
    lines += ['Training goes on: %s.' % '; '.join(good)] if facts['compiled'] and good and not wrong else []
    if facts['compiled'] and wrong:
        lines.append('Training: %s.' % '; '.join(wrong))
    lines += ['Not carried over: %s.' % note for note in facts['not_carried']]
    return lines


def page(conversion):
    """The report as one page of HTML."""
    rows = ''.join('<tr><td class="%s">%s</td><td><code>%s</code></td><td>%s</td>%s<td><code>%s</code></td></tr>' % (
        row['result'].replace('differs', 'DIFFERS'), row['result'], escape(row['name']), escape(row['class']),
        ''.join('<td class="n">%s</td>' % (('%.2g' % value) if isinstance(value, float) else value)
                for value in (row['absolute'], row['relative'], row['ulp'])), escape(row['where']))
        for row in layers(conversion))
    parts = ['<h1>%s</h1>' % escape(headline(conversion)),
             '<ul>%s</ul>' % ''.join('<li>%s</li>' % escape(line) for line in remarks(conversion))]
    if conversion.compared and conversion.compared.causes:
        parts.append('<p>%s</p>' % escape(' '.join(conversion.compared.causes)))
    missing = not_converted(conversion)
    if missing:
        parts.append('<h2>Not converted</h2>' + ''.join(
            '<h3><code>%s</code>, %s</h3><p>%s. In: <code>%s</code>; out: <code>%s</code></p><pre>%s</pre>' % tuple(
                escape(text) for text in (row['name'], row['class'], row['why'], ', '.join(row['inputs']),
                                          ', '.join(row['outputs']), shown(row['config'])))
            for row in missing))
    if rows:
        parts.append('<h2>Layers, in the order of the calculation</h2><div class="scroll"><table><tr><th></th><th>layer'
                     '</th><th>class</th><th>absolute</th><th>relative</th><th>ULP</th><th>where</th></tr>%s</table>'
                     '</div>' % rows)
    hashes = ''.join('<li><code>%s</code>: %d bytes, sha256 <code>%s</code></li>'
                     % (escape(name), entry['bytes'], entry['sha256']) for name, entry in conversion.files.items())
    new = conversion.facts.get('environment', {})
    old = (conversion.manifest.get('environment') or {}).get('versions', {})
    parts.append('<h2>Files and versions</h2><ul>%s</ul><p>Old: %s. New: %s.</p>' % (
        hashes, *[escape(', '.join('%s %s' % pair for pair in versions.items())) for versions in (old, new)]))
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>regress.py convert</title>'
            '<meta name="viewport" content="width=device-width"><style>%s</style></head><body>%s</body></html>\n'
            % (STYLE, '\n'.join(parts)))


def shown(config):
    """A configuration for a page, without long code."""
    text = json.dumps(config, indent=1)
    return text if len(text) < 4000 else text[:4000] + ' ...'


def headline(conversion):
    """The result in one sentence."""
    if conversion.problems:
        return 'not converted: %s' % '; '.join('%s (%s)' % (row['name'], row['class'])
                                               for row in not_converted(conversion)[:LISTED])
    if conversion.first is not None:
        return report.headline(conversion.compared)[0]
    if conversion.onnx and conversion.onnx['problem']:
        return 'model.keras agrees; the ONNX file does not: %s' % conversion.onnx['problem']
    absolute, ulp, name = largest(conversion)
    count = len(layers(conversion))
    return 'converted: %d stages agree, the largest difference is %.2g%s' % (
        count, absolute, ' (%d ULP, in %s)' % (ulp, printable(name)) if absolute else '')


def failure(conversion, options):
    """The one line of a conversion that is not done."""
    folder = conversion.folder
    seen = 'see %s' % os.path.join(folder, 'report.html')
    if conversion.problems:
        rows = not_converted(conversion)
        names = '; '.join('%s (%s): %s' % (row['name'], row['class'], row['why']) for row in rows[:LISTED])
        more = ' and %d more' % (len(rows) - LISTED) if len(rows) > LISTED else ''
        stub = options.custom3 or os.path.join(folder, 'new_layers.py')
        return ('%s: not converted: %s%s: write them for Keras 3 in %s, then: regress.py convert %s %s --custom3 %s'
                % (conversion.source, names, more, stub, conversion.bundle, folder, stub))
    if conversion.first is not None:
        return '%s: %s: %s' % (os.path.join(folder, 'model.differs.keras'), headline(conversion), seen)
    return '%s: %s; model.keras is done: %s' % (folder, conversion.onnx['problem'], seen)


def readme(conversion):
    """README.txt: the five lines that load and run the model."""
    facts, manifest = conversion.facts, conversion.manifest
    inputs = ArrayFile(os.path.join(conversion.bundle, 'inputs.npz'))
    shapes = manifest.get('input_shapes') or [(None,) + tuple(inputs.headers['input/' + name][0][1:])
                                              for name in manifest['inputs']]
    names = [name.replace('/', '_').replace('-', '_') for name in manifest['inputs']]
    names = [name if name.isidentifier() else 'x%d' % at for at, name in enumerate(names)]
    described = ', '.join('%s: %s %s' % (name, tuple(shape), inputs.headers['input/' + old][1])
                          for name, old, shape in zip(names, manifest['inputs'], shapes))
    imports = ('    import old_keras  # the file beside this one, which registers what Keras 3 lacks\n'
               if facts['classes'] else '')
    custom = ''
    if facts['used']:
        imports += '    import new_layers\n'
        custom = ', custom_objects={%s}' % ', '.join('%r: new_layers.%s' % (name, name) for name in facts['used'])
    versions = facts['environment']
    run = '\n'.join('\n'.join(textwrap.wrap(line, 100)) for line in remarks(conversion))
    return README.format(
        what=headline(conversion) + '. From %s.' % os.path.basename(conversion.source.rstrip('/')),
        install='Needs: pip install keras==%s %s, and KERAS_BACKEND=%s (or jax, torch).' % (
            versions['keras'], versions['backend'], versions['backend']), pad='', imports=imports, custom=custom,
        inputs=names[0] if len(names) == 1 else '[%s]' % ', '.join(names), shapes=described,
        more=run + '\n' + reset_lines(conversion))


def reset_lines(conversion):
    """For README.txt: what sets the states of layers of several cells to zeros, '' without such a layer."""
    renamed, paths = conversion.facts.get('renamed', {}), []
    for call in conversion.manifest['calls']:
        config = call['config']
        cell = config.get('cell') if config.get('stateful') and '#' not in call['name'] else None
        if cell and cell.get('class_name') == 'StackedRNNCells':
            own = call['name'][len(call['parent']) + 1 if call['parent'] else 0:]
            inside = call['parent'].split('/') if call['parent'] else []
            paths.append('model' + ''.join('.get_layer(%r)' % renamed.get(name, name) for name in inside + [own]))
    if not paths:
        return ''
    return ('\nThe method reset_state of layers of several cells fails in Keras 3.15. This sets their states to '
            'zeros:\n\n    for layer in [%s]:\n        for state in keras.tree.flatten(layer.states):\n'
            '            state.assign(keras.ops.zeros_like(state))\n' % ', '.join(paths))


def stub(conversion):
    """new_layers.py: a class or a function to fill for each layer that could not be converted."""
    stored = ArrayFile(os.path.join(conversion.bundle, 'forward.npz'))
    weights = ArrayFile(os.path.join(conversion.bundle, 'weights.npz'))
    inputs = ArrayFile(os.path.join(conversion.bundle, 'inputs.npz'))

    def shape(name):
        for file in (stored, inputs):
            if name in file:
                return '%s %s' % (tuple(file.headers[name][0]), file.headers[name][1])
        return '?'

    parts = ['"""Layers for Keras 3 in place of those that could not be converted: fill them in, and give this file as '
             '--custom3.\n\nEach is called with symbolic tensors. Shapes are those of the arrays in the bundle.\n"""\n'
             'import keras\nfrom keras import ops  # noqa: F401\n']
    seen = set()
    for row in not_converted(conversion):
        is_function = row['class'] in ('Lambda', 'Activation')
        name = row['name'].split('/')[-1].partition('#')[0] if is_function else row['class']
        cell = own_cell(row['config'])
        name = cell.get('class_name', name)
        if name in seen:
            continue
        seen.add(name)
        lines = ['# %s, %s: %s' % (row['name'], row['class'], row['why']),
                 '# in:  %s' % ', '.join('%s %s' % (one, shape(one)) for one in row['inputs']),
                 '# out: %s' % ', '.join('%s %s' % (one, shape(one)) for one in row['outputs'])]
        config = {key: value for key, value in cell.get('config', row['config']).items()
                  if key not in ('name', 'trainable', 'dtype', 'function')}
        lines.append('# configuration: %s' % json.dumps(config)[:400])
        names = ['x'] if len(row['inputs']) == 1 else ['x%d' % (at + 1) for at in range(len(row['inputs']))]
        if is_function and name.isidentifier():
            lines += ['def %s(%s):' % (name, ', '.join(names)), "    raise NotImplementedError('%s')" % name]
        else:
            sizes = [stored.headers[one][0][-1] for one in row['states'] if one in stored] if cell else None
            lines += class_lines(row, name, config, names, weights, sizes)
        parts.append('\n'.join(lines) + '\n')
    return '\n\n'.join(parts)


def own_cell(config):
    """The entry of the cell in the configuration of an `RNN`, of several the first that is none of Keras', or {}."""
    cell = config.get('cell') or {}
    if cell.get('class_name') == 'StackedRNNCells':
        cells = cell['config']['cells']
        return next((one for one in cells if one['class_name'] not in KERAS_CELLS), cells[0])
    return cell


def class_lines(row, name, config, names, weights, sizes):
    """The lines of a layer class to fill, or with `sizes`, those of its states, of a cell."""
    arguments = [key for key, value in config.items() if key.isidentifier() and not isinstance(value, dict)]
    lines = ['@keras.saving.register_keras_serializable()', 'class %s(keras.layers.Layer):' % name,
             '    def __init__(self, %s**kwargs):' % ''.join('%s=%r, ' % (key, config[key]) for key in arguments),
             '        super().__init__(**kwargs)']
    lines += ['        self.%s = %s' % (key, key) for key in arguments]
    if sizes is not None:
        lines.append('        self.state_size = %r' % (sizes,))
    count = row['config'].get('num_constants') if sizes is not None else 0
    if row['weights']:
        lines += ['', '    def build(self, input_shape):'] + (
            ['        # a list: the shape of a step, and those of the constants'] if count else [])
        for weight in row['weights']:
            own = weight.split('/')[-1].partition('#')[0]
            own = own if own.isidentifier() else 'weight'
            lines.append('        self.%s = self.add_weight(shape=%s, name=%r)'
                         % (own, tuple(weights.headers[weight][0]), own))
    if sizes is not None:
        lines += ['', '    def call(self, inputs, states%s):' % (', constants' if count else ''),
                  '        # returns the output of a step, and the list of the new states']
    else:
        lines += ['', '    def call(self, inputs%s):' % (', mask=None' if any(row['input_masks']) else '')]
        if len(names) > 1:
            lines.append('        %s = inputs' % ', '.join(names))
    return lines + ["        raise NotImplementedError('%s')" % name]
