"""Trainings that start from the weights of another model."""

import numpy as np
import pytest
from conftest import train

import keras_charlm
from keras_charlm.errors import OptionError
from keras_charlm.text.corpus import prepare
from keras_charlm.text.split import split_corpus


def new_id(char, text):
    """The id of a character in the vocabulary of a text's training part."""
    return split_corpus(prepare([text])).vocabulary.encode(char)[0]


def test_characters_both_know_keep_their_rows(text_file, text_model, tmp_path, capfd):
    other = tmp_path / "other.txt"
    other.write_text("the cat sat on 1234 mats. xyz" * 30)
    settings = {"init_from": text_model, "epochs": 1, "batch_size": 4, "seq_length": 8}
    network = train(other, tmp_path / "m", until="on_train_begin", **settings)
    shown = capfd.readouterr().err
    assert f"begun from  {text_model}: it knows 11 of the 18 characters" in shown
    assert "training    1 epoch of " in shown
    old = keras_charlm.load(text_model)
    for char in "acehmnost .":
        a, b = old.vocabulary.encode(char)[0], new_id(char, other)
        for of in (
            lambda m: m.get_layer("embedding").embeddings,
            lambda m: m.get_layer("logits").bias,
        ):
            np.testing.assert_array_equal(of(old.model)[a], of(network)[b])
    for of in (lambda m: m.layers[1].cell.recurrent_kernel, lambda m: m.get_layer("logits").kernel):
        np.testing.assert_array_equal(of(old.model), of(network))
    with pytest.raises(OptionError, match="units is 9, but the model"):
        keras_charlm.fit(other, tmp_path / "n", init_from=text_model, units=9)


@pytest.mark.parametrize(
    "base, table",
    [
        ("rnn_model", lambda m: m.layers[1].cell.kernel),
        ("gru_model", lambda m: m.layers[0].embeddings),
    ],
)
def test_of_untied_logits_characters_keep_their_columns(request, tmp_path, base, table):
    other, folder = tmp_path / "other.txt", request.getfixturevalue(base)
    other.write_text("the cat sat on 1234 mats. xyz" * 30)
    old = keras_charlm.load(folder)
    settings = {"init_from": folder, "epochs": 1, "batch_size": 4, "seq_length": 8}
    new = train(other, tmp_path / "new", until="on_train_begin", **settings)
    for char in "acehmnost .":
        a, b = old.vocabulary.encode(char)[0], new_id(char, other)
        for of, axis in ((table, 0), (lambda m: m.get_layer("logits").kernel, 1)):
            np.testing.assert_array_equal(
                np.take(of(old.model), a, axis), np.take(of(new), b, axis)
            )


@pytest.mark.parametrize(
    "setting, have",
    [({"cell": "lstm"}, "gru"), ({"layers": 2}, 1), ({"units": 128}, 8), ({"embedding": 32}, 4),
     ({"tied": True}, False)],
)  # fmt: skip
def test_a_setting_that_is_given_is_refused_also_where_it_is_the_default(
    gru_model, text_file, tmp_path, setting, have
):
    ((name, value),) = setting.items()
    with pytest.raises(OptionError, match=f"{name} is {value}, but the model in .* has {have};"):
        keras_charlm.fit(
            text_file, tmp_path / "m", init_from=gru_model, epochs=1, verbose=0, **setting
        )
    assert not (tmp_path / "m").exists()


def test_a_setting_that_agrees_is_accepted(gru_model, text_file, tmp_path):
    settings = {"init_from": gru_model, "epochs": 1, "verbose": 0, "cell": "gru", "units": 8}
    network = train(text_file, tmp_path / "m", until="on_train_begin", layers=None, **settings)
    base = keras_charlm.load(gru_model).model
    assert [w.shape for w in network.get_weights()] == [w.shape for w in base.get_weights()]


def test_characters_and_bytes_are_not_mixed(text_model, byte_model, text_file, tmp_path):
    for base, unit, have in ((byte_model, "char", "byte"), (text_model, "byte", "char")):
        with pytest.raises(OptionError, match=f"unit is {unit}, but the model in .* has {have};"):
            keras_charlm.fit(text_file, tmp_path / "m", init_from=base, unit=unit, verbose=0)
    assert not (tmp_path / "m").exists()
