"""Shared by the tests: a cache of their own, a small text, and small trained models."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Compiling takes longer than running what is compiled: the networks are tiny.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

import contextlib
import gc
import hashlib
import io
import json
import random
import shutil
import signal
import sys
from pathlib import Path

import conversions
import hosts
import hypothesis
import preloaded
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)  # other work may slow any example
hypothesis.settings.load_profile("untimed")

# A process in the background may ignore Ctrl-C, and then what it starts does too.
signal.signal(signal.SIGINT, signal.default_int_handler)

TINY = {
    "layers": 1, "units": 8, "embedding": 4, "batch_size": 4, "seq_length": 8, "synthetic": 0,
    "verbose": 0,
}  # fmt: skip


def pytest_collection_finish():
    """Collect garbage seldom, and not what was imported: a graph consists of countless objects;
    and do not optimize graphs."""
    preloaded.as_written()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_unconfigure():
    gc.freeze()  # pytest collects five times at the end, of a process of gigabytes


class Enough(Exception):
    """A training has shown what a test looks at, and no model is needed of it."""


def train(text, folder, until="on_train_end", **settings):
    """Run `fit` without writing a model at its end, which takes longer than a tiny training.

    Args:
        text, folder, settings: Those of `fit`.
        until: The method of a Keras callback at whose first call the training ends.

    Returns:
        The network as it is then.
    """
    from keras_charlm import fit

    return network_of(fit, text, folder, until=until, **settings)


def network_of(fit_or_resume, *args, until="on_train_end", **settings):
    """The network of a training that writes no model, as `train`."""
    import keras

    callback, networks = keras.callbacks.Callback(), []

    def end(*_, **__):
        networks.append(callback.model)
        raise Enough

    setattr(callback, until, end)
    callbacks = [*settings.pop("callbacks", []), callback]
    with pytest.raises(Enough):
        fit_or_resume(*args, callbacks=callbacks, **settings)
    return networks[0]


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """Prepared texts go to a folder of the tests', not to the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["KERAS_CHARLM_CACHE"] = str(folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def shared_conversions(of_all):
    """Convert one network of each shape, here and in the processes that begin with TensorFlow."""
    folder = of_all / "conversions"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(conversions.FOLDER, str(folder))
        if tflite := sys.modules.get("keras_charlm.export.tflite"):  # else no test here converts
            patch.setattr(tflite, "convert", conversions.shared(tflite.convert))
        yield


def babble(size, seed=0):
    """Words that can be learnt a little: as many characters as asked for."""
    rng = random.Random(seed)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "ran"]
    text = ""
    while len(text) < size:
        text += " ".join(rng.choices(words, k=rng.randint(3, 9))) + rng.choice([".\n", "!\n", ", "])
    return text[:size]


@pytest.fixture(scope="session")
def of_all(tmp_path_factory, worker_id):
    """The folder that the test processes share."""
    folder = tmp_path_factory.getbasetemp()
    return folder if worker_id == "master" else folder.parent


@pytest.fixture(scope="session")
def made_once(of_all, tmp_path_factory):
    """Fill a folder in the process that first needs it, and copy it: (name, function of it)."""

    def copy(name, make):
        import fcntl

        made = of_all / "made" / name
        made.parent.mkdir(exist_ok=True)
        with made.with_suffix(".done").open("a+") as done:
            fcntl.flock(done, fcntl.LOCK_EX)  # one process makes it, and the others wait
            if not done.seek(0, os.SEEK_END):
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir()
                make(made)
                done.write("done")
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(made, folder, dirs_exist_ok=True)
        return folder

    return copy


@pytest.fixture(scope="session")
def text_file(of_all):
    path = of_all / "text" / "cats.txt"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        half = path.with_suffix(f".{os.getpid()}")
        half.write_text(babble(1500))
        half.rename(path)
    return path


def shown_fit(text, folder, **settings):
    """A tiny training; what it showed is in `shown.txt` beside the model's folder."""
    from keras_charlm import fit

    with contextlib.redirect_stderr(io.StringIO()) as shown:
        fit(text, folder, **{**TINY, **settings, "verbose": 1})
    folder.with_name("shown.txt").write_text(shown.getvalue())


@pytest.fixture(scope="session")
def text_model(text_file, made_once):
    """A tiny model of a text: the folder that fit wrote."""
    return made_once("text", lambda made: shown_fit(text_file, made / "cats", epochs=2)) / "cats"


@pytest.fixture(scope="session")
def list_model(made_once):
    """A tiny model of lines."""
    from keras_charlm import fit

    def make(made):
        path, rng = made / "names.txt", random.Random(1)
        path.write_text(
            "".join("".join(rng.choices("abc", k=rng.randint(2, 4))) + "\n" for _ in range(200))
        )
        fit(path, made / "list", lines=True, epochs=2, **TINY)

    return made_once("lines", make) / "list"


@pytest.fixture(scope="session")
def half_model(text_file, made_once):
    """A tiny model of a text with weights in half precision."""
    from keras_charlm import fit

    def make(made):
        settings = {**TINY, "quantize": "float16", "epochs": 2}
        fit(text_file, made / "half", tensorboard=str(made / "board"), **settings)

    return made_once("half", make) / "half"


@pytest.fixture(scope="session")
def gru_model(text_file, made_once):
    """A tiny model of a text that differs from every default."""
    from keras_charlm import fit

    def make(made):
        fit(text_file, made / "gru", epochs=1, **{**TINY, "cell": "gru", "tied": False})

    return made_once("gru", make) / "gru"


@pytest.fixture(scope="session")
def rnn_model(text_file, made_once):
    """A tiny model of a text without an embedding."""
    from keras_charlm import fit

    def make(made):
        settings = {**TINY, "cell": "rnn", "embedding": 0, "tied": False}
        fit(text_file, made / "rnn", epochs=1, **settings)

    return made_once("rnn", make) / "rnn"


@pytest.fixture(scope="session")
def byte_model(made_once):
    """A tiny model that knows every byte."""

    def make(made):
        (made / "a.bin").write_bytes(bytes(range(256)) * 8)
        shown_fit(made / "a.bin", made / "bytes", unit="byte", epochs=1)

    return made_once("bytes", make) / "bytes"


@pytest.fixture(scope="session")
def stopped(text_file, made_once):
    """A training that can be resumed, for reading only."""
    import keras

    import keras_charlm

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    def make(made):
        settings = {**TINY, "epochs": 2, "checkpoint_every": 1e-6, "callbacks": [Stop()]}
        with pytest.raises(keras_charlm.Interrupted):
            keras_charlm.fit(text_file, made / "cats", **settings)

    return made_once("stopped", make) / "cats"


@pytest.fixture(scope="session")
def unfinished(text_file, made_once):
    """The model of a training that a signal stopped in its second epoch."""
    import keras

    import keras_charlm

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2 and self.second:
                os.kill(os.getpid(), signal.SIGTERM)

        def on_epoch_begin(self, epoch, logs=None):
            self.second = epoch == 1

    def make(made):
        with pytest.raises(keras_charlm.Interrupted) as raised:
            keras_charlm.fit(text_file, made / "cats", epochs=9, **TINY, callbacks=[Stop()])
        assert raised.value.__cause__ is None  # it needs no explanation, least of all itself

    return made_once("unfinished", make) / "cats"


def rehash(model):
    """Make the hashes in a folder's config.json those of its files."""
    config = json.loads((model / "config.json").read_text())
    for name in config["files"]:
        config["files"][name] = hashlib.sha256((model / name).read_bytes()).hexdigest()
    (model / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="session")
def chromium():
    """A headless browser of the system's."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=hosts.FLAGS)
        yield browser
        browser.close()


def with_card(content, values):
    """An on-device file with another card, and the hash that fits."""
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    from keras_charlm.saved import tflite_card

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    entry = next(m for m in model.metadata if m.name == tflite_card.METADATA.encode())
    text = json.dumps({**values, "file_sha256": "0" * 64}, ensure_ascii=False)
    model.buffers[entry.buffer].data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return tflite_card.sign(bytes(builder.Output()))


@pytest.fixture
def kcharlm(capfd, monkeypatch):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*args, stdin=None):
        from kcharlm.main import main

        monkeypatch.setattr(sys, "argv", ["kcharlm", *map(str, args)])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def litertjs():
    """The npm package @litertjs/core: $KCHARLM_LITERTJS, or in a node_modules above the tests."""
    named = os.environ.get("KCHARLM_LITERTJS")
    folders = (
        [Path(named)]
        if named
        else [p / "node_modules" / "@litertjs" / "core" for p in Path(__file__).resolve().parents]
    )
    for folder in folders:
        if (folder / "package.json").is_file():
            return folder
    return pytest.skip(
        "the npm package @litertjs/core is not there: npm install @litertjs/core, "
        "or name its folder in KCHARLM_LITERTJS"
    )


@pytest.fixture
def serve():
    """Serve a folder until the test ends; returns its address and the server."""
    with contextlib.ExitStack() as stack:
        yield lambda folder: stack.enter_context(hosts.served(folder))


@pytest.fixture
def visit(chromium, serve):
    """Open a page's folder in a clean browser; at the end, nothing may have gone wrong in it."""
    contexts, problems = [], []

    def open_page(folder, state="ready", script="", **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        address, _ = serve(folder)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: m.type == "error" and problems.append(m.text))
        page.on(
            "request",
            lambda r: r.url.startswith((address, "blob:")) or problems.append(f"asked for {r.url}"),
        )
        if script:
            page.add_init_script(script)
        page.goto(address)
        page.wait_for_selector(f"html[data-state={state}]", state="attached", timeout=60_000)
        return page

    open_page.problems = problems
    yield open_page
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture(scope="session")
def names_page(list_model, tmp_path_factory):
    """The folder of a page for lines."""
    import pages

    import keras_charlm

    folder = tmp_path_factory.mktemp("page") / "names"
    pages.write(keras_charlm.load(list_model), folder)
    return folder


@pytest.fixture(scope="session")
def text_page(text_model, tmp_path_factory):
    """The folder of a page for a text."""
    import pages

    import keras_charlm

    folder = tmp_path_factory.mktemp("page") / "text"
    pages.write(keras_charlm.load(text_model), folder)
    return folder
