"""What a trained network does while it reads: its cells, gates, guesses and surprise.

The network is run in NumPy, one character after the other from the text's beginning, so that every
gate can be seen and a cell can be held at zero. Layers and cells are counted from 0, as in the
arrays and in the Keras model (`lstm_0`, `lstm_1`, ...).

Letters in shapes: T characters of the text, L layers, U cells a layer, V ids of the vocabulary, K
guesses, n steps of a piece, B copies of the network that read side by side, G columns of a kernel
(4U for LSTM, 3U for GRU, U for plain layers).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.config import InspectConfig
from keras_charlm.errors import OptionError
from keras_charlm.inspection import probes
from keras_charlm.inspection.activations import GUESSES, NumpyNetwork, likeliest, read_codes
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.vocabulary import UNKNOWN

LEFT, RIGHT = 0.1, 0.9  # a gate below the one is left-saturated, above the other right-saturated


_SIDE_BY_SIDE = 16  # copies that read at a time, each with another cell held at zero


@dataclass(frozen=True)
class Ablation:
    """What it costs to hold a cell at zero while the text is read.

    Attributes:
        layer, cell: Which.
        bits: Bits per character more than the whole network, over all characters.
        probe: The probe that the cell scored best on, or None where no probe was tried.
        inside, outside: Bits per character more, of the characters that follow one where the
            probe's feature holds (a number: is above its median), and of the others.
        inside_characters: How many the former are.
    """

    layer: int
    cell: int
    bits: float
    probe: str | None = None
    inside: float | None = None
    outside: float | None = None
    inside_characters: int = 0


@dataclass(frozen=True)
class Inspection:
    """All that `inspect` found: the data of the page and of --json.

    Attributes:
        model: Name, cell, layers, units and more of the model.
        unit: char or byte.
        name: What the text is called.
        left_out: Characters of the file behind those that were read.
        unknown: How many of the characters the model has never seen.
        codes, surprise, guesses, guess_probabilities: As in Activations.
        shown: What `values` are: `cell`, the tanh of an LSTM's cell state, or `hidden`.
        values: int8 (L, U, T), 127 times the activation of each cell: it runs from -1 to 1, and
            going through a text cell by cell is what probing and drawing do.
        saturation: {gate: float32 (2, L, U)}, the share of characters at which the gate of a cell
            is left-saturated (below 0.1) and right-saturated (above 0.9).
        search: What the probes found.
        ablations: What cells cost that were held at zero.
    """

    model: dict[str, Any]
    unit: str
    name: str
    left_out: int
    unknown: int
    codes: np.ndarray
    surprise: np.ndarray
    guesses: np.ndarray
    guess_probabilities: np.ndarray
    shown: str
    values: np.ndarray
    saturation: dict[str, np.ndarray]
    search: probes.Search
    ablations: tuple[Ablation, ...]
    config: InspectConfig

    @property
    def bits_per_character(self) -> float:
        return float(self.surprise.mean(dtype=np.float64))

    def place(self, index: int) -> tuple[int, int]:
        """Layer and cell of a cell counted through all layers."""
        return divmod(index, self.values.shape[1])

    def to_dict(self) -> dict[str, Any]:
        """The findings as a JSON object, without the arrays over the text."""
        labels = self.search.labels()
        cells = []
        for index, label in enumerate(labels):
            layer, cell = self.place(index)
            finding = None if label is None else self.search.findings[label]
            cells.append(
                {
                    "layer": layer,
                    "cell": cell,
                    "probe": finding and finding.name,
                    "first_half": finding and _number(finding.first[index]),
                    "second_half": finding and _number(finding.second[index]),
                    "gates": {
                        name: {
                            "left_saturated": _number(values[0, layer, cell]),
                            "right_saturated": _number(values[1, layer, cell]),
                        }
                        for name, values in self.saturation.items()
                    },
                }
            )
        found = []
        for finding in self.search.findings:
            layer, cell = (None, None) if finding.cell is None else self.place(finding.cell)
            found.append(
                {
                    "probe": finding.name,
                    "kind": finding.kind,
                    "found": finding.found,
                    "layer": layer,
                    "cell": cell,
                    "first_half": finding.score("first"),
                    "second_half": finding.score("second"),
                    "chance": _number(finding.chance),
                    "untested": finding.untested,
                }
            )
        return {
            "model": self.model,
            "text": self.name,
            "characters": len(self.codes),
            "left_out": self.left_out,
            "unknown_characters": self.unknown,
            "bits_per_character": self.bits_per_character,
            "value": self.shown,
            "level": self.search.level,
            "tested": self.search.tested,
            "shifts": self.search.shifts,
            "probes": found,
            "ablations": [vars(ablation) for ablation in self.ablations],
            "cells": cells,
        }


def _number(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)


def inspect(
    model: TrainedModel | str | Path,
    text: str | bytes | Path,
    *,
    name: str | None = None,
    probe: Sequence[str] = (),
    ablate: Sequence[str] = (),
    **settings: Any,
) -> Inspection:
    """Read a text, and find out which cells follow a known feature of it.

    Args:
        model: A model, its folder, or its name under saved_models/.
        text: The text itself, or the Path of a file, which is read as the corpus was.
        name: What to call the text; by default the file's name.
        probe: Regular expressions; what they match are features beside the known ones.
        ablate: Cells to hold at zero, as 'LAYER:CELL'.
        **settings: Fields of InspectConfig.

    Returns:
        The findings; `inspector.write` makes a page of them.

    Raises:
        BundleError, CorpusError: The model or text cannot be read, or the text is empty.
        OptionError: A setting, an expression or a cell is wrong.

    Example:
        >>> found = inspect("saved_models/code", Path("main.c"), ablate=["1:37"])
        >>> print(summary(found))
    """
    config = InspectConfig.of("inspect", settings, "ablate", "probe")
    for pattern in probe:
        probes.check(pattern)
    places = [_place(value) for value in ablate]
    opened = TrainedModel.of(model)
    shape = opened.card.model
    for value, (layer, cell) in zip(ablate, places, strict=True):
        if layer >= shape.layers or cell >= shape.units:
            raise OptionError(
                f"There is no cell {value}; layers go from 0 to {shape.layers - 1} "
                f"and cells from 0 to {shape.units - 1}."
            )
    codes = read_codes(opened, text)
    left_out = max(len(codes) - config.characters, 0)
    codes = codes[: config.characters]
    network = NumpyNetwork.of(opened)
    ids = opened.vocabulary.lookup(codes)
    size, layers, units = len(codes), len(network.layers), network.units
    shown = config.value if network.kind == "lstm" else "hidden"
    values = np.empty((layers, units, size), np.int8)
    surprise = np.empty(size, np.float32)
    top = np.empty((size, min(GUESSES, network.vocabulary - 1)), np.int64)
    likely = np.empty(top.shape, np.float32)
    saturated = {name: np.zeros((2, layers, units)) for name in network.gates}
    at = 0
    for piece in network.read(ids):
        here = slice(at, at := at + len(piece.surprise))
        surprise[here] = piece.surprise[:, 0]
        top[here], likely[here] = likeliest(piece.probabilities[:, 0], top.shape[1])
        value = np.tanh(piece.cell) if shown == "cell" else piece.hidden
        values[:, :, here] = np.rint(127 * value[:, 0]).transpose(1, 2, 0)
        for kind, gate in piece.gates.items():
            saturated[kind] += np.stack([gate < LEFT, gate > RIGHT]).sum((1, 2))
    features = probes.features(opened.vocabulary.from_codes(codes), probe)
    search = probes.search(values.reshape(-1, size), features, config.level)
    ablations = _ablate(network, ids, surprise, places, features, search)
    return Inspection(
        model=_about(opened),
        unit=opened.vocabulary.unit,
        name=name or (text.name if isinstance(text, Path) else "the text"),
        left_out=left_out,
        unknown=int((ids == UNKNOWN).sum()),
        codes=codes,
        surprise=surprise,
        guesses=np.array((-1, *opened.vocabulary.codes))[top],
        guess_probabilities=likely,
        shown=shown,
        values=values,
        saturation={kind: (sums / size).astype(np.float32) for kind, sums in saturated.items()},
        search=search,
        ablations=ablations,
        config=config,
    )


def _ablate(
    network: NumpyNetwork,
    ids: np.ndarray,
    surprise: np.ndarray,
    places: Sequence[tuple[int, int]],
    features: dict[str, np.ndarray],
    search: probes.Search,
) -> tuple[Ablation, ...]:
    found = []
    for at in range(0, len(places), _SIDE_BY_SIDE):
        group = places[at : at + _SIDE_BY_SIDE]
        read = np.concatenate([piece.surprise for piece in network.read(ids, group)])  # (T, B)
        for (layer, cell), bits in zip(group, read.T, strict=True):
            cost = bits.astype(np.float64) - surprise
            finding = search.best_of(layer * network.units + cell)
            if finding is None:
                found.append(Ablation(layer, cell, float(cost.mean())))
                continue
            values = features[finding.name]
            holds = values if values.dtype == bool else values > np.median(values)
            # What is known after a character bears on the next one.
            inside = np.concatenate([[False], holds[:-1]])
            found.append(
                Ablation(
                    layer,
                    cell,
                    float(cost.mean()),
                    finding.name,
                    float(cost[inside].mean()),
                    float(cost[~inside].mean()),
                    int(inside.sum()),
                )
            )
    return tuple(found)


def summary(found: Inspection) -> str:
    """The findings as a few lines for people."""
    width = max([len(f.name) for f in found.search.findings] + [20]) + 2
    rows = [f"{'probe':<{width}}{'cell':<8}{'first half':>11}{'held out':>10}{'chance':>8}"]
    for finding in found.search.ordered():
        if finding.found:
            layer, cell = found.place(finding.cell)
            rows.append(
                f"{finding.name:<{width}}{f'{layer}:{cell}':<8}"
                f"{finding.score('first'):>+11.2f}{finding.score('second'):>+10.2f}"
                f"{finding.chance:>8.2f}"
            )
    rest = [f for f in found.search.findings if not f.found]
    for reason in dict.fromkeys(f.untested or "no cell beyond chance" for f in rest):
        names = [f.name for f in rest if (f.untested or "no cell beyond chance") == reason]
        rows.append(f"{reason}: {', '.join(names)}")
    for ablation in found.ablations:
        line = f"without {ablation.layer}:{ablation.cell}: {ablation.bits:+.4f} bits per character"
        if ablation.probe is not None:
            line += (
                f"; {ablation.inside:+.4f} where {ablation.probe} "
                f"({ablation.inside_characters:,} characters), "
                f"{ablation.outside:+.4f} elsewhere"
            )
        rows.append(line)
    return "\n".join(rows)


def _place(value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", str(value), re.ASCII)
    if not match:
        raise OptionError(f"{value!r} names no cell; write LAYER:CELL, counted from 0, e.g. 1:37.")
    return int(match[1]), int(match[2])


def _about(opened: TrainedModel) -> dict[str, Any]:
    card, shape = opened.card, opened.card.model
    return {
        "name": card.name,
        "run": card.run,
        "cell": shape.cell,
        "layers": shape.layers,
        "units": shape.units,
        "parameters": card.parameters,
    }
