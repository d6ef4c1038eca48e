"""Several devices train as one. TensorFlow divides the CPU once in a process, so that all trainings
of these tests run in two of their own, with three devices each."""

import importlib
import os
import sys
import textwrap

import keras
import numpy as np
import preloaded
import pytest
import tensorflow as tf
from conftest import TINY, babble

from keras_charlm import cpu
from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig
from keras_charlm.errors import OptionError, TrainingError
from keras_charlm.network import layers, model
from keras_charlm.text import streams
from keras_charlm.training import checkpoint, compiled, devices, plan

SCRIPT = textwrap.dedent("""
    import contextlib, shutil, sys
    from pathlib import Path
    import keras, numpy as np, tensorflow as tf
    import keras_charlm
    from keras_charlm.network import layers, model
    from keras_charlm.text import streams
    from keras_charlm.training import checkpoint, compiled, devices
    from keras_charlm.config import (ModelConfig)

    folder, half = Path(sys.argv[1]), sys.argv[2]
    devices.strategy("3")
    settings = dict(layers=1, units=8, embedding=4, dropout=0.0, batch_size=6, seq_length=8,
                    epochs=3, precision="float32", verbose=0,
                    clip_norm=0.02)  # far below the gradients' norm, so that every step is clipped

    class Enough(Exception):
        pass  # what is compared is there, and a model that nobody opens need not be written

    class States(keras.callbacks.Callback):
        def __init__(self, name):
            super().__init__()
            self.name = name
        def on_epoch_end(self, epoch, logs=None):
            np.savez(folder / f"{self.name}-{epoch}.npz", *checkpoint.states(self.model),
                     *self.model.get_weights(), logs["loss"], logs["val_loss"])
            if epoch == settings["epochs"] - 1:
                raise Enough

    class Act(keras.callbacks.Callback):
        after = 33  # in the second epoch
        def __init__(self, action):
            super().__init__()
            self.action = action
        def on_train_batch_end(self, batch, logs=None):
            self.after -= 1
            if self.after == 0:
                self.action()

    def fit(name, callbacks, **more):
        with contextlib.suppress(Enough):
            keras_charlm.fit(folder / "a.txt", folder / name, callbacks=callbacks,
                             **{**settings, **more})

    def resume(name, devices):
        with contextlib.suppress(Enough):
            keras_charlm.resume(folder / name, devices=devices, callbacks=[States(name)], verbose=0)

    # Checkpoints, as a crash leaves them, go on with more and with fewer devices.
    def fit_and_resume(name, devices, others):
        copy = lambda: shutil.copytree(folder / name, folder / f"from-{name}")
        fit(name, [States(name), Act(copy)], devices=devices, checkpoint_every=1e-6)
        resume(f"from-{name}", others)

    if half == "exact":
        fit_and_resume("1", 1, 2)
        fit_and_resume("3", 3, 1)
        sys.exit()
    fit("bfloat", [States("bfloat")], precision="bfloat16", devices=2)
    settings |= dict(epochs=2, dropout=0.3, noise=0.1)
    fit_and_resume("drop", 2, 2)

    # Several steps in one call of TensorFlow.
    text = np.random.default_rng(0).integers(0, 9, 860)
    windows = streams.Windows(streams.TextStream(text, np.arange(9, dtype=np.int32), 0, 860), 8, 5)
    assert windows.steps == 22
    for steps in (1, 11):
        strategy = devices.strategy("2")
        with strategy.scope():
            network = model.build(ModelConfig(layers=1, units=8, embedding=4, dropout=0.3), 9, 4)
            network.compile(compiled.Adam(0.01, global_clipnorm=0.1), layers.cross_entropy,
                            jit_compile=False, steps_per_execution=steps)
            network.optimizer.build(network.trainable_variables)
        data = strategy.distribute_datasets_from_function(
            lambda _: windows.dataset(0, 22, range(2), 2))
        history = network.fit(data, steps_per_epoch=22, verbose=0, shuffle=False).history
        np.savez(folder / f"steps-{steps}.npz", *network.get_weights(),
                 *checkpoint.states(network), history["loss"])
""")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of the trainings' weights, states and figures after each epoch."""
    folder = tmp_path_factory.mktemp("devices")
    (folder / "a.txt").write_text(babble(1600))
    halves = [
        preloaded.Popen([sys.executable, "-c", SCRIPT, folder, half]) for half in ("exact", "other")
    ]
    assert [process.wait() for process in halves] == [0, 0]
    return folder


def arrays(folder, name):
    with np.load(folder / f"{name}.npz") as file:
        return [file[key] for key in file.files]


def assert_equal(a, b, **tolerance):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, **tolerance)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_weights_states_and_losses_are_those_of_one_device(runs, epoch):
    one, three = (arrays(runs, f"{n}-{epoch}") for n in (1, 3))
    assert one[0].shape == (6, 8) and np.abs(one[0]).max() > 0  # states of all rows, in order
    assert_equal(one, three, atol=1e-5)


def test_two_devices_go_on_from_their_checkpoint_to_the_last_bit(runs):
    assert_equal(arrays(runs, "drop-1"), arrays(runs, "from-drop-1"), atol=0)


@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("epoch", [1, 2])
def test_two_devices_go_on_from_a_checkpoint_of_one_and_one_from_that_of_three(runs, before, epoch):
    assert_equal(arrays(runs, f"1-{epoch}"), arrays(runs, f"from-{before}-{epoch}"), atol=1e-5)


def test_bfloat16_on_two_devices_reaches_the_figure_of_one_in_float32(runs):
    two, float32 = (arrays(runs, name)[-1] for name in ("bfloat-2", "1-2"))
    assert two == pytest.approx(float32, abs=0.02)


def test_steps_in_one_call_change_nothing(runs):
    assert_equal(arrays(runs, "steps-1"), arrays(runs, "steps-11"), atol=0)


def test_a_batch_that_does_not_divide():
    assert [plan._divisible(32, n) for n in (1, 2, 3, 5, 64)] == [32, 32, 33, 30, 64]
    stream = streams.TextStream(np.zeros(100, np.uint8), np.zeros(1, np.int32), 0, 100)
    assert streams.fit_windows(stream, 8, 40, replicas=2) == (2, 40)
    # What is read by the parts is the batch.
    windows = streams.Windows(stream, 8, 3)
    whole = windows.batch(2)
    parts = [windows.batch(2, part, 4) for part in range(4)]
    for at in (0, 1, 2):
        np.testing.assert_array_equal(whole[at], np.concatenate([part[at] for part in parts]))


@pytest.mark.parametrize(
    "batch, replicas, choice", [(1, 2, "1 of"), (3, 2, "1 or 3 of"), (6, 4, "1, 2, 3 or 6 of")]
)
def test_devices_that_cannot_share_the_batch_of_a_resumed_training(batch, replicas, choice):
    resumed = plan.Plan(
        "run", (), "names", "", CorpusConfig(), ModelConfig(), FitConfig(batch_size=batch), "", ""
    )
    plan.check_devices(resumed, batch)
    message = f"a batch of {batch}, which {replicas} devices .* continue with {choice} them"
    with pytest.raises(TrainingError, match=message):
        plan.check_devices(resumed, replicas)


@pytest.mark.parametrize("spec", ["0", "-1", "two", "gpu", "gpu:", "gpu:0;gpu:1", "cpu:1", ""])
def test_a_wrong_name_is_refused(spec):
    with pytest.raises(OptionError, match="it takes auto, a number of devices, cpu"):
        FitConfig(devices=spec)


def test_a_gpu_that_is_not_there_is_refused():
    gpus = tf.config.list_physical_devices("GPU")
    with pytest.raises(OptionError, match=f"TensorFlow finds {len(gpus)} GPU"):
        devices.strategy(f"gpu:0,gpu:{len(gpus)}")


def test_a_started_tensorflow_is_not_divided_anew(text_file, tmp_path, kcharlm):
    tf.config.list_logical_devices()
    code, _, err = kcharlm("fit", text_file, "-o", tmp_path / "m", "--devices", "3")
    assert code == 2
    assert "already started in this process with CPU:0, and cannot divide" in err
    assert not (tmp_path / "m").exists()
    assert FitConfig(devices=3).devices == "3"


def test_the_command_line_divides_a_new_process(text_file, tmp_path):
    options = [
        f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if name != "verbose"
    ]
    fit = [sys.executable, "-m", "kcharlm", "fit", text_file, "-o", tmp_path / "m", "--epochs", "1"]
    done = preloaded.run([*fit, *options, "--devices", "3"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 devices cannot share a batch of 4 evenly: using 3." in done.stderr
    assert "device      3 x CPU" in done.stderr


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_on_a_gpu_a_layer_asks_for_cudnn(kind, policy, monkeypatch):
    """The way from a call of the layer to cuDNN's door, which only a GPU can open."""
    backend = importlib.import_module("keras.src.backend.tensorflow.rnn")

    class Asked(Exception):
        pass

    def door(sequences, *_):
        raise Asked(sequences.dtype.name)

    gpu = tf.config.LogicalDevice("/device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: [gpu])
    monkeypatch.setattr(backend, "_is_gpu_available", lambda: True)
    monkeypatch.setattr(backend, f"_cudnn_{kind.lower()}", door)
    config = ModelConfig(cell=kind.lower(), layers=1, units=4, embedding=3, dropout=0.5)
    network = model.build(config, 9, batch_size=2, policy=policy)
    with pytest.raises(Asked, match=policy.removeprefix("mixed_")):
        network(np.zeros((2, 3), np.int32), training=True)


def test_the_optimizers_are_keras_s_on_one_device():
    for ours, theirs, bound in (
        (compiled.Adam, keras.optimizers.Adam, 1e-5),
        (compiled.RMSprop, keras.optimizers.RMSprop, 0),
    ):
        values = []
        for kind in (ours, theirs):
            variable = keras.Variable(np.ones(3, np.float32))
            optimizer = kind(0.1, global_clipnorm=0.5)
            for step in range(3):
                optimizer.apply([tf.constant([3.0, -step, 0.1])], [variable])
            values.append(np.asarray(variable))
        np.testing.assert_allclose(*values, rtol=bound)  # TensorFlow's Adam rounds 1 - beta


def test_a_batch_by_hand_trains_as_in_fit():
    def network():
        made = model.build(ModelConfig(layers=1, units=8, embedding=4, dropout=0.0), 10, 4)
        made.compile(
            compiled.Adam(1e-2, global_clipnorm=1.0), layers.cross_entropy, jit_compile=False
        )
        made.optimizer.build(made.trainable_variables)
        return made

    ids = np.random.default_rng(0).integers(0, 10, (3, 4, 6), dtype=np.int32)  # (batches, B, T + 1)
    by_hand, by_fit = network(), network()
    for batch in ids:
        by_hand.train_on_batch(batch[:, :-1], batch[:, 1:])
    windows = tf.data.Dataset.from_tensor_slices((ids[:, :, :-1], ids[:, :, 1:]))
    by_fit.fit(windows, steps_per_epoch=3, verbose=0)
    for a, b in zip(by_hand.get_weights(), by_fit.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_rows_that_begin_are_read_from_a_zero_state_and_others_go_on(cell):
    network = model.build(
        ModelConfig(cell=cell, layers=2, units=8, embedding=4, dropout=0.0), 10, 3
    )
    network.compile(compiled.Adam(1e-2), layers.cross_entropy, jit_compile=False)
    network.optimizer.build(network.trainable_variables)
    random = np.random.default_rng(0)
    ids = random.integers(0, 10, (3, 6), dtype=np.int32)
    states = [random.normal(size=(3, 8)).astype(np.float32) for _ in checkpoint.states(network)]
    checkpoint.set_states(network, states)
    begins = np.array([True, False, True])
    zeroed = [tf.constant(np.where(begins[:, None], 0, state)) for state in states]
    shape = model.zero_states(network, 3)
    _, after = model.run(network, tf.constant(ids), tf.nest.pack_sequence_as(shape, zeroed))
    network.train_step((ids, ids, tf.constant(begins)))
    for a, b in zip(checkpoint.states(network), tf.nest.flatten(after), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_flags_that_the_user_gave_xla_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=128")
    for _ in range(2):
        cpu._set("xla_cpu_prefer_vector_width", "512")
        cpu._set("xla_cpu_enable_fast_math", "false")
    assert os.environ["XLA_FLAGS"] == (
        "--xla_cpu_prefer_vector_width=128 --xla_cpu_enable_fast_math=false"
    )
