"""`--alignments auto`: links between the run's own tokens, from eflomal, a program of its own (`make align`).

It aligns in both directions, and `symmetrise` joins them. Its random numbers come from the system, so two calls differ
in some links: a run keeps its links in `LINKS_FILE`, and the cache of the corpus has them for other runs.
"""
import os
import re
import shutil
import signal
import subprocess
import tempfile

from command_line import ROOT, UserError
from settings import AUTO, GUIDED
from storage.files import user_error

LINKS_FILE = 'alignments.txt'  # in a run directory: a line for each pair of the training text
PROGRAM = 'eflomal-align'
OWN_PROGRAM = os.path.join(ROOT, '.venv-align', 'bin', PROGRAM)
# The Python of the aligner has other packages; KERAS_HOME and the like do not matter to it.
ENVIRONMENT = ('PYTHONPATH', 'PYTHONHOME')
PLACEHOLDER = '-'  # in place of a pair without tokens: aligners refuse empty lines
_SPACE = re.compile(r'\s')


def installed_program():
    """The aligner, or `None`: what EFLOMAL names, that of `make align`, or the one on PATH."""
    named = os.environ.get('EFLOMAL')
    return shutil.which(named or OWN_PROGRAM) or (None if named else shutil.which(PROGRAM))


def find_program():
    """The same. UserError: there is none."""
    program, named = installed_program(), os.environ.get('EFLOMAL')
    if program is None:
        raise UserError('--alignments auto needs %s%s: call make align, or name the program with EFLOMAL'
                        % (PROGRAM, ', and EFLOMAL=%s is no program' % named if named else ''))
    return program


def of_preset(name):
    """What a preset adds where the aligner is installed, for the help and the docs."""
    return 'where eflomal is installed (make align): --alignments %s --guided-alignment %s' % (AUTO, GUIDED[name])


def token_line(tokens):
    """The tokens of a text as aligners read them: a space between them, none inside."""
    return ' '.join(_SPACE.sub('_', token) for token in tokens) or PLACEHOLDER


def align(pairs, threads=0):
    """Aligns token sequences.

    # Arguments
        pairs: list of (source tokens, target tokens), none empty.
        threads: of the aligner; 0: all.

    # Returns
        For each pair the sorted list of links (i, j), of both directions together.

    # Raises
        UserError: no aligner, or it failed.
    """
    program = find_program()
    with tempfile.TemporaryDirectory(prefix='align-') as folder:
        names = [os.path.join(folder, name) for name in ('source', 'target', 'forward', 'reverse')]
        try:
            for side, name in enumerate(names[:2]):
                with open(name, 'w', encoding='utf-8', errors='replace') as stream:
                    stream.writelines(token_line(pair[side]) + '\n' for pair in pairs)
        except OSError as error:
            raise user_error(folder, 'cannot be written', error) from error
        _run([program, '--overwrite', '-s', names[0], '-t', names[1], '-f', names[2], '-r', names[3]], threads)
        forward, reverse = [_read(program, name, pairs) for name in names[2:]]
    return [symmetrise(*both) for both in zip(forward, reverse)]


def _run(command, threads):
    environment = {key: value for key, value in os.environ.items() if key not in ENVIRONMENT}
    environment['PYTHONIOENCODING'] = 'utf-8'
    if threads:
        environment['OMP_NUM_THREADS'] = str(threads)
    try:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:
        raise user_error(command[0], 'cannot be run', error) from error
    try:
        output, _ = process.communicate()
    except BaseException:  # a signal: the program has a child that does the work
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode:
        lines = output.decode('utf-8', 'replace').strip().splitlines() or ['no message']
        raise UserError('%s: failed with exit code %d (%s): call make align again, or train without --alignments auto'
                        % (command[0], process.returncode, lines[-1]))


def _read(program, path, pairs):
    """The links of one direction. They come from another program: their number and range are checked."""
    try:
        with open(path, encoding='ascii') as stream:
            lines = [[tuple(map(int, link.split('-'))) for link in line.split()] for line in stream]
    except (OSError, ValueError) as error:
        raise UserError('%s: wrote no links (%s)' % (program, error)) from error
    fit = len(lines) == len(pairs) and all(
        len(link) == 2 and 0 <= link[0] < len(source) and 0 <= link[1] < len(target)
        for links, (source, target) in zip(lines, pairs) for link in links)
    if not fit:
        raise UserError('%s: wrote links that do not fit the %d pairs' % (program, len(pairs)))
    return lines


def symmetrise(forward, reverse):
    """Grow-diag-final-and of Koehn et al. (2005): the links of both directions, and of their union what lies near.

    # Arguments
        forward, reverse: iterables of links (i, j), source token i and target token j.

    # Returns
        Sorted list of links.
    """
    union = set(forward) | set(reverse)
    links = set(forward) & set(reverse)
    sources, targets = {i for i, _ in links}, {j for _, j in links}

    def add(link):
        links.add(link)
        sources.add(link[0])
        targets.add(link[1])

    # Grow: links of the union beside a link, diagonally too, one of whose tokens has none yet.
    grown = sorted(links)
    while grown:
        found = []
        for i, j in grown:
            for near in ((i - 1, j), (i, j - 1), (i + 1, j), (i, j + 1),
                         (i - 1, j - 1), (i - 1, j + 1), (i + 1, j - 1), (i + 1, j + 1)):
                if near in union and near not in links and (near[0] not in sources or near[1] not in targets):
                    add(near)
                    found.append(near)
        grown = found
    # Final: links between two tokens that both have none.
    for direction in (forward, reverse):
        for i, j in sorted(direction):
            if i not in sources and j not in targets:
                add((i, j))
    return sorted(links)
