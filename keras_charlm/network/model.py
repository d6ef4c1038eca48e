"""The network: a Keras Sequential of embedding, stacked stateful recurrent layers, logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_charlm.config import ModelConfig
from keras_charlm.network import layers, recurrent
from keras_charlm.network.dispatch import plain_layers
from keras_charlm.network.names import EMBEDDING, LOGITS, recurrent_name
from keras_charlm.network.sequential import Sequential

# The class of each kind of cell, by its name in `recurrent` and in `keras.layers`.
_CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}


def build(
    config: ModelConfig,
    vocabulary_size: int,
    batch_size: int = 1,
    seed: int = 0,
    policy: str = "float32",
    labels: int = 0,
) -> Sequential:
    """Build the network with fresh weights and zero states.

    If `config.tied`, the logits share the embedding's table: see `layers.TiedDense`.

    Args:
        config: Shape of the network, resolved (see `defaults.resolve`).
        vocabulary_size: Width of the logits, the unknown symbol included.
        batch_size: Rows of a batch on one device; each has its own recurrent state.
        seed: Seed of the weights, of dropout and of noise.
        policy: Keras dtype policy of the layers; logits are always float32.
        labels: Number of labels; they are read like characters, but have no logits.

    Returns:
        A Sequential from ids int32 (B, T) to logits float32 (B, T, V). LSTM forget biases start
        at 1 (Gers, Schmidhuber and Cummins, "Learning to Forget", 2000; Keras's default).
    """
    assert config.layers is not None, "the configuration has to be resolved first"
    seeds = iter(range(seed, seed + 10_000))  # a different one for each random part
    stack: list[Any] = [keras.Input(batch_shape=(batch_size, None), dtype="int32")]
    if config.noise:
        stack.append(layers.Blanks(config.noise, seed=next(seeds), name="noise"))
    stack.append(_embedding(config, vocabulary_size + labels, seeds, policy))
    for i in range(config.layers):
        stack.append(_recurrent(config, i, seeds, policy))
        if config.dropout:
            dropout = keras.layers.Dropout if plain_layers() else layers.Dropout
            stack.append(
                dropout(config.dropout, seed=next(seeds), name=f"dropout_{i}", dtype=policy)
            )
    stack.append(_logits(config, vocabulary_size, seeds))
    return Sequential(stack, name="charlm")


def _embedding(
    config: ModelConfig, inputs: int, seeds: Iterator[int], policy: str
) -> keras.layers.Layer:
    """Ids (B, T) to vectors (B, T, D), or one-hot (B, T, V + L) without an embedding."""
    if not config.embedding:
        return layers.OneHot(inputs, name=EMBEDDING, dtype=policy)
    kind = keras.layers.Embedding if plain_layers() else layers.Embedding
    return kind(
        inputs,
        config.embedding,
        # Keras's default is 35 times smaller: the first layer's input would be almost zero.
        embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=next(seeds)),
        name=EMBEDDING,
        dtype=policy,
    )


def _recurrent(
    config: ModelConfig, layer: int, seeds: Iterator[int], policy: str
) -> keras.layers.RNN:
    """Vectors (B, T, D) to (B, T, H), with a state for each row."""
    kind = getattr(keras.layers if plain_layers() else recurrent, _CLASSES[config.cell])
    return kind(
        config.units,
        return_sequences=True,
        stateful=True,
        kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
        recurrent_initializer=keras.initializers.Orthogonal(seed=next(seeds)),
        name=recurrent_name(config.cell, layer),
        dtype=policy,
    )


def _logits(config: ModelConfig, vocabulary_size: int, seeds: Iterator[int]) -> keras.layers.Layer:
    """Vectors (B, T, H) to logits (B, T, V)."""
    if config.tied and config.embedding:
        # The embedding has variance 1: with this scale the mean square of the logits equals that of
        # the layer's input.
        scaled = keras.initializers.VarianceScaling(1 / config.embedding, seed=next(seeds))
        return layers.TiedDense(
            vocabulary_size, config.embedding, scaled, name=LOGITS, dtype="float32"
        )
    kind = keras.layers.Dense if plain_layers() else layers.Dense
    return kind(
        vocabulary_size,
        kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
        name=LOGITS,
        dtype="float32",
    )


def loss() -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The loss to compile with: from ids (B, T) and logits (B, T, V) to nats (B, T)."""
    return layers.stock_cross_entropy if plain_layers() else layers.cross_entropy


def recurrent_layers(model: keras.Model) -> list[keras.layers.RNN]:
    """The stacked recurrent layers, first to last."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.RNN)]


def named_weights(model: keras.Model) -> dict[str, keras.Variable]:
    """The trainable weights by layer and name (`lstm_0/kernel`), first layer to last.

    They are the embedding; kernel, recurrent kernel and bias of each recurrent layer; kernel and
    bias of the logits.
    """
    return {
        f"{layer.name}/{weight.name}": weight
        for layer in model.layers
        for weight in layer.trainable_weights
    }


def zero_states(model: keras.Model, batch_size: int) -> list[list[tf.Tensor]]:
    """The zero state for `run`: for each recurrent layer its states, float32 (B, H) each."""
    return [
        [tf.zeros((batch_size, layer.units)) for _ in tf.nest.flatten(layer.cell.state_size)]
        for layer in recurrent_layers(model)
    ]


def run(
    model: keras.Model, ids: tf.Tensor, states: list[list[tf.Tensor]]
) -> tuple[tf.Tensor, list[list[tf.Tensor]]]:
    """Read ids from given states, without dropout or noise; the model's own states do not change.

    Args:
        model: A network of `build`, of any batch size.
        ids: int32 (B, T).
        states: For each recurrent layer its states (B, H), as returned by `zero_states` or `run`.

    Returns:
        Logits float32 (B, T, V) and the states after the last character.
    """
    x, states = ids, list(states)
    after: list[list[tf.Tensor]] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.RNN):
            x, state = recurrent.run(layer, x, states[len(after)])
            after.append(state)
        elif not isinstance(layer, keras.layers.Dropout):
            x = layer(x)
    return x, after
