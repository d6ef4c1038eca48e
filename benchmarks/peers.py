"""One peer as a process that runs steps on request: `python -m benchmarks.peers NAME ...`.

All train the same network on the same batch: embedding, stacked LSTMs with dropout after each,
logits; Adam, gradients clipped by their global norm, the state carried from window to window.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path

import click
import numpy as np

from keras_charlm import cpu

VOCABULARY, DROPOUT, RATE, CLIP = 66, 0.5, 2e-3, 1.0
SCORED = 1 << 18  # characters of held-out text


def keras_charlm(layers, units, embedding, batch, window, precision):
    """The network and the training step of `kcharlm fit`."""
    cpu.tune(batch)
    from keras_charlm.network.layers import cross_entropy
    from keras_charlm.training import compiled

    network = _network(layers, units, embedding, batch, precision)
    optimizer = compiled.Adam(RATE, global_clipnorm=CLIP)
    optimizer.build(network.trainable_variables)
    return _keras_steps(network, optimizer, cross_entropy, batch, window)


def evaluation(layers, units, embedding, batch, window, precision):
    """Scoring held-out text as fit does after an epoch, SCORED characters a step."""
    cpu.tune(batch)
    from keras_charlm.evaluation import evaluator
    from keras_charlm.text import streams

    evaluator = evaluator.Evaluator(_network(layers, units, embedding, batch, precision), 0)
    text = np.random.default_rng(0).integers(1, VOCABULARY, SCORED, dtype=np.uint8)
    table = np.arange(VOCABULARY, dtype=np.int32)
    return lambda: evaluator.total(streams.TextStream(text, table, 0, SCORED))


def _network(layers, units, embedding, batch, precision):
    from keras_charlm.config import ModelConfig
    from keras_charlm.network import model

    config = ModelConfig(layers=layers, units=units, embedding=embedding, dropout=DROPOUT)
    return model.build(config, VOCABULARY, batch, 0, _policy(precision))


def _policy(precision):
    return "float32" if precision == "float32" else f"mixed_{precision}"


def stock_keras(layers, units, embedding, batch, window, precision):
    """The same network of Keras's own layers."""
    import keras

    policy = _policy(precision)
    stack = [
        keras.Input(batch_shape=(batch, None), dtype="int32"),
        keras.layers.Embedding(VOCABULARY, embedding, dtype=policy),
    ]
    for _ in range(layers):
        stack.append(keras.layers.LSTM(units, return_sequences=True, stateful=True, dtype=policy))
        stack.append(keras.layers.Dropout(DROPOUT, dtype=policy))
    stack.append(keras.layers.Dense(VOCABULARY, dtype="float32"))
    return _keras_steps(
        keras.Sequential(stack),
        keras.optimizers.Adam(RATE, global_clipnorm=CLIP),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch,
        window,
    )


def _keras_steps(network, optimizer, loss, batch, window):
    """The function that Keras's fit calls for each batch, and its result as a number."""
    import tensorflow as tf

    network.compile(optimizer, loss, jit_compile=False)
    text = _text(batch, window)
    batches = tf.data.Dataset.from_tensors((text[:, :-1], text[:, 1:])).repeat()
    network.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)  # which makes the function
    iterator = iter(batches)
    return lambda: float(network.train_function(iterator)["loss"])


def pytorch(layers, units, embedding, batch, window, precision):
    """torch.nn.LSTM, in float32 or under autocast to bfloat16."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(cpu.cores())

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, embedding)
            self.lstm = nn.LSTM(embedding, units, layers, dropout=DROPOUT)
            self.dropout = nn.Dropout(DROPOUT)
            self.logits = nn.Linear(units, VOCABULARY)

        def forward(self, ids, state):
            outputs, state = self.lstm(self.embedding(ids), state)
            return self.logits(self.dropout(outputs)), state

    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    text = torch.from_numpy(
        _text(batch, window).T.astype(np.int64)
    )  # (T + 1, B), the order of nn.LSTM
    x, y = text[:-1].contiguous(), text[1:].contiguous()
    state = (torch.zeros(layers, batch, units),) * 2

    def step():
        nonlocal state
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits, new = network(x, state)
        loss = nn.functional.cross_entropy(logits.float().view(-1, VOCABULARY), y.view(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        state = tuple(s.detach() for s in new)
        return loss.item()

    return step


def products(layers, units, embedding, batch, window, precision):
    """The matrix products of a step and nothing else: a bound for any implementation.

    A layer has six: the input's projection, the recurrent product of every time step, the same two
    backwards, and the gradients of both kernels. The logits and the optimizer are left out.
    """
    import tensorflow as tf

    from keras_charlm.network.loops import scan

    dtype = tf.dtypes.as_dtype(precision)
    gates, n = 4 * units, batch * window

    def random(*shape):
        return tf.cast(tf.random.normal(shape) * 0.05, dtype)

    h, dz, recurrent = random(n, units), random(n, gates), random(units, gates)
    inputs = [random(n, embedding), *[h] * (layers - 1)]
    kernels = [random(x.shape[1], gates) for x in inputs]
    times = tf.zeros(window)

    @tf.function(autograph=False)
    def step():
        sums = []
        for x, kernel in zip(inputs, kernels, strict=True):

            def forward(_, h):
                return ((h @ recurrent)[:, :units],), []

            def backward(_, dz):
                dh = tf.matmul(dz, recurrent, transpose_b=True)
                return (tf.concat([dh] * 4, 1),), []

            bulk = (
                x @ kernel,
                tf.matmul(dz, kernel, transpose_b=True),
                tf.matmul(x, dz, transpose_a=True),
                tf.matmul(h, dz, transpose_a=True),
            )
            loops = [
                scan(loop, [times], (start[:batch],), [])[0][0]
                for loop, start in ((forward, h), (backward, dz))
            ]
            sums += [product[0, 0] for product in (*bulk, *loops)]
        return tf.add_n([tf.cast(s, tf.float32) for s in sums])

    return lambda: float(step())


def sample_pytorch(layers, units, embedding, batch, **_):
    """One character of each row drawn by torch.nn.LSTM."""
    import torch
    from torch import nn

    torch.set_num_threads(cpu.cores())
    table, logits = nn.Embedding(VOCABULARY, embedding), nn.Linear(units, VOCABULARY)
    lstm = nn.LSTM(embedding, units, layers)
    state = (torch.zeros(layers, batch, units),) * 2
    ids = torch.ones(1, batch, dtype=torch.int64)

    @torch.inference_mode()
    def step():
        nonlocal state, ids
        outputs, state = lstm(table(ids), state)
        ids = torch.multinomial(torch.softmax(logits(outputs[0]), 1), 1).T

    return step


def sample_keras(layers, units, embedding, batch, **_):
    """One character of each row drawn by Keras's layers, as a compiled function."""
    import keras
    import tensorflow as tf

    stack = [
        keras.Input(batch_shape=(batch, 1), dtype="int32"),
        keras.layers.Embedding(VOCABULARY, embedding),
    ]
    for _ in range(layers):
        stack.append(keras.layers.LSTM(units, return_sequences=True, stateful=True))
    network = keras.Sequential([*stack, keras.layers.Dense(VOCABULARY)])
    step = tf.function(lambda ids: tf.random.categorical(network(ids)[:, 0], 1, dtype=tf.int32))
    ids = tf.ones((batch, 1), tf.int32)

    def draw():
        nonlocal ids
        ids = step(ids)
        return ids.numpy()

    return draw


def _text(batch, window):
    """Ids (B, T + 1)."""
    return np.random.default_rng(0).integers(1, VOCABULARY, (batch, window + 1)).astype(np.int32)


PEERS = {
    "keras_charlm": keras_charlm,
    "evaluation": evaluation,
    "keras": stock_keras,
    "pytorch": pytorch,
    "products": products,
    "sample_pytorch": sample_pytorch,
    "sample_keras": sample_keras,
}


def memory():
    """Megabytes (on Linux): the peak of the process, and its present memory without the code of the
    libraries."""
    status = Path("/proc/self/status").read_text()
    return {
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "data_mb": round(int(re.search(r"RssAnon:\s*(\d+)", status)[1]) / 1024),
    }


@click.command()
@click.argument("peer", type=click.Choice(PEERS))
@click.option("--layers", default=2)
@click.option("--units", default=128)
@click.option("--embedding", default=32)
@click.option("--batch", default=50)
@click.option("--window", default=50)
@click.option("--precision", default="bfloat16")
def main(peer, **settings):
    def send(**values):
        print(json.dumps({**values, **memory()}), flush=True)

    began = time.perf_counter()
    step = PEERS[peer](**settings)
    step()
    send(first_step=time.perf_counter() - began)  # includes imports and building
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            began = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - began)
        send(seconds=seconds)


if __name__ == "__main__":
    main()
