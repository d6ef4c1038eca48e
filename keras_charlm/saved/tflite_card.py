"""The card of an on-device file, read without TensorFlow.

A .tflite file is a FlatBuffer that can hold named metadata. Its entry `keras_charlm` is a JSON
object in UTF-8, the file's card, which `export.packing` writes:

    card         the content of the model folder's config.json (see `card.Card`)
    vocabulary   {"unit", "codes"}
    quantize     none, float16 or int8
    license      the licence of the text, or null
    constraints  what all texts drawn fit, as options of `kcharlm generate`, or null
    file_sha256  SHA-256 of the file itself, computed with 64 zeros in place of the digest
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

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
    except Exception as error:  # a damaged FlatBuffer can make its reader raise anything
        raise _damaged(path) from error
    if values is None:
        raise BundleError(
            f"{path} has no card of keras_charlm, so its signatures are unknown; "
            "name a .tflite file of kcharlm export."
        )
    digest = values.get("file_sha256") if isinstance(values, dict) else None
    if not isinstance(digest, str) or _digest(_with_digest(content, digest, NO_DIGEST)) != digest:
        raise _damaged(path)
    return values


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
    """Replace `NO_DIGEST` in a file's card with the file's digest."""
    return _with_digest(content, NO_DIGEST, _digest(content))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _with_digest(content: bytes, old: str, new: str) -> bytes:
    name = b'"file_sha256": "'
    return content.replace(name + old.encode(), name + new.encode(), 1)


def sizes(content: bytes) -> dict[str, int]:
    """Bytes of each part of a file: weights, integer tables, the card, and the graph.

    Args:
        content: A .tflite file.

    Returns:
        Bytes by part: `weights`, `tables`, `card`, `graph`.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    lengths = {i: model.Buffers(i).DataLength() for i in range(model.BuffersLength())}
    graph = len(content) - sum(lengths.values())
    parts = {"weights": 0, "tables": 0, "card": 0, "graph": graph}
    for i in range(model.MetadataLength()):
        if model.Metadata(i).Name() == METADATA.encode():
            parts["card"] += lengths.pop(model.Metadata(i).Buffer())
    real = {schema.TensorType.FLOAT32, schema.TensorType.FLOAT16, schema.TensorType.INT8}
    for i in range(model.SubgraphsLength()):
        subgraph = model.Subgraphs(i)
        for j in range(subgraph.TensorsLength()):
            tensor = subgraph.Tensors(j)
            size = lengths.pop(tensor.Buffer(), 0)  # several tensors may share a buffer
            parts["weights" if tensor.Type() in real else "tables"] += size
    parts["graph"] += sum(lengths.values())
    return parts
