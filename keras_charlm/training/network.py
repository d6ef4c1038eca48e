"""A network of the user's own: checked, described by a ModelConfig, and built for a batch size."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from keras_charlm.config import ModelConfig
from keras_charlm.errors import OptionError
from keras_charlm.network.layers import Blanks, OneHot, TiedDense
from keras_charlm.network.sequential import Sequential

Network: TypeAlias = keras.Sequential | Callable[..., keras.Sequential]

_CELLS: dict[type, str] = {
    keras.layers.LSTM: "lstm",
    keras.layers.GRU: "gru",
    keras.layers.SimpleRNN: "rnn",
}
# What a recurrent layer must be, because the on-device file computes nothing else.
_RECURRENT = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "use_bias": True,
    "return_sequences": True,
    "stateful": True,
    "go_backwards": False,
    "reset_after": True,
}
_ORDER = (
    "a network takes an Embedding (or OneHot), recurrent layers of one kind and width with Dropout "
    "among them, and a Dense (or TiedDense) for the logits"
)


def template(network: Network, rows: int, symbols: int) -> Sequential:
    """The user's network for a batch size.

    Args:
        network: A Sequential, of which a copy is made; or a function of the batch size, and of the
            vocabulary's size if it takes a second argument.
        rows: Rows of a batch on one device.
        symbols: Width of the logits.

    Raises:
        OptionError: It is neither, or not a network that can be exported.
    """
    given: Any = network
    if not isinstance(given, keras.Sequential):
        count = len(inspect.signature(given).parameters)
        given = given(*(rows, symbols)[:count])
        if not isinstance(given, keras.Sequential):
            raise OptionError(
                f"network returned {given!r}; it takes a function that returns a Sequential."
            )
    described(given, symbols)
    copy = rebuilt(given, rows)
    if given.built:
        copy.set_weights(given.get_weights())
    return copy


def rebuilt(network: keras.Sequential, rows: int) -> Sequential:
    """A new network of the same layers, with fresh weights, for another number of rows."""
    layers = [type(layer).from_config(layer.get_config()) for layer in network.layers]
    return Sequential([keras.Input(batch_shape=(rows, None), dtype="int32"), *layers])


def described(network: keras.Sequential, symbols: int) -> ModelConfig:
    """The configuration of a network with the same weights and results.

    Args:
        network: The network.
        symbols: Width that the logits need.

    Raises:
        OptionError: There is none.
    """
    parts = list(network.layers)
    noise = parts.pop(0).rate if parts and isinstance(parts[0], Blanks) else 0.0
    drops = [layer.rate for layer in parts if isinstance(layer, keras.layers.Dropout)]
    parts = [layer for layer in parts if not isinstance(layer, keras.layers.Dropout)]
    if len(parts) < 3:
        raise OptionError(f"The network has too few layers; {_ORDER}.")
    first, *middle, last = parts
    for layer, right in (
        (first, (keras.layers.Embedding, OneHot)),
        *((each, tuple(_CELLS)) for each in middle),
        (last, (keras.layers.Dense, TiedDense)),
    ):
        if not isinstance(layer, right):
            raise OptionError(f"The network has {_shown(layer)} where it cannot; {_ORDER}.")
    kinds = {name for each in middle for kind, name in _CELLS.items() if isinstance(each, kind)}
    if len(kinds) > 1 or len({each.units for each in middle}) > 1:
        raise OptionError(f"The network's recurrent layers differ; {_ORDER}.")
    for each in middle:
        _check(each, _RECURRENT)
    if isinstance(last, keras.layers.Dense):
        _check(last, {"activation": "linear", "use_bias": True})
    width = last.symbols if isinstance(last, TiedDense) else last.units
    if width != symbols:
        raise OptionError(
            f"The network has {width} logits, and the text needs {symbols}: one for each "
            "character of its training part, and one for unknown characters."
        )
    return ModelConfig(
        cell=kinds.pop(),
        layers=len(middle),
        units=middle[0].units,
        embedding=first.output_dim if isinstance(first, keras.layers.Embedding) else 0,
        tied=isinstance(last, TiedDense),
        dropout=max(drops, default=0.0),
        noise=noise,
    )


def _check(layer: keras.layers.Layer, needed: dict[str, Any]) -> None:
    """Raise OptionError unless a layer has these settings, as far as it has such."""
    config = layer.get_config()
    for name, value in needed.items():
        if config.get(name, value) != value:
            raise OptionError(
                f"{_shown(layer)} of the network has {name}={config[name]!r}; the on-device file "
                f"needs {name}={value!r}."
            )


def _shown(layer: keras.layers.Layer) -> str:
    return f"{type(layer).__name__} {layer.name!r}"
