"""Sampling the next character: temperature, top-k, top-p, min-p, and seeded random numbers.

Only built-in operators of TensorFlow Lite are used, so that the same code samples during training,
in the on-device file and in a browser. Letters in shapes: B rows, V symbols.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# Where processors treat smaller numbers as 0, dividing by one gives NaN.
_LEAST_NORMAL = float(np.finfo(np.float32).tiny)
# The constants of `uniform`, which `export.uniform` computes with other operators.
SEED, START, POSITION = 0x9E3779B1, 0x7F4A7C15, 0xC2B2AE3D
MIXING = ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1))  # a shift, and the factor after it


def uniform(seed: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Uniform random numbers that depend only on a seed and a position.

    A counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)
    with the finalizer of MurmurHash3 (Appleby, 2011) as its mixing function. It has no state, so a
    text can be drawn in pieces, and a row does not depend on the other rows.

    Args:
        seed: int32 (B,), or any shape.
        position: int32, of a shape that broadcasts with the seed's.

    Returns:
        float32 in [0, 1), multiples of 2**-24, of the broadcast shape.
    """
    key = _mix(tf.cast(seed, tf.uint32) * _u32(SEED) ^ _u32(START))
    bits = _mix(_mix(key ^ tf.cast(position, tf.uint32) * _u32(POSITION)) + key)
    # A float32 represents 24 bits exactly.
    return tf.cast(tf.cast(_shift(bits, 8), tf.int32), tf.float32) * 2.0**-24


def draw(
    logits: tf.Tensor,
    uniform: tf.Tensor,
    temperature: tf.Tensor | float = 1.0,
    top_k: tf.Tensor | int = 0,
    top_p: tf.Tensor | float = 1.0,
    min_p: tf.Tensor | float = 0.0,
) -> tf.Tensor:
    """Draw one id for each row, never the unknown symbol (id 0).

    The logits are divided by the temperature, then restricted to the `top_k` most likely, then to
    the nucleus: the smallest set of most likely characters with at least `top_p` of the remaining
    probability, at least one (Holtzman et al., "The Curious Case of Neural Text Degeneration",
    2020), then to the characters with at least `min_p` of the most likely one's probability (Nguyen
    et al., "Turning Up the Heat: Min-p Sampling", 2024). This is the order of Hugging Face's
    `generate` and of most other samplers. All keep a prefix of the sorted characters, so one sort
    and one cumulative sum serve for all, and for inverse transform sampling.

    Args:
        logits: float32 (B, V).
        uniform: float32 (B,) in [0, 1).
        temperature: Scalar, (1,), or (B, 1) for a setting per row; 0, like any number too small
            for a normal float32, takes the most likely character, like `top_k` 1.
        top_k: Of the same shapes; 0 for all.
        top_p: Of the same shapes; above 0 and at most 1.
        min_p: Of the same shapes; from 0, which keeps all, to 1.

    Returns:
        int32 (B,).
    """
    known = logits[:, 1:]  # (B, V - 1)
    size = known.shape[1]
    # Float16 files round this bound to 0, so the comparison includes it.
    greedy = tf.less_equal(temperature, _LEAST_NORMAL)
    divisor = tf.where(greedy, 1.0, temperature)
    kept = tf.where(greedy, 1, tf.where(tf.equal(top_k, 0), size, top_k))
    # Without any of them the order does not matter, and sorting thousands of characters is slow.
    cut = (kept < size) | tf.less(top_p, 1.0) | tf.greater(min_p, 0.0)
    unsorted = known, tf.zeros_like(known, tf.int32) + tf.range(size)  # (B, V - 1) each

    def sorted_where_cut():
        # A row that keeps all stays unsorted, so that its result does not depend on the settings of
        # the other rows.
        values, order = tf.math.top_k(known, size)
        return tf.where(cut, values, unsorted[0]), tf.where(cut, order, unsorted[1])

    values, order = tf.cond(tf.reduce_any(cut), sorted_where_cut, lambda: unsorted)
    # Subtract the largest before dividing, so that no temperature, however low, overflows.
    largest = tf.reduce_max(known, axis=1, keepdims=True)
    weights = tf.exp((values - largest) / divisor)
    weights = tf.where(tf.range(size) < kept, weights, 0.0)
    below = tf.cumsum(weights, axis=1)
    # Index of the last character kept: those before it have less than top_p in total. The most
    # likely one weighs 1.
    likely = _count(weights >= min_p)
    last = tf.minimum(_count(below < top_p * below[:, -1:]), likely - 1)  # (B,)
    mass = tf.gather(below, last, batch_dims=1)
    # u * mass can round up to mass itself, hence the minimum.
    index = tf.minimum(_count(below <= (uniform * mass)[:, None]), last)
    return tf.gather(order, index, batch_dims=1) + 1


def _count(mask: tf.Tensor) -> tf.Tensor:
    """How many are true in each row of bool (B, V - 1), int32 (B,)."""
    return tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)


def _u32(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)


def _shift(x: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(x, _u32(bits))


def _mix(x: tf.Tensor) -> tf.Tensor:
    """The finalizer of MurmurHash3 on uint32 of any shape."""
    for bits, factor in MIXING:
        x ^= _shift(x, bits)
        if factor > 1:
            x *= _u32(factor)
    return x
