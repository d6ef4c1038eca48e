import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from conftest import babble
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import OptionError
from keras_charlm.evaluation import ngram
from keras_charlm.evaluation.scores import margin
from keras_charlm.text import corpus
from keras_charlm.text.split import split_corpus

texts = st.integers(0, 2**32).map(
    lambda seed: np.random.default_rng(seed).choice(4, 60, p=[0.1, 0.5, 0.3, 0.1])
)


def test_a_hand_worked_example():
    # Symbols 0 (unknown), a = 1 and b = 2; the text "aaba" has the pairs aa, ab and ba, once each.
    # No pair is seen twice, so discounts are 0.5, 1 and 1.5. After a: 2 pairs of 2 kinds, so 0.5 is
    # left over. Before a stand two symbols, before b one: (2 - 1) / 3 and (1 - 0.5) / 3, and 0.5
    # is left for 1/3 each: p(a) = 1/2, p(b) = 1/3, p(unknown) = 1/6.
    counted = ngram.fit(np.array([1, 1, 2, 1]), size=3, order=2, start=1)
    np.testing.assert_allclose(counted.probabilities([]), [1 / 6, 1 / 2, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(counted.probabilities([1]), [1 / 12, 1 / 2, 5 / 12], rtol=1e-6)
    np.testing.assert_allclose(counted.probabilities([2]), [1 / 12, 3 / 4, 1 / 6], rtol=1e-6)
    np.testing.assert_allclose(counted.probabilities([0]), [1 / 6, 1 / 2, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(
        counted.bits(np.array([1, 2, 1])), [-math.log2(5 / 12), -math.log2(3 / 4)], rtol=1e-6
    )


def reference(text, size, order):
    """Modified Kneser-Ney smoothing by dictionaries, as Chen and Goodman write it."""
    grams = [
        Counter(tuple(text[i : i + k]) for i in range(len(text) - k + 1))
        for k in range(1, order + 2)
    ]
    tables = []
    for k in range(1, order + 1):
        counts = grams[k - 1]
        if k < order:
            before = Counter(gram[1:] for gram in grams[k])
            counts = {gram: before.get(gram) or count for gram, count in counts.items()}
        of = Counter(counts.values())
        discount = [0, 0.5, 1, 1.5]
        if of[1] and of[2] and of[3]:
            y = of[1] / (of[1] + 2 * of[2])
            exact = [0] + [n - (n + 1) * y * of[n + 1] / of[n] for n in (1, 2, 3)]
            discount = exact if min(exact[1:]) > 0 else discount
        after = defaultdict(dict)
        for gram, count in counts.items():
            after[gram[:-1]][gram[-1]] = count
        tables.append((discount, after))

    def p(symbol, context):
        if context is None:
            return 1 / size
        shorter = p(symbol, context[1:] if context else None)
        discount, after = tables[len(context)]
        seen = after.get(context)
        if not seen:
            return shorter
        total, left = sum(seen.values()), sum(discount[min(c, 3)] for c in seen.values())
        count = seen.get(symbol, 0)
        return (count - discount[min(count, 3)]) / total + left / total * shorter

    return p


@settings(max_examples=25, deadline=None)
@given(texts, texts, st.integers(1, 5))
def test_it_is_modified_kneser_ney(train, text, order):
    counted, p = ngram.fit(train, 5, order, start=0), reference(train.tolist(), 5, order)
    expected = [
        p(text[i], tuple(text[max(0, i - order + 1) : i].tolist())) for i in range(1, len(text))
    ]
    np.testing.assert_allclose(2 ** -counted.bits(text), expected, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(texts, texts, st.integers(1, 6), st.sampled_from([None, 1]))
def test_every_context_gives_a_distribution_and_bits_are_its_logarithms(
    train, text, order, boundary
):
    counted = ngram.fit(train, 5, order, start=0, boundary=boundary)
    bits = counted.bits(text)
    for at in range(1, len(text)):
        p = counted.probabilities(text[:at])
        assert p.sum() == pytest.approx(1, abs=1e-6)
        assert (p > 0).all()
        assert -math.log2(p[text[at]]) == pytest.approx(bits[at - 1], abs=1e-5)


def test_no_counts_at_all_give_log2_of_the_vocabulary():
    assert ngram.NGram(7, 0, None, ()).bits(np.arange(7)) == pytest.approx([math.log2(7)] * 6)


def test_a_long_text_is_scored_in_blocks(monkeypatch):
    train, text = np.random.default_rng(0).integers(0, 4, (2, 500))
    counted = ngram.fit(train, 4, 5, start=0)
    whole = counted.bits(text)
    monkeypatch.setattr(ngram, "_BLOCK", 7)
    np.testing.assert_array_equal(counted.bits(text), whole)
    assert len(counted.bits(text[:1])) == 0


def cats(folder, lines=False, **fractions):
    path = folder / "cats.txt"
    path.write_text(babble(3000))
    return split_corpus(corpus.prepare([path], CorpusConfig(lines=lines, **fractions)))


@pytest.mark.parametrize("lines", [False, True])
def test_the_order_is_the_best_on_the_validation_part(tmp_path, lines):
    parts = cats(tmp_path, lines, val_frac=0.2)
    chosen = ngram.baseline(parts)
    train = parts.train.read(np.array([0]), parts.train.length)[0]
    figures = [
        ngram.fit(train, chosen.size, order, chosen.start, chosen.boundary).bits_per_character(
            parts.validation
        )
        for order in range(1, ngram.MOST_ORDER + 1)
    ]
    assert chosen.order == 1 + int(np.argmin(figures))
    assert 1 < chosen.order < ngram.MOST_ORDER
    assert chosen.bits_per_character(parts.validation) == pytest.approx(min(figures))
    assert ngram.baseline(parts, most_order=2).order == 2


def test_without_a_validation_part_the_order_is_a_fixed_one(tmp_path):
    parts = cats(tmp_path, val_frac=0)
    counted = ngram.baseline(parts)
    assert counted.order == ngram.ORDER
    assert math.isnan(counted.bits_per_character(parts.validation))


def test_the_characters_are_those_that_the_network_is_scored_on(tmp_path):
    from keras_charlm.config import ModelConfig
    from keras_charlm.evaluation.evaluator import Evaluator
    from keras_charlm.network.model import build

    for lines in (False, True):
        parts = cats(tmp_path, lines, val_frac=0.2)
        counted = ngram.NGram(parts.vocabulary.size, 1, None, ())
        network = build(ModelConfig(layers=1, units=2, embedding=2, dropout=0.0), counted.size)
        network.get_layer("logits").kernel.assign(network.get_layer("logits").kernel * 0)
        scores = Evaluator(network, 1)(parts.validation)
        assert scores.characters == len(counted.bits(ngram.read(parts.validation, 1)))
        assert counted.bits_per_character(parts.validation) == pytest.approx(
            scores.bits_per_character, rel=1e-6
        )


def test_of_a_list_no_line_knows_the_line_before_it():
    lines = [[2, 3, 2], [3, 3], [2, 4, 4, 2], [4, 2], [3, 3, 4]] * 3
    joined = [
        np.array([1] + [i for line in some for i in [*line, 1]]) for some in (lines, lines[::-1])
    ]
    one, two = (ngram.fit(ids, 5, 5, start=1, boundary=1) for ids in joined)
    for a, b in zip(one.levels, two.levels, strict=True):
        np.testing.assert_array_equal(a.keys, b.keys)
        np.testing.assert_array_equal(a.mass, b.mass)
    assert one.bits(joined[0]).mean() == pytest.approx(one.bits(joined[1]).mean())
    np.testing.assert_array_equal(one.probabilities([2, 4, 1]), one.probabilities([1]))


def test_unsmoothed_counts_draw_only_what_was_counted():
    train = np.random.default_rng(0).integers(1, 4, 400)
    counted = ngram.fit(train, 4, 4, start=1)
    drawn = counted.generate(300, prompt=train[:3], seed=1)
    np.testing.assert_array_equal(drawn, counted.generate(300, prompt=train[:3], seed=1))
    text = np.concatenate([train[:3], drawn]).tolist()
    known = {tuple(train[i : i + 4]) for i in range(397)}
    assert sum(tuple(text[i : i + 4]) in known for i in range(300)) >= 299  # but for a dead end
    assert len(set(drawn.tolist())) == 3
    unknown = counted.generate(20, prompt=np.array([0]))
    assert unknown.min() >= 1


def test_symbols_are_drawn_as_often_as_they_followed():
    train = np.array([1, 2] * 30 + [1, 3] * 10)
    drawn = ngram.fit(train, 4, 2, start=1).generate(4000, seed=3)
    after = Counter(b for a, b in itertools.pairwise(drawn) if a == 1)
    assert after[2] / sum(after.values()) == pytest.approx(0.75, abs=0.05)


def test_nothing_cannot_be_counted():
    with pytest.raises(OptionError, match="at least 1"):
        ngram.fit(np.array([1]), 3, 0, start=1)
    with pytest.raises(OptionError, match="at least 1"):
        ngram.fit(np.zeros(0, int), 3, 2, start=1)


def test_the_scores_of_a_card_have_the_margin_of_the_difference(tmp_path):
    parts = cats(tmp_path, val_frac=0.2, test_frac=0)
    counted = ngram.baseline(parts)
    bits = counted.bits(ngram.read(parts.validation, counted.start))
    noise = np.random.default_rng(0).normal(size=len(bits))
    (row,) = ngram.scores(parts, {"validation": bits + noise})
    assert row == {
        "order": counted.order,
        "validation": pytest.approx(bits.mean()),
        "validation_margin": pytest.approx(margin(noise)),
        "test": None,
        "test_margin": None,
    }
    (same,) = ngram.scores(parts, {"validation": bits})
    assert same["validation_margin"] == 0
