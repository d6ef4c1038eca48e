"""The worked examples of docs/python.md: what `fit` takes from Keras, and its pieces."""

import contextlib

import numpy as np
import pytest
from conftest import babble
from test_docs import ROOT, blocks

import keras_charlm


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The names that the listings after the first one define, run one after the other."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "corpus.txt").write_text("Once upon a time. Some other text.\n" * 40)
    names = {"keras_charlm": keras_charlm, "corpus": babble(900)}
    with contextlib.chdir(folder):
        _, *listings = blocks(ROOT / "docs" / "python.md", "python")
        assert len(listings) == 7
        for number, code in enumerate(listings):
            code = code.replace("fit(\n    text=", "fit(\n    verbose=0,\n    text=")
            code = code.replace("network=network, ", "network=network, verbose=0, ")
            code = code.replace('"Once upon a time. " * 50', "corpus")  # converted by other tests
            exec(compile(code, f"python.md {number}", "exec"), names)
        yield names


def test_fit_takes_keras_s_objects(names):
    card = names["trained"].card
    assert (card.fit.optimizer, card.fit.schedule, card.fit.max_time) == ("own SGD", "none", 600.0)
    assert len(names["trained"].history["loss"]) == 2


def test_a_network_of_the_user_s_is_trained_and_generates(names):
    model = names["built"]
    shape = model.card.model
    assert (shape.cell, shape.layers, shape.units, shape.embedding) == ("gru", 1, 16, 8)
    assert len(model.generate("Once", length=20, seed=1)) == 24
    trained, fresh = model.model.get_weights(), names["network"](1, model.vocabulary.size)
    assert [a.shape for a in trained] == [b.shape for b in fresh.get_weights()]


def test_windows_continue_from_batch_to_batch(names):
    inputs, _, begins = names["windows"].batch(1)
    assert (names["inputs"].shape, names["begins"].shape) == ((4, 16), (4,))
    np.testing.assert_array_equal(names["targets"][~begins, -1], inputs[~begins, 0])


def test_plain_compile_and_fit_learn(names):
    first, last = names["losses"]
    assert last < first


def test_the_state_is_carried(names):
    np.testing.assert_allclose(np.concatenate(names["pieces"], 1), names["whole"], atol=1e-5)


def test_the_own_network_is_exported(names):
    own, model = names["own"], names["model"]
    assert model.on_device and model.card.fit.optimizer == "own Adam"
    assert model.card.parameters == own.count_params()
    assert model.generate("Once", length=40, seed=1).startswith("Once")
    with pytest.raises(keras_charlm.CharLMError, match="exists; name another"):
        keras_charlm.export_network(
            own, names["shape"], names["text"], names["split"], model.path.absolute()
        )
