"""Reference outputs: records, checks and compares them, and captures any old Keras model.

    regress.py convert old.h5 new/                  # to Keras 3 (--to keras3 onnx), with a proof of each layer
    regress.py explain bundle                       # the traps that this model meets, and what to write instead
    regress.py capture old.h5 bundle --trust        # every layer of a Keras 2.2.x model: outputs, masks, steps
    regress.py check                                # compute reference/ again; exit code 1 if a stage differs
    regress.py compare reference mine               # compare .npz files of your own with it; needs NumPy only
    regress.py export runs/x bundle --input my.txt  # weights and stages of your own run and sentences
    regress.py record DIR                           # record a reference set; never replaces an existing one
"""
import os
import shlex


# NumPy only; command_line has set what NumPy reads when it is imported
from command_line import CommandParser, UserError, non_negative_float, non_negative_int, run_command
from command_line import sample_file, tell
from parity import compare, hypotheses, report, traps
from reports.progress import Progress
from settings import SETTINGS
from storage.output_files import check_outputs
from storage.ownership import check_parent


def parse(argv):
    parser = CommandParser(prog='regress.py', doc=__doc__)
    commands = parser.add_subparsers(dest='command', metavar='COMMAND')
    commands.required = True

    def add(name, text, *folders):
        command = commands.add_parser(name, help=text, doc='%s\n%s' % (text, __doc__))
        for folder, meaning in folders:
            command.add_argument(folder.lower(), metavar=folder, help=meaning)
        return command

    record = add('record', 'record a reference set, if the NumPy model agrees', ('DIR', 'folder for the set'))
    record.add_argument('--sample-run', metavar='DIR', default='runs/reference',
                        help='trained run for the sample sentences (default: %(default)s)')
    check = add('check', 'compute a reference set again and compare')
    check.add_argument('dir', metavar='DIR', nargs='?', default=os.path.join(os.path.dirname(__file__), 'reference'),
                       help='the set (default: reference)')
    other = add('compare', 'compare two sets: folders of .npz files, or one file each',
                ('REF', 'the reference'), ('NEW', 'the set to compare with it'))
    other.add_argument('--stage-map', metavar='FILE',
                       help='JSON: {our name or its beginning: your name, or null for what you omitted}')
    other.add_argument('--strict', action='store_true', help='also fail if only one of the two sets has an array')
    other.add_argument('--html', metavar='FILE', help='also write the report as a page with heat maps')
    other.add_argument('--rtol', type=non_negative_float, metavar='X', help='relative tolerance for every stage')
    other.add_argument('--atol', type=non_negative_float, metavar='X', help='absolute tolerance for every stage')
    old = add('capture', 'record the outputs of every layer of an old Keras model')
    old.add_argument('model', metavar='MODEL', help='model file, or the JSON of a model; left out with --build')
    # argparse has no optional argument that may come after an option.
    old.add_argument('dir', metavar='DIR', help='folder for the bundle').required = False
    new = add('convert', 'convert an old Keras model to Keras 3, and prove that each layer agrees')
    new.add_argument('model', metavar='MODEL', help='model file, its JSON, bundle, or run; left out with --build')
    new.add_argument('dir', metavar='DIR', help='folder for the new files').required = False
    new.add_argument('--to', nargs='+', metavar='FORMAT', choices=('keras3', 'onnx'), default=['keras3'],
                     help='keras3, or keras3 onnx: model.onnx too; after the paths')
    new.add_argument('--custom3', metavar='FILE.py', help="Keras 3 layers and functions for the model's own layers")
    new.add_argument('--keep-weights', action='store_true',
                     help='for hard_sigmoid gates, register a function instead of multiplying weights by 1.2')
    for command in (old, new):
        command.add_argument('--weights', metavar='FILE',
                             help='weights file for the model of --build or of a JSON file')
        command.add_argument('--by-name', action='store_true', help='load these weights by the names of the layers')
        command.add_argument('--inputs', metavar='FILE', help='.npz with an array for each input (default: drawn)')
        command.add_argument('--targets', metavar='FILE', help='.npz with an array for each output (default: drawn)')
        command.add_argument('--loss', metavar='NAME', help='loss that replaces that of the model')
        command.add_argument('--optimizer', metavar='NAME', help='optimiser that replaces that of the model')
    old.add_argument('--steps', type=non_negative_int, default=10, metavar='N',
                     help='number of updates, if the model has a loss (default: %(default)s)')
    old.add_argument('--float64', action='store_true',
                     help='record the outputs in float64 too if the model is large (a small one: always)')
    old.add_argument('--dropout', action='store_true', help='use dropout in the updates')
    add('explain', 'list the traps of the old stack that a captured model meets', ('BUNDLE', 'folder of the bundle'))
    for command in (check, old, new):
        command.add_argument('--build', metavar='FILE.py:FUNCTION', help='function that returns the model')
        command.add_argument('--custom', metavar='FILE.py', help="file that defines the model's own layers")
        command.add_argument('--trust', action='store_true', help='run the code of Lambda layers')
    export = add('export', 'write the bundle of a run: its weights, and all stages for some sentences',
                 ('RUN', 'run directory'), ('DIR', 'folder for the bundle'))
    export.add_argument('--input', metavar='FILE', default=sample_file('sentences.txt'),
                        help='sentences, one a line (default: %(default)s)')
    export.add_argument('--beam-width', type=SETTINGS['beam_width'].parse, default=4, metavar='N',
                        help='width of the beam search (default: %(default)s)')
    for command in (check, other):
        command.add_argument('--files', metavar='PATTERN', nargs='+', default=(),
                             help='only these files, such as dot-*')
        command.add_argument('--json', action='store_true', help='print the report as one JSON object')
    return parser.parse_args(argv)


def show(compared, as_json=False):
    """Prints the report; returns the exit code."""
    print(report.as_json(compared) if as_json else '\n'.join(report.report(compared)))
    return 1 if compare.first_difference(compared.results) else 0


def compare_sets(options):
    """Compares two sets and prints the report; returns the exit code. SetError: the sets have no array in common."""
    sets = [options.ref, options.new]
    check_outputs([('--html', options.html)], sets + [options.stage_map], sets)
    (recorded, manifest), (computed, _) = compare.open_set(options.ref), compare.open_set(options.new)
    all_files, recorded = recorded, compare.choose_files(recorded, options.files)
    if len(computed) > 1:
        computed = compare.choose_files(computed, options.files)
    tolerances = None
    if options.rtol is not None or options.atol is not None:
        tolerances = options.rtol or 0., options.atol or 0.
    stage_map = compare.read_stage_map(options.stage_map) if options.stage_map else {}
    order = compare.Order(manifest)
    with Progress(len(recorded), 'files') as progress:
        results, ties = compare.compare_sets(recorded, computed, manifest, tolerances, stage_map, progress,
                                             all_files.get(compare.EXACT[0]) if order.captured else None)
    if not results:
        raise compare.SetError('%s and %s: have no array in common'
                               % (options.ref, options.new))
    files, missing, unknown = compare.not_compared(recorded, computed, stage_map, order)
    causes = hypotheses.causes(results, all_files, compare.pair_files(recorded, computed), manifest, stage_map)
    compared = report.comparison(results, ties, order, files, missing, unknown, causes)
    if options.html:
        from parity import report_page
        report_page.write(options.html, compared, recorded, computed, stage_map)
    code = show(compared, options.json)
    if options.strict and (missing or unknown) or files and (options.strict or not order.captured):
        return 1
    return code


def check(options):
    """Computes a recorded set again, prints the report of the comparison, and returns the exit code.

    # Raises
        UserError, SetError: the set is malformed, or its model cannot be built.
    """
    manifest = compare.read_manifest(options.dir)
    if manifest.get('kind') == 'capture':
        from parity import capture
        results, ties, other = capture.check(options.dir, options, options.files)
    else:
        from reference import sets
        results, ties, other = sets.check(options.dir, options.files)
    tell('compared within tolerances: this environment differs from the recorded one in: %s' % ', '.join(other)
         if other else 'compared byte for byte: this is the recorded environment')
    return show(report.comparison(results, ties, compare.Order(manifest)), options.json)


def record(options, argv):
    """Records a reference set; returns the exit code.

    # Raises
        UserError: a set exists already, which is compared and stays unchanged, or the NumPy model does not agree.
    """
    require_folder(options.dir)
    from reference import sets
    command = ' '.join(map(shlex.quote, ['regress.py'] + argv))
    results = sets.record(options.dir, options.sample_run, command)
    if results is None:
        tell('recorded: %s' % options.dir)
        return 0
    show(report.comparison(*results))
    raise UserError('%s: a set exists already and is unchanged: to replace it, delete its .npz files and '
                    'MANIFEST.json first' % options.dir)


def require_folder(folder):
    """Raises `UserError` if the set cannot be written to this folder, before any work is done for it."""
    if os.path.isdir(folder):
        return
    if os.path.lexists(folder):
        raise UserError('%s: is not a folder: name another one' % folder)
    check_parent(folder)


def require_empty(folder):
    """Raises `UserError` if a folder for a bundle has files or cannot be created."""
    require_folder(folder)
    if os.path.isdir(folder) and os.listdir(folder):
        raise UserError('%s: is not empty: name another folder' % folder)


def capture_model(options, argv):
    """Captures an old model. UserError: see `parity.capture`."""
    if bool(options.build) != (options.dir is None):
        raise UserError('capture: give either a model file and a folder, or --build and a folder')
    options.model, folder = (None, options.model) if options.build else (options.model, options.dir)
    require_empty(folder)
    if options.model:
        tell('loading a model file can run code: that of Lambda layers, which need --trust')
    from parity import capture
    manifest = capture.capture(options, folder, ' '.join(map(shlex.quote, ['regress.py'] + argv)))
    without = '' if manifest['training'] else '; no losses or gradients: ' + (
        'the model has no loss, see --loss' if options.steps else '--steps is 0')
    tell('captured: %s, %d calls of layers%s' % (folder, len(manifest['calls']), without))
    return 0


def convert_model(options, argv):
    """Converts an old model, or a bundle of one, to Keras 3. UserError: see `parity.convert`."""
    if bool(options.build) != (options.dir is None):
        raise UserError('convert: give either a model file or a bundle and a folder, or --build and a folder')
    source, folder = (options.build, options.model) if options.build else (options.model, options.dir)
    if not options.build and not os.path.lexists(source):
        raise UserError('%s: no such file or folder' % source)
    from parity import convert, convert_report
    from storage.run_directory import is_run
    own = not options.build and is_run(source)

    def make_bundle(made):
        from parity import capture, own_run, updates
        if own:
            options.custom3, options.lost = options.custom3 or own_run.LAYERS, own_run.LOST
        options.model, options.steps, options.dropout = None if options.build else source, convert.STEPS, False
        options.float64 = False
        while True:
            try:
                return capture.capture(options, made, ' '.join(map(shlex.quote, ['regress.py'] + argv)))
            except updates.WrongSlots as error:
                options.slots, options.lost = False, 'the optimiser starts anew: %s' % error
            except updates.NoTraining as error:
                options.steps, options.lost = 0, 'the model is converted without its training: %s' % error
            tell(options.lost)

    conversion = convert.convert(options, source, folder, None if os.path.isdir(source) and not own else make_bundle)
    print(convert_report.headline(conversion))
    for line in convert_report.remarks(conversion):
        print('  ' + line)
    return 0


def explain(options):
    """Prints the traps that a captured model meets. SetError: the folder is not a bundle of such a model."""
    files, manifest = compare.open_set(options.bundle)
    if manifest.get('kind') != 'capture':
        raise compare.SetError('%s: is not a captured model: record one with capture' % options.bundle)
    print('\n'.join(traps.explain(manifest, hypotheses.AllFiles(files))))
    return 0


def export(options, argv):
    """Writes the bundle of a run and some sentences; returns the exit code.

    # Raises
        UserError: the folder is not empty, the text has no sentence, or the run cannot be read.
    """
    require_empty(options.dir)
    from reference import sets
    texts = sets.read_texts(options.input)
    if not texts:
        raise UserError('%s: contains no sentence' % options.input)
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
        if options.command == 'convert':
            return convert_model(options, argv)
        if options.command == 'capture':
            return capture_model(options, argv)
        return record(options, argv) if options.command == 'record' else export(options, argv)
    except compare.SetError as error:
        raise UserError(str(error))


if __name__ == '__main__':
    run_command(main, 'regress.py')
