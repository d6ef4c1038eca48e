import math

import numpy as np
import pytest
import tensorflow as tf

from keras_charlm.config import ModelConfig
from keras_charlm.evaluation import evaluator as evaluator_module
from keras_charlm.evaluation.evaluator import Evaluator
from keras_charlm.network import recurrent
from keras_charlm.network.model import build, run, zero_states
from keras_charlm.text.streams import TextStream

SIZE = 7


def network(cell="lstm", embedding=3, tied=True, seed=0, scale=3.0, policy="float32"):
    model = build(
        ModelConfig(
            cell=cell, layers=2, units=6, embedding=embedding, tied=tied, dropout=0.5, noise=0.5
        ),
        SIZE,
        seed=seed,
        policy=policy,
    )
    for weight in model.trainable_weights:  # so large that the state matters
        weight.assign(weight * scale)
    return model


def text(size, seed=0):
    ids = np.random.default_rng(seed).integers(1, SIZE, size).astype(np.int32)
    return TextStream(ids, np.arange(SIZE, dtype=np.int32), 0, size)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("embedding, tied", [(0, False), (3, False), (3, True)])
def test_a_text_equals_its_chunks(cell, embedding, tied):
    model = network(cell, embedding, tied)
    ids = tf.constant(text(40).symbols[None])
    whole, end = run(model, ids, zero_states(model, 1))
    states, parts = zero_states(model, 1), []
    for piece in tf.split(ids, [1, 7, 20, 12], axis=1):
        logits, states = run(model, piece, states)
        parts.append(logits)
    np.testing.assert_allclose(tf.concat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    for a, b in zip(tf.nest.flatten(states), tf.nest.flatten(end), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_running_equals_the_stateful_model_and_leaves_it_alone():
    model = network()
    ids = tf.constant(text(30).symbols[None])
    ours, _ = run(model, ids, zero_states(model, 1))
    np.testing.assert_allclose(model(ids, training=False), ours, rtol=1e-4, atol=1e-5)
    again = model(ids, training=False)  # the model's own state went on, so this differs
    assert not np.allclose(again, ours, atol=1e-3)


def test_uniform_logits_give_log2_of_the_vocabulary():
    model = network()
    for weight in model.get_layer("logits").weights:
        weight.assign(weight * 0)
    for size in (1, 2, 129, 1000):
        scores = Evaluator(model, 0)(text(size))
        assert scores.characters == size
        assert scores.bits_per_character == pytest.approx(math.log2(SIZE), rel=1e-6)
        assert scores.perplexity == pytest.approx(SIZE, rel=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 127, 128, 129, 500])
def test_every_character_is_scored_once_given_all_before_it(size):
    model, stream = network(), text(size)
    logits, _ = run(
        model,
        np.concatenate([[4], stream.symbols[:-1]])[None].astype(np.int32),
        zero_states(model, 1),
    )
    logs = tf.nn.log_softmax(logits)[0].numpy()[np.arange(size), stream.symbols]
    scores = Evaluator(model, 4)(stream)
    assert scores.nats_per_character == pytest.approx(-logs.mean(), rel=1e-5)
    assert scores.accuracy == pytest.approx(
        (tf.argmax(logits, -1)[0].numpy() == stream.symbols).mean()
    )


@pytest.mark.parametrize("policy, bound", [("float32", 1e-5), ("mixed_bfloat16", 0.1)])
@pytest.mark.parametrize(
    "cell, embedding, tied",
    [("lstm", 3, True), ("lstm", 0, False), ("gru", 3, False), ("rnn", 0, False)],
)
def test_step_by_step_and_layer_by_layer_agree(cell, embedding, tied, policy, bound, monkeypatch):
    model = network(cell, embedding, tied, scale=1.5, policy=policy)
    bits, hits = Evaluator(model, 4).characters(text(700), rows=20)
    monkeypatch.setattr(recurrent, "has_stepper", lambda _: False)
    whole, right = Evaluator(model, 4).characters(text(700), rows=20)
    np.testing.assert_allclose(bits, whole, rtol=bound, atol=bound)
    assert 0 < hits.sum() < 700
    assert (hits == right).mean() > 1 - bound


def test_of_equal_logits_the_first_is_the_likeliest(monkeypatch):
    model = network()
    for weight in model.get_layer("logits").weights:
        weight.assign(weight * 0)
    model.get_layer("logits").bias.assign([0.0, 0, 1, 0, 1, 0, 0])
    for steps in (True, False):
        monkeypatch.setattr(recurrent, "has_stepper", lambda _, steps=steps: steps)
        _, hits = Evaluator(model, 0).characters(text(100))
        np.testing.assert_array_equal(hits, text(100).symbols == 2)


@pytest.mark.parametrize("size, rows", [(1000, 3), (1001, 7), (523, 5), (530, 64)])
def test_parallel_rows_agree_with_one(size, rows, monkeypatch):
    monkeypatch.setattr(evaluator_module, "WARM_UP", 100)
    evaluator = Evaluator(network(scale=1.0), 0)  # larger weights may never forget
    one, many = evaluator(text(size), rows=1), evaluator(text(size), rows=rows)
    assert many.characters == one.characters == size
    assert many.nats_per_character == pytest.approx(one.nats_per_character, abs=1e-6)


@pytest.mark.parametrize("size, width", [(1, 5), (30, 7), (40, 10), (60, 2)])
def test_windows_begin_with_a_zero_state_and_the_character_before(size, width):
    model, stream = network(), text(size)
    evaluator = Evaluator(model, 4)
    nats, before = 0.0, 4
    for at in range(0, size, width):
        piece = stream.symbols[at : at + width]
        inputs = np.concatenate([[before], piece[:-1]])[None].astype(np.int32)
        logits, _ = run(model, inputs, zero_states(model, 1))
        logs = tf.nn.log_softmax(logits)[0].numpy()
        nats -= logs[np.arange(len(piece)), piece].sum()
        before = piece[-1]
    scores = evaluator.windows(stream, width).scores()
    assert scores.characters == size
    assert scores.nats_per_character == pytest.approx(nats / size, rel=1e-5)
    whole = evaluator.windows(stream, size).scores()
    assert whole.nats_per_character == pytest.approx(evaluator(stream).nats_per_character, rel=1e-5)


def test_an_empty_text_has_no_score():
    scores = Evaluator(network(), 0)(text(0))
    assert scores.characters == 0
    assert math.isnan(scores.bits_per_character)


def test_more_rows_than_a_window_may_have_characters(monkeypatch):
    monkeypatch.setattr(evaluator_module, "_MOST_IN_MEMORY", 4)
    monkeypatch.setattr(evaluator_module, "_by_steps", lambda model: False)
    evaluator = Evaluator(network(), 0)
    assert evaluator.total(text(2000), rows=12).characters == 2000
