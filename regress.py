"""Reference outputs: records them, makes them again to check, compares other people's, captures any old Keras model.

    regress.py explain bundle                       # what of the old stack that model meets, and what to write instead
    regress.py capture old.h5 bundle --trust        # every layer of a Keras 2.2.x model: outputs, masks, steps
    regress.py check                                # reference/ made again here; exit code 1 where a stage differs
    regress.py compare reference mine               # somebody else's .npz files with ours; needs NumPy alone
    regress.py export runs/x bundle --input my.txt  # the same for your own run and sentences
    regress.py record DIR                           # a reference set anew; an existing one is compared, never replaced
"""
import os
import shlex


# NumPy alone; command_line has set what NumPy reads when it is imported
from command_line import CommandParser, UserError, non_negative_float, non_negative_int, positive_int, run_command, tell
from reference import compare, hypotheses, report, traps
from reports.progress import Progress


def parse(argv):
    parser = CommandParser(prog='regress.py', description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', metavar='COMMAND')
    commands.required = True

    def add(name, text, *folders):
        command = commands.add_parser(name, help=text, description=text)
        for folder, told in folders:
            command.add_argument(folder.lower(), metavar=folder, help=told)
        return command

    record = add('record', 'make a reference set, where the NumPy model agrees', ('DIR', 'folder for the set'))
    record.add_argument('--sample-run', metavar='DIR', default='runs/reference',
                        help='trained run for the sample sentences (default: %(default)s)')
    check = add('check', 'make the reference set again and compare')
    check.add_argument('dir', metavar='DIR', nargs='?', default=os.path.join(os.path.dirname(__file__), 'reference'),
                       help='the set (default: reference)')
    other = add('compare', 'compare two sets: folders of .npz files, or one file each',
                ('REF', 'the reference'), ('NEW', 'what is held against it'))
    other.add_argument('--stage-map', metavar='FILE',
                       help='JSON: {our name or its beginning: theirs, or null for what was left out}')
    other.add_argument('--strict', action='store_true', help='fail too where only one of the two has an array')
    other.add_argument('--html', metavar='FILE', help='write the report as a page with heat maps too')
    other.add_argument('--rtol', type=non_negative_float, metavar='X', help='relative tolerance for every stage')
    other.add_argument('--atol', type=non_negative_float, metavar='X', help='absolute tolerance for every stage')
    old = add('capture', 'record what every layer of an old Keras model gives')
    old.add_argument('paths', metavar='PATH', nargs='+',
                     help='model file, unless --build names a function, and the folder for the bundle')
    old.add_argument('--weights', metavar='FILE', help='weights file for the model that --build makes')
    old.add_argument('--by-name', action='store_true', help='load these weights by the names of the layers')
    old.add_argument('--inputs', metavar='FILE', help='.npz with an array for each input (default: drawn)')
    old.add_argument('--targets', metavar='FILE', help='.npz with an array for each output (default: drawn)')
    old.add_argument('--loss', metavar='NAME', help='loss, in place of the one that the model has')
    old.add_argument('--optimizer', metavar='NAME', help='optimiser, in place of the one that the model has')
    old.add_argument('--steps', type=non_negative_int, default=10, metavar='N',
                     help='updates, where the model has a loss (default: %(default)s)')
    old.add_argument('--dropout', action='store_true', help='leave dropout on in the updates')
    add('explain', 'list the traps of the old stack that a captured model meets', ('BUNDLE', 'folder of the bundle'))
    for command in (check, old):
        command.add_argument('--build', metavar='FILE.py:FUNCTION', help='function that returns the model')
        command.add_argument('--custom', metavar='FILE.py', help="file that defines the model's own layers")
        command.add_argument('--trust', action='store_true', help='run the code that Lambda layers hold')
    export = add('export', "the bundle of a run's weights and of all stages for sentences",
                 ('RUN', 'run directory'), ('DIR', 'folder for the bundle'))
    export.add_argument('--input', metavar='FILE', default='samples/sentences.txt',
                        help='sentences, one a line (default: %(default)s)')
    export.add_argument('--beam-width', type=positive_int, default=4, metavar='N',
                        help='width of the beam search (default: %(default)s)')
    for command in (check, other):
        command.add_argument('--files', metavar='PATTERN', nargs='+', default=(),
                             help='these files alone, such as dot-*')
        command.add_argument('--json', action='store_true', help='print the report as one JSON object')
    return parser.parse_args(argv)


def show(compared, as_json=False):
    """Prints the report; returns the exit code."""
    print(report.as_json(compared) if as_json else '\n'.join(report.report(compared)))
    return 1 if compare.first_difference(compared.results) else 0


def compare_sets(options):
    """Compares two sets. SetError: nothing is there to compare."""
    (recorded, manifest), (found, _) = compare.open_set(options.ref), compare.open_set(options.new)
    every, recorded = recorded, compare.choose_files(recorded, options.files)
    found = compare.choose_files(found, options.files) if len(found) > 1 else found
    tolerances = None
    if options.rtol is not None or options.atol is not None:
        tolerances = options.rtol or 0., options.atol or 0.
    stage_map = compare.read_stage_map(options.stage_map) if options.stage_map else {}
    order = compare.Order(manifest)
    with Progress(len(recorded), 'files') as progress:
        results, ties = compare.compare_sets(recorded, found, manifest, tolerances, stage_map, progress)
    if not results:
        raise compare.SetError('%s and %s: no array of one is in the other: nothing is compared'
                               % (options.ref, options.new))
    files, missing, unknown = compare.not_compared(recorded, found, stage_map, order)
    causes = hypotheses.causes(results, every, compare.pair_files(recorded, found), manifest, stage_map)
    compared = report.comparison(results, ties, order, files, missing, unknown, causes)
    if options.html:
        from reference import report_page
        report_page.write(options.html, compared, recorded, found, stage_map)
    code = show(compared, options.json)
    if options.strict and (missing or unknown) or files and (options.strict or not order.captured):
        return 1
    return code


def check(options):
    from reference import sets
    manifest = compare.read_manifest(options.dir)
    if manifest.get('kind') == 'capture':
        from reference import capture
        results, ties, other = capture.check(options.dir, options, options.files)
    else:
        results, ties, other = sets.check(options.dir, options.files)
    tell('compared within tolerances, since other than recorded: %s' % ', '.join(other) if other else
         'compared byte for byte: this is the recorded environment')
    return show(report.comparison(results, ties, compare.Order(manifest)), options.json)


def record(options, argv):
    from reference import sets
    command = ' '.join(map(shlex.quote, ['regress.py'] + argv))
    results = sets.record(options.dir, options.sample_run, command)
    if results is None:
        tell('recorded: %s' % options.dir)
        return 0
    show(report.comparison(*results))
    raise UserError('%s: a set is there already, and is left as it was: to replace it, delete its .npz files and '
                    'MANIFEST.json first' % options.dir)


def require_empty(folder):
    if os.path.exists(folder) and os.listdir(folder):
        raise UserError('%s: is not empty: name another folder' % folder)


def capture_model(options, argv):
    """Captures an old model. UserError: see `reference.capture`."""
    if len(options.paths) != (1 if options.build else 2):
        raise UserError('capture: give either a model file and a folder, or --build and a folder')
    options.model, folder = None if options.build else options.paths[0], options.paths[-1]
    if options.weights and not options.build:
        raise UserError('--weights: a model file has its own weights; they go with --build')
    require_empty(folder)
    if options.model:
        tell('loading a model file can run code that it holds; only Lambda layers do, and they want --trust')
    from reference import capture
    manifest = capture.capture(options, folder, ' '.join(map(shlex.quote, ['regress.py'] + argv)))
    tell('captured: %s, %d calls of layers%s' % (folder, len(manifest['calls']), '' if manifest['training'] else
                                                 '; no losses or gradients: the model has no --loss'))
    return 0


def explain(options):
    """Prints the traps that a captured model meets. SetError: the folder is no bundle of such a model."""
    files, manifest = compare.open_set(options.bundle)
    if manifest.get('kind') != 'capture':
        raise compare.SetError('%s: is no captured model: make one with capture' % options.bundle)
    print('\n'.join(traps.explain(manifest, hypotheses.AllFiles(files))))
    return 0


def export(options, argv):
    from reference import sets
    require_empty(options.dir)
    texts = sets.read_texts(options.input)
    if not texts:
        raise UserError('%s: holds no sentence' % options.input)
    sets.export(options.run, options.dir, texts, options.beam_width,
                ' '.join(map(shlex.quote, ['regress.py'] + argv)))
    tell('exported: %s' % options.dir)
    return 0


def main(argv):
    options = parse(argv)
    try:
        if options.command == 'compare':
            return compare_sets(options)
        if options.command == 'check':
            return check(options)
        if options.command == 'explain':
            return explain(options)
        if options.command == 'capture':
            return capture_model(options, argv)
        return record(options, argv) if options.command == 'record' else export(options, argv)
    except compare.SetError as error:
        raise UserError(str(error))


if __name__ == '__main__':
    run_command(main, 'regress.py')
