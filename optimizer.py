"""One Keras optimiser for one update: accumulate, clip, decay, Adam, average.

The arithmetic of Adam is that of `keras.optimizers.Adam`, run by TensorFlow's fused kernel: the same update in one
pass over each weight instead of ten.
"""
from keras import backend as K
from keras.optimizers import Optimizer
import tensorflow as tf
from tensorflow.python.training import training_ops


class Adam(Optimizer):
    """Adam with gradient accumulation, clipping by the global norm, decoupled weight decay and averaged weights.

    # Arguments
        lr: learning rate, per update.
        beta_1, beta_2, epsilon: as in Kingma and Ba; Keras' defaults.
        clip_norm: largest global norm of the accumulated gradient; 0 for no limit.
        weight_decay: each update first takes the share `lr * weight_decay` off every matrix; vectors are spared.
        averaging: decay d of the running average of the weights, avg <- d avg + (1 - d) w, with d at most
            (1 + t) / (10 + t) after t updates so that the start is forgotten; 0 for none.
        accumulate: Boolean; then a batch only adds its gradients up while `apply` is 0.

    # References
        - [Adam](https://arxiv.org/abs/1412.6980), algorithm 1 in the form of its section 2
        - [Decoupled Weight Decay Regularization](https://arxiv.org/abs/1711.05101)
    """

    def __init__(self, lr=1e-3, beta_1=0.9, beta_2=0.999, epsilon=None, clip_norm=0., weight_decay=0., averaging=0.,
                 accumulate=False, **kwargs):
        super(Adam, self).__init__(**kwargs)
        with K.name_scope('Adam'):
            self.iterations = K.variable(0, dtype='int64', name='iterations')
            self.lr = K.variable(lr, name='lr')
            self.apply = K.variable(1, dtype='int32', name='apply')
        self.beta_1, self.beta_2 = beta_1, beta_2
        self.epsilon = K.epsilon() if epsilon is None else epsilon
        self.clip_norm, self.weight_decay, self.averaging = clip_norm, weight_decay, averaging
        self.accumulate = accumulate
        self.averages = []

    def get_updates(self, loss, params):
        gradients = [tf.convert_to_tensor(gradient) for gradient in self.get_gradients(loss, params)]
        moments = [self._slots(params, name) for name in ('m', 'v')]
        self.averages = self._slots(params, 'average') if self.averaging else []
        self.weights = [self.iterations] + moments[0] + moments[1] + self.averages
        # No weight may move before every gradient is there: the graph reads weights in place.
        with tf.control_dependencies(gradients):
            gradients = [tf.identity(gradient) for gradient in gradients]
        if not self.accumulate:
            self.updates = [self._update(params, gradients, moments)]
            return self.updates
        sums = self._slots(params, 'sum')
        self.weights += sums
        added = [tf.assign_add(total, gradient) for total, gradient in zip(sums, gradients)]

        def apply():
            update = self._update(params, added, moments)
            with tf.control_dependencies([update]):
                return tf.group(*[tf.assign(total, tf.zeros_like(total)) for total in sums])
        self.updates = [tf.cond(self.apply > 0, apply, lambda: tf.group(*added))]
        return self.updates

    @staticmethod
    def _slots(params, name):
        return [K.zeros(K.int_shape(weight), dtype=K.dtype(weight), name='%s_%s' % (weight.op.name, name))
                for weight in params]

    def _update(self, params, gradients, moments):
        if self.clip_norm:
            # As tf.clip_by_global_norm, which would stop with an error of its own where the norm is no number: the
            # training loop tells a loss that is none, with its place.
            scale = self.clip_norm * tf.minimum(1. / tf.global_norm(gradients), K.constant(1.) / self.clip_norm)
            gradients = [gradient * scale for gradient in gradients]
        t = K.cast(self.iterations, K.floatx()) + 1.
        powers = [K.pow(K.constant(beta), t) for beta in (self.beta_1, self.beta_2)]
        decay = K.minimum(K.constant(self.averaging), (1. + t) / (10. + t)) if self.averaging else None
        done = []
        for index, (weight, gradient, m, v) in enumerate(zip(params, gradients, *moments)):
            before = [gradient]
            if self.weight_decay and K.ndim(weight) > 1:
                with tf.control_dependencies(before):
                    before = [tf.assign_sub(weight, self.lr * self.weight_decay * weight)]
            with tf.control_dependencies(before):
                moved = training_ops.apply_adam(weight, m, v, powers[0], powers[1], self.lr, self.beta_1, self.beta_2,
                                                self.epsilon, gradient)
            if self.averaging:
                with tf.control_dependencies([moved]):
                    average = self.averages[index]
                    moved = tf.assign_sub(average, (1. - decay) * (average - weight.read_value()))
            done.append(moved)
        with tf.control_dependencies(done):
            return tf.assign_add(self.iterations, 1).op
