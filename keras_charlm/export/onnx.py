"""An `.onnx` file, which ONNX Runtime and other programs run without TensorFlow.

The graph is written with ONNX's own recurrent operators, so that it has few nodes and each runtime
computes it with its fastest kernel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from keras_charlm.config import ModelConfig
from keras_charlm.export import checking
from keras_charlm.export.graph import OnDeviceGraph
from keras_charlm.network.equations import CELLS
from keras_charlm.network.model import named_weights
from keras_charlm.saved.tflite_card import METADATA
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.vocabulary import Vocabulary

OPSET, IR_VERSION = 14, 7  # of 2021: LSTM, GRU and RNN have not changed in what we use since
# For each cell: ONNX's operator, its attributes, and which of our blocks its blocks are.
_OPERATORS: dict[str, tuple[str, dict[str, int], tuple[int, ...]]] = {
    "lstm": ("LSTM", {}, (0, 3, 1, 2)),  # input, output, forget, candidate
    "gru": ("GRU", {"linear_before_reset": 1}, (0, 1, 2)),  # update, reset, candidate
    "rnn": ("RNN", {}, (0,)),
}
_DESCRIPTION = """A character-level language model.

Inputs: text int32 (B, T), the code points (or byte values) to read; state float32 (B, S), zeros
before a text, which begins with the character `start` of the card.
Outputs: logits float32 (B, T, V), of which row t predicts the character after t + 1 characters;
new_state float32 (B, S), after all of them; bits float32 (B,), the sum of -log2 p over all but the
first. Column i of the logits is the i-th of the vocabulary's codes, counted from 1; column 0 is the
unknown symbol.
"""


class Builder:
    """Collects the nodes and the constants of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(
        self, kind: str, *inputs: str | np.ndarray, outputs: tuple[str, ...] = (), **attributes: Any
    ) -> str:
        """Add an operator.

        Args:
            kind: Its name in ONNX.
            inputs: Names of tensors, or constants.
            outputs: Names of its outputs; by default it has one, with a new name.
            attributes: Its attributes.

        Returns:
            The name of its first output.
        """
        outputs = outputs or (f"{kind}_{len(self.nodes)}",)
        names = [self._name(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, names, outputs, **attributes))
        return outputs[0]

    def _name(self, value: str | np.ndarray) -> str:
        if isinstance(value, str):
            return value
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def build(
    weights: Mapping[str, np.ndarray], config: ModelConfig, vocabulary: Vocabulary
) -> onnx.ModelProto:
    """Build the graph of a network.

    Args:
        weights: Its weights by name, in the order of `model.named_weights`.
        config: Its configuration, resolved.
        vocabulary: Its symbols.

    Returns:
        A model from text int32 (B, T) and state float32 (B, S) to logits (B, T, V), new_state
        and bits (B,) for any B and T from 1; see `_DESCRIPTION`.
    """
    values = list(weights.values())
    kernel, bias = values[-2:]
    layers, per_layer = config.layers or 0, CELLS[config.cell].states
    states = tuple(f"state_{i}" for i in range(layers * per_layer))
    graph = Builder()
    ids = _ids(graph, vocabulary)  # (T, B)
    if config.embedding:
        x = graph.op("Gather", values[0], ids)  # (T, B, D)
    else:
        depth = np.array(vocabulary.inputs, np.int64)
        x = graph.op("OneHot", ids, depth, np.array([0, 1], np.float32))  # (T, B, V + L)
    sizes = np.full(len(states), config.units, np.int64)
    graph.op("Split", "state", sizes, outputs=states, axis=1)  # (B, H) each
    after: list[str] = []
    for layer in range(layers):
        own = states[layer * per_layer : (layer + 1) * per_layer]
        at = int(bool(config.embedding)) + 3 * layer
        x, new = _recurrent(graph, config.cell, x, own, values[at : at + 3])
        after += new
    x = graph.op("MatMul", x, kernel)
    if config.tied:
        x = graph.op("MatMul", x, np.ascontiguousarray(values[0][: vocabulary.size].T))
    x = graph.op("Add", x, bias)  # (T, B, V)
    graph.op("Concat", *after, outputs=("new_state",), axis=1)
    graph.op("Transpose", x, outputs=("logits",), perm=[1, 0, 2])
    _bits(graph, x, ids, vocabulary)
    return _model(graph, vocabulary.size, int(sizes.sum()))


def _ids(graph: Builder, vocabulary: Vocabulary) -> str:
    """Ids (T, B) of the input `text` (B, T); unknown code points get the first id, UNKNOWN."""
    text = graph.op("Unsqueeze", graph.op("Transpose", "text"), np.array([2], np.int64))
    equal = graph.op("Equal", text, vocabulary.input_codes.astype(np.int32))  # (T, B, V + L)
    return graph.op("ArgMax", graph.op("Cast", equal, to=TensorProto.INT32), axis=2, keepdims=0)


def _recurrent(
    graph: Builder, cell: str, x: str, states: Sequence[str], weights: list[np.ndarray]
) -> tuple[str, list[str]]:
    """Add a recurrent layer.

    Args:
        graph: The graph.
        cell: lstm, gru or rnn.
        x: Its input, (T, B, D).
        states: Its states, (B, H) each.
        weights: Kernel (D, G), recurrent kernel (H, G), and bias (G,) or (2, G).

    Returns:
        Its output (T, B, H), and the new states.
    """
    kind, attributes, order = _OPERATORS[cell]
    kernel, recurrent, bias = weights

    def ordered(value: np.ndarray) -> np.ndarray:  # (N, G) -> (1, G, N), with ONNX's blocks
        blocks = np.split(value, len(order), axis=1)
        return np.concatenate([blocks[i] for i in order], axis=1).T[None].copy()

    # ONNX adds a bias to both products.
    biases = ordered(np.stack([bias, np.zeros_like(bias)]) if bias.ndim == 1 else bias)  # (1, G, 2)
    flat = biases.transpose(0, 2, 1).reshape(1, -1)  # (1, 2 G)
    axis = np.array([0], np.int64)
    before = [graph.op("Unsqueeze", state, axis) for state in states]  # (1, B, H) each
    # The empty name stands for the lengths of the rows: all are read to their end.
    inputs: list[str | np.ndarray] = [x, ordered(kernel), ordered(recurrent), flat, "", *before]
    outputs = (f"read_{states[0]}", *(f"after_{state}" for state in states))
    graph.op(kind, *inputs, outputs=outputs, hidden_size=len(recurrent), **attributes)
    after = [graph.op("Squeeze", state, axis) for state in outputs[1:]]
    return graph.op("Squeeze", outputs[0], np.array([1], np.int64)), after


def _bits(graph: Builder, logits: str, ids: str, vocabulary: Vocabulary) -> None:
    """Add the output `bits` (B,) of logits (T, B, V) and ids (T, B)."""
    zero, one, last = (np.array([n], np.int64) for n in (0, 1, -1))
    end = np.array([np.iinfo(np.int64).max])
    log_p = graph.op("LogSoftmax", graph.op("Slice", logits, zero, last, zero), axis=2)
    targets = graph.op("Slice", ids, one, end, zero)  # (T - 1, B)
    known = targets
    if vocabulary.labels:  # they have no logits
        known = graph.op("Min", targets, np.array(vocabulary.size - 1, np.int64))
    column = graph.op("Unsqueeze", known, np.array([2], np.int64))
    log_p = graph.op("GatherElements", log_p, column, axis=2)  # (T - 1, B, 1)
    log_p = graph.op("Squeeze", log_p, np.array([2], np.int64))
    if vocabulary.labels:
        log_p = graph.op("Where", graph.op("Equal", known, targets), log_p, np.array(0, np.float32))
    nats = graph.op("ReduceSum", log_p, zero, keepdims=0)
    graph.op("Mul", nats, np.array(-1 / np.log(2), np.float32), outputs=("bits",))


def _model(graph: Builder, symbols: int, width: int) -> onnx.ModelProto:
    """The model of a graph with this number of symbols and this width of the state."""
    floats = TensorProto.FLOAT

    def info(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    inputs = [
        info("text", TensorProto.INT32, "batch", "time"),
        info("state", floats, "batch", width),
    ]
    outputs = [
        info("logits", floats, "batch", "time", symbols),
        info("new_state", floats, "batch", width),
        info("bits", floats, "batch"),
    ]
    whole = helper.make_graph(
        graph.nodes, "charlm", inputs, outputs, graph.constants, doc_string=_DESCRIPTION
    )
    return helper.make_model(
        whole,
        producer_name="keras_charlm",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def write(opened: TrainedModel, file: Path, license: str | None = None) -> dict[str, Any]:
    """Write a model as an `.onnx` file, with its card and vocabulary in it, and check it.

    Args:
        opened: The model.
        file: The file to write.
        license: Licence of the training text.

    Returns:
        The report: `bytes`, and what `checking.compare_logits` returns.

    Raises:
        ExportError: The file computes other logits than the model.
        OSError: The file cannot be written.
    """
    weights = {name: weight.numpy() for name, weight in named_weights(opened.model).items()}
    made = build(weights, opened.card.model, opened.vocabulary)
    card = opened.card.on_device(opened.vocabulary, license=license)
    helper.set_model_props(made, {METADATA: json.dumps(card)})
    content = made.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    file.write_bytes(content)
    graph = OnDeviceGraph(opened.model, opened.card.model, opened.vocabulary)
    trial, trained = checking.reference(opened, graph.runner())
    logits = _read(content, trial.codes[:-1])
    return {
        "bytes": len(content),
        **checking.compare_logits(trial, trained, logits, "ONNX file"),
    }


def _read(content: bytes, codes: np.ndarray) -> np.ndarray:
    """Logits (N, V) of a file in ONNX Runtime: of the first of the codes (N,), then of the rest."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    state = np.zeros((1, session.get_inputs()[1].shape[1]), np.float32)
    logits = []
    for piece in (codes[:1], codes[1:]):
        inputs = {"text": piece[None].astype(np.int32), "state": state}
        rows, state = session.run(["logits", "new_state"], inputs)
        logits.append(rows[0])
    return np.concatenate(logits)
