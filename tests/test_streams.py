import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError
from keras_charlm.text.corpus import prepare
from keras_charlm.text.split import split_corpus
from keras_charlm.text.streams import TextStream, Windows, fit_windows

SIZES = st.tuples(st.integers(2, 400), st.integers(1, 7), st.integers(1, 12)).filter(
    lambda s: s[0] - 1 >= s[1] * s[2]
)


def counting(size):
    """A text whose id at position p is p."""
    return TextStream(np.arange(size), np.arange(size, dtype=np.int32), 0, size)


@given(SIZES, st.integers(0, 3))
def test_windows_tile_the_text_exactly_once(sizes, epoch):
    size, rows, width = sizes
    windows = Windows(counting(size), rows, width)
    seen = np.concatenate(
        [windows.batch(epoch * windows.steps + k)[0].ravel() for k in range(windows.steps)]
    )
    assert len(seen) == len(set(seen))
    first = windows.offset(epoch)
    assert set(seen) == set(range(first, first + rows * width * windows.steps))
    assert first + len(seen) < size


@given(SIZES)
def test_targets_are_inputs_one_character_later_across_windows_too(sizes):
    size, rows, width = sizes
    windows = Windows(counting(size), rows, width)
    for k in range(windows.steps):
        x, y = windows.batch(k)
        np.testing.assert_array_equal(y, x + 1)


@given(SIZES)
def test_a_row_goes_on_where_its_last_window_ended(sizes):
    size, rows, width = sizes
    windows = Windows(counting(size), rows, width)
    for k in range(1, windows.steps):
        np.testing.assert_array_equal(windows.batch(k)[0][:, 0], windows.batch(k - 1)[1][:, -1])


def test_the_pipeline_gives_the_batches_from_any_position():
    windows = Windows(counting(200), 3, 5)
    dataset = windows.dataset(7, 20)
    for k, (x, y) in enumerate(dataset.as_numpy_iterator(), 7):
        np.testing.assert_array_equal(x, windows.batch(k)[0])
        np.testing.assert_array_equal(y, windows.batch(k)[1])
    assert k == 19
    assert dataset.element_spec[0].shape == (3, 5)


def test_every_epoch_has_an_offset_of_its_own():
    windows = Windows(counting(1000), 4, 16)
    offsets = {windows.offset(epoch) for epoch in range(50)}
    assert len(offsets) > 15
    assert windows.offset(0) == 0


@given(st.integers(2, 300), st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
def test_batch_and_window_shrink_to_what_fits(size, rows, width, replicas):
    rows *= replicas
    stream = counting(size)
    if size - 1 < replicas:
        with pytest.raises(CorpusError, match="give it more text"):
            fit_windows(stream, rows, width, replicas)
        return
    batch, window = fit_windows(stream, rows, width, replicas)
    assert 1 <= batch <= rows
    assert 1 <= window <= width
    assert batch % replicas == 0
    assert batch * window <= size - 1
    assert Windows(stream, batch, window).batch(0)[1].max() < size


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
