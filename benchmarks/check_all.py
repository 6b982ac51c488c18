"""Runs `regress.py check` on several sets from one process, as importing TensorFlow takes longer than a small model.

    benchmarks/check_all.py '[["bundle", "--build", "model.py:old"], ...]'      # prints the reports, or {"error": line}

Each check is a fork of a process that has imported TensorFlow and never runs it: its threads do not survive a fork.
"""
import contextlib
import io
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import regress  # noqa: E402  the checkout is on the path now


def check(arguments):
    """The report of a check as JSON, or its error."""
    try:
        with io.StringIO() as stream, contextlib.redirect_stdout(stream):
            regress.main(['check', '--json'] + arguments)
            return stream.getvalue()
    except Exception as error:      # whatever a version raises is a result of the map
        kind = '' if type(error).__name__ == 'UserError' else type(error).__name__ + ': '
        return json.dumps({'error': kind + ' '.join(str(error).split())})


def forked(arguments):
    """The same, of a process of its own."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(there, 'w', encoding='utf-8') as stream:
            stream.write(check(arguments))
        os._exit(0)
    os.close(there)
    with os.fdopen(here, encoding='utf-8') as stream:
        report = stream.read()
    os.waitpid(child, 0)
    return json.loads(report or '{"error": "the process ended without a report"}')


with contextlib.suppress(Exception):    # each check tells the reason
    import tf_session  # noqa: F401
print(json.dumps([forked(arguments) for arguments in json.loads(sys.argv[1])]))
