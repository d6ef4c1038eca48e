"""What a notebook shows of this package: tables, texts coloured by surprise, pages in a frame."""

from __future__ import annotations

import html
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_MOST_BITS = 8.0  # a surprise of as many bits, or more, has the strongest colour
_HEIGHT = 600  # pixels of a frame

_AnyPath: Any = type(Path())  # the class of this system's paths


class Page(_AnyPath):
    """The path of an HTML page, which a notebook shows in a frame."""

    def _repr_html_(self) -> str:
        return framed(self.read_text(encoding="utf-8"))


def running() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if hasattr(ipython, "get_ipython") else None
    return hasattr(shell, "kernel")


def table(rows: Iterable[Sequence[object]], title: str = "") -> str:
    """A small table as HTML.

    Args:
        rows: The cells of each row, the first one its label.
        title: Its caption.
    """
    style = "text-align: left"
    lines = [f"<caption>{html.escape(title)}</caption>"] if title else []
    for label, *cells in rows:
        parts = [f'<th style="{style}">{html.escape(str(label))}</th>']
        parts += [f'<td style="{style}">{html.escape(str(cell))}</td>' for cell in cells]
        lines.append(f"<tr>{''.join(parts)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def coloured(characters: Sequence[str], bits: Sequence[float]) -> str:
    """A text as HTML, the redder the more surprising.

    Args:
        characters: Its characters.
        bits: -log2 p of each.
    """
    parts = []
    for character, surprise in zip(characters, bits, strict=True):
        strength = 0.7 * min(surprise / _MOST_BITS, 1.0)
        parts.append(
            f'<span title="{surprise:.2f} bits" style="background: rgba(220, 60, 40, '
            f'{strength:.2f})">{html.escape(character)}</span>'
        )
    style = "white-space: pre-wrap; overflow-wrap: anywhere; font-family: monospace"
    return f'<div style="{style}">{"".join(parts)}</div>'


def framed(page: str) -> str:
    """A whole page as HTML that can be shown within another."""
    return (
        f'<iframe srcdoc="{html.escape(page)}" width="100%" height="{_HEIGHT}" '
        'style="border: 1px solid #ccc"></iframe>'
    )
