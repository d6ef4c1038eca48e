"""The layers other than the recurrent ones, and the loss, each with a fast path on the CPU.

Letters in shapes: B sequences, T time steps, D columns of the embedding, H inputs, V symbols.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_charlm.network import sampling
from keras_charlm.network.cores import by_core
from keras_charlm.network.dispatch import fused, on_cpu_only
from keras_charlm.network.tensors import flat, leading_sizes, rounded, wide

# Largest vocabulary for which an embedding's gradient is a product with one-hot vectors.
_ONE_HOT = 256


@keras.saving.register_keras_serializable(package="keras_charlm")
class Embedding(keras.layers.Embedding):
    """`keras.layers.Embedding` with a faster gradient on the CPU.

    The gradient of the table is a dense array, for a small vocabulary a product with one-hot
    vectors. Keras passes a sparse gradient to the optimizer, and its Adam then squares the parts of
    an id that occurs several times in a batch before adding them, not after.

    Arguments and results are those of `keras.layers.Embedding`. Sparse inputs and LoRA are left to
    Keras's code.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.lora_enabled or not isinstance(inputs, tf.Tensor):
            return super().call(inputs)

        table = tf.cast(self.embeddings, self.compute_dtype)
        by_product = self.input_dim <= _ONE_HOT and on_cpu_only()

        def share(ids):
            @tf.custom_gradient
            def look_up(table):
                def gradient(dy):
                    rows, symbols = flat(dy), tf.reshape(ids, [-1])
                    if not by_product:
                        return tf.math.unsorted_segment_sum(rows, symbols, self.input_dim)
                    one_hot = tf.one_hot(symbols, self.input_dim, dtype=dy.dtype)
                    return tf.matmul(one_hot, rows, transpose_a=True)  # (V, D)

                return tf.gather(table, ids), gradient

            return [look_up(table)]

        ids = inputs if inputs.dtype in (tf.int32, tf.int64) else tf.cast(inputs, tf.int32)
        ids = tf.where(ids < 0, ids + self.input_dim, ids)  # as Keras: they count from the end
        (rows,) = by_core(share, ids)
        return rows

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Quantize the table with Keras's code; see `keras.layers.Embedding.quantize`."""
        # Keras refuses subclasses, because they may compute something else; this class does not.
        super().quantize(mode, type_check and type(self) is not Embedding, config)

    def vectors(self) -> tf.Tensor:
        """The vector of each id as the next layer reads it, float32 (V, D)."""
        return rounded(self, self.embeddings)


@keras.saving.register_keras_serializable(package="keras_charlm")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` with the rows split among the cores.

    Arguments and results are those of `keras.layers.Dense`. Sparse inputs are left to Keras's code.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not isinstance(inputs, tf.Tensor):
            return super().call(inputs, training=training)
        (outputs,) = by_core(lambda rows: [super(Dense, self).call(rows)], inputs)
        return outputs

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Quantize the kernel with Keras's code; see `keras.layers.Dense.quantize`."""
        # Keras refuses subclasses, because they may compute something else; this class does not.
        super().quantize(mode, type_check and type(self) is not Dense, config)

    def affine(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The kernel (H, V) and the bias (V,)."""
        return tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)


@keras.saving.register_keras_serializable(package="keras_charlm")
class TiedDense(keras.layers.Layer):
    """Logits that share the table of an embedding.

    The input is projected to the embedding's width; the logit of a symbol is the dot product with
    the symbol's vector, plus a bias.

    Source: Press and Wolf, "Using the Output Embedding to Improve Language Models", EACL 2017.

    Args:
        symbols: Rows of the table that have logits, V: the first ones.
        width: Columns of the table, D.
        kernel_initializer: Initializer of the projection (H, D).
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: (B, T, H).

    Returns:
        (B, T, V).
    """

    def __init__(self, symbols: int, width: int, kernel_initializer: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.symbols, self.width = symbols, width
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def tie(self, embedding: keras.layers.Embedding) -> None:
        """Use the table of an embedding, before the first call."""
        # Keras does not track it inside a function, so it remains a weight of the embedding only.
        rows = self.symbols if embedding.input_dim > self.symbols else None
        self.table = lambda: tf.convert_to_tensor(embedding.embeddings)[:rows]

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(
            (shape[-1], self.width), initializer=self.kernel_initializer, name="kernel"
        )
        self.bias = self.add_weight((self.symbols,), initializer="zeros", name="bias")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel, table, bias = (
            tf.convert_to_tensor(w) for w in (self.kernel, self.table(), self.bias)
        )

        def share(rows):
            logits = tf.matmul(flat(rows) @ kernel, table, transpose_b=True) + bias
            return [tf.reshape(logits, (*leading_sizes(rows), self.symbols))]

        (outputs,) = by_core(share, inputs)
        return outputs

    def affine(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The product of projection and table as one kernel (H, V), and the bias (V,)."""
        return (
            tf.matmul(self.kernel, self.table(), transpose_b=True),
            tf.convert_to_tensor(self.bias),
        )

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:-1], self.symbols)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "symbols": self.symbols,
            "width": self.width,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@fused
def _masked(x: tf.Tensor, row: tf.Tensor, seed: tf.Tensor, rate: float) -> tf.Tensor:
    """`x` (B, ...) with a random share `rate` of zeros, the others scaled to keep the mean.

    `row` (B,) holds the indices of these rows in the whole batch: each value of the mask depends
    only on the seed and its position in the whole batch.
    """
    positions = tf.reshape(tf.range(tf.size(x)), tf.shape(x)) + row[0] * tf.size(x[0])
    kept = tf.cast(sampling.uniform(seed, positions) >= rate, x.dtype)
    return tf.cast(wide(x * kept) / (1 - rate), x.dtype)


def _next_seed(layer: keras.layers.Dropout) -> tf.Tensor:
    """The seed of a random layer and the count of its draws, int32 (2,)."""
    return tf.cast(layer.seed_generator.next(), tf.int32)


def _replica() -> tf.Tensor | int:
    """The number of the replica that runs this, int32 ()."""
    replica = tf.distribute.get_replica_context()
    return replica.replica_id_in_sync_group if replica else 0


@keras.saving.register_keras_serializable(package="keras_charlm")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` with different masks, which are drawn faster on the CPU.

    Each replica of a distribution strategy draws its own mask, whereas Keras draws one for all.

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
    JMLR 15, 2014.

    Arguments and results are those of `keras.layers.Dropout`.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.noise_shape is not None or not 0 < self.rate < 1:
            return super().call(inputs, training=training)
        seed, number = _next_seed(self), _replica()
        if not on_cpu_only():
            seed = tf.random.experimental.stateless_fold_in(seed, number)
            return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed)
        # Odd factors lose no bits of the three numbers; the generator mixes them.
        seed = seed[0] * 0x01000193 + seed[1] * 0x0019660D + number * 0x3C6EF35F

        def share(x, row):
            @tf.custom_gradient
            def drop(x):
                return (
                    _masked(x, row, seed, self.rate),
                    lambda dy: _masked(dy, row, seed, self.rate),
                )

            return [drop(x)]

        (outputs,) = by_core(share, inputs, tf.range(tf.shape(inputs)[0]))
        return outputs


@keras.saving.register_keras_serializable(package="keras_charlm")
class Blanks(keras.layers.Dropout):
    """Replaces a random share of the ids with 0 in training, against overfitting.

    Source: Xie et al., "Data Noising as Smoothing in Neural Network Language Models", ICLR 2017,
    section 3, blank noising.

    Arguments are those of `keras.layers.Dropout`. Inputs and results are ids of any integer dtype
    and shape; the shape is unchanged.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or not self.rate:
            return inputs
        seed = tf.random.experimental.stateless_fold_in(_next_seed(self), _replica())
        kept = tf.random.stateless_uniform(tf.shape(inputs), seed) >= self.rate
        return tf.where(kept, inputs, tf.zeros_like(inputs))


def cross_entropy(ids: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The loss of each character, with the rows split among the cores.

    It equals `keras.losses.sparse_categorical_crossentropy` from logits.

    Args:
        ids: (B, T), of any dtype, because Keras casts them to float; a negative one is no
            character, and its loss is 0.
        logits: (B, T, V).

    Returns:
        Nats (B, T), of which Keras takes the mean.
    """

    def share(ids, logits):
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(ids, 0), logits)
        return [tf.where(ids < 0, 0.0, nats)]

    (nats,) = by_core(share, tf.cast(ids, tf.int32), logits)
    return nats


def stock_cross_entropy(ids: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`cross_entropy` with Keras's code; see `dispatch.plain_layers`."""
    nats = keras.losses.sparse_categorical_crossentropy(
        keras.ops.maximum(ids, 0), logits, from_logits=True
    )
    return keras.ops.where(ids < 0, 0.0, nats)


def likeliest(logits: tf.Tensor) -> tf.Tensor:
    """The id with the largest logit, with the rows split among the cores.

    Args:
        logits: (..., V).

    Returns:
        int32 (...).
    """
    (ids,) = by_core(lambda rows: [tf.argmax(rows, -1, tf.int32)], logits)
    return ids


@keras.saving.register_keras_serializable(package="keras_charlm")
class OneHot(keras.layers.Layer):
    """One-hot vectors of ids, the input of char-rnn.

    Args:
        size: Number of symbols, V.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        ids: int (B, T).

    Returns:
        (B, T, V) in the compute dtype.
    """

    def __init__(self, size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = size

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(ids, self.size, dtype=self.compute_dtype)

    def vectors(self) -> tf.Tensor:
        """The vector of each id, float32 (V, V)."""
        return tf.eye(self.size)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape, self.size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}
