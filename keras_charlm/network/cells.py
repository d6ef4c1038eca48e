"""The equations of each recurrent cell at one time step, forward and backward."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

# A cell is a dozen small operations, each a trip through memory; XLA fuses them into one.
fused = tf.function(autograph=False, jit_compile=tf.test.is_built_with_xla() or None)


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """The element-wise part of a recurrent layer at one time step.

    All of it is in float32 or wider. The carry is whatever goes from step to step beside the
    output `h`: a tuple of (B, H), because sums over hundreds of steps must not round to eight bits.
    """

    # (x, u, bias, carry) -> (h, carry, saved), where x and u are the projections of the input and
    # of the last h, (B, G), and saved is what the backward pass cannot do without: the gates and
    # the carry before the step, a list of (B, H); with axis=0 all of these are transposed
    forward: Callable
    # (dh, dcarry, saved) -> (dcarry, [dx, du]), or (dcarry, [dx]) where x and u are only ever added
    backward: Callable
    saves: int  # how many things there are in saved
    gradients: int  # how many there are of dx and du


def wide(x):
    """`x` in the dtype of element-wise arithmetic: float64 for float64, else float32."""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def _lstm_forward(x, u, bias, carry, axis=1):
    (c,) = carry
    z = x + u + bias
    # All gates at once, as tanh(z) is 2 sigmoid(2z) - 1: XLA is slow at putting parts together.
    candidate = tf.repeat(tf.constant([0, 0, 1, 0], z.dtype), c.shape[axis])
    candidate = tf.expand_dims(candidate, 1 - axis)
    gates = tf.sigmoid(z * (1 + candidate)) * (1 + candidate) - candidate
    i, f, g, o = tf.split(gates, 4, axis)
    c_next = f * c + i * g
    return o * tf.tanh(c_next), (c_next,), [i, f, g, o, c]


def _lstm_backward(dh, dcarry, saved):
    (dc,), (i, f, g, o, c) = dcarry, saved
    t = tf.tanh(f * c + i * g)
    dc += dh * o * (1 - t * t)
    dz = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g), dh * t * o * (1 - o)]
    return (dc * f,), [tf.concat(dz, 1)]


def _gru_forward(x, u, bias, carry, axis=1):
    (h,) = carry
    xz, xr, xg = tf.split(x + bias[0], 3, axis)
    uz, ur, ug = tf.split(u + bias[1], 3, axis)
    z, r = tf.sigmoid(xz + uz), tf.sigmoid(xr + ur)
    g = tf.tanh(xg + r * ug)
    h_next = z * h + (1 - z) * g
    return h_next, (h_next,), [z, r, g, ug, h]


def _gru_backward(dh, dcarry, saved):
    (dh_carry,), (z, r, g, ug, h) = dcarry, saved
    dh += dh_carry
    dz = dh * (h - g) * z * (1 - z)
    dg = dh * (1 - z) * (1 - g * g)
    dr = dg * ug * r * (1 - r)
    return (dh * z,), [tf.concat([dz, dr, dg], 1), tf.concat([dz, dr, dg * r], 1)]


def _simple_forward(x, u, bias, carry, axis=1):
    h = tf.tanh(x + u + bias)
    return h, carry, [h]


def _simple_backward(dh, dcarry, saved):
    (h,) = saved
    return dcarry, [dh * (1 - h * h)]


LSTM_CELL = Cell(_lstm_forward, _lstm_backward, saves=5, gradients=1)


GRU_CELL = Cell(_gru_forward, _gru_backward, saves=5, gradients=2)


SIMPLE_CELL = Cell(_simple_forward, _simple_backward, saves=1, gradients=1)
