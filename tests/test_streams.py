import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError
from keras_charlm.text.corpus import prepare
from keras_charlm.text.split import split_corpus
from keras_charlm.text.streams import NO_TARGET, TextStream, Windows, fit_windows

START = 9999

SIZES = st.tuples(st.integers(1, 900), st.integers(1, 7), st.integers(1, 12))


def counting(size, paragraphs=()):
    """A text whose id at position p is p + 1, or 0, the newline here, before each paragraph."""
    ids = np.arange(1, size + 1, dtype=np.int32)
    for at in paragraphs:
        ids[max(at - 2, 0) : at] = 0
    return TextStream(np.arange(size), ids, 0, size)


def epoch_of(windows, epoch):
    """All batches of an epoch: inputs and targets (steps, B, T), and what begins (steps, B)."""
    batches = [windows.batch(epoch * windows.steps + k) for k in range(windows.steps)]
    return [np.stack(arrays) for arrays in zip(*batches, strict=True)]


@given(SIZES, st.integers(0, 3), st.integers(0, 2**31))
def test_every_character_is_a_target_once_in_every_epoch(sizes, epoch, seed):
    size, rows, width = sizes
    windows = Windows(counting(size), rows, width, seed, START)
    _, targets, _ = epoch_of(windows, epoch)
    assert sorted(targets[targets != NO_TARGET]) == list(range(1, size + 1))


@given(SIZES, st.integers(0, 2))
def test_the_number_of_targets_up_to_any_batch_is_known(sizes, epoch):
    size, rows, width = sizes
    windows = Windows(counting(size), rows, width)
    _, targets, _ = epoch_of(windows, epoch)
    counted = np.cumsum((targets != NO_TARGET).sum(axis=(1, 2)))
    assert [windows.targets(epoch, k + 1) for k in range(windows.steps)] == counted.tolist()


@given(SIZES)
def test_inputs_are_one_character_earlier_and_the_text_begins_with_the_start_symbol(sizes):
    size, rows, width = sizes
    inputs, targets, _ = epoch_of(Windows(counting(size), rows, width, start=START), 0)
    first = targets == 1
    assert (inputs[first] == START).all() and first.sum() == 1
    rest = (targets != NO_TARGET) & ~first
    np.testing.assert_array_equal(inputs[rest], targets[rest] - 1)


@given(SIZES)
def test_a_row_continues_its_last_window_or_begins_with_a_zero_state(sizes):
    size, rows, width = sizes
    inputs, targets, begins = epoch_of(Windows(counting(size), rows, width), 1)
    assert begins[0].all()
    goes_on = ~begins[1:] & (targets[1:, :, 0] != NO_TARGET)
    np.testing.assert_array_equal(inputs[1:, :, 0][goes_on], targets[:-1, :, -1][goes_on])


def test_segments_begin_where_paragraphs_begin_and_elsewhere_in_every_epoch():
    starts = list(range(150, 20_000, 150))
    windows = Windows(counting(20_000, starts), 4, 10)
    seen = []
    for epoch in range(6):
        inputs, _, begins = epoch_of(windows, epoch)
        at = np.argwhere(begins)
        before = np.array([inputs[k, row, 0] for k, row in at])
        assert (before == 0).sum() >= len(before) - 5  # a row may begin within a segment
        seen.append({int(inputs[k, row, 1]) for k, row in at})
    assert len(set.union(*seen)) > 2 * len(seen[0]), "the cuts differ between epochs"


def test_a_text_is_cut_at_lines_where_it_has_few_blank_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a line\n" * 999 + "\nlast\n" * 2)
    stream = split_corpus(prepare([path], CorpusConfig(val_frac=0, test_frac=0))).train
    newline = stream.read(np.array([6]), 1)[0, 0]
    breaks = stream.breaks(newline)
    text = stream.read(np.array([0]), stream.length)[0]
    assert len(breaks) == 1000 and (text[breaks - 1] == newline).all()


def test_the_pipeline_gives_the_batches_from_any_position():
    windows = Windows(counting(200), 3, 5)
    dataset = windows.dataset(7, 20)
    for k, batch in enumerate(dataset.as_numpy_iterator(), 7):
        for got, expected in zip(batch, windows.batch(k), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert k == 19
    assert [spec.shape for spec in dataset.element_spec] == [(3, 5), (3, 5), (3,)]


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
def test_batch_and_window_shrink_to_what_fits(size, rows, width, replicas):
    rows *= replicas
    stream = counting(size)
    if size < replicas:
        with pytest.raises(CorpusError, match="give it more text"):
            fit_windows(stream, rows, width, replicas)
        return
    batch, window = fit_windows(stream, rows, width, replicas)
    assert 1 <= batch <= rows
    assert 1 <= window <= width
    assert batch % replicas == 0
    assert batch == replicas or Windows(stream, batch, window).steps >= 8


@pytest.fixture
def names(tmp_path):
    def make(lines, **config):
        path = tmp_path / "list.txt"
        path.write_text("\n".join(lines))
        return prepare([path], CorpusConfig(lines=True, **config))

    return make


def test_lines_each_come_once_an_epoch_in_a_new_order(names):
    lines = [f"line {i}" for i in range(40)]
    parts = split_corpus(names(lines, val_frac=0.25, test_frac=0.1))
    counts = [len(p.lines) for p in (parts.train, parts.validation, parts.test)]
    assert counts == [26, 10, 4]
    texts = []
    for epoch in range(3):
        ids = parts.train.read(np.array([0]), parts.train.length, epoch)[0]
        text = parts.vocabulary.decode(ids)
        assert text[0] == text[-1] == "\n"
        texts.append(text[1:-1].split("\n"))
    assert sorted(texts[0]) == sorted(texts[1]) == sorted(texts[2])
    assert texts[0] != texts[1] != texts[2]
    held = [
        parts.vocabulary.decode(p.read(np.array([0]), p.length, 0)[0]).strip().split("\n")
        for p in (parts.validation, parts.test)
    ]
    assert sorted(texts[0] + held[0] + held[1]) == sorted(lines)


@pytest.mark.parametrize("epoch", [0, 4])
def test_every_character_of_every_line_is_a_target_once(names, epoch):
    parts = split_corpus(names([f"{i} {'x' * (i % 9)}" for i in range(300)], val_frac=0.1))
    stream = parts.train
    windows = Windows(stream, 3, 8, start=parts.vocabulary.id_of(parts.start))
    inputs, targets, begins = epoch_of(windows, epoch)
    counted = np.bincount(targets[targets != NO_TARGET], minlength=parts.vocabulary.size)
    text = stream.read(np.array([1]), stream.length - 1, epoch)[0]
    np.testing.assert_array_equal(counted, np.bincount(text, minlength=len(counted)))
    newline = parts.vocabulary.id_of(10)
    assert (inputs[1:, :, 0][begins[1:]] == newline).mean() > 0.8


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_lines_read_the_same_in_pieces(data):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        path.write_text("\n".join(f"{i} {'x' * (i % 7)}" for i in range(25)))
        stream = split_corpus(prepare([path], CorpusConfig(lines=True))).train
    whole = stream.read(np.array([0]), stream.length, 1)[0]
    starts = data.draw(st.lists(st.integers(0, stream.length - 5), min_size=1, max_size=5))
    pieces = stream.read(np.array(starts), 5, 1)
    for start, piece in zip(starts, pieces, strict=True):
        np.testing.assert_array_equal(piece, whole[start : start + 5])


def test_duplicates_do_not_leak_over_the_split(names):
    parts = split_corpus(names(["Ann", "Bob", "Cy", "Dee"] * 10, val_frac=0.5, test_frac=0.0))
    assert len(parts.train.lines) + len(parts.validation.lines) == 4


def test_copies_of_a_line_stay_together_where_they_are_kept(names):
    rows = [
        name
        for i, name in enumerate(["Ann", "Bob", "Cy", "Dee", "Eve", "Flo"])
        for _ in range(i + 1)
    ]
    parts = split_corpus(names(rows, val_frac=0.34, test_frac=0.34, duplicates=True))
    prints = [
        part.lines.fingerprints.tolist() for part in (parts.train, parts.validation, parts.test)
    ]
    assert sum(map(len, prints)) == len(rows) and all(prints)
    sets = [set(part) for part in prints]
    assert sum(map(len, sets)) == len(set().union(*sets)) == 6
    plain = split_corpus(names(rows, val_frac=0.34, test_frac=0.34))
    assert set(plain.train.lines.fingerprints.tolist()) == sets[0]


def test_text_is_cut_in_order_and_the_vocabulary_is_the_training_parts(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("ab" * 45 + "xxxxx" + "yyyyy")
    parts = split_corpus(prepare([path]))
    assert (parts.train.length, parts.validation.length, parts.test.length) == (90, 5, 5)
    assert parts.vocabulary.codes == (97, 98)
    assert set(parts.validation.read(np.array([0]), 5)[0]) == {0}
    assert parts.start == 97


def test_rare_characters_fold_into_the_unknown_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("ab" * 50 + "c")
    config = CorpusConfig(min_count=2, val_frac=0, test_frac=0)
    assert split_corpus(prepare([path], config)).vocabulary.codes == (97, 98)


@pytest.mark.parametrize("text", ["a", "aaaaaa"])
def test_one_distinct_character_is_too_few(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(CorpusError, match="1 distinct char seen"):
        split_corpus(prepare([path]))
