"""Whether the code of `Lambda` layers in a model file can run in this Python. A file keeps bytecode, not text.

Keras loads it with `marshal`, which knows the bytecode of one version of Python. That of another one raises errors of
the interpreter, or runs as other instructions.
"""
import codecs
import dis
import marshal
import platform
import types

from command_line import UserError

PARTS = (('function', 'function_type'), ('output_shape', 'output_shape_type'))  # of a Lambda layer, and their kinds


def of_lambdas(config):
    """(name of the layer, dump of a function) of all `Lambda` layers in a configuration."""
    if isinstance(config, dict):
        own = config.get('config')
        if config.get('class_name') == 'Lambda' and isinstance(own, dict):
            for key, kind in PARTS:
                if own.get(kind) == 'lambda':
                    yield str(own.get('name')), own.get(key)
        for value in config.values():
            for pair in of_lambdas(value):
                yield pair
    elif isinstance(config, list):
        for value in config:
            for pair in of_lambdas(value):
                yield pair


def read(dump):
    """The code object of a function that Keras dumped. Any exception: not of this Python."""
    text = dump[0] if isinstance(dump, (list, tuple)) else dump
    try:
        return marshal.loads(codecs.decode(text.encode('ascii'), 'base64'))
    except ValueError:      # Keras before 2.1.2
        return marshal.loads(text.encode('raw_unicode_escape'))


def is_of_this_python(code):
    """Whether every instruction is one of this Python, and reads only what the code has."""
    try:
        instructions = list(dis.get_instructions(code))
    except (IndexError, KeyError, TypeError, ValueError):
        return False
    known = all(not one.opname.startswith('<') for one in instructions)
    return (bool(instructions) and known and not len(code.co_code) % 2 and instructions[-1].opname == 'RETURN_VALUE' and
            all(is_of_this_python(one) for one in code.co_consts if isinstance(one, types.CodeType)))


def require_readable(path, config, remedy):
    """UserError: the code of a `Lambda` layer was written by another Python. `remedy`: what the user can do."""
    for name, dump in of_lambdas(config):
        try:
            code = read(dump)
        except Exception:       # marshal raises many kinds, SystemError and EOFError among them
            code = None
        if not isinstance(code, types.CodeType) or not is_of_this_python(code):
            raise UserError('%s: the code of the Lambda layer %s was written by another Python than %s and cannot run '
                            'here: write its function again: %s' % (path, name, platform.python_version(), remedy))
