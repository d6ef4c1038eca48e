"""A `.keras` file of Keras's own layers, which loads without this package, on every backend."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_charlm.config import ModelConfig
from keras_charlm.export import checking
from keras_charlm.export.graph import OnDeviceGraph
from keras_charlm.network.model import named_weights
from keras_charlm.saved import bundle
from keras_charlm.saved.trained import TrainedModel

_CLASSES = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}


def build(
    trained: keras.Model, config: ModelConfig, vocabulary_size: int, labels: int = 0
) -> keras.Sequential:
    """Build the same network of Keras's own layers, with the trained weights.

    It reads every text from the zero state. A one-hot layer becomes an embedding with an identity
    matrix, and tied weights are multiplied out.

    Args:
        trained: A network of `model.build`.
        config: Its configuration, resolved.
        vocabulary_size: Symbols (V), the unknown symbol included.
        labels: Number of labels (L); their ids V, V + 1, ... are read and have no logits.

    Returns:
        A Sequential from ids int32 (B, T) to logits float32 (B, T, V).
    """
    assert config.layers is not None, "the configuration has to be resolved first"
    weights = [weight.numpy() for weight in named_weights(trained).values()]
    inputs = vocabulary_size + labels
    embedding = keras.layers.Embedding(
        inputs,
        config.embedding or inputs,
        trainable=bool(config.embedding),
        name="embedding",
    )
    stack: list[Any] = [keras.Input(shape=(None,), dtype="int32"), embedding]
    for layer in range(config.layers):
        name = f"{config.cell}_{layer}"
        stack.append(_CLASSES[config.cell](config.units, return_sequences=True, name=name))
        if config.dropout:
            stack.append(keras.layers.Dropout(config.dropout, name=f"dropout_{layer}"))
    stack.append(keras.layers.Dense(vocabulary_size, name="logits"))
    plain = keras.Sequential(stack, name="charlm")
    if not config.embedding:
        weights.insert(0, np.eye(inputs, dtype=np.float32))
    elif config.tied:
        weights[-2] = weights[-2] @ weights[0][:vocabulary_size].T  # (H, D) @ (D, V)
    for layer in plain.layers:
        own, weights = weights[: len(layer.weights)], weights[len(layer.weights) :]
        if not isinstance(layer, keras.layers.Dropout):
            layer.set_weights(own)
    return plain


def write(opened: TrainedModel, file: Path) -> dict[str, Any]:
    """Write a model as a `.keras` file, with the vocabulary in it, and check it.

    Args:
        opened: The model.
        file: The file to write.

    Returns:
        The report: `bytes`, and what `checking.compare_logits` returns.

    Raises:
        ExportError: The file computes other logits than the model.
        OSError: The file cannot be written.
    """
    vocabulary = opened.vocabulary
    plain = build(opened.model, opened.card.model, vocabulary.size, vocabulary.labels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        plain.save(path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(bundle.VOCABULARY, json.dumps(vocabulary.to_dict()))
        loaded = keras.models.load_model(path)
        file.write_bytes(path.read_bytes())
    graph = OnDeviceGraph(opened.model, opened.card.model, vocabulary)
    trial, trained = checking.reference(opened, graph.runner())
    ids = vocabulary.lookup(trial.codes[:-1])[None]  # (1, N - 1)
    logits = np.asarray(loaded(ids.astype(np.int32)))[0]  # (N - 1, V)
    return {
        "bytes": file.stat().st_size,
        **checking.compare_logits(trial, trained, logits, "Keras model"),
    }
