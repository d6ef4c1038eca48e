"""Laws of the on-device file: what it computes is what the trained network computes."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_charlm.config import ModelConfig
from keras_charlm.errors import ExportError
from keras_charlm.export import graph, limits, tflite
from keras_charlm.generation.litert import Runner
from keras_charlm.network import model
from keras_charlm.text.vocabulary import Vocabulary
from tests.runtimes import random_network

VOCABULARIES = {
    "latin": Vocabulary("char", tuple(map(ord, "\n abcdefghijklmnopqrstuvwxyzßé"))),
    "wide": Vocabulary("char", (10, *range(0x4E00, 0x4E00 + 5000), 0x1F600, 0x10FFFF)),
    "byte": Vocabulary("byte", (10, 32, *range(97, 123), *range(128, 256))),
}
# name: cell, embedding, whether tied, vocabulary
CASES = {
    "lstm": ("lstm", 5, False, "latin"),
    "lstm-tied": ("lstm", 5, True, "latin"),
    "lstm-one-hot": ("lstm", 0, False, "byte"),
    "gru": ("gru", 5, True, "byte"),
    "gru-one-hot": ("gru", 0, False, "latin"),
    "rnn": ("rnn", 5, True, "wide"),
    "rnn-one-hot": ("rnn", 0, False, "latin"),
}


def shape(name):
    cell, embedding, tied, _ = CASES[name]
    return ModelConfig(cell, layers=2, units=16, embedding=embedding, tied=tied, dropout=0.1)


@functools.cache
def built(name):
    """A small network with uneven probabilities: model, network, vocabulary and file."""
    config, vocabulary = shape(name), VOCABULARIES[CASES[name][-1]]
    keras_model = random_network(config, vocabulary.size)
    network = graph.OnDeviceGraph(keras_model, config, vocabulary)
    return keras_model, network, vocabulary, tflite.convert(network)


@functools.cache
def opened(name):
    return Runner(built(name)[3])


@pytest.fixture(params=CASES)
def case(request):
    """model, network's runner, file's runner, vocabulary"""
    keras_model, network, vocabulary, _ = built(request.param)
    return keras_model, network.runner(), opened(request.param), vocabulary


def text_of(vocabulary, length, seed=0):
    """Codes (length,), one in ten outside the vocabulary."""
    random = np.random.default_rng(seed)
    codes = random.choice(vocabulary.codes, length)
    outside = random.choice([0, 33, 0x20AC, 0x10FFFE], length)
    return np.where(random.random(length) < 0.1, outside, codes).astype(np.int32)


def logits_of(keras_model, vocabulary, codes):
    """Float32 (T, V), by Keras."""
    ids = tf.constant(vocabulary.lookup(codes))[None]
    return model.run(keras_model, ids, model.zero_states(keras_model, 1))[0][0].numpy()


def generate(runner, codes, rows=1, **given):
    """Call `generate`, or `generate_batch` for more rows than one; codes (n,) or (B, n)."""
    codes = np.broadcast_to(codes, (rows, np.shape(codes)[-1]))
    text = np.zeros((rows, runner.read_width), np.int32)
    text[:, : codes.shape[1]] = codes
    arrays = {
        "text": text,
        "text_length": np.full(rows, codes.shape[1], np.int32),
        "seed": np.arange(rows, dtype=np.int32),
        "position": np.zeros(rows, np.int32),
        "length": np.int32([32]),
        "stop": np.int32([-1]),
        "temperature": np.float32([1]),
        "top_k": np.int32([0]),
        "top_p": np.float32([1]),
        "min_p": np.float32([0]),
        "state": np.zeros((rows, runner.state_size), np.float32),
    }
    for name, value in given.items():
        value = np.asarray(value, arrays[name].dtype)
        arrays[name] = np.broadcast_to(value, arrays[name].shape)
    return runner("generate" if rows == 1 else "generate_batch", **arrays)


def test_logits_are_those_of_the_keras_model(case):
    keras_model, network, file, vocabulary = case
    codes = text_of(vocabulary, 40)
    expected = logits_of(keras_model, vocabulary, codes)
    for runner in network, file:
        state = np.zeros((1, runner.state_size), np.float32)
        for code, logits in zip(codes, expected, strict=True):
            out = runner("step", text=code[None], state=state)
            np.testing.assert_allclose(out["logits"][0], logits, atol=1e-4)
            state = out["state"]


def test_scores_are_those_of_the_keras_model(case):
    keras_model, network, file, vocabulary = case
    codes = text_of(vocabulary, 40)
    logits = logits_of(keras_model, vocabulary, codes[:-1])
    targets = vocabulary.lookup(codes[1:])
    nats = -tf.nn.log_softmax(logits).numpy()[np.arange(len(targets)), targets]
    text = np.zeros((1, file.score_width), np.int32)
    text[0, : len(codes)] = codes
    for runner in network, file:
        state = np.zeros((1, runner.state_size), np.float32)
        out = runner("score", text=text, text_length=np.int32([len(codes)]), state=state)
        np.testing.assert_allclose(out["bits"][0], nats.sum() / np.log(2), rtol=1e-5)
        assert out["correct"][0] == (logits.argmax(axis=1) == targets).sum()


def test_network_and_file_draw_the_same(case):
    _, network, file, vocabulary = case
    for rows in 1, file.rows:
        codes = text_of(vocabulary, 5)
        a, b = (generate(runner, codes, rows, top_p=0.95) for runner in (network, file))
        assert a.keys() == b.keys()
        for name in "text", "lengths", "done":
            np.testing.assert_array_equal(a[name], b[name])
        np.testing.assert_allclose(a["bits"], b["bits"], rtol=1e-4)
        np.testing.assert_allclose(a["state"], b["state"], atol=1e-4)


def test_what_is_drawn_is_known_and_vocab_names_it(case):
    _, _, file, vocabulary = case
    out = generate(file, text_of(vocabulary, 3), file.rows, temperature=5, length=64)
    assert np.isin(out["text"], vocabulary.codes).all()
    codes = file("vocab", index=np.arange(vocabulary.size, dtype=np.int32))["codes"]
    assert codes.tolist() == [-1, *vocabulary.codes]


def test_every_code_finds_its_id():
    _, network, vocabulary, _ = built("rnn")
    codes = np.array([*vocabulary.codes, -1, -2, 0, 9, 0x1F601, 2**31 - 1], np.int32)
    expected = [*range(1, vocabulary.size), *[0] * 6]
    assert network._ids(tf.constant(codes)).numpy().tolist() == expected


def test_bits_are_those_of_the_plain_probabilities(case):
    keras_model, _, file, vocabulary = case
    prompt = text_of(vocabulary, 4)
    out = generate(file, prompt, temperature=0.5, top_k=5, length=20)
    codes = np.concatenate([prompt, out["text"][0, :20]])
    log_p = tf.nn.log_softmax(logits_of(keras_model, vocabulary, codes[:-1])).numpy()
    log_p = log_p[np.arange(len(codes) - 1), vocabulary.lookup(codes[1:])][len(prompt) - 1 :]
    np.testing.assert_allclose(out["bits"][0], -log_p.sum() / np.log(2), rtol=1e-4)


@pytest.mark.parametrize("rows", [1, graph.ROWS])
@pytest.mark.parametrize("chunks", [(32,), (1,) * 32, (5, 20, 7), (31, 1)])
def test_chunks_equal_the_whole(rows, chunks):
    file, vocabulary = opened("lstm"), built("lstm")[2]
    prompt = text_of(vocabulary, 6)
    whole = generate(file, prompt, rows)
    codes, state, pieces, bits = np.tile(prompt, (rows, 1)), 0, [], 0
    for at, length in zip(np.cumsum((0, *chunks)), chunks, strict=False):
        out = generate(file, codes, rows, position=at, length=length, state=state)
        pieces.append(out["text"][:, :length])
        codes, state, bits = pieces[-1][:, -1:], out["state"], bits + out["bits"]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole["text"][:, :32])
    np.testing.assert_array_equal(state, whole["state"])
    np.testing.assert_allclose(bits, whole["bits"], rtol=1e-6)


def test_a_long_prompt_is_read_in_pieces_that_overlap_by_one():
    keras_model, _, vocabulary, _ = built("gru")
    file, codes, state = opened("gru"), text_of(vocabulary, 150), 0
    for at in range(0, 149, 63):
        state = generate(file, codes[at : at + 64], length=0, state=state)["state"]
    logits = file("step", text=codes[-1:], state=state)["logits"]
    np.testing.assert_allclose(logits[0], logits_of(keras_model, vocabulary, codes)[-1], atol=1e-4)


def test_rows_are_those_of_single_calls():
    file, vocabulary = opened("gru-one-hot"), built("gru-one-hot")[2]
    lengths = np.arange(1, 17) % 7 + 1  # texts of different lengths
    codes = np.stack([text_of(vocabulary, 8, seed) for seed in range(16)])
    seeds, positions = np.arange(16) * 17, np.arange(16) * 5
    given = {"text_length": lengths, "seed": seeds, "position": positions}
    free = generate(file, codes, 16, **given)["text"]
    # A character that comes in some rows and not in others.
    stop = min(vocabulary.codes, key=lambda code: abs((free == code).any(axis=1).sum() - 8))
    batch = generate(file, codes, 16, stop=stop, **given)
    assert 0 < batch["done"].sum() < 16, "this test needs rows that end and rows that do not"
    for r in range(16):
        one = generate(
            file, codes[r, : lengths[r]], seed=seeds[r], position=positions[r], stop=stop
        )
        for name in "text", "lengths", "done":
            np.testing.assert_array_equal(batch[name][r], one[name][0])
        for name in "bits", "state":
            np.testing.assert_allclose(batch[name][r], one[name][0], rtol=1e-5, atol=1e-5)


def test_an_idle_row_stays_as_it_is_and_disturbs_nobody():
    file, vocabulary = opened("lstm"), built("lstm")[2]
    codes, state = text_of(vocabulary, 3), np.random.default_rng(0).normal(size=(16, 64))
    all_rows = generate(file, codes, 16, state=state)
    idle = np.arange(16) % 3 == 0
    some = generate(file, codes, 16, state=state, text_length=np.where(idle, 0, 3))
    assert (some["text"][~idle] == all_rows["text"][~idle]).all()
    assert (some["lengths"][idle] == 0).all()
    assert (some["bits"][idle] == 0).all()
    np.testing.assert_array_equal(some["state"][idle], state[idle].astype(np.float32))


def test_the_stop_character_ends_a_row():
    file = opened("lstm")
    free = generate(file, [97], length=64)["text"][0]
    for stop in free[0], free[20]:
        end = free.tolist().index(stop)
        out = generate(file, [97], length=64, stop=stop)
        assert out["lengths"][0] == end
        assert out["done"][0] == 1
        assert out["text"][0].tolist() == [*free[:end], *[-1] * (64 - end)]
        # The state has read all but the last character, which is the stop character.
        same = generate(file, [97], length=end + 1)
        np.testing.assert_array_equal(out["state"], same["state"])
        np.testing.assert_array_equal(out["bits"], same["bits"])
    assert generate(file, [97], stop=0x20AC)["done"][0] == 0, "an unknown one never comes"


def test_settings_reach_the_draw():
    file = opened("lstm")
    greedy = generate(file, [97], temperature=0)["text"]
    assert (generate(file, [97], top_k=1)["text"] == greedy).all()
    assert (generate(file, [97], top_p=1e-6, seed=5)["text"] == greedy).all()
    assert (generate(file, [97])["text"] != greedy).any()
    assert (generate(file, [97], seed=1)["text"] != generate(file, [97], seed=2)["text"]).any()
    assert (generate(file, [97], seed=1)["text"] == generate(file, [97], seed=1)["text"]).all()


@pytest.mark.parametrize("rows", [1, graph.ROWS])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", (-1, np.nan, np.inf)),
        ("top_k", (-1, -(2**31))),
        ("top_p", (0, -1, 1.5, np.nan)),
        ("length", (-1, graph.DRAW + 1, 2**31 - 1)),
        ("text_length", (-1, graph.READ + 1)),
    ],
)
def test_a_setting_out_of_range_gives_an_error_value(rows, name, values):
    network, file = built("lstm")[1].runner(), opened("lstm")
    for value in values:
        for runner in network, file:
            out = generate(runner, [97], rows, **{name: value})
            assert (out["lengths"] == limits.WRONG).all()
            assert (out["text"] == -1).all()
            assert (out["bits"] == 0).all()


def test_settings_at_the_ends_of_their_ranges_are_accepted():
    file = opened("lstm")
    for given in (
        {"temperature": 2**15},
        {"top_k": 2**31 - 1},
        {"top_p": 1e-7},
        {"length": 0},
        {"length": graph.DRAW},
        {"text_length": 0},
    ):
        assert generate(file, [97], **given)["lengths"][0] >= 0


def test_assign_copies_new_weights_without_a_new_trace():
    keras_model, _, vocabulary, _ = built("lstm")
    config = ModelConfig("lstm", layers=2, units=16, embedding=5, dropout=0.0)
    other = model.build(config, vocabulary.size, seed=9)
    network = graph.OnDeviceGraph(keras_model, config, vocabulary)
    runner = network.runner()
    before = generate(runner, [97])
    network.assign(other)
    after = generate(runner, [97])
    assert (before["text"] != after["text"]).any()
    assert network.functions["generate"].experimental_get_tracing_count() == 1
    step = runner("step", text=np.int32([97]), state=np.zeros((1, 64), np.float32))
    expected = logits_of(other, vocabulary, np.int32([97]))
    np.testing.assert_allclose(step["logits"], expected, atol=1e-5)
    # The check that guards an export sees the difference as well.
    with pytest.raises(ExportError, match="differ by"):
        tflite.check(built("lstm")[3], network)


@pytest.mark.parametrize("name", CASES)
def test_check_accepts_the_network_it_came_from(name):
    _, network, _, content = built(name)
    assert tflite.check(content, network) < 1e-4


def test_a_graph_that_cannot_be_saved_is_an_error_of_the_system(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        graph.save(built("rnn-one-hot")[1], tmp_path / "file" / "folder")


def test_the_file_holds_the_weights_once_and_only_builtin_operators():
    vocabulary = VOCABULARIES["latin"]
    config = ModelConfig("lstm", layers=2, units=128, embedding=32, tied=True, dropout=0.0)
    keras_model = model.build(config, vocabulary.size)
    content = tflite.convert(graph.OnDeviceGraph(keras_model, config, vocabulary))
    weights = 4 * keras_model.count_params()
    assert weights < len(content) < weights + 200_000
    assert not tflite.operators(content).keys() & {"CUSTOM", "VAR_HANDLE", "READ_VARIABLE"}
    interpreter = Interpreter(model_content=content)
    for name in interpreter.get_signature_list():
        signature = interpreter.get_signature_runner(name)
        for details in signature.get_input_details(), signature.get_output_details():
            for tensor in details.values():
                assert tensor["dtype"] in (np.int32, np.float32)
                assert (tensor["shape_signature"] > 0).all(), "shapes are fixed"
