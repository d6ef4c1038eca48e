"""Kills, full disks, read-only folders, jumping clocks: nothing is lost and nothing is left."""

import contextlib
import functools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import preloaded
import pytest
from conftest import TINY, Enough, babble, train

import keras_charlm
from keras_charlm.errors import (
    BundleError,
    CharLMError,
    CorpusError,
    Interrupted,
    OptionError,
    TrainingError,
)
from keras_charlm.saved import bundle
from keras_charlm.text import corpus

EXACT = {**TINY, "precision": "float32", "dropout": 0.3, "epochs": 2}
COMMAND = [sys.executable, "-m", "kcharlm"]


class Act(keras.callbacks.Callback):
    """Calls a function after so many batches."""

    def __init__(self, after, action):
        super().__init__()
        self.after, self.action = after, action

    def on_train_batch_end(self, batch, logs=None):
        self.after -= 1
        if self.after == 0:
            self.action()


def options(settings):
    """Settings on the command line."""
    named = {name: value for name, value in settings.items() if name != "verbose"}
    return [f"--{name.replace('_', '-')}={value}" for name, value in named.items()]


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


class Last(keras.callbacks.Callback):
    """Ends a training before it writes its model, which takes longer than the training."""

    def on_train_end(self, logs=None):
        raise Enough(self.model.get_weights())


def last_weights(call, *args, callbacks=(), **settings):
    """The weights at the end of a training."""
    with pytest.raises(Enough) as end:
        call(*args, callbacks=[*callbacks, Last()], **settings)
    return end.value.args[0]


def equal(one, other):
    return all(map(np.array_equal, one, other))


@pytest.fixture(scope="module")
def runs(text_file, tmp_path_factory):
    """The weights of a training that nothing disturbed, and, in folders named 20 and 50, what it
    would have left if it had been killed at that batch, after the checkpoint of the one before."""
    folder = tmp_path_factory.mktemp("runs")
    copies = [
        Act(after, functools.partial(shutil.copytree, folder / "m", folder / str(after)))
        for after in (20, 50)
    ]
    settings = {**EXACT, "checkpoint_every": 1e-6, "callbacks": copies}
    return folder, last_weights(keras_charlm.fit, text_file, folder / "m", **settings)


@pytest.fixture
def whole(runs):
    """The weights at the end of a training that nothing disturbed."""
    return runs[1]


def test_work_killed_at_random_moments_ends_alike_and_leaves_nothing(text_model):
    """The short form of `python tests/faults.py --kills 200`, on what chance has of its work."""
    seed = random.SystemRandom().randrange(2**31)
    kills, work = 3, [random.Random(seed).choice(["fit", "export_file", "export_page"]), "prepare"]
    if os.environ.get("KERAS_CHARLM_LONG_TESTS"):
        kills, work = 8, ["fit", "export_file", "export_page", "prepare"]
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import faults as f"
    given = ["--kills", str(kills), "--seed", str(seed), "--model", text_model, "--work", *work]
    done = preloaded.run(
        [sys.executable, "-c", f"{code}; f.main()", *given], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"all ended alike and left nothing (seed {seed})" in done.stdout


# Disks that are full.


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(folder):
    """Write until nothing more fits."""
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_costs_nothing(small_disk, text_file, whole):
    """It fills up in the middle; when there is room again the training ends as if nothing was."""
    folder = small_disk / "m"
    with pytest.raises(TrainingError, match=r"No space left on device\); make room .*--resume"):
        keras_charlm.fit(
            text_file,
            folder,
            **EXACT,
            checkpoint_every=1e-6,
            callbacks=[Act(50, lambda: fill_up(small_disk))],
        )
    (small_disk / "ballast").unlink()
    assert equal(last_weights(keras_charlm.resume, folder, verbose=0), whole)
    assert [p.name for p in small_disk.iterdir()] == ["m"]


def test_a_full_disk_at_ctrl_c_keeps_the_checkpoint(small_disk, text_file, whole):
    """There was room for the checkpoint, and none to put the model so far into its folder."""
    folder = small_disk / "m"

    class Full(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                fill_up(small_disk)
                with (small_disk / "ballast").open("r+b") as file:
                    file.truncate(file.seek(0, 2) - 60_000)

    with pytest.raises(Interrupted, match="nothing is lost; continue with"):
        keras_charlm.fit(text_file, folder, **EXACT, callbacks=[Act(50, interrupt), Full()])
    assert not (folder / "config.json").exists()
    (small_disk / "ballast").unlink()
    assert equal(keras_charlm.resume(folder, verbose=0).model.get_weights(), whole)
    assert [p.name for p in small_disk.iterdir()] == ["m"]


def test_a_full_cache_is_told(small_disk, tmp_path, monkeypatch):
    (tmp_path / "long.txt").write_text(babble(1000) * 5000)
    monkeypatch.setenv("KERAS_CHARLM_CACHE", str(small_disk / "cache"))
    with pytest.raises(CorpusError, match=r"No space left on device\); make room there"):
        corpus.prepare([tmp_path / "long.txt"])
    assert not list((small_disk / "cache").iterdir())


def test_an_export_that_does_not_fit_leaves_the_old_one(small_disk, text_model):
    output = small_disk / "cats.tflite"
    output.write_bytes(b"old")
    (small_disk / "cats.tflite.report.json").write_text("{}")
    before = {p.name: p.read_bytes() for p in small_disk.iterdir()}
    fill_up(small_disk)
    with pytest.raises(OptionError, match=r"No space left on device\); make room"):
        keras_charlm.load(text_model).export(output, overwrite=True)
    (small_disk / "ballast").unlink()
    assert {p.name: p.read_bytes() for p in small_disk.iterdir()} == before


@pytest.mark.parametrize("size", [1_000, 20_000])
def test_a_write_that_fails_is_told_and_made_good(text_file, whole, tmp_path, size):
    """A limit on the size of files fails the first checkpoint, or what the model is made from."""
    limit = functools.partial(
        resource.setrlimit, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)
    )
    command = [*COMMAND, "fit", text_file, "-o", "m", "-q", *options(EXACT)]
    done = preloaded.run(command, cwd=tmp_path, preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 2
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    if size == 1_000:  # the first checkpoint failed: nothing was trained, and nothing is left
        assert not list(tmp_path.iterdir())
        return
    assert "--resume m" in done.stderr
    assert equal(keras_charlm.resume(tmp_path / "m", verbose=0).model.get_weights(), whole)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


# Folders that cannot be written.


@pytest.fixture
def read_only(tmp_path):
    """Makes a folder read-only: a file system of its own for root, whom permissions do not bind."""
    folder, root = tmp_path / "fixed", os.geteuid() == 0
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(folder)]
    if root and subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")

    def fix():
        if root:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        else:
            for path in (*folder.rglob("*"), folder):
                path.chmod(0o500 if path.is_dir() else 0o400)
        return folder

    yield folder, fix
    if root:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o700)


def test_a_folder_that_cannot_be_written_is_told_and_still_read(
    read_only, text_file, text_model, runs, tmp_path, monkeypatch
):
    folder, fix = read_only
    shutil.copytree(text_model, folder / "cats")
    shutil.copytree(runs[0] / "50", folder / "m")
    before = sorted(folder.rglob("*"))
    fix()
    assert len(keras_charlm.load(folder / "cats").generate(length=9, seed=1)) == 9
    for attempt in (
        lambda: keras_charlm.fit(text_file, folder / "new", **EXACT),
        lambda: keras_charlm.fit(text_file, folder / "cats", overwrite=True, **EXACT),
        lambda: keras_charlm.resume(folder / "m"),
        lambda: keras_charlm.load(text_model).export(folder / "x.tflite"),
    ):
        with pytest.raises(CharLMError, match=r"cannot be written|a read-only folder"):
            attempt()
    monkeypatch.setenv("KERAS_CHARLM_CACHE", str(folder / "cache"))
    with pytest.raises(CorpusError, match="KERAS_CHARLM_CACHE"):
        keras_charlm.fit(text_file, tmp_path / "other", **EXACT)
    monkeypatch.undo()
    assert sorted(folder.rglob("*")) == before
    moved = shutil.copytree(folder / "m", tmp_path / "moved")
    for path in (moved, *moved.rglob("*")):
        path.chmod(0o700)
    assert equal(last_weights(keras_charlm.resume, moved, verbose=0), runs[1])


# Clocks and other processes.


def test_a_clock_that_jumps_changes_nothing(text_file, whole, tmp_path, monkeypatch):
    """Years forth and back at each look; durations come from a clock that only goes on."""
    true, chance = time.time, random.Random(3)
    monkeypatch.setattr(time, "time", lambda: true() + chance.uniform(-1, 1) * 10 * 365 * 86_400)
    with pytest.raises(Interrupted):
        keras_charlm.fit(
            text_file,
            tmp_path / "m",
            **EXACT,
            checkpoint_every=0.05,
            callbacks=[Act(50, interrupt)],
        )
    assert equal(last_weights(keras_charlm.resume, tmp_path / "m", verbose=0), whole)


def test_one_folder_takes_one_training_and_a_dead_one_s_place_is_taken(text_file, tmp_path):
    folder = tmp_path / "m"
    first = preloaded.Popen(
        [
            *COMMAND,
            "fit",
            text_file,
            "-o",
            folder,
            "--epochs",
            "100000",
            "-q",
            "--layers",
            "1",
            "--units",
            "5",
            "--checkpoint-every",
            "0.01s",
        ]
    )
    state = folder / "checkpoint" / "state.npz"
    while not state.exists():
        assert first.poll() is None
        time.sleep(0.05)
    for attempt in (
        lambda: keras_charlm.fit(text_file, folder, **EXACT),
        lambda: keras_charlm.fit(text_file, folder, overwrite=True, **EXACT),
        lambda: keras_charlm.resume(folder, verbose=0),
    ):
        with pytest.raises(TrainingError, match="Another training runs in"):
            attempt()
    assert first.poll() is None
    first.kill()
    first.wait()
    with pytest.raises(Interrupted):
        keras_charlm.resume(folder, verbose=0, callbacks=[Act(3, interrupt)])
    assert (folder / "checkpoint" / "lock").exists()


def test_a_training_killed_before_its_first_checkpoint_leaves_its_name_free(
    text_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for output in (None, "saved_models/cats"):
        work = Path("saved_models/cats/checkpoint")
        work.mkdir(parents=True)
        (work / "lock").touch()
        (work / "state.npz.tmp").write_bytes(b"half")
        if output:
            keras_charlm.fit(text_file, output, **TINY, epochs=1)
            assert not work.exists()
        else:  # the name is taken or not when it begins
            train(text_file, output, until="on_train_begin", **TINY, epochs=1)
            assert not (work / "state.npz.tmp").exists()
        assert [p.name for p in Path("saved_models").iterdir()] == ["cats"]
        shutil.rmtree("saved_models")


def test_a_model_that_was_being_replaced_is_found_again(text_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = Path("saved_models/.cats.old")
    shutil.copytree(text_model, old)
    with pytest.raises(BundleError, match=r"put it back with: kcharlm fit --resume saved_models/c"):
        keras_charlm.load("saved_models/cats")
    with pytest.raises(BundleError, match="has ended, so there is nothing to resume"):
        keras_charlm.resume("cats")
    assert keras_charlm.load("cats").card.finished
    assert not old.exists()


def test_an_export_killed_between_its_report_and_its_place_is_done_again(
    text_model, text_page, tmp_path
):
    model = keras_charlm.load(text_model)
    page, report = tmp_path / "page", tmp_path / "page.report.json"
    shutil.copytree(text_page, tmp_path / ".page.old")
    report.write_text("{}")
    model.export(page, to="web", overwrite=True)
    assert {p.name for p in page.iterdir()} == {p.name for p in text_page.iterdir()}
    assert {p.name for p in tmp_path.iterdir()} == {"page", "page.report.json"}
    # A first export: only its report is in place.
    page.rename(tmp_path / ".page.new")
    assert report.exists()
    model.export(page, to="web")
    assert {p.name for p in tmp_path.iterdir()} == {"page", "page.report.json"}


def test_a_checkpoint_that_moved_on_while_it_was_read_is_read_again(runs, tmp_path):
    """Between the reading of the progress and the taking of the lock the other training goes on."""
    import tensorflow as tf

    from keras_charlm.display import Display
    from keras_charlm.training import checkpoint, run
    from keras_charlm.training.folder import TrainingFolder
    from keras_charlm.training.workers import Workers

    folder, whole = runs
    early = shutil.copytree(folder / "20", tmp_path / "early")
    training = run.resumed(
        TrainingFolder(early),
        checkpoint.read_arrays(early / "checkpoint" / "state.npz"),
        None,
        Workers(tf.distribute.get_strategy()),
        Display(0),
    )
    shutil.copytree(folder / "50" / "checkpoint", early / "checkpoint", dirs_exist_ok=True)
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(1))
    with pytest.raises(Enough) as end:
        run.train(training, [count, Last()])
    assert equal(end.value.args[0], whole)
    assert len(steps) == training.progress.step - 49, "from the later checkpoint"


# The cache.


def test_the_cache_keeps_what_others_use_and_only_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_CHARLM_CACHE", str(tmp_path))
    old = time.time() - 400 * 86_400
    strangers = [tmp_path / name for name in ("notes.json", "notes.md", "12-x.tmp", "a.tmp")]
    key = "0" * 64
    stale = [
        tmp_path / f"{key}.json",
        tmp_path / f"{key}.uint8",
        tmp_path / f"{'1' * 64}.uint8",
    ]  # the last has lost its header
    dead = tmp_path / "1-23.tmp"  # a living process's number, in this container
    for path in (*strangers, *stale, dead):
        path.write_bytes(b"x")
        os.utime(path, (old, old))
    with (tmp_path / "99999999-1.tmp").open("wb") as living:
        from keras_charlm.files import lock

        assert lock(living)
        corpus.prepare([])
        assert Path(living.name).exists()
    assert all(path.exists() for path in strangers)
    assert not any(path.exists() for path in (*stale, dead))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", f"echo some text > {tmp_path / 'pipe'}"]):
        found = corpus.prepare([tmp_path / "pipe"])
    assert found.text(0, 100) == b"some text\n"


# Streams that are full or closed.


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "command, code",
    [
        ("generate {model} --length 5 > /dev/full", 1),
        ("info {model} > /dev/full", 1),
        ("generate {model} --num 2 --length 5 >&-", 1),
        ("score {model} {text} >&-", 0),
        ("generate {model} --length 5 2>&- <&-", 0),
        ("fit {text} -o m --epochs 1 {tiny} 2> /dev/full", 0),
        ("fit - -o m <&-", 2),
    ],
)
def test_streams_that_are_full_or_closed(text_model, text_file, tmp_path, command, code):
    command = command.format(model=text_model, text=text_file, tiny=" ".join(options(TINY)))
    done = subprocess.run(
        f"{sys.executable} -m kcharlm {command}",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert len(done.stderr.splitlines()) == (code != 0)
    if "-o m" in command:
        assert (tmp_path / "m" / bundle.CONFIG).exists() == (code == 0)
