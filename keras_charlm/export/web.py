"""A page that generates text in the browser: a folder of static files that include the model.

The page (the files in `page/`) runs the on-device file with LiteRT.js. Neither input nor output
leaves the device, and after the first visit it works offline.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from keras_charlm import templates
from keras_charlm.errors import ExportError
from keras_charlm.generation.litert import Runner
from keras_charlm.saved.trained import TrainedModel

FORMAT = 1
MODEL, FACTS, LINES = "model.tflite", "model.json", "lines.bin"
INDEX, WORKER = "index.html", "worker.js"  # the files of the page that are templates
ICONS = (180, 192, 512)  # widths in pixels

# The published LiteRT.js: its version, its address, and the SHA-384 of each file the page runs.
# Its compatible WebAssembly build is used, because relaxed SIMD may round differently on each
# processor, and a seed must give the same text everywhere.
VERSION = "2.5.3"
ADDRESS = "https://cdn.jsdelivr.net/npm/@litertjs/"
RUNTIME = {
    "core": (
        "core",
        "dist/index.js",
        "sha384-MapSVJ/DPwvaWpp7q+Bid9O3uY1oB0KOU1QRMP+Mm5zdz5oMme/BUyX6dVAMWnPg",
    ),
    "utils": (
        "wasm-utils",
        "dist/index.js",
        "sha384-HIPwlWsctS5BRqrnvJKDVJ8SvqKB0QmiImdr6+hpP7+8UqeMJX/qrBkdfKQV2WZ/",
    ),
    "loader": (
        "core",
        "wasm/litert_wasm_compat_internal.js",
        "sha384-oh4nb8zDq6eVOpGeZE5gwDOJ16QujHLL8k/HEXt3XiPxr+8zn3YnkXP8P3BlJET1",
    ),
    "wasm": (
        "core",
        "wasm/litert_wasm_compat_internal.wasm",
        "sha384-glAZ6WjS7tLRt89pbTPXvLC1c7DCaVSfL2ngn5gZJiUuPs76fWYJy7ZeFaD0PJXx",
    ),
}


def write(
    opened: TrainedModel, folder: Path, content: bytes, runtime: str | Path | None = None
) -> dict[str, Any]:
    """Fill a folder with the page of a model.

    Args:
        opened: The model.
        folder: An empty folder.
        content: The on-device file that the page runs.
        runtime: Folder of the npm package @litertjs/core, to include its files in the page; by
            default the page fetches them from `ADDRESS` and verifies their hashes.

    Returns:
        A report: `files`, the bytes of each; `runtime`, its version and where the page loads it
        from; for lines `novelty`, the number of lines and the bytes of their fingerprints.

    Raises:
        ExportError: `runtime` is not that package.
        BundleError: The model's files, or `content`, are damaged.
        OSError: The folder cannot be written.
    """
    Runner(content)  # raises an error if no browser could open it either
    files: dict[str, bytes] = {MODEL: content}
    facts = _facts(opened) | {"model": _integrity(content)}
    report: dict[str, Any] = {}
    if opened.card.lines:
        fingerprints = opened.bundle.training_lines()  # (L,), rising
        data = files[LINES] = fingerprints.astype("<u8").tobytes()
        facts["novelty"] = {"lines": len(fingerprints), "integrity": _integrity(data)}
        report["novelty"] = {"lines": len(fingerprints), "bytes": len(data)}
    facts["runtime"], carried = _runtime(None if runtime is None else Path(runtime))
    report["runtime"] = {"version": facts["runtime"]["version"], "from": facts["runtime"]["base"]}
    files |= _page(facts) | carried
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return {**report, "files": {name: len(data) for name, data in sorted(files.items())}}


def _facts(opened: TrainedModel) -> dict[str, Any]:
    """Facts about the model for the page, and how to read a prompt like the corpus."""
    card, shape = opened.card, opened.card.model
    scores = card.scores.get("test") or card.scores.get("validation") or {}
    return {
        "format": FORMAT,
        "name": card.name,
        "unit": opened.vocabulary.unit,
        "lines": card.lines,
        "normalize": card.normalize,
        "start": card.start,
        "labels": [asdict(label) for label in card.labels],
        "cell": shape.cell,
        "layers": shape.layers,
        "units": shape.units,
        "parameters": card.parameters,
        "characters": card.corpus.get("characters"),
        "bits_per_character": scores.get("bits_per_character"),
    }


def _runtime(package: Path | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Where the page finds LiteRT.js, and the files that it includes itself."""
    if package is None:
        files = {
            role: {"path": f"{name}@{VERSION}/{path}", "integrity": integrity}
            for role, (name, path, integrity) in RUNTIME.items()
        }
        return {"version": VERSION, "base": ADDRESS, "files": files}, {}
    try:
        version = str(json.loads((package / "package.json").read_text(encoding="utf-8"))["version"])
        files, carried = {}, {}
        for role, (name, path, _) in RUNTIME.items():
            # wasm-utils is a separate package, next to core or inside it.
            homes = [package.parent / name, package / "node_modules" / "@litertjs" / name]
            if name == "core":
                homes = [package]
            source = next((home for home in homes if home.is_dir()), homes[0])
            data = (source / path).read_bytes()
            files[role] = {"path": f"{name}/{Path(path).name}", "integrity": _integrity(data)}
            carried[f"runtime/{files[role]['path']}"] = data
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{package} is not the npm package @litertjs/core with @litertjs/wasm-utils beside it "
            f"({error}); run npm install @litertjs/core and name node_modules/@litertjs/core."
        ) from error
    return {"version": version, "base": "runtime/", "files": files}, carried


def _page(facts: dict[str, Any]) -> dict[str, bytes]:
    """The files of the page by name, its templates filled in for a model."""
    page = resources.files(__package__) / "page"
    files = {item.name: item.read_bytes() for item in page.iterdir() if item.is_file()}
    files[FACTS] = _json(facts)
    files["manifest.webmanifest"] = _json(_manifest(facts["name"]))
    # Only the runtime may be fetched from another host.
    remote = "" if facts["runtime"]["base"] == "runtime/" else facts["runtime"]["base"]
    files[INDEX] = _filled(INDEX, name=facts["name"], remote=remote)
    # A browser fetches the other files again only if the worker has changed.
    digest = hashlib.sha256()
    for _, data in sorted(files.items()):
        digest.update(data)
    names = sorted({*files, MODEL, *([LINES] if "novelty" in facts else [])} - {WORKER})
    files[WORKER] = _filled(WORKER, version=digest.hexdigest()[:16], files=names)
    return files


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


def _integrity(data: bytes) -> str:
    return "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()
