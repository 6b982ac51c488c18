"""Runs Python files of the user, which build a model or define its layers."""
import importlib.util
import inspect
import os
import sys
import traceback

import tf_session  # noqa: F401  first: it fixes the import order
import keras

from command_line import UserError


def run_file(path):
    """Runs a Python file and returns its module; UserError names the line where it fails."""
    name = os.path.splitext(os.path.basename(path))[0]
    if not os.path.isfile(path):
        raise UserError('%s: no such file' % path)
    if not path.endswith('.py'):
        raise UserError('%s: is not a Python file: name one that ends in .py' % path)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise user_code_error(path, error)
    finally:
        del sys.path[0]
    return module


def user_code_error(path, error):
    """The `UserError` of an exception in the user's own code, with the line of their file."""
    if isinstance(error, UserError):
        return error
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if os.path.abspath(frame.filename) == os.path.abspath(path)]
    line = getattr(error, 'lineno', None) or (lines[-1] if lines else None)
    return UserError('%s%s: %s: %s' % (path, ', line %d' % line if line else '', type(error).__name__, error))


def custom_objects(path):
    """{name: class or function} that a file defines: its `custom_objects`, if it has one, and its public names."""
    if path is None:
        return {}
    module = run_file(path)
    objects = {name: value for name, value in vars(module).items() if not name.startswith('_') and (
        inspect.isclass(value) or inspect.isfunction(value))}
    objects.update(getattr(module, 'custom_objects', {}))
    return objects


def build(path_and_function):
    """The model that `file.py:function` returns."""
    path, _, name = path_and_function.rpartition(':')
    if not path or not name:
        raise UserError('--build %s: write file.py:function' % path_and_function)
    function = getattr(run_file(path), name, None)
    if not callable(function):
        raise UserError('%s: has no function %s' % (path, name))
    try:
        model = function()
    except Exception as error:
        raise user_code_error(path, error)
    if not isinstance(model, keras.models.Model):
        raise UserError('%s: %s returns %s, not a Keras model' % (path, name, type(model).__name__))
    return model
