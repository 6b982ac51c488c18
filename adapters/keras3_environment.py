"""Sets what Keras 3 reads when it is imported: import this module before Keras. Standard library only."""
import importlib.util
import os
import sys

BACKENDS = ('tensorflow', 'jax', 'torch')

os.environ['KERAS_BACKEND'] = next((name for name in BACKENDS if importlib.util.find_spec(name)), BACKENDS[0])
os.environ['CUDA_VISIBLE_DEVICES'] = '-1'
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
sys.dont_write_bytecode = True
