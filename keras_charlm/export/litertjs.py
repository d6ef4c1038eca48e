"""LiteRT.js, Google's program that runs on-device files in browsers, as a page loads it."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from keras_charlm.errors import ExportError, brief

# The published LiteRT.js: its version, its address, and the bytes and SHA-384 of each file the page
# runs. Its compatible WebAssembly build is used, because relaxed SIMD may round differently on each
# processor, and a seed must give the same text everywhere.
VERSION = "2.5.3"
ADDRESS = "https://cdn.jsdelivr.net/npm/@litertjs/"
RUNTIME = {
    "core": (
        "core",
        "dist/index.js",
        53_482,
        "sha384-MapSVJ/DPwvaWpp7q+Bid9O3uY1oB0KOU1QRMP+Mm5zdz5oMme/BUyX6dVAMWnPg",
    ),
    "utils": (
        "wasm-utils",
        "dist/index.js",
        1_494,
        "sha384-HIPwlWsctS5BRqrnvJKDVJ8SvqKB0QmiImdr6+hpP7+8UqeMJX/qrBkdfKQV2WZ/",
    ),
    "loader": (
        "core",
        "wasm/litert_wasm_compat_internal.js",
        273_246,
        "sha384-oh4nb8zDq6eVOpGeZE5gwDOJ16QujHLL8k/HEXt3XiPxr+8zn3YnkXP8P3BlJET1",
    ),
    "wasm": (
        "core",
        "wasm/litert_wasm_compat_internal.wasm",
        9_334_181,
        "sha384-glAZ6WjS7tLRt89pbTPXvLC1c7DCaVSfL2ngn5gZJiUuPs76fWYJy7ZeFaD0PJXx",
    ),
}
FOLDER = "runtime/"  # of a page that includes the files


def source(package: Path | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Where a page finds LiteRT.js, and the files that it includes itself.

    Args:
        package: Folder of the npm package @litertjs/core, to include its files; None to load the
            published ones from `ADDRESS`.

    Returns:
        The version, the base address and the files for the page's facts; and the included files
        by path.

    Raises:
        ExportError: The folder is not that package.
    """
    if package is None:
        files = {
            role: {"path": f"{name}@{VERSION}/{path}", "bytes": size, "integrity": integrity}
            for role, (name, path, size, integrity) in RUNTIME.items()
        }
        return {"version": VERSION, "base": ADDRESS, "files": files}, {}
    try:
        version = str(json.loads((package / "package.json").read_text(encoding="utf-8"))["version"])
        files, carried = {}, {}
        for role, (name, path, *_) in RUNTIME.items():
            # wasm-utils is a separate package, next to core or inside it.
            homes = [package.parent / name, package / "node_modules" / "@litertjs" / name]
            if name == "core":
                homes = [package]
            home = next((home for home in homes if home.is_dir()), homes[0])
            data = (home / path).read_bytes()
            files[role] = {
                "path": f"{name}/{Path(path).name}",
                "bytes": len(data),
                "integrity": integrity_of(data),
            }
            carried[f"{FOLDER}{files[role]['path']}"] = data
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{brief(package)} is not the npm package @litertjs/core with @litertjs/wasm-utils "
            f"beside it ({brief(error)}); run npm install @litertjs/core and name "
            "node_modules/@litertjs/core."
        ) from error
    return {"version": version, "base": FOLDER, "files": files}, carried


def integrity_of(data: bytes) -> str:
    """The hash of a file as a browser checks it (Subresource Integrity)."""
    return "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()
