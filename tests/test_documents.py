"""Documents of several lines are a list as lines are: shuffled, undivided, ended by themselves."""

import dataclasses
import random

import numpy as np
import pytest
from conftest import TINY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_charlm
from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError, OptionError
from keras_charlm.evaluation.labels import labelled_text
from keras_charlm.text import corpus, decoding, hints
from keras_charlm.text.split import split_corpus

END = "\x1e"


def poems(count=60, seed=0):
    rng = random.Random(seed)
    line = lambda: " ".join(rng.choices(("sea", "sun", "a", "old"), k=3))  # noqa: E731
    return ["\n".join(line() for _ in range(rng.randint(1, 3))) for _ in range(count)]


def texts(prepared, lines=None):
    found = lines or prepared.lines()
    return [
        prepared.text(start, start + size).decode()
        for start, size in zip(found.starts, found.lengths, strict=True)
    ]


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    documents=st.lists(st.text("ab \n\té", max_size=8), min_size=1, max_size=6),
    separator=st.sampled_from(["---", r"\n--\n", "<|end|>", "\\n\\n\\n"]),
    keep=st.booleans(),
    unit=st.sampled_from(["char", "byte"]),
    block=st.sampled_from([2, 1 << 22]),
)
def test_a_separator_divides_a_text(tmp_path, monkeypatch, documents, separator, keep, unit, block):
    monkeypatch.setattr(decoding, "BLOCK", block)
    mark = separator.replace(r"\n", "\n")
    text = mark.join(documents)
    (tmp_path / "in.txt").write_bytes(text.encode())
    config = CorpusConfig(separator=separator, keep_blanks=keep, unit=unit)
    blanks = " \n\t"
    expected = [d if keep else d.strip(blanks) for d in text.split(mark) if d.strip(blanks)]
    if not expected:
        with pytest.raises(CorpusError, match="is empty"):
            corpus.prepare([tmp_path / "in.txt"], config)
        return
    found = corpus.prepare([tmp_path / "in.txt"], config)
    assert texts(found) == expected
    assert found.text(0, len(found.symbols)).decode() == END + "".join(d + END for d in expected)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"separator": r"\n==\n"}, r"because the separator '\n==\n' is not in it"),
        ({"documents": True}, "one file"),
        ({"lines": True, "normalize": "nfkc"}, "a single document"),
    ],
)
def test_a_single_document_is_noticed(tmp_path, settings, why):
    (tmp_path / "in.txt").write_text("One." if "lines" in settings else "One.\nTwo.\n")
    (notice,) = hints.hints(corpus.prepare([tmp_path / "in.txt"], CorpusConfig(**settings)))
    assert notice.startswith("The text is only 1 ") and notice.endswith(f" characters, {why}.")


def test_each_file_may_be_a_document(tmp_path):
    for name, data in (("a.txt", "One.\nTwo.\n\n"), ("b.txt", "\n"), ("c.txt", "Three.")):
        (tmp_path / name).write_text(data)
    found = corpus.prepare([tmp_path], CorpusConfig(glob="*.txt", documents=True))
    assert (texts(found), found.file_count) == (["One.\nTwo.", "Three."], 3)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lines": True, "documents": True}, "different ways to divide a text; give one"),
        ({"separator": "--", "documents": True}, "give one"),
        ({"separator": ""}, "separator is empty"),
        ({"labels": "gender", "separator": "--"}, "Each row of a table is a document"),
    ],
)
def test_settings_that_exclude_each_other(settings, message):
    with pytest.raises(OptionError, match=message):
        CorpusConfig(**settings)


def test_a_document_that_has_the_end_symbol_is_refused(tmp_path):
    (tmp_path / "in.txt").write_text("a\x1eb\n---\nc")
    with pytest.raises(CorpusError, match=r"U\+001E"):
        corpus.prepare([tmp_path / "in.txt"], CorpusConfig(separator="---"))


def test_documents_are_shuffled_whole(tmp_path):
    (tmp_path / "in.txt").write_text("\n---\n".join(poems()))
    prepared = corpus.prepare([tmp_path / "in.txt"], CorpusConfig(separator="---"))
    split = split_corpus(prepared)
    assert split.start == ord(END)
    parts = [set(texts(prepared, part.lines)) for part in (split.train, split.validation)]
    assert parts[0] <= set(poems()) and parts[1] <= set(poems()) and not parts[0] & parts[1]
    epochs = [split.train.read(np.array([0]), split.train.length, epoch)[0] for epoch in (0, 1)]
    read = [split.vocabulary.decode(ids).split(END)[1:-1] for ids in epochs]
    assert sorted(read[0]) == sorted(read[1]) == sorted(parts[0])
    assert read[0] != read[1]


def test_a_model_of_documents_ends_them_by_itself(tmp_path, kcharlm):
    file = tmp_path / "poems.txt"
    file.write_text("\n---\n".join(poems()))
    keras_charlm.fit(file, tmp_path / "poems", separator="---", epochs=3, **TINY)
    model = keras_charlm.load(tmp_path / "poems")
    assert model.card.lines and model.card.start == ord(END)
    drawn = list(model.samples(num=20, seed=1))
    assert all(END not in sample.text for sample in drawn)
    assert any(len(sample.text) < 1000 for sample in drawn)  # it ended
    known = texts(corpus.prepare([file], CorpusConfig(separator="---")))
    known = sum(model.known(text) and model.known(f" {text}\n") for text in set(known))
    assert known == model.card.split["train"]["lines"]
    scored = list(model.scores(model.read_lines(file)))
    assert [score.text for score in scored] == poems()
    for form, newline in (((), "\u2424"), (("--tsv",), r"\n")):
        rows = kcharlm("score", tmp_path / "poems", file, *form)[1].splitlines()
        assert [row.split(newline)[-1] for row in rows[len(form) :]] == [
            score.text.split("\n")[-1] if "\n" in score.text else row
            for score, row in zip(scored, rows[len(form) :], strict=True)
        ]
    evaluated = keras_charlm.load(tmp_path / "poems" / "model.tflite").evaluate(file)
    assert evaluated.characters == sum(len(poem) + 1 for poem in poems())
    code, out, _ = kcharlm("generate", tmp_path / "poems", "--num", 3, "--seed", 1)
    assert (code, out.count("--------\n"), END in out) == (0, 2, False)
    about = kcharlm("info", tmp_path / "poems")[1]
    assert "documents separated by '---'" in about and " documents, validation" in about
    page = (tmp_path / "poems" / "report.html").read_text()
    assert "a list of documents" in page and "documents are not in the training text" in page


def of_size(size, **config):
    """The shipped names as if their longest and mean line had this many characters."""
    model = keras_charlm.load("names")
    split = {**model.card.split, "train": {"characters": size, "lines": 1, "longest": size}}
    read = {**model.card.corpus["config"], "labels": (), "text_column": None}
    read |= {"lines": not config, **config}
    corpus = {**model.card.corpus, "config": read}
    model.card = dataclasses.replace(model.card, split=split, corpus=corpus)
    return model


@pytest.mark.parametrize("size", [3, 8])
def test_the_limit_of_a_document_follows_from_the_training_documents(size):
    drawn = list(of_size(size, separator="--").samples(num=40, seed=1, temp=60))
    assert max(len(sample.text) for sample in drawn) == 2 * size
    assert all(sample.ended or len(sample.text) == 2 * size for sample in drawn)


@pytest.mark.parametrize(("size", "limit"), [(100, 1000), (600, 3000), (9000, 5000)])
def test_constraints_hold_for_long_documents_too(size, limit):
    with pytest.raises(OptionError, match=f"No text of at most {limit} characters"):
        of_size(size, separator="--").samples(min_length=limit + 1)


@pytest.mark.parametrize(
    ("config", "kind"),
    [({}, "line"), ({"separator": "--"}, "document"), ({"documents": True}, "document")],
)
def test_a_limit_that_cuts_is_told(config, kind, capsys):
    from kcharlm.generate import _tell_counts

    from keras_charlm.config import SampleConfig
    from keras_charlm.generation.sample import Counts

    counts = Counts(drawn=3, cut=2, novel=0, yielded=1)
    _tell_counts(of_size(20, **config).card, SampleConfig(), counts)
    assert capsys.readouterr().err == (
        "cut: 2 of 3 drawn had not ended after 40 characters, twice the longest training "
        f"{kind}; --length sets the limit\n"
    )


def test_labels_of_files_are_read_before_each_of_their_documents(tmp_path):
    for seed, name in enumerate(("sea", "sun")):
        (tmp_path / f"{name}.txt").write_text("\n---\n".join(poems(seed=seed)))
    settings = {"separator": "---", "label_by_file": True, "epochs": 1, **TINY}
    model = keras_charlm.fit(tmp_path, tmp_path / "poems", glob="*.txt", **settings)
    text = model.read(tmp_path / "sea.txt")
    label = model.labels("sea")
    stream = labelled_text(text.codes(), model, label).labelled()
    ids = stream.read(np.array([0]), stream.epoch_length())[0]
    at = np.flatnonzero(ids == label[0].id)
    assert len(at) == len(poems())
    assert (ids[at - 1] == model.vocabulary.id_of(ord(END))).all()
    characters = sum(len(poem) + 1 for poem in poems())
    assert model.evaluate(text, labels="sea").characters == characters


def test_each_labelled_file_may_be_a_document(tmp_path):
    for name in ("sea", "sun"):
        (tmp_path / f"{name}.txt").write_text(f"The {name}.\nIt is old.\n")
    config = CorpusConfig(glob="*.txt", documents=True, label_by_file=True)
    found = corpus.prepare([tmp_path], config)
    assert texts(found) == ["The sea.\nIt is old.", "The sun.\nIt is old."]
    assert found.labels == (("file", "sea"), ("file", "sun"))
