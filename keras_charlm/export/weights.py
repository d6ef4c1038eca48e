"""The weights file of the browser's engine: the weights of an on-device file, without its graph.

Int32 numbers, little-endian: a header (magic number, cell, layers, units, symbols, input ids,
width of the embedding or 0, number of logits matrices, number of codes), the code of each id, and
the matrices in the order of `saved.weights.weight_shapes`. A matrix is its kind, outputs and
inputs, the float32 scale of each output if its kind is int8, and its values, one row for each
output, padded with zeros to a multiple of four bytes. `engine/network.c` reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_charlm.config import ModelConfig
from keras_charlm.errors import ExportError
from keras_charlm.text.vocabulary import Vocabulary

MAGIC = 0x314D4C43  # "CLM1"
CELLS = ("lstm", "gru", "rnn")
FLOAT32, FLOAT16, INT8_WEIGHTS, INT8 = range(4)  # INT8: LiteRT quantizes the inputs too
STORED = {FLOAT32: "<f4", FLOAT16: "<f2", INT8_WEIGHTS: "<i1", INT8: "<i1"}
TOLERANCE = 0.02  # of a weight's largest value; int8 rounds by at most 0.004


@dataclass(frozen=True)
class Constant:
    """A constant of an on-device file.

    Attributes:
        values: As stored: float32, float16 or int8, (outputs, inputs) or (N,).
        scales: float32 (outputs,) of int8 values, or None.
        used: Names of the operators that read it.
    """

    values: np.ndarray
    scales: np.ndarray | None
    used: frozenset[str]

    @property
    def kind(self) -> int:
        """How the engine stores and multiplies it."""
        if self.scales is None:
            return FLOAT16 if self.values.dtype == np.float16 else FLOAT32
        return INT8 if "FULLY_CONNECTED" in self.used else INT8_WEIGHTS

    def floats(self) -> np.ndarray:
        """The values that it stands for, float32 of the same shape."""
        floats = self.values.astype(np.float32)
        return floats if self.scales is None else floats * self.scales[:, None]

    def transposed(self) -> Constant | None:
        """The transposed matrix; None if there is none, or its scales would be of its inputs."""
        if self.values.ndim != 2 or self.scales is not None:
            return None
        return Constant(self.values.T, None, self.used)


def pack(
    shape: ModelConfig, vocabulary: Vocabulary, weights: Mapping[str, np.ndarray], content: bytes
) -> bytes:
    """Write the weights file of a model.

    Args:
        shape: The network's shape, resolved.
        vocabulary: Its symbols.
        weights: Its weights by name; see `saved.weights.weight_shapes`.
        content: Its on-device file, whose weights are taken.

    Raises:
        ExportError: The on-device file has other weights.
    """
    search = Search(content)
    (table_name, table), *rest, (kernel_name, kernel), bias = weights.items()
    parts = [search.matrix(table_name, table, product=False)]
    for name, value in rest:
        if name.endswith("/bias"):
            parts.append(search.bias(name, value))
        else:
            parts.append(search.matrix(name, value.T))
    logits = [(kernel_name, kernel.T)]
    if shape.tied:
        tied = table[: vocabulary.size]  # (V, E)
        logits.append(("the tied embedding", tied))
        if search.finds(folded := tied @ kernel.T):  # (V, H)
            logits = [(kernel_name, folded)]
    parts += [search.matrix(name, value) for name, value in logits]
    parts.append(search.bias(*bias))
    codes = vocabulary.input_codes.astype("<i4")  # (V + L,)
    header = [
        MAGIC,
        CELLS.index(shape.cell),
        shape.layers or 0,
        shape.units or 0,
        vocabulary.size,
        len(table),
        shape.embedding or 0,
        len(logits),
        len(codes),
    ]
    return np.array(header, "<i4").tobytes() + codes.tobytes() + b"".join(parts)


class Search:
    """Finds a model's weights among the constants of its on-device file, by their values.

    The converter transposes, splits and renames them, and stores some in two forms, so neither
    names nor an order would do.

    Args:
        content: The on-device file.
    """

    def __init__(self, content: bytes):
        self._constants = list(_constants(content))

    def finds(self, value: np.ndarray) -> bool:
        """Whether a matrix of these values (outputs, inputs) is in the file."""
        return self._nearest(value, True) is not None

    def matrix(self, name: str, value: np.ndarray, product: bool = True) -> bytes:
        """The stored form of a matrix.

        Args:
            name: Its name, for an error.
            value: Its values, (outputs, inputs), or one row for each id.
            product: Whether the network multiplies by it; else it looks up rows.

        Raises:
            ExportError: It is not in the file.
        """
        found = self._nearest(value, product)
        if found is None:
            raise _missing(name)
        return _stored(found)

    def bias(self, name: str, value: np.ndarray) -> bytes:
        """The stored form of a bias (N,) or (biases, N); see `matrix`."""
        rows = np.atleast_2d(value)
        if not rows.any():  # the converter drops the addition of zeros
            return _stored(Constant(rows, None, frozenset()))
        whole = self._nearest(value, None)
        found = [whole] if whole else [self._nearest(row, None) for row in rows]
        if any(constant is None for constant in found):
            raise _missing(name)
        floats = np.concatenate([np.atleast_2d(c.floats()) for c in found if c])
        return _stored(Constant(floats, None, frozenset()))

    def _nearest(self, value: np.ndarray, product: bool | None) -> Constant | None:
        """The constant nearest to these values and within the tolerance."""
        best, least = None, TOLERANCE * float(np.abs(value).max())
        for constant in self._constants:
            # An int8 embedding is stored once for looking up and once for the logits.
            looked_up = "GATHER" in constant.used
            if constant.scales is not None and product is not None and looked_up == product:
                continue
            for candidate in (constant, constant.transposed()):
                if candidate is None or candidate.values.shape != value.shape:
                    continue
                error = float(np.abs(candidate.floats() - value).max())
                if error <= least:
                    best, least = candidate, error
        return best


def _missing(name: str) -> ExportError:
    return ExportError(
        f"The on-device file does not hold the model's {name}; export the page again from the "
        "model's folder, or use --engine litert."
    )


def _stored(constant: Constant) -> bytes:
    """A matrix as the file has it."""
    values = np.atleast_2d(constant.values)
    scales = b"" if constant.scales is None else constant.scales.astype("<f4").tobytes()
    data = values.astype(STORED[constant.kind]).tobytes()
    head = np.array([constant.kind, *values.shape], "<i4").tobytes()
    return head + scales + data + bytes(-len(data) % 4)


def _constants(content: bytes) -> Iterator[Constant]:
    """The real constants of an on-device file and what reads them, each once."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    found: dict[tuple[bytes, bytes], tuple[np.ndarray, np.ndarray | None, set[str]]] = {}
    for graph in model.subgraphs:
        operators = []
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            inputs = [int(index) for index in operator.inputs]
            constants = [_constant(model, graph, index) for index in inputs]
            operators.append((name, inputs, constants, int(operator.outputs[0])))
        # Old runtimes know one scale for a matrix: the products are multiplied by those of the
        # outputs, and the bias with them.
        factors = {
            inputs[0]: constants[1][0]
            for name, inputs, constants, _ in operators
            if name == "MUL" and constants[1] is not None and constants[1][0].ndim == 1
        }
        for name, _, constants, output in operators:
            factor = factors.get(output) if name == "FULLY_CONNECTED" else None
            for values, scales in filter(None, constants):
                if factor is not None and scales is not None:
                    scales = scales * factor
                elif factor is not None:
                    values = values * factor
                key = values.tobytes(), b"" if scales is None else scales.tobytes()
                found.setdefault(key, (values, scales, set()))[2].add(name)
    for values, scales, used in found.values():
        yield Constant(values, scales, frozenset(used))


def _constant(model: Any, graph: Any, index: int) -> tuple[np.ndarray, np.ndarray | None] | None:
    """The values of a tensor of a graph and the scales of int8 rows; None if it is none of ours."""
    from ai_edge_litert import schema_py_generated as schema

    kinds: dict[int, np.dtype[Any]] = {
        schema.TensorType.FLOAT32: np.dtype("<f4"),
        schema.TensorType.FLOAT16: np.dtype("<f2"),
        schema.TensorType.INT8: np.dtype("i1"),
    }
    if index < 0:  # no input
        return None
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type not in kinds or tensor.shape is None:
        return None
    kind, quantization = kinds[tensor.type], tensor.quantization
    values = np.frombuffer(data.tobytes(), dtype=kind).reshape(tensor.shape)
    if values.dtype != np.int8:
        return values, None
    if quantization is None or quantization.scale is None or values.ndim != 2:
        return None
    if quantization.quantizedDimension:
        return None
    return values, np.broadcast_to(quantization.scale.astype(np.float32), len(values))
