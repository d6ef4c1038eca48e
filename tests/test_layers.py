"""Laws of the fast layers: whatever Keras's layers compute, they compute, only sooner."""

import json
import sys

import keras
import numpy as np
import preloaded
import pytest
import tensorflow as tf

from keras_charlm.config import ModelConfig
from keras_charlm.inspection import numpy_network
from keras_charlm.network import equations, layers, loops, model, recurrent
from keras_charlm.network.dispatch import on_cpu_only

NAMES = ["LSTM", "GRU", "SimpleRNN"]
B, T, D, H = 4, 7, 5, 6


@pytest.fixture(autouse=True)
def float32():
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(params=["one program", "step by step"])
def loop(request, monkeypatch):
    """Both ways to run the loop over time, whichever these sizes would choose."""
    monkeypatch.setattr(loops, "_SMALL", 1 << 20 if request.param == "one program" else 0)


def pair(name, dtype="float32", **kwargs):
    """A fast layer and Keras's own, with the same random weights."""
    kwargs = {"return_sequences": True, "return_state": True, "dtype": dtype, **kwargs}
    fast = getattr(recurrent, name)(H, **kwargs)
    stock = getattr(keras.layers, name)(H, **kwargs)
    rng = np.random.default_rng(1)
    for layer in (fast, stock):
        layer.build((B, T, D))
    stock.set_weights([0.5 * rng.normal(size=w.shape) for w in stock.weights])
    fast.set_weights(stock.get_weights())
    return fast, stock


def values(name, dtype="float32", steps=T, batch=B):
    """Random inputs (B, T, D) and states (B, H)."""
    rng = np.random.default_rng(2)
    states = 2 if name == "LSTM" else 1
    x = tf.constant(rng.normal(size=(batch, steps, D)), dtype)
    return x, [tf.constant(rng.normal(size=(batch, H)), dtype) for _ in range(states)]


def outcome(layer, x, states, training=True):
    """Outputs, final states and the gradients of a random weighting of them all."""
    rng = np.random.default_rng(3)
    variables = [w.value for w in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch([x, states])
        results = [
            tf.cast(r, tf.float64) for r in layer(x, initial_state=states, training=training)
        ]
        loss = sum(tf.reduce_sum(r * rng.normal(size=r.shape)) for r in results)
    return results + tape.gradient(loss, [x, *states, *variables])


def distance(a, b):
    """Largest difference relative to the largest value, over pairs of arrays."""
    pairs = [(np.asarray(p, "d"), np.asarray(q, "d")) for p, q in zip(a, b, strict=True)]
    return max(np.abs(p - q).max() / np.abs(q).max() for p, q in pairs)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_states_and_gradients_are_those_of_keras(name, graph, training, loop):
    fast, stock = pair(name)
    x, states = values(name)
    assert fast.is_fast(training=training)
    call = tf.function(outcome) if graph else outcome
    assert distance(call(fast, x, states, training), outcome(stock, x, states, training)) < 1e-5


@pytest.mark.parametrize("dtype, bound", [("mixed_bfloat16", 3e-2), ("mixed_float16", 3e-3)])
@pytest.mark.parametrize("name", NAMES)
def test_reduced_precision_is_within_its_rounding(name, dtype, bound, loop):
    fast, stock = pair(name, dtype)
    _, exact = pair(name)
    x, states = values(name)
    want = outcome(exact, x, states)
    error = distance(outcome(fast, x, states), want)
    assert error < bound
    assert error < 1.5 * distance(outcome(stock, x, states), want)


@pytest.mark.parametrize("dtype, bound", [("float32", 1e-5), ("mixed_bfloat16", 1e-2)])
@pytest.mark.parametrize("name", NAMES)
def test_products_with_the_kernel_on_the_left_are_the_same(name, dtype, bound, monkeypatch):
    fast, _ = pair(name, dtype)
    x, states = values(name)
    monkeypatch.setattr(loops, "_SMALL", 0)
    results = []
    for least in (0, 10**6):
        monkeypatch.setattr(loops, "_THIN", least)
        results.append(outcome(fast, x, states))
    assert distance(*results) < bound


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, loops.UNROLLED, 2 * loops.UNROLLED, 23])
def test_every_number_of_time_steps_is_run_to_its_end(name, steps, loop):
    fast, stock = pair(name)
    x, states = values(name, steps=steps)
    assert distance(outcome(fast, x, states), outcome(stock, x, states)) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_differences(name, loop):
    fast, _ = pair(name, "float64")
    x, states = values(name, "float64")
    rng = np.random.default_rng(4)

    def loss(*arguments):
        outputs, new_states = recurrent.recur(
            fast.fast_cell, arguments[0], arguments[4:], *arguments[1:4], training=True
        )
        parts = [outputs, *new_states]
        return sum(tf.reduce_sum(p * tf.cast(i + 1, p.dtype) * p) for i, p in enumerate(parts))

    point = [x, *(w.value + 0.0 for w in fast.weights), *states]
    with tf.GradientTape() as tape:
        tape.watch(point)
        value = loss(*point)
    gradients = tape.gradient(value, point)
    for i, gradient in enumerate(gradients):
        direction = tf.constant(rng.normal(size=point[i].shape))
        ends = []
        for step in (1e-6, -1e-6):
            moved = list(point)
            moved[i] = point[i] + step * direction
            ends.append(loss(*moved))
        slope = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(tf.reduce_sum(gradient * direction), slope, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_chunks_equal_the_whole(name):
    whole, _ = pair(name, return_state=False)
    chunked, _ = pair(name, return_state=False, stateful=True)
    x, _ = values(name, steps=12)
    want = whole(x)
    got = tf.concat([chunked(x[:, :5]), chunked(x[:, 5:6]), chunked(x[:, 6:])], axis=1)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_run_equals_the_stateful_call_and_leaves_it_alone(name, dtype, loop):
    layer, _ = pair(name, dtype, stateful=True, return_state=False)
    x, _ = values(name)
    outputs, states = recurrent.run(layer, x, None)
    assert not np.any(layer.states[0].numpy())
    np.testing.assert_array_equal(tf.cast(outputs, tf.float64), tf.cast(layer(x), tf.float64))
    for state, variable in zip(states, layer.states, strict=True):
        kept = tf.cast(tf.cast(state, layer.compute_dtype), tf.float32)
        np.testing.assert_array_equal(kept, variable.numpy())
    # Pieces equal the whole in any precision, and a row alone equals the row among others.
    first, middle = recurrent.run(layer, x[:, :3], None)
    second, last = recurrent.run(layer, x[:, 3:], middle)
    np.testing.assert_allclose(
        tf.cast(tf.concat([first, second], 1), tf.float64), tf.cast(outputs, tf.float64), atol=1e-6
    )
    for a, b in zip(last, states, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    one, _ = recurrent.run(layer, x[:1], None)
    np.testing.assert_allclose(
        tf.cast(one, tf.float64), tf.cast(outputs[:1], tf.float64), atol=1e-2
    )


@pytest.mark.parametrize("kind", equations.CELLS)
def test_the_plain_equations_are_those_of_training(kind):
    name = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}[kind]
    (layer, _), (x, states), cell = pair(name), values(name, steps=1), equations.CELLS[kind]
    kernel, recurrent_kernel, bias = layer.get_weights()
    assert len(states) == cell.states and kernel.shape == (D, cell.blocks * H)
    assert bias.size == cell.biases * cell.blocks * H
    _, expected = recurrent.run(layer, x, states)
    projected = x[:, 0] @ kernel
    for library, of in ((tf, tf.identity), (numpy_network.NUMPY, np.asarray)):
        arguments = of(projected), [of(s) for s in states], of(recurrent_kernel), of(bias)
        found, gates = cell.step(library, *arguments)
        assert distance(found, expected) < 1e-5
        assert len(gates) == len(cell.gates)
        assert all(np.min(gate) > 0 and np.max(gate) < 1 for gate in gates)


def test_run_serves_layers_off_the_fast_path():
    for dtype in ("float32", "mixed_bfloat16"):
        layer, stock = pair("LSTM", dtype, activation="relu")
        x, states = values("LSTM")
        assert not layer.is_fast()
        outputs, new_states = recurrent.run(layer, x, states)
        want = stock(x, initial_state=states)
        assert distance([tf.cast(v, tf.float64) for v in (outputs, *new_states)], want) < 1e-5


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("LSTM", {"activation": "relu"}),
        ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
        ("LSTM", {"use_bias": False}),
        ("LSTM", {"go_backwards": True}),
        ("LSTM", {"unroll": True}),
        ("GRU", {"reset_after": False}),
        ("SimpleRNN", {"activation": "relu"}),
    ],
)
def test_unusual_configurations_are_left_to_keras(name, kwargs):
    fast, stock = pair(name, **kwargs)
    x, states = values(name)
    assert not fast.is_fast()
    assert distance(outcome(fast, x, states), outcome(stock, x, states)) < 1e-5


def test_masks_and_inner_dropout_are_left_to_keras():
    fast, stock = pair("LSTM")
    x, _ = values("LSTM")
    mask = tf.sequence_mask([7, 3, 1, 5], T)
    assert not fast.is_fast(mask)
    np.testing.assert_allclose(fast(x, mask=mask)[0], stock(x, mask=mask)[0], rtol=1e-5, atol=1e-6)
    dropping, _ = pair("LSTM", recurrent_dropout=0.5)
    assert dropping.is_fast(training=False)
    assert not dropping.is_fast(training=True)


def test_another_device_takes_the_layer_over(monkeypatch):
    layer, _ = pair("LSTM")
    assert on_cpu_only()
    devices = [tf.config.LogicalDevice(f"/device:{kind}:0", kind) for kind in ("CPU", "GPU")]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: devices)
    assert not on_cpu_only()
    assert not layer.is_fast()


def test_explicit_cudnn_is_refused_as_by_keras():
    with pytest.raises(ValueError, match="use_cudnn=True"):
        recurrent.LSTM(H, use_cudnn=True)(values("LSTM")[0])


def model_of(fast, rate=0.0, batch=4):
    """A network of the fast layers, or of Keras's own."""
    keras.utils.set_random_seed(5)
    kinds = recurrent if fast else keras.layers
    dropout = layers.Dropout if fast else keras.layers.Dropout
    parts = [keras.Input((T,), batch_size=batch, dtype="int32"), keras.layers.Embedding(9, D)]
    for name in NAMES:
        parts.append(getattr(kinds, name)(H, return_sequences=True, stateful=True))
        parts.append(dropout(rate, seed=6))
    return keras.Sequential([*parts, keras.layers.Dense(9)])


def fit(model, steps_per_execution=1, windows=6, batch=4):
    """Trains on fixed text; returns weights, then recurrent states."""
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps_per_execution,
    )
    ids = np.random.default_rng(7).integers(0, 9, (batch, windows * T + 1))
    x, y = (a.reshape(batch, windows, T).swapaxes(0, 1) for a in (ids[:, :-1], ids[:, 1:]))
    model.fit(tf.data.Dataset.from_tensor_slices((x, y)), epochs=2, shuffle=False, verbose=0)
    states = [s for layer in model.layers for s in getattr(layer, "states", None) or ()]
    return [w.numpy() for w in model.trainable_variables + states]


def test_training_equals_that_of_keras_whatever_the_steps_per_execution():
    ours = fit(model_of(True))
    assert distance(ours, fit(model_of(False))) < 1e-4
    assert distance(ours, fit(model_of(True), steps_per_execution=3)) < 1e-6


def test_the_same_training_gives_the_same_bits():
    keras.config.set_dtype_policy("mixed_bfloat16")
    first, second = (fit(model_of(True, rate=0.5)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_products_on_several_threads_give_the_same_bits(dtype):
    layer = recurrent.LSTM(256, return_sequences=True, return_state=True, dtype=dtype)
    x = tf.random.stateless_normal((64, 20, 256), seed=(1, 2))
    layer.build(x.shape)
    call = tf.function(lambda: outcome(layer, x, [x[:, 0], x[:, 1]]))
    first = call()
    for _ in range(5):
        for a, b in zip(first, call(), strict=True):
            np.testing.assert_array_equal(tf.cast(a, tf.float64), tf.cast(b, tf.float64))


def test_saved_and_loaded(tmp_path):
    model = model_of(True, rate=0.5)
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [type(a) for a in loaded.layers] == [type(a) for a in model.layers]
    for old, new in zip(model.layers, loaded.layers, strict=True):
        assert old.get_config() == new.get_config()
    x = np.arange(4 * T).reshape(4, T) % 9
    for layer in model.layers:
        if hasattr(layer, "reset_state"):
            layer.reset_state()
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_tied_logits_are_products_with_the_rows_of_the_embedding(tmp_path):
    network = model.build(ModelConfig(layers=1, units=H, embedding=D, tied=True, dropout=0.0), 9, B)
    embedding, logits = network.layers[0], network.layers[-1]
    x = np.random.default_rng(0).normal(size=(B, T, H)).astype("float32")
    logits.bias.assign(np.arange(9))
    kernel, bias, table = map(np.asarray, (logits.kernel, logits.bias, embedding.embeddings))
    np.testing.assert_allclose(logits(x), x @ kernel @ table.T + bias, rtol=1e-5, atol=1e-5)
    assert len(logits.weights) == 2 and len(network.weights) == len(set(map(id, network.weights)))

    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    ids = np.arange(B * T).reshape(B, T) % 9
    np.testing.assert_array_equal(loaded(ids), network(ids))
    loaded.layers[0].embeddings.assign(table * 0)
    np.testing.assert_array_equal(loaded(ids)[0, 0], bias)


def test_weights_of_keras_load(tmp_path):
    stock, fast = model_of(False), model_of(True)
    fit(stock)
    stock.save_weights(tmp_path / "stock.weights.h5")
    fast.load_weights(tmp_path / "stock.weights.h5")
    for a, b in zip(fast.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_keras_does_not_compile_the_whole_step():
    model = model_of(True)
    fit(model)
    assert not model.jit_compile


def replicated():
    """Prints how far two replicas end from one device; see the foot of this file."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = model_of(True, batch=2)
        drop = layers.Dropout(0.5, seed=8)
        split = fit(model)
    whole = fit(model_of(True))
    weights = len(model.trainable_variables)
    masks = strategy.run(lambda: drop(tf.ones((99,)), training=True)).values
    report = {
        "fast": model.layers[1].is_fast(),
        "distance": distance(split[:weights], whole[:weights]),
        "masks differ": bool(np.any(masks[0] != masks[1])),
    }
    print(json.dumps(report))


def test_two_replicas_equal_one_device():
    # Logical devices have to be there before TensorFlow starts: a process of its own.
    code = f"import sys; sys.path = {sys.path}; import test_layers; test_layers.replicated()"
    done = preloaded.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["fast"]
    assert report["distance"] < 1e-4
    assert report["masks differ"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_dropout_drops_the_share_and_keeps_the_mean(rate, dtype):
    layer = layers.Dropout(rate, seed=9, dtype=dtype)
    x = tf.ones((3, 333, 333), dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    kept = tf.cast(y, "float32").numpy()
    assert abs(np.mean(kept == 0) - rate) < 3e-3
    assert len(np.unique(kept)) == 2
    rounding = {"float32": 1e-4, "bfloat16": 4e-3}[dtype]
    np.testing.assert_allclose(kept.max(), 1 / (1 - rate), rtol=rounding)
    gradient = tape.gradient(y, x)
    np.testing.assert_array_equal(tf.cast(gradient, "float32"), kept)  # the same mask, for x = 1
    again = layer(x, training=True)
    assert np.any(tf.cast(again, "float32").numpy() != kept)
    np.testing.assert_array_equal(layer(x), x)


def test_dropout_follows_its_seed_and_leaves_the_rest_to_keras():
    x = tf.ones((5, 7))
    a, b = (layers.Dropout(0.5, seed=3) for _ in range(2))
    a(x, training=True), b(x, training=True)
    b.seed_generator.state.assign(a.seed_generator.state)
    np.testing.assert_array_equal(a(x, training=True), b(x, training=True))
    shared = layers.Dropout(0.5, noise_shape=(5, 1))(x, training=True).numpy()
    np.testing.assert_array_equal(shared, shared[:, :1] * np.ones(7))
    assert not np.any(layers.Dropout(1.0)(x, training=True))


def test_noise_blanks_its_share_of_the_characters_and_in_training_only():
    a, b = (layers.Blanks(0.2, seed=3) for _ in range(2))
    ids = np.random.default_rng(0).integers(1, 9, (100, 500)).astype("int32")
    noisy = a(ids, training=True).numpy()
    assert abs(np.mean(noisy == 0) - 0.2) < 0.01 and noisy.dtype == ids.dtype
    np.testing.assert_array_equal(noisy[noisy > 0], ids[noisy > 0])
    np.testing.assert_array_equal(b(ids, training=True), noisy)
    assert np.any(a(ids, training=True).numpy() != noisy)
    np.testing.assert_array_equal(a(ids), ids)

    # A network that learns with noise reads without.
    network = model.build(
        ModelConfig(layers=1, units=H, embedding=D, tied=True, dropout=0.0, noise=0.5), 9, 2
    )
    ids = ids[:2, :5]
    seen, _ = model.run(network, tf.constant(ids), model.zero_states(network, 2))
    np.testing.assert_allclose(network(ids), seen, rtol=1e-5, atol=1e-6)
    network.layers[2].reset_state()
    assert not np.allclose(network(ids, training=True), seen, atol=1e-3)


def test_the_loss_is_that_of_keras_and_shared_by_rows():
    rng = np.random.default_rng(0)
    ids, logits = rng.integers(0, 9, (64, T)), tf.constant(rng.normal(size=(64, T, 9)), "float32")
    results = []
    for loss in (
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        keras.losses.get(layers.cross_entropy),
    ):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = tf.reduce_mean(loss(ids, logits))
        results.append((value, tape.gradient(value, logits)))
    assert distance(*results) < 1e-6
    nats = layers.cross_entropy(ids, tf.zeros((64, T, 9)))
    np.testing.assert_allclose(nats, np.log(9), rtol=1e-6)
