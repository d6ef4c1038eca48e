"""A page that invents text in the browser: a folder of static files with the model inside.

The page (the files in `page/`) runs the on-device file with LiteRT.js. Nothing that is typed or
drawn leaves the device, and after the first visit it works without a network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.errors import ExportError
from keras_charlm.export import icon
from keras_charlm.generation.runner import Runner
from keras_charlm.saved import bundle
from keras_charlm.saved.trained import TrainedModel

FORMAT = 1


MODEL, FACTS, LINES, WORKER = "model.tflite", "model.json", "lines.bin", "worker.js"


NOVELTY_BITS = 10  # one new line in 2**10 is taken for one of the training text


# LiteRT.js as it is published: where, which, and the SHA-384 of each file that the page runs. Of
# its WebAssembly builds the compatible one is taken: relaxed SIMD may round differently on each
# processor, and a seed is to give the same text everywhere.
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
    opened: TrainedModel,
    folder: str | Path,
    content: bytes | None = None,
    runtime: str | Path | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the page of a model into a new folder, whole or not at all.

    Args:
        opened: The model.
        folder: Where the page goes.
        content: The on-device file; by default the model's own.
        runtime: Folder of the npm package @litertjs/core, whose files the page then carries; by
            default it fetches them from `ADDRESS` and refuses any other content.
        overwrite: Replace the page at `folder`.

    Returns:
        A report: `folder`; `files`, the bytes of each; `runtime`, its version and where it comes
        from; for a list `novelty`, its lines, bytes and the share of new lines taken for known.

    Raises:
        ExportError: The folder exists or cannot be written, or `runtime` is no such package.
        BundleError: The model's files, or `content`, are damaged.

    Example:
        >>> web.write(keras_charlm.load("names"), "page", runtime="node_modules/@litertjs/core")
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise ExportError(f"{folder} exists; name another folder, or pass --overwrite.")
    if folder.exists() and not ((folder / FACTS).is_file() or _empty(folder)):
        raise ExportError(f"{folder} holds something else than a page; name another folder.")
    if content is None:
        content = opened.bundle.file(bundle.DEVICE).read_bytes()
    Runner(content)  # refuses what no browser could open either
    files: dict[str, bytes] = {MODEL: content}
    facts = _facts(opened) | {"model": _integrity(content)}
    report: dict[str, Any] = {"folder": str(folder)}
    if opened.card.lines:
        known = opened.bundle.training_lines()
        files[LINES], facts["novelty"] = compress(known)
        facts["novelty"]["integrity"] = _integrity(files[LINES])
        report["novelty"] = {"lines": len(known), "bytes": len(files[LINES]),
                             "false_positive_rate": 2.0**-NOVELTY_BITS}  # fmt: skip
    facts["runtime"], carried = _runtime(None if runtime is None else Path(runtime))
    report["runtime"] = {"version": facts["runtime"]["version"],
                         "from": str(runtime) if carried else ADDRESS}  # fmt: skip
    files |= _page(facts) | carried
    report["files"] = {name: len(data) for name, data in sorted(files.items())}
    _publish(folder, files)
    return report


def compress(fingerprints: np.ndarray) -> tuple[bytes, dict[str, int]]:
    """Pack fingerprints into a Golomb-compressed set, about 1.5 bits a line above the bound.

    Each is reduced to a number below `range` = count * 2**bits, so that a line outside the set
    meets one of it with a probability of 2**-bits. The numbers are sorted, and of each its distance
    from the one before is kept: the quotient by 2**bits in unary, then `bits` bits.

    Args:
        fingerprints: uint64 (L,).

    Returns:
        The set, and what `page/novelty.js` needs to read it: `count` of numbers, `range`, `bits`;
        and the number of `lines`, a few of which may share a number.
    """
    span = len(fingerprints) << NOVELTY_BITS
    values = np.unique(fingerprints % np.uint64(span)).astype(np.int64)  # (L,), rising
    distances = np.diff(values, prepend=0)
    quotients = distances >> NOVELTY_BITS
    ends = np.cumsum(quotients + 1 + NOVELTY_BITS)  # first bit after each number
    # All ones, but for the 0 that ends each quotient and the bits after it.
    bits = np.ones(ends[-1], np.uint8)
    bits[ends - 1 - NOVELTY_BITS] = 0
    for bit in range(NOVELTY_BITS):
        bits[ends - 1 - bit] = distances >> bit & 1
    facts = {"lines": len(fingerprints), "count": len(values), "range": span, "bits": NOVELTY_BITS}
    return np.packbits(bits).tobytes(), facts


def _facts(opened: TrainedModel) -> dict[str, Any]:
    card, shape = opened.card, opened.card.model
    scores = card.scores.get("test") or card.scores.get("validation") or {}
    return {
        "format": FORMAT, "name": card.name, "unit": opened.vocabulary.unit, "lines": card.lines,
        "normalize": card.normalize, "start": card.start, "cell": shape.cell,
        "layers": shape.layers, "units": shape.units, "parameters": card.parameters,
        "characters": card.corpus.get("characters"),
        "bits_per_character": scores.get("bits_per_character"),
    }  # fmt: skip


def _runtime(package: Path | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Where the page finds LiteRT.js, and the files that it carries itself."""
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
            # wasm-utils is a package of its own: beside core, or below it.
            places = (
                [package]
                if name == "core"
                else [package.parent / name, package / "node_modules" / "@litertjs" / name]
            )
            source = next((p for p in places if p.is_dir()), places[0])
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
    """The files of the page, filled in for a model."""
    page = resources.files(__package__) / "page"
    files = {item.name: item.read_bytes() for item in page.iterdir() if item.is_file()}
    files |= {f"icon-{size}.png": icon.png(size) for size in icon.SIZES}
    files["icon.svg"] = icon.svg().encode()
    files[FACTS] = _json(facts)
    files["manifest.webmanifest"] = _json({
        "name": facts["name"], "short_name": facts["name"][:12],
        "description": "Invents text on this device.", "id": "./", "start_url": "./",
        "scope": "./", "display": "standalone", "background_color": "#faf8f4",
        "theme_color": "#faf8f4",
        "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}]
        + [{"src": f"icon-{size}.png", "sizes": f"{size}x{size}", "type": "image/png",
            "purpose": "any maskable"} for size in icon.SIZES],
    })  # fmt: skip
    # The runtime may be fetched from its one address, and nothing else from anywhere.
    remote = "" if facts["runtime"]["base"] == "runtime/" else f" {facts['runtime']['base']}"
    index = files["index.html"].decode()
    files["index.html"] = index.replace("{{name}}", html.escape(facts["name"])).replace(
        "{{remote}}", html.escape(remote)).encode()  # fmt: skip
    # A worker that differs by a byte is what makes a browser fetch the files anew.
    digest = hashlib.sha256()
    for _, data in sorted(files.items()):
        digest.update(data)
    names = sorted({*files, MODEL, *([LINES] if "novelty" in facts else [])} - {WORKER})
    worker = files[WORKER].decode()
    files[WORKER] = worker.replace('"{{version}}"', json.dumps(digest.hexdigest()[:16])).replace(
        '["{{files}}"]', json.dumps(names)).encode()  # fmt: skip
    return files


def _publish(folder: Path, files: dict[str, bytes]) -> None:
    temporary, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("new", "old"))
    try:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
        for name, data in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        raise ExportError(
            f"{folder} cannot be written ({error.strerror or error}); name another folder."
        ) from error


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _integrity(data: bytes) -> str:
    return "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()
