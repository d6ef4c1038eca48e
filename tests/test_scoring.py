"""Scores of lines agree with those of generation, and `kcharlm score` prints them."""

import json

import pytest
from click.testing import CliRunner
from kcharlm.main import kcharlm

from keras_charlm.errors import CorpusError, OptionError
from keras_charlm.saved.trained import TrainedModel


def run(*args, stdin=None):
    result = CliRunner().invoke(kcharlm, ["score", *map(str, args)], input=stdin)
    if result.exception:
        raise result.exception
    return result.stdout


@pytest.mark.parametrize("kind", ["list_model", "text_model"])
def test_a_drawn_text_costs_what_drawing_it_cost(kind, request):
    model = TrainedModel(request.getfixturevalue(kind))
    length = None if model.card.lines else 30
    drawn = list(model.samples(num=6, seed=1, temp=1.0, length=length))
    scores = list(model.scores(sample.text for sample in drawn))
    assert [s.text for s in scores] == [s.text for s in drawn]
    assert [s.bits_per_character for s in scores] == pytest.approx(
        [s.bits_per_character for s in drawn], rel=1e-4
    )
    assert [s.characters - len(s.text) for s in scores] == [int(model.card.lines)] * 6


def test_lines_are_scored_as_they_come(list_model):
    def endless():
        while True:
            yield "abc"

    scores = TrainedModel(list_model).scores(endless())
    assert next(scores) == next(scores)


def test_the_command_prints_tables_and_objects(list_model, tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("abc\nxxxx\n\nca\tb\n")
    objects = [json.loads(line) for line in run(list_model, path, "--json").splitlines()]
    assert [o["text"] for o in objects] == ["abc", "xxxx", "", "ca\tb"]
    assert objects[0]["bits"] == pytest.approx(4 * objects[0]["bits_per_character"])
    ranked = [json.loads(line) for line in run(list_model, path, "--json", "--sort").splitlines()]
    assert ranked == sorted(objects, key=lambda o: o["bits_per_character"])
    header, first, *_, last = run(list_model, path, "--tsv").splitlines()
    assert header.split("\t") == ["characters", "bits", "bits_per_character", "text"]
    assert first.split("\t")[0::3] == ["4", "abc"]
    assert last.endswith("\tca\\tb")
    assert run(list_model, stdin=path.read_text()) == run(list_model, path)


def test_what_cannot_be_read_is_refused(list_model, tmp_path):
    with pytest.raises(OptionError, match="--tsv and --json"):
        run(list_model, "--tsv", "--json", stdin="a\n")
    with pytest.raises(CorpusError, match="There is no file"):
        run(list_model, tmp_path / "missing.txt")
    path = tmp_path / "latin.txt"
    path.write_bytes(b"abc\nab\xff\n")
    with pytest.raises(CorpusError, match=r"is not utf-8: byte 0xFF at offset 6 "):
        run(list_model, path)
