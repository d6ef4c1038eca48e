"""Characters to ids and back.

Id 0 is the unknown symbol: every character that is not in the training text is read as it, and
sampling never emits it. The other ids are in ascending order of code points (or byte values).
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from keras_charlm.errors import BundleError, PromptError
from keras_charlm.text.labels import FIRST_CODE, MOST

UNKNOWN = 0  # id
NEWLINE = 10  # code of "\n", and its symbol in a corpus, where ASCII keeps its codes
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_FORMS: dict[str, Literal["NFC", "NFKC"]] = {"nfc": "NFC", "nfkc": "NFKC"}


def normalize(text: str, form: str) -> str:
    """Unicode-normalize a text with the standard library ('nfc', 'nfkc' or 'none')."""
    return text if is_normalized(text, form) else unicodedata.normalize(_FORMS[form], text)


def is_normalized(text: str, form: str) -> bool:
    """Whether a text is in this form ('nfc', 'nfkc' or 'none': every text is)."""
    return form == "none" or text.isascii() or unicodedata.is_normalized(_FORMS[form], text)


def codes_of(text: str | bytes) -> np.ndarray:
    """Code points of a str, or byte values, int64 (N,)."""
    if isinstance(text, bytes):
        return np.frombuffer(text, np.uint8).astype(np.int64)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)


def text_of(codes: np.ndarray | Sequence[int], unit: str) -> str | bytes:
    """The text of code points (N,), or for the unit byte the bytes."""
    if unit == "byte":
        return np.asarray(codes, np.uint8).tobytes()
    return np.asarray(codes, "<u4").tobytes().decode("utf-32-le", "surrogatepass")


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a model.

    Args:
        unit: 'char' (Unicode code points) or 'byte'.
        codes: Code points or byte values of ids 1, 2, ..., ascending.
        labels: Number of labels (L): their ids V, V + 1, ... follow the characters', and are only
            read.
    """

    unit: str
    codes: tuple[int, ...]
    labels: int = 0

    def __post_init__(self) -> None:
        top = 0x10FFFF if self.unit == "char" else 0xFF
        if self.unit not in ("char", "byte"):
            raise BundleError(f"The vocabulary's unit is {self.unit!r}; it must be char or byte.")
        if type(self.labels) is not int or not 0 <= self.labels <= MOST:
            raise BundleError(
                f"The vocabulary has {self.labels!r} labels; the file is damaged, so train or copy "
                "the model again."
            )
        whole_numbers = all(type(c) is int for c in self.codes)
        if not (
            whole_numbers
            and self.codes
            and self.codes[0] >= 0
            and self.codes[-1] <= top
            and all(a < b for a, b in zip(self.codes, self.codes[1:], strict=False))
            and not any(0xD800 <= c < 0xE000 for c in self.codes)
        ):
            raise BundleError(
                f"The vocabulary's codes must be ascending whole numbers from 0 to {top} without "
                "surrogates; the file is damaged, so train or copy the model again."
            )

    @property
    def size(self) -> int:
        """Number of ids, the unknown symbol included: the width of the logits."""
        return len(self.codes) + 1

    @property
    def inputs(self) -> int:
        """Number of ids that can be read, labels included (V + L): the rows of the embedding."""
        return self.size + self.labels

    @property
    def unit_name(self) -> str:
        """The unit in words: character or byte."""
        return "character" if self.unit == "char" else "byte"

    @functools.cached_property
    def table(self) -> np.ndarray:
        """Id of every code up to one beyond the highest known, int32 (highest + 2,)."""
        table = np.zeros(self.codes[-1] + 2, np.int32)
        table[np.array(self.codes)] = np.arange(1, self.size)
        return table

    @property
    def codes_by_id(self) -> np.ndarray:
        """The code of each id, int64 (V,); -1 for UNKNOWN. It inverts `lookup`."""
        return np.array((-1, *self.codes), np.int64)

    @property
    def input_codes(self) -> np.ndarray:
        """The code of each id that can be read, labels included, int64 (V + L,)."""
        return np.append(self.codes_by_id, FIRST_CODE + np.arange(self.labels))

    def lookup(self, codes: np.ndarray) -> np.ndarray:
        """Ids of an array of codes, of the same shape, int32."""
        # The table's last entry is UNKNOWN, and is used for all codes beyond the table.
        ids = self.table[np.minimum(codes, len(self.table) - 1)]
        if not self.labels:
            return ids
        number = np.asarray(codes) - FIRST_CODE
        known = (number >= 0) & (number < self.labels)
        return np.where(known, self.size + number, ids).astype(np.int32)

    def id_of(self, code: int) -> int:
        """The id of one code; UNKNOWN if it has none."""
        return int(self.lookup(np.array([code]))[0])

    def to_codes(self, text: str | bytes) -> np.ndarray:
        """The code points (or byte values) of a text, int64 (N,).

        Args:
            text: A str, which a byte model encodes as UTF-8; or bytes, which a character model
                decodes as UTF-8.

        Raises:
            PromptError: A character model was given bytes that are not UTF-8.
        """
        if self.unit == "byte":
            return codes_of(
                text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
            )
        if isinstance(text, bytes):
            try:
                text = text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise PromptError(
                    f"The text is bytes that are not UTF-8 (at offset {error.start:,}), and this "
                    "model reads characters; decode it first."
                ) from error
        return codes_of(text)

    def from_codes(self, codes: np.ndarray | Sequence[int]) -> str | bytes:
        """The text of an array of code points (N,), or the bytes of a byte model."""
        return text_of(codes, self.unit)

    def encode(self, text: str | bytes, strict: bool = False) -> np.ndarray:
        """Ids of a text.

        Args:
            text: A str, or bytes for a byte model.
            strict: Refuse characters outside the vocabulary instead of reading them as UNKNOWN.

        Returns:
            int32 (N,).

        Raises:
            PromptError: `strict`, and the text has a character outside the vocabulary.
        """
        codes = self.to_codes(text)
        ids = self.lookup(codes)
        if strict and (ids == UNKNOWN).any():
            at = int(np.argmax(ids == UNKNOWN))
            raise PromptError(
                f"The prompt's character {at + 1} is {describe(int(codes[at]), self.unit)}, which "
                "is not in the training text; leave it out, or pass --unknown-ok (unknown_ok=True) "
                "to read it as the unknown symbol."
            )
        return ids

    def decode(self, ids: np.ndarray) -> str | bytes:
        """The text of ids (N,); UNKNOWN becomes U+FFFD, or '?' in bytes."""
        unknown = ord("?") if self.unit == "byte" else ord(_REPLACEMENT)
        return self.from_codes(np.array((unknown, *self.codes))[np.asarray(ids, np.int64)])

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {"unit": self.unit, "codes": list(self.codes)}
        return {**values, "labels": self.labels} if self.labels else values

    @classmethod
    def from_dict(cls, values: Any) -> Vocabulary:
        """Rebuild from the value of `to_dict`; raises BundleError if it is invalid."""
        if not isinstance(values, dict) or not isinstance(values.get("codes"), list):
            raise BundleError("The vocabulary has no list of codes; copy or train the model again.")
        return cls(values.get("unit", ""), tuple(values["codes"]), values.get("labels", 0))


def describe(code: int, unit: str) -> str:
    """A character with its code point and name, as error messages show it."""
    if unit == "byte":
        return f"byte 0x{code:02X}"
    char = chr(code)
    name = unicodedata.name(char, "unnamed")
    shown = f"'{char}' " if char.isprintable() else ""
    return f"{shown}(U+{code:04X} {name})"
