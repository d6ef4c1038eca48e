"""Sharing the rows of a batch among the processor's cores."""

from __future__ import annotations

import tensorflow as tf

from keras_charlm import cpu


def by_core(function, *values):
    """Calls `function` once for each core, with a share of the rows of every value, at the same
    time; rows are along the first axis, of the results too.

    Returns:
        The list of results, each of all rows again.
    """
    batch, replicas = values[0].shape[0], 1  # replicas on this machine
    if tf.distribute.has_strategy():
        replicas = len(tf.distribute.get_strategy().extended.worker_devices)
    parts = cpu.parts(batch or 0, replicas) if on_cpu_only() else 1
    if parts == 1:
        return list(function(*values))
    rows = [batch // parts + (i < batch % parts) for i in range(parts)]
    shares = zip(*(tf.split(value, rows) for value in values), strict=True)
    if tf.inside_function():  # built once for all shares of as many rows, however many cores
        function = tf.function(function, autograph=False)
    results = [function(*share) for share in shares]
    return [tf.concat(result, axis=0) for result in zip(*results, strict=True)]


def leading_sizes(x):
    """The sizes of all axes of `x` but the last."""
    return tf.unstack(tf.shape(x)[:-1])


def flat(x):
    """`x` (T, B, N) as (T * B, N)."""
    return tf.reshape(x, (-1, x.shape[-1]))


def on_cpu_only():
    """Whether TensorFlow sees no device but CPUs, so that cuDNN cannot take the layer over."""
    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


def rounded(layer, weight):
    """A weight as the products of the layer see it, but in float32."""
    return tf.cast(tf.cast(weight, layer.compute_dtype), tf.float32)
