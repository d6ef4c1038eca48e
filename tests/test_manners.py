"""Names of any kind, lists, and settings without effect: what is shown can be used, and is said."""

import base64
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import keras_charlm
from keras_charlm import config, effects
from keras_charlm.display import command
from keras_charlm.errors import BundleError, OptionError, OptionNote
from keras_charlm.saved import bundle
from keras_charlm.text import cache
from keras_charlm.text.corpus import prepare
from keras_charlm.text.likeness import key_fingerprints, line_key, line_texts
from keras_charlm.text.preparation import holds
from keras_charlm.training.folder import choose, resumable


@pytest.fixture(scope="module")
def names():
    model = keras_charlm.load("names")
    assert model.runner
    return model


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def notes(call):
    """The notes of a call, as texts."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught if issubclass(one.category, OptionNote)]


@pytest.mark.skipif(os.name == "nt", reason="the shell is bash")
@pytest.mark.parametrize(
    "name",
    ["two words", "it's", '"$HOME" `x`', "-o=x", "line\nend", "\x1b[31m", "\u202ecafé", "😀 \\n",
     os.fsdecode(b"\xff\xfe"), "tab\there"],
)  # fmt: skip
def test_a_command_can_be_pasted(name):
    line = command("printf", "%s", Path(name))
    assert not {*line} & {"\n", "\x1b", "\u202e"}
    printed = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert printed == os.fsencode(f"./{name}" if name[0] == "-" else name)


@pytest.mark.parametrize("name", ["a b", "it's; ls", "$(x)"])
def test_errors_show_commands_that_can_be_pasted(name, here):
    (here / name / "checkpoint").mkdir(parents=True)
    with pytest.raises(BundleError) as error:
        keras_charlm.load(name)
    assert str(error.value).endswith(command("kcharlm", "fit", "--resume", name))


@pytest.mark.parametrize("name", ["names", "english"])
@pytest.mark.parametrize("other", ["folder", "full", "file"])
def test_another_folder_or_file_gives_way_to_a_model(name, other, here):
    if other == "file":
        (here / name).write_text("a text")
    else:
        (here / name).mkdir()
    if other == "full":
        (here / name / "notes.txt").write_text("a text")
    assert bundle.find(name) == bundle.shipped()[name]
    assert bundle.find(f"./{name}/" if other != "file" else here / name) != bundle.shipped()[name]


def test_a_newer_training_of_the_same_corpus_is_told(here, kcharlm):
    for number, folder in enumerate(("x", "x-2", "x-10", "x-rated", "y")):
        path = here / "saved_models" / folder
        path.parent.mkdir(exist_ok=True)
        path.mkdir()
        for file in bundle.shipped()["names"].iterdir():
            shutil.copy(file, path)
        os.utime(path / "config.json", (number, number))
    assert bundle.newer(Path("saved_models/x")) == Path("saved_models/x-10")
    assert bundle.newer(Path("saved_models/y")) is bundle.newer(Path("saved_models/x-10")) is None
    code, _, err = kcharlm("info", "x")
    assert code == 0, err
    assert err == "note: saved_models/x-10 is newer than saved_models/x.\n"


@pytest.mark.parametrize("output", [".", "", "/", "..", "../", "./.", "sub/.."])
def test_places_that_no_model_can_replace(output, here):
    (here / "sub").mkdir()
    for use in (lambda: choose(output, "x", False), lambda: resumable(output)):
        with pytest.raises(BundleError) as error:
            use()
        assert "\n" not in str(error.value)
    assert [path.name for path in here.iterdir()] == ["sub"]


@pytest.mark.parametrize(
    "args",
    [["generate", ""], ["evaluate", "names", ""], ["fit", "--resume", ""], ["fit", ""],
     ["fit", "--init-from", ""], ["export", "names", "-o", ""],
     ["generate", "names", "--prompt-file", ""]],
)  # fmt: skip
def test_an_empty_name_is_no_name(args, kcharlm, here):
    code, out, err = kcharlm(*args)
    assert (code, out) == (2, "")
    assert "is empty" in err
    assert err.count("\n") == 1
    assert not list(here.iterdir())


@pytest.mark.parametrize("home", ["~/.cache/x", f"{__file__}/x", "/dev/null/x"])
def test_without_a_home_texts_are_prepared_elsewhere(home, here, monkeypatch):
    monkeypatch.delenv("KERAS_CHARLM_CACHE")
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda *_, **__: Path(home))
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(here))
    (here / "text.txt").write_text("some text")
    text = prepare(["text.txt"])
    assert len(text.symbols) == 9
    assert any(str(cache.cache_folder()) in notice for notice in text.notices)
    assert not (here / "~").exists()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_pipes_are_utf_8_whatever_their_encoding(encoding, names, monkeypatch, here):
    from kcharlm.main import main

    for args in (["fit", "\u2603.txt"], ["info", "\u2603\udcff"]):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding, "strict"))
        monkeypatch.setattr(sys, "argv", ["kcharlm", *args])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        assert "\u2603" in raw.getvalue().decode("utf-8", "surrogateescape")
        sys.stderr.detach()


@pytest.mark.parametrize("change", ["other", "gone", "longer"])
def test_a_changed_text_is_noticed(change, here):
    path = here / "x.txt"
    path.write_text("a text of its own")
    text = prepare([path])
    assert holds(text.files, text.config, text.sha256)
    path.unlink()
    if change != "gone":
        path.write_text({"other": "another text", "longer": "a text of its own, longer"}[change])
    assert not holds(text.files, text.config, text.sha256)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (config.CorpusConfig(duplicates=True), ["duplicates"]),
        (config.CorpusConfig(duplicates=True, lines=True), []),
        (config.CorpusConfig(encoding="cp1252", unit="byte"), ["encoding"]),
        (
            config.CorpusConfig(normalize="none", keep_line_ends=True, unit="byte"),
            ["normalize", "keep_line_ends"],
        ),
        (config.FitConfig(warmup=0.2, schedule="char-rnn"), ["warmup"]),
        (config.FitConfig(warmup=0.2, schedule="none"), ["warmup"]),
        (config.SampleConfig(temp=0, top_k=3, min_p=0.1), ["top_k", "min_p"]),
        (config.SampleConfig(temp=0, best_of=3), ["best_of"]),
        (config.SampleConfig(temp=1e-39, top_p=0.5), ["top_p"]),
        (config.SampleConfig(top_k=3), []),
        (config.EvaluateConfig(dynamic_rate=0.1, temp=0.3), ["dynamic_rate", "temp"]),
        (config.EvaluateConfig(dynamic_rate=0.1, temp=0.3, dynamic=True, novelty=True), []),
    ],
)
def test_settings_without_effect_are_told(settings, said):
    sentences = sorted(effects.unused(settings))
    assert [sentence.split()[0] for sentence in sentences] == sorted(said)


@pytest.mark.parametrize("stop", ["\u2603", "a1", "Zoë"])
def test_a_stop_text_that_is_never_written_is_told(stop, names, kcharlm):
    (said,) = notes(lambda: names.generate(stop=stop, seed=1))
    assert "stop" in said and "never writes" in said
    code, out, err = kcharlm("generate", names.path, "--stop", stop, "--seed", 1)
    assert code == 0 and out
    assert err == f"note: {said}\n"


def test_arguments_that_a_model_cannot_use_are_told(names, here, kcharlm):
    copy = keras_charlm.load("names")
    copy.card = dataclasses.replace(copy.card, labels=())
    assert notes(lambda: copy.scores(["Anna"])) == []
    (said,) = notes(lambda: copy.scores(["Anna"], label_prior="even"))
    assert said == "label_prior has no effect on a model without labels."
    (said,) = notes(
        lambda: keras_charlm.load("names").report(here / "page.html", corpus=["names.csv"])
    )
    assert said.startswith("corpus has no effect: ")
    (here / "x.txt").write_text("Anna\n")
    err = kcharlm("inspect", "names", "x.txt", "--json", "--overwrite")[2]
    assert err == "--overwrite has no effect without --output or --npz.\n"


@pytest.mark.parametrize("name", ["a.txt", "two words", "Ännä"])
def test_a_text_that_names_a_file_is_told(name, names, here):
    assert notes(lambda: names.read(name)) == []
    (here / name).write_text("Anna\n")
    (said,) = notes(lambda: names.read(name))
    assert name in said and "Path" in said
    assert notes(lambda: names.read(Path(name))) == []


@pytest.mark.parametrize("length", [1_000, 100_000, 5_000_000])
def test_errors_show_no_more_than_a_line_of_what_was_given(length, names, kcharlm):
    long = "x\n" * (length // 2)
    for call in (
        lambda: names.generate(temp=long),
        lambda: keras_charlm.load(long),
        lambda: names.generate(**{long: 1}),
        lambda: names.scores(long),
        lambda: names.generate(starts_with=long[:100_000], length=3),
    ):
        with pytest.raises((BundleError, OptionError)) as error:
            call()
        assert len(str(error.value)) < 700
    if length < 100_000:
        for args in (["generate", long], ["generate", "names", long], ["info", "-x" + long]):
            code, _, err = kcharlm(*args)
            assert code == 2
            assert len(err) < 1200


@pytest.mark.parametrize("line", ["Anna", " Anna \t", "\u3000Anna\u00a0"])
def test_novelty_ignores_blanks_and_on_request_case(line, names):
    assert line_key(line) == line_key(line.encode()) == b"Anna"
    known = names.known(line)
    assert known == names.known("Anna")
    assert names.known_lines(ignore_case=True)(line.upper()) == known
    assert not names.known(line.upper())


@pytest.mark.parametrize("lines", ["a\nb \n b\n\nc", "é\n\u3000é\nzz", "x" * 50 + "\ny"])
def test_the_texts_of_lines_are_those_of_the_file(lines, here, monkeypatch):
    monkeypatch.setattr("keras_charlm.text.likeness.BLOCK", 3)
    for unit in ("char", "byte"):
        (here / "x.txt").write_text(lines)
        text = prepare(["x.txt"], config.CorpusConfig(lines=True, unit=unit))
        texts = list(line_texts(text, text.lines()))
        if unit == "byte":
            texts = [one.decode() for one in texts]
        expected = [line for line in lines.split("\n") if line]
        assert [one.strip() for one in texts] == [line.strip() for line in expected]
        keys = key_fingerprints(texts)
        assert (keys == key_fingerprints(map(str.strip, expected))).all()


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--num", 3, "--temp", 0], "at temperature 0 every line is the same"),
        (["--num", 20, "--temp", 0.05, "--prompt", "Ann", "--seed", 1], "repeated another"),
        (["--num", 2, "--novel", "--length", 1, "--seed", 1], "were cut"),
    ],
)
def test_fewer_lines_than_asked_for_are_explained(args, reason, kcharlm):
    code, out, err = kcharlm("generate", "names", *args)
    assert code == 3
    printed = out.splitlines()
    assert len(set(printed)) == len(printed) < args[1]
    assert err.splitlines()[-1].startswith(f"fewer: {len(printed)} of {args[1]}, because ")
    assert reason in err
    assert err.endswith("try a larger --length\n" if reason == "were cut" else "a higher --temp\n")
    if reason != "were cut":
        code, out, _ = kcharlm("generate", "names", *args, "--repeat")
        assert code == 0
        assert len(out.splitlines()) == args[1]


def test_the_limit_of_a_line_follows_from_the_training_lines_and_is_told(kcharlm, names):
    assert names.card.line_limit == 22
    code, out, err = kcharlm("generate", "names", "--num", 40, "--temp", 60, "--seed", 1)
    assert code == 0
    assert max(map(len, out.splitlines())) == 22
    assert "had not ended after 22 characters, twice the longest training line" in err


@pytest.mark.parametrize("data", [b"\xff\x00a", b"plain", "é\\xff".encode()])
def test_json_of_bytes_loses_nothing(data):
    from kcharlm.options import text_values

    values = json.loads(json.dumps(text_values(data)))
    assert base64.b64decode(values["base64"]) == data
    assert text_values("é") == {"text": "é"}


@pytest.mark.parametrize("temp", [1e-39, 2.0**-127, 5e-324])
def test_temperatures_that_are_no_normal_numbers_are_0(temp, names):
    from keras_charlm.network.sampling import draw

    assert config.SampleConfig(temp=temp).temp == 0
    likeliest = names.generate(top_k=1, temp=1)
    assert names.generate(temp=temp) == names.generate(temp=0) == likeliest != ""
    logits = np.array([[9, 1, 3, 2]], np.float32)
    assert draw(logits, np.array([0.999], np.float32), np.float32(temp)).numpy().tolist() == [2]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["score", "names", "-"], "There is no standard input to read; "),
        (["evaluate", "names", "-"], "There is no standard input to read; "),
        (["compress", "names", "-"], "Standard input cannot be read here; name a file."),
        (["fit", "-"], "There is no standard input to read; "),
        (["fit", "-", "--resume", "gone"], "There is no training to resume in gone"),
    ],
)
def test_without_a_standard_input_a_sentence_says_so(args, said, kcharlm, here, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    code, _, err = kcharlm(*args)
    assert code == 2 and err.startswith(f"kcharlm: {said}") and err.count("\n") == 1


@pytest.mark.parametrize("args", [["info", "names"], ["score", "names", "-"], ["generate", "-h"]])
def test_a_reader_that_leaves_early_is_no_error(args):
    command = [sys.executable, "-m", "kcharlm", *args]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, input=b"Ann\n", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
