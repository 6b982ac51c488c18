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
WEIGHTS = [.12, .15, .12, .62]  # of section 2 of the tutorial: the step that writes the coat
NEXT = '\u5927\u8863'
ENCODER, DECODER, ATTENTION, OUTPUT = '#dbe8f6', '#fbe3d0', '#d9efdc', '#ece4f4'
EDGE, GREY = '#34495e', '#555555'
SIZE = 13.1, 6.4  # of the coordinates
SCALE = .8        # inches for one of them: a smaller figure has larger letters


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
    axes.text(x, y, text, color='#a33b12', family='monospace', zorder=4,
              **dict(dict(ha='left', va='center', fontsize=10.5), **kwargs))


def words(axes, x, y, text, size=12):
    text, font = label_font(text, size)
    axes.text(x, y, text, ha='center', va='center', fontproperties=font)


def draw(axes):
    encoder, decoder, state, above, joined = [1.0, 2.6, 4.2, 5.8], [8.1, 9.75, 11.4], 1.4, 2.75, 4.5
    # Encoder: words, states, the last state to the decoder.
    for number, (x, word, weight) in enumerate(zip(encoder, SOURCE, WEIGHTS), 1):
        words(axes, x, .35, word)
        arrow(axes, (x, .55), (x, state - .3))
        shape(axes, x + .08, .8, '(B, E)')
        box(axes, x, state, .72, .6, r'$\bar{h}_%d$' % number, ENCODER, 15)
        if number > 1:
            # Both directions: the two halves of a state.
            arrow(axes, (encoder[number - 2] + .36, state + .07), (x - .36, state + .07))
            arrow(axes, (x - .36, state - .07), (encoder[number - 2] + .36, state - .07))
            shape(axes, x - .8, state + .2, '(B, Dm/2)', ha='center', fontsize=8.5)
        # The weight in grades of green, and an arrow to the sum that is as thick as the weight is large.
        arrow(axes, (x, state + .3), (x, above - .28))
        shape(axes, x + .08, 2.08, '(B, Dm)')
        box(axes, x, above, .8, .56, '%.2f' % weight, (1 - .6 * weight, 1 - .2 * weight, 1 - .55 * weight), 12)
        end = 3.4 + (x - 3.4) * .5
        arrow(axes, (x, above + .28), (end, joined - .27), '#3d9b4c', .8 + 4 * weight)
        shape(axes, (x + end) / 2 + .1 + .06 * weight, 3.63, '(B, Dm)')
    box(axes, 3.4, joined, 3.4, .54, r'context  $c_t=\sum_s a_t(s)\,\bar{h}_s$', ATTENTION, 13)
    # Decoder: words, states; the last one asks.
    for number, (x, word) in enumerate(zip(decoder, TARGET)):
        words(axes, x, .35, word)
        arrow(axes, (x, .55), (x, state - .3))
        shape(axes, x + .08, .8, '(B, E)')
        name = ['h_{t-2}', 'h_{t-1}', 'h_t'][number]
        box(axes, x, state, .82, .6, '$%s$' % name, DECODER, 15)
        if number:
            arrow(axes, (decoder[number - 1] + .41, state), (x - .41, state))
            shape(axes, x - .825, state + .13, '(B, D)', ha='center')
    arrow(axes, (encoder[-1] + .36, state), (decoder[0] - .41, state))
    shape(axes, (encoder[-1] + decoder[0]) / 2 - .03, state + .13, '(B, D)', ha='center')
    # Scores: the decoder state meets all encoder states.
    arrow(axes, (encoder[-1] + .3, state + .3), (8.1, above - .28), bend=-.12)
    shape(axes, 7.05, 2.06, '(B, S, Dm)', ha='left')
    box(axes, 8.7, above, 2.1, .56, r'$\mathrm{softmax}_s\ \mathrm{score}(h_t,\bar{h}_s)$', ATTENTION, 12)
    arrow(axes, (decoder[-1], state + .3), (9.75, above), bend=.25)
    shape(axes, decoder[-1] - .56, 2.2, '(B, D)', ha='right')
    arrow(axes, (7.65, above), (encoder[-1] + .4, above))
    shape(axes, (7.65 + encoder[-1] + .4) / 2, above + .13, '(B, S)', ha='center')
    # Joined state and output.
    box(axes, decoder[-1], joined, 2.5, .54, r'$\tilde{h}_t=\tanh(W_c[c_t;h_t])$', OUTPUT, 13)
    arrow(axes, (decoder[-1], state + .3), (decoder[-1], joined - .27))
    shape(axes, decoder[-1] + .08, 3.4, '(B, D)')
    arrow(axes, (5.1, joined), (decoder[-1] - 1.25, joined))
    shape(axes, 7.6, joined + .13, '(B, Dm)', ha='center')
    box(axes, decoder[-1], 5.45, 2.5, .54, r'$p(y_t)=\mathrm{softmax}(W_s\tilde{h}_t)$', OUTPUT, 13)
    arrow(axes, (decoder[-1], joined + .27), (decoder[-1], 5.18))
    shape(axes, decoder[-1] + .08, 4.97, '(B, D)')
    arrow(axes, (decoder[-1], 5.72), (decoder[-1], 6.02))
    shape(axes, decoder[-1] + .08, 5.86, '(B, V)')
    words(axes, decoder[-1], 6.21, NEXT, 13)
    names(axes, decoder[-1], state, above, joined)


def names(axes, last, state, above, joined):
    """The names of the parts, the numbers of the equations, and the shapes over all steps."""
    grey = dict(color=GREY, fontsize=10.5, va='center')
    axes.text(.12, state, 'encoder', rotation=90, ha='center', **grey)
    axes.text(last + .62, state, 'decoder', rotation=90, ha='center', **grey)
    axes.text(8.7, above + .45, 'eq. 7, 8', ha='center', **grey)
    axes.text(last + 1.5, joined, 'eq. 5', rotation=90, ha='center', **grey)
    axes.text(last + 1.5, 5.45, 'eq. 6', rotation=90, ha='center', **grey)
    axes.text(.35, above, r'$a_t$', ha='center', fontsize=14, va='center')
    axes.text(.5, 5.98, 'Each arrow: the shape of one step.  Over all steps:', **grey)
    for place, (name, text) in enumerate([(r'$\bar{h}$', '(B, S, Dm)'), ('$h$', '(B, T, D)'), ('$a$', '(B, T, S)'),
                                          ('$c$', '(B, T, Dm)'), (r'$\tilde{h}$', '(B, T, D)'),
                                          ('$p$', '(B, T, V)')]):
        axes.text(.5 + 1.58 * place, 5.62, name, fontsize=13, va='center')
        shape(axes, .74 + 1.58 * place, 5.62, text)


if __name__ == '__main__':
    main()
