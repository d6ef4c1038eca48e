"""Which code runs: the fast path of this package, compiled by XLA in parts, or Keras's own."""

from __future__ import annotations

import os

import tensorflow as tf
from tensorflow.python.eager import context

# A cell is a dozen small operations, each of which reads and writes memory; XLA fuses them.
fused = tf.function(autograph=False, jit_compile=tf.test.is_built_with_xla() or None)


def on_cpu_only() -> bool:
    """Whether TensorFlow sees no device but CPUs, and no debugger watches its operations.

    Anything else is faster with Keras's code; and XLA cannot compile the checks that
    `tf.debugging.enable_check_numerics` adds to every operation.
    """
    return not context.context().op_callbacks and all(
        device.device_type == "CPU" for device in tf.config.list_logical_devices()
    )


def plain_layers() -> bool:
    """Whether the user asks for Keras's own layers, to compare results.

    With the environment variable `KERAS_CHARLM_PLAIN_LAYERS` set to 1, `model.build` makes the
    layers of `keras.layers` (LSTM, GRU, SimpleRNN, Embedding, Dense, Dropout), the loss is
    `keras.losses.sparse_categorical_crossentropy`, no batch is split among the cores, and texts
    are scored layer by layer with the same layers. Weights have the same names and, from the same
    seed, the same values, so a model trained either way can be opened the other way. `TiedDense`,
    `OneHot` and `Blanks` have no counterpart in Keras and are kept, as is the training loop
    (`sequential`).

    Dropout draws different masks, so set it to 0 when comparing training runs; in bfloat16 the two
    round differently, so compare in float32.
    """
    return os.environ.get("KERAS_CHARLM_PLAIN_LAYERS", "0") not in ("", "0")
