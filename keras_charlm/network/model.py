"""The network: a Keras Sequential of embedding, stacked stateful recurrent layers, logits."""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_charlm.config import ModelConfig
from keras_charlm.network import layers, recurrent
from keras_charlm.network.layers import OneHot
from keras_charlm.network.sequential import Sequential

CELLS = {"lstm": recurrent.LSTM, "gru": recurrent.GRU, "rnn": recurrent.SimpleRNN}


EMBEDDING, LOGITS = "embedding", "logits"


def build(
    config: ModelConfig,
    vocabulary_size: int,
    batch_size: int = 1,
    seed: int = 0,
    policy: str = "float32",
) -> Sequential:
    """Build the network with fresh weights and zero states.

    Where they are tied, the embedding's table gives the logits as well: see `layers.TiedDense`.

    Args:
        config: Shape of the network, with nothing left open (see `config.resolve`).
        vocabulary_size: Width of the logits, the unknown symbol included.
        batch_size: Rows of a batch on one device; each has a recurrent state of its own.
        seed: Seed of the weights, of dropout and of noise.
        policy: Keras dtype policy of the layers; logits are always float32.

    Returns:
        A Sequential from ids int32 (B, T) to logits float32 (B, T, V). LSTM forget biases start
        at 1 (Gers, Schmidhuber and Cummins, "Learning to Forget", 2000; Keras's default).
    """
    seeds = iter(range(seed, seed + 10_000))  # one of its own for each random part
    stack: list[keras.layers.Layer] = [keras.Input(batch_shape=(batch_size, None), dtype="int32")]
    if config.noise:
        stack.append(layers.Blanks(config.noise, seed=next(seeds), name="noise"))
    if config.embedding:
        # Keras's default, a 35th of this, leaves the first layer to learn from next to nothing.
        init = keras.initializers.RandomNormal(stddev=1.0, seed=next(seeds))
        stack.append(
            layers.Embedding(
                vocabulary_size,
                config.embedding,
                name=EMBEDDING,
                embeddings_initializer=init,
                dtype=policy,
            )
        )
    else:
        stack.append(OneHot(vocabulary_size, name=EMBEDDING, dtype=policy))
    for i in range(config.layers):
        stack.append(
            CELLS[config.cell](
                config.units,
                return_sequences=True,
                stateful=True,
                name=f"{config.cell}_{i}",
                kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
                recurrent_initializer=keras.initializers.Orthogonal(seed=next(seeds)),
                dtype=policy,
            )
        )
        if config.dropout:
            stack.append(
                layers.Dropout(config.dropout, seed=next(seeds), name=f"dropout_{i}", dtype=policy)
            )
    if config.tied:
        # Vectors of variance 1 and so many numbers: logits of the size of what is projected.
        init = keras.initializers.VarianceScaling(1 / config.embedding, seed=next(seeds))
        stack.append(
            layers.TiedDense(vocabulary_size, config.embedding, init, name=LOGITS, dtype="float32")
        )
    else:
        init = keras.initializers.GlorotUniform(seed=next(seeds))
        stack.append(
            layers.Dense(vocabulary_size, name=LOGITS, dtype="float32", kernel_initializer=init)
        )
    return Sequential(stack, name="charlm")


def recurrent_layers(model: keras.Model) -> list[keras.layers.RNN]:
    """The stacked recurrent layers, first to last."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.RNN)]


def named_weights(model: keras.Model) -> dict[str, keras.Variable]:
    """What was trained, by layer and name (`lstm_0/kernel`), first layer to last: embedding;
    kernel, recurrent kernel and bias of each recurrent layer; kernel and bias of the logits."""
    return {
        f"{layer.name}/{weight.name}": weight
        for layer in model.layers
        for weight in layer.trainable_weights
    }


def zero_states(model: keras.Model, batch_size: int) -> list[list[tf.Tensor]]:
    """A clean state for `run`: per recurrent layer its list of float32 (B, units)."""
    return [
        [tf.zeros((batch_size, layer.units)) for _ in tf.nest.flatten(layer.cell.state_size)]
        for layer in recurrent_layers(model)
    ]


def run(
    model: keras.Model, ids: tf.Tensor, states: list[list[tf.Tensor]]
) -> tuple[tf.Tensor, list[list[tf.Tensor]]]:
    """Read ids from given states, without dropout or noise and beside the model's own states.

    Args:
        model: A network of `build`; its batch size does not matter here.
        ids: int32 (B, T).
        states: Per recurrent layer its states (B, units), as `zero_states` or `run` gives them.

    Returns:
        Logits float32 (B, T, V) and the states after the last character.
    """
    x, after, states = ids, [], list(states)
    for layer in model.layers:
        if isinstance(layer, keras.layers.RNN):
            x, state = recurrent.run(layer, x, states[len(after)])
            after.append(state)
        elif not isinstance(layer, keras.layers.Dropout):
            x = layer(x)
    return x, after
