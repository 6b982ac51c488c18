"""The section of docs/results.md about Luong's variants, and its plots, from what `variants.py` has measured.

    benchmarks/variants_report.py    # reads docs/variants.jsonl and docs/variants_speed.jsonl

The table replaces the lines between the two `variants` marks of the page.
"""
import collections
import os
import re

from variants import MAIN, ROOT, read, run_command

DOCS = os.path.join(ROOT, 'docs')
PAGE = os.path.join(DOCS, 'results.md')
BEGIN = '<!-- variants: benchmarks/variants_report.py writes the lines up to the next mark -->'
END = '<!-- variants -->'
ATTENTION = ('dot', 'general', 'concat', 'scaled_dot', 'location', 'local-m', 'local-p')
ORDER = ['none'] + [name + feeding for feeding in ('', ' + feeding') for name in ATTENTION]
COLOURS = collections.OrderedDict(zip(MAIN, ('#777777', '#1f5fa8', '#0b2f5c', '#3d9b4c', '#e08a3c', '#b3441e')))


def measured():
    """What the files say: {variant: runs of all seeds, in their order}, {variant: its line of speed}."""
    runs = collections.OrderedDict((name, []) for name in ORDER)
    for line in read(os.path.join(DOCS, 'variants.jsonl')):
        runs[line['variant']].append(line)
    speed = {line['variant']: line for line in read(os.path.join(DOCS, 'variants_speed.jsonl'))}
    return collections.OrderedDict((name, lines) for name, lines in runs.items() if lines), speed


def table(runs, speed):
    """The table as lines of Markdown."""
    first = next(iter(runs.values()))[0]
    lines = ['Budget of a run: %s, %d updates. BLEU of the 1,000 lines of test_2016_flickr, greedy search, with 95 %% '
             'intervals by bootstrap: %s.' % (first['budget'].replace('1 epochs', 'one epoch'), first['updates'],
                                              first['signature']), '',
             '| variant | parameters | words/s | peak, GiB | validation perplexity | BLEU | second seed |',
             '|---|---|---|---|---|---|---|']
    for name, seeds in runs.items():
        first_seed = seeds[0]
        second = '%.1f [%.1f, %.1f], p = %.3f' % (seeds[1]['bleu'], *seeds[1]['interval'], seeds[1]['p_first_seed']) \
            if len(seeds) > 1 else ''
        lines.append('| %s | %s | %s | %.2f | %.2f | %.1f [%.1f, %.1f] | %s |' % (
            name, format(first_seed['parameters'], ','),
            format(round(speed[name]['words_per_second'], -1), ',.0f') if name in speed else '\u2013',
            first_seed['peak_gib'], first_seed['val_perplexity'], first_seed['bleu'], *first_seed['interval'], second))
    return lines


def length_plot(runs, path):
    """BLEU by source length: without attention, and the other main variants."""
    figure, axes = new_figure()
    labels = [band['label'] for band in runs['none'][0]['bands']]
    for name in [name for name in COLOURS if name in runs]:
        scores = [[band['bleu'] for band in seed['bands']] for seed in runs[name]]
        mean = [sum(column) / len(column) for column in zip(*scores)]
        axes.plot(range(len(mean)), mean, 'o-', color=COLOURS[name], label=name)
    axes.set_xticks(range(len(labels)))
    axes.set_xticklabels(['%s\n(%d lines)' % (band['label'], band['lines']) for band in runs['none'][0]['bands']])
    axes.set_xlabel('source tokens')
    save(figure, axes, path)


def time_plot(runs, speed, path):
    """Validation BLEU over the training time: updates times the measured seconds of an update."""
    figure, axes = new_figure()
    for name in [name for name in COLOURS if name in runs and name in speed]:
        curve = runs[name][0]['curve']
        axes.plot([step * speed[name]['seconds_per_update'] for step, _, _ in curve],
                  [bleu for _, bleu, _ in curve], 'o-', color=COLOURS[name], label=name)
    axes.set_xlabel('seconds of training, processor time of one thread')
    axes.set_xlim(left=0)
    save(figure, axes, path, 'validation BLEU')


def new_figure():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(8.4, 3.8))
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot(111)


def save(figure, axes, path, label='BLEU'):
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(color='0.9')
    axes.legend(frameon=False, fontsize=9, loc='center left', bbox_to_anchor=(1, .5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def section():
    """The generated lines of the page."""
    return '\n'.join([BEGIN, ''] + table(*measured()) + ['', END])


def with_section(text):
    """The text of the page with the generated lines of today."""
    return re.sub(re.escape(BEGIN) + '.*?' + re.escape(END), lambda _: section(), text, flags=re.DOTALL)


def main(_):
    runs, speed = measured()
    length_plot(runs, os.path.join(DOCS, 'variants-length.png'))
    if speed:
        time_plot(runs, speed, os.path.join(DOCS, 'variants-time.png'))
    with open(PAGE, encoding='utf-8') as stream:
        text = with_section(stream.read())  # before the page is opened to write: an error leaves it as it is
    with open(PAGE, 'w', encoding='utf-8', newline='\n') as stream:
        stream.write(text)


if __name__ == '__main__':
    run_command(main, 'variants_report.py')
