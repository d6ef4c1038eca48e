"""Guesses of the encoding of a text that does not say it."""

from __future__ import annotations

import codecs
import unicodedata
from collections import Counter
from typing import NamedTuple

# Legacy encodings, the more common ones first.
_LEGACY = (
    "cp1252", "cp1251", "cp932", "gb18030", "cp1250", "koi8-r", "euc-kr", "big5", "euc-jp",
    "cp1253", "cp1254", "cp1255", "cp1256", "cp437", "mac-roman",
)  # fmt: skip
SAMPLE = 4000  # bytes that are tried
_SHOWN = 50  # characters of a line in a message
_MOST = 3  # guesses
_NEAR = 0.25  # how much worse than the best a guess may score
_PUNCTUATION = frozenset("\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u3001\u3002\u300c\u300d\uff0c")
_PUNCTUATION |= frozenset("\xab\xbb\u20ac\xa3\xa9\xb0\xa7\xa0\xbf\xa1")
_KANA = ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA")
_EAST = ("CJK", "IDEOGRAPHIC", *_KANA)
_NO_CONTROLS = bytes({*range(256)} - {*range(8), *range(14, 27), *range(28, 32), 127})
_UNCASED = {"CJK": 0.5, "HANGUL": 0.8, "HEBREW": 0.5, "ARABIC": 0.5}
_RARE = {"cp437": 0.4, "mac-roman": 0.4}  # what their scores lose


class Guess(NamedTuple):
    """An encoding, and how it reads the line in question."""

    encoding: str
    line: str


def likely(data: bytes, at: int) -> list[Guess]:
    """The legacy encodings in which a text may be, the likeliest first.

    Args:
        data: Part of the text.
        at: Index of a byte in it that is not UTF-8.
    """
    begin = max(data.rfind(b"\n", 0, at), data.rfind(b"\r", 0, at)) + 1
    if at - begin > SAMPLE // 2:  # a very long line: from a space on
        begin = data.rfind(b" ", 0, at - _SHOWN // 2) + 1 if b" " in data[begin:at] else begin
    sample = data[begin : at + SAMPLE]
    scored = []
    for encoding in _LEGACY:
        try:
            text = codecs.getincrementaldecoder(encoding)("strict").decode(sample)
        except UnicodeError:
            continue
        if (score := _score(text, encoding) - _RARE.get(encoding, 0)) > 0:
            scored.append((score, Guess(codecs.lookup(encoding).name, _shown(text))))
    scored.sort(key=lambda pair: -pair[0])  # stable: the commoner one first
    guesses: dict[str, Guess] = {}  # by line: one encoding for each reading
    for score, guess in scored:
        if score >= scored[0][0] - _NEAR:
            guesses.setdefault(guess.line, guess)
    return list(guesses.values())[:_MOST]


def wide(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte-order mark: which one a text begins in; None for neither.

    The higher bytes of its characters are few and the same again and again, mostly 0.

    Args:
        head: The beginning of a text, at least 4 bytes.
    """
    if len(head) < 4:
        return None
    quarters = [head[at : len(head) // 4 * 4 : 4] for at in range(4)]
    for encoding, high in (("utf-32-le", quarters[:1:-1]), ("utf-32-be", quarters[:2])):
        if len(head) >= 8 and not any(high[0]) and not any(high[1]) and _reads(head, encoding):
            return encoding
    even, odd = (head[at : len(head) // 2 * 2 : 2] for at in range(2))
    for encoding, low, high_bytes in (("utf-16-le", even, odd), ("utf-16-be", odd, even)):
        few = Counter(high_bytes).most_common(2)
        spread = Counter(low).most_common(2)
        share = sum(count for _, count in few) / len(high_bytes)
        higher = 0 in dict(few) and share >= max(0.8, sum(n for _, n in spread) / len(low))
        if higher and _reads(head, encoding):
            return encoding
    return None


def _reads(head: bytes, encoding: str) -> bool:
    """Whether an encoding reads a text's beginning as characters that texts have."""
    try:
        text = codecs.getincrementaldecoder(encoding)("strict").decode(head)
    except UnicodeError:
        return False
    return all(c.isprintable() or c.isspace() or c == "\ufeff" for c in text)


def is_binary(data: bytes) -> bool:
    """Whether part of a file has more control characters than a text."""
    return len(data.translate(None, _NO_CONTROLS)) > len(data) / 50


def first_line(head: bytes, encoding: str) -> str:
    """The first line of a text, shortened for a message."""
    return _shown(codecs.getincrementaldecoder(encoding)("ignore").decode(head))


def _shown(text: str) -> str:
    lines = text.lstrip("\ufeff").splitlines()
    line = next((line.strip() for line in lines if line.strip()), "")
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "..."


def east_asian(head: bytes) -> str | None:
    """UTF-16 without a byte-order mark, if a text's beginning is Chinese or Japanese in it."""
    for encoding in ("utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(encoding)("strict").decode(head)
        except UnicodeError:
            continue
        east = [char for char in text if _script(char) == "CJK"]
        usual = max(
            sum(_is_in(char, "gb2312") for char in east),
            sum(_is_in(char, "shift_jis") for char in east),
            sum(_is_in(char, "big5") and char.encode("big5") < b"\xc7" for char in east),
        )
        if usual > max(4, 0.9 * len(east), 0.6 * len(text)) and _score(text, encoding) > 1:
            return encoding
    return None


def _score(text: str, encoding: str) -> float:
    """How much the characters beyond ASCII look like writing: 1 and more is good, below 0 bad."""
    total, count, kana = 0.0, 0, 0
    padded = f" {text} "
    for before, char, after in zip(padded, text, padded[2:], strict=False):
        if char.isascii():
            continue
        count += 1
        category = unicodedata.category(char)
        if category[0] == "C":
            total -= 3
        elif category[0] in "LM":
            total += _letter(before, char, after)
            kana += unicodedata.name(char, "?").split()[0] in _KANA
            if encoding == "gb18030" and not _is_in(char, "gb2312"):
                total -= 0.8
        elif char in _PUNCTUATION:
            inside = before.isalpha() and after.isalpha() and char != "\u2019"
            total += -1 if inside and _script(before) != "CJK" else 1
        else:
            total -= 1
    if kana > count / 4 and encoding not in ("cp932", "euc-jp"):
        total -= count
    return total / count if count else 0.0


def _letter(before: str, char: str, after: str) -> float:
    """The score of a letter between its neighbours."""
    script = _script(char)
    score = _UNCASED.get(script, 0.3) + 0.2 * char.islower()
    if script == "LATIN" and all(one.isalpha() and not one.isascii() for one in (before, after)):
        score -= 0.6  # among the letters of Latin scripts, those beyond ASCII are few
    for neighbour in (before, after):
        if neighbour.isalpha():
            score += 0.5 if _script(neighbour) == script else -2
    return (
        score - 2 * (before.islower() and char.isupper()) - 2 * (char.islower() and after.isupper())
    )


def _is_in(char: str, encoding: str) -> bool:
    """Whether an encoding, which lacks rarer characters, has this one."""
    try:
        return bool(char.encode(encoding))
    except UnicodeError:
        return False


def _script(char: str) -> str:
    """The script of a letter, such as LATIN."""
    script = unicodedata.name(char, "?").split()[0]
    return "CJK" if script in _EAST else script
