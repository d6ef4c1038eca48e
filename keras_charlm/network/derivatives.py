"""Higher derivatives of the fast path, in ordinary TensorFlow operations.

The loops of the fast path are XLA programs with an analytic gradient, which TensorFlow cannot
differentiate again. Whoever does pays for it: this code is slower, and keeps every step in memory.

Letters in shapes: B sequences, T time steps, D input features, H units, G gate columns of the
kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from keras_charlm.network.cells import Cell
from keras_charlm.network.tensors import flat, leading_sizes, wide


def layer(
    cell: Cell,
    x: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    h: tf.Tensor,
    *carry: tf.Tensor,
) -> list[tf.Tensor]:
    """A whole recurrent layer, differentiable any number of times.

    Args:
        cell: The equations.
        x: (T, B, D).
        kernel: (D, G).
        recurrent_kernel: (H, G).
        bias: (G,), or (2, G) for the GRU.
        h: The output before the first step, (B, H), float32 or wider.
        *carry: (B, H) each, float32 or wider.

    Returns:
        outputs (T, B, H) in the dtype of `x`, the last h and the last carry, (B, H) each.
    """
    projected = tf.reshape(flat(x) @ kernel, (*leading_sizes(x), kernel.shape[1]))
    projected.set_shape((*x.shape[:2], kernel.shape[1]))

    def step(state, x):
        h, *carry = state
        u = tf.cast(h, kernel.dtype) @ recurrent_kernel
        h, carry, _ = cell.forward(wide(x), wide(u), wide(bias), carry)
        return [h, *carry]

    outputs, *carries = tf.scan(step, projected, [h, *carry])  # (T, B, H) each
    return [tf.cast(outputs, x.dtype), outputs[-1], *(c[-1] for c in carries)]


def differentiable(
    cell: Cell,
    arguments: Sequence[tf.Tensor],
    upstream: Sequence[tf.Tensor],
    backward: Callable[..., Sequence[tf.Tensor]],
) -> Sequence[tf.Tensor]:
    """The gradients of a layer from the fast path, with derivatives from `layer`.

    Args:
        cell: The equations.
        arguments: Those of `layer` after the cell.
        upstream: Gradients of its results.
        backward: Maps `upstream` to the gradients of `arguments`.

    Returns:
        The gradients of `arguments`.
    """

    count = len(arguments)

    @tf.function(autograph=False)
    def again(values, dgradients):
        arguments, upstream = values[:count], values[count:]
        # Not by tapes: forward mode calls this while it has stopped them all.
        gradients = tf.gradients(layer(cell, *arguments), arguments, upstream)
        return tf.gradients(gradients, values, dgradients, unconnected_gradients="zero")

    @tf.custom_gradient
    def first(*values):
        # Prevents an outer gradient tape from recording the loops.
        gradients = backward(*map(tf.stop_gradient, values[count:]))

        def second(*dgradients):
            # Forward mode has None for the arguments that are constant.
            dgradients = [
                tf.zeros_like(gradient) if d is None else d
                for gradient, d in zip(gradients, dgradients, strict=True)
            ]
            return again(list(values), dgradients)

        return gradients, second

    return first(*arguments, *upstream)
