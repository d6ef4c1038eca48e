"""Sharing the rows of a batch among the processor's cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import tensorflow as tf

from keras_charlm import cpu
from keras_charlm.network.dispatch import on_cpu_only, plain_layers


def by_core(function: Callable[..., Iterable[tf.Tensor]], *values: tf.Tensor) -> list[tf.Tensor]:
    """Call `function` once for each core, in parallel, on a share of the rows.

    Args:
        function: Maps a share of every value, (rows, ...) each, to tensors (rows, ...).
        *values: (B, ...) each; rows are along the first axis.

    Returns:
        The concatenated results, (B, ...) each.
    """
    batch = (values[0].shape[0] or 0) if values[0].shape.rank else 0  # 0: unknown
    replicas = 1  # on this machine
    if tf.distribute.has_strategy():
        replicas = len(tf.distribute.get_strategy().extended.worker_devices)
    shared = on_cpu_only() and not plain_layers()
    parts = cpu.parts(batch, replicas) if shared else 1
    if parts == 1:
        return list(function(*values))
    rows = [batch // parts + (i < batch % parts) for i in range(parts)]
    shares = zip(*(tf.split(value, rows) for value in values), strict=True)
    if tf.inside_function():  # traced once for all shares with the same number of rows
        function = tf.function(function, autograph=False)
    results = [function(*share) for share in shares]
    return [tf.concat(result, axis=0) for result in zip(*results, strict=True)]
