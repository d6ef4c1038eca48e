"""The bundled model that a training starts from by itself."""

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY

import keras_charlm
from keras_charlm.config import CorpusConfig
from keras_charlm.saved.bundle import shipped
from keras_charlm.text.corpus import prepare
from keras_charlm.text.split import split_corpus
from keras_charlm.training import base

PROSE = (Path(__file__).parent.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
DIGITS = "".join(map(str, np.random.default_rng(0).integers(0, 10, 6000)))


def find(tmp_path, text, given=None, **config):
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    corpus = prepare([path], CorpusConfig(**config))
    return base.find_base(corpus, split_corpus(corpus), given or {})


def test_english_prose_starts_from_the_english_model(tmp_path):
    assert find(tmp_path, PROSE).path == shipped()["english"]
    assert find(tmp_path, PROSE, {"units": None, "size": "auto", "epochs": 3}) is not None


@pytest.mark.parametrize(
    "text, config, given",
    [
        (DIGITS, {}, {}),
        (PROSE.translate({i: i + 0x400 for i in range(97, 123)}), {}, {}),  # other characters
        (PROSE[:150], {}, {}),  # too short to tell
        (PROSE * (4_000_000 // len(PROSE)), {}, {}),
        (PROSE, {"unit": "byte"}, {}),
        (PROSE, {}, {"units": 448}),
        (PROSE, {}, {"size": "small"}),
        (PROSE, {}, {"cell": "gru"}),
    ],
    ids=["digits", "characters", "shortest", "long", "bytes", "units", "size", "cell"],
)
def test_other_texts_and_networks_start_from_scratch(tmp_path, text, config, given):
    assert find(tmp_path, text, given, **config) is None


def test_a_training_says_what_it_starts_from(tmp_path, capfd):
    (tmp_path / "a.txt").write_text(PROSE[:3000], encoding="utf-8")
    settings = {"epochs": 1, "learning_rate": 1e-9, "batch_size": 2, "seq_length": 16}
    model = keras_charlm.fit(tmp_path / "a.txt", tmp_path / "m", **settings)
    assert model.card.base == "english"
    assert "begun from  the bundled model english" in capfd.readouterr().err
    scratch = keras_charlm.fit(tmp_path / "a.txt", tmp_path / "n", init_from=None, **settings)
    assert scratch.card.base == "" and scratch.card.model.units == 128
    before = scratch.evaluate(PROSE[3000:]).bits_per_character
    assert model.evaluate(PROSE[3000:]).bits_per_character < before - 2


def test_a_shape_of_its_own_needs_no_option(tmp_path):
    (tmp_path / "a.txt").write_text(PROSE[:3000], encoding="utf-8")
    model = keras_charlm.fit(tmp_path / "a.txt", tmp_path / "m", epochs=1, **TINY)
    assert model.card.base == ""
