"""The card inside an on-device file, read and written without TensorFlow.

A .tflite file is a FlatBuffer with room for named metadata. Under the name `keras_charlm` stands a
JSON object in UTF-8:

    card         what config.json of the model's folder says (see `bundle.Card`)
    vocabulary   {"unit", "codes"}
    quantize     none, float16 or int8
    license      the licence of the text, or null
    file_sha256  SHA-256 of this very file, taken with 64 zeros in the place of the digest
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_charlm.errors import BundleError

METADATA = "keras_charlm"
ALIGNMENT = 16  # of the weights, as the schema of TensorFlow Lite asks for
_ZEROS = "0" * 64


def read(path: Path) -> dict[str, Any]:
    """The card of an on-device file.

    Args:
        path: A .tflite file.

    Returns:
        The JSON object described above.

    Raises:
        BundleError: The file cannot be read, is damaged, or was not written by this program.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror or error}); check the path."
                          ) from error
    if content[4:8] != b"TFL3":
        raise BundleError(f"{path} is no on-device model; name a folder that kcharlm fit wrote, or "
                          "a .tflite file of kcharlm export.")
    try:
        values = _values(content)
    except Exception as error:  # whatever a damaged FlatBuffer makes its reader do
        raise _damaged(path) from error
    if values is None:
        raise BundleError(f"{path} has no card of keras_charlm, so its signatures are unknown; "
                          "name a .tflite file of kcharlm export.")
    digest = values.get("file_sha256") if isinstance(values, dict) else None
    if not isinstance(digest, str) or _digest(_with_digest(content, digest, _ZEROS)) != digest:
        raise _damaged(path)
    return values


def _damaged(path: Path) -> BundleError:
    return BundleError(f"{path} is damaged (truncated, or changed since it was written); copy or "
                       "export it again.")


def _values(content: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == METADATA.encode():
            return json.loads(bytes(model.Buffers(entry.Buffer()).DataAsNumpy()))
    return None


def write(content: bytes, values: dict[str, Any]) -> bytes:
    """Put a card into an on-device file, and pack the file anew.

    What many tensors say alike, above all the scales of each row of quantized weights, is stored
    once: the converter writes it for every use, which for a small model is half of the file.

    Args:
        content: A .tflite file.
        values: The card, without `file_sha256`.

    Returns:
        The file with the card in it.
    """
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    text = json.dumps({**values, "file_sha256": _ZEROS}, ensure_ascii=False).encode()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.metadata = [m for m in model.metadata or [] if m.name != METADATA.encode()]
    model.metadata.append(schema.MetadataT(METADATA.encode(), len(model.buffers)))
    model.buffers.append(schema.BufferT(np.frombuffer(text, np.uint8)))
    for buffer in model.buffers:
        buffer.Pack = _aligned(buffer, schema)
    shared: dict[bytes, int] = {}  # quantization already packed, and where
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None:
                tensor.quantization.Pack = _once(tensor.quantization, shared)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    packed = bytes(builder.Output())
    return _with_digest(packed, _ZEROS, _digest(packed))


def _aligned(buffer: Any, schema: Any) -> Callable[[Any], int]:
    """BufferT.Pack with the alignment that the schema asks for; the generated code drops it."""

    def pack(builder):
        data = None
        if buffer.data is not None:
            data = bytes(buffer.data)
            builder.StartVector(1, len(data), ALIGNMENT)
            builder.head -= len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)

    return pack


def _once(quantization: Any, shared: dict[bytes, int]) -> Callable[[Any], int]:
    """QuantizationParametersT.Pack that refers to an equal one where there is one already."""
    import numpy as np

    def pack(builder):
        key = repr([(name, value.tobytes() if isinstance(value, np.ndarray) else value)
                    for name, value in sorted(vars(quantization).items())
                    if name != "Pack"]).encode()
        if key not in shared:
            shared[key] = type(quantization).Pack(quantization, builder)
        return shared[key]

    return pack


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _with_digest(content: bytes, old: str, new: str) -> bytes:
    name = b'"file_sha256": "'
    return content.replace(name + old.encode(), name + new.encode(), 1)


def sizes(content: bytes) -> tuple[dict[str, int], list[tuple[tuple[int, ...], int]]]:
    """Where the bytes of a file go.

    Returns:
        Bytes of the card and of the graph; and of each constant its shape, without axes of length
        1, and its bytes, the largest first.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    lengths = [model.Buffers(i).DataLength() for i in range(model.BuffersLength())]
    cards = {model.Metadata(i).Buffer() for i in range(model.MetadataLength())
             if model.Metadata(i).Name() == METADATA.encode()}
    shapes: dict[int, tuple[int, ...]] = {}
    for i in range(model.SubgraphsLength()):
        graph = model.Subgraphs(i)
        for j in range(graph.TensorsLength()):
            tensor = graph.Tensors(j)
            dims = [tensor.Shape(k) for k in range(tensor.ShapeLength())]
            shapes.setdefault(tensor.Buffer(), tuple(n for n in dims if n > 1))
    constants = [(shapes.get(i, ()), length) for i, length in enumerate(lengths)
                 if length and i not in cards]
    constants.sort(key=lambda c: -c[1])
    return ({"graph": len(content) - sum(lengths), "card": sum(lengths[i] for i in cards)},
            constants)
