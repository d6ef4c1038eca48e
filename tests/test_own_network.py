"""`fit(network=)`: a Sequential of the user's in place of the one that `fit` builds."""

import keras
import numpy as np
import pytest
from conftest import babble

import keras_charlm
from keras_charlm.errors import OptionError
from keras_charlm.training.network import described, rebuilt, template
from keras_charlm.training.own import Own, restored

layers = keras.layers
FIT = {"batch_size": 4, "seq_length": 8, "epochs": 2, "verbose": 0, "text": babble(600)}


def network(rows=4, symbols=20, units=(6, 6), cell=layers.GRU, **settings):
    return keras.Sequential(
        [
            keras.Input(batch_shape=(rows, None), dtype="int32"),
            layers.Embedding(symbols, 5),
            layers.Dropout(0.1),
            *(cell(n, return_sequences=True, stateful=True, **settings) for n in units),
            layers.Dense(symbols),
        ]
    )


def test_arguments_that_do_not_fit_a_network_are_refused():
    with pytest.raises(OptionError, match="has 20 logits, and the text needs"):
        keras_charlm.fit(network=network(), **FIT)
    with pytest.raises(OptionError, match="Both a network and cell were given"):
        keras_charlm.fit(network=network(), cell="gru", **FIT)
    with pytest.raises(OptionError, match="Both a network and init_from"):
        keras_charlm.fit(network=network(), init_from="names", **FIT)


def test_a_checkpoint_has_the_network():
    given = template(lambda rows: network(rows), 4, 20)
    again = restored(Own(network=given).serialized(), Own()).network
    assert described(again, 20) == described(given, 20)
    layers = [network.get_config()["layers"][1:] for network in (rebuilt(again, 4), given)]
    assert layers[0] == layers[1]


def test_a_network_of_any_batch_size_keeps_its_weights():
    given = network(rows=2)
    copy = template(given, 8, 20)
    assert copy.input_shape == (8, None)
    for mine, theirs in zip(copy.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: network(activation="relu"), "has activation='relu'; the on-device file needs"),
        (lambda: network(reset_after=False), "has reset_after=False"),
        (lambda: network(units=(6, 7)), "recurrent layers differ"),
        (lambda: network(units=()), "too few layers"),
        (lambda: keras.Sequential([*network().layers[:2], layers.LayerNormalization(),
                                   *network().layers[2:]]), "has LayerNormalization"),
    ],
    ids=["activation", "reset", "widths", "few", "norm"],
)  # fmt: skip
def test_networks_that_cannot_be_exported_are_refused(given, message):
    with pytest.raises(OptionError, match=message):
        described(given(), 20)


def test_something_else_is_refused():
    with pytest.raises(OptionError, match="network is 3; it takes a Sequential"):
        keras_charlm.fit(network=3, **FIT)
    with pytest.raises(OptionError, match="it takes a function that returns a Sequential"):
        template(lambda rows: "a network", 4, 20)
