"""With Keras's own layers and loss a training comes to the same weights and scores."""

import keras
import numpy as np
import pytest
from conftest import TINY

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


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_both_ways_come_to_the_same_weights_and_scores(cell, text_file, tmp_path, monkeypatch):
    settings = {**TINY, "layers": 2, "cell": cell, "dropout": 0.0, "precision": "float32"}
    fast = keras_charlm.fit(text_file, tmp_path / "fast", epochs=2, **settings)

    def refused(*_, **__):
        raise AssertionError("the fast path runs")

    monkeypatch.setenv(SWITCH, "1")
    for module, name in (
        (recurrent, "recur"),
        (recurrent, "stepper"),
        (model.layers, "cross_entropy"),
    ):
        monkeypatch.setattr(module, name, refused)
    plain = keras_charlm.fit(text_file, tmp_path / "plain", epochs=2, **settings)
    expected, found = fast.bundle.weights(), plain.bundle.weights()
    assert [*expected] == [*found]
    for name, weight in expected.items():
        np.testing.assert_allclose(found[name], weight, atol=1e-4, err_msg=name)
    for part in ("validation", "test"):
        assert plain.card.scores[part] == pytest.approx(fast.card.scores[part], abs=1e-4)
    text = "the cat sat on the mat"
    bits = plain.evaluate(text).bits_per_character
    monkeypatch.undo()
    again = keras_charlm.load(tmp_path / "plain")  # with the fast layers
    assert again.evaluate(text).bits_per_character == pytest.approx(bits, abs=1e-4)
