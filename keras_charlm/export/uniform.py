"""The random numbers of `sampling.uniform` from operators that TensorFlow Lite 2.12 has.

It has no XOR, no shifts and no unsigned integers. Here an int32 holds the 32 bits of a number:
products and sums wrap as those of an unsigned one do. Bits come from float32 arithmetic, which is
exact below 2**24 and faster than integer division.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_charlm.network.sampling import MIXING, POSITION, SEED, START


def _int32(value: int) -> np.int32:
    return np.uint32(value).astype(np.int32)


# Each a shift as a divisor, the modulus that clears copies of the sign bit, and the next factor.
_TURNS = np.array([(2**n, 2 ** (32 - n), _int32(factor)) for n, factor in MIXING], np.int32)
_BITS = np.arange(16, dtype=np.float32)[:, None]  # (16, 1)
# The converter may store them as float16, whose powers of two go from -24 to 15.
_HALVINGS, _POWERS = 2.0**-_BITS, 2.0**_BITS


def uniform(seed: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """The same numbers as `sampling.uniform`, with the same arguments, of static shapes."""
    shape = tf.broadcast_static_shape(seed.shape, position.shape)

    def flat(x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.broadcast_to(x, shape), [-1])

    start = tf.reshape(seed * _int32(SEED), [-1])
    key = _mix(_xor(start, tf.fill(start.shape, _int32(START))))  # (n,), of the seeds alone
    key = flat(tf.reshape(key, seed.shape))
    bits = _mix(_mix(_xor(key, flat(position * _int32(POSITION)))) + key)
    return tf.reshape(tf.cast(bits // 2**8 % 2**24, tf.float32) * 2.0**-24, shape)


def _xor(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Bitwise exclusive or of int32 (n,)."""
    pair = tf.stack([a, b])
    halves = tf.cast(tf.stack([pair // 2**16, pair]), tf.int16)  # (2, 2, n): high and low bits
    # Bit i of a half is the parity of half / 2**i, rounded down; a sum of two has the XOR's parity.
    shifted = tf.floor(tf.cast(halves, tf.float32)[:, :, None] * _HALVINGS)  # (2, 2, 16, n)
    odd = tf.reduce_sum(shifted, axis=1) * 0.5  # (2, 16, n)
    odd -= tf.floor(odd)  # 0.5 where the bit is 1
    high_low = tf.cast(2 * tf.reduce_sum(odd * _POWERS, axis=1), tf.int32)  # (2, n)
    return tf.reduce_sum(high_low * np.array([[2**16], [1]], np.int32), axis=0)


def _mix(x: tf.Tensor) -> tf.Tensor:
    """All of `MIXING` on int32 (n,), in a loop, so that the file has its operators once."""

    def turn(n: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        divisor, modulus, factor = tf.unstack(tf.gather(_TURNS, n))
        return n + 1, _xor(x, x // divisor % modulus) * factor

    return tf.while_loop(lambda n, _: n < len(_TURNS), turn, (tf.constant(0), x))[1]
