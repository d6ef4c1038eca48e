"""What a user should know about a text before training on it: a line for each thing that is odd."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from keras_charlm.display import counted
from keras_charlm.errors import brief
from keras_charlm.text import decoding
from keras_charlm.text.corpus import Corpus
from keras_charlm.text.vocabulary import NEWLINE

_BEGINNING = 100_000  # symbols that are looked at
_LONG = 20_000  # characters of a line that is very long
_SHORT = 60  # bytes of a list's longest usual line
_WRAPPED = 20  # bytes of the shortest line that text may be wrapped at
# Characters that are seldom wanted, by what they are called.
_ODD = {
    "byte-order mark inside": (0xFEFF,),
    "U+FFFD (replacement character)": (0xFFFD,),
    "zero-width character": (0x200B, 0x200C, 0x200D, 0x2060, 0x180E),
    "direction mark": (0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),
    "soft hyphen": (0xAD,),
    "U+0085": (0x85,),
    "U+2028": (0x2028,),
    "U+2029": (0x2029,),
    "control character": (*range(1, 9), 11, *range(14, 32), *range(127, 0x85), *range(0x86, 0xA0)),
}  # fmt: skip
_CUE = re.compile(r"^(?:\d\d:)?\d\d:\d\d[,.]\d{3} --> ", re.MULTILINE)
_JSON = re.compile(r'\s*(?:[\]\[{}]|"(?:[^"\\]|\\.)*"\s*:)')
_TAG = re.compile(r"</?(?:p|div|br|span|a|li|td|tr|body|html|head|script)\b[^<>]{0,200}>", re.I)


def hints(text: Corpus) -> list[str]:
    """Notices about a prepared text, each a sentence."""
    if text.config.unit == "byte":
        return []
    start = beginning(text)
    found = [*_odd_characters(text), *_line_lengths(text)]
    if kind := _markup(start.decode("utf-8", "replace")):
        found.append(kind)
    elif not text.config.records and looks_like_list(start):
        found.append(
            "This looks like a list with one item per line: --lines would treat each line as a "
            "separate document."
        )
    return found


def beginning(text: Corpus) -> bytes:
    """The first lines of a text, as UTF-8, whole ones if the text goes on."""
    start = text.text(0, min(len(text.symbols), _BEGINNING))
    return start[: start.rfind(b"\n") + 1] if len(text.symbols) > _BEGINNING else start


def _odd_characters(text: Corpus) -> Iterator[str]:
    """One line with the counts of odd characters, if there are any."""
    alphabet = np.where(text.alphabet == 0x1E, NEWLINE, text.alphabet)  # which ends documents
    if not any(np.isin(alphabet, codes).any() for codes in _ODD.values()):
        return
    counts = text.counts([(0, len(text.symbols))])
    totals = {name: int(counts[np.isin(alphabet, codes)].sum()) for name, codes in _ODD.items()}
    parts = [_counted(total, name) for name, total in totals.items() if total]
    if parts:
        yield f"The text has {', '.join(parts)}; remove what should not be learnt."


def _counted(total: int, name: str) -> str:
    if name.startswith("U+"):
        return f"{total:,} {name}"
    one, inside, rest = name.partition(" inside")
    return counted(total, one) + inside + rest


def _line_lengths(text: Corpus) -> Iterator[str]:
    """One line about a text that is a single line, or has very long ones."""
    size, first = len(text.symbols), int(text.config.records)
    end = text.config.end if first else NEWLINE
    lines, long, longest, begun = 0, 0, 0, first
    for at in range(first, size, decoding.BLOCK):
        ends = at + np.flatnonzero(text.symbols[at : at + decoding.BLOCK] == end)
        if not len(ends):
            continue
        lengths = np.diff(ends, prepend=begun - 1) - 1
        lines += int(np.count_nonzero(lengths)) if first else len(ends)
        long += int(np.count_nonzero(lengths > _LONG))
        longest, begun = max(longest, int(lengths.max())), int(ends[-1]) + 1
    if (rest := size - begun) > 0:
        lines, long, longest = lines + 1, long + (rest > _LONG), max(longest, rest)
    if lines == 1:
        one, what = "line", "a single document" if first else "one paragraph"
        if first and not text.config.lines:
            one, what = "document", "one file"
        if text.config.separator is not None:
            what = f"because the separator {brief(repr(text.config.separator_text))} is not in it"
        yield f"The text is only 1 {one} of {counted(longest, 'character')}, {what}."
    elif long and (text.config.lines or not first):
        yield (
            f"{counted(long, 'line')} of {lines:,} {'is' if long == 1 else 'are'} longer than "
            f"{_LONG:,} characters, the longest {longest:,}."
        )


def _markup(text: str) -> str | None:
    """A sentence about a text that is in a format with more in it than writing."""
    text = text.lstrip()
    lines = [line for line in text.split("\n")[:200] if line.strip()]
    if re.match(r"(?:<\?xml[^>]*>\s*)?<(?:!doctype html|html|head|body)\b", text, re.I) or (
        len(_TAG.findall(text)) > len(text) / 200
    ):
        return (
            "This looks like HTML: its tags would be learnt too; extract the text first, e.g. "
            "with: pandoc -f html -t plain"
        )
    if re.match(r"<\?xml\b", text):
        return "This looks like XML: its tags would be learnt too; extract the text first."
    if text.startswith("WEBVTT") or len(_CUE.findall(text)) > len(lines) / 6:
        return (
            "This looks like subtitles: their numbers and times would be learnt too; remove them "
            "first."
        )
    if fields := _json_fields(lines[:20]):
        return (
            f"This looks like JSON lines with the fields {fields}: their syntax would be learnt "
            "too; extract one field first, e.g. with: jq -r .FIELD"
        )
    if text.startswith(("{", "[")) and len(lines) > 2 * sum(not _JSON.match(x) for x in lines):
        return (
            "This looks like JSON: its syntax would be learnt too; extract one field first, e.g. "
            "with: jq -r '.[].FIELD'"
        )
    if columns := _columns(lines[:50]):
        return (
            f"This looks like a table with the columns {columns}: whole rows would be learnt, "
            "separators too; name the column to read with --text, or extract it first."
        )
    return None


def _json_fields(lines: list[str]) -> str | None:
    """The names in the objects of JSON lines, shortened; None if the lines are none."""
    try:
        rows = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        return None
    if not rows or not all(isinstance(row, dict) for row in rows):
        return None
    return _listed(dict.fromkeys(name for row in rows for name in row))


def _columns(lines: list[str]) -> str | None:
    """The first row of a table with separators, shortened; None if the lines are none."""
    for separator in "\t,;|":
        try:
            rows = [row for row in csv.reader(lines, delimiter=separator) if row]
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        header = [cell.strip() for cell in rows[0]] if rows else []
        named = all(cell and len(cell) <= 40 and not cell[0].isdigit() for cell in header)
        if (
            len(rows) > 2
            and width > 1
            and all(len(row) == width for row in rows)
            and named
            and len(set(header)) == width
            and not any(cell.startswith(" ") for row in rows for cell in row[1:])
        ):
            return _listed(header)
    return None


def _listed(names: Iterable[str]) -> str:
    """Some names, shortened."""
    names = [name[:20] for name in names]
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def looks_like_list(beginning: bytes) -> bool:
    """Whether the beginning of a text looks like a list of short, distinct lines."""
    rows = beginning.split(b"\n")[:-1]
    if len(rows) < 30:
        return False
    lengths = sorted(len(row) for row in rows)
    usual = lengths[len(rows) * 19 // 20]
    return (
        lengths[len(rows) // 20] > 0
        and usual <= _SHORT
        and len(set(rows)) > 0.8 * len(rows)
        and sum(row.endswith((b",", b".", b";", b"{")) for row in rows) < 0.2 * len(rows)
        and not _is_wrapped(rows, lengths, usual)
    )


def _is_wrapped(rows: list[bytes], lengths: list[int], usual: int) -> bool:
    """Whether lines look like those of a text that goes on from one to the next.

    Args:
        rows: The lines.
        lengths: Their lengths, ascending.
        usual: The length that few lines exceed.
    """
    most, count = Counter(lengths).most_common(1)[0]
    blank = sum(not row.strip() for row in rows[:-1])
    headers = sum(row.startswith((b">", b"#", b"==", b"@")) for row in rows)
    return (
        (count > len(rows) / 2 and most >= _WRAPPED)
        or (usual >= 30 and lengths[len(rows) // 2] >= 0.85 * usual)
        or (blank >= 2 and blank >= len(rows) / 100)
        or headers >= max(1, len(rows) / 200)
    )
