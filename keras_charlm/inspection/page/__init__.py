"""The page of an inspection: one self-contained HTML file that needs no network.

The page (`page.html` with `page.css` and the scripts) draws the content of one JSON object: facts
as plain values, arrays over the text as gzipped little-endian numbers in base64. All cells of a
large network would make it huge, so it contains a selection and says how many were left out.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from keras_charlm import templates
from keras_charlm.files import check_output, write_file, writing
from keras_charlm.inspection.inspect import Inspection
from keras_charlm.inspection.probes import PLAIN, Finding, Untested
from keras_charlm.notebook import framed

BYTES = 3_000_000  # target size of a page with the default number of cells
LEAST = 24  # minimum number of cells, however long the text is
_FOLLOWERS = 4  # cells of each probe that come before the others, which are ordered by variation
_PERMILLE, _HUNDREDTHS = 1000, 100  # units of probabilities and of surprise on the page
_SCRIPTS = ("page.data.js", "page.rows.js", "page.text.js", "page.panels.js", "page.start.js")


def write(found: Inspection, path: str | Path, *, overwrite: bool = False) -> dict[str, int]:
    """Write the page of an inspection.

    Args:
        found: The result of `inspect`.
        path: The .html file.
        overwrite: Replace an existing file.

    Returns:
        `bytes` of the page, `cells` in it and `left_out`.

    Raises:
        OptionError: The file exists, or cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite)
    kept = choose(found)
    content = page(found, kept).encode("utf-8")
    with writing(path):
        write_file(path, content)
    cells = found.values.shape[0] * found.values.shape[1]
    return {"bytes": len(content), "cells": len(kept), "left_out": cells - len(kept)}


def summary(path: str | Path, report: dict[str, int]) -> str:
    """The result of `write` as a line for the terminal."""
    left_out = f"; {report['left_out']:,} left out" if report["left_out"] else ""
    return f"page: {path} ({report['bytes'] / 1e6:.1f} MB, {report['cells']:,} cells{left_out})"


class Inside(Inspection):
    """An inspection that a notebook shows as its page."""

    def _repr_html_(self) -> str:
        return framed(page(self, choose(self)))


def choose(found: Inspection) -> list[int]:
    """Choose the cells for the page, most important first, as indices over all layers.

    They are the best of each probe, the ablated ones, a few followers of each probe, and then those
    that vary most; as many as `config.cells` says or the page's target size allows.
    """
    values = found.values.reshape(-1, len(found.codes))  # (C, T)
    findings = [f for f in found.search.ordered() if f.found]
    order = [f.cell for f in findings]
    order += [a.layer * found.values.shape[1] + a.cell for a in found.ablations]
    for finding in findings:
        followers = np.flatnonzero(finding.follows())
        order += followers[np.argsort(-np.abs(finding.second[followers]))][:_FOLLOWERS].tolist()
    order += np.argsort(-values.std(axis=1), kind="stable").tolist()
    order = list(dict.fromkeys(order))
    if found.config.cells:
        return order[: found.config.cells]
    room: float = BYTES - 15 * len(found.codes)  # about the size of text, guesses and surprise
    for count, cell in enumerate(order):
        room -= len(gzip.compress(values[cell].tobytes(), 6)) * 4 / 3
        if room < 0 and count >= LEAST:
            return order[:count]
    return order


def page(found: Inspection, cells: list[int]) -> str:
    """Render the page as HTML.

    Args:
        found: The result of `inspect`.
        cells: The cells to include, as indices over all layers; the page opens on the first.
    """
    files = resources.files(__name__)
    style = files.joinpath("page.css").read_text(encoding="utf-8")
    script = "\n".join(files.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS)
    # "<" must be escaped in a script element, or the text could end the element.
    data = json.dumps(_data(found, cells), ensure_ascii=False).replace("<", "\\u003c")
    data = data.encode("utf-8", "backslashreplace").decode("utf-8")  # lone surrogates
    return templates.render(
        __package__,
        "page.html",
        escape=True,
        title=f"Inside {found.model['name']}",
        script_hash=Markup(_hash(script)),
        style_hash=Markup(_hash(style)),
        style=Markup(style),
        script=Markup(script),
        data=Markup(data),
    )


def _data(found: Inspection, cells: list[int]) -> dict[str, Any]:
    """The JSON object that the page draws."""
    values = found.values.reshape(-1, len(found.codes))
    saturation = np.stack(list(found.saturation.values())) if found.saturation else np.zeros(0)
    facts = found.to_dict()
    del facts["cells"], facts["probes"]
    labels = found.search.labels() or [None] * len(values)
    return {
        **facts,
        "unit": found.unit,
        "guesses": found.guesses.shape[1],
        "cells": [_cell(found, index, labels[index]) for index in cells],
        "probes": [
            *(_probe(found, finding) for finding in found.search.ordered()),
            *(_untested(result) for result in found.search.untested),
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


def _cell(found: Inspection, index: int, label: Finding | None) -> dict[str, Any]:
    """A cell and the feature that it is labelled with, or else scores best on."""
    layer, cell = found.locate(index)
    about: dict[str, Any] = {"layer": layer, "cell": cell, "follows": label is not None}
    finding = label or found.search.best_of(index)
    about |= _score(finding, index) if finding else {"feature": None}
    return about if label else about | {"sign": 1}


def _probe(found: Inspection, finding: Finding) -> dict[str, Any]:
    """A feature and its best cell."""
    layer, cell = found.locate(finding.cell)
    return {
        "found": finding.found,
        "plain": finding.name in PLAIN,
        "layer": layer,
        "cell": cell,
        "untested": None,
        **_score(finding, finding.cell),
    }


def _score(finding: Finding, index: int) -> dict[str, Any]:
    """How well a cell follows a feature; `sign` makes the feature positive."""
    return {
        "feature": finding.name,
        "kind": finding.kind,
        "first": float(finding.first[index]),
        "second": float(finding.second[index]),
        "chance": finding.chance,
        "match": finding.match(index),
        "sign": finding.sign(index),
    }


def _untested(result: Untested) -> dict[str, Any]:
    return {"feature": result.name, "found": False, "untested": result.reason}


def _pack(array: np.ndarray, dtype: str) -> str:
    """Numbers as gzipped little-endian bytes in base64."""
    return base64.b64encode(gzip.compress(array.astype(dtype).tobytes(), 9, mtime=0)).decode()


def _hash(text: str) -> str:
    """The hash that allows an inline script or style in the page's Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
