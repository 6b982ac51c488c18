"""Translates lines of text with a trained run; without options, the sample sentences with the last run.

    predict.py                                            # samples/sentences.txt with the run trained last
    predict.py --run runs/x --input text.en --output text.zh
    echo 'where is the book ?' | predict.py --input - --show-attention
"""
import argparse
import contextlib
import os
import sys
import time

import data
import settings
from run_directory import RunDirectory, last_run
from settings import UserError, positive, tell, thread_count


def parse(argv):
    parser = argparse.ArgumentParser(prog='predict.py', description=__doc__.split('\n')[0], allow_abbrev=False,
                                     epilog='N lines in, N lines out, in order; an empty line gives an empty line.')
    parser.add_argument('--run', metavar='DIR', help='run directory (default: the one in runs/ trained last)')
    parser.add_argument('--input', metavar='FILE|-', default='samples/sentences.txt',
                        help='text, a line a sentence, .gz too; - is standard input (default: %(default)s)')
    parser.add_argument('--output', metavar='FILE|-', default='-', help='where to write (default: standard output)')
    parser.add_argument('--batch-size', type=positive, default=32, metavar='N',
                        help='sentences decoded together (default: %(default)s)')
    parser.add_argument('--max-length', type=positive, metavar='N',
                        help='most tokens of an output (default: twice the source length and 10)')
    parser.add_argument('--on-bad-utf8', choices=('error', 'replace'), default='error',
                        help='what to do with bytes that are not UTF-8 (default: %(default)s)')
    parser.add_argument('--show-attention', action='store_true', help='print the alignment as text to standard error')
    parser.add_argument('--plot-dir', metavar='DIR', help='write a picture of the alignment for each sentence')
    parser.add_argument('--threads', type=thread_count, default=0, metavar='N',
                        help="threads of TensorFlow; 0: as in the run's "
                        'settings (default: %(default)s)')
    return parser.parse_args(argv)


def source_lines(options):
    """Lines of the input as they come."""
    if options.input == '-':
        if sys.stdin.isatty():
            tell('a sentence and Enter translates it; Ctrl-D ends')
        return data.decode_lines(sys.stdin.buffer, 'standard input', options.on_bad_utf8)
    return data.read_lines(options.input, options.on_bad_utf8)


def batches(lines, size):
    """Lists of at most `size` items, each as soon as it is full or the input ends; what comes before an error first."""
    batch = []
    try:
        for line in lines:
            batch.append(line)
            if len(batch) == size:
                yield batch
                batch = []
    except UserError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def check_places(options):
    """Refuses an input that cannot be read and an output that would destroy it, before any work and any writing."""
    if options.input != '-' and (os.path.isfile(options.input) or not os.path.exists(options.input)
                                 or os.path.isdir(options.input)):  # a named pipe gives each line once
        next(data.read_lines(options.input, options.on_bad_utf8), None)
        if os.path.exists(options.output) and os.path.samefile(options.input, options.output):
            raise UserError('%s: is the input too: name another file for --output' % options.output)


@contextlib.contextmanager
def told(output, name):
    """A `UserError` where the system refuses to write; a reader of a pipe who goes is no error."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())  # Python will flush again at exit
        raise UserError('%s: cannot be written: %s' % (name, error.strerror))


class Pictures(object):
    """A PNG for each sentence, numbered by its line."""

    def __init__(self, folder):
        self.folder = folder
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise UserError('%s: cannot make this folder for --plot-dir: %s' % (folder, error.strerror))

    def draw(self, number, tokens, hypothesis):
        import plots
        plots.plot_alignment(os.path.join(self.folder, '%04d.png' % number), tokens, hypothesis.tokens,
                             hypothesis.alignment)


def main(argv):
    options = parse(argv)
    path = options.run or last_run()
    check_places(options)
    RunDirectory.open(path).read_config()  # what is wrong there is told before TensorFlow takes its seconds
    lines = source_lines(options)
    pictures = Pictures(options.plot_dir) if options.plot_dir else None
    from translator import Translator
    translator = Translator.load(path, options.threads)
    interactive = options.input == '-' and sys.stdin.isatty()
    if options.output == '-':
        output = sys.stdout
    else:
        try:
            output = open(options.output, 'w', encoding='utf-8', newline='\n')
        except OSError as error:
            raise UserError('%s: cannot be written: %s' % (options.output, error.strerror))
    number, started = 0, time.time()
    # A larger portion than a batch lets sentences of similar length meet; a person at the terminal waits for neither.
    for portion in batches(lines, 1 if interactive else 16 * options.batch_size):
        for text, (best,) in zip(portion, translator.translate(portion, options.batch_size, options.max_length)):
            number += 1
            with told(output, options.output):
                output.write(best.text.replace('\n', ' ') + '\n')
            tokens = translator.encode(text)
            if options.show_attention and tokens:
                import plots
                tell('%s\n%s' % (text, plots.format_alignment(tokens, best.tokens, best.alignment)))
            if pictures and tokens:
                pictures.draw(number, tokens, best)
        with told(output, options.output):
            output.flush()
    seconds = time.time() - started
    tell('%s: %d lines in %.1f s, %.0f lines/s' % (path, number, seconds, number / max(seconds, 1e-9)))
    if output is not sys.stdout:
        output.close()


if __name__ == '__main__':
    settings.run_command(main, 'predict.py')
