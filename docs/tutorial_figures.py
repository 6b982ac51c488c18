"""Pictures of the tutorial: one decoder step, drawn part by part from its own numbers, and a moving alignment.

The notebooks import it; `global_attention_figure.py` draws the overview from the same colours.
"""
import io

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
import numpy as np
from PIL import Image

from reports.label_fonts import label_font

BLUE, GREEN, ORANGE, PURPLE, GREY = '#1f5fa8', '#2e8b47', '#c44e00', '#6b4a9c', '#999999'
STAGES = ('states', 'scores', 'weights', 'context', 'attentional state', 'next word')


def new_axes(width, height, scale=.8):
    """A figure and axes whose coordinates go from 0 to width and height."""
    matplotlib.rcParams['mathtext.fontset'] = 'cm'
    figure = Figure(figsize=(scale * width, scale * height), dpi=144, facecolor='white')
    FigureCanvasAgg(figure)
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis('off')
    return figure, axes


def png(figure):
    stream = io.BytesIO()
    figure.savefig(stream, format='png', dpi=144)
    return stream.getvalue()


def words(axes, x, y, text, size=11, **options):
    text, font = label_font(text, size)
    axes.text(x, y, text, **dict(dict(ha='center', va='center', fontproperties=font), **options))


def vector(axes, x, y, numbers, colour, width=.62, height=.34):
    """A row of boxes around (x, y), one for each number: the darker, the larger."""
    first = x - width * len(numbers) / 2
    for place, number in enumerate(numbers):
        axes.add_patch(Rectangle((first + width * place, y - height / 2), width, height, edgecolor=colour, linewidth=.8,
                                 facecolor=colour, alpha=.12 + .5 * min(1., abs(number) / 2.), zorder=2))
        axes.add_patch(Rectangle((first + width * place, y - height / 2), width, height, edgecolor=colour, linewidth=.8,
                                 facecolor='none', zorder=3))
        axes.text(first + width * (place + .5), y, '%.2f' % number, fontsize=8.5, ha='center', va='center', zorder=4)


def arrow(axes, start, end, colour, width=1.2, bend=0.):
    axes.annotate('', end, start, zorder=1, arrowprops=dict(
        arrowstyle='-|>', color=colour, linewidth=width, shrinkA=0, shrinkB=0, mutation_scale=10,
        connectionstyle='arc3,rad=%g' % bend))


def decoder_step(stage, source_words, h_s, h_t, scores=None, weights=None, context=None, joined=None,
                 probabilities=None, target_words=None):
    """One decoder step up to a stage, as PNG; the arrows of that stage are orange, the earlier ones grey.

    # Arguments
        stage: one of `STAGES`. source_words: S words. h_s: encoder states (S, D). h_t: decoder state (D,).
        scores, weights: (S,). context, joined: (D,). probabilities: (V,) of the V target words.
    """
    last = STAGES.index(stage)
    rows = [.95, 1.75, 2.65, 3.75, 4.75, 5.75]              # heights of the stages
    figure, axes = new_axes(12.6, rows[last] + .75)
    places, right = [1.5 + 2.15 * s for s in range(len(source_words))], 10.9
    middle = np.mean(places)

    def colour(number):
        return ORANGE if number == last else GREY

    for s, (x, word) in enumerate(zip(places, source_words)):
        words(axes, x, .35, word, 12)
        vector(axes, x, rows[0], h_s[s], BLUE)
        axes.text(x - 1.0, rows[0] + .28, r'$\bar{h}_%d$' % (s + 1), fontsize=11)
        if last >= 1:
            arrow(axes, (x, rows[0] + .18), (x, rows[1] - .2), colour(1))
            axes.text(x, rows[1], '%.2f' % scores[s], fontsize=11, ha='center', va='center', color=GREEN, zorder=4)
        if last >= 2:
            arrow(axes, (x, rows[1] + .17), (x, rows[2] - .32), colour(2))
            axes.add_patch(Rectangle((x - .45, rows[2] - .28), .9, .56, facecolor='#eef6ef', edgecolor=GREEN))
            axes.add_patch(Rectangle((x - .45, rows[2] - .28), .9 * weights[s], .56, facecolor=GREEN, alpha=.45))
            axes.text(x, rows[2], '%.2f' % weights[s], fontsize=11, ha='center', va='center', zorder=4)
        if last >= 3:
            arrow(axes, (x, rows[2] + .3), (middle + .25 * (x - middle), rows[3] - .2), colour(3),
                  .7 + 4 * weights[s])
            axes.text(x + (.55 if x < middle else .15), rows[2] + .42, r'$\times\,\bar{h}_%d$' % (s + 1), fontsize=10,
                      ha='left', va='center', color=colour(3))
    vector(axes, right, rows[0], h_t, ORANGE)
    axes.text(right - 1.0, rows[0] + .28, '$h_t$', fontsize=11)
    words(axes, right, .35, 'decoder', 10, color=GREY)
    if last >= 1:
        # The decoder state goes to every score.
        axes.plot([right, right, places[0] + .4], [rows[0] + .18, rows[1] - .38, rows[1] - .38], color=colour(1),
                  linewidth=1.2, zorder=1)
        for x in places:
            arrow(axes, (x + .4, rows[1] - .38), (x + .17, rows[1] - .16), colour(1))
        axes.text(right + .15, rows[1], r'score: $\bar{h}_s\cdot h_t$', fontsize=10.5, va='center', ha='center')
    if last >= 2:
        axes.text(right, rows[2], r'weights: $\mathrm{softmax}_s$', fontsize=10.5, va='center', ha='center')
    if last >= 3:
        vector(axes, middle, rows[3], context, GREEN)
        axes.text(middle - 1.35, rows[3], '$c_t$', fontsize=12, va='center')
        axes.text(right, rows[3], r'context: $\sum_s a_t(s)\,\bar{h}_s$', fontsize=10.5, va='center', ha='center')
    if last >= 4:
        arrow(axes, (middle, rows[3] + .18), (middle, rows[4] - .2), colour(4))
        axes.plot([right + .95, 12.4, 12.4], [rows[0], rows[0], rows[4]], color=colour(4), linewidth=1.2, zorder=1)
        arrow(axes, (12.4, rows[4]), (middle + .97, rows[4]), colour(4))
        vector(axes, middle, rows[4], joined, PURPLE)
        axes.text(middle - 1.35, rows[4], r'$\tilde{h}_t$', fontsize=12, va='center')
        axes.text(right - .2, rows[4] + .3, r'eq. 5: $\tanh(W_c[c_t;h_t])$', fontsize=10.5, va='center', ha='center')
    if last >= 5:
        arrow(axes, (middle, rows[4] + .18), (middle, rows[5] - .3), colour(5))
        for place, (word, share) in enumerate(zip(target_words, probabilities)):
            x = middle + 1.5 * (place - (len(target_words) - 1) / 2)
            axes.add_patch(Rectangle((x - .6, rows[5] - .26), 1.2, .52, facecolor='#f3eff8', edgecolor=PURPLE))
            axes.add_patch(Rectangle((x - .6, rows[5] - .26), 1.2 * share, .52, facecolor=PURPLE, alpha=.4))
            words(axes, x, rows[5] + .1, word, 10, zorder=4)
            axes.text(x, rows[5] - .13, '%.2f' % share, fontsize=9, ha='center', va='center', zorder=4)
        axes.text(right - .1, rows[5] + .42, r'eq. 6: $\mathrm{softmax}(W_s\tilde{h}_t)$', fontsize=10.5, va='center',
                  ha='center')
    return png(figure)


def alignment_frame(source, target, weights, step):
    """The picture of target position `step` while a sentence is written, an RGB image."""
    width = max(len(source), len(target)) * .95 + .8
    figure, axes = new_axes(width, 3.1, .62)
    left, below = [.9 + .95 * place for place in range(len(source))], [.9 + .95 * place for place in range(len(target))]
    for x, word, weight in zip(left, source, weights[step]):
        axes.add_patch(Rectangle((x - .44, 2.15), .88, .5, facecolor=BLUE, alpha=float(np.clip(weight, .03, 1.)) * .8,
                                 edgecolor='none'))
        words(axes, x, 2.4, word, 8.5)
        if weight > .02:
            axes.plot([x, below[step]], [2.13, 1.02], color=BLUE, linewidth=5 * weight, alpha=.75)
            axes.text(x, 2.83, '%.2f' % weight, fontsize=7.5, ha='center', va='center')
    for place, x in enumerate(below):
        if place <= step:
            words(axes, x, .75, target[place], 11, color=ORANGE if place == step else 'black')
        axes.plot([x - .3, x + .3], [.45, .45], color=ORANGE if place == step else GREY, linewidth=1)
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[:, :, :3].copy())


def alignment_step(source, target, weights, step):
    """`alignment_frame` as PNG."""
    stream = io.BytesIO()
    alignment_frame(source, target, weights, step).save(stream, format='png')
    return stream.getvalue()


def note(text):
    """A line of text in place of a picture, as PNG."""
    figure, axes = new_axes(12, 1)
    words(axes, 6, .5, text, 12, color=ORANGE)
    return png(figure)


def alignment_gif(source, target, weights, milliseconds=700):
    """The attention while a sentence is written, a frame for each target token, as the bytes of a GIF.

    # Arguments
        source, target: lists of tokens. weights: (T, S) or larger.
    """
    frames = [alignment_frame(source, target, weights, step).convert('P', palette=Image.ADAPTIVE, colors=64)
              for step in range(len(target))]
    stream = io.BytesIO()
    frames[0].save(stream, format='GIF', save_all=True, append_images=frames[1:] + frames[-1:] * 2,
                   duration=milliseconds, loop=0)
    return stream.getvalue()
