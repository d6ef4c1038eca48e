from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import keras_charlm
from keras_charlm.config import ModelConfig
from keras_charlm.errors import BundleError, CharLMError, CorpusError, OptionError
from keras_charlm.inspection import numpy_network
from keras_charlm.inspection.activations import activations
from keras_charlm.inspection.inspect import Ablation, inspect, summary
from keras_charlm.inspection.numpy_network import NumpyNetwork, Piece
from keras_charlm.inspection.probes import features, search
from keras_charlm.network import recurrent
from keras_charlm.network.model import build, named_weights, recurrent_layers, run, zero_states
from keras_charlm.network.names import EMBEDDING, LOGITS

SIZE, START = 7, 4
CELLS = ["lstm", "gru", "rnn"]


def shape(cell="lstm", embedding=3, tied=True):
    return ModelConfig(cell=cell, layers=2, units=6, embedding=embedding, tied=tied, dropout=0.5)


def keras_model(cell="lstm", embedding=3, tied=True, seed=0):
    model = build(shape(cell, embedding, tied), SIZE, seed=seed)
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:  # so large that the state matters, biases too
        weight.assign(weight * 2 + rng.normal(0, 0.3, weight.shape))
    return model


def in_numpy(model, *of):
    """The same network for the inspector; its shape as for `keras_model`."""
    weights = {name: weight.numpy() for name, weight in named_weights(model).items()}
    return NumpyNetwork(shape(*of), weights, START)


def text(size, seed=0):
    return np.random.default_rng(seed).integers(1, SIZE, size).astype(np.int32)


def whole(network, ids, hold=()):
    """The pieces of a reading, joined: a Piece with T instead of n."""
    pieces = list(network.read(ids, hold))
    join = np.concatenate
    return Piece(
        join([p.surprise for p in pieces]),
        join([p.probabilities for p in pieces]),
        join([p.hidden for p in pieces]),
        join([p.cell for p in pieces]) if network.kind == "lstm" else None,
        {name: join([p.gates[name] for p in pieces]) for name in network.gates},
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("embedding, tied", [(0, False), (3, False), (3, True)])
def test_activations_are_those_of_the_keras_layers(cell, embedding, tied):
    model, ids = keras_model(cell, embedding, tied), text(30)
    found = whole(in_numpy(model, cell, embedding, tied), ids)
    x = model.get_layer(EMBEDDING)(np.concatenate([[START], ids])[None])
    for i, layer in enumerate(recurrent_layers(model)):
        states = None
        outputs, steps = [], []
        for t in range(31):  # one at a time, for the cell state at each
            y, states = recurrent.run(layer, x[:, t : t + 1], states)
            outputs.append(y[:, 0])
            steps.append(states[-1])
        np.testing.assert_allclose(found.hidden[:, 0, i], tf.concat(outputs, 0)[1:], atol=1e-5)
        if cell == "lstm":
            np.testing.assert_allclose(found.cell[:, 0, i], tf.concat(steps, 0)[1:], atol=1e-4)
        x = tf.stack(outputs, 1)
    logits, _ = run(model, np.concatenate([[START], ids])[None], zero_states(model, 1))
    logs = tf.nn.log_softmax(logits)[0].numpy()
    np.testing.assert_allclose(found.probabilities[:, 0], np.exp(logs[1:]), atol=1e-5)
    bits = -logs[np.arange(30), ids] / np.log(2)
    np.testing.assert_allclose(found.surprise[:, 0], bits, atol=1e-4)


@pytest.mark.parametrize(
    "cell, column",
    [
        ("lstm", {"input": 0, "forget": 1, "output": 3}),
        ("gru", {"update": 0, "reset": 1}),
        ("rnn", {}),
    ],
)
def test_gates_follow_from_input_and_last_output(cell, column):
    model, ids = keras_model(cell), text(12)
    network = in_numpy(model, cell)
    found = whole(network, ids)
    assert set(found.gates) == set(column)
    below = network.table[ids]
    for i, layer in enumerate(network.layers):
        h = found.hidden[:-1, 0, i]
        for name, at in column.items():
            bias = layer.bias.reshape(-1, layer.bias.shape[-1]).sum(0)
            z = below[1:] @ layer.kernel + h @ layer.recurrent + bias
            expected = 1 / (1 + np.exp(-z[:, at * 6 : at * 6 + 6]))
            np.testing.assert_allclose(found.gates[name][1:, 0, i], expected, atol=1e-5)
        below = found.hidden[:, 0, i]


@pytest.mark.parametrize("cell", CELLS)
def test_pieces_equal_the_whole(cell, monkeypatch):
    network, ids = in_numpy(keras_model(cell), cell), text(50)
    one = whole(network, ids)
    monkeypatch.setattr(numpy_network, "_PIECE", 7)
    many = whole(network, ids)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(many), strict=True):
        if a is not None:
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_holding_a_cell_is_as_cutting_what_leads_away_from_it(cell):
    model, ids = keras_model(cell), text(40)
    held = whole(in_numpy(model, cell), ids, [(0, 2), (1, 5)])
    for copy, (layer, unit) in enumerate([(0, 2), (1, 5)]):
        assert not held.hidden[:, copy, layer, unit].any()
        assert cell != "lstm" or not held.cell[:, copy, layer, unit].any()
        cut = keras_model(cell)
        own = recurrent_layers(cut)[layer].cell.recurrent_kernel
        above = recurrent_layers(cut)[1].cell.kernel if layer == 0 else cut.get_layer(LOGITS).kernel
        for weight in (own, above):
            value = weight.numpy()
            value[unit] = 0
            weight.assign(value)
        alone = whole(in_numpy(cut, cell), ids)
        np.testing.assert_allclose(held.surprise[:, copy], alone.surprise[:, 0], atol=1e-4)


TEXT = "the cat sat on a mat, and (ran!\nTHE 中 \u202e"


def test_arrays_have_the_documented_shapes_and_probabilities_sum_to_one(text_model):
    found = activations(text_model, TEXT)
    size, vocabulary = len(TEXT), keras_charlm.load(text_model).vocabulary
    for array in (found.hidden, found.cell, *found.gates.values()):
        assert array.shape == (size, 1, 8)
        assert array.dtype == np.float16
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)
    assert vocabulary.from_codes(found.codes) == TEXT
    assert (np.diff(found.guess_probabilities, axis=1) <= 0).all()
    ids = vocabulary.lookup(found.guesses)
    assert (ids > 0).all()
    np.testing.assert_array_equal(
        np.take_along_axis(found.probabilities, ids, 1), found.guess_probabilities
    )
    assert (found.probabilities[:, 1:] > found.guess_probabilities[:, -1:]).sum(1).max() == 4


def test_surprise_is_what_evaluate_counts(text_model):
    model = keras_charlm.load(text_model)
    assert activations(model, TEXT, keep=()).surprise.mean() == pytest.approx(
        model.evaluate(TEXT).bits_per_character, abs=1e-4
    )


def test_the_top_five_are_those_of_the_on_device_file(text_model):
    model = keras_charlm.load(text_model)
    found = activations(model, TEXT)
    codes = np.append(model.card.start, found.codes).astype(np.int32)
    known = np.array(model.vocabulary.codes)
    state = np.zeros((1, model.runner.state_size), np.float32)
    for t, code in enumerate(codes):
        out = model.runner("step", text=np.array([code], np.int32), state=state)
        state = out["state"]
        if t == 0:
            continue
        logits = out["logits"][0]
        top = np.argsort(-logits[1:], kind="stable")[:5]
        np.testing.assert_array_equal(found.guesses[t - 1], known[top])
        np.testing.assert_allclose(
            found.probabilities[t - 1], tf.nn.softmax(logits).numpy(), atol=1e-5
        )


def test_the_likeliest_guess_is_drawn_at_temperature_zero(text_model):
    model = keras_charlm.load(text_model)
    prompt = "the cat "
    start = chr(model.card.start)  # which `activations` reads by itself
    drawn = model.generate(start + prompt, length=12, temp=0).removeprefix(start)
    found = activations(model, drawn, keep=())
    at = slice(len(prompt) - 1, len(drawn) - 1)
    assert model.vocabulary.from_codes(found.guesses[at, 0]) == drawn[len(prompt) :]


def test_only_what_is_asked_for_is_kept(text_model, tmp_path):
    found = activations(text_model, TEXT, keep=["hidden"])
    assert found.cell is None and found.gates is None and found.probabilities is None
    activations(text_model, TEXT).save(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as arrays:
        np.testing.assert_array_equal(arrays["hidden"], found.hidden)
        assert {
            "codes",
            "surprise",
            "guesses",
            "guess_probabilities",
            "cell",
            "input_gate",
            "forget_gate",
            "output_gate",
            "probabilities",
        } < set(arrays)
    assert [p.name for p in tmp_path.iterdir()] == ["all.npz"]


def test_an_inspection_agrees_with_the_arrays(text_model):
    words = "the cat sat on a mat.\nand ran on the mat, " * 12
    found = inspect(
        text_model, words, ablate=["0:3", "0:0"], characters=500, level=0.5, probe=["[ac]at"]
    )
    full = activations(text_model, words[:500])
    assert len(found.codes) == 500 and found.left_out == len(words) - 500
    cell = full.cell.astype(np.float32)
    np.testing.assert_allclose(found.values[0].T / 127, np.tanh(cell[:, 0]), atol=0.006)
    np.testing.assert_allclose(found.surprise, full.surprise, atol=1e-4)
    for name, gate in full.gates.items():
        left, right = (gate < 0.1).mean(0), (gate > 0.9).mean(0)
        np.testing.assert_allclose(found.saturation[name], np.stack([left, right]), atol=0.01)
    for ablation in found.ablations:
        inside = ablation.inside_characters
        mean = (ablation.inside * inside + ablation.outside * (500 - inside)) / 500
        assert mean == pytest.approx(ablation.bits, abs=1e-6)
    values = found.to_dict()
    assert values["probes"][-1]["probe"] == "[ac]at"
    assert "without 0:3:" in summary(found)


@pytest.mark.parametrize(
    "bits, effect, words",
    [
        (0.01, "costs", "+0.0100 bits per character"),
        (-0.01, "helps", "-0.0100 bits per character, switching it off helps"),
        (-0.00004, "no effect", "-0.0000 bits per character, no effect"),
    ],
)
def test_a_cell_that_is_better_off_helps(text_model, bits, effect, words):
    found = inspect(text_model, TEXT)
    found = replace(found, ablations=(Ablation(0, 3, bits),))
    assert summary(found).splitlines()[-1] == f"without 0:3: {words}"
    assert found.to_dict()["ablations"][0]["effect"] == effect


def test_the_terminal_shows_a_cell_that_is_low_with_its_sign_flipped(text_model, text_file):
    words = text_file.read_text()
    found = inspect(text_model, words)
    known = {name: features(words)[name] for name in ("at a letter", "position in the line")}
    values = np.random.default_rng(0).integers(-9, 9, found.values.shape)
    values[0, 2] -= 90 * known["at a letter"]
    values[0, 6] += known["position in the line"].astype(int)
    found = replace(found, search=search(values[0].astype(np.int8), known))
    rows = summary(found).splitlines()
    assert rows[1].startswith("position in the line") and rows[1].endswith("  reliable")
    assert rows[2].startswith("at a letter") and rows[2].endswith("  reliable, sign flipped")
    assert "0:6" in rows[1] and "0:2" in rows[2] and "-" not in rows[1] + rows[2]
    values = found.to_dict()["probes"]
    assert [row["match"] for row in values] == ["reliable", "reliable"]
    assert values[0]["second_half"] < 0  # as measured


@pytest.mark.parametrize("folder", ["gru_model", "rnn_model", "byte_model"])
def test_other_cells_and_bytes(folder, request):
    model, text = keras_charlm.load(request.getfixturevalue(folder)), "the cat é\n" * 3
    found, read = inspect(model, text), activations(model, text)
    lstm = folder == "byte_model"
    assert len(found.codes) == (33 if lstm else 30)
    assert found.shown == ("cell" if lstm else "hidden")
    shown = np.tanh(read.cell[:, 0]) if lstm else read.hidden[:, 0]
    np.testing.assert_allclose(found.values[0].T / 127, shown, atol=0.005)


def test_mistakes_are_told(text_model, tmp_path):
    model = keras_charlm.load(text_model)
    with pytest.raises(CorpusError, match="empty"):
        activations(model, "")
    with pytest.raises(OptionError, match="cannot keep 'cells'"):
        activations(model, "a", keep=["cells"])
    for wrong in ("1:0", "0:8", "0:99999999"):
        with pytest.raises(OptionError, match="no cell"):
            inspect(model, "abc", ablate=[wrong])
    for wrong in ("x", "1", "-1:2", "1:2:3", "٣:1"):
        with pytest.raises(OptionError, match="LAYER:CELL"):
            inspect(model, "abc", ablate=[wrong])
    with pytest.raises(OptionError, match="no setting 'cels'"):
        inspect(model, "abc", cels=3)
    with pytest.raises(CorpusError, match="folder"):
        activations(model, tmp_path)
    with pytest.raises(CharLMError):
        activations(model, tmp_path / "none.txt")
    with pytest.raises(BundleError):
        activations(tmp_path / "none", "abc")
