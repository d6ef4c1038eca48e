"""Which lines count as the same line, to tell novel and repeated ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from keras_charlm.text.corpus import Corpus, Lines, fingerprints
from keras_charlm.text.decoding import BLOCK
from keras_charlm.text.labels import FIRST_CODE
from keras_charlm.text.records import strip_blanks
from keras_charlm.text.vocabulary import text_of


def line_key(line: str | bytes, ignore_case: bool = False) -> bytes:
    """The same bytes for all lines that differ only in the blanks at their ends.

    Args:
        line: A line; bytes are read as UTF-8 where they are.
        ignore_case: Whether upper and lower case are the same too.
    """
    text = line.decode("utf-8", "surrogateescape") if isinstance(line, bytes) else line
    text = strip_blanks(text)
    if ignore_case:
        text = text.casefold()
    # A model may draw lone surrogates, which only `surrogatepass` encodes.
    return text.encode("utf-8", "surrogatepass")


def key_fingerprints(lines: Iterable[str | bytes], ignore_case: bool = False) -> np.ndarray:
    """The fingerprint of each line's key, uint64 (L,); see `corpus.fingerprints`."""
    return fingerprints(line_key(line, ignore_case) for line in lines)


def line_texts(corpus: Corpus, lines: Lines) -> Iterator[str | bytes]:
    """The text of each line, in the order of the corpus; bytes for a text of bytes."""
    order = np.argsort(lines.starts)
    starts = lines.starts[order]
    ends = starts + lines.lengths[order]
    at = 0
    while at < len(starts):
        first = int(starts[at])
        # As many lines as end within a block, but at least one.
        stop = max(int(np.searchsorted(ends, first + BLOCK, side="right")), at + 1)
        codes = corpus.alphabet[corpus.symbols[first : ends[stop - 1]]]
        # Labels, between the lines, are no characters.
        text = text_of(np.where(codes < FIRST_CODE, codes, 0), corpus.config.unit)
        for start, end in zip(starts[at:stop] - first, ends[at:stop] - first, strict=True):
            yield text[start:end]
        at = stop
