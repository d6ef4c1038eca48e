import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_charlm.errors import BundleError, PromptError
from keras_charlm.text.vocabulary import UNKNOWN, Vocabulary, normalize


@given(st.text(min_size=1))
def test_decode_inverts_encode_for_any_text(text):
    vocabulary = Vocabulary("char", tuple(sorted({ord(c) for c in text})))
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert ids.min() > UNKNOWN
    assert ids.max() < vocabulary.size


@given(st.binary(min_size=1))
def test_decode_inverts_encode_for_any_bytes(data):
    vocabulary = Vocabulary("byte", tuple(sorted(set(data))))
    assert vocabulary.decode(vocabulary.encode(data)) == data


@given(st.text(), st.sampled_from(["nfc", "nfkc"]))
def test_normalizing_twice_changes_nothing_more(text, form):
    once = normalize(text, form)
    assert normalize(once, form) == once == unicodedata.normalize(form.upper(), text)


def test_unknown_characters_read_as_the_reserved_id():
    vocabulary = Vocabulary("char", (97, 99))
    np.testing.assert_array_equal(vocabulary.encode("abcd\U0010ffff"), [1, 0, 2, 0, 0])
    assert vocabulary.decode([0, 1]) == "\ufffda"


def test_a_strict_encoding_names_the_character_and_its_position():
    with pytest.raises(PromptError, match=r"character 2 is 'é' \(U\+00E9 LATIN SMALL LETTER"):
        Vocabulary("char", (97, 98)).encode("aé", strict=True)


def test_a_vocabulary_survives_json():
    vocabulary = Vocabulary("char", (10, 97, 0x1F600))
    assert Vocabulary.from_dict(vocabulary.to_dict()) == vocabulary


@pytest.mark.parametrize(
    "values",
    [
        None,
        {},
        {"unit": "char"},
        {"unit": "word", "codes": [1]},
        {"unit": "char", "codes": [2, 1]},
        {"unit": "char", "codes": []},
        {"unit": "byte", "codes": [256]},
        {"unit": "char", "codes": ["a"]},
        {"unit": "char", "codes": [True]},
        {"unit": "char", "codes": [1.5]},
        {"unit": "char", "codes": [-1]},
    ],
)
def test_a_damaged_vocabulary_is_refused(values):
    with pytest.raises(BundleError):
        Vocabulary.from_dict(values)
