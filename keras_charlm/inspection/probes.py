"""Known features of a text, and which cells of a network follow them.

A feature has a value for each character, either yes or no, or a number. Like a cell's activation,
it is the value *after* the character was read: after an opening quote the text is inside quotes,
after the closing one it is not.

How a cell is matched with a feature:

1. The score is a rank correlation between -1 and 1 of the cell's activation with the feature:
   2 AUC - 1 (the rank-biserial correlation, Cureton 1956) for yes or no, Spearman's for numbers.
2. For each feature, the cell with the highest absolute score on the first half of the text is
   chosen. Only this pair is tested, on the second half, so that the number of cells compared does
   not affect the test.
3. The control is a set of copies of the feature, shifted circularly by evenly spaced distances. A
   shuffled copy would be too weak a control, because activations and features both change slowly
   from one character to the next. If cell and feature were unrelated, each shift would be equally
   likely to score highest. With S shifts the unshifted feature beats them all with a probability of
   1 / (S + 1), and S is chosen so that this is at most the level divided by the number of features
   (Bonferroni). With a level of 0.05, a network in which no cell follows any feature gives a
   finding on at most one text in twenty.
4. The cell must also score above `chance`: the highest absolute score on the second half of any
   cell with a copy shifted by at least an eighth of its length. Other cells are labelled with a
   feature only if a cell was found for it, and if they score above its chance and above 0.5 on the
   second half, with the same sign as on the first.
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

from keras_charlm.errors import OptionError, brief

SECONDS = 10.0  # time limit of a user's expression
LABELLED = 0.5  # minimum score of a cell to be labelled with a feature: an AUC of 0.75
RELIABLE = 0.8  # minimum score of a reliable match: an AUC of 0.9
MARGIN = 0.2  # minimum distance to chance of a reliable or fair match
MATCHES = ("reliable", "fair", "weak")
_BLOCK = 128  # cells scored at a time


def _spans(text: str, spans: Iterator[tuple[int, int]], closed: bool = True) -> np.ndarray:
    """True within the spans, bool (len(text),); the last character of a closed span is outside."""
    inside = np.zeros(len(text), bool)
    for start, stop in spans:
        inside[start : stop - closed] = True
    return inside


def _within(pattern: str, closed: bool = True) -> Callable[[str], np.ndarray]:
    """A feature that holds inside the matches of the expression's group, where it matched."""
    compiled = re.compile(pattern)
    return lambda text: _spans(text, (m.span(1) for m in compiled.finditer(text) if m[1]), closed)


def _each(test: Callable[[str], bool]) -> Callable[[str], np.ndarray]:
    return lambda text: np.fromiter(map(test, text), bool, len(text))


def _pairs(text: str, opening: str, closing: str) -> Iterator[tuple[int, int]]:
    """Spans of matching brackets; parentheses and square brackets do not span an empty line."""
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
    """Characters since the last newline."""
    at = np.arange(len(text))
    newline = _each("\n".__eq__)(text)
    return (at - np.maximum.accumulate(np.where(newline, at, -1))).astype(np.float32)


def _to_newline(text: str) -> np.ndarray:
    """Characters up to the next newline."""
    return _position(text[::-1])[::-1].copy()


def _indentation(text: str) -> np.ndarray:
    """Leading blanks of the line, as far as it has been read."""
    width = np.zeros(len(text), np.float32)
    for match in re.finditer(r"([ \t]*)[^\n]*", text):
        start, stop = match.span()
        blanks = match.end(1) - start
        width[start:stop] = np.minimum(np.arange(1, stop - start + 1), blanks)
    return width


def _word_start(text: str) -> np.ndarray:
    letter = _each(str.isalpha)(text)
    return letter & ~np.concatenate([[False], letter[:-1]])


# The feature of each probe. A quote closes on its line or within its paragraph, so that an unclosed
# one does not swap inside and outside for the rest of the text.
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


# These depend on the last one or two characters and need no memory, so they come after the others.
PLAIN = {"at a word's start", "at a letter", "at a digit", "at a capital", "at white space"}


def features(text: str | bytes, patterns: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The features of a text.

    Args:
        text: T characters, or the bytes of a byte model.
        patterns: A user's regular expressions; their feature holds on every character they match.

    Returns:
        Values by feature name: bool (T,), or float32 (T,) for numbers.

    Raises:
        OptionError: An expression is not valid, or takes longer than ten seconds.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")  # a character for each byte
    values = {name: feature(text) for name, feature in PROBES.items()}
    for pattern in patterns:
        holds = np.zeros(len(text), bool)
        for start, stop in _matches(pattern, text):
            holds[start:stop] = True
        values[pattern] = holds
    return values


def check(pattern: str) -> None:
    """Raise OptionError unless `pattern` is a regular expression."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise OptionError(
            f"The probe {brief(repr(pattern))} is not a regular expression ({error}); use the "
            "syntax of Python's re."
        ) from None


_FIND = """
import json, re, sys, warnings
warnings.simplefilter("ignore")
pattern, text = json.load(sys.stdin)
json.dump([m.span() for m in re.finditer(pattern, text)], sys.stdout)
"""


def _matches(pattern: str, text: str) -> list[tuple[int, int]]:
    """Spans that an expression matches.

    The search runs in a separate process, because catastrophic backtracking can take forever and
    only a process can be stopped.
    """
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
            f"The probe {brief(repr(pattern))} took longer than {SECONDS:g} seconds; write it "
            "without nested repetitions, or read fewer --characters."
        ) from None
    except subprocess.CalledProcessError as error:
        raise OptionError(
            f"The probe {brief(repr(pattern))} failed on the text "
            f"({error.stderr.strip().splitlines()[-1]}); write a simpler one."
        ) from None
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Untested:
    """A feature that could not be tested.

    Attributes:
        name: Name of the feature.
        kind: 'yes or no' or 'number'.
        reason: Why it could not be tested.
    """

    name: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Finding:
    """The test result of a feature; the C cells are those of all layers in order.

    Attributes:
        name: Name of the feature.
        kind: 'yes or no' or 'number'.
        first, second: float32 (C,), each cell's score on the halves of the text.
        cell: The best cell on the first half.
        chance: The highest score of any cell on the second half with a shifted copy.
        found: Whether the best cell passed the test.
    """

    name: str
    kind: str
    first: np.ndarray
    second: np.ndarray
    cell: int
    chance: float
    found: bool

    def score(self, half: str) -> float:
        """The best cell's score on the `first` or `second` half."""
        scores = {"first": self.first, "second": self.second}[half]
        return round(float(scores[self.cell]), 4)

    def follows(self) -> np.ndarray:
        """Which cells are labelled with the feature, bool (C,)."""
        same = np.sign(self.first) == np.sign(self.second)
        strong = np.abs(self.second) > max(self.chance, LABELLED)
        return same & strong & self.found

    def sign(self, cell: int) -> int:
        """-1 if the cell is low where the feature holds or is high, 1 otherwise."""
        return -1 if self.second[cell] < 0 else 1

    def match(self, cell: int) -> str:
        """How well a cell follows the feature, by its score on the second half.

        Returns:
            'reliable' from 0.8 and 'fair' from 0.5 on, if that is at least 0.2 above chance;
            otherwise 'weak'.
        """
        score = abs(float(self.second[cell]))
        if score < LABELLED or score - self.chance < MARGIN:
            return "weak"
        return "reliable" if score >= RELIABLE else "fair"


@dataclass(frozen=True)
class Search:
    """The results for all features.

    Attributes:
        results: In the order of the features.
        level: Family-wise error rate: probability of any finding by chance.
        tested: Number of features that were tested.
        shifts: Number of shifted copies of each feature in the control.
    """

    results: tuple[Finding | Untested, ...]
    level: float
    tested: int
    shifts: int

    @property
    def findings(self) -> list[Finding]:
        """The features that were tested."""
        return [result for result in self.results if isinstance(result, Finding)]

    @property
    def untested(self) -> list[Untested]:
        """The features that were not tested."""
        return [result for result in self.results if isinstance(result, Untested)]

    def ordered(self) -> list[Finding]:
        """The tested features, most telling first.

        Found ones come before the others and plain ones after those that need memory; then the
        order is by match and by the score on the second half.
        """

        def rank(finding: Finding) -> tuple[bool, bool, int, float]:
            return (
                not finding.found,
                finding.name in PLAIN,
                MATCHES.index(finding.match(finding.cell)),
                -abs(float(finding.second[finding.cell])),
            )

        return sorted(self.findings, key=rank)

    def labels(self) -> list[Finding | None]:
        """For each of the C cells the feature that it is labelled with, or None."""
        tested = self.findings
        found = [f for f in self.ordered() if f.found]
        if not found:
            return [None] * (len(tested[0].first) if tested else 0)
        scores = np.array([np.where(f.follows(), np.abs(f.first), 0) for f in found])  # (F, C)
        best = scores.argmax(axis=0)
        labels = [found[i] if scores[i, c] > 0 else None for c, i in enumerate(best)]
        for finding in reversed(found):  # the most telling one last: it stays
            labels[finding.cell] = finding
        return labels

    def best_of(self, cell: int) -> Finding | None:
        """The label of a cell, or else the feature that it scores best on in the first half."""
        label = self.labels()[cell] if self.findings else None
        return label or max(self.findings, default=None, key=lambda f: abs(float(f.first[cell])))


def search(values: np.ndarray, features: dict[str, np.ndarray], level: float = 0.05) -> Search:
    """Find the cells that follow features, as described at the top of this file.

    Args:
        values: int8 (C, T), activations.
        features: Values by name, bool or float32 (T,).
        level: Family-wise error rate: probability of any finding by chance.

    Returns:
        A result for each feature.
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
    active = values.any()
    results: list[Finding | Untested] = []
    for name, feature in features.items():
        kind = "yes or no" if feature.dtype == bool else "number"
        if name not in varied:
            results.append(Untested(name, kind, "not in both halves of the text"))
        elif not (enough and active):
            results.append(Untested(name, kind, "the text is too short to tell"))
        else:
            results.append(_test(values, feature, halves, shifts, name, kind))
    return Search(tuple(results), level, len(varied) if enough else 0, shifts if enough else 0)


def _test(
    values: np.ndarray,
    feature: np.ndarray,
    halves: tuple[slice, slice],
    shifts: int,
    name: str,
    kind: str,
) -> Finding:
    """Test cells, int8 (C, T), against a feature (T,) and `shifts` shifted copies of it."""
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
    """Rank correlations of cells with circularly shifted copies of a feature.

    Args:
        values: int8 (C, N).
        feature: bool or float32 (N,), not constant.
        shifts: int64 (S,).

    Returns:
        float32 (C, S).
    """
    size = len(feature)
    if feature.dtype == bool:
        # The mean rank of yes minus that of no, over half the number of ranks: 2 AUC - 1.
        yes = feature.mean()
        weights = (feature - yes) / (yes * (1 - yes)) * 2 / size**2
    else:
        _, inverse, counts = np.unique(feature, return_inverse=True, return_counts=True)
        weights = (counts.cumsum() - counts / 2)[inverse] - size / 2
        weights /= np.linalg.norm(weights)
    doubled = np.concatenate([weights, weights]).astype(np.float32)
    rolled = np.lib.stride_tricks.sliding_window_view(doubled, size)[(size - shifts) % size].T
    scores = np.empty((len(values), len(shifts)), np.float32)
    for at in range(0, len(values), _BLOCK):
        ranks = np.stack([_ranks(row) for row in values[at : at + _BLOCK]])
        if feature.dtype != bool:
            ranks /= np.maximum(np.linalg.norm(ranks, axis=1, keepdims=True), 1e-9)
        scores[at : at + _BLOCK] = ranks @ rolled
    return scores


def _ranks(row: np.ndarray) -> np.ndarray:
    """Ranks of int8 values (N,), ties averaged, minus their mean: float32 (N,)."""
    index = row.view(np.uint8) ^ 128  # in the order of the values
    counts = np.bincount(index, minlength=256)
    table = counts.cumsum() - counts / 2 - len(row) / 2
    return table.astype(np.float32)[index]
