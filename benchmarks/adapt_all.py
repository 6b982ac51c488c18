"""Runs an adapter on several bundles in one process, as importing a framework takes longer than a small model.

    benchmarks/adapt_all.py tf_keras '[["bundle", "out", "--module", "tf.keras"], ...]'  # prints {bundle: error}
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'adapters'))
adapter, errors = __import__(sys.argv[1]), {}
for arguments in json.loads(sys.argv[2]):
    try:
        adapter.main(arguments)
    except (Exception, SystemExit) as error:    # whatever a version of a framework raises is a result of the map
        errors[arguments[0]] = '%s: %s' % (type(error).__name__, ' '.join(str(error).split()))
print(json.dumps(errors))
