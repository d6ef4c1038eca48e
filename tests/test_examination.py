"""Everything that `kcharlm evaluate` measures beside the loss, through the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import babble

import keras_charlm
from keras_charlm.errors import OptionError
from keras_charlm.evaluation import ngram
from keras_charlm.evaluation.scores import Tally
from keras_charlm.text.corpus import reopen
from keras_charlm.text.split import split_corpus


@pytest.fixture
def evaluate(kcharlm):
    """Run `kcharlm evaluate ... --json` and return its object."""

    def run(*args):
        code, out, err = kcharlm("evaluate", *args, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


def parts(model):
    card = keras_charlm.load(model).card
    corpus = reopen(tuple(card.corpus["files"]), card.corpus_config, card.corpus["sha256"])
    return split_corpus(corpus, card.fit.seed)


def test_tallies_of_the_parts_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    bits, hits = rng.gamma(2, size=100), rng.random(100) < 0.3
    whole = Tally.of(bits, hits, 7)
    parts = Tally.of(bits[:40], hits[:40], 3) + Tally() + Tally.of(bits[40:], hits[40:], 4)
    assert (parts.characters, parts.correct, parts.unknown) == (100, int(hits.sum()), 7)
    assert parts.bits == pytest.approx(whole.bits)
    scores = whole.scores()
    assert scores.bits_per_character == pytest.approx(bits.mean())
    assert scores.nats_per_character == pytest.approx(bits.mean() * np.log(2))
    assert scores.perplexity == pytest.approx(2 ** bits.mean())
    assert scores.accuracy == hits.mean()
    assert np.isnan(Tally().scores().bits_per_character)
    assert Tally(1, 1e6, 0).scores().perplexity == np.inf


@pytest.mark.parametrize("kind", ["text_model", "list_model"])
def test_without_a_file_the_validation_part_is_scored(request, evaluate, kind):
    model = request.getfixturevalue(kind)
    found = evaluate(model, "--baseline", "ngram", "--by", "kind")
    card = keras_charlm.load(model).card
    stored = {k: v for k, v in card.scores["validation"].items() if k != "margin"}
    assert {name: found[name] for name in stored} == pytest.approx(stored, rel=1e-5)
    assert found["text"] == f"the validation part of {card.corpus['name']}"
    split = parts(model)
    counted = ngram.baseline(split)
    margin = card.scores["baseline"][0]["validation_margin"]  # None in a part of a few lines
    assert found["baseline"] == {
        "order": counted.order,
        "grams": counted.grams,
        "bits_per_character": pytest.approx(counted.bits_per_character(split.validation)),
        "margin": margin and pytest.approx(margin, rel=1e-4),
    }
    rows = found["kinds"]
    assert sum(row["characters"] for row in rows) == found["characters"]
    for column, total in (
        ("bits_per_character", found["bits_per_character"]),
        ("baseline_bits_per_character", found["baseline"]["bits_per_character"]),
    ):
        assert sum(row["characters"] * row[column] for row in rows) / found[
            "characters"
        ] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("kind", ["text_model", "list_model"])
def test_unsmoothed_counts_write_what_they_have_read(request, kind):
    model = keras_charlm.load(request.getfixturevalue(kind))
    counted = model.ngram(order=5)
    assert counted.order == 5
    drawn = model.vocabulary.decode(counted.generate(300, seed=1))
    split = parts(model.path)
    text = model.vocabulary.decode(split.train.read(np.array([0]), split.train.length)[0])
    for piece in drawn.split("\n"):
        assert all(piece[i : i + 5] in text for i in range(max(len(piece) - 4, 0)))
    assert model.ngram().order == ngram.baseline(split).order


def test_a_file_is_compared_on_its_own_characters(evaluate, text_model, tmp_path):
    path = tmp_path / "other.txt"
    path.write_text(babble(600, seed=4) + "\u00e9\u00e9")
    found = evaluate(text_model, path, "--baseline", "ngram", "--by", "kind")
    assert found["text"] == str(path)
    assert found["characters"] == 602
    model, counted = keras_charlm.load(text_model), ngram.baseline(parts(text_model))
    ids = np.concatenate([[counted.start], model.vocabulary.encode(path.read_text())])
    assert found["baseline"]["bits_per_character"] == pytest.approx(counted.bits(ids).mean())
    assert found["bits_per_character"] == pytest.approx(
        model.evaluate(path.read_text()).bits_per_character, rel=1e-5
    )
    unseen = found["kinds"][-1]
    assert (unseen["kind"], unseen["characters"]) == ("unseen", 2)


def test_dynamic_evaluation_stands_beside_the_static_figure(text_model):
    model = keras_charlm.load(text_model)
    before = [np.array(w) for w in model.model.weights]
    plain, both = model.evaluate(), model.evaluate(dynamic=True, dynamic_rate=0.01)
    assert both.bits_per_character == plain.bits_per_character
    assert plain.dynamic is None
    assert both.dynamic.characters == plain.characters
    assert both.dynamic.bits_per_character != plain.bits_per_character
    for a, b in zip(before, model.model.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.evaluate() == plain


def test_an_on_device_file_gives_the_same(evaluate, text_model, tmp_path):
    device = text_model / "model.tflite"
    path = tmp_path / "other.txt"
    path.write_text(babble(300, seed=2))
    ours, its = (
        evaluate(model, path, "--baseline", "ngram", "--by", "kind")
        for model in (text_model, device)
    )
    assert its["baseline"] == pytest.approx(ours["baseline"], rel=1e-4)
    for a, b in zip(ours["kinds"], its["kinds"], strict=True):
        assert a["kind"] == b["kind"]
        assert b["bits_per_character"] == pytest.approx(a["bits_per_character"], rel=1e-4)
    assert its["accuracy"] == ours["accuracy"]
    assert its["bits_per_character"] == pytest.approx(ours["bits_per_character"], rel=1e-4)
    with pytest.raises(OptionError, match="whose weights cannot learn"):
        keras_charlm.load(device).evaluate("the cat", dynamic=True)


def test_novelty_of_a_text(evaluate, text_model):
    found = evaluate(text_model, "--novelty", "--temp", "0.5", "--seed", "3")["novelty"]
    assert (found["temp"], found["seed"]) == (0.5, 3)
    assert (found["drawn"]["pieces"], found["drawn"]["characters"]) == (100, 50_000)
    split = parts(text_model)
    assert found["real"]["characters"] == split.validation.length
    text = split.vocabulary.decode(split.train.read(np.array([0]), split.train.length)[0])
    for side in ("drawn", "real"):
        longest = found[side]["longest"]
        assert text[longest["offset"] :].startswith(longest["text"])
        assert len(longest["text"]) == longest["characters"]
        assert 0 <= found[side]["windows"]["20"] <= 1
    assert evaluate(text_model, "--novelty", "--temp", "0.5", "--seed", "3")["novelty"] == found


def test_novelty_of_training_text_is_none(evaluate, text_model, text_file):
    real = evaluate(text_model, text_file, "--novelty")["novelty"]["real"]
    assert real["windows"]["20"] > 0.8
    assert real["longest"]["offset"] == 0


def test_novelty_of_a_list_counts_lines(evaluate, list_model):
    model = keras_charlm.load(list_model)
    found = evaluate(list_model, "--novelty")["novelty"]
    drawn = [sample.text for sample in model.samples(num=1000, temp=0.8, seed=0, repeat=True)]
    assert found["drawn"]["pieces"] == 1000
    assert found["drawn"]["lines"] == pytest.approx(np.mean([model.known(t) for t in drawn]))
    assert found["drawn"]["lines"] > 0
    assert found["real"]["pieces"] == model.card.split["validation"]["lines"]
    assert found["real"]["lines"] == 0  # no line is both in training and validation


def test_a_person_reads_it_too(kcharlm, text_model):
    code, out, _ = kcharlm(
        "evaluate", text_model, "--baseline", "ngram", "--dynamic", "--by", "kind", "--novelty"
    )
    assert code == 0
    for label in (
        "text                the validation part of cats",
        "\nbits per character  ",
        "\ndynamic             ",
        "-grams             ",
        " +- 0.",
        "\nletter, first of a word ",
        "\nwindows of 20 ",
        "\nlongest passage ",
        "\ndrawn: line ",
    ):
        assert label in out, label


def changed(model, folder, **corpus):
    """A copy of a model that says something else of its corpus."""
    shutil.copytree(model, folder)
    values = json.loads((folder / "config.json").read_text())
    values["corpus"] |= corpus
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_the_training_text_is_found_or_asked_for(
    kcharlm, evaluate, text_model, text_file, tmp_path, monkeypatch
):
    args = ("--baseline", "ngram")
    expected = evaluate(text_model, *args)
    model = changed(text_model, tmp_path / "moved", files=["gone.txt"])
    assert evaluate(model, *args)["baseline"] == expected["baseline"]  # the cache has it
    monkeypatch.setenv("KERAS_CHARLM_CACHE", str(tmp_path / "cache"))
    for gone in (model, changed(text_model, tmp_path / "piped", files=["-"])):
        code, out, err = kcharlm("evaluate", gone, *args)
        assert (code, out) == (2, "")
        assert "is no longer in the cache or at its old path; name its files with --corpus" in err
    code, _, err = kcharlm("evaluate", model, *args, "--corpus", tmp_path / "moved/config.json")
    assert code == 2
    assert "is not the text that" in err
    assert evaluate(model, *args, "--corpus", text_file)["baseline"] == expected["baseline"]
    assert evaluate(model, *args)["baseline"] == expected["baseline"]  # now the cache has it again
    assert "--corpus" not in kcharlm("evaluate", model, text_file)[2]  # not needed for this


def test_what_cannot_be_measured_is_reported(kcharlm, text_model, tmp_path):
    config = json.loads((text_model / "config.json").read_text())["corpus"]["config"]
    model = changed(text_model, tmp_path / "whole", config={**config, "val_frac": 0})
    code, _, err = kcharlm("evaluate", model)
    assert code == 2
    assert "was trained without a validation part; name a file" in err
    for args, message in (
        (["--dynamic-rate", "0"], "dynamic_rate is 0.0; it takes more than 0"),
        (["--by", "size"], "'size' is not"),
        (["--baseline", "gpt"], "'gpt' is not"),
        ([tmp_path], "is a folder; name one file"),
        (["none.txt"], "There is no file none.txt"),
    ):
        code, out, err = kcharlm("evaluate", text_model, *args)
        assert (code, out) == (2, ""), args
        assert message in err
    with pytest.raises(OptionError, match="evaluate has no setting 'sort'; it has baseline, by"):
        keras_charlm.load(text_model).evaluate("cat", sort=True)
    empty = Path(tmp_path / "empty.txt")
    empty.write_text("")
    assert "is empty; give some text" in kcharlm("evaluate", text_model, empty)[2]
