"""Optimizers that clip the gradient of the whole batch, on any number of devices."""

from __future__ import annotations

import keras
import tensorflow as tf


class _SumsBeforeClipping:
    """Mixin before a Keras optimizer: the norm that is clipped is that of the global batch."""

    def _clip_gradients(self, gradients):
        # That of the embedding is a list of rows, one for each character read: longer than the
        # whole, with another norm, and on several devices the lists of all would go to each.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        replica = tf.distribute.get_replica_context()
        return super()._clip_gradients(replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients))

    def _all_reduce_sum_gradients(self, gradients_and_variables):
        return gradients_and_variables  # the sum already


class Adam(_SumsBeforeClipping, keras.optimizers.Adam):
    """`keras.optimizers.Adam` for any number of replicas, without `amsgrad`.

    A weight's update is one operation, where Keras has a dozen: in a small network starting them
    takes longer than what they do.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.
    """

    def update_step(self, gradient, variable, learning_rate):
        place = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class RMSprop(_SumsBeforeClipping, keras.optimizers.RMSprop):
    """`keras.optimizers.RMSprop` for any number of replicas.

    Source: Hinton, "Neural Networks for Machine Learning", lecture 6e, 2012.
    """
