"""Keras's fit, made right for several devices and machines.

What is replaced here, and why (Keras 3.15, TensorFlow 2.21):

- Keras clips the gradient of each replica before it sums them, so that the clipped gradient of two
  devices is not that of one. The optimizers here sum first.
- With `steps_per_execution` its train function decides within the loop whether there is a next
  batch, which a strategy cannot run. Here every batch is there: fit is told the number.
- It builds a model once more under a strategy by reducing the first batch to its mean, which fails
  among several machines. A model of ours is built whole, optimizer included, before fit.
- It averages the logs over the machines within each step. Here they are averaged over the devices
  of the machine; what the machines have to agree on goes in one piece (`workers.Workers.mean`).
"""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_charlm.network import layers


@keras.saving.register_keras_serializable(package="keras_charlm")
class Sequential(keras.Sequential):
    """A Sequential that fits any number of replicas alike.

    A `TiedDense` is tied to the embedding.

    It has to be built and compiled, and its optimizer built, within the strategy's scope. The data
    have one element (B / replicas, T) for each replica and batch; `steps_per_epoch` has to be
    given, as a multiple of `steps_per_execution`.
    """

    def add(self, layer, rebuild=True):
        if isinstance(layer, layers.TiedDense):
            layer.tie(next(x for x in self.layers if isinstance(x, layers.Embedding)))
        super().add(layer, rebuild)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        pass

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        strategy = self.distribute_strategy

        def step(data):
            logs = strategy.run(self.train_step, args=(data,))
            return {
                name: tf.reduce_mean(strategy.experimental_local_results(value))
                for name, value in logs.items()
            }

        @tf.function(autograph=False, reduce_retracing=True)
        def steps(iterator):
            logs = step(next(iterator))
            if self.steps_per_execution > 1:
                _, logs = tf.while_loop(
                    lambda done, _: done < self.steps_per_execution,
                    lambda done, _: (done + 1, step(next(iterator))),
                    (1, logs),
                )
            return logs

        alone = tf.function(step, autograph=False, reduce_retracing=True)
        traced = {}

        def train(iterator):
            if not isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator)):
                return alone(next(iterator))  # train_on_batch has a generator of one batch
            # To find this by the iterator's type takes as long as twenty products of a step.
            if (kind := iterator.element_spec) not in traced:
                traced[kind] = steps.get_concrete_function(iterator)
            return traced[kind](iterator)

        self.train_function = train
