"""The weights in Keras's own file, read without Keras; and what needs them."""

import itertools
import json

import h5py
import numpy as np
import pytest
from conftest import TINY

import keras_charlm
from keras_charlm.config import ModelConfig
from keras_charlm.errors import BundleError, OptionError
from keras_charlm.network.model import build, named_weights
from keras_charlm.saved import bundle
from keras_charlm.saved.weights import compress_weights, read_weights, weight_shapes
from keras_charlm.training import plan

SYMBOLS = 11


def shape(cell="lstm", embedding=5, tied=False, **more):
    return ModelConfig(
        cell=cell, layers=2, units=7, embedding=embedding, tied=tied, **{"dropout": 0.3, **more}
    )


@pytest.mark.parametrize(
    "config",
    [
        shape(cell, embedding, tied, noise=noise)
        for cell in ("lstm", "gru", "rnn")
        for embedding, tied, noise in ((0, False, 0.0), (5, False, 0.1), (5, True, 0.0))
    ],
    ids=lambda config: f"{config.cell}-{config.embedding}-{config.tied}",
)
def test_the_file_gives_the_network_that_keras_reads_from_it(tmp_path, config):
    path = tmp_path / "model.weights.h5"
    network = build(config, SYMBOLS, seed=3)
    for i, weight in enumerate(network.trainable_weights):  # biases are zero at first
        weight.assign(np.random.default_rng(i).normal(size=weight.shape))
    network.save_weights(path)
    again = build(config, SYMBOLS, seed=4)
    again.load_weights(path)
    values = read_weights(path, config, SYMBOLS)
    loaded = {name: np.asarray(value) for name, value in named_weights(again).items()}
    assert list(values) == list(loaded) == list(weight_shapes(config, SYMBOLS))
    for name, value in values.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, loaded[name])
        np.testing.assert_array_equal(value, named_weights(network)[name])


def test_the_model_of_a_folder_is_the_one_that_keras_loads(text_model):
    model = keras_charlm.load(text_model)
    network = build(model.card.model, model.vocabulary.size)
    network.load_weights(text_model / "model.weights.h5")
    for ours, theirs in zip(model.model.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def soft_link(file, group, path):
    del group["0"]
    group["0"] = h5py.SoftLink("/layers/dense/vars/0")


def linked_file(file, group, path):
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["x"] = np.zeros(group["0"].shape, np.float32)
    del group["0"]
    group["0"] = h5py.ExternalLink(str(path.with_name("other.h5")), "x")


def outside(file, group, path):
    size = group["0"].shape
    del group["0"]
    group.create_dataset("0", size, "f4", external=[("/etc/passwd", 0, 4 * np.prod(size))])


def virtual(file, group, path):
    layout = h5py.VirtualLayout(group["0"].shape, "f4")
    layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "x", group["0"].shape)
    del group["0"]
    group.create_virtual_dataset("0", layout)


def compressed(file, group, path):
    value = group["0"][()]
    del group["0"]
    group.create_dataset("0", data=value, compression="lzf")


def reshaped(file, group, path):
    value = group["0"][()]
    del group["0"]
    group["0"] = value.T


def integers(file, group, path):
    value = group["0"][()]
    del group["0"]
    group["0"] = value.view(np.int32)


def gone(file, group, path):
    del file["layers/lstm_1"]


def linked_layer(file, group, path):
    del file["layers/lstm_1"]
    file["layers/lstm_1"] = h5py.SoftLink("/layers/lstm")


def unnamed(file, group, path):
    del file["layers/lstm_1/vars"].attrs["name"]


@pytest.mark.parametrize(
    "change",
    [soft_link, linked_file, outside, virtual, compressed, reshaped, integers, gone, linked_layer,
     unnamed],
)  # fmt: skip
@pytest.mark.parametrize("layer", ["embedding", "lstm/cell"])
def test_links_other_storage_and_wrong_shapes_are_refused(tmp_path, change, layer):
    path = tmp_path / "model.weights.h5"
    build(shape(), SYMBOLS).save_weights(path)
    with h5py.File(path, "r+") as file:
        change(file, file[f"layers/{layer}/vars"], path)
    with pytest.raises(BundleError, match="does not hold the weights of its model"):
        read_weights(path, shape(), SYMBOLS)


def test_compressed_weights_are_read_by_keras_and_by_us(tmp_path):
    path = tmp_path / "model.weights.h5"
    model = build(shape(), SYMBOLS)
    model.save_weights(path)
    before = read_weights(path, shape(), SYMBOLS)
    compress_weights(path)
    after = read_weights(path, shape(), SYMBOLS)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    other = build(shape(), SYMBOLS, seed=9)
    other.load_weights(path)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    build(shape(), SYMBOLS).save_weights(path)
    whole = path.read_bytes()
    for content in (b"", b"\x89HDF\r\n\x1a\n", whole[: len(whole) // 2], whole[8:], bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="does not hold the weights of its model"):
            read_weights(path, shape(), SYMBOLS)
    path.write_bytes(whole)
    for other in (shape("gru"), shape(tied=True), shape(embedding=4)):
        with pytest.raises(BundleError):
            read_weights(path, other, SYMBOLS)


def test_an_on_device_file_alone_has_no_keras_model(text_model, text_file, tmp_path, kcharlm):
    path = text_model / "model.tflite"
    model = keras_charlm.load(path)
    assert model.generate(length=5, seed=1) == keras_charlm.load(text_model).generate(
        length=5, seed=1
    )
    missing = "is only an on-device file, without model.weights.h5; name the folder that kcharlm"
    for need in (
        lambda: model.model,
        lambda: model.build(2),
        lambda: keras_charlm.fit(text_file, tmp_path / "m", init_from=path, epochs=1, verbose=0),
        lambda: keras_charlm.activations(path, "a cat"),
    ):
        with pytest.raises(BundleError, match=missing):
            need()
    assert not (tmp_path / "m").exists()
    code, _, err = kcharlm("inspect", path, text_file, "-o", tmp_path / "page.html")
    assert code == 2 and missing in err and len(err.splitlines()) == 1


def test_a_network_too_large_for_its_file_is_reported_before_training(
    text_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(plan, "LARGEST", 3000)
    for quantize, cure in (
        ("none", "lower --units or --layers, or halve it with --quantize float16."),
        ("float16", "lower --units or --layers."),
    ):
        with pytest.raises(OptionError, match="where at most 3,000 are possible") as error:
            keras_charlm.fit(text_file, tmp_path / "m", quantize=quantize, **{**TINY, "units": 32})
        assert str(error.value).endswith(cure)
    assert not (tmp_path / "m").exists()


def test_what_is_passed_on_has_file_names_only(half_model, text_file, of_all, tmp_path):
    model = keras_charlm.load(half_model)
    assert model.card.fit.tensorboard.startswith(str(of_all))
    model.export(tmp_path / "out.tflite", quantize="int8")
    for path in (half_model / "model.tflite", tmp_path / "out.tflite"):
        assert bundle.open_bundle(path).card.corpus["files"] == [text_file.name]
        assert str(of_all).encode() not in path.read_bytes()
    # The folder keeps them: evaluating and resuming need the text.
    config = json.loads((half_model / "config.json").read_text())
    assert config["corpus"]["files"] == [str(text_file)]


def test_both_files_hold_the_rounded_weights(half_model):
    trained = keras_charlm.load(half_model)
    for weight in trained.bundle.weights().values():
        np.testing.assert_array_equal(weight, weight.astype(np.float16))
    states = [np.zeros((1, trained.runner.state_size), np.float32)] * 2
    text = itertools.islice(itertools.cycle("the cat "), 20)
    for code in map(ord, text):
        out = trained.runner("step", text=np.array([code], np.int32), state=states[0])
        states[0] = out["state"]
        ids = trained.vocabulary.encode(chr(code)).reshape(1, 1)
        logits = trained.model(ids)
        np.testing.assert_allclose(out["logits"], logits[0], atol=1e-4)
