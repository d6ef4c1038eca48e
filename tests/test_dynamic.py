import numpy as np
import pytest
from test_evaluation import SIZE, network, text

from keras_charlm.evaluation import dynamic
from keras_charlm.evaluation.evaluator import Evaluator
from keras_charlm.text.streams import TextStream


def stream(ids):
    return TextStream(np.asarray(ids, np.int32), np.arange(SIZE, dtype=np.int32), 0, len(ids))


@pytest.mark.parametrize("cell, size", [("lstm", 1), ("lstm", 40), ("gru", 45)])
def test_at_no_rate_it_is_the_static_figure(cell, size):
    bits, hits = dynamic.characters(network(cell), 4, text(size), 1e-30)
    static, right = Evaluator(network(cell), 4).characters(text(size), rows=1)
    np.testing.assert_allclose(bits, static, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(hits, right)


def test_each_character_is_scored_before_anything_is_learnt_from_it():
    one = text(100).symbols
    other = one.copy()
    other[70:] = text(30, seed=5).symbols
    first, second = (dynamic.characters(network(), 4, stream(ids), 0.01)[0] for ids in (one, other))
    np.testing.assert_array_equal(first[:70], second[:70])
    assert not np.allclose(first[70:], second[70:])


def test_it_learns_what_comes_again():
    again = stream(np.tile(text(10).symbols, 60))
    static, _ = Evaluator(network(), 4).characters(again)
    bits, _ = dynamic.characters(network(), 4, again, 0.01)
    assert bits[-100:].mean() < static[-100:].mean() - 1


def test_the_weights_stay_near_the_trained_ones(monkeypatch):
    def moved(decay):
        monkeypatch.setattr(dynamic, "DECAY", decay)
        model = network()
        before = [np.array(w) for w in model.trainable_weights]
        dynamic.characters(model, 4, text(300), 0.01)
        return sum(
            float(np.abs(np.array(w) - b).sum())
            for w, b in zip(model.trainable_weights, before, strict=True)
        )

    assert 0 < moved(0.5) < moved(0.05) < moved(0.0)


def test_nothing_is_nothing():
    assert [len(a) for a in dynamic.characters(network(), 4, text(0), 0.1)] == [0, 0]
