"""The network as a Keras model: predicted, exported and saved by Keras's own functions."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_charlm.config import ModelConfig
from keras_charlm.network import model

SYMBOLS, LENGTHS = 9, (3, 4, 5)


@pytest.fixture(params=["lstm", "gru", "rnn"])
def network(request):
    """A network of batch size 1, as `CharLM.model` is."""
    config = ModelConfig(cell=request.param, layers=1, units=6, embedding=4, tied=True)
    return model.build(config, SYMBOLS)


def ids(length):
    return np.random.default_rng(length).integers(0, SYMBOLS, (1, length)).astype(np.int32)


def expected(network, length):
    """Logits from a zero state."""
    return model.run(network, ids(length), model.zero_states(network, 1))[0]


def reset(network):
    for layer in model.recurrent_layers(network):
        layer.reset_state()


def test_it_predicts_texts_of_any_length(network):
    for length in LENGTHS:
        reset(network)
        found = network.predict(ids(length), verbose=0)
        np.testing.assert_allclose(found, expected(network, length), rtol=1e-4, atol=1e-5)


def test_one_trace_serves_all_lengths(network):
    call = tf.function(network, input_signature=[tf.TensorSpec((1, None), tf.int32)])
    for length in LENGTHS:
        reset(network)
        np.testing.assert_allclose(
            call(ids(length)), expected(network, length), rtol=1e-4, atol=1e-5
        )
    assert call.experimental_get_tracing_count() == 1


def test_keras_exports_it(tmp_path):
    network = model.build(ModelConfig(layers=1, units=6, embedding=4), SYMBOLS)
    network.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported")
    for length in LENGTHS:  # an exported network keeps its state
        found = served.serve(ids(length))
        np.testing.assert_allclose(
            found, network.predict(ids(length), verbose=0), rtol=1e-4, atol=1e-5
        )


def test_tensorflow_lite_converts_it():
    network = model.build(ModelConfig(layers=1, units=6, embedding=4), SYMBOLS)
    content = tf.lite.TFLiteConverter.from_keras_model(network).convert()
    interpreter = Interpreter(model_content=content)
    (entry,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(entry["index"], (1, 4))
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], ids(4))
    interpreter.invoke()
    (found,) = (interpreter.get_tensor(o["index"]) for o in interpreter.get_output_details())
    np.testing.assert_allclose(found, expected(network, 4), rtol=1e-4, atol=1e-5)


def test_a_saved_network_names_the_import_that_it_needs(tmp_path, monkeypatch):
    network = model.build(ModelConfig(layers=1, units=6, embedding=4, tied=True), SYMBOLS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        network.save(tmp_path / "network.keras")
    assert type(network).__name__ == "Sequential"
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is type(network)
    np.testing.assert_array_equal(loaded(ids(3)), network(ids(3)))
    registered = keras.saving.get_custom_objects()
    for name in [*registered]:
        if name.startswith("keras_charlm>"):
            monkeypatch.delitem(registered, name)
    with pytest.raises(TypeError) as error:
        keras.models.load_model(tmp_path / "network.keras")
    assert "import keras_charlm.network.model first" in str(error.value)[:100]


def test_an_h5_file_is_written_with_a_warning(tmp_path):
    network = model.build(ModelConfig(layers=1, units=6, embedding=4), SYMBOLS)
    with pytest.warns(UserWarning, match=r"network\.h5: .* save to a \.keras file"):
        network.save(tmp_path / "network.h5")
