"""The page of an inspection: one HTML file that needs no network and opens from the disk.

The page (`page.html` with `page.css` and `page.js`) draws what it finds in one JSON object: small
facts as they are, arrays over the text as gzipped little-endian numbers in base64. All cells of a
large network would make it huge, so it holds the most telling ones and says what was left out.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.errors import OptionError
from keras_charlm.files import replace_file
from keras_charlm.inspection.inspect import Inspection

BYTES = 3_000_000  # of a page with the default number of cells


LEAST = 24  # cells that are kept however long the text is


_FOLLOWERS = 4  # of each probe, before cells are taken by how much they vary


_PERMILLE, _HUNDREDTHS = 1000, 100  # units of probabilities and of surprise on the page


def write(found: Inspection, path: str | Path, *, overwrite: bool = False) -> dict[str, int]:
    """Write the page of an inspection.

    Args:
        found: What `inspect` found.
        path: The .html file.
        overwrite: Replace what is there.

    Returns:
        `bytes` of the page, `cells` in it and `left_out`.

    Raises:
        OptionError: The file exists, or cannot be written.
    """
    path = Path(path)
    check_place(path, overwrite)
    kept = choose(found)
    content = page(found, kept).encode("utf-8")
    try:
        replace_file(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        raise OptionError(
            f"{path} cannot be written ({error.strerror or error}); name another file."
        ) from error
    cells = found.values.shape[0] * found.values.shape[1]
    return {"bytes": len(content), "cells": len(kept), "left_out": cells - len(kept)}


def summary(path: str | Path, report: dict[str, int]) -> str:
    """What `write` reported, as a line for people."""
    left_out = f"; {report['left_out']:,} left out" if report["left_out"] else ""
    return f"page: {path} ({report['bytes'] / 1e6:.1f} MB, {report['cells']:,} cells{left_out})"


def check_place(path: Path, overwrite: bool) -> None:
    """Raise OptionError where a page cannot be put, before any work is done."""
    if path.is_dir():
        raise OptionError(f"{path} is a folder; name a file in it.")
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise OptionError(f"{path} exists; name another file, or replace it with --overwrite.")
    if not path.parent.is_dir():
        raise OptionError(
            f"There is no folder {path.parent} for {path.name}; make it, or name another."
        )


def choose(found: Inspection) -> list[int]:
    """The cells for the page, most telling first, counted through all layers.

    The best of each probe, those held at zero, a few followers of each probe, and then those that
    vary most; as many as `config.cells` says or the page's size allows.
    """
    values = found.values.reshape(-1, len(found.codes))  # (C, T)
    probes = [f for f in found.search.ordered() if f.found]
    order = [f.cell for f in probes]
    order += [a.layer * found.values.shape[1] + a.cell for a in found.ablations]
    for finding in probes:
        followers = np.flatnonzero(finding.follows())
        order += followers[np.argsort(-np.abs(finding.second[followers]))][:_FOLLOWERS].tolist()
    order += np.argsort(-values.std(axis=1), kind="stable").tolist()
    order = list(dict.fromkeys(order))
    if found.config.cells:
        return order[: found.config.cells]
    room = BYTES - 15 * len(found.codes)  # about what text, guesses and surprise take
    for count, cell in enumerate(order):
        room -= len(gzip.compress(values[cell].tobytes(), 6)) * 4 / 3
        if room < 0 and count >= LEAST:
            return order[:count]
    return order


def page(found: Inspection, cells: list[int]) -> str:
    """The page as one HTML text.

    Args:
        found: What `inspect` found.
        cells: Which cells to keep, counted through all layers; the page opens on the first.
    """
    files = resources.files(__package__)
    script, style = (
        files.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("js", "css")
    )
    # "<" may not appear in a script element: what the text says must not end it.
    data = json.dumps(_data(found, cells), ensure_ascii=False).replace("<", "\\u003c")
    data = data.encode("utf-8", "backslashreplace").decode("utf-8")  # lone surrogates
    values = {
        "title": html.escape(f"Inside {found.model['name']}"),
        "script-hash": _hash(script),
        "style-hash": _hash(style),
        "style": style,
        "script": script,
        "data": data,
    }
    # Filled in one after the other from the template's pieces: a value may hold "{{".
    pieces = files.joinpath("page.html").read_text(encoding="utf-8").split("{{")
    out = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("}}", 1)
        out += [values[name], rest]
    return "".join(out)


def _data(found: Inspection, cells: list[int]) -> dict[str, Any]:
    values = found.values.reshape(-1, len(found.codes))
    saturation = np.stack(list(found.saturation.values())) if found.saturation else np.zeros(0)
    facts = found.to_dict()
    return {
        **{
            name: facts[name]
            for name in (
                "model",
                "text",
                "characters",
                "left_out",
                "unknown_characters",
                "bits_per_character",
                "value",
                "level",
                "tested",
                "shifts",
                "ablations",
            )
        },
        "unit": found.unit,
        "guesses": found.guesses.shape[1],
        "cells": [_cell(found, index) for index in cells],
        "probes": [
            {
                **_probe(found, finding),
                "cells": int(finding.follows().sum()) if finding.cell is not None else 0,
            }
            for finding in found.search.ordered()
        ],
        "gates": list(found.saturation),
        "arrays": {
            "codes": _pack(found.codes, "<i4"),
            "values": _pack(values[cells], "<i1"),
            "guesses": _pack(found.guesses.T, "<i4"),
            "probabilities": _pack(np.rint(_PERMILLE * found.guess_probabilities).T, "<u2"),
            "surprise": _pack(np.rint(_HUNDREDTHS * np.minimum(found.surprise, 650)), "<u2"),
            "saturation": _pack(np.rint(_PERMILLE * saturation), "<u2"),
        },
    }


def _cell(found: Inspection, index: int) -> dict[str, Any]:
    layer, cell = found.place(index)
    finding = found.search.best_of(index)
    about = {"layer": layer, "cell": cell, "probe": None}
    if finding is not None:
        about |= {
            "probe": finding.name,
            "kind": finding.kind,
            "follows": bool(finding.follows()[index] or (finding.found and finding.cell == index)),
            "first": float(finding.first[index]),
            "second": float(finding.second[index]),
            "chance": finding.chance,
        }
    return about


def _probe(found: Inspection, finding: Any) -> dict[str, Any]:
    layer, cell = (None, None) if finding.cell is None else found.place(finding.cell)
    return {
        "name": finding.name,
        "kind": finding.kind,
        "found": finding.found,
        "layer": layer,
        "cell": cell,
        "first": finding.score("first"),
        "second": finding.score("second"),
        "chance": finding.chance,
        "untested": finding.untested,
    }


def _pack(array: np.ndarray, dtype: str) -> str:
    """Numbers as gzipped little-endian bytes in base64."""
    return base64.b64encode(gzip.compress(array.astype(dtype).tobytes(), 9, mtime=0)).decode()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
