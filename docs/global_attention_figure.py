"""Draws docs/figures/global_attention.svg and .png: the model of global attention with the shape on each arrow.

    .venv/bin/python docs/global_attention_figure.py
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import command_line  # noqa: E402,F401  first: it sets the environment that NumPy reads
import matplotlib  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.patches import FancyBboxPatch  # noqa: E402
from reports.label_fonts import label_font  # noqa: E402

SOURCE, TARGET = ['we', 'like', 'the', 'coat'], ['<s>', '\u6211\u4eec', '\u559c\u6b22']
WEIGHTS = [.05, .1, .1, .75]  # of the step that writes the coat
NEXT = '\u5927\u8863'
ENCODER, DECODER, ATTENTION, OUTPUT = '#dbe8f6', '#fbe3d0', '#d9efdc', '#ece4f4'
EDGE, GREY = '#34495e', '#555555'
SIZE = 10.7, 6.0  # of the coordinates
SCALE = .9        # inches for one of them: a smaller figure has larger letters


def main():
    # Text stays text, and ids repeat: the same figure gives the same file.
    matplotlib.rcParams.update({'svg.fonttype': 'path', 'svg.hashsalt': 'global attention', 'mathtext.fontset': 'cm'})
    figure = Figure(figsize=[SCALE * side for side in SIZE])
    FigureCanvasAgg(figure)
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set_xlim(0, SIZE[0])
    axes.set_ylim(0, SIZE[1])
    axes.axis('off')
    draw(axes)
    folder = os.path.join(HERE, 'figures')
    os.makedirs(folder, exist_ok=True)
    figure.savefig(os.path.join(folder, 'global_attention.svg'), metadata={'Date': None})
    figure.savefig(os.path.join(folder, 'global_attention.png'), dpi=140)


def box(axes, x, y, width, height, text, colour, size=12):
    """A rounded box around its centre."""
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, linewidth=1.1, edgecolor=EDGE,
                                  facecolor=colour, boxstyle='round,pad=0,rounding_size=0.09', zorder=2))
    axes.text(x, y, text, ha='center', va='center', fontsize=size, zorder=3)


def arrow(axes, start, end, colour=EDGE, width=1.2, style='-|>', bend=0.):
    axes.annotate('', end, start, zorder=1, arrowprops=dict(
        arrowstyle=style, color=colour, linewidth=width, shrinkA=0, shrinkB=0, mutation_scale=11,
        connectionstyle='arc3,rad=%g' % bend))


def shape(axes, x, y, text, **kwargs):
    """The shape of what an arrow carries."""
    axes.text(x, y, text, fontsize=10.5, color='#a33b12', family='monospace', zorder=4,
              **dict(dict(ha='left', va='center'), **kwargs))


def words(axes, x, y, text, size=12):
    text, font = label_font(text, size)
    axes.text(x, y, text, ha='center', va='center', fontproperties=font)


def draw(axes):
    encoder, decoder, state, above = [.95, 2.05, 3.15, 4.25], [6.5, 7.7, 8.9], 1.35, 2.5
    # Encoder: words, states, the last state to the decoder.
    for number, (x, word, weight) in enumerate(zip(encoder, SOURCE, WEIGHTS), 1):
        words(axes, x, .35, word)
        arrow(axes, (x, .55), (x, state - .3))
        box(axes, x, state, .72, .6, r'$\bar{h}_%d$' % number, ENCODER, 15)
        if number > 1:
            arrow(axes, (encoder[number - 2] + .36, state), (x - .36, state))
        # The weight in grades of green, and an arrow to the sum that is as thick as the weight is large.
        arrow(axes, (x, state + .3), (x, above - .28))
        box(axes, x, above, .8, .56, '%.2f' % weight, (1 - .6 * weight, 1 - .2 * weight, 1 - .55 * weight), 12)
        arrow(axes, (x, above + .28), (2.6 + (x - 2.6) * .4, 3.83), '#3d9b4c', .8 + 4 * weight)
    box(axes, 2.6, 4.1, 3.3, .54, r'context  $c_t=\sum_s a_t(s)\,\bar{h}_s$', ATTENTION, 13)
    # Decoder: words, states; the last one asks.
    for number, (x, word) in enumerate(zip(decoder, TARGET)):
        words(axes, x, .35, word)
        arrow(axes, (x, .55), (x, state - .3))
        name = ['h_{t-2}', 'h_{t-1}', 'h_t'][number]
        box(axes, x, state, .82, .6, '$%s$' % name, DECODER, 15)
        if number:
            arrow(axes, (decoder[number - 1] + .41, state), (x - .41, state))
    arrow(axes, (encoder[-1] + .36, state), (decoder[0] - .41, state))
    # Scores: the query goes to all weights.
    box(axes, 6.8, above, 2.1, .56, r'$\mathrm{softmax}_s\ \mathrm{score}(h_t,\bar{h}_s)$', ATTENTION, 12)
    arrow(axes, (decoder[-1], state + .3), (7.85, above), bend=.25)
    arrow(axes, (5.75, above), (encoder[-1] + .4, above))
    # Joined state and output.
    box(axes, 8.9, 4.1, 2.5, .54, r'$\tilde{h}_t=\tanh(W_c[c_t;h_t])$', OUTPUT, 13)
    arrow(axes, (decoder[-1], state + .3), (decoder[-1], 3.83))
    arrow(axes, (4.25, 4.1), (7.65, 4.1))
    box(axes, 8.9, 5.05, 2.5, .54, r'$p(y_t)=\mathrm{softmax}(W_s\tilde{h}_t)$', OUTPUT, 13)
    arrow(axes, (8.9, 4.37), (8.9, 4.78))
    arrow(axes, (8.9, 5.32), (8.9, 5.6))
    words(axes, 8.9, 5.79, NEXT, 13)
    labels(axes, encoder, decoder, state, above)


def labels(axes, encoder, decoder, state, above):
    """Shapes on the arrows, the names of the parts and the numbers of the equations."""
    shape(axes, encoder[-1] + .08, .72, '(B, S, E)')
    shape(axes, encoder[-1] + .08, state + .5, '(B, S, Dm)')
    shape(axes, (encoder[-1] + decoder[0]) / 2 - .03, state + .16, '(B, D)', ha='center')
    shape(axes, decoder[-1] + .08, .72, '(B, T, E)')
    shape(axes, decoder[-1] + .08, 3.2, '(B, T, D)')
    shape(axes, decoder[-1] - .3, 1.95, '(B, T, D)', ha='right')
    shape(axes, (5.75 + encoder[-1] + .4) / 2, above + .08, '(B, T, S)', ha='center', va='bottom')
    shape(axes, 5.95, 4.17, '(B, T, Dm)', ha='center', va='bottom')
    shape(axes, 8.98, 4.58, '(B, T, D)')
    shape(axes, 8.98, 5.44, '(B, T, V)')
    grey = dict(color=GREY, fontsize=10.5, va='center')
    axes.text(.12, state, 'encoder', rotation=90, ha='center', **grey)
    axes.text(decoder[-1] + .62, state, 'decoder', rotation=90, ha='center', **grey)
    axes.text(6.8, above + .45, 'eq. 7, 8', ha='center', **grey)
    axes.text(10.5, 4.1, 'eq. 5', rotation=90, ha='center', **grey)
    axes.text(10.5, 5.05, 'eq. 6', rotation=90, ha='center', **grey)
    axes.text(.3, above, r'$a_t$', ha='center', fontsize=14, va='center')


if __name__ == '__main__':
    main()
