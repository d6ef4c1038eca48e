"""The margin of error of a mean over the characters of a text."""

import math

import numpy as np
import pytest

from keras_charlm.evaluation.scores import margin


@pytest.mark.parametrize(("size", "memory"), [(300, 0.0), (20_000, 0.0), (20_000, 0.9)])
def test_it_contains_the_true_mean_in_95_of_100_texts(size, memory):
    random = np.random.default_rng(0)
    bits = random.normal(size=(size, 400))
    for t in range(1, size):
        bits[t] = memory * bits[t - 1] + math.sqrt(1 - memory**2) * bits[t]
    within = [abs(text.mean()) <= margin(text) for text in bits.T]
    assert 0.91 <= np.mean(within) <= 0.98
    naive = 1.96 / math.sqrt(size)  # as if all characters were independent
    if memory:
        assert np.mean(np.abs(bits.mean(0)) <= naive) < 0.5


@pytest.mark.parametrize(("blocks", "quantile"), [(5, 2.776), (10, 2.262), (30, 2.045)])
def test_it_is_student_s_t_of_the_blocks(blocks, quantile):
    means = np.arange(blocks) ** 2.0
    expected = quantile * means.std(ddof=1) / math.sqrt(blocks)
    assert margin(np.repeat(means, 10)) == pytest.approx(expected, rel=0.003)
    assert margin(np.repeat(means, 10).astype(np.float32) + 9) == pytest.approx(expected, rel=0.003)


def test_blocks_of_a_long_text_have_1000_characters():
    alternating = np.tile([0.0, 1.0], 20_000)  # within blocks it cancels
    assert margin(alternating) == pytest.approx(0, abs=1e-12)
    waves = np.repeat(np.tile([0.0, 1.0], 20), 1000)
    assert margin(waves) == pytest.approx(2.023 * math.sqrt(0.25 / 39), rel=0.003)


def test_a_text_of_a_few_characters_tells_nothing():
    assert margin(np.zeros(0)) == margin(np.ones(1)) == margin(np.arange(49)) == math.inf
    assert math.isfinite(margin(np.arange(50)))
