"""Keras's own tests of its layers, from the installed Keras, with the layers of this package.

Nothing is copied: pytest collects the test classes of Keras, and while they run the names in
`keras.src.layers` are ours. `RNN`, `StackedRNNCells`, `Bidirectional` and `TimeDistributed` are
Keras's, around our layers.
"""

import importlib
import os

import keras
import pytest

from keras_charlm.network import layers, recurrent

OURS = {
    **{name: getattr(recurrent, name) for name in ("LSTM", "GRU", "SimpleRNN")},
    **{name: getattr(layers, name) for name in ("Embedding", "Dense", "Dropout")},
}
FILES = {
    "LSTM": "rnn.lstm",
    "GRU": "rnn.gru",
    "SimpleRNN": "rnn.simple_rnn",
    "RNN": "rnn.rnn",
    "StackedRNNCells": "rnn.stacked_rnn_cells",
    "Bidirectional": "rnn.bidirectional",
    "TimeDistributed": "rnn.time_distributed",
    "Embedding": "core.embedding",
    "Dense": "core.dense",
    "Dropout": "regularization.dropout",
}
# Tests that our layers cannot pass, with the reason.
DIFFERENT: dict[str, str] = {}
# Tests that compile Keras's own cells for most of a minute and meet no layer of ours.
LONG = {"TestKerasRNN::test_basics", "TestKerasStackedRNNCells::test_basics"}

for layer, file in FILES.items():
    module = importlib.import_module(f"keras.src.layers.{file}_test")
    (tests,) = [
        kind
        for name, kind in vars(module).items()
        if name.endswith("Test") and getattr(kind, "__module__", "") == module.__name__
    ]
    # Two of Keras's classes have the same name.
    globals()[f"TestKeras{layer}"] = type(f"TestKeras{layer}", (tests,), {})
del tests

pytestmark = [
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed", "ignore:The model does not have")
]


@pytest.fixture(autouse=True)
def our_layers(monkeypatch, request):
    name = request.node.nodeid.split("::", 1)[1]
    if name in DIFFERENT:
        request.applymarker(pytest.mark.xfail(reason=DIFFERENT[name], strict=True))
    if name in LONG and not os.environ.get("KERAS_CHARLM_LONG_TESTS"):
        pytest.skip("takes long and has no layer of ours: set KERAS_CHARLM_LONG_TESTS=1")
    for name, ours in OURS.items():
        monkeypatch.setattr(keras.src.layers, name, ours)
    yield
    keras.config.set_dtype_policy("float32")
