"""What an on-device file says about itself, and its weights, read without TensorFlow.

A .tflite file is a FlatBuffer with room for named metadata. Under the name `keras_charlm` stands a
JSON object in UTF-8, its card, which `export.packing` writes:

    card         what config.json of the model's folder says (see `bundle.Card`)
    vocabulary   {"unit", "codes"}
    quantize     none, float16 or int8
    license      the licence of the text, or null
    weights      where the network's weights stand: of each its name (`lstm_0/kernel`), its shape,
                 the numbers of the buffers that hold it, and whether they hold its transpose
    file_sha256  SHA-256 of this very file, taken with 64 zeros in the place of the digest
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_charlm.errors import BundleError
from keras_charlm.files import LARGEST

METADATA = "keras_charlm"


NO_DIGEST = "0" * 64


def read(path: Path) -> dict[str, Any]:
    """The card of an on-device file.

    Args:
        path: A .tflite file.

    Returns:
        The JSON object described above.

    Raises:
        BundleError: The file cannot be read, is damaged, or was not written by this program.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The content of a file, and its card."""
    try:
        content = path.read_bytes() if path.stat().st_size <= LARGEST else b""
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror or error}); check the path."
        ) from error
    if content[4:8] != b"TFL3":
        raise BundleError(
            f"{path} is no on-device model; name a folder that kcharlm fit wrote, or "
            "a .tflite file of kcharlm export."
        )
    try:
        values = _values(content)
    except Exception as error:  # whatever a damaged FlatBuffer makes its reader do
        raise _damaged(path) from error
    if values is None:
        raise BundleError(
            f"{path} has no card of keras_charlm, so its signatures are unknown; "
            "name a .tflite file of kcharlm export."
        )
    digest = values.get("file_sha256") if isinstance(values, dict) else None
    if not isinstance(digest, str) or _digest(_with_digest(content, digest, NO_DIGEST)) != digest:
        raise _damaged(path)
    return content, values


def _damaged(path: Path) -> BundleError:
    return BundleError(
        f"{path} is damaged (truncated, or changed since it was written); copy or export it again."
    )


def _values(content: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == METADATA.encode():
            return json.loads(bytes(model.Buffers(entry.Buffer()).DataAsNumpy()))
    return None


def sign(content: bytes) -> bytes:
    """Put the digest into a file whose card has `NO_DIGEST` in its place."""
    return _with_digest(content, NO_DIGEST, _digest(content))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _with_digest(content: bytes, old: str, new: str) -> bytes:
    name = b'"file_sha256": "'
    return content.replace(name + old.encode(), name + new.encode(), 1)


class Constant(NamedTuple):
    """A constant of an on-device file.

    Attributes:
        value: float32, in the tensor's shape; of int8 the numbers times their scales.
        error: float32, broadcasts with `value`: how far rounding may have moved it.
    """

    value: np.ndarray
    error: np.ndarray


def constants(model: Any) -> dict[int, Constant]:
    """The constants of a file that stand for real numbers, by the number of their buffer.

    Args:
        model: A `ModelT` of TensorFlow Lite's schema.
    """
    from ai_edge_litert import schema_py_generated as schema

    kinds = {
        schema.TensorType.FLOAT32: "<f4",
        schema.TensorType.FLOAT16: "<f2",
        schema.TensorType.INT8: "i1",
    }
    found: dict[int, Constant] = {}
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        data, kind = model.buffers[tensor.buffer].data, kinds.get(tensor.type)
        if data is None or kind is None or tensor.buffer in found:
            continue
        shape = () if tensor.shape is None else tuple(tensor.shape)
        value = np.frombuffer(data, kind).reshape(shape).astype(np.float32)
        error = np.zeros_like(value)
        if kind == "<f2":
            error = np.abs(value) * 2.0**-11 + 2.0**-25  # half of the last bit
        elif kind == "i1":
            axes = np.ones(len(shape), int)  # a scale for all, or for each index of one axis
            axes[tensor.quantization.quantizedDimension] = -1
            scale = tensor.quantization.scale.reshape(axes)
            value, error = value * scale, np.broadcast_to(scale * 0.501, shape)
        found[tensor.buffer] = Constant(value, error)
    return found


def weights(path: Path) -> dict[str, np.ndarray]:
    """The network's weights by name, float32: as they were trained, or rounded as they are stored.

    Args:
        path: A .tflite file of ours.

    Raises:
        BundleError: As for `read`.
    """
    from ai_edge_litert import schema_py_generated as schema

    content, values = _read(path)
    try:
        found, weights = constants(schema.ModelT.InitFromPackedBuf(content, 0)), {}
        for place in values["weights"]:
            parts = [found[buffer].value.ravel() for buffer in place["buffers"]]
            value, shape = np.concatenate(parts), place["shape"]
            weights[place["name"]] = (
                value.reshape(shape[::-1]).T if place["transposed"] else value.reshape(shape)
            )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged(path) from error
    return weights


def sizes(content: bytes) -> dict[str, int]:
    """Where the bytes of a file go: the weights of each layer, tables, the card, and the graph."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    lengths = {i: model.Buffers(i).DataLength() for i in range(model.BuffersLength())}
    found = {"graph": len(content) - sum(lengths.values())}
    for i in range(model.MetadataLength()):
        if model.Metadata(i).Name() == METADATA.encode():
            found["card"] = lengths.pop(model.Metadata(i).Buffer())
    for place in _values(content)["weights"]:
        layer = place["name"].partition("/")[0]
        # Equal weights are stored once.
        size = sum(lengths.pop(buffer, 0) for buffer in place["buffers"])
        found[layer] = found.get(layer, 0) + size
    return found | {"tables": sum(lengths.values())}
