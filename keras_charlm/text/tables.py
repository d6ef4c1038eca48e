"""Tables with a header: CSV, TSV and the like, read as one text a row with its labels."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence

from keras_charlm.errors import CorpusError, brief
from keras_charlm.text.records import split
from keras_charlm.text.vocabulary import NEWLINE

_DELIMITERS = ",;\t|"
_TEXT = ("text", "name", "title")  # columns that are obviously the text, if there are several


def read_rows(
    pieces: Iterable[str], name: str, labels: Sequence[str], text: str | None, end: int = NEWLINE
) -> Iterator[tuple[int, str, list[str]]]:
    """Read a table.

    Args:
        pieces: Its content.
        name: Its name in errors.
        labels: Columns of the labels.
        text: Column of the text; by default the only other one, or the one called text, name or
            title.
        end: Code of the character that is to end each text, which none may have.

    Yields:
        The number of the row's last line, its text, and its labels. Rows without any text in any
        column are skipped.

    Raises:
        CorpusError: A column is missing, or a row is broken.
    """
    lines = (f"{line}\n" for line in split(pieces, NEWLINE))
    first = next(lines, "")
    if not first:
        raise CorpusError(f"{name} is empty; its first line must name the columns.")
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
    number = 0
    try:
        header = [column.strip() for column in next(reader, [])]
        at_text, at_labels = _find_columns(header, name, labels, text)
        for row in reader:
            number = reader.line_num
            if not any(row):
                continue
            if len(row) != len(header):
                raise CorpusError(
                    f"{name} line {number:,} has {len(row)} fields, and the header has "
                    f"{len(header)}; correct it."
                )
            cell = row[at_text].strip().replace("\r\n", "\n").replace("\r", "\n")
            if chr(end) in cell:
                what, more = (
                    ("a line break", ", or give --documents")
                    if end == NEWLINE
                    else ("the character U+001E, which is to end texts", "")
                )
                raise CorpusError(
                    f"{name} line {number:,} has {what} in the column {brief(header[at_text])}; "
                    f"replace it with a space{more}."
                )
            if not cell:
                raise CorpusError(
                    f"{name} line {number:,} has no text in the column {header[at_text]}; fill it "
                    "or remove the row."
                )
            yield number, cell, [row[at].strip() for at in at_labels]
    except csv.Error as error:
        raise CorpusError(
            f"{name} line {reader.line_num:,} is broken ({error}); correct its quotation marks."
        ) from None


def _find_columns(
    header: list[str], name: str, labels: Sequence[str], text: str | None
) -> tuple[int, list[int]]:
    """Indices of the text's column and of those of the labels."""
    shown = brief(", ".join(header)) or "no columns"
    for column in (*labels, *([text] if text else [])):
        if column not in header:
            raise CorpusError(
                f"{name} has no column {brief(repr(column))}; its first line names {shown}."
            )
    if repeated := [column for column in header if header.count(column) > 1]:
        raise CorpusError(f"{name} has two columns {brief(repr(repeated[0]))}; rename one.")
    if text in labels:
        raise CorpusError(
            f"The column {brief(repr(text))} of {name} is both the text and a label; name another."
        )
    others = [column for column in header if column not in labels]
    if text is None and len(others) > 1:
        named = [column for column in others if column.lower() in _TEXT]
        if len(named) != 1:
            raise CorpusError(
                f"{name} has the columns {shown}; name the one that holds the text with --text."
            )
        others = named
    if text is None and not others:
        raise CorpusError(f"{name} has no column for the text besides its labels; add one.")
    return header.index(text or others[0]), [header.index(column) for column in labels]
