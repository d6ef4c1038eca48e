"""`fit(network=)`: a Sequential of the user's in place of the one that `fit` builds."""

import keras
import numpy as np
import pytest
from conftest import babble

import keras_charlm
from keras_charlm.errors import OptionError
from keras_charlm.training.network import described, template

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


def test_a_network_trains_resumes_and_generates(tmp_path, monkeypatch):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    made = []

    def build(rows, symbols):
        made.append(network(rows, symbols))
        return made[-1]

    with pytest.raises(keras_charlm.Interrupted):
        keras_charlm.fit(output="own", network=build, callbacks=Stop(), **FIT)
    model = keras_charlm.resume("own", verbose=0)
    shape = model.card.model
    assert (shape.cell, shape.layers, shape.units, shape.embedding) == ("gru", 2, 6, 5)
    assert shape.dropout == pytest.approx(0.1) and not shape.tied
    assert len(model.history["loss"]) == 2 and model.history["loss"][1] < model.history["loss"][0]
    assert len(model.generate("the", length=20, seed=1)) == 23
    trained, begun = model.model.get_weights(), made[0].get_weights()
    assert [a.shape for a in trained] == [b.shape for b in begun]
    assert not np.allclose(trained[0], begun[0])
    with pytest.raises(OptionError, match="has 20 logits, and the text needs"):
        keras_charlm.fit(network=network(), **FIT)
    with pytest.raises(OptionError, match="Both a network and cell were given"):
        keras_charlm.fit(network=network(), cell="gru", **FIT)
    with pytest.raises(OptionError, match="Both a network and init_from"):
        keras_charlm.fit(network=network(), init_from="names", **FIT)


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
