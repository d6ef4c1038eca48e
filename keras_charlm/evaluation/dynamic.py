"""Dynamic evaluation: the network trains on each segment of a text after predicting it.

Graves, "Generating Sequences With Recurrent Neural Networks", 2013, section 3.2; Krause, Kahembwe,
Murray and Renals, "Dynamic Evaluation of Neural Sequence Models", 2018. As in the latter, each
gradient is divided by its root mean square and the weights decay towards the trained ones. The root
mean square is taken here over the text read so far, so that the training text is not needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_charlm.network import model as network
from keras_charlm.text.streams import NO_TARGET, Stream

SEGMENT = 20  # characters predicted between two updates of the weights
DECAY = 0.001  # decay of the weights towards the trained ones at each update

_CLIP = 1.0  # global norm of a gradient, as in training
_EPSILON = 1e-3  # added to the root mean square, so that weights with tiny gradients hardly change

States = list[list[tf.Tensor]]  # per recurrent layer its states, (1, H) each


def characters(
    model: keras.Model,
    start: int,
    stream: Stream,
    rate: float,
    watch: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Score every character of a text with a network that trains on the preceding characters.

    Args:
        model: A network of `model.build`. Its weights change: pass a copy.
        start: Id read before the first character of a text.
        stream: The text.
        rate: Learning rate.
        watch: Called after each segment with the characters done and their total.

    Returns:
        -log2 p of each, float32 (N,), and whether the model ranked it first, bool (N,).
    """
    stream = stream.labelled()
    size = max(stream.epoch_length() - stream.lead, 0)
    bits, correct = np.zeros(size, np.float32), np.zeros(size, bool)
    states, learn = network.zero_states(model, 1), _learner(model, rate)
    for at in range(0, size, SEGMENT):
        if watch:
            watch(at, size)
        width = min(SEGMENT, size - at)
        # The last segment is padded: the padding is not scored, and no segment follows that could
        # use the update.
        ids = np.zeros((1, SEGMENT + 1), np.int32)
        if at:
            ids[:, : width + 1] = stream.read(np.array([at + stream.lead - 1]), width + 1)
        else:
            ids[0, 0] = start
            ids[:, 1 : width + 1] = stream.read(np.array([stream.lead]), width)
        targets = np.where(ids[:, 1:] < stream.first_label, ids[:, 1:], NO_TARGET)
        nats, hits, states = learn(tf.constant(ids[:, :-1]), tf.constant(targets), states)
        bits[at : at + width] = nats.numpy()[0, :width] / np.float32(math.log(2))
        correct[at : at + width] = hits.numpy()[0, :width]
    marks = stream.label_positions() - stream.lead
    return np.delete(bits, marks), np.delete(correct, marks)


def _learner(model: keras.Model, rate: float) -> Callable[..., tuple[tf.Tensor, tf.Tensor, States]]:
    """Compile a function that predicts a segment, then updates the weights on it.

    Returns:
        A function from (inputs, targets (1, T), states) to (nats, hits (1, T), states).
    """
    weights = [weight.value for weight in model.trainable_weights]
    trained = [tf.identity(weight) for weight in weights]
    squares = [tf.Variable(tf.zeros_like(weight), trainable=False) for weight in weights]
    steps = tf.Variable(0.0, trainable=False)

    @tf.function(autograph=False)
    def learn(inputs, targets, states):
        with tf.GradientTape() as tape:
            logits, states = network.run(model, inputs, states)
            nats = network.loss()(targets, logits)
            mean = tf.reduce_mean(nats)
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(mean, weights)]
        gradients, _ = tf.clip_by_global_norm(gradients, _CLIP)
        steps.assign_add(1.0)
        for weight, at_first, square, gradient in zip(
            weights, trained, squares, gradients, strict=True
        ):
            square.assign_add(gradient * gradient)
            gradient /= tf.sqrt(square / steps) + _EPSILON
            weight.assign_sub(rate * gradient + DECAY * (weight - at_first))
        return nats, tf.argmax(logits, -1, tf.int32) == targets, states

    return learn
