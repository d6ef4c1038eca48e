"""Keras's fit, corrected for several devices and machines.

What is replaced here, and why (Keras 3.15, TensorFlow 2.21):

- Keras clips the gradient of each replica before summing them, so that the clipped gradient differs
  between one device and two. The optimizers of this package sum first.
- With `steps_per_execution` its train function checks within the loop whether there is a next
  batch, which does not work under a strategy. Here the number of batches is known.
- It rebuilds a model under a strategy by reducing the first batch to its mean, which fails on
  several machines. Here a model is fully built, including the optimizer, before `fit`.
- It averages the logs over the machines within each step. Here they are averaged over the devices
  of one machine; `workers.Workers.mean` averages all values over the machines at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_charlm.network.layers import TiedDense


@keras.saving.register_keras_serializable(package="keras_charlm")
class Sequential(keras.Sequential):
    """A Sequential whose training gives the same result on any number of replicas.

    A `TiedDense` is tied to the embedding when it is added.

    A third element of the data, bool (B,), tells which rows begin with a zero state.

    The model must be built and compiled, and its optimizer built, within the strategy's scope. The
    data have one element (B / replicas, T) for each replica and batch; `steps_per_epoch` must be
    given, as a multiple of `steps_per_execution`.
    """

    train_function: Callable | None

    def add(self, layer: keras.layers.Layer, rebuild: bool = True) -> None:
        """Add a layer on top; see `keras.Sequential.add`."""
        if isinstance(layer, TiedDense):
            layer.tie(next(x for x in self.layers if isinstance(x, keras.layers.Embedding)))
        super().add(layer, rebuild)

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Save to a `.keras` file; see `keras.Model`."""
        if str(filepath).endswith((".h5", ".hdf5")):
            warnings.warn(
                f"{filepath}: Keras's .h5 format keeps neither this class nor tied weights; "
                "save to a .keras file.",
                stacklevel=2,
            )
            super().save(filepath, *args, **kwargs)
            return
        # Keras finds a registered class by its registered name. It puts this other name into the
        # first line of the error with which it stops where the class is not registered.
        kind, name = type(self), type(self).__name__
        kind.__name__ = f"{name} (import keras_charlm.network.model first)"
        try:
            super().save(filepath, *args, **kwargs)
        finally:
            kind.__name__ = name

    def train_step(self, data: Any) -> dict[str, Any]:
        """Train on a batch; see `keras.Model`.

        Args:
            data: Inputs and targets (B, T), and optionally which rows begin with a zero state,
                bool (B,).
        """
        *batch, begins = data if len(data) == 3 else (*data, None)
        if begins is not None:
            for layer in self.layers:
                if isinstance(layer, keras.layers.RNN):
                    for state in keras.tree.flatten(layer.states):
                        state.assign(keras.ops.where(begins[:, None], 0.0, state))
        return super().train_step(tuple(batch))

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        pass  # it is built before `fit`

    def make_train_function(self, force: bool = False) -> None:
        """Make the function that `fit` calls for each execution; see `keras.Model`."""
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
        traced: dict[Any, Callable] = {}

        def train(iterator):
            if not isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator)):
                return alone(next(iterator))  # train_on_batch has a generator of one batch
            # TensorFlow's own lookup by the iterator's type costs as much as twenty products.
            if (kind := iterator.element_spec) not in traced:
                traced[kind] = steps.get_concrete_function(iterator)
            return traced[kind](iterator)

        self.train_function = train
