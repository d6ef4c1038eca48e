"""Known features of a text, and which cells of a network follow them.

A feature has a value for each character: yes or no, or a number. It says what holds *after* the
character was read, as a cell does: after an opening quote the text is inside quotes, after the
closing one it is not.

How a cell is matched with a feature, without fooling oneself:

1. The score is a rank correlation between -1 and 1 of the cell's activation with the feature: for
   yes or no 2 AUC - 1 (the rank-biserial correlation, Cureton 1956), for numbers Spearman's.
2. For each feature the cell with the highest score, whatever its sign, is chosen on the first half
   of the text. Only this one pair is tested, on the second half, so that the number of cells that
   were compared does not matter there.
3. The control are copies of the feature that are shifted in a circle by evenly spaced distances. A
   shuffled copy would be too easy a rival: activations and features are both alike from one
   character to the next. Were cell and feature unrelated, every shift would be as likely as any
   other to score highest. With S shifts the unshifted feature beats them all with a probability of
   1 / (S + 1), and S is chosen so that this is at most the level divided by the number of features
   (Bonferroni). With a level of 0.05, a network in which there is nothing to find gives any finding
   in at most one text of twenty.
4. A found cell must also score above `chance`: the highest score on the second half of any cell at
   all with a copy shifted by at least an eighth of it. Other cells are named after a feature only
   where one was found for it, and where they score above its chance and above 0.5 on the second
   half, with the same sign as on the first.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_charlm.errors import OptionError

SECONDS = 10.0  # that a user's expression may take


NAMED = 0.5  # least score of a cell that is named after a feature: an AUC of 0.75


_BLOCK = 128  # cells scored at a time


def _spans(text: str, spans: Iterator[tuple[int, int]], closed: bool = True) -> np.ndarray:
    """Yes along the spans; of those that are closed, but for the last character, after which the
    text is outside."""
    inside = np.zeros(len(text), bool)
    for start, stop in spans:
        inside[start : stop - closed] = True
    return inside


def _within(pattern: str, closed: bool = True) -> Callable[[str], np.ndarray]:
    """Inside what the expression's group matches; what it matches beside the group is passed by."""
    compiled = re.compile(pattern)
    return lambda text: _spans(text, (m.span(1) for m in compiled.finditer(text) if m[1]), closed)


def _each(test: Callable[[str], bool]) -> Callable[[str], np.ndarray]:
    return lambda text: np.fromiter(map(test, text), bool, len(text))


def _pairs(text: str, opening: str, closing: str) -> Iterator[tuple[int, int]]:
    """Spans of matched brackets; a round or square one does not reach over an empty line."""
    opened: list[int] = []
    for at, char in enumerate(text):
        if char == opening:
            opened.append(at)
        elif char == closing and opened:
            yield opened.pop(), at + 1
        elif char == "\n" and opening != "{" and text[at - 1 : at] == "\n":
            opened.clear()


def _brackets(pair: str) -> Callable[[str], np.ndarray]:
    return lambda text: _spans(text, _pairs(text, *pair))


def _depth(text: str) -> np.ndarray:
    change = np.zeros(len(text) + 1, np.int32)
    for pair in ("()", "[]", "{}"):
        for start, stop in _pairs(text, *pair):
            change[start] += 1
            change[stop - 1] -= 1
    return change[:-1].cumsum().astype(np.float32)


def _position(text: str) -> np.ndarray:
    """Characters read since the last newline."""
    at = np.arange(len(text))
    newline = _each("\n".__eq__)(text)
    return (at - np.maximum.accumulate(np.where(newline, at, -1))).astype(np.float32)


def _to_newline(text: str) -> np.ndarray:
    """Characters that are still to come before the next newline."""
    return _position(text[::-1])[::-1].copy()


def _indentation(text: str) -> np.ndarray:
    """Blanks at the beginning of the line, as far as it was read."""
    found = np.zeros(len(text), np.float32)
    for match in re.finditer(r"([ \t]*)[^\n]*", text):
        start, stop = match.span()
        blanks = match.end(1) - start
        found[start:stop] = np.minimum(np.arange(1, stop - start + 1), blanks)
    return found


def _word_start(text: str) -> np.ndarray:
    letter = _each(str.isalpha)(text)
    return letter & ~np.concatenate([[False], letter[:-1]])


# What a probe looks for. A quote closes on its line or else within its paragraph, so that one that
# is never closed does not turn the rest of the text inside out.
PROBES: dict[str, Callable[[str], np.ndarray]] = {
    "inside double quotes": _within(
        r'"""[\s\S]*?"""|("(?:\\.|[^"\\\n])*"|"(?:\\.|[^"\\\n]|\n(?!\n))*"|“[^“”]*”)'
    ),
    "inside single quotes": _within(r"'{3}[\s\S]*?'{3}|(?<!\w)('(?:\\.|[^'\\\n])+')(?!\w)"),
    "inside triple quotes": _within("(\"{3}[\\s\\S]*?\"{3}|'{3}[\\s\\S]*?'{3})"),
    "inside ( )": _brackets("()"),
    "inside [ ]": _brackets("[]"),
    "inside { }": _brackets("{}"),
    "bracket depth": _depth,
    "position in the line": _position,
    "distance to the newline": _to_newline,
    "indentation": _indentation,
    "inside a # comment": _within(r"(?:(?<=\s)|^)(#[^\n]*)", closed=False),
    "inside a // comment": _within(r"(?<!:)(//[^\n]*)", closed=False),
    "inside a /* */ comment": _within(r"(/\*[\s\S]*?\*/)"),
    "inside a <!-- --> comment": _within(r"(<!--[\s\S]*?-->)"),
    "inside a URL": _within(r"((?:https?://|ftp://|www\.)[^\s<>\"'\])}|]+)", closed=False),
    "inside a speaker's name": _within(
        r"(?:(?<=\n\n)|\A)([A-Z][^\n:.,;!?]{0,40}:)(?=\n)", closed=False
    ),
    "at a word's start": _word_start,
    "at a letter": _each(str.isalpha),
    "at a digit": _each(str.isdigit),
    "at a capital": _each(str.isupper),
    "at white space": _each(str.isspace),
}


# These are read off the last character or two and need no memory; the page opens on another one.
LOCAL = {"at a word's start", "at a letter", "at a digit", "at a capital", "at white space"}


def features(text: str | bytes, patterns: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The features of a text.

    Args:
        text: T characters, or the bytes of a byte model.
        patterns: A user's regular expressions; their feature holds on every character they match.

    Returns:
        By name: bool (T,), or float32 (T,) for numbers.

    Raises:
        OptionError: An expression is none, or takes longer than ten seconds.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")  # a character for each byte
    found = {name: feature(text) for name, feature in PROBES.items()}
    for pattern in patterns:
        holds = np.zeros(len(text), bool)
        for start, stop in _matches(pattern, text):
            holds[start:stop] = True
        found[pattern] = holds
    return found


def check(pattern: str) -> None:
    """Raise OptionError unless `pattern` is a regular expression."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise OptionError(
            f"The probe {pattern!r} is no regular expression ({error}); correct it, "
            "as Python's re writes them."
        ) from None


_FIND = """
import json, re, sys, warnings
warnings.simplefilter("ignore")
pattern, text = json.load(sys.stdin)
json.dump([m.span() for m in re.finditer(pattern, text)], sys.stdout)
"""


def _matches(pattern: str, text: str) -> list[tuple[int, int]]:
    """Where an expression matches, found in a process of its own: a bad one can take forever, and
    only a process can be stopped."""
    check(pattern)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _FIND],
            timeout=SECONDS,
            check=True,
            capture_output=True,
            text=True,
            input=json.dumps([pattern, text]),
        )
    except subprocess.TimeoutExpired:
        raise OptionError(
            f"The probe {pattern!r} took longer than {SECONDS:g} seconds; write it "
            "without nested repetitions, or read fewer --characters."
        ) from None
    except subprocess.CalledProcessError as error:
        raise OptionError(
            f"The probe {pattern!r} failed on the text "
            f"({error.stderr.strip().splitlines()[-1]}); write a simpler one."
        ) from None
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Finding:
    """What a search found for a feature; C cells are counted through all layers.

    Attributes:
        name: The feature's.
        kind: 'yes or no' or 'number'.
        first, second: float32 (C,), each cell's score on the halves of the text; None if untested.
        cell: The best cell on the first half.
        chance: The highest score of any cell on the second half with a shifted copy.
        found: Whether the best cell passed the test.
        untested: Why the feature was not tested, or None.
    """

    name: str
    kind: str
    first: np.ndarray | None = None
    second: np.ndarray | None = None
    cell: int | None = None
    chance: float | None = None
    found: bool = False
    untested: str | None = None

    def score(self, half: str) -> float | None:
        """The best cell's score on the `first` or `second` half."""
        return None if self.cell is None else round(float(getattr(self, half)[self.cell]), 4)

    def follows(self) -> np.ndarray:
        """Which cells are named after the feature, bool (C,)."""
        same = np.sign(self.first) == np.sign(self.second)
        named = same & (np.abs(self.second) > max(self.chance, NAMED))
        return named & self.found

    @property
    def margin(self) -> float:
        """How far the best cell's score on the second half is above chance."""
        return -1.0 if self.cell is None else abs(float(self.second[self.cell])) - self.chance


@dataclass(frozen=True)
class Search:
    """The findings of all features.

    Attributes:
        findings: In the order of the features.
        level: The probability of any finding where there is nothing to find, at most.
        tested: Number of features that were tested.
        shifts: Number of shifted copies of each that were the control.
    """

    findings: tuple[Finding, ...]
    level: float
    tested: int
    shifts: int

    def ordered(self) -> list[Finding]:
        """Findings with the best first: by their margin above chance, the local ones last."""
        return sorted(
            self.findings, key=lambda f: (not f.found, f.cell is None, f.name in LOCAL, -f.margin)
        )

    def labels(self) -> list[int | None]:
        """For each cell the finding that it follows best, or None if it follows none, (C,)."""
        found = [f for f in self.findings if f.found]
        if not found:
            return [None] * next((len(f.first) for f in self.findings if f.first is not None), 0)
        scores = np.array([np.where(f.follows(), np.abs(f.first), 0) for f in found])  # (F, C)
        best = scores.argmax(axis=0)
        return [
            self.findings.index(found[i]) if scores[i, c] > 0 else None for c, i in enumerate(best)
        ]

    def best_of(self, cell: int) -> Finding | None:
        """The feature that a cell follows best, or else scores best on, in the first half."""
        tested = [f for f in self.findings if f.cell is not None]
        return max(
            tested, default=None, key=lambda f: (bool(f.follows()[cell]), abs(float(f.first[cell])))
        )


def search(values: np.ndarray, features: dict[str, np.ndarray], level: float = 0.05) -> Search:
    """Find the cells that follow features, as described at the top of this file.

    Args:
        values: int8 (C, T), activations.
        features: By name bool or float32 (T,).
        level: The probability of any finding where there is nothing to find, at most.

    Returns:
        What was found.
    """
    half = values.shape[1] // 2
    halves = slice(0, half), slice(half, 2 * half)
    varied = [
        name
        for name, feature in features.items()
        if half and all(np.ptp(feature[part].astype(np.float32)) > 0 for part in halves)
    ]
    shifts = math.ceil(len(varied) / level) - 1
    enough = half >= 4 * (shifts + 1)
    cells = values.any(axis=1).sum() > 0
    findings = []
    for name, feature in features.items():
        kind = "yes or no" if feature.dtype == bool else "number"
        if name not in varied:
            findings.append(Finding(name, kind, untested="not in both halves of the text"))
        elif not (enough and cells):
            findings.append(Finding(name, kind, untested="the text is too short to tell"))
        else:
            findings.append(_search(values, feature, halves, shifts, name, kind))
    return Search(tuple(findings), level, len(varied) if enough else 0, shifts if enough else 0)


def _search(values, feature, halves, shifts, name, kind) -> Finding:
    first, second = halves
    size = second.stop - second.start
    scores = _scores(values[:, first], feature[first], np.array([0]))[:, 0]  # (C,)
    at = np.rint(np.arange(shifts + 1) * size / (shifts + 1)).astype(np.int64)  # at[0] is 0
    held_out = _scores(values[:, second], feature[second], at)  # (C, shifts + 1)
    cell = int(np.abs(scores).argmax())
    far = (at >= size / 8) & (at <= size * 7 / 8)
    chance = float(np.abs(held_out[:, far]).max())
    same_sign = np.sign(scores[cell]) * held_out[cell]
    found = bool(same_sign[0] > max(same_sign[1:].max(), chance))
    return Finding(name, kind, scores, held_out[:, 0], cell, chance, found)


def _scores(values: np.ndarray, feature: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Rank correlations of cells with a feature, shifted in a circle.

    Args:
        values: int8 (C, N).
        feature: bool or float32 (N,), not constant.
        shifts: int64 (S,).

    Returns:
        float32 (C, S).
    """
    size = len(feature)
    if feature.dtype == bool:
        # Difference of the mean ranks of yes and no, over half the number of ranks: 2 AUC - 1.
        yes = feature.mean()
        weights = (feature - yes) / (yes * (1 - yes)) * 2 / size**2
    else:
        _, inverse, counts = np.unique(feature, return_inverse=True, return_counts=True)
        weights = (counts.cumsum() - counts / 2)[inverse] - size / 2
        weights /= np.linalg.norm(weights)
    doubled = np.concatenate([weights, weights]).astype(np.float32)
    rolled = np.lib.stride_tricks.sliding_window_view(doubled, size)[(size - shifts) % size].T
    found = np.empty((len(values), len(shifts)), np.float32)
    for at in range(0, len(values), _BLOCK):
        ranks = np.stack([_ranks(row) for row in values[at : at + _BLOCK]])
        if feature.dtype != bool:
            ranks /= np.maximum(np.linalg.norm(ranks, axis=1, keepdims=True), 1e-9)
        found[at : at + _BLOCK] = ranks @ rolled
    return found


def _ranks(row: np.ndarray) -> np.ndarray:
    """Ranks of int8 values (N,), ties at their mean, about zero: float32 (N,)."""
    index = row.view(np.uint8) ^ 128  # in the order of the values
    counts = np.bincount(index, minlength=256)
    table = counts.cumsum() - counts / 2 - len(row) / 2
    return table.astype(np.float32)[index]
