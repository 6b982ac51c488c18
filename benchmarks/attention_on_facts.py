"""Attention on the supporting facts and accuracy after each validation of a bAbI run, as a table and a picture.

    train.py --task answer --format babi --train qa1_train.txt --epochs 2 --validate-every 50 --keep 20 --run runs/facts
    benchmarks/attention_on_facts.py runs/facts qa1_test.txt docs/facts.png

The weights are those of the checkpoints that `--keep` keeps, without their running average. The answer is given to the
decoder (forced decoding), and an answer counts as right if each of its tokens is the most probable one.
"""
import argparse
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import tf_session  # noqa: E402  first: it fixes the import order
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from keras import backend as K  # noqa: E402
from command_line import positive_int, require, run_command  # noqa: E402
from text.questions import attention_on_support, read_questions  # noqa: E402
from translator import Translator  # noqa: E402


def parse(argv):
    parser = argparse.ArgumentParser(prog='attention_on_facts.py', description=__doc__.split('\n')[0],
                                     allow_abbrev=False)
    parser.add_argument('run', metavar='RUN', help='run directory, trained with --keep')
    parser.add_argument('test', metavar='FILE', help='bAbI file with supporting facts')
    parser.add_argument('picture', metavar='PNG', help='file to write')
    parser.add_argument('--lines', type=positive_int, default=500, metavar='N',
                        help='the first N questions (default: %(default)s)')
    return parser.parse_args(argv)


def main(argv):
    options = parse(argv)
    translator = Translator.load(options.run, threads=1)
    asked = list(read_questions([options.test], 'babi'))[:options.lines]
    pairs = [(question.source, question.answer) for question in asked]
    weights = translator.models[0].training_model.weights
    kept = sorted(translator.run.read_checkpoint()[1]['kept'], key=lambda pointer: pointer['step'])
    require(kept, '%s: has no kept checkpoints: train it with --keep', options.run)
    rows = []
    print('update  exact match  attention on facts')
    for pointer in kept:
        arrays, _ = translator.run.read_checkpoint({key: pointer[key] for key in ('file', 'sha256', 'step')})
        with tf_session.opened(translator.session):
            K.batch_set_value([(weight, arrays['model/' + weight.op.name]) for weight in weights])
        forced = translator.score(pairs)
        support = attention_on_support(asked, [one.alignment for one in forced], translator.encode)
        right = sum(min(one.margins) > 0 for one in forced) / float(len(forced))
        rows.append((pointer['step'], right, support.share))
        print('%6d  %11.3f  %18.3f' % rows[-1], flush=True)
    figure = Figure(figsize=(6., 3.2), facecolor='white')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(1, 1, 1)
    steps, right, share = zip(*rows)
    axes.plot(steps, share, marker='o', label='attention on facts')
    axes.plot(steps, right, marker='s', label='exact match')
    axes.axhline(support.even, linestyle='--', color='0.5', label='uniform attention')
    axes.set(xlabel='update', ylabel='share of attention, of questions', ylim=(0, 1.05))
    axes.legend(frameon=False, fontsize=9)
    axes.grid(color='0.9')
    figure.tight_layout()
    figure.savefig(options.picture, dpi=100)


if __name__ == '__main__':
    run_command(main, 'attention_on_facts.py')
