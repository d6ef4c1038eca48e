"""A page in one HTML file: its scripts, its style and its data in the text of the page."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence

IMPORT = re.compile(r'^import \{ (.*) \} from "\./(.*)";$', re.MULTILINE)
DYNAMIC = re.compile(r'await import\("\./([^"]*)"\)')
COMMENT = re.compile(r"^ *//.*\n", re.MULTILINE)
EXPORT = re.compile(r"^export ((?:async )?function\*?|class|const) (\w+)", re.MULTILINE)


def bundle(modules: Mapping[str, str], order: Sequence[str]) -> str:
    """Join modules into one classic script: browsers load no modules beside a page from a disk.

    The scope of each module becomes a function's, and its exports an entry of `self.modules`.

    Args:
        modules: The text of each module by its file's name.
        order: Names of the modules to join, each after those that it imports.
    """
    parts = ["self.modules = {};\n"]
    for name in order:
        names = ", ".join(match[2] for match in EXPORT.finditer(modules[name]))
        text = EXPORT.sub(r"\1 \2", modules[name])
        text = IMPORT.sub(r'const { \1 } = self.modules["\2"];', text)
        text = DYNAMIC.sub(r'self.modules["\1"]', text)
        body = f'"use strict";\n{text}return {{ {names} }};\n'
        body = COMMENT.sub("", body)
        parts.append(f'self.modules["{name}"] = (() => {{\n{body}}})();\n')
    return "".join(parts)


def encode(data: bytes) -> str:
    """Compress a file and write it in characters that HTML does not interpret (base 85)."""
    return base64.b85encode(gzip.compress(data, mtime=0)).decode().replace("<", ",")


def source(text: str) -> str:
    """An inline script or style as a source of a Content Security Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
