"""With Keras's own layers and loss a training comes to the same weights and scores."""

import keras
import numpy as np
import pytest
from conftest import TINY, train

import keras_charlm
from keras_charlm.config import ModelConfig
from keras_charlm.network import model, recurrent

SWITCH = "KERAS_CHARLM_PLAIN_LAYERS"


def build(cell, tied=False, embedding=4):
    config = ModelConfig(cell, layers=2, units=8, embedding=embedding, tied=tied, dropout=0.1)
    return model.build(config, 10, batch_size=2, seed=3)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("tied, embedding", [(False, 4), (True, 4), (False, 0)])
def test_the_switch_takes_the_layers_of_keras(cell, tied, embedding, monkeypatch):
    fast = build(cell, tied, embedding)
    monkeypatch.setenv(SWITCH, "1")
    plain = build(cell, tied, embedding)
    ours = {type(layer).__name__ for layer in plain.layers if "charlm" in type(layer).__module__}
    assert ours == ({"TiedDense"} if tied else set()) | (set() if embedding else {"OneHot"})
    assert isinstance(plain.layers[1], keras.layers.RNN)
    weights = [model.named_weights(network) for network in (fast, plain)]
    assert [*weights[0]] == [*weights[1]]
    for name, weight in weights[0].items():
        np.testing.assert_array_equal(weight, weights[1][name])
    monkeypatch.setenv(SWITCH, "0")
    assert [type(layer) for layer in build(cell, tied, embedding).layers] == [
        type(layer) for layer in fast.layers
    ]


def refuse_the_fast_path(monkeypatch):
    """Take Keras's own layers, and fail where ours are run."""

    def refused(*_, **__):
        raise AssertionError("the fast path runs")

    monkeypatch.setenv(SWITCH, "1")
    monkeypatch.setattr(recurrent, "recur", refused)
    monkeypatch.setattr(recurrent, "stepper", refused)
    monkeypatch.setattr(model.layers, "cross_entropy", refused)


@pytest.mark.parametrize("cell, layers", [("lstm", 2), ("gru", 1), ("rnn", 1)])
def test_both_ways_come_to_the_same_weights_and_losses(
    cell, layers, text_file, tmp_path, monkeypatch
):
    settings = {**TINY, "layers": layers, "cell": cell, "dropout": 0.0, "precision": "float32"}
    losses = [keras.callbacks.History(), keras.callbacks.History()]
    fast = train(text_file, tmp_path / "a", epochs=2, callbacks=losses[:1], **settings)
    refuse_the_fast_path(monkeypatch)
    plain = train(text_file, tmp_path / "b", epochs=2, callbacks=losses[1:], **settings)
    expected, weights = model.named_weights(fast), model.named_weights(plain)
    assert [*expected] == [*weights]
    for name, weight in expected.items():
        np.testing.assert_allclose(weights[name], weight, atol=1e-4, err_msg=name)
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(losses[0].history[name], losses[1].history[name], atol=1e-4)


def test_a_model_of_keras_s_layers_is_written_and_read_with_both(text_file, tmp_path, monkeypatch):
    settings = {**TINY, "precision": "float32"}
    with monkeypatch.context() as patch:
        refuse_the_fast_path(patch)
        plain = keras_charlm.fit(text_file, tmp_path / "m", epochs=1, **settings)
        text = "the cat sat on the mat"
        bits = plain.evaluate(text).bits_per_character
    fast = keras_charlm.load(tmp_path / "m")
    assert fast.evaluate(text).bits_per_character == pytest.approx(bits, abs=1e-4)
