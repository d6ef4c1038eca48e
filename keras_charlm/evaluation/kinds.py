"""The loss by kind of character: where a model is confident, and where it guesses.

Each character has one kind, the first of these that fits: unseen, newline, space, digit, closing
quote or bracket (by the distance from the opening one), opening one, punctuation, letter, other.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

from keras_charlm.text.vocabulary import UNKNOWN, Vocabulary

NAMES = (
    "letter, first of a word", "letter, later in a word", "digit", "space", "newline",
    "quote or bracket, opening", "quote or bracket, closing after 1 to 9",
    "quote or bracket, closing after 10 to 99", "quote or bracket, closing after 100 or more",
    "punctuation", "other", "unseen",
)  # fmt: skip
_FIRST, _LATER, _DIGIT, _SPACE, _NEWLINE, _OPENING, _NEAR, _FAR, _FARTHEST = range(9)
_PUNCTUATION, _OTHER, _UNSEEN = range(9, len(NAMES))

_CLOSING = {")": "(", "]": "[", "}": "{", "\u201d": "\u201c", "\u00bb": "\u00ab"}
_QUOTES = "\"'`"  # the same character opens and closes
_APOSTROPHES = "'\u2019"
_PAIRED = {*_CLOSING, *_CLOSING.values(), *_QUOTES}


def kinds(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The kind of each character.

    Args:
        ids: int (N,).
        vocabulary: The model's symbols.

    Returns:
        Indices into NAMES, int8 (N,).
    """
    chars = [
        "",
        *(
            chr(code) if vocabulary.unit == "char" or code < 128 else ""
            for code in vocabulary.codes
        ),
    ]
    found = np.array([_kind(char) for char in chars], np.int8)[ids]
    word = (found == _FIRST) | (found == _LATER)
    apostrophe = np.array([char in _APOSTROPHES for char in chars])[ids]
    inside = word.copy()
    inside[2:] &= word[1:-1] | (apostrophe[1:-1] & word[:-2])  # don't is one word
    inside[:1], inside[1:2] = False, inside[1:2] & word[:1]
    found[inside] = _LATER
    found[ids == UNKNOWN] = _UNSEEN
    newline = vocabulary.id_of(10)
    paired = np.array([char in _PAIRED for char in chars])[ids]
    # Newlines too: an unclosed quotation mark ends with its line.
    at = np.flatnonzero(paired | ((ids == newline) & (newline != UNKNOWN)))
    word |= found == _DIGIT
    before = np.concatenate([[False], word[:-1]])[at]
    behind = np.concatenate([word[1:], [False]])[at]
    _pair(at.tolist(), [chars[i] for i in ids[at]], before.tolist(), behind.tolist(), found)
    return found


def _kind(char: str) -> int:
    """The kind of a character out of context; a letter counts as the first of a word."""
    if char == "\n":
        return _NEWLINE
    if char.isspace():
        return _SPACE
    category = unicodedata.category(char) if char else "Cn"
    return {"L": _FIRST, "M": _LATER, "N": _DIGIT, "P": _PUNCTUATION}.get(category[0], _OTHER)


def _pair(
    at: list[int], chars: list[str], before: list[bool], behind: list[bool], found: np.ndarray
) -> None:
    """Write the kinds of matching quotes and brackets into `found`, int8 (N,).

    A straight quotation mark opens if it does not follow a word and no mark like it is open. It
    closes on the same line if no word follows it. Others are apostrophes or inch marks and count as
    punctuation, like unmatched brackets.

    Args:
        at: Indices of quotes, brackets and newlines.
        chars: The characters there.
        before: Whether each follows a letter or digit.
        behind: Whether a letter or digit follows each.
        found: The kinds of all characters.
    """
    brackets: list[tuple[str, int]] = []
    quotes: dict[str, int] = {}
    for index, char, word_before, word_behind in zip(at, chars, before, behind, strict=True):
        if char == "\n":
            quotes.clear()
        elif char in _QUOTES:
            if char not in quotes:
                if not word_before:
                    quotes[char] = index
            elif not word_behind:
                _close(quotes.pop(char), index, found)
        elif char in _CLOSING:
            opener = _CLOSING[char]
            if any(kind == opener for kind, _ in brackets):
                while brackets[-1][0] != opener:
                    brackets.pop()
                _close(brackets.pop()[1], index, found)
        else:
            brackets.append((char, index))


def _close(opened: int, closed: int, found: np.ndarray) -> None:
    distance = closed - opened
    found[opened] = _OPENING
    found[closed] = _NEAR if distance < 10 else _FAR if distance < 100 else _FARTHEST


def table(
    ids: np.ndarray, vocabulary: Vocabulary, bits: np.ndarray, **others: np.ndarray
) -> list[dict[str, Any]]:
    """Average the loss over each kind.

    Args:
        ids: int (N,).
        vocabulary: The model's symbols.
        bits: The model's -log2 p of each character (N,).
        **others: The same for other models, by name.

    Returns:
        A row for each kind that occurs: `kind`, `characters`, `share` (of the characters),
        `bits_per_character`, `share_of_loss`, and `<name>_bits_per_character` for each other model.
    """
    found, rows = kinds(ids, vocabulary), []
    counts = np.bincount(found, minlength=len(NAMES))
    loss = np.bincount(found, bits, minlength=len(NAMES))
    for i in np.flatnonzero(counts).tolist():
        row = {
            "kind": NAMES[i],
            "characters": int(counts[i]),
            "share": float(counts[i] / counts.sum()),
            "bits_per_character": float(loss[i] / counts[i]),
            "share_of_loss": float(loss[i] / loss.sum()),
        }
        for name, theirs in others.items():
            row[f"{name}_bits_per_character"] = float(theirs[found == i].mean())
        rows.append(row)
    return rows
