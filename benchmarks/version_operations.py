"""Single operations of TensorFlow of any version on the same numbers, for `regress.py compare` of two versions.

    benchmarks/version_operations.py old.npz        # in one environment; new.npz in another
    .venv/bin/python regress.py compare old.npz new.npz --rtol 0
"""
import sys

import numpy as np
import tensorflow as tf

tf1 = tf if tf.__version__.startswith('1.') else tf.compat.v1
x = np.linspace(-8, 8, 100000).astype('f')
random = np.random.RandomState(0)
small, large = [[random.rand(*shape).astype('f') for shape in shapes]
                for shapes in (((8, 5), (5, 12)), ((64, 512), (512, 512)))]
positive, rows = np.abs(x) + np.float32(1e-3), x.reshape(100, 1000)
with tf1.Session(graph=tf.Graph(), config=tf1.ConfigProto(intra_op_parallelism_threads=1)) as session:
    with session.graph.as_default():
        operations = {
            'sigmoid': tf.sigmoid(x), 'tanh': tf.tanh(x), 'exp': tf.exp(x), 'softmax': tf.nn.softmax(rows),
            'log': tf1.log(positive), 'sqrt': tf.sqrt(positive), 'rsqrt': tf1.rsqrt(positive),
            'product 8 x 5 x 12': tf.matmul(*small), 'product 64 x 512 x 512': tf.matmul(*large),
            'sum of 1000': tf.reduce_sum(tf.abs(rows), 1), 'mean of 100000': tf.reduce_mean(positive)}
    np.savez(sys.argv[1], **session.run(operations))
