"""Text drawn from n-grams, which short texts are trained on besides themselves."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_charlm.config import CorpusConfig, FitConfig
from keras_charlm.evaluation import ngram
from keras_charlm.text.corpus import prepare
from keras_charlm.text.split import split_corpus
from keras_charlm.text.streams import NO_TARGET, TextStream, Windows
from keras_charlm.training.synthetic import Sampler, find_synthetic, possible

TEXT = "the cat sat on the mat.\nthe rat sat on the cat.\n\na mat is not a hat.\n" * 3
NAMES = ["anna", "hannah", "ann", "bob", "bobby", "rob", "nora", "dora", "norbert", "robert"] * 9


@pytest.mark.parametrize("context", ["", "t", "the ", "on the ", "zzz", "\n"])
def test_symbols_are_drawn_by_the_smoothed_distribution_without_its_uniform_share(context):
    symbols = sorted(set(TEXT))
    ids = np.array([symbols.index(c) + 1 for c in TEXT])
    grams = ngram.fit(ids, len(symbols) + 1, 4, 1)
    context = np.array([symbols.index(c) + 1 if c in symbols else 0 for c in context], np.int64)
    rows = 20_000
    drawn = Sampler(grams).draw(np.tile(context, (rows, 1)), 1, np.random.default_rng(0))
    first, *others = grams.levels
    first = replace(first, mass=first.mass / first.mass.sum(), back_off=np.zeros(1, np.float32))
    expected = replace(grams, levels=(first, *others)).probabilities(context)
    seen = np.bincount(drawn[:, 0], minlength=grams.size) / rows
    assert seen[0] == expected[0] == 0  # the unknown symbol
    np.testing.assert_allclose(seen, expected, atol=4 * np.sqrt(0.25 / rows))


class Rows:
    """More text, with ids from 10,000 on; the first of a row is 20,000."""

    def __init__(self, rows, width):
        self.rows, self.width = rows, width

    def read(self, epoch):
        ids = 10_000 + np.arange(self.rows * self.width).reshape(self.rows, self.width)
        return np.hstack([np.full((self.rows, 1), 20_000), ids]).astype(np.int32)


@given(
    st.tuples(st.integers(1, 500), st.integers(1, 7), st.integers(1, 12)),
    st.tuples(st.integers(1, 9), st.integers(1, 4)),
    st.integers(0, 2),
)
@settings(deadline=None)
def test_every_character_of_the_text_and_of_what_was_drawn_is_a_target_once(sizes, more, epoch):
    size, batch, width = sizes
    text = TextStream(np.arange(size), np.arange(1, size + 1, dtype=np.int32), 0, size)
    rows = Rows(more[0], more[1] * width)
    windows = Windows(text, batch, width, start=9999, synthetic=rows)
    inputs, targets, begins = (
        np.stack(arrays)
        for arrays in zip(
            *(windows.batch(epoch * windows.steps + k) for k in range(windows.steps)), strict=True
        )
    )
    wanted = targets != NO_TARGET
    drawn = 10_000 + np.arange(rows.rows * rows.width)
    assert sorted(targets[wanted]) == [*range(1, size + 1), *drawn]
    first = wanted & (targets >= 10_000) & ((targets - 10_000) % rows.width == 0)
    assert (inputs[first] == 20_000).all()
    assert begins[first.any(axis=2)].all() and first.sum() == rows.rows  # from a zero state
    rest = wanted & ~first & (targets > 1)
    np.testing.assert_array_equal(inputs[rest], targets[rest] - 1)
    counted = np.cumsum(wanted.sum(axis=(1, 2)))
    assert [windows.targets(epoch, k + 1) for k in range(windows.steps)] == counted.tolist()


def split_of(tmp_path, text, **config):
    path = tmp_path / ("text.csv" if config.get("labels") else "text.txt")
    path.write_text(text, encoding="utf-8")
    return split_corpus(prepare(str(path), CorpusConfig(**config)))


def texts(split, drawn):
    return ["".join(chr(c) for c in split.vocabulary.codes_by_id[row]) for row in drawn]


def test_each_epoch_has_other_text_and_the_same_again_after_resuming(tmp_path):
    split = split_of(tmp_path, TEXT)
    fit = FitConfig(synthetic=1.0, seq_length=8)
    one, other = find_synthetic(split, fit), find_synthetic(split, fit)
    np.testing.assert_array_equal(one.read(3), other.read(3))
    assert (one.read(3) != one.read(4)).any()
    assert (one.read(3) != find_synthetic(split, replace(fit, seed=1)).read(3)).any()
    assert one.rows * one.width == pytest.approx(split.train.length, rel=0.1)


def test_rows_of_a_text_begin_where_its_paragraphs_do(tmp_path):
    text = "First words follow.\nthen more of them\nand more\n\n" * 40
    split = split_of(tmp_path, text)
    drawn = texts(split, find_synthetic(split, FitConfig(synthetic=1.0, seq_length=8)).read(0))
    assert {row[:2] for row in drawn} == {"\nF"}


def test_rows_of_a_list_are_lines(tmp_path):
    split = split_of(tmp_path, "\n".join(NAMES), lines=True, duplicates=True)
    synthetic = find_synthetic(split, FitConfig(synthetic=2.0, seq_length=8))
    drawn = "".join(texts(split, synthetic.read(0)))
    lines = set(drawn.split("\n"))
    assert lines & set(NAMES) and lines - set(NAMES)  # known ones and new ones
    assert set(drawn) <= set("".join(NAMES) + "\n")


def test_lines_drawn_for_a_label_are_like_its_own(tmp_path):
    names = NAMES * 5  # those with the label vowel end in one
    table = "".join(f"{n},{'vowel' if n[-1] in 'aeiouy' else 'consonant'}\n" for n in names)
    split = split_of(tmp_path, "name,end\n" + table, labels="end", duplicates=True)
    fit = FitConfig(synthetic=2.0, seq_length=8)
    drawn = find_synthetic(split, fit).read(0).ravel()
    vocabulary, newline = split.vocabulary, split.vocabulary.id_of(10)
    label, ends = 0, {"vowel": [], "consonant": []}
    values = {label.id: label.value for label in split.labels}
    for before, after in itertools.pairwise(drawn):
        if before == newline:
            label = values.get(after)
        elif after == newline and label and before < vocabulary.size:
            ends[label].append(chr(vocabulary.codes_by_id[before]) in "aeiouy")
    assert min(len(found) for found in ends.values()) > 20
    assert np.mean(ends["vowel"]) > 0.9 and np.mean(ends["consonant"]) < 0.1
    windows = Windows(split.train, 4, 8, start=newline, synthetic=find_synthetic(split, fit))
    targets = np.concatenate([windows.batch(k)[1].ravel() for k in range(windows.steps)])
    assert targets.max() < vocabulary.size  # labels are read, not predicted
    assert (targets != NO_TARGET).sum() == windows.targets(0, windows.steps)


def test_without_it_there_is_none(tmp_path):
    split = split_of(tmp_path, TEXT)
    assert find_synthetic(split, FitConfig(synthetic=0)) is None


def test_files_with_labels_of_their_own_have_none(tmp_path):
    paths = [tmp_path / "cat.txt", tmp_path / "rat.txt"]
    for path in paths:
        path.write_text(TEXT * 3)
    fit = FitConfig(synthetic=1.0, seq_length=8)
    for config, some in (({}, False), ({"documents": True}, True)):
        corpus = prepare(paths, CorpusConfig(label_by_file=True, **config))
        assert possible(split_corpus(corpus)) == some
        assert (find_synthetic(split_corpus(corpus), fit) is not None) == some
