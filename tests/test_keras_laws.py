"""Laws of the layers as drop-ins: on anything Keras's layer accepts, ours gives its results.

`KERAS_CHARLM_EXAMPLES` sets how many examples of each law are drawn.
"""

import os
import tempfile
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from keras_charlm.network import layers, loops, recurrent

law = settings(
    max_examples=int(os.environ.get("KERAS_CHARLM_EXAMPLES", "6")),
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # to shrink a failure would compile hundreds of loops
    suppress_health_check=list(HealthCheck),
)
DTYPES = {
    "float32": 1e-4,
    "float64": 1e-9,
    "mixed_float16": 2e-2,
    "mixed_bfloat16": 1e-1,
    "bfloat16": 2e-1,
}
cells = st.sampled_from(["LSTM", "GRU", "SimpleRNN"])
copies = st.sampled_from(["itself", "config", "clone", "file"])
trainings = st.sampled_from([True, False, None])


def randomize(layer):
    """Give a built layer random weights, the same to layers of the same shape."""
    rng = np.random.default_rng(1)
    layer.set_weights([0.5 * rng.normal(size=w.shape) for w in layer.weights])


def copied(layer, shape, dtype, way):
    """A layer, or a copy of it made as Keras makes copies; built, with random weights."""
    if way == "config":
        layer = type(layer).from_config(layer.get_config())
    model = keras.Sequential([keras.Input(shape[1:], dtype=dtype), layer])
    randomize(model)
    if way == "clone":
        model = keras.models.clone_model(model)
        randomize(model)
    if way == "file":
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model.keras")
            model = keras.models.load_model(Path(folder) / "model.keras")
    return model.layers[-1]


def outcome(layer, x, unknown=None, **arguments):
    """What a layer returns, and the gradients of its squares.

    `unknown` are the axes whose size is not known to TensorFlow; None runs it eagerly.
    """

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = tf.nest.flatten(layer(x, **arguments))
            loss = sum(tf.reduce_sum(tf.cast(o, "float64") ** 2) for o in outputs)
        sources = [w.value for w in layer.trainable_variables]
        sources += [x] if x.dtype.is_floating else []
        gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
        return [*outputs, *map(tf.convert_to_tensor, gradients)]

    if unknown is not None:
        shape = [None if axis in unknown else size for axis, size in enumerate(x.shape)]
        run = tf.function(run, input_signature=[tf.TensorSpec(shape, x.dtype)])
    return [np.asarray(tf.cast(value, "float64")) for value in run(x)]


def assert_same(ours, stock, bound):
    assert len(ours) == len(stock)
    for a, b in zip(ours, stock, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max(initial=0) <= bound * (0.1 + np.abs(b).max(initial=0))


@st.composite
def recurrent_cases(draw):
    return {
        "name": draw(cells),
        "units": draw(st.sampled_from([1, 3, 16])),
        "dtype": draw(st.sampled_from(list(DTYPES))),
        "options": {
            name: draw(st.booleans()) for name in ("return_sequences", "go_backwards", "use_bias")
        },
        "wrapper": draw(st.sampled_from([None, None, "Bidirectional", "TimeDistributed"])),
        "shape": (draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 5, 10, 11])), 3),
        "unknown": draw(st.sampled_from([None, (), (0,), (1,), (0, 1)])),
        "masked": draw(st.integers(0, 3)) == 0,
        "training": draw(trainings),
        "way": draw(copies),
        "small": draw(st.sampled_from([0, 1 << 20])),
        "thin": draw(st.sampled_from([1, 10])),
    }


@law
@given(case=recurrent_cases())
def test_recurrent_layers_give_the_results_of_keras(case):
    shape, results = case["shape"], []
    if case["wrapper"] == "TimeDistributed":
        shape = (shape[0], 2, *shape[1:])
        if case["unknown"]:
            case["unknown"] = ()  # Keras's wrapper has no gradient then
    if case["wrapper"] == "Bidirectional":
        case["options"]["go_backwards"] = False  # Keras's wrapper cannot be copied otherwise
    x = tf.constant(np.random.default_rng(2).normal(size=shape), "float32")
    x = tf.cast(x, "float64" if case["dtype"] == "float64" else "float32")
    arguments = {"training": case["training"]}
    if case["masked"]:
        # Each row has a first step: a layer that has seen none returns a state of its own choice.
        mask = np.random.default_rng(3).integers(0, 2, shape[:-1]).astype(bool)
        mask[..., 0] = True
        arguments["mask"] = tf.constant(mask)
    with mock.patch.multiple(loops, _SMALL=case["small"], _THIN=case["thin"]):
        for kinds in (recurrent, keras.layers):
            kind = getattr(kinds, case["name"])
            layer = kind(
                case["units"],
                dtype=case["dtype"],
                recurrent_initializer="zeros",  # Keras's orthogonal one fails in bfloat16
                **case["options"],
            )
            if case["wrapper"]:
                layer = getattr(keras.layers, case["wrapper"])(layer, dtype=case["dtype"])
            layer = copied(layer, shape, x.dtype.name, case["way"])
            results.append(outcome(layer, x, case["unknown"], **arguments))
    assert_same(*results, DTYPES[case["dtype"]])


@law
@given(
    symbols=st.sampled_from([1, 7, 256, 257]),
    shape=st.sampled_from([(1,), (3, 1), (1, 5), (2, 11), (3, 2, 2)]),
    dtype=st.sampled_from(["int32", "int64", "uint8", "float32"]),
    policy=st.sampled_from(list(DTYPES)),
    unknown=st.sampled_from([None, (), (0,), (0, 1)]),
    negative=st.booleans(),
    way=copies,
)
def test_an_embedding_gives_the_results_of_keras(
    symbols, shape, dtype, policy, unknown, negative, way
):
    ids = np.random.default_rng(4).integers(0, min(symbols, 250), shape)
    if negative and dtype != "uint8":
        ids -= symbols
    results = []
    for kinds in (layers, keras.layers):
        layer = copied(kinds.Embedding(symbols, 3, dtype=policy), shape, dtype, way)
        results.append(outcome(layer, tf.constant(ids.astype(dtype)), unknown))
    assert_same(*results, DTYPES[policy])


@law
@given(
    shape=st.sampled_from([(1, 3), (3, 1), (4, 5, 3), (1, 1, 2), (5, 2, 2, 3)]),
    activation=st.sampled_from([None, "relu", "softmax"]),
    bias=st.booleans(),
    policy=st.sampled_from(list(DTYPES)),
    unknown=st.sampled_from([None, (), (0,), (0, 1)]),
    training=trainings,
    way=copies,
)
def test_a_dense_layer_gives_the_results_of_keras(
    shape, activation, bias, policy, unknown, training, way
):
    if len(shape) == 2 and unknown == (0, 1):
        unknown = (0,)
    x = tf.constant(np.random.default_rng(5).normal(size=shape))
    x, results = tf.cast(x, "float64" if policy == "float64" else "float32"), []
    for kinds in (layers, keras.layers):
        layer = kinds.Dense(4, activation, use_bias=bias, dtype=policy)
        layer = copied(layer, shape, x.dtype.name, way)
        results.append(outcome(layer, x, unknown, training=training))
    assert_same(*results, DTYPES[policy])


@law
@given(
    shape=st.sampled_from([(1, 400), (3, 201), (2, 5, 101)]),
    rate=st.sampled_from([0.0, 0.5, 1.0]),
    policy=st.sampled_from(list(DTYPES)),
    unknown=st.sampled_from([None, (), (0,), (0, 1)]),
    training=trainings,
    way=copies,
)
def test_dropout_differs_from_that_of_keras_in_the_mask_only(
    shape, rate, policy, unknown, training, way
):
    x, results = tf.ones(shape, "float64" if policy == "float64" else "float32"), []
    for kinds in (layers, keras.layers):
        layer = copied(kinds.Dropout(rate, seed=1, dtype=policy), shape, x.dtype.name, way)
        results.append(outcome(layer, x, unknown, training=training))
    ours, stock = results
    if not training:
        assert_same(ours, stock, 0)
        return
    for a, b in zip(ours, stock, strict=True):
        assert sorted({*a.flat}) == pytest.approx(sorted({*b.flat}), abs=1e-6)
        assert np.mean(a == 0) == pytest.approx(rate, abs=0.15)


@pytest.mark.parametrize("symbols", [7, 300])
def test_adam_treats_an_embedding_like_any_other_weight(symbols):
    ids = np.array([[1, 1, 1, 2], [1, 0, 3, 3]])
    target = np.random.default_rng(6).normal(size=(2, 4, 3)).astype("float32")
    start = np.random.default_rng(7).normal(size=(symbols, 3)).astype("float32")

    def trained(layer, x):
        model = keras.Sequential([layer])
        model.build(x.shape)
        model.set_weights([start])
        model.compile(keras.optimizers.Adam(0.1), "mse")
        for _ in range(3):
            model.train_on_batch(x, target)
        return model.get_weights()[0]

    ours = trained(layers.Embedding(symbols, 3), ids)
    stock = trained(keras.layers.Embedding(symbols, 3), ids)
    product = trained(keras.layers.Dense(3, use_bias=False), np.eye(symbols, dtype="float32")[ids])
    np.testing.assert_allclose(ours, product, rtol=1e-4, atol=1e-5)
    assert not np.allclose(stock[1], product[1], atol=1e-3)
    np.testing.assert_allclose(stock[2], product[2], rtol=1e-4, atol=1e-5)  # it occurs once


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_orthogonal_kernels_are_made_in_bfloat16(name):
    layer = getattr(recurrent, name)(8, dtype="bfloat16", seed=1)
    initializer = layer.cell.recurrent_initializer
    layer.build((2, 3, 4))
    kernel = tf.cast(layer.cell.recurrent_kernel, tf.float32)
    assert layer.cell.recurrent_kernel.dtype == "bfloat16"
    np.testing.assert_allclose(kernel @ tf.transpose(kernel), np.eye(8), atol=0.05)
    assert layer.cell.recurrent_initializer is initializer
    copy = type(layer).from_config(layer.get_config())
    assert isinstance(copy.cell.recurrent_initializer, keras.initializers.Orthogonal)
