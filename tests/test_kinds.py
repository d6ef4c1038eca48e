import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_charlm.evaluation import kinds
from keras_charlm.text.vocabulary import Vocabulary

CHARS = (
    "abcdefghilnorstvwABD0129 \t\n.,;!?-_()[]{}\"'`\u2019\u201c\u201d\u00ab\u00bb\u00e9\u0301$+="
)


def vocabulary(chars=CHARS, unit="char"):
    return Vocabulary(unit, tuple(sorted({ord(c) for c in chars})))


def shorthand(text, chars=CHARS):
    """The kinds of a text, a letter each."""
    known = vocabulary(chars)
    return "".join(
        "FLdsnonfxpou"[i] if i != 4 else "/" for i in kinds.kinds(known.encode(text), known)
    )


# F first and L later letter, d digit, s space, / newline, o opening, n near, f far, x farthest
# closing, p punctuation, u unseen; "other" has the letter o as well and is tested by itself.
@pytest.mark.parametrize(
    "text, expected",
    [
        ("", ""),
        ("a", "F"),
        ("ab Ba\n1a", "FLsFL/dF"),
        ("don't won\u2019t", "FLLpLsFLLpL"),
        ("caf\u00e9 e\u0301a", "FLLLsFLL"),
        ("a, b.", "FpsFp"),
        ("(a)", "oFn"),
        ("(a[1])", "oFodnn"),
        ("a) (b", "FpspF"),
        ("(a]", "pFp"),
        ("(a[)", "oFpn"),
        ('"a"', "oFn"),
        ('"a b"', "oFsFn"),
        ('"a\nb"', "pF/Fp"),
        ("'a' 's", "oFnspF"),
        ("the dogs' 'a'", "FLLsFLLLpsoFn"),
        ("\u201ca\u201d", "oFn"),
        ("\u201ca\nb\u201d", "oF/Fn"),
        ("(" + "a" * 9 + ")", "oF" + "L" * 8 + "f"),
        ("(" + "a" * 99 + ")", "oF" + "L" * 98 + "x"),
        ("(z)", "oun"),
        ("z z", "usu"),
    ],
)
def test_kinds_of_characters(text, expected):
    assert shorthand(text) == expected


def test_signs_are_other_and_bytes_above_ascii_too():
    known = vocabulary("a$+")
    assert kinds.kinds(known.encode("$+"), known).tolist() == [kinds.NAMES.index("other")] * 2
    known = vocabulary("a\u00e9", "byte")
    assert kinds.kinds(known.encode(b"a\xe9"), known)[1] == kinds.NAMES.index("other")


@given(st.text(CHARS + "z", min_size=1, max_size=60), st.integers(0, 2**32))
def test_rows_add_up_to_the_whole(text, seed):
    known = vocabulary()
    bits, other = np.random.default_rng(seed).exponential(2, (2, len(text)))
    rows = kinds.table(known.encode(text), known, bits, other=other)
    assert sum(row["characters"] for row in rows) == len(text)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert sum(row["share_of_loss"] for row in rows) == pytest.approx(1)
    for name, values in (("bits_per_character", bits), ("other_bits_per_character", other)):
        assert sum(row["characters"] * row[name] for row in rows) == pytest.approx(values.sum())
    unseen = [row["characters"] for row in rows if row["kind"] == "unseen"]
    assert sum(unseen) == text.count("z")
