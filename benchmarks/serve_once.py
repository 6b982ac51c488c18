"""Runs an exported SavedModel on a JSON list of texts on standard input, with any TensorFlow; prints JSON."""
import json
import sys

import tensorflow as tf

given = json.loads(sys.stdin.read())
if int(tf.__version__.split('.')[0]) == 1:
    with tf.Session(graph=tf.Graph()) as session:
        signature = tf.saved_model.loader.load(session, ['serve'], sys.argv[1]).signature_def['serving_default']
        names = {key: value.name for key, value in signature.outputs.items()}
        found = session.run(names, {signature.inputs['text'].name: given})
else:
    model = tf.saved_model.load(sys.argv[1])
    found = {key: value.numpy() for key, value in model.signatures['serving_default'](text=tf.constant(given)).items()}
print(json.dumps({'text': [row[0].decode('utf-8') for row in found['text']],
                  'scores': [float(row[0]) for row in found['scores']]}))
