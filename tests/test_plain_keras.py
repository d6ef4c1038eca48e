"""The `.keras` file of an export: Keras's own layers, and the logits of the trained network."""

import json
import zipfile

import keras
import numpy as np
import pytest

from keras_charlm.config import ModelConfig
from keras_charlm.export import plain
from keras_charlm.export.export import export
from keras_charlm.network import model
from tests.runtimes import random_network


@pytest.mark.parametrize("labels", [0, 2])
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig("lstm", 2, 8, embedding=4, tied=True, dropout=0.2),
        ModelConfig("gru", 1, 8, embedding=0, tied=False, dropout=0.0),
        ModelConfig("rnn", 3, 8, embedding=4, tied=False, dropout=0.0),
    ],
    ids=lambda config: config.cell,
)
def test_the_plain_network_computes_the_logits_of_the_trained_one(config, labels):
    network = random_network(config, 11, labels)
    ids = np.random.default_rng(0).integers(0, 11 + labels, (1, 30)).astype(np.int32)
    expected = model.run(network, ids, model.zero_states(network, 1))[0].numpy()
    logits = np.asarray(plain.build(network, config, 11, labels)(ids))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_the_file_has_the_layers_of_keras_and_the_vocabulary(text_model, tmp_path):
    report = export(text_model, tmp_path / "m.keras", to="keras")
    assert report["largest_logit_difference"] < 1e-5
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        modules = set(archive.read("config.json").decode().split('"module": ')[1:])
        vocabulary = json.loads(archive.read("vocabulary.json"))
    assert {module.split(",")[0] for module in modules} <= {
        '"keras"',
        '"keras.layers"',
        '"keras.initializers"',
    }
    assert vocabulary == json.loads((text_model / "vocabulary.json").read_text())
    loaded = keras.models.load_model(tmp_path / "m.keras")
    ids = np.arange(len(vocabulary["codes"]), dtype=np.int32)[None]
    loaded.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = np.asarray(loaded(ids))
    loaded.fit(ids[:, :-1], ids[:, 1:], verbose=0)
    assert not np.array_equal(before, np.asarray(loaded(ids)))
