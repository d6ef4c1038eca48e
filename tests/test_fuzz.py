"""Whatever a file, a prompt or a text holds: a right result, or one of our errors, and no more."""

import copy
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import rehash, with_card
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_charlm
from keras_charlm.config import CorpusConfig
from keras_charlm.errors import BundleError, CharLMError, CorpusError
from keras_charlm.saved import tflite_card
from keras_charlm.text import corpus
from keras_charlm.training import checkpoint

# A file found to break something is found again: the same examples in every run.
fuzz = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["../../x", "\x1b[2J", "lstm", -1, 2**31, 2**63, 1e308, 10**400, 16384]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value, path=()):
    """The path of every value in a JSON value."""
    yield path
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:20])
        if isinstance(value, list)
        else ()
    )
    for key, part in parts:
        yield from places(part, (*path, key))


def changed(draw, value):
    """The JSON value with one place changed, left out or added."""
    path = draw(st.sampled_from(sorted(places(value), key=repr)))
    if not path:
        return draw(values)
    value = copy.deepcopy(value)
    *way, last = path
    part = functools.reduce(lambda v, key: v[key], way, value)
    kind = draw(st.sampled_from(["change", "change", "leave out", "add"]))
    if kind == "leave out":
        del part[last]
    elif kind == "add" and isinstance(part, dict):
        part[draw(st.text(max_size=3))] = draw(values)
    else:
        part[last] = draw(values)
    return value


def use(path, kcharlm):
    """What a user does with a model that came from anywhere: a result, or one sentence."""
    before = sorted(str(p) for p in Path(path).parent.rglob("*"))
    for command in (
        ["info", path],
        ["info", path, "--json"],
        ["generate", path, "--length", "3", "--seed", "1", "--num", "2"],
    ):
        code, out, err = kcharlm(*command)
        assert code in (0, 2), err
        assert "Traceback" not in err
        assert not set(err) & set("\x1b\x07\x9b")
        if code:
            assert len(err.splitlines()) == 1 and err.startswith("kcharlm: "), err
        else:
            assert out
    assert sorted(str(p) for p in Path(path).parent.rglob("*")) == before


@pytest.fixture
def model(text_model, tmp_path):
    return shutil.copytree(text_model, tmp_path / "cats")


@given(data=st.data())
@settings(fuzz, max_examples=80)
def test_configurations_of_any_content(model, kcharlm, data):
    path = model / "config.json"
    if not (kept := path.with_suffix(".kept")).exists():
        shutil.copy(path, kept)
    path.write_text(json.dumps(changed(data.draw, json.loads(kept.read_text()))))
    use(model, kcharlm)


@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(fuzz, max_examples=30)
def test_configurations_that_are_none(model, kcharlm, data):
    (model / "config.json").write_bytes(data)
    use(model, kcharlm)


@given(data=st.data())
@settings(fuzz, max_examples=40)
def test_vocabularies_of_any_content(model, kcharlm, data):
    """Somebody took care that the hash fits."""
    path = model / "vocabulary.json"
    if not (kept := path.with_suffix(".kept")).exists():
        shutil.copy(path, kept)
    path.write_text(json.dumps(changed(data.draw, json.loads(kept.read_text()))))
    rehash(model)
    use(model, kcharlm)


@given(data=st.data())
@settings(fuzz, max_examples=40)
def test_cards_of_any_content_in_a_file(text_model, tmp_path, kcharlm, data):
    path = text_model / "model.tflite"
    card = {k: v for k, v in tflite_card.read(path).items() if k != "file_sha256"}
    values = changed(data.draw, card)
    (tmp_path / "x.tflite").write_bytes(
        with_card(path.read_bytes(), values if isinstance(values, dict) else {"card": values})
    )
    use(tmp_path / "x.tflite", kcharlm)


@given(data=st.data())
@settings(fuzz, max_examples=150)
def test_a_file_with_any_byte_changed_never_reaches_the_interpreter(text_model, tmp_path, data):
    """Which a damaged file may crash."""
    content = bytearray((text_model / "model.tflite").read_bytes())
    at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 64))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(BundleError):
        keras_charlm.load(tmp_path / "x.tflite")
    folder = tmp_path / "cats"
    if not folder.exists():
        shutil.copytree(text_model, folder)
    (folder / "model.tflite").write_bytes(content)
    with pytest.raises(BundleError):
        keras_charlm.load(folder).generate(length=1)


@given(data=st.data())
@settings(fuzz, max_examples=60)
def test_training_lines_with_any_byte_changed(list_model, tmp_path, data):
    folder = tmp_path / "list"
    if not folder.exists():
        shutil.copytree(list_model, folder)
    content = bytearray((list_model / "training_lines.u64").read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    (folder / "training_lines.u64").write_bytes(content)
    with pytest.raises(BundleError, match="not the file that training wrote"):
        keras_charlm.load(folder).known("Ann")


# Checkpoints.


@given(data=st.data())
@settings(fuzz, max_examples=150)
def test_checkpoints_with_any_byte_changed(stopped, tmp_path, data):
    whole = (stopped / "checkpoint" / "state.npz").read_bytes()
    content = bytearray(whole)
    at = data.draw(
        st.integers(0, len(content) - 1) | st.integers(len(content) - 400, len(content) - 1)
    )
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    (tmp_path / "x.npz").write_bytes(content)
    (tmp_path / "whole.npz").write_bytes(whole)
    expected = checkpoint.read_arrays(tmp_path / "whole.npz")
    try:
        found = checkpoint.read_arrays(tmp_path / "x.npz")
    except BundleError:
        return
    # A zip file has bytes that do not matter; what was read is what was written.
    for name in found.keys() & expected.keys():
        np.testing.assert_array_equal(found[name], expected[name])


@given(data=st.data())
@settings(fuzz, max_examples=30)
def test_checkpoints_of_any_content(stopped, tmp_path, monkeypatch, data):
    """Up to where the training would begin."""
    from keras_charlm.training import run

    monkeypatch.setattr(run, "train", lambda training, users: None)
    folder = tmp_path / "cats"
    if not folder.exists():
        shutil.copytree(stopped, folder)
    arrays = checkpoint.read_arrays(stopped / "checkpoint" / "state.npz")
    values = changed(data.draw, json.loads(arrays["json"].tobytes()))
    arrays["json"] = np.frombuffer(json.dumps(values).encode(), np.uint8)
    checkpoint.write_arrays(folder / "checkpoint" / "state.npz", arrays)
    try:
        keras_charlm.resume(folder, verbose=0)
    except CharLMError as error:
        assert str(error)


# Texts and prompts.

configs = st.builds(
    CorpusConfig,
    unit=st.sampled_from(["char", "byte"]),
    lines=st.booleans(),
    normalize=st.sampled_from(["nfc", "nfkc", "none"]),
    keep_line_ends=st.booleans(),
    encoding=st.sampled_from(
        [
            "utf-8",
            "latin-1",
            "utf-16",
            "utf-7",
            "utf-8-sig",
            "cp1252",
            "shift_jis",
            "unicode_escape",
            "hex",
            "zip",
            "rot13",
            "idna",
            "punycode",
            "undefined",
            "no-such",
            "",
            "\0",
            "x" * 300,
        ]
    ),
)


@given(data=st.binary(max_size=400), config=configs, name=st.sampled_from(["a.txt", "a.gz"]))
@settings(fuzz, max_examples=200)
def test_texts_of_any_bytes(tmp_path, data, config, name):
    (tmp_path / name).write_bytes(data)
    try:
        found = corpus.prepare([tmp_path / name], config)
    except CorpusError as error:
        assert str(error)
        return
    text = found.text(0, len(found.symbols))
    if config.unit == "char":
        assert text.decode("utf-8")
    elif not config.lines and name == "a.txt":
        assert text == data
    if config.lines:
        with_lines = any(text.split(b"\n"))
        assert with_lines == (raised(found.lines) is None)


def raised(call):
    try:
        call()
    except CharLMError as error:
        return error
    return None


@given(name=st.text(max_size=300), sizes=st.lists(st.integers(0, 5), max_size=3))
@settings(fuzz, max_examples=100)
def test_files_of_any_name(name, sizes):
    with pytest.raises(CorpusError):
        corpus.prepare(["no-such-folder/" + name])


@given(name=st.text(max_size=300) | st.just("x" * 5000))
@settings(fuzz, max_examples=100)
def test_models_of_any_name(name):
    with pytest.raises(BundleError):
        keras_charlm.load("no-such-folder/" + name)
    with pytest.raises(BundleError):
        keras_charlm.load(name * 20 + "\0")


@given(
    prompt=st.text(alphabet=st.characters(exclude_categories=[]), max_size=80)
    | st.binary(max_size=80),
    options=st.fixed_dictionaries(
        {},
        optional={
            "temp": st.floats() | st.integers(),
            "top_k": st.integers(-1, 2**70),
            "top_p": st.floats(),
            "seed": st.integers(-1, 2**32),
            "unknown_ok": st.booleans(),
            "stop": st.text(alphabet=st.characters(exclude_categories=[]), max_size=4),
            "num": st.integers(-1, 3),
            "novel": st.booleans(),
        },
    ),
)
@settings(fuzz, max_examples=200)
def test_prompts_and_options_of_any_kind(text_model, prompt, options):
    model = opened(text_model)
    try:
        drawn = list(model.samples(prompt, length=4, **options))
    except CharLMError as error:
        assert str(error)
        return
    assert len(drawn) == options.get("num", 1)
    for sample in drawn:
        assert len(sample.text) <= 4
        assert set(model.vocabulary.to_codes(sample.text)) <= set(model.vocabulary.codes)


opened = functools.cache(keras_charlm.load)
