"""The Android project: its Kotlin is compiled, and draws what Python draws."""

import hashlib
import random
import re
from pathlib import Path
from xml.etree import ElementTree

import kotlin
import pytest
from pages import distinct

import keras_charlm
from keras_charlm.export import android, export

DOC = Path(__file__).parent.parent / "docs" / "mobile.md"
FOLDER = Path(android.__file__).with_suffix("")
MOST = 2**31 - 1


def listings():
    return re.findall(r"```kotlin\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)


@pytest.fixture(scope="module")
def project(list_model, tmp_path_factory):
    """The project of a tiny model of lines."""
    folder = tmp_path_factory.mktemp("android") / "app"
    report = export.export(list_model, folder, to="android", quantize="none")
    assert report["files"].keys() == {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    }
    return folder


@pytest.fixture(scope="module")
def classes(project, tmp_path_factory):
    """The class path of the project and the listings, compiled."""
    folder = tmp_path_factory.mktemp("kotlin")
    listing = folder / "Listing.kt"
    listing.write_text(f"package com.example.charlm.listing\n{listings()[1]}", encoding="utf-8")
    return kotlin.compile_all([project / android.MAIN / "kotlin", listing], folder)


@pytest.fixture(scope="module")
def app(classes, project):
    program = kotlin.Program(classes, project / android.ASSETS)
    yield program
    program.close()


def lines(app, prompt="", seed=0, num=5, end="", low=0, high=MOST, ban="-", new=""):
    return app("lines", prompt, seed, num, end, low, high, ban, new).split(",")


def test_the_first_listing_is_the_project_s_file():
    source = (FOLDER / android.MAIN / "kotlin" / "CharLM.kt").read_text(encoding="utf-8")
    assert source == f"package com.example.charlm\n\n{listings()[0]}"


def test_the_second_listing_draws_the_line_of_python(app, list_model):
    model = keras_charlm.load(list_model)
    for seed in 1, 2, 3:
        assert "a" + app("listing", "a", seed) == model.generate("a", seed=seed, length=500)


@pytest.mark.parametrize("seed", [0, 7, MOST])
def test_lines_are_those_of_python(app, list_model, seed):
    samples = keras_charlm.load(list_model).samples(num=40, seed=seed, length=30)
    assert lines(app, seed=seed) == distinct((s for s in samples if s.text), 5)


def test_lines_fit_their_conditions(app, list_model):
    drawn = lines(app, prompt="a", num=4, end="B", low=3, high=4, ban="CC,ca")
    assert len(drawn) == 4
    for line in drawn:
        assert re.fullmatch("a.{1,2}b", line), line
        assert "cc" not in line and "ca" not in line
    known = set(keras_charlm.load(list_model).path.parent.joinpath("names.txt").read_text().split())
    new = lines(app, num=3, new="new")
    assert new and known.isdisjoint(new)


def test_known_lines_are_recognized(app):
    assert app("known", "zzz", "as it is") == "false"
    line = next(iter(sorted(set(lines(app, num=30)) - set(lines(app, num=20, new="new")))))
    assert app("known", line, "as it is") == "true"
    assert app("known", line.upper(), "as it is") == "false"
    assert app("known", line.upper(), "any") == "true"


def test_fingerprints_are_those_of_python(app):
    rng = random.Random(1)
    for length in [0, 1, 8, 127, 128, 129, 256, 300]:
        text = "".join(rng.choices("abcdefé\N{CAT FACE}", k=length))
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        assert int(app("fingerprint", text)) == int.from_bytes(digest, "little", signed=True)


def test_unknown_characters_are_named(app):
    assert app("unknown", "abXcYX") == "X Y"


def test_a_text_is_continued_in_pieces(classes, text_model):
    model = keras_charlm.load(text_model)
    program = kotlin.Program(classes, text_model)
    for prompt in "the cat", "a cat, a mat" * 20:  # longer than what a call reads
        expected = model.generate(prompt, seed=3, length=100)
        assert prompt + program("text", prompt, 3, 0.8) == expected
    assert "out of range" in program("text", "the cat", 3, -1)
    program.close()


def test_odd_names_are_escaped(project):
    assert android.kotlin('a$b"\f\\é') == '"a\\$b\\"\\u000c\\\\\\u00e9"'
    assert android.kotlin(True) == "true"
    assert ">\\@home &amp; \\'me\\' &lt;1&gt;\\?<" in android.strings("@home & 'me' <1>?")
    assert android.default_id("7 Names!") == "com.example.charlm.model7names"
    for path in project.rglob("*.xml"):
        ElementTree.parse(path)


def test_wrong_settings_are_refused(list_model, tmp_path, kcharlm):
    for options, sentence in (
        (["--to", "web", "--app-id", "org.me.names"], "--app-id is for --to android"),
        (["--to", "android", "--app-id", "names"], "--app-id is names; it takes words"),
        (["--to", "android", "--single-file"], "--single-file is for --to web"),
        (["--to", "android", "--ends-with", "a"], "Constraints are for --to tflite"),
    ):
        code, _, err = kcharlm("export", list_model, "-o", tmp_path / "app", *options)
        assert code == 2 and sentence in err
    (tmp_path / "mine").mkdir()
    code, _, err = kcharlm("export", list_model, "--to", "android", "-o", tmp_path / "mine")
    assert code == 2 and "is a folder that no export wrote" in err
