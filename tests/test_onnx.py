"""The `.onnx` file of an export, run in ONNX Runtime."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from keras_charlm.config import ModelConfig
from keras_charlm.errors import ExportError, OptionError
from keras_charlm.export import checking, onnx
from keras_charlm.export.export import export
from keras_charlm.network import model
from keras_charlm.text.vocabulary import Vocabulary
from tests.runtimes import random_network

DOCS = Path(__file__).parent.parent / "docs"
CODES = (10, *range(97, 107))


def opened(content):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("labels", [0, 2])
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig("lstm", 2, 8, embedding=4, tied=True, dropout=0.2),
        ModelConfig("gru", 2, 8, embedding=0, tied=False, dropout=0.0),
        ModelConfig("rnn", 3, 8, embedding=4, tied=False, dropout=0.0),
    ],
    ids=lambda config: config.cell,
)
def test_it_computes_the_logits_and_states_of_the_network(config, labels):
    vocabulary = Vocabulary("char", CODES, labels)
    network = random_network(config, vocabulary.size, labels)
    weights = {name: w.numpy() for name, w in model.named_weights(network).items()}
    session = opened(onnx.build(weights, config, vocabulary).SerializeToString())
    codes = np.random.default_rng(0).choice(vocabulary.input_codes, (3, 40)).astype(np.int32)
    codes[0, 5] = 0x4E00  # an unknown character
    ids = vocabulary.lookup(codes)
    expected, states = model.run(network, ids, model.zero_states(network, 3))
    state = np.zeros((3, session.get_inputs()[1].shape[1]), np.float32)
    logits = []
    for piece in (codes[:, :1], codes[:, 1:30], codes[:, 30:]):
        rows, state, _ = session.run(None, {"text": piece, "state": state})
        logits.append(rows)
    # ONNX Runtime computes sigmoid and tanh by approximations of its own.
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(np.concatenate(logits, 1), expected, rtol=0, atol=atol)
    flat = [np.asarray(each) for layer in states for each in layer]
    np.testing.assert_allclose(state, np.concatenate(flat, 1), atol=1e-5)

    bits = session.run(["bits"], {"text": codes, "state": np.zeros_like(state)})[0]
    log_p = expected - np.log(np.exp(expected).sum(2, keepdims=True))
    for row in range(3):
        costs = [-log_p[row, t, i] for t, i in enumerate(ids[row, 1:]) if i < vocabulary.size]
        np.testing.assert_allclose(bits[row], np.sum(costs) / np.log(2), rtol=1e-5)


@pytest.fixture(scope="module")
def file(text_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "names.onnx"
    report = export(text_model, path, to="onnx", license="CC0")
    assert report["largest_logit_difference"] < 1e-5
    assert report["bytes"] == path.stat().st_size
    return path


def test_the_file_has_the_card_and_says_how_it_is_used(file, text_model):
    session = opened(file.read_bytes())
    meta = session.get_modelmeta()
    values = json.loads(meta.custom_metadata_map["keras_charlm"])
    assert values["vocabulary"] == json.loads((text_model / "vocabulary.json").read_text())
    assert (values["card"]["name"], values["license"]) == ("cats", "CC0")
    assert [each.name for each in session.get_inputs()] == ["text", "state"]
    assert "zeros" in meta.graph_description
    outputs = session.run(None, {
        "text": np.array([[10]], np.int32),
        "state": np.zeros((1, session.get_inputs()[1].shape[1]), np.float32),
    })  # fmt: skip
    assert outputs[2] == 0  # one character: nothing is predicted


def test_the_example_in_the_docs_draws_text(file, monkeypatch, capsys):
    page = (DOCS / "exporting.md").read_text()
    listing = next(c for c in re.findall(r"```python\n(.*?)```", page, re.S) if "onnx" in c)
    monkeypatch.chdir(file.parent)
    for _ in range(20):  # a line may be empty
        exec(compile(listing, "exporting.md", "exec"), {})
    assert re.search("[a-z]", capsys.readouterr().out)


def test_other_logits_are_refused():
    logits = np.zeros((4, 5), np.float32)
    trial = checking.Trial(np.arange(5), "a text")
    trained = checking.Answers(logits, 1.0, [])
    assert checking.compare_logits(trial, trained, logits, "file")["largest_logit_difference"] == 0
    with pytest.raises(
        ExportError, match=r"differ by 0\.1 from the trained model's and at most 1e-"
    ):
        checking.compare_logits(trial, trained, logits + 0.1, "file")
    with pytest.raises(ExportError, match="differ by nan"):
        checking.compare_logits(trial, trained, logits * np.nan, "file")


def test_a_missing_package_is_named(text_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OptionError, match=r"pip install 'keras_charlm\[onnx\]'"):
        export(text_model, tmp_path / "m.onnx", to="onnx")
    assert not list(tmp_path.iterdir())
