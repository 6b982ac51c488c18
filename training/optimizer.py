"""Keras optimisers that share one update: accumulation, clipping, weight decay, the step of the rule, averaging.

The step of each rule computes the same as the optimiser of that name in `keras.optimizers`.
"""
from keras import backend as K
from keras.optimizers import Optimizer
import tensorflow as tf
from tensorflow.python.training import training_ops


class Accumulating(Optimizer):
    """Gradient accumulation, clipping by the global norm, decoupled weight decay and averaged weights.

    # Arguments
        lr: learning rate, per update.
        clip_norm: maximum global norm of the accumulated gradient; 0 for no limit.
        weight_decay: each update first subtracts `lr * weight_decay * w` from every matrix w; vectors do not decay.
        averaging: decay d of the running average of the weights, avg <- d avg + (1 - d) w, with d at most
            (t - 1) / (t + 8) at update t, so that it equals the weights after the first update; 0 for none.
        accumulate: Boolean; if true, a batch only adds its gradients to the sums while the variable `apply` is 0.
        sum_gradients: `Workers.sum_gradients`, called before clipping with the variable `idle`; `None` for one worker.

    A subclass lists its slots, variables of the shape of each weight, in `slots`, and updates one weight in
    `update_weight`.

    # References
        - [Decoupled Weight Decay Regularization](https://arxiv.org/abs/1711.05101)
    """
    slots = ()

    def __init__(self, lr, clip_norm=0., weight_decay=0., averaging=0., accumulate=False,
                 sum_gradients=None, **kwargs):
        super(Accumulating, self).__init__(**kwargs)
        with K.name_scope(type(self).__name__):
            self.iterations = K.variable(0, dtype='int64', name='iterations')
            self.learning_rate = K.variable(lr, name='lr')     # Keras 2.3 has a property lr
            self.apply = K.variable(1, dtype='int32', name='apply')
            self.idle = K.variable(0, dtype='int32', name='idle') if sum_gradients else None
        self.clip_norm, self.weight_decay, self.averaging = clip_norm, weight_decay, averaging
        self.accumulate, self.sum_gradients = accumulate, sum_gradients
        self.averages = []

    def get_updates(self, loss, params):
        """Returns the operations of one batch: accumulate its gradients, and update the weights unless `apply` is 0."""
        gradients = [tf.convert_to_tensor(gradient) for gradient in self.get_gradients(loss, params)]
        slots = [self._variables_like(params, name) for name in self.slots]
        self.averages = self._variables_like(params, 'average') if self.averaging else []
        self.weights = [self.iterations] + sum(slots, []) + self.averages
        # The graph reads weights in place: none may change before all gradients are computed.
        with tf.control_dependencies(gradients):
            gradients = [tf.identity(gradient) for gradient in gradients]
        if not self.accumulate:
            self.updates = [self._update(params, gradients, slots)]
            return self.updates
        # No part of `weights`: a checkpoint is written between updates, when they are 0.
        sums = self._variables_like(params, 'sum')
        added = [tf.assign_add(total, gradient) for total, gradient in zip(sums, gradients)]

        def apply():
            update = self._update(params, added, slots)
            with tf.control_dependencies([update]):
                return tf.group(*[tf.assign(total, tf.zeros_like(total)) for total in sums])
        self.updates = [tf.cond(self.apply > 0, apply, lambda: tf.group(*added))]
        return self.updates

    def restart(self):
        """Begins again with the weights as they are: no updates done, slots zero."""
        K.batch_set_value([(weight, K.get_value(weight) * 0) for weight in self.weights])

    @staticmethod
    def _variables_like(params, name):
        return [K.zeros(K.int_shape(weight), dtype=K.dtype(weight), name='%s_%s' % (weight.op.name, name))
                for weight in params]

    def _update(self, params, gradients, slots):
        if self.sum_gradients:
            gradients = self.sum_gradients(gradients, self.idle)
        if self.clip_norm:
            # As tf.clip_by_global_norm, without its error for a norm that is NaN: the training loop reports such a loss
            # with its batch.
            scale = self.clip_norm * tf.minimum(1. / tf.global_norm(gradients), K.constant(1.) / self.clip_norm)
            gradients = [gradient * scale for gradient in gradients]
        t = K.cast(self.iterations, K.floatx()) + 1.
        self.prepare_update(t)
        decay = K.minimum(K.constant(self.averaging), (t - 1.) / (t + 8.)) if self.averaging else None
        updates = []
        for index, (weight, gradient) in enumerate(zip(params, gradients)):
            before = [gradient]
            if self.weight_decay and K.ndim(weight) > 1:
                with tf.control_dependencies(before):
                    before = [tf.assign_sub(weight, self.learning_rate * self.weight_decay * weight)]
            with tf.control_dependencies(before):
                updated = self.update_weight(weight, gradient, *[slot[index] for slot in slots])
            if self.averaging:
                with tf.control_dependencies([updated]):
                    average = self.averages[index]
                    updated = tf.assign_sub(average, (1. - decay) * (average - weight.read_value()))
            updates.append(updated)
        with tf.control_dependencies(updates):
            return tf.assign_add(self.iterations, 1).op

    def prepare_update(self, t):
        """Computes what all weights share in update `t`, a scalar tensor counted from 1."""

    def update_weight(self, weight, gradient, *slots):
        """Returns the operation that updates `weight` and its slots with `gradient`."""
        raise NotImplementedError


class Adam(Accumulating):
    """Adam with TensorFlow's fused kernel: one pass over each weight instead of ten.

    # Arguments
        beta_1, beta_2, epsilon: as in Kingma and Ba; Keras' defaults. The others as in `Accumulating`.

    # References
        - [Adam](https://arxiv.org/abs/1412.6980), algorithm 1 in the form of its section 2
    """
    slots = ('m', 'v')

    def __init__(self, lr=1e-3, beta_1=0.9, beta_2=0.999, epsilon=None, **kwargs):
        super(Adam, self).__init__(lr, **kwargs)
        self.beta_1, self.beta_2 = beta_1, beta_2
        self.epsilon = K.epsilon() if epsilon is None else epsilon

    def prepare_update(self, t):
        self._powers = [K.pow(K.constant(beta), t) for beta in (self.beta_1, self.beta_2)]

    def update_weight(self, weight, gradient, m, v):
        apply, variables = training_ops.apply_adam, (weight, m, v)
        if hasattr(weight, 'handle'):   # Keras 2.3 has resource variables
            apply, variables = training_ops.resource_apply_adam, (weight.handle, m.handle, v.handle)
        return apply(*variables + (self._powers[0], self._powers[1], self.learning_rate, self.beta_1, self.beta_2,
                                   self.epsilon, gradient))


class SGD(Accumulating):
    """Plain stochastic gradient descent, as Luong et al. train with: w <- w - lr g. Arguments as in `Accumulating`."""

    def __init__(self, lr=0.01, **kwargs):
        super(SGD, self).__init__(lr, **kwargs)

    def update_weight(self, weight, gradient):
        return tf.assign_sub(weight, self.learning_rate * gradient)


class RMSprop(Accumulating):
    """RMSprop: s <- rho s + (1 - rho) g^2, w <- w - lr g / (sqrt(s) + epsilon).

    # Arguments
        rho, epsilon: Keras' defaults. The others as in `Accumulating`.

    # References
        - [rmsprop](http://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf), slide 29
    """
    slots = ('s',)

    def __init__(self, lr=1e-3, rho=0.9, epsilon=None, **kwargs):
        super(RMSprop, self).__init__(lr, **kwargs)
        self.rho = rho
        self.epsilon = K.epsilon() if epsilon is None else epsilon

    def update_weight(self, weight, gradient, s):
        s = tf.assign(s, self.rho * s + (1. - self.rho) * tf.square(gradient))
        return tf.assign_sub(weight, self.learning_rate * gradient / (tf.sqrt(s) + self.epsilon))


OPTIMIZERS = {'adam': Adam, 'sgd': SGD, 'rmsprop': RMSprop}
