"""Trainings that start from the weights of another model."""

import numpy as np
import pytest
from conftest import TINY

import keras_charlm
from keras_charlm.errors import OptionError


def test_characters_both_know_keep_their_rows(text_file, text_model, tmp_path, capfd):
    other = tmp_path / "other.txt"
    other.write_text("the cat sat on 1234 mats. xyz" * 30)
    # One step with a tiny rate: the weights are still those it started from.
    keras_charlm.fit(
        other,
        tmp_path / "m",
        init_from=text_model,
        epochs=1,
        verbose=1,
        learning_rate=1e-9,
        batch_size=4,
        seq_length=8,
    )
    shown = capfd.readouterr().err
    assert f"begun from  {text_model}: it knows 11 of the 18 characters" in shown
    assert "training    1 epoch of " in shown
    old, new = keras_charlm.load(text_model), keras_charlm.load(tmp_path / "m")
    assert new.card.model.units == old.card.model.units
    for char in "acehmnost .":
        a, b = (m.vocabulary.encode(char)[0] for m in (old, new))
        np.testing.assert_allclose(
            old.model.get_layer("embedding").embeddings[a],
            new.model.get_layer("embedding").embeddings[b],
            atol=1e-6,
        )
        np.testing.assert_allclose(
            old.model.get_layer("logits").bias[a], new.model.get_layer("logits").bias[b], atol=1e-6
        )
    for of in (lambda m: m.layers[1].cell.recurrent_kernel, lambda m: m.get_layer("logits").kernel):
        np.testing.assert_allclose(of(old.model), of(new.model), atol=1e-6)
    with pytest.raises(OptionError, match="units is 9, but the model"):
        keras_charlm.fit(other, tmp_path / "n", init_from=text_model, units=9)


@pytest.mark.parametrize(
    "embedding, table",
    [(0, lambda m: m.layers[1].cell.kernel), (4, lambda m: m.layers[0].embeddings)],
)
def test_of_untied_logits_characters_keep_their_columns(text_file, tmp_path, embedding, table):
    other = tmp_path / "other.txt"
    other.write_text("the cat sat on 1234 mats. xyz" * 30)
    old = keras_charlm.fit(
        text_file, tmp_path / "old", epochs=1, **{**TINY, "embedding": embedding, "tied": False}
    )
    new = keras_charlm.fit(
        other,
        tmp_path / "new",
        init_from=tmp_path / "old",
        epochs=1,
        learning_rate=1e-9,
        batch_size=4,
        seq_length=8,
    )
    for char in "acehmnost .":
        a, b = (m.vocabulary.encode(char)[0] for m in (old, new))
        for of, axis in ((table, 0), (lambda m: m.get_layer("logits").kernel, 1)):
            np.testing.assert_allclose(
                np.take(of(old.model), a, axis), np.take(of(new.model), b, axis), atol=1e-6
            )


@pytest.fixture(scope="module")
def gru(text_file, tmp_path_factory):
    """A model that differs from every default."""
    folder = tmp_path_factory.mktemp("gru") / "m"
    keras_charlm.fit(text_file, folder, epochs=1, **{**TINY, "cell": "gru", "tied": False})
    return folder


@pytest.mark.parametrize(
    "setting, have",
    [({"cell": "lstm"}, "gru"), ({"layers": 2}, 1), ({"units": 128}, 8), ({"embedding": 32}, 4),
     ({"tied": True}, False)],
)  # fmt: skip
def test_a_setting_that_is_given_is_refused_also_where_it_is_the_default(
    gru, text_file, tmp_path, setting, have
):
    ((name, value),) = setting.items()
    with pytest.raises(OptionError, match=f"{name} is {value}, but the model in .* has {have};"):
        keras_charlm.fit(text_file, tmp_path / "m", init_from=gru, epochs=1, verbose=0, **setting)
    assert not (tmp_path / "m").exists()


def test_a_setting_that_agrees_is_accepted(gru, text_file, tmp_path):
    model = keras_charlm.fit(
        text_file, tmp_path / "m", init_from=gru, epochs=1, verbose=0, cell="gru", units=8,
        layers=None,
    )  # fmt: skip
    assert model.card.model.cell == "gru"


def test_characters_and_bytes_are_not_mixed(text_model, text_file, tmp_path):
    keras_charlm.fit(text_file, tmp_path / "bytes", unit="byte", epochs=1, **TINY)
    for base, unit, have in ((tmp_path / "bytes", "char", "byte"), (text_model, "byte", "char")):
        with pytest.raises(OptionError, match=f"unit is {unit}, but the model in .* has {have};"):
            keras_charlm.fit(text_file, tmp_path / "m", init_from=base, unit=unit, verbose=0)
    assert not (tmp_path / "m").exists()
