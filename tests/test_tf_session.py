"""Sessions of this process: what a closed one leaves behind."""
import gc
import weakref

import pytest

import tf_session  # first: it fixes the import order
from keras import backend as K

from small_models import Small


def used(session):
    """Builds and runs a model with a learning phase; returns what tells whether its graph is still there."""
    small = Small(score='general')
    small.model.training_model.compile('sgd', 'mse')
    K.gradients(small.model.training_model.total_loss, small.model.training_model.trainable_weights)
    assert small.model.training_model.uses_learning_phase
    return weakref.ref(session.graph)


def test_the_graph_of_a_session_is_freed_when_it_is_closed():
    with tf_session.temporary(threads=1) as session:
        graph = used(session)
    del session
    gc.collect()
    assert graph() is None


def test_the_graph_of_a_session_is_freed_when_the_block_fails():
    with pytest.raises(ZeroDivisionError):
        with tf_session.temporary(threads=1) as session:
            graph = used(session)
            1 / 0
    with pytest.raises(RuntimeError, match='closed'):
        session.run([])
    del session
    gc.collect()
    assert graph() is None


def test_a_session_that_is_closed_leaves_the_graphs_of_others_alone():
    with tf_session.temporary(threads=1):
        phase = K.learning_phase()
        with tf_session.temporary(threads=1):
            assert K.learning_phase() is not phase
        assert K.learning_phase() is phase


def test_a_function_that_is_freed_after_its_session_was_closed_says_nothing(capfd):
    with tf_session.temporary(threads=1):
        function = K.function([], [K.constant(2.)])
        assert function([]) == [2.]
        assert function._callable_fn
    del function
    gc.collect()
    assert capfd.readouterr().err == ''
