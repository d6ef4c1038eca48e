"""A page that generates text in the browser: a folder of static files, or one HTML file.

The page (the files in `page/`) runs the model with the project's own engine (`engine/`), or with
LiteRT.js. Neither input nor output leaves the device, and after the first visit it works offline.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from keras_charlm import templates
from keras_charlm.export import litertjs, singlefile, weights
from keras_charlm.generation.litert import Runner
from keras_charlm.generation.samples import LENGTH, LINE_LENGTH
from keras_charlm.saved.trained import TrainedModel

FORMAT = 2
MODEL, FACTS, LINES = "model.tflite", "model.json", "lines.bin"
WEIGHTS, PROGRAM = "weights.bin", "engine.wasm"  # what the page's own engine needs
INDEX, WORKER, STYLE, BOOT = "index.html", "worker.js", "style.css", "boot.js"
MODULES = (
    "files.js",
    "own.js",
    "rule.js",
    "engine.js",
    "novelty.js",
    "app.js",
)  # each after its imports
LITERT_MODULE = "litert.js"
ICONS = (180, 192, 512)  # widths in pixels


def write(
    opened: TrainedModel,
    folder: Path,
    content: bytes,
    engine: str = "own",
    runtime: str | Path | None = None,
) -> dict[str, Any]:
    """Fill an empty folder with the page of a model.

    Args:
        opened, content, engine, runtime: As for `page_files`.
        folder: The folder.

    Returns:
        The report of `page_files`, `files`, the bytes of each, and `page_bytes`, their sum.

    Raises:
        ExportError: `runtime` is not that package, or `content` has other weights.
        BundleError: The model's files, or `content`, are damaged.
        OSError: The folder cannot be written.
    """
    files, report = page_files(opened, content, engine, runtime)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    sizes = {name: len(text) for name, text in sorted(files.items())}
    return {**report, "page_bytes": sum(sizes.values()), "files": sizes}


def page_files(
    opened: TrainedModel, content: bytes, engine: str = "own", runtime: str | Path | None = None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The page of a model.

    Args:
        opened: The model.
        content: The on-device file that the page runs, or whose weights its own engine reads.
        engine: 'own' or 'litert'.
        runtime: For LiteRT.js, the folder of the npm package @litertjs/core, to include its files
            in the page; by default the page fetches them and verifies their hashes.

    Returns:
        The files by name, and a report: for LiteRT.js `runtime`, its version and where the page
        loads it from; for lines `novelty`, the number of lines and the bytes of their fingerprints.

    Raises:
        ExportError: `runtime` is not that package, or `content` has other weights.
        BundleError: The model's files, or `content`, are damaged.
    """
    data, report = _data(opened, content, engine)
    facts = _facts(opened, engine, data, report)
    carried: dict[str, bytes] = {}
    if engine == "litert":
        facts["runtime"], carried = litertjs.source(None if runtime is None else Path(runtime))
        version, base = facts["runtime"]["version"], facts["runtime"]["base"]
        report["runtime"] = {"version": version, "from": base}
    return data | _page(facts, data) | carried, report


def write_single(opened: TrainedModel, file: Path, content: bytes) -> dict[str, Any]:
    """Write the page of a model as one HTML file, with the project's own engine; see `write`."""
    data, report = _data(opened, content, "own")
    facts = _facts(opened, "own", data, report)
    page = {name: text.decode() for name, text in _static().items() if not name.endswith(".png")}
    script = singlefile.bundle(page, MODULES) + page[BOOT]
    text = _index(
        facts,
        single=True,
        policy=(
            f"default-src 'none'; script-src {singlefile.source(script)} 'wasm-unsafe-eval'; "
            f"style-src {singlefile.source(page[STYLE])}; img-src data:; base-uri 'none'; "
            "form-action 'none'"
        ),
        script=script,
        style=page[STYLE],
        icon=base64.b64encode(page["icon.svg"].encode()).decode(),
        description=json.dumps(facts).replace("<", "\\u003c"),
        carried={name: singlefile.encode(part) for name, part in data.items()},
    )
    file.write_bytes(text)
    return {**report, "page_bytes": len(text)}


def _data(
    opened: TrainedModel, content: bytes, engine: str
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files that the engine and the page read, and what the report says of them."""
    Runner(content)  # raises an error if the on-device file is damaged
    report: dict[str, Any] = {"engine": engine}
    if engine == "litert":
        data = {MODEL: content}
    else:
        program = resources.files(str(__package__)) / "engine" / PROGRAM
        trained = opened.bundle.weights()
        packed = weights.pack(opened.card.model, opened.vocabulary, trained, content)
        data = {WEIGHTS: packed, PROGRAM: program.read_bytes()}
    if opened.card.lines:
        data[LINES] = fingerprints(opened)
        report["novelty"] = {"lines": len(data[LINES]) // 8, "bytes": len(data[LINES])}
    return data, report


def fingerprints(opened: TrainedModel) -> bytes:
    """The fingerprints of a list's training lines, 8 bytes each, little-endian and sorted."""
    return opened.bundle.training_lines().astype("<u8").tobytes()


def _facts(
    opened: TrainedModel, engine: str, data: dict[str, bytes], report: dict[str, Any]
) -> dict[str, Any]:
    """Facts about the model for the page, and how to read a prompt like the corpus."""
    card, shape = opened.card, opened.card.model
    scores = card.scores.get("test") or card.scores.get("validation") or {}
    facts = {
        "format": FORMAT,
        "name": card.name,
        "unit": opened.vocabulary.unit,
        "lines": card.lines,
        "normalize": card.normalize,
        "start": card.start,
        "length": card.line_limit or (LINE_LENGTH if card.lines else LENGTH),
        "labels": [asdict(label) for label in card.labels],
        "cell": shape.cell,
        "layers": shape.layers,
        "units": shape.units,
        "parameters": card.parameters,
        "characters": card.corpus.get("characters"),
        "bits_per_character": scores.get("bits_per_character"),
        "engine": engine,
        "files": {n: {"bytes": len(d), "crc32": zlib.crc32(d)} for n, d in data.items()},
    }
    if "novelty" in report:
        facts["novelty"] = {"lines": report["novelty"]["lines"]}
    return facts


def _static() -> dict[str, bytes]:
    page = resources.files(str(__package__)) / "page"
    return {item.name: item.read_bytes() for item in page.iterdir() if item.is_file()}


def _page(facts: dict[str, Any], data: dict[str, bytes]) -> dict[str, bytes]:
    """The files of the page by name, its templates filled in for a model."""
    files = _static()
    del files["own.js" if facts["engine"] == "litert" else LITERT_MODULE]
    files[FACTS] = _json(facts)
    files["manifest.webmanifest"] = _json(_manifest(facts["name"]))
    # Only the runtime may be fetched from another host.
    base = facts.get("runtime", {}).get("base", litertjs.FOLDER)
    remote = "" if base == litertjs.FOLDER else base
    files[INDEX] = _index(
        facts,
        single=False,
        remote=remote,
        policy=(
            f"default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'; connect-src 'self'"
            f"{remote and ' ' + remote}; style-src 'self'; img-src 'self'; manifest-src 'self'; "
            "worker-src 'self'; base-uri 'none'; form-action 'none'"
        ),
    )
    # A browser fetches the other files again only if the worker has changed.
    digest = hashlib.sha256()
    for _, content in sorted(files.items()):
        digest.update(content)
    names = sorted({*files, *data} - {WORKER})
    files[WORKER] = _filled(WORKER, version=digest.hexdigest()[:16], files=names)
    return files


def _index(facts: dict[str, Any], **values: Any) -> bytes:
    return _filled(INDEX, name=facts["name"], **values)


def _filled(name: str, /, **values: Any) -> bytes:
    return templates.render(__package__, f"page/{name}", escape=True, **values).encode()


def _manifest(name: str) -> dict[str, Any]:
    """The web app manifest: how a device shows the installed page."""
    pictures = [
        {
            "src": f"icon-{size}.png",
            "sizes": f"{size}x{size}",
            "type": "image/png",
            "purpose": "any maskable",
        }
        for size in ICONS
    ]
    return {
        "name": name,
        "short_name": name[:12],
        "description": "Invents text on this device.",
        "id": "./",
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": "#faf8f4",
        "theme_color": "#faf8f4",
        "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}, *pictures],
    }


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()
