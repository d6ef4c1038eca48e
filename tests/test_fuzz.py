"""Whatever a file, a prompt or a text holds: a right result, or one of our errors, and no more."""

import copy
import functools
import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import with_card
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_charlm
from keras_charlm.config import CorpusConfig
from keras_charlm.errors import BundleError, CharLMError, CorpusError
from keras_charlm.report import report
from keras_charlm.saved import tflite_card
from keras_charlm.saved.card import count_parameters
from keras_charlm.text import cache, corpus
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


def rehash(model):
    config = json.loads((model / "config.json").read_text())
    for name in config["files"]:
        config["files"][name] = hashlib.sha256((model / name).read_bytes()).hexdigest()
    (model / "config.json").write_text(json.dumps(config))


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


@pytest.fixture(scope="module")
def stopped(text_file, tmp_path_factory):
    """A training that can be resumed."""
    import keras
    from conftest import TINY

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("stopped") / "cats"
    with pytest.raises(keras_charlm.Interrupted):
        keras_charlm.fit(
            text_file, folder, epochs=2, **TINY, checkpoint_every=1e-6, callbacks=[Stop()]
        )
    return folder


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
    from keras_charlm.training.run import Run

    monkeypatch.setattr(Run, "train", lambda run, users: None)
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


def npy(shape, data=b"", dtype="<f4"):
    """A .npy file that says what it likes of its shape."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.mark.parametrize(
    "content, packing",
    [
        (npy("(1000000000000000,)"), zipfile.ZIP_STORED),  # a petabyte, by its own word
        (npy("(1 << 62, 4)"), zipfile.ZIP_STORED),
        (npy("(-1,)"), zipfile.ZIP_STORED),
        (npy("(25000000,)", bytes(100_000_000)), zipfile.ZIP_DEFLATED),  # 100 MB in 100 kB
        (npy("(1,)", pickle.dumps([1]), "|O"), zipfile.ZIP_STORED),
    ],
)
def test_checkpoints_that_lie_about_their_size(tmp_path, content, packing):
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w", packing) as file:
        file.writestr("v0.npy", content)
    with pytest.raises(BundleError, match=r"state\.npz cannot be read"):
        checkpoint.read_arrays(path)


# Models that mean harm.


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def traps(sprung):
    """Contents that run code in readers that trust them."""
    import keras

    yield pickle.dumps(Trap(sprung))
    content = io.BytesIO()
    np.save(content, np.array([Trap(sprung)], object), allow_pickle=True)
    yield content.getvalue()
    content = io.BytesIO()
    np.savez(content, v0=np.array([Trap(sprung)], object), json=np.array([Trap(sprung)], object))
    yield content.getvalue()
    path = sprung.with_name("lambda.keras")
    harm = keras.Sequential([keras.Input((1,)), keras.layers.Lambda(eval("lambda x: x"))])
    harm.save(path)
    yield path.read_bytes()
    yield f"__import__('os').mkdir({str(sprung)!r})".encode()


def test_opening_a_model_runs_no_code_from_it(list_model, stopped, tmp_path, kcharlm):
    """Each of its files replaced by a trap, with a hash that fits."""
    sprung = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works
    sprung.rmdir()
    for trap in list(traps(sprung)):
        for path in list_model.iterdir():
            folder = shutil.copytree(list_model, tmp_path / "model")
            (folder / path.name).write_bytes(trap)
            if path.name != "config.json":
                rehash(folder)
            # LiteRT itself is given no file that is not one of ours.
            commands = [["info", folder], ["evaluate", folder, corpus.NAMES]]
            if path.name != "model.tflite":
                commands.append(["generate", folder, "--num", "2", "--seed", "1", "--novel"])
            for command in commands:
                code, _, err = kcharlm(*command)
                assert code in (0, 1, 2)
                assert "Traceback" not in err
                assert not sprung.exists(), (path.name, command)
            shutil.rmtree(folder)
        for name in ("state.npz", "best.npz"):
            folder = shutil.copytree(stopped, tmp_path / "model")
            (folder / "checkpoint" / name).write_bytes(trap)
            if name == "state.npz":
                with pytest.raises(BundleError):
                    keras_charlm.resume(folder, verbose=0)
            else:
                with pytest.raises(BundleError):
                    checkpoint.read_weights(folder / "checkpoint" / name)
            assert not sprung.exists()
            shutil.rmtree(folder)


@given(data=st.data())
@settings(fuzz, max_examples=40)
def test_histories_of_any_content(text_model, model, tmp_path, data):
    """The report is made of them, or says in one sentence what is wrong with them."""
    name = data.draw(st.sampled_from(["history.csv", "curve.csv", "samples.txt"]))
    whole = (text_model / name).read_text()
    if data.draw(st.booleans()):
        words = whole.replace("=", ",").replace(" ", ",").replace("\n", ",").split(",")
        word = data.draw(st.sampled_from(sorted(set(filter(None, words)))))
        value = data.draw(
            st.sampled_from(
                [
                    "nan",
                    "-1",
                    "1e999",
                    "9" * 400,
                    "9" * 9000,
                    "1.2.3",
                    "",
                    "\0",
                    '"',
                    "\x1b[2J",
                    "\U00011f54",
                    "٣",
                    "0x1",
                ]
            )
        )
        whole = whole.replace(word, value, data.draw(st.sampled_from([1, -1])))
    else:
        whole = data.draw(st.text(max_size=60))
    (model / name).write_text(whole, encoding="utf-8", errors="surrogatepass")
    try:
        report.write(model, tmp_path / "page.html", count=False)
    except CharLMError as error:
        assert str(model / name) in str(error)
    (model / name).write_bytes((text_model / name).read_bytes())


def test_links_and_pipes_and_paths_that_lead_outside_are_refused(model, tmp_path, kcharlm):
    secret = tmp_path / "secret"
    for name in ("config.json", "vocabulary.json", "model.tflite"):
        path = model / name
        content = path.read_bytes()
        path.unlink()
        secret.write_bytes(content)  # the right content, but elsewhere
        path.symlink_to(secret)
        assert "is a link" in kcharlm("generate", model, "--length", 3)[2], name
        path.unlink()
        os.mkfifo(path)
        assert kcharlm("generate", model, "--length", 3)[0] == 2, name  # and it does not wait
        path.unlink()
        path.write_bytes(content)
    for name in ("history.csv", "curve.csv", "samples.txt"):
        content = (model / name).read_bytes()
        (model / name).unlink()
        os.mkfifo(model / name)
        code, _, error = kcharlm("report", model)
        assert code == 0 if name == "samples.txt" else "no regular file" in error, name
        (model / name).unlink()
        (model / name).write_bytes(content)
    config = json.loads((model / "config.json").read_text())
    outside = hashlib.sha256(b"x").hexdigest()
    config["files"] |= {"../../secret": outside, "/etc/passwd": outside}
    config["name"] = "../../../tmp/evil"
    config["corpus"] |= {"files": ["/dev/zero", "/"], "sha256": "../" * 21 + "a"}
    (model / "config.json").write_text(json.dumps(config))
    assert "damaged (corpus" in kcharlm("generate", model, "--length", 3)[2]
    # Nothing outside is looked for in the cache either.
    assert cache.cached(tmp_path, "../secret") is None


def test_an_export_reads_no_devices_that_a_model_names(model, tmp_path):
    config = json.loads((model / "config.json").read_text())
    config["corpus"] |= {"files": ["/dev/zero", "/"], "sha256": "0" * 64}
    (model / "config.json").write_text(json.dumps(config))
    report = keras_charlm.load(model).export(tmp_path / "x.tflite")
    assert "the model drew" in report["compared_on"]


@pytest.mark.parametrize(
    "change",
    [
        {"units": 16384, "layers": 16},
        {"units": 1000},
        {"embedding": 16384},
    ],
)
def test_networks_larger_than_their_file_are_never_built(model, change):
    config = json.loads((model / "config.json").read_text())
    config["model"] |= change
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="its network would have"):
        keras_charlm.load(model)


def test_files_larger_than_a_model_s_can_be_are_not_read(model):
    for name, size in (("config.json", 1 << 40), ("model.tflite", 1 << 40)):
        content = (model / name).read_bytes()
        os.truncate(model / name, size)  # of holes: it takes no room
        with pytest.raises(BundleError, match="has 1,099,511,627,776 bytes and such a file"):
            keras_charlm.load(model).generate(length=1)
        (model / name).write_bytes(content)
    (model / "x.tflite").touch()
    os.truncate(model / "x.tflite", 1 << 40)
    with pytest.raises(BundleError):
        keras_charlm.load(model / "x.tflite")


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("embedding, tied", [(0, False), (5, False), (5, True)])
def test_the_number_of_weights_is_the_network_s(cell, embedding, tied):
    from keras_charlm.config import ModelConfig
    from keras_charlm.network.model import build

    config = ModelConfig(cell=cell, layers=2, units=7, embedding=embedding, tied=tied, dropout=0.0)
    network = build(config, 11)
    assert count_parameters(config, 11) == sum(
        int(np.prod(w.shape)) for w in network.trainable_weights
    )


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
