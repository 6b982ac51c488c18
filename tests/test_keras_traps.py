"""Faults of Keras 2.2.4 that a model with the attention layer meets, as docs/attention.md lists them."""
import os
import re

import tf_session
import numpy as np
import pytest
import tensorflow as tf
from keras import backend as K
from keras.layers import GRU, Concatenate, Dense, Embedding, Input
from keras.models import Model, model_from_json, model_from_yaml

from attention import GlobalAttention, custom_objects

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VOCABULARY = 20
SOURCE = np.array([[4, 5, 6, 0], [7, 8, 0, 0], [5, 9, 10, 11], [6, 0, 0, 0]])
TARGET = np.array([[2, 5, 6], [2, 7, 0], [2, 0, 0], [2, 9, 8]])
OUTPUT = np.array([[5, 6, 3], [7, 3, 0], [3, 0, 0], [9, 8, 3]])[:, :, None]


@pytest.fixture
def model(session):
    """The model of the README, smaller."""
    tf_session.seed_weights(5)
    source, target = Input((None,)), Input((None,))
    encoded = Embedding(VOCABULARY, 8, mask_zero=True, embeddings_initializer='normal')(source)
    encoder_states, last = GRU(8, return_sequences=True, return_state=True)(encoded)
    embedded = Embedding(VOCABULARY, 8, mask_zero=True, embeddings_initializer='normal')(target)
    decoder_states = GRU(8, return_sequences=True)(embedded, initial_state=last)
    context, weights = GlobalAttention('general')([encoder_states, decoder_states])
    attentional = Dense(8, activation='tanh', use_bias=False)(Concatenate()([context, decoder_states]))
    made = Model([source, target], Dense(VOCABULARY, activation='softmax')(attentional))
    made.set_weights([np.random.RandomState(number).normal(size=value.shape)
                      for number, value in enumerate(made.get_weights())])
    return made


@pytest.fixture(scope='module')
def page():
    """The functions that docs/attention.md recommends, by name."""
    with open(os.path.join(ROOT, 'docs', 'attention.md'), encoding='utf-8') as stream:
        code, = re.findall(r'^```python\n(.*?)^```', stream.read(), re.DOTALL | re.MULTILINE)
    functions = {}
    exec(code, functions)
    return functions


def test_the_accuracy_of_keras_fails_on_sequences_of_ids(model):
    model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
    with pytest.raises(tf.errors.InvalidArgumentError, match='Incompatible shapes'):
        model.train_on_batch([SOURCE, TARGET], OUTPUT)


def test_the_metric_of_the_page_is_the_mean_over_valid_tokens(model, page):
    model.compile('adam', 'sparse_categorical_crossentropy', metrics=[page['token_accuracy']])
    probabilities, valid = model.predict([SOURCE, TARGET]), TARGET > 0
    output = OUTPUT.copy()
    output[0] = probabilities[0].argmax(-1)[:, None]    # 3 of 9 valid tokens at least are right
    right = probabilities.argmax(-1) == output[:, :, 0]
    loss, accuracy = model.test_on_batch([SOURCE, TARGET], output)
    np.testing.assert_allclose(accuracy, right[valid].mean(), rtol=1e-6)
    assert accuracy >= 1 / 3. and abs(right.mean() - accuracy) > .01     # or padding might be counted
    likelihood = np.take_along_axis(probabilities, output, axis=-1)[:, :, 0]
    np.testing.assert_allclose(loss, -np.log(likelihood[valid]).mean(), rtol=1e-5)


def call_on_two_halves(model, between_calls):
    """The outputs of two calls of the model on the halves of a batch, as `multi_gpu_model` makes them."""
    first = model([tf.constant(SOURCE[:2], K.floatx()), tf.constant(TARGET[:2], K.floatx())])
    between_calls(model)
    second = model([tf.constant(SOURCE[2:], K.floatx()), tf.constant(TARGET[2:], K.floatx())])
    return np.concatenate(K.get_session().run([first, second]))


def test_a_model_called_twice_keeps_the_mask_of_the_first_call(model):
    expected = model.predict([SOURCE, TARGET])
    values = call_on_two_halves(model, lambda _: None)
    np.testing.assert_allclose(values[:2], expected[:2], atol=1e-6)
    assert np.abs(values[2:] - expected[2:])[TARGET[2:] > 0].max() > .01


def test_a_model_called_twice_is_right_when_its_nodes_forget_the_mask(model, page):
    expected = model.predict([SOURCE, TARGET])
    np.testing.assert_allclose(call_on_two_halves(model, page['forget_masks']), expected, atol=1e-6)


def test_yaml_cannot_be_read_with_the_pinned_pyyaml_and_json_can(model):
    with pytest.raises(TypeError, match='Loader'):
        model_from_yaml(model.to_yaml(), custom_objects)
    again = model_from_json(model.to_json(), custom_objects)
    again.set_weights(model.get_weights())
    assert (again.predict([SOURCE, TARGET]) == model.predict([SOURCE, TARGET])).all()
