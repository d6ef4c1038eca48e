"""The network of a training: built and compiled on all devices, with its optimizer and its initial
weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_charlm.config import FitConfig, ModelConfig
from keras_charlm.network import model
from keras_charlm.saved.bundle import Bundle
from keras_charlm.text.split import Split
from keras_charlm.text.vocabulary import Vocabulary
from keras_charlm.training.devices import prefer_bfloat16
from keras_charlm.training.network import rebuilt
from keras_charlm.training.own import Own, Rates
from keras_charlm.training.workers import Workers


def build(
    config: ModelConfig,
    fit: FitConfig,
    policy: str,
    vocabulary: Vocabulary,
    workers: Workers,
    own: Own,
) -> keras.Model:
    """Build and compile the network on the devices of this worker.

    Args:
        config: The network's shape.
        fit: Batch size over all devices, seed and optimizer.
        policy: Keras dtype policy.
        vocabulary: The symbols that it reads and predicts.
        workers: The workers that train together.
        own: The user's own objects.
    """
    with workers.strategy.scope():
        rows = fit.batch_size // workers.replicas
        if own.network:
            network = rebuilt(own.network, rows)
            network.set_weights(own.network.get_weights())
        else:
            size, labels = vocabulary.size, vocabulary.labels
            network = model.build(config, size, rows, fit.seed, policy, labels)
        # Keras's automatic XLA would compile the time loop too, which makes it slower.
        optimizer = own.copied() or _optimizer(fit, own.rates)
        network.compile(optimizer, model.loss(), jit_compile=False)
        network.optimizer.build(network.trainable_variables)
    return network


def dtype_policy(precision: str) -> str:
    """The Keras dtype policy of a precision; 'auto' depends on the hardware."""
    if precision == "auto":
        precision = "bfloat16" if prefer_bfloat16() else "float32"
    return "float32" if precision == "float32" else f"mixed_{precision}"


def start_from(network: keras.Model, base: Bundle, split: Split) -> int:
    """Copy another model's weights.

    Characters in both vocabularies keep their rows of the embedding (of the first kernel for
    one-hot input), their columns of the logits' kernel and their biases; labels of both keep their
    rows of the embedding. A start symbol that the other model does not know, such as the end of a
    document, begins as that model's own.

    Args:
        network: The network, of the same shape.
        base: The other model.
        split: The parts of the text, with the network's vocabulary and labels.

    Returns:
        How many of its characters are in the other model's vocabulary.
    """
    vocabulary = split.vocabulary
    theirs = base.vocabulary.lookup(np.array(vocabulary.codes))  # their id of each of our codes
    known_characters = int((theirs > 0).sum())
    if (start := vocabulary.id_of(split.start)) and not theirs[start - 1]:
        theirs[start - 1] = base.vocabulary.id_of(base.card.start)
    same = {(label.column, label.value): label.id for label in base.card.labels}
    of_labels = np.array([same.get((x.column, x.value), 0) for x in split.labels], np.int64)
    theirs = np.concatenate([[0], theirs, of_labels])  # the unknown symbol is always id 0
    known = theirs > 0
    known[0] = True
    mine, values = model.named_weights(network), base.weights()
    # Axis of the characters by weight name. The logits' kernel has none if it is tied.
    by_character = {next(iter(mine)): 0, f"{model.LOGITS}/bias": 0}
    if not base.card.model.tied:
        by_character[f"{model.LOGITS}/kernel"] = 1
    for name, variable in mine.items():
        value, axis = values[name], by_character.get(name)
        if axis is not None:
            rows = np.moveaxis(np.asarray(variable), axis, 0).copy()
            own = np.flatnonzero(known[: len(rows)])  # labels have no logits
            rows[own] = np.moveaxis(value, axis, 0)[theirs[own]]
            value = np.moveaxis(rows, 0, axis)
        variable.assign(value)
    return known_characters


def _optimizer(config: FitConfig, rates: Rates | None) -> keras.optimizers.Optimizer:
    kinds = {"adam": Adam, "rmsprop": RMSprop}
    return kinds[config.optimizer](
        rates or config.learning_rate,
        global_clipnorm=config.clip_norm,
        weight_decay=config.weight_decay or None,
    )


class _SumsBeforeClipping:
    """Mixin before a Keras optimizer: the norm that is clipped is that of the global batch."""

    def _clip_gradients(self, gradients):  # a list of tensors of the weights' shapes
        # The embedding's gradient is sparse, one row per character read: larger than the table,
        # with a different norm, and on several devices each would receive the rows of all.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        replica = tf.distribute.get_replica_context()
        sums = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return super()._clip_gradients(sums)  # pyright: ignore[reportAttributeAccessIssue]

    def _all_reduce_sum_gradients(self, gradients_and_variables: list[Any]) -> list[Any]:
        return gradients_and_variables  # already summed


class Adam(_SumsBeforeClipping, keras.optimizers.Adam):
    """`keras.optimizers.Adam` for any number of replicas, without `amsgrad`.

    A weight's update is one operation instead of Keras's dozen: in a small network launching them
    takes longer than running them.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.
    """

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Update a weight; see `keras.optimizers.Optimizer.update_step`."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
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
