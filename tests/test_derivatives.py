"""Derivatives that the fast path has no code for: TensorFlow gets them from ordinary operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_charlm.network import derivatives, layers, recurrent

B, T, D, H = 2, 3, 3, 4


def pair(name):
    """A fast layer and Keras's own, with the same random weights, and an input (B, T, D)."""
    pair, rng = [], np.random.default_rng(1)
    weights = None
    for kinds in (recurrent, keras.layers):
        layer = getattr(kinds, name)(H, return_sequences=True)
        layer.build((B, T, D))
        weights = weights or [rng.normal(size=w.shape) for w in layer.weights]
        layer.set_weights(weights)
        pair.append(layer)
    return (*pair, tf.constant(rng.normal(size=(B, T, D)), "float32"))


def gradients(layer, x):
    sources = [x, *(w.value for w in layer.weights)]
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True) ** 2)
    return tape.gradient(loss, sources), sources


def second(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        first, sources = gradients(layer, x)
        loss = sum(tf.reduce_sum(g**3) for g in first)
    return tape.gradient(loss, sources)


def third(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = sum(tf.reduce_sum(g**2) for g in second(layer, x))
    return [tape.gradient(loss, x)]


def batch_jacobian(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    return [tape.batch_jacobian(y, x)]


def forward_mode(layer, x):
    with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
        y = layer(x, training=True)
    return [accumulator.jvp(y)]


def vectorized(layer, x):
    return [tf.vectorized_map(lambda row: layer(row[None])[0], x)]


def checked(layer, x):
    tf.debugging.enable_check_numerics()
    try:
        return gradients(layer, x)[0]
    finally:
        tf.debugging.disable_check_numerics()


@pytest.mark.parametrize(
    "name, derivative, graph",
    [
        *((name, second, False) for name in ["LSTM", "GRU", "SimpleRNN"]),
        ("GRU", second, True),
        ("SimpleRNN", third, False),
        ("LSTM", batch_jacobian, False),
        ("GRU", forward_mode, False),
        ("LSTM", vectorized, False),
        *(("LSTM", checked, graph) for graph in [False, True]),
    ],
)
def test_every_derivative_is_that_of_keras(name, derivative, graph):
    fast, stock, x = pair(name)
    assert fast.is_fast(training=True) and not isinstance(stock, recurrent.FastOnCPU)
    call = tf.function(derivative) if graph else derivative
    for ours, theirs in zip(call(fast, x), derivative(stock, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_the_ordinary_operations_are_the_fast_path(name):
    fast, _, x = pair(name)
    states = [tf.ones((B, H)) for _ in fast.states or fast.get_initial_state(B)]
    weights = fast.cell.kernel, fast.cell.recurrent_kernel, fast.cell.bias
    outputs, after = recurrent.recur(fast.fast_cell, x, states, *weights, training=False)
    weights = map(tf.convert_to_tensor, weights)
    carry = states if name == "GRU" else states[1:]
    found = derivatives.layer(
        fast.fast_cell, tf.transpose(x, (1, 0, 2)), *weights, states[0], *carry
    )
    np.testing.assert_allclose(tf.transpose(found[0], (1, 0, 2)), outputs, atol=1e-6)
    np.testing.assert_allclose(found[-1], after[-1], atol=1e-6)


def test_the_other_layers_have_second_derivatives():
    ids, x = tf.constant([[0, 2, 2]]), tf.random.stateless_normal((1, 3, 4), (0, 0))
    embedding, dense = layers.Embedding(5, 4), layers.Dense(2, "tanh")
    found = []
    for first, last in (
        (embedding, dense),
        (keras.layers.Embedding(5, 4), keras.layers.Dense(2, "tanh")),
    ):
        first(ids), last(x)
        if found:
            first.set_weights(embedding.get_weights())
            last.set_weights(dense.get_weights())
        table = first.embeddings.value
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                loss = tf.reduce_sum(last(first(ids)) ** 2)
            gradient = tf.convert_to_tensor(inner.gradient(loss, table))
            loss = tf.reduce_sum(gradient**2)
        found.append(outer.gradient(loss, table))
    np.testing.assert_allclose(*map(tf.convert_to_tensor, found), rtol=1e-4, atol=1e-7)
