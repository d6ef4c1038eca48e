import csv
import json
import os
import shutil
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import TINY, babble, network_of, train

import keras_charlm
from keras_charlm.config import FitConfig
from keras_charlm.errors import BundleError, Interrupted, TrainingError
from keras_charlm.saved import bundle
from keras_charlm.training import checkpoint
from keras_charlm.training.compiled import dtype_policy
from keras_charlm.training.schedule import learning_rate

EXACT = {**TINY, "precision": "float32", "dropout": 0.3, "noise": 0.1, "synthetic": 0.5}


def weights(folder):
    return keras_charlm.load(folder).model.get_weights()


def scores(folder):
    return json.loads((folder / "config.json").read_text())["scores"]


def rows(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


class Stop(keras.callbacks.Callback):
    """Sends this process a signal after so many batches."""

    def __init__(self, after, number=signal.SIGINT):
        super().__init__()
        self.after, self.number = after, number

    def on_train_batch_end(self, batch, logs=None):
        self.after -= 1
        if self.after == 0:
            os.kill(os.getpid(), self.number)


def test_training_learns_and_leaves_a_whole_model(text_model):
    assert {p.name for p in text_model.iterdir()} == {
        "config.json",
        "vocabulary.json",
        "model.weights.h5",
        "model.tflite",
        "history.csv",
        "curve.csv",
        "samples.jsonl",
        "samples.txt",
        "report.html",
    }
    history = rows(text_model)
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert (
        float(history[1]["train_bits_per_character"])
        < float(history[0]["train_bits_per_character"])
        < 5
    )
    assert int(history[1]["step"]) == 2 * int(history[0]["step"])
    assert "==== epoch 2, step" in (text_model / "samples.txt").read_text()


@pytest.mark.parametrize("trained", ["text_model", "list_model"])
def test_the_loss_of_an_epoch_is_the_mean_of_its_batches(trained, request):
    folder = request.getfixturevalue(trained)
    curve = np.loadtxt(folder / "curve.csv", delimiter=",", skiprows=1)
    begin = 0
    for row in rows(folder):
        end = int(row["step"])
        of_epoch = curve[(curve[:, 0] > begin) & (curve[:, 0] <= end)]
        assert of_epoch[-1, 0] == end
        batches = np.diff(of_epoch[:, 0], prepend=begin)  # a row may stand for several
        mean = np.average(of_epoch[:, 2], weights=batches)
        assert float(row["train_bits_per_character"]) == pytest.approx(mean, abs=1e-4)
        begin = end


class Weigh(keras.callbacks.Callback):
    """Keeps the weights after each epoch."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append([w.copy() for w in self.model.get_weights()])


@pytest.fixture(scope="module")
def uninterrupted(text_file, tmp_path_factory):
    """The folder of a training that nothing interrupted, and its weights after each epoch."""
    folder, weigh = tmp_path_factory.mktemp("exact") / "whole", Weigh()
    keras_charlm.fit(text_file, folder, epochs=3, **EXACT, callbacks=weigh)
    return folder, weigh.weights


def test_resumed_equals_uninterrupted_to_the_last_bit(text_file, tmp_path, uninterrupted):
    whole, cut = uninterrupted[0], tmp_path / "cut"
    with pytest.raises(Interrupted) as stopped:
        keras_charlm.fit(text_file, cut, epochs=3, **EXACT, callbacks=[Stop(3)])
    assert stopped.value.exit_code == 130
    assert f"--resume {cut}" in str(stopped.value)
    with pytest.raises(Interrupted):  # in the second epoch
        keras_charlm.resume(cut, verbose=0, callbacks=[Stop(57)])
    keras_charlm.resume(cut, verbose=0)
    for a, b in zip(weights(whole), weights(cut), strict=True):
        np.testing.assert_array_equal(a, b)
    assert scores(whole) == scores(cut)
    compared = [
        {k: v for k, v in row.items() if k not in ("seconds", "characters_per_second")}
        for folder in (whole, cut)
        for row in rows(folder)
    ]
    assert compared[:3] == compared[3:]
    curves = [
        np.loadtxt(folder / "curve.csv", delimiter=",", skiprows=1, usecols=(0, 2, 3))
        for folder in (whole, cut)
    ]
    np.testing.assert_array_equal(*curves)
    assert not (cut / "checkpoint").exists()


def test_validation_does_not_change_training(text_file, tmp_path, uninterrupted, monkeypatch):
    # The same with a validation part that is never read.
    monkeypatch.setattr(
        "keras_charlm.training.callbacks.Validation.on_epoch_end",
        lambda self, epoch, logs=None: self.keep(epoch),
    )
    weigh = Weigh()
    train(text_file, tmp_path / "m", epochs=3, **EXACT, callbacks=[weigh])
    for with_validation, without in zip(uninterrupted[1], weigh.weights, strict=True):
        for a, b in zip(with_validation, without, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_state_entering_a_window_is_the_one_the_window_before_left(text_file, tmp_path):
    entering, leaving = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            entering.append(checkpoint.states(self.model))

        def on_train_batch_end(self, batch, logs=None):
            leaving.append(checkpoint.states(self.model))

    train(text_file, tmp_path / "m", epochs=2, **TINY, callbacks=[Watch()])
    for now, before in zip(entering[1:], leaving[:-1], strict=True):
        for a, b in zip(now, before, strict=True):
            np.testing.assert_array_equal(a, b)
    assert np.abs(leaving[0][0]).max() > 0


def test_a_user_s_callbacks_see_the_validation_loss(text_file, tmp_path):
    history = keras.callbacks.History()
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", min_delta=100, patience=0)
    train(text_file, tmp_path / "m", epochs=5, **TINY, callbacks=[history, stopping])
    assert len(history.history["val_loss"]) == 2  # patience 0: the second epoch is the last


# A rate so high that the figure soon gets worse.
HARM = {"learning_rate": 0.5, "schedule": "constant", "clip_norm": 100.0}


@pytest.fixture
def kept(monkeypatch):
    """The weights that a training kept as the best, one after the other."""
    kept, keep = [], checkpoint.Checkpoints.keep_best

    def note(checkpoints, weights):
        kept.append(weights)
        keep(checkpoints, weights)

    monkeypatch.setattr(checkpoint.Checkpoints, "keep_best", note)
    return kept


def test_the_best_epoch_is_kept_and_patience_ends_the_training(tmp_path, kept):
    text, weigh, history = tmp_path / "a.txt", Weigh(), keras.callbacks.History()
    text.write_text(babble(700))
    settings = {**HARM, **TINY, "epochs": 200, "patience": 2, "callbacks": [weigh, history]}
    train(text, tmp_path / "m", **settings)
    best = int(np.argmin(history.history["val_loss"])) + 1
    assert len(weigh.weights) == best + 2 < 200
    for a, b in zip(kept[-1], weigh.weights[best - 1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_patience_a_training_stops_after_a_fifth_without_a_better_epoch(tmp_path, capfd):
    text, folder = tmp_path / "a.txt", tmp_path / "m"
    text.write_text(babble(1500))
    keras_charlm.fit(text, folder, epochs=60, val_frac=0.4, **HARM, **{**TINY, "verbose": 1})
    figures = [float(row["val_bits_per_character"]) for row in rows(folder)]
    best = int(np.argmin(figures)) + 1
    assert len(figures) == best + 12 < 60
    shown = capfd.readouterr().err
    assert f"kept        epoch {best} of {best + 12}, the best on validation" in shown
    assert "short" not in shown
    assert scores(folder)["epoch"] == best
    score = scores(folder)["validation"]["bits_per_character"]
    assert score == pytest.approx(min(figures), rel=0.02)


@pytest.mark.parametrize("val_frac", [0.1, 0.0])
def test_without_enough_validation_text_the_last_epoch_is_kept(tmp_path, val_frac, kept):
    text = tmp_path / "a.txt"
    text.write_text(babble(700))
    settings = {**TINY, **HARM, "epochs": 8, "val_frac": val_frac, "test_frac": 0}
    network = train(text, tmp_path / "m", **settings)
    assert len(kept) == 8
    for a, b in zip(kept[-1], network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_training_says_that_it_was_short_and_why_the_last_epoch_is_kept(text_model):
    shown = text_model.with_name("shown.txt").read_text()
    batches = rows(text_model)[-1]["step"]
    assert f"short       only {batches} batches: a longer" in shown
    assert scores(text_model)["epoch"] == 2
    assert "kept        epoch 2, the last: 75 characters of validation text are too" in shown


def test_a_text_learned_by_heart_comes_back_from_its_beginning(tmp_path):
    text = babble(300, seed=3)
    (tmp_path / "a.txt").write_text(text)
    model = keras_charlm.fit(
        tmp_path / "a.txt", tmp_path / "m", val_frac=0, test_frac=0, dropout=0, epochs=60,
        layers=1, units=64, learning_rate=0.01, synthetic=0, init_from=None, verbose=0,
    )  # fmt: skip
    assert model.generate(temp=0, length=len(text)) == text


def test_the_time_ends_the_training_and_the_schedule(text_file, tmp_path):
    keras_charlm.fit(text_file, tmp_path / "m", max_time=1, **TINY)
    last = rows(tmp_path / "m")[-1]
    assert 0.5 <= float(last["seconds"]) < 4
    assert float(last["learning_rate"]) < 1e-4


def test_a_loss_that_is_not_finite_keeps_the_last_good_model(text_file, tmp_path):
    class Poison(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.get_layer("logits").bias.assign_add(
                    np.full(self.model.get_layer("logits").bias.shape, np.nan, np.float32)
                )

    with pytest.raises(TrainingError, match="The loss became nan at batch"):
        keras_charlm.fit(text_file, tmp_path / "m", epochs=3, **TINY, callbacks=[Poison()])
    model = keras_charlm.load(tmp_path / "m")
    assert model.card.finished is False
    assert all(np.isfinite(w).all() for w in model.model.get_weights())
    assert len(model.generate(length=20, seed=1)) == 20


def test_an_existing_model_is_never_overwritten_unasked(text_file, text_model):
    before = (text_model / "config.json").read_bytes()
    with pytest.raises(BundleError, match="holds a model"):
        keras_charlm.fit(text_file, text_model, **TINY)
    assert (text_model / "config.json").read_bytes() == before


def test_a_stopped_overwrite_leaves_the_old_model(text_file, text_model, tmp_path):
    folder = shutil.copytree(text_model, tmp_path / "m")
    before = weights(folder)
    with pytest.raises(Interrupted):
        keras_charlm.fit(
            text_file, folder, overwrite=True, epochs=2, seed=5, **TINY, callbacks=[Stop(45)]
        )
    for a, b in zip(before, weights(folder), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(BundleError, match="training that has not ended"):
        keras_charlm.fit(text_file, folder, **TINY)
    keras_charlm.resume(folder, verbose=0)
    assert keras_charlm.load(folder).card.fit.seed == 5


def test_a_stopped_training_leaves_its_best_model(unfinished):
    model = keras_charlm.load(unfinished)
    assert not model.card.finished
    assert model.card.scores["epoch"] == 1
    assert len(model.generate(length=10, seed=0)) == 10


def test_two_trainings_do_not_share_a_folder(text_file, tmp_path):
    folder = tmp_path / "m"

    def files():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    class Second(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            before = files()
            with pytest.raises(TrainingError, match="Another training runs in"):
                keras_charlm.resume(folder, verbose=0)
            for overwrite in False, True:
                with pytest.raises(TrainingError, match="Another training runs in"):
                    keras_charlm.fit(text_file, folder, overwrite=overwrite, **TINY)
            assert before and files() == before

    train(text_file, folder, epochs=1, **TINY, callbacks=[Second()])


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_a_quantized_model_is_scored_as_it_is_stored(quantize, text_file, half_model, tmp_path):
    folder = half_model if quantize == "float16" else tmp_path / "m"
    if folder != half_model:
        keras_charlm.fit(text_file, folder, quantize=quantize, epochs=2, **TINY)
    trained = keras_charlm.load(folder)
    for weight in trained.model.get_weights():
        np.testing.assert_array_equal(weight, weight.astype(np.float16))
    assert bundle.open_bundle(folder / "model.tflite").quantize == quantize
    part = text_file.read_text()[1350:1425]  # validation
    device_file = keras_charlm.load(folder / "model.tflite")
    scores, stored = (model.evaluate(part).to_dict() for model in (trained, device_file))
    assert scores.pop("text") == stored.pop("text") == "a text"
    assert stored == pytest.approx(scores, rel=1e-5 if quantize == "float16" else 1e-2)
    assert trained.card.scores["validation"].pop("margin") > 0
    assert trained.card.scores["validation"] == pytest.approx(scores, rel=1e-5)


def test_nothing_to_resume(text_model, tmp_path):
    with pytest.raises(BundleError, match="has ended, so there is nothing to resume"):
        keras_charlm.resume(text_model)
    with pytest.raises(BundleError, match="no training to resume"):
        keras_charlm.resume(tmp_path / "none")


def test_a_damaged_checkpoint_is_told(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "m")
    state = tmp_path / "m" / "checkpoint" / "state.npz"
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match=r"state\.npz cannot be read"):
        keras_charlm.resume(tmp_path / "m")


def test_a_full_disk_at_the_start_leaves_no_trace(text_file, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_arrays", full)
    with pytest.raises(TrainingError, match="No space left on device"):
        keras_charlm.fit(text_file, tmp_path / "new" / "m", epochs=1, **TINY)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_in_the_middle_keeps_the_last_checkpoint(
    text_file, tmp_path, uninterrupted, monkeypatch
):
    write, calls = checkpoint.write_arrays, []

    def fills_up(path, arrays):
        calls.append(path)
        if len(calls) > 2:
            raise OSError(28, "No space left on device", str(path))
        write(path, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_arrays", fills_up)
        with pytest.raises(TrainingError, match=r"No space left on device\); make room .*--resume"):
            keras_charlm.fit(text_file, tmp_path / "m", epochs=3, **EXACT)
    resumed = network_of(keras_charlm.resume, tmp_path / "m", verbose=0)
    for a, b in zip(uninterrupted[1][-1], resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_lists_are_learnt_line_by_line(list_model):
    model = keras_charlm.load(list_model)
    assert model.card.split["train"]["lines"] + model.card.split["validation"][
        "lines"
    ] + model.card.split["test"]["lines"] == len(
        set((list_model.parent / "names.txt").read_text().split())
    )
    drawn = [s.text for s in model.samples(num=40, seed=3)]
    assert len(drawn) == 40
    assert all(line and "\n" not in line for line in drawn)
    known = (list_model.parent / "names.txt").read_text().split()
    assert not model.known("Zacharias")
    assert sum(model.known(line) for line in set(known)) == model.card.split["train"]["lines"]
    novel = [s.text for s in model.samples(num=10, seed=3, novel=True)]
    assert not any(model.known(line) for line in novel)


@pytest.mark.parametrize(
    "fit, cell, precision, optimizer, schedule, embedding",
    [
        (keras_charlm.fit, "gru", "bfloat16", "rmsprop", "char-rnn", 0),
        (train, "rnn", "float16", "adam", "constant", 4),
    ],
)
def test_every_kind_of_training_runs(
    text_file, tmp_path, fit, cell, precision, optimizer, schedule, embedding
):
    history, settings = keras.callbacks.History(), {**TINY, "embedding": embedding}
    fit(
        text_file,
        tmp_path / "m",
        epochs=2,
        cell=cell,
        precision=precision,
        optimizer=optimizer,
        schedule=schedule,
        sample_every=20,
        tensorboard=str(tmp_path / "tb"),
        callbacks=[history],
        **settings,
    )
    assert history.history["val_loss"][-1] / np.log(2) < 8
    assert list((tmp_path / "tb").rglob("events*"))
    (samples,) = (tmp_path / "m").rglob("samples.jsonl")
    drawn = [json.loads(line) for line in samples.read_text().splitlines()]
    assert (drawn[0]["step"], drawn[0]["epoch"]) == (20, None)


def test_bytes_of_any_file_are_learnt(byte_model):
    shown, model = byte_model.with_name("shown.txt").read_text(), keras_charlm.load(byte_model)
    assert "bits/byte" in shown
    assert "bits per byte" in shown
    assert isinstance(model.generate(b"\x00\x01", length=20, seed=1), bytes)
    assert model.evaluate(bytes(range(256)) + bytes(range(44))).characters == 300


def test_schedules():
    cosine = [
        learning_rate(FitConfig(learning_rate=1.0, warmup=0.1), 0, 1, f / 100)
        for f in range(1, 101)
    ]
    assert cosine[4] == pytest.approx(0.5)
    assert max(cosine) == pytest.approx(1.0)
    assert cosine[54] == pytest.approx(0.5)
    assert cosine[-1] == pytest.approx(0.0)
    classic = FitConfig(learning_rate=1.0, schedule="char-rnn")
    assert [learning_rate(classic, 100 * epoch, 100, 0.5) for epoch in (0, 9, 10, 12)] == (
        pytest.approx([1.0, 1.0, 0.97, 0.97**3])
    )
    flat = FitConfig(learning_rate=1.0, schedule="constant", warmup=0.0)
    assert learning_rate(flat, 5, 10, 0.7) == 1.0


def test_the_hardware_decides_the_precision(monkeypatch):
    for flags, policy in (
        ("fpu avx512_bf16 amx_bf16", "mixed_bfloat16"),
        ("GenuineIntel fpu avx512_bf16", "float32"),
        ("AuthenticAMD fpu avx512_bf16", "mixed_bfloat16"),
        ("AuthenticAMD fpu avx2", "float32"),
    ):
        monkeypatch.setattr(Path, "read_text", lambda self, flags=flags: flags)
        assert dtype_policy("auto") == policy
    assert dtype_policy("float16") == "mixed_float16"
