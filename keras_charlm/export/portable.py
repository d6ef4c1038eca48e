"""Rewrites of a converted model, so that older runtimes and simpler hosts can run it.

The results stay the same. They work on the schema's objects, before `packing` writes the file.
`tests/runtimes.py` runs such files in every runtime.
"""

from __future__ import annotations

import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema

FIRST = "generate"  # the signature of subgraph 0, all that hosts without signatures can run
OUTPUT = "out_"  # begins the names of output tensors: an input and an output may share a name
LEAST_LITERT = "1.0.1"  # the oldest that runs every file
NAMES = {n: name for name, n in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
# The highest versions that TensorFlow 2.12.1 loads of the operators in our files: each was tried in
# a file of that operator alone. An operator that is missing here counts as newer.
OLD = {
    "ADD": 4, "ARG_MAX": 3, "BROADCAST_TO": 3, "CAST": 4, "CONCATENATION": 3, "CUMSUM": 1,
    "DEQUANTIZE": 5, "DIV": 2, "EQUAL": 3, "EXP": 1, "EXPAND_DIMS": 1, "FILL": 4, "FLOOR": 1,
    "FLOOR_DIV": 2, "FLOOR_MOD": 1, "FULLY_CONNECTED": 9, "GATHER": 5, "GREATER": 2,
    "GREATER_EQUAL": 2, "IF": 1, "LESS": 2, "LESS_EQUAL": 2, "LOGICAL_AND": 1, "LOGICAL_NOT": 1,
    "LOGICAL_OR": 1, "LOGISTIC": 3, "LOG_SOFTMAX": 2, "MAXIMUM": 4, "MINIMUM": 4, "MUL": 6,
    "NEG": 1, "NOT_EQUAL": 3, "ONE_HOT": 1, "PACK": 3, "RANGE": 1, "REDUCE_ANY": 1,
    "REDUCE_MAX": 3, "RESHAPE": 1, "SELECT": 3, "SELECT_V2": 1, "SLICE": 5, "SPLIT": 4,
    "SPLIT_V": 2, "SQUEEZE": 2, "STRIDED_SLICE": 6, "SUB": 5, "SUM": 2, "TANH": 3, "TILE": 3,
    "TOPK_V2": 2, "TRANSPOSE": 6, "UNPACK": 4, "WHILE": 1,
}  # fmt: skip
_HYBRID = 9  # version of FULLY_CONNECTED with int8 weights that have one scale


def rewrite(model: schema.ModelT) -> None:
    """Rewrite a converted model in place.

    Args:
        model: What the converter wrote. The names of its tensors are lost, but for those of the
            signatures: an input is named as in the signature, an output likewise after `OUTPUT`.
    """
    for graph in model.subgraphs:
        for operator in graph.operators:  # what the schema's reader returns is read-only
            operator.inputs, operator.outputs = map(np.copy, (operator.inputs, operator.outputs))
        _widen_vectors(model, graph)
        _separate_embedding(model, graph)
        _scale_products(model, graph)
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
            code.version = min(code.version, _HYBRID)
    for entry in model.metadata or []:
        if entry.name == b"min_runtime_version":  # 16 characters, padded with zeros
            codes = {NAMES[c.builtinCode]: c.version for c in model.operatorCodes}
            version = f"{least_tensorflow(codes)}.0".encode().ljust(16, b"\0")
            entry.buffer = _add_buffer(model, np.frombuffer(version, np.uint8))
    _order_signatures(model)
    _name_tensors(model)


def least_tensorflow(versions: dict[str, int]) -> str:
    """The oldest TensorFlow that has these operators in these versions, "2.12" or "2.13"."""
    old = all(version <= OLD.get(name, 0) for name, version in versions.items())
    return "2.12" if old else "2.13"


def is_a(model: schema.ModelT, operator: schema.OperatorT, name: str) -> bool:
    """Whether an operator is the builtin one of this name."""
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode) == getattr(
        schema.BuiltinOperator, name
    )


def _add_tensor(graph: schema.SubGraphT, like: schema.TensorT, buffer: int | None = None) -> int:
    """Add a copy of a tensor, optionally with another buffer; returns its index."""
    tensor = copy.copy(like)
    if buffer is not None:
        tensor.buffer = buffer
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _add_buffer(model: schema.ModelT, values: np.ndarray) -> int:
    model.buffers.append(schema.BufferT(np.frombuffer(values.tobytes(), np.uint8)))
    return len(model.buffers) - 1


def _widen_vectors(model: schema.ModelT, graph: schema.SubGraphT) -> None:
    """Store float16 vectors and scalars as float32: few bytes, next to the matrices.

    Before TensorFlow 2.19, XNNPACK adds and multiplies by such constants before they have values.
    """
    operators: list[schema.OperatorT] = []
    widened: list[schema.TensorT] = []  # one may be read several times
    for operator in graph.operators:
        constant = graph.tensors[operator.inputs[0]]
        if (
            is_a(model, operator, "DEQUANTIZE")
            and constant.type == schema.TensorType.FLOAT16
            and (constant.shape is None or sum(constant.shape > 1) < 2)
        ):
            values = np.asarray(model.buffers[constant.buffer].data).view(np.float16)
            wide = graph.tensors[operator.outputs[0]]
            wide.buffer = _add_buffer(model, values.astype(np.float32))
            widened.append(constant)
        else:
            operators.append(operator)
    for constant in widened:
        constant.buffer = 0
    graph.operators = operators


def _separate_embedding(model: schema.ModelT, graph: schema.SubGraphT) -> None:
    """Dequantize an embedding with tied weights once for the look-up and once for the product.

    XNNPACK computes the product, but not the look-up. Where both read the same dequantized tensor,
    LiteRT 1.1 to 1.3 refuse the file, and older runtimes compute wrong numbers. The float16 values
    are stored once all the same.
    """
    dequantize = {o.outputs[0]: o for o in graph.operators if is_a(model, o, "DEQUANTIZE")}
    looked_up = {o.inputs[0] for o in graph.operators if is_a(model, o, "GATHER")}
    for operator in list(graph.operators):
        weights = operator.inputs[1] if is_a(model, operator, "FULLY_CONNECTED") else -1
        if weights in looked_up and weights in dequantize:
            own = copy.copy(dequantize[weights])
            own.inputs = np.array([_add_tensor(graph, graph.tensors[own.inputs[0]])], np.int32)
            operator.inputs[1] = _add_tensor(graph, graph.tensors[weights])
            own.outputs = np.array([operator.inputs[1]], np.int32)
            graph.operators.insert(0, own)


def _scale_products(model: schema.ModelT, graph: schema.SubGraphT) -> None:
    """Apply the scales of an int8 matrix's rows after the product, by an operator of its own.

    Before TensorFlow 2.17, FULLY_CONNECTED accepts only one scale for the whole matrix.
    """
    scales: dict[int, np.ndarray] = {}  # of each matrix: float32 (rows,)
    operators: list[schema.OperatorT] = []
    for operator in graph.operators:
        operators.append(operator)
        weights = operator.inputs[1] if is_a(model, operator, "FULLY_CONNECTED") else -1
        given = graph.tensors[weights].quantization if weights >= 0 else None
        if given is None or given.scale is None or len(given.scale) == 1:
            continue
        scales[weights] = np.asarray(given.scale, np.float32)
        operators.append(_scaling(model, graph, operator, scales[weights]))
    for weights in scales:
        graph.tensors[weights].quantization = schema.QuantizationParametersT(
            scale=np.ones(1, np.float32), zeroPoint=np.zeros(1, np.int64)
        )
    graph.operators = operators


def _scaling(
    model: schema.ModelT, graph: schema.SubGraphT, product: schema.OperatorT, scale: np.ndarray
) -> schema.OperatorT:
    """An operator that multiplies a product's result (B, rows) by a scale (rows,)."""
    if product.inputs[2] >= 0:  # x + b becomes (x + b / scale) * scale
        bias = graph.tensors[product.inputs[2]]
        values = np.asarray(model.buffers[bias.buffer].data).view(np.float32) / scale
        product.inputs[2] = _add_tensor(graph, bias, _add_buffer(model, values))
    result = product.outputs[0]
    product.outputs[0] = _add_tensor(graph, graph.tensors[result])
    factor = schema.TensorT(
        type=schema.TensorType.FLOAT32,
        shape=np.array(scale.shape, np.int32),
        buffer=_add_buffer(model, scale),
        hasRank=True,
    )
    graph.tensors.append(factor)
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    return schema.OperatorT(
        opcodeIndex=codes.index(schema.BuiltinOperator.MUL),  # every cell multiplies
        inputs=np.array([product.outputs[0], len(graph.tensors) - 1], np.int32),
        outputs=np.array([result], np.int32),
        builtinOptionsType=schema.BuiltinOptions.MulOptions,
        builtinOptions=schema.MulOptionsT(),
    )


def _order_signatures(model: schema.ModelT) -> None:
    """Make `FIRST` subgraph 0, and put the tensors of all signatures in alphabetical order."""
    for signature in model.signatureDefs or []:
        graph = model.subgraphs[signature.subgraphIndex]
        for side in "inputs", "outputs":
            named = sorted(getattr(signature, side), key=lambda tensor: tensor.name)
            setattr(graph, side, np.array([tensor.tensorIndex for tensor in named], np.int32))
    by_name = {s.signatureKey: s for s in model.signatureDefs or []}
    if first := by_name.get(FIRST.encode()):
        graphs, index = model.subgraphs, first.subgraphIndex
        graphs[0], graphs[index] = graphs[index], graphs[0]
        # No operator refers to the subgraph of a signature, so their numbers may change.
        for signature in by_name.values():
            signature.subgraphIndex = {0: index, index: 0}.get(
                signature.subgraphIndex, signature.subgraphIndex
            )


def _name_tensors(model: schema.ModelT) -> None:
    """Name the signatures' tensors, and no others: names are much of a small model's file."""
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.name = None
    for signature in model.signatureDefs or []:
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        for prefix, maps in ((b"", signature.inputs), (OUTPUT.encode(), signature.outputs)):
            for entry in maps:
                tensors[entry.tensorIndex].name = prefix + entry.name
