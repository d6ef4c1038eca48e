"""The equations of each recurrent cell for training: one time step, with its analytic gradient.

They are separate from `equations`, because they also return what the gradient needs, and take the
matrix products as arguments, so that those can be computed apart from the element-wise part.

Letters in shapes: B sequences, H units, G gate columns of the kernels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

Carry = Sequence[tf.Tensor]  # (B, H) each
Forward = tuple[tf.Tensor, Carry, list[tf.Tensor]]  # h, carry, saved
Backward = tuple[Carry, list[tf.Tensor]]  # dcarry, [dx, du] or [dx]


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """The element-wise part of a recurrent layer at one time step.

    It computes in float32 or wider. The carry is what passes from step to step besides the output
    `h`: a tuple of (B, H), never in bfloat16, whose 8 bits of precision do not suffice for sums
    over hundreds of steps.

    Attributes:
        forward: (x, u, bias, carry) -> (h, carry, saved), where x and u are the projections of the
            input and of the last h, (B, G), and saved is what `backward` needs: the gates and the
            carry before the step, a list of (B, H). With `axis=0` all of these are transposed.
        backward: (dh, dcarry, saved) -> (dcarry, [dx, du]), or (dcarry, [dx]) if x and u are only
            added, so that their gradients are equal.
        saves: Number of tensors in saved.
        gradients: Number of tensors in [dx, du].
    """

    forward: Callable[..., Forward]
    backward: Callable[..., Backward]
    saves: int
    gradients: int


def _lstm_forward(
    x: tf.Tensor, u: tf.Tensor, bias: tf.Tensor, carry: Carry, axis: int = 1
) -> Forward:
    (c,) = carry
    z = x + u + bias
    # All gates in one sigmoid, using tanh(z) = 2 sigmoid(2z) - 1: XLA concatenates slowly.
    candidate = tf.repeat(tf.constant([0, 0, 1, 0], z.dtype), c.shape[axis])
    candidate = tf.expand_dims(candidate, 1 - axis)
    gates = tf.sigmoid(z * (1 + candidate)) * (1 + candidate) - candidate
    i, f, g, o = tf.split(gates, 4, axis)
    c_next = f * c + i * g
    return o * tf.tanh(c_next), (c_next,), [i, f, g, o, c]


def _lstm_backward(dh: tf.Tensor, dcarry: Carry, saved: list[tf.Tensor]) -> Backward:
    (dc,), (i, f, g, o, c) = dcarry, saved
    t = tf.tanh(f * c + i * g)
    dc += dh * o * (1 - t * t)
    dz = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g), dh * t * o * (1 - o)]
    return (dc * f,), [tf.concat(dz, 1)]


def _gru_forward(
    x: tf.Tensor, u: tf.Tensor, bias: tf.Tensor, carry: Carry, axis: int = 1
) -> Forward:
    (h,) = carry
    xz, xr, xg = tf.split(x + bias[0], 3, axis)
    uz, ur, ug = tf.split(u + bias[1], 3, axis)
    z, r = tf.sigmoid(xz + uz), tf.sigmoid(xr + ur)
    g = tf.tanh(xg + r * ug)
    h_next = z * h + (1 - z) * g
    return h_next, (h_next,), [z, r, g, ug, h]


def _gru_backward(dh: tf.Tensor, dcarry: Carry, saved: list[tf.Tensor]) -> Backward:
    (dh_carry,), (z, r, g, ug, h) = dcarry, saved
    dh += dh_carry
    dz = dh * (h - g) * z * (1 - z)
    dg = dh * (1 - z) * (1 - g * g)
    dr = dg * ug * r * (1 - r)
    return (dh * z,), [tf.concat([dz, dr, dg], 1), tf.concat([dz, dr, dg * r], 1)]


def _simple_forward(
    x: tf.Tensor, u: tf.Tensor, bias: tf.Tensor, carry: Carry, axis: int = 1
) -> Forward:
    h = tf.tanh(x + u + bias)
    return h, carry, [h]


def _simple_backward(dh: tf.Tensor, dcarry: Carry, saved: list[tf.Tensor]) -> Backward:
    (h,) = saved
    return dcarry, [dh * (1 - h * h)]


LSTM_CELL = Cell(_lstm_forward, _lstm_backward, saves=5, gradients=1)
GRU_CELL = Cell(_gru_forward, _gru_backward, saves=5, gradients=2)
SIMPLE_CELL = Cell(_simple_forward, _simple_backward, saves=1, gradients=1)
