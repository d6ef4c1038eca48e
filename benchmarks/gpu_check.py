"""Check the program on a graphics card: `python -m benchmarks.gpu_check` prints a table.

docs/gpu.md says what to expect.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import keras_charlm
from keras_charlm.network import recurrent
from keras_charlm.training import devices


class Speed(keras.callbacks.Callback):
    """Measures the speed of training, without the first twenty batches."""

    def on_train_begin(self, logs=None):
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())

    def characters_a_second(self, batch_characters):
        after = self.times[20:]
        return batch_characters * (len(after) - 1) / (after[-1] - after[0])


def show(what, value):
    """Print a row of the table."""
    print(f"{what:<58}{value}", flush=True)


def layer_check():
    """Check that cuDNN runs the layers, and that it computes what Keras's plain loop computes."""
    x = np.random.default_rng(0).normal(size=(64, 100, 128)).astype(np.float32)
    for kind in (recurrent.LSTM, recurrent.GRU):
        ours = kind(512, return_sequences=True)
        plain = getattr(keras.layers, kind.__name__)(512, return_sequences=True, use_cudnn=False)
        show(f"{kind.__name__}: the fast path of the CPU is off", not ours.is_fast())
        a = ours(x)
        plain.build(x.shape)
        plain.set_weights(ours.get_weights())
        difference = float(np.abs(np.asarray(a) - np.asarray(plain(x))).max())
        show(f"{kind.__name__}: largest difference from the plain loop", f"{difference:.1e}")
        seconds = []
        for layer in (ours, plain):
            run = tf.function(layer)
            run(x)
            began = time.perf_counter()
            for _ in range(20):
                last = run(x)
            last.numpy()
            seconds.append(time.perf_counter() - began)
        show(
            f"{kind.__name__}: times as fast as the plain loop, forward",
            f"{seconds[1] / seconds[0]:.1f}",
        )
        strict = kind(512, return_sequences=True, use_cudnn=True)
        try:
            strict(x)
            show(f"{kind.__name__}: cuDNN takes it", "yes")
        except ValueError as error:
            show(f"{kind.__name__}: cuDNN takes it", f"NO: {error}")


def fit(folder, name, size, **settings):
    """Train a model; returns it and the characters a second."""
    speed, units, batch, window = Speed(), *size
    model = keras_charlm.fit(
        folder / "text.txt",
        folder / name,
        overwrite=True,
        layers=2,
        units=units,
        embedding=64,
        batch_size=batch,
        seq_length=window,
        epochs=1,
        callbacks=[speed],
        verbose=0,
        **settings,
    )
    return model, speed.characters_a_second(batch * window)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="run without a card, with tiny networks, to try this script",
    )
    arguments = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus and not arguments.anyway:
        sys.exit("gpu_check: TensorFlow finds no GPU; pip install 'tensorflow[and-cuda]'.")
    for gpu in gpus:
        show("card", tf.config.experimental.get_device_details(gpu))
    if not gpus:
        devices.strategy("2")
    layer_check()
    size = (512, 100, 100) if gpus else (16, 4, 8)
    rng = random.Random(0)
    text = " ".join(rng.choices(["the", "cat", "sat", "on", "a", "mat", "and", "ran"], k=2_000_000))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text.txt").write_text(text[: size[1] * size[2] * 130])
        one = "gpu:0" if gpus else "auto"
        for precision in ("float32", "bfloat16", "float16"):
            model, speed = fit(folder, precision, size, precision=precision, devices=one)
            figure = model.card.scores["validation"]["bits_per_character"]
            show(f"{precision}: characters a second, 2 x {size[0]}", f"{speed:,.0f}")
            show(f"{precision}: validation, bits per character", f"{figure:.4f}")
        if len(gpus) != 1:
            many = ",".join(f"gpu:{i}" for i in range(len(gpus))) or "2"
            whole = {}
            for where in (one, many):
                model, speed = fit(
                    folder, "whole", size, precision="float32", dropout=0.0, devices=where
                )
                show(f"{where}: characters a second, float32", f"{speed:,.0f}")
                whole[where] = model.model.get_weights()
            show(
                "largest difference of a weight, one device and all",
                f"{max(np.abs(a - b).max() for a, b in zip(*whole.values(), strict=True)):.1e}",
            )


if __name__ == "__main__":
    main()
