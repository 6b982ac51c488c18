"""The matrix products that the benchmarks of training and decoding count."""
import os
import sys

import pytest

import tf_session  # noqa: F401  first: it fixes the import order
from settings import resolve_settings
from test_commands import ROOT

sys.path.insert(0, os.path.join(str(ROOT), 'benchmarks'))
try:
    import matrix_products
    from matrix_products import Product
finally:
    del sys.path[0]

# Sizes without a common factor, so that a confusion of two changes the number of operations.
SIZES = dict(units=11, embedding=7, bidirectional=False)
B, S, T, V = 3, 5, 2, 101


def forward(config, searching=False):
    return matrix_products.operations(
        matrix_products.source_products(config, B, S, searching)
        + matrix_products.decoder_products(config, S, T, B, searching=searching)
        + matrix_products.output_products(config, V, 1, B * T))


@pytest.mark.parametrize('changes, attention', [
    (dict(score='general'), B * T * 11 * 11 + 2 * B * T * S * 11),
    (dict(score='dot'), 2 * B * T * S * 11),
    (dict(score='additive', attention_units=13),
     B * S * 11 * 13 + B * T * 11 * 13 + B * T * S * 13 + B * T * S * 11)])
@pytest.mark.parametrize('cell, gates', [('lstm', 4), ('gru', 3)])
def test_the_forward_products_of_training_are_those_of_the_equations(changes, attention, cell, gates):
    config = resolve_settings(dict(SIZES, cell=cell, **changes))
    encoder, decoder = B * S * (7 + 11) * gates * 11, B * T * (7 + 11) * gates * 11
    assert forward(config) == 2 * (encoder + decoder + attention + B * T * 22 * 11 + B * T * 11 * V)


def test_two_directions_have_half_the_width_and_a_bridge():
    config = resolve_settings(dict(SIZES, units=12, encoder_units=20, bidirectional=True, score='none'))
    encoder, bridge = 2 * B * S * (7 + 10) * 4 * 10, 2 * B * 20 * 12
    assert forward(config) == 2 * (encoder + bridge + B * T * (7 + 12) * 4 * 12 + B * T * 12 * V)


@pytest.mark.parametrize('score', ['dot', 'concat'])
def test_a_search_along_the_targets_has_as_many_operations_as_training(score):
    config = resolve_settings(dict(SIZES, score=score, decoder_layers=2))
    assert forward(config, searching=True) == forward(config)


def test_keys_of_general_hold_its_kernel_where_attention_is_a_step():
    config = resolve_settings(dict(SIZES, score='general'))
    assert forward(config, searching=True) - forward(config) == 2 * B * (S - T) * 11 * 11
    fed = resolve_settings(dict(SIZES, score='general', input_feeding=True))
    assert forward(fed) - forward(config, searching=True) == 2 * B * T * 11 * 4 * 11


def test_the_gradient_has_two_products_and_a_loop_adds_its_kernel_at_the_end():
    assert matrix_products.with_gradients([Product(6, 2, 3, 5, 7)]) == [
        Product(6, 2, 3, 5, 7), Product(6, 2, 3, 7, 5), Product(1, 2, 5, 18, 7)]
