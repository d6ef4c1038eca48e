"""A project for Android Studio: an app of one screen that runs the on-device file with LiteRT."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from keras_charlm import templates
from keras_charlm.export import web
from keras_charlm.saved.trained import TrainedModel

LITERT = "2.1.6"  # com.google.ai.edge.litert:litert
MAIN = "app/src/main"
FACTS, STRINGS = f"{MAIN}/kotlin/Facts.kt", f"{MAIN}/res/values/strings.xml"
ASSETS, ICON = f"{MAIN}/assets", f"{MAIN}/res/drawable/icon.png"
BUILD, README = "app/build.gradle.kts", "README.md"
TEMPLATES = (FACTS, BUILD, README)  # with STRINGS; the other files are copied


def write(opened: TrainedModel, folder: Path, content: bytes, app_id: str | None) -> dict[str, Any]:
    """Fill an empty folder with the project of a model.

    Args:
        opened: The model.
        folder: The folder.
        content: The on-device file that the app runs.
        app_id: The app's identity for Android; by default one that ends with the model's name.

    Returns:
        A report: `app_id`, the version of LiteRT, and `files`, the bytes of each.

    Raises:
        BundleError: The model's files are damaged.
        OSError: The folder cannot be written.
    """
    identity = app_id or default_id(opened.card.name)
    files = project(opened, identity)
    files[f"{ASSETS}/{web.MODEL}"] = content
    if opened.card.lines:
        files[f"{ASSETS}/{web.LINES}"] = web.fingerprints(opened)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return {
        "app_id": identity,
        "litert": LITERT,
        "files": {name: len(text) for name, text in sorted(files.items())},
    }


def project(opened: TrainedModel, app_id: str) -> dict[str, bytes]:
    """The project's files by name, but for the model in its assets."""
    name = opened.card.name
    values: dict[str, dict[str, Any]] = {
        FACTS: _facts(opened),
        BUILD: {"app_id": app_id, "litert": LITERT},
        README: {
            "title": name,
            "app_id": app_id,
            "litert": LITERT,
            "novelty": opened.card.lines,
        },
    }
    package = resources.files(str(__package__))
    files = dict(_walk(package / "android"))
    for path in TEMPLATES:
        text = templates.render(__package__, f"android/{path}", escape=False, **values[path])
        files[path] = text.encode()
    files[STRINGS] = strings(name).encode()
    files[ICON] = (package / "page" / "icon-192.png").read_bytes()
    return files


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _walk(item, f"{prefix}{item.name}/")
        else:
            yield prefix + item.name, item.read_bytes()


def _facts(opened: TrainedModel) -> dict[str, Any]:
    """The values of Facts.kt, as Kotlin."""
    card, shape = opened.card, opened.card.model
    of_bytes = opened.vocabulary.unit == "byte"
    cell = {"lstm": "an LSTM", "gru": "a GRU", "rnn": "a recurrent"}[shape.cell]
    about = (
        f"{'Invented' if card.lines else 'Written'} one {'byte' if of_bytes else 'character'} at a "
        f"time by {cell} network of {shape.layers} x {shape.units} cells and {card.parameters:,} "
        "parameters, on this device."
    )
    return {
        "about": kotlin(about),
        "lines": kotlin(card.lines),
        "bytes": kotlin(of_bytes),
        "start": card.start,
        "normalize": "null"
        if card.normalize == "none"
        else f"Normalizer.Form.{card.normalize.upper()}",
        "labels": [
            {"column": kotlin(label.column), "value": kotlin(label.value), "code": label.code}
            for label in card.labels
        ],
    }


def kotlin(value: str | bool) -> str:
    """A value as a literal of Kotlin, which reads JSON's but for \\f and the dollar sign."""
    return json.dumps(value).replace("\\f", "\\u000c").replace("$", "\\$")


def strings(name: str) -> str:
    """The string resources of an app: its name, with Android's escapes within XML's."""
    text = escape(re.sub(r"[\\'\"@?]", r"\\\g<0>", name))
    return templates.render(__package__, f"android/{STRINGS}", escape=False, name=text)


def default_id(name: str) -> str:
    """An identity for a model's app that is valid, but that no store accepts."""
    slug = re.sub(r"[^a-z0-9]", "", name.lower())
    return f"com.example.charlm.{slug if slug[:1].isalpha() else 'model' + slug}"
