"""No message shows more than a line of what was given, and each is one line."""

import importlib
import shutil
from pathlib import Path

import click
import pytest

import keras_charlm
from keras_charlm import errors
from keras_charlm.config import CorpusConfig, EvaluateConfig, ExportConfig, FitConfig, SampleConfig
from keras_charlm.files import check_output
from keras_charlm.saved import bundle
from keras_charlm.text.corpus import prepare
from keras_charlm.text.labels import Coder
from keras_charlm.training.folder import choose, resumable

LONG = "\u2603\n" * 50_000  # no model writes a snowman
# What comes before a long value, and options that are too slow with one.
BEFORE = {
    "fit": ["missing.txt"],
    "generate": ["names"],
    "evaluate": ["model.tflite", "text.txt"],
    "score": ["names", "text.txt"],
    "inspect": ["names", "text.txt", "--json"],
    "compress": ["names", "text.txt", "-o", "text.kclm"],
    "decompress": ["names", "text.txt", "-o", "again.txt"],
    "export": ["names", "-o", "names.rule", "--to", "rule"],
    "serve": ["names"],
    "report": ["names"],
    "info": ["names"],
}
SLOW = {"--ban", "--probe", "--corpus"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(bundle.shipped()["names"] / "model.tflite", tmp_path)
    (tmp_path / "text.txt").write_text("Anna\nBob\n")
    return tmp_path


def value_options(verb):
    """The options of a verb that take a value."""
    command = getattr(importlib.import_module(f"kcharlm.{verb}"), verb)
    options = [param for param in command.params if isinstance(param, click.Option)]
    return {option.opts[-1] for option in options if not option.is_flag}


@pytest.mark.parametrize("verb", BEFORE)
def test_the_command_line_shows_a_line_of_what_was_given(verb, kcharlm, here):
    before = [verb, *BEFORE[verb]]
    calls = [[LONG], [verb, LONG], [verb, *BEFORE[verb][:1], LONG], [*before, f"--{LONG}"]]
    calls += [[*before, option, LONG] for option in sorted(value_options(verb) - SLOW)]
    if verb == "fit":
        calls += [[verb, "text.txt", option, LONG] for option in ("--label", "--text")]
    for call in calls:
        code, _, err = kcharlm(*call)
        assert code in (0, 2), (call[:-1], err)
        assert len(err) < 620, (call[:-1], err)
        lines = [line for line in err.splitlines() if not line.startswith(("Usage", "Try "))]
        assert len([line for line in lines if line]) <= 2, (call[:-1], err)


def test_python_shows_a_line_of_what_was_given(here):
    names = keras_charlm.load("names")
    (here / "table.csv").write_text("".join(f"a,{LONG[:99_999].replace(chr(10), '')},c\n" * 2))
    calls = [
        *(lambda kind=kind: kind.of("fit", {LONG: 1}) for kind in (CorpusConfig, ExportConfig)),
        lambda: CorpusConfig(labels=[LONG, 1]),
        lambda: FitConfig(max_time=LONG),
        lambda: FitConfig(devices=LONG),
        lambda: EvaluateConfig(by=LONG),
        lambda: SampleConfig(ban=[LONG, 1]),
        lambda: names.labels(LONG),
        lambda: list(names.scores(["Anna"], label_prior=LONG)),
        lambda: names.read(Path(LONG)),
        lambda: names.read_prompt(LONG),
        lambda: list(names.read_lines(LONG)),
        lambda: names.compress_file("text.txt", LONG),
        lambda: names.compress_file(LONG),
        lambda: names.decompress_file(LONG, "x"),
        lambda: names.export(LONG),
        lambda: names.inspect("Anna", output=LONG),
        lambda: names.report(LONG),
        lambda: names.corpus([LONG]),
        lambda: keras_charlm.fit(text="Anna", encoding=LONG),
        lambda: prepare(["table.csv"], CorpusConfig(labels=("b",))),
        lambda: prepare(["table.csv"], CorpusConfig(labels=("a", "c"), text_column="a")),
        lambda: Coder([LONG]).codes([""], "here"),
        lambda: choose(LONG, "x", False),
        lambda: resumable(LONG),
        lambda: check_output(Path(LONG)),
        lambda: check_output(Path("a" * 250) / ("b" * 250)),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(errors.CharLMError) as error:
            call()
        assert len(str(error.value)) < 620, (number, str(error.value))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("output", [".", "/", "..", "sub/.."])
def test_an_export_replaces_no_folder_above(output, here):
    (here / "sub").mkdir()
    for to in ("tflite", "savedmodel"):
        with pytest.raises(errors.OptionError, match="is a folder; name a new file or folder"):
            keras_charlm.load("names").export(output, to=to, overwrite=True)


@pytest.mark.parametrize("text", ["a text", "<!doctype html>\n<title>mine</title>\n", ""])
def test_a_report_replaces_only_reports(text, here):
    names, page = keras_charlm.load("names"), here / "page.html"
    page.write_text(text)
    with pytest.raises(errors.OptionError, match="exists and is no report"):
        names.report(page)
    assert page.read_text() == text
    page.write_text('<meta name="generator" content="keras_charlm 0.1.0">')
    if not text:
        assert "<h1>names</h1>" in names.report(page).read_text()


@pytest.mark.parametrize("kind", [errors.OptionNote, *errors.CharLMError.__subclasses__()])
def test_no_message_is_longer_than_some_lines(kind):
    """Whatever a message is made of, its beginning and its end, with the advice, are shown."""
    more = (15,) if kind is errors.Interrupted else ()
    text = str(kind(f"{LONG} is too long;\n give less.", *more))
    assert text.startswith("\u2603 \u2603") and text.endswith("is too long;  give less.")
    assert len(text) == 700
    assert str(kind("as it is", *more)) == "as it is"
