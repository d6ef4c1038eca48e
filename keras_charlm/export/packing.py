"""Shrinks the on-device file that the converter wrote, and adds the card to it."""

from __future__ import annotations

import json
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_charlm.export import portable
from keras_charlm.saved import tflite_card

ALIGNMENT = (
    16  # bytes; TensorFlow Lite's schema requires it of buffers, its Python code does not ensure it
)


def pack(content: bytes, values: dict[str, Any]) -> bytes:
    """Add a card to an on-device file, make it portable (see `portable`), and shrink it.

    The converter writes a table for every use and a name for every tensor, which is much of a small
    model's file. Here equal parts are stored once, and only the signatures' tensors have names.

    Args:
        content: A .tflite file.
        values: The card; its `file_sha256` is filled in. See `tflite_card`.

    Returns:
        The file with the card in it.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.metadata = [m for m in model.metadata or [] if m.name != tflite_card.METADATA.encode()]
    portable.rewrite(model)
    _strip(model)
    values = {**values, "file_sha256": tflite_card.NO_DIGEST}
    text = json.dumps(values, ensure_ascii=False).encode()
    model.metadata.append(schema.MetadataT(tflite_card.METADATA.encode(), len(model.buffers)))
    model.buffers.append(schema.BufferT(np.frombuffer(text, np.uint8)))
    builder = _Sharing(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return tflite_card.sign(bytes(builder.Output()))


def _strip(model: schema.ModelT) -> None:
    """Remove what no reader needs: empty buffers, empty lists, names of subgraphs."""
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    used = {user.buffer for user in (*tensors, *model.metadata)}
    moved = {0: 0}  # new number of each buffer; buffer 0 stands for all empty ones
    numbers: dict[bytes, int] = {}  # by content
    buffers = [model.buffers[0]]
    for old in sorted(used):
        if old and model.buffers[old].data is not None:
            moved[old] = numbers.setdefault(bytes(model.buffers[old].data), len(buffers))
            if moved[old] == len(buffers):
                buffers.append(model.buffers[old])
    model.buffers = buffers
    for entry in model.metadata:
        entry.buffer = moved[entry.buffer]
    for tensor in tensors:
        tensor.buffer = moved.get(tensor.buffer, 0)
        if tensor.quantization is not None and tensor.quantization.scale is None:
            tensor.quantization = None
    for graph in model.subgraphs:
        graph.name = None
        for operator in graph.operators:
            for name in ("intermediates", "mutatingVariableInputs"):
                values = getattr(operator, name)
                if values is not None and not len(values):
                    setattr(operator, name, None)


class _Sharing(flatbuffers.Builder):
    """A builder that writes equal tables, vectors and strings once."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[Any, int] = {}  # offset of each content written
        self._fields: list[tuple] = []  # fields of the table that is being written
        self._before = 0  # offset where that table begins

    def StartObject(self, numfields: int) -> None:
        self._fields, self._before = [], self.Offset()
        super().StartObject(numfields)

    def PrependSlot(self, flags: Any, o: int, x: Any, d: Any) -> None:
        self._fields.append(
            (flags, o, x, d)
        )  # flags hold the type: 1 and 1.0 are equal, but not their bytes
        super().PrependSlot(flags, o, x, d)

    def PrependUOffsetTRelativeSlot(self, o: int, x: int, d: int) -> None:
        self._fields.append((o, x))
        super().PrependUOffsetTRelativeSlot(o, x, d)

    def EndObject(self) -> int:
        key = tuple(self._fields)
        if key not in self._written:
            self._written[key] = super().EndObject()
        else:  # the fields just written are dropped
            self.head = len(self.Bytes) - self._before
            self.nested, self.current_vtable = False, None
        return self._written[key]

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = x.dtype.str, x.tobytes()
        if key not in self._written:
            if x.dtype == np.uint8:  # the bytes of a buffer
                self.Prep(ALIGNMENT, x.nbytes)
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]

    def CreateString(self, s: str | bytes, *args: Any) -> int:
        if s not in self._written:
            self._written[s] = super().CreateString(s, *args)
        return self._written[s]
