"""Laws of drawing a character."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_charlm.network import sampling

GRID = np.linspace(0, 1, 4001, endpoint=False, dtype=np.float32)
HIGHEST = np.float32(1 - 2**-24)


def draw(logits, uniform, *cuts):
    logits = np.asarray(logits, np.float32)
    uniform = np.atleast_1d(np.asarray(uniform, np.float32))
    if logits.ndim == 1:
        logits = np.tile(logits, (len(uniform), 1))
    return sampling.draw(tf.constant(logits), tf.constant(uniform), *cuts).numpy()


def uniform(seed, position):
    seed, position = np.broadcast_arrays(np.int32(seed), np.int32(position))
    return sampling.uniform(tf.constant(seed), tf.constant(position)).numpy()


def chi_square(counts, expected):
    """In standard deviations from its mean, for many degrees of freedom or few."""
    freedom = len(counts) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize("axis", ["positions of a seed", "seeds at a position"])
@pytest.mark.parametrize("fixed", [0, 1, 12345, 2**31 - 1])
def test_uniform_is_uniform(axis, fixed):
    moving = np.arange(100_000)
    u = uniform(fixed, moving) if axis == "positions of a seed" else uniform(moving, fixed)
    assert u.dtype == np.float32
    assert u.min() >= 0
    assert u.max() < 1
    assert chi_square(np.histogram(u, 256, (0, 1))[0], len(u) / 256) < 5
    # Neighbours are independent, as pairs in a square of 16 x 16.
    pairs = np.histogram2d(u[:-1], u[1:], 16, ((0, 1), (0, 1)))[0].ravel()
    assert chi_square(pairs, (len(u) - 1) / 256) < 5


def test_uniform_differs_over_seeds_and_positions():
    # 2**24 values and 10,000 draws: about three coincidences by chance, not whole rows of them.
    grid = uniform(np.arange(100)[:, None], np.arange(100)[None])
    assert len(np.unique(grid)) > 9_980
    assert not (grid[1:, :-1] == grid[:-1, 1:]).any(), "a seed must not be another one shifted"


def test_uniform_does_not_depend_on_neighbours():
    seeds, positions = np.array([3, -7, 2**31 - 1, 0]), np.array([0, 5, 1000, 2**31 - 1])
    together = uniform(seeds, positions)
    alone = [uniform([s], [p])[0] for s, p in zip(seeds, positions, strict=True)]
    assert together.tolist() == alone


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_match_the_probabilities(temperature):
    logits = np.float32([9.0, 0.1, -1.0, 2.0, 1.9, -0.5, 0.0])  # the first is the unknown symbol
    n = 50_000
    ids = draw(logits, uniform(7, np.arange(n)), temperature)
    weights = np.exp(logits[1:] / temperature)
    expected = n * weights / weights.sum()
    assert chi_square(np.bincount(ids, minlength=7)[1:], expected) < 4


def test_temperature_0_is_the_likeliest_and_equals_top_k_1():
    logits = np.random.default_rng(0).normal(0, 3, (200, 30)).astype(np.float32)
    u = uniform(1, np.arange(200))
    likeliest = logits[:, 1:].argmax(axis=1) + 1
    assert (draw(logits, u, 0.0) == likeliest).all()
    assert (draw(logits, u, 1.3, 1) == likeliest).all()
    assert (draw(logits, u, 0.0, 5, 0.9) == likeliest).all()
    assert (draw(logits, u, 1e-30) == likeliest).all(), "a low temperature must not overflow"


@given(k=st.integers(1, 12))
@settings(max_examples=12, deadline=None)
def test_top_k_keeps_the_k_likeliest(k):
    logits = np.random.default_rng(1).permutation(np.linspace(-1, 1, 10)).astype(np.float32)
    likeliest = np.argsort(-logits[1:])[:k] + 1
    assert set(draw(logits, GRID, 1.0, k)) == set(likeliest)


@given(
    p=st.floats(0.01, 1), temperature=st.sampled_from([0.7, 1.0, 1.5]), k=st.sampled_from([0, 4])
)
@settings(max_examples=50, deadline=None)
def test_top_p_keeps_the_smallest_nucleus(p, temperature, k):
    logits = np.random.default_rng(2).permutation(np.linspace(-2, 2, 10))
    order = np.argsort(-logits[1:])[: k or None] + 1
    weights = np.exp(logits[order] / temperature)
    below = np.cumsum(weights / weights.sum())
    if np.abs(below - p).min() < 1e-5 and p < 1:
        return  # on the edge rounding decides
    nucleus = order[: np.searchsorted(below, p) + 1]
    assert set(draw(logits, GRID, temperature, k, p)) == set(nucleus)


def test_top_p_comes_after_temperature_and_top_k():
    logits = np.log(np.float32([1.0, 0.5, 0.3, 0.2]))  # the first is the unknown symbol
    assert set(draw(logits, GRID, 1.0, 0, 0.6)) == {1, 2}
    assert set(draw(logits, GRID, 0.25, 0, 0.6)) == {1}, "sharpened first"
    assert set(draw(logits, GRID, 1.0, 2, 0.6)) == {1}, "of what top-k leaves, 0.625 is the first"


@given(
    logits=hnp.arrays(
        np.float32,
        st.tuples(st.just(1), st.integers(2, 40)),
        # Processors may take numbers below the normal ones for zero.
        elements=st.one_of(
            st.floats(-30, 30, width=32, allow_subnormal=False), st.sampled_from([0.0, 1e30, -1e30])
        ),
    ),
    u=st.sampled_from([0.0, 0.5, HIGHEST]),
    temperature=st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
    k=st.sampled_from([0, 1, 3, 1000]),
    p=st.sampled_from([1e-6, 0.5, 1.0]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_the_logits_what_is_drawn_is_known_and_among_the_likeliest(
    logits, u, temperature, k, p
):
    (drawn,) = draw(logits, u, temperature, k, p)
    known = logits[0, 1:]
    assert 1 <= drawn <= len(known)
    rank = (known > known[drawn - 1]).sum()
    assert rank < (1 if temperature == 0 else k or len(known))


def test_rows_do_not_depend_on_each_other():
    logits = np.random.default_rng(3).normal(size=(16, 20)).astype(np.float32)
    u = uniform(0, np.arange(16))
    alone = [draw(logits[i], u[i], 0.9, 7, 0.8)[0] for i in range(16)]
    assert draw(logits, u, 0.9, 7, 0.8).tolist() == alone


def test_rows_with_settings_of_their_own_draw_as_if_alone():
    random = np.random.default_rng(0)
    logits, uniform = np.float32(random.normal(0, 2, (40, 9))), np.float32(random.random(40))
    temperature = np.float32(random.choice([0, 0.5, 1], (40, 1)))
    top_k = np.int32(random.choice([0, 3], (40, 1)))
    top_p = np.float32(random.choice([0.7, 1], (40, 1)))
    together = sampling.draw(logits, uniform, temperature, top_k, top_p).numpy()
    alone = [
        int(
            sampling.draw(
                logits[r : r + 1], uniform[r : r + 1], temperature[r], top_k[r], top_p[r]
            )[0]
        )
        for r in range(40)
    ]
    assert together.tolist() == alone
