"""Models and checkpoints that somebody made to do harm: they are refused, and nothing is run."""

import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from conftest import rehash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_charlm
from keras_charlm.errors import BundleError, CharLMError
from keras_charlm.report import report
from keras_charlm.saved.weights import count_parameters
from keras_charlm.text import cache
from keras_charlm.training import checkpoint

SCORING = ("config.json", "vocabulary.json", "model.weights.h5", "model.tflite")  # opens these
fuzz = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture
def model(text_model, tmp_path):
    return shutil.copytree(text_model, tmp_path / "cats")


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
    text = tmp_path / "held_out.txt"
    text.write_text("abc\nba\n" * 20)
    for trap in list(traps(sprung)):
        for path in list_model.iterdir():
            folder = shutil.copytree(list_model, tmp_path / "model")
            (folder / path.name).write_bytes(trap)
            if path.name != "config.json":
                rehash(folder)
            # LiteRT itself is given no file that is not one of ours.
            commands = [["info", folder]]
            if path.name in SCORING:
                commands.append(["evaluate", folder, text])
            if path.name != "model.tflite":
                commands.append(["generate", folder, "--num", "2", "--seed", "1", "--novel"])
            for command in commands:
                code, _, err = kcharlm(*command)
                assert code in (0, 1, 2)
                assert "Traceback" not in err
                assert not sprung.exists(), (path.name, command)
            shutil.rmtree(folder)
        # Scoring does not stop at any of the others, so they can be replaced together.
        folder = shutil.copytree(list_model, tmp_path / "model")
        for path in folder.iterdir():
            if path.name not in SCORING:
                path.write_bytes(trap)
        rehash(folder)
        assert kcharlm("evaluate", folder, text)[0] == 0
        assert not sprung.exists()
        shutil.rmtree(folder)
        for name in ("state.npz", "best.npz"):
            folder = shutil.copytree(stopped, tmp_path / "model")
            (folder / "checkpoint" / name).write_bytes(trap)
            if name == "state.npz":
                with pytest.raises(BundleError):
                    keras_charlm.resume(folder, verbose=0)
            else:
                with pytest.raises(BundleError):
                    checkpoint.read_best(folder / "checkpoint" / name)
            assert not sprung.exists()
            shutil.rmtree(folder)


@given(data=st.data())
@settings(fuzz, max_examples=25 if os.environ.get("KERAS_CHARLM_LONG_TESTS") else 8)
def test_histories_of_any_content(text_model, model, tmp_path, data):
    """The report is made of them, or says in one sentence what is wrong with them."""
    name = data.draw(st.sampled_from(["history.csv", "curve.csv", "samples.jsonl"]))
    whole = (text_model / name).read_text()
    if data.draw(st.booleans()):
        words = whole.replace(":", ",").replace(" ", ",").replace("\n", ",").split(",")
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
    for name in ("history.csv", "curve.csv", "samples.jsonl"):
        content = (model / name).read_bytes()
        (model / name).unlink()
        os.mkfifo(model / name)
        code, _, error = kcharlm("report", model)
        assert code == 0 if name == "samples.jsonl" else "not a regular file" in error, name
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
    assert cache.find(tmp_path, "../secret") is None


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
        with pytest.raises(BundleError, match="has 1,099,511,627,776 bytes, and at most"):
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
