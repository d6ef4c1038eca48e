"""Shapes and dtypes of tensors."""

from __future__ import annotations

import keras
import tensorflow as tf


def leading_sizes(x: tf.Tensor) -> list[tf.Tensor]:
    """The sizes of all axes of `x` but the last."""
    return tf.unstack(tf.shape(x)[:-1])


def flat(x: tf.Tensor) -> tf.Tensor:
    """`x` (T, B, N) as (T * B, N)."""
    return tf.reshape(x, (-1, x.shape[-1]))


def wide(x: tf.Tensor) -> tf.Tensor:
    """`x` in the dtype of element-wise arithmetic: float64 for float64, else float32."""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def rounded(layer: keras.layers.Layer, weight: tf.Tensor) -> tf.Tensor:
    """A weight rounded to the compute dtype of its layer, as float32."""
    return tf.cast(tf.cast(weight, layer.compute_dtype), tf.float32)
