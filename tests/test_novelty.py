import numpy as np
import pytest
from conftest import babble
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_charlm.config import CorpusConfig
from keras_charlm.evaluation import novelty
from keras_charlm.evaluation.novelty import TrainingText, measure
from keras_charlm.text.corpus import prepare
from keras_charlm.text.split import split_corpus


def training(folder, text, **options):
    path = folder / "text.txt"
    path.write_text(text)
    corpus = prepare([path], CorpusConfig(**options))
    return TrainingText(corpus, split_corpus(corpus))


@pytest.fixture(scope="module")
def cats(tmp_path_factory):
    text = babble(3000)
    return text, training(tmp_path_factory.mktemp("text"), text, val_frac=0.2, test_frac=0)


def encode(trained, *texts):
    return [trained.split.vocabulary.encode(text) for text in texts]


def share(known, pieces, length):
    windows = [piece[i : i + length] for piece in pieces for i in range(len(piece) - length + 1)]
    return np.mean([window in known for window in windows]) if windows else None


pieces_of = st.lists(st.tuples(st.integers(0, 2900), st.integers(0, 90), st.booleans()), max_size=4)


@settings(max_examples=25, deadline=None)
@given(pieces_of)
def test_shares_and_the_longest_passage_are_those_of_a_plain_search(cats, cuts):
    text, trained = cats
    known = text[:2400]
    pieces = [text[at : at + n] if copied else text[at : at + n][::-1] for at, n, copied in cuts]
    found = measure(trained, encode(trained, *pieces))
    for length in (20, 50):
        expected = share(known, pieces, length)
        assert found["windows"][str(length)] == (
            expected if expected is None else pytest.approx(expected)
        )
    longest = max(
        (
            n
            for piece in pieces
            for i in range(len(piece))
            for n in range(len(piece) - i + 1)
            if piece[i : i + n] in known
        ),
        default=0,
    )
    if not longest:
        assert found["longest"] is None
        return
    best = found["longest"]
    passage = trained.split.vocabulary.decode(best["ids"])
    assert best["characters"] == len(passage) == longest
    assert any(passage in piece for piece in pieces)
    assert known[best["offset"] :].startswith(passage)
    assert best["line"] == 1 + known.count("\n", 0, best["offset"])


def test_blocks_hide_nothing(cats, monkeypatch):
    text, trained = cats
    pieces = encode(trained, text[100:300], text[2350:2450])
    whole = measure(trained, pieces)
    for block in (1, 7, 64):
        monkeypatch.setattr(novelty, "_BLOCK", block)
        again = measure(trained, pieces[:1] if block == 1 else pieces)
        assert again["longest"]["characters"] == 200
        if block > 1:
            assert again["windows"] == whole["windows"]
            assert again["longest"]["offset"] == whole["longest"]["offset"] == 100


def test_what_is_held_out_is_not_known(cats):
    _, trained = cats
    [strange] = encode(trained, "tac eht no tas tam a dna nar tac")
    found = measure(trained, [strange])
    assert found["windows"] == {"20": 0.0, "50": None}


def test_of_a_list_the_place_is_the_line_of_the_file(tmp_path):
    lines = [
        f"line number {word} of a list"
        for word in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    ] * 2
    trained = training(tmp_path, "\n".join(lines) + "\n", lines=True, val_frac=0.2, test_frac=0)
    train = {
        bytes(trained.corpus.text(int(s), int(s + n))).decode()
        for s, n in zip(
            trained.split.train_lines.starts, trained.split.train_lines.lengths, strict=True
        )
    }
    assert len(train) == 8
    for line in sorted(set(lines)):
        found = measure(trained, encode(trained, line))
        assert trained.known([line.encode()]).tolist() == [line in train]
        assert (found["longest"]["characters"] == len(line)) == (line in train)
        if line in train:
            at = found["longest"]
            assert lines[at["line"] - 1] == line
            assert "\n".join(lines)[at["offset"] :].startswith(line)
            assert found["windows"]["20"] == 1


def test_nothing_drawn_is_nothing_found(cats):
    assert measure(cats[1], []) == {"windows": {"20": None, "50": None}, "longest": None}
