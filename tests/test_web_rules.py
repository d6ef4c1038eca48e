"""Conditions on the page: it draws what the on-device file draws for Python under the same rule."""

import numpy as np
import pytest
from pages import drawn, run, warm
from test_constrained import call, tables_of, texts
from test_constraints import fits

import keras_charlm
from keras_charlm.config import SampleConfig

SEED = 11


def test_lines_that_fit_are_those_of_python(visit, names_page, list_model):
    model = keras_charlm.load(list_model)
    page = visit(names_page)
    warm(page, 1)
    wishes = {"end": "A", "from": 3, "to": 6, "ban": "bb, ca"}
    status = run(page, number=20, seed=SEED, **wishes)
    tables = tables_of(
        model, ends_with="a", min_length=3, max_length=6, ban=["bb", "ca"], ignore_case=True
    )
    expected = []
    for seed in range(SEED, SEED + 64, 16):
        seeds = np.arange(seed, seed + 16)
        out = call(model, tables, [[10]] * 16, seed=seeds, temperature=1)
        assert out["done"].all()
        expected += texts(out)
    assert drawn(page) == list(dict.fromkeys(expected))[:20]
    assert status.startswith("20 invented, ")
    one = run(page, begin="ab", number=1, seed=5)
    out = call(model, tables, [[10, 97, 98]], seed=5, temperature=1)
    assert drawn(page) == ["ab" + texts(out)[0]]
    assert one.startswith("1 invented, ")


def test_a_rare_line_is_masked_after_many_in_vain(visit, names_page):
    page = visit(names_page)
    run(page, number=3, seed=1, **{"end": "abcabcabcabcabc", "from": 40, "to": 41})
    config = SampleConfig(ends_with="abcabcabcabcabc", min_length=40, max_length=41)
    assert len(drawn(page)) == 3
    assert all(fits(text, config) for text in drawn(page))


@pytest.mark.parametrize(
    ("fields", "message", "focus"),
    [
        ({"end": "aaa", "to": 2}, "No text can fit all of this at once.", "end"),
        ({"ban": "a,b, C"}, "No text can fit all of this at once.", "ban"),
        ({"from": 5, "to": 4}, "No text has from 5 to 4 characters.", "from"),
        ({"end": "x"}, "The model has never seen “x”, so no text ends with it.", "end"),
        ({"begin": "abc", "ban": "b"}, "No text that begins with “abc” can fit", "ban"),
        ({"to": "0"}, "takes a whole number", "to"),
    ],
)
def test_contradictions_are_explained(visit, names_page, fields, message, focus):
    page = visit(names_page)
    page.locator("#more").evaluate("more => { more.open = true }")
    for name, value in fields.items():
        page.fill(f"#{name}", str(value))
    page.click("#go")
    assert page.text_content("#problem").startswith(message) or message in page.text_content(
        "#problem"
    )
    assert page.locator(":focus").get_attribute("id") == focus
    page.fill(f"#{focus}", "")
    assert page.text_content("#problem") == ""


def test_a_writing_pad_never_writes_banned_words(visit, text_page, text_model):
    model = keras_charlm.load(text_model)
    page = visit(text_page)
    warm(page, 0.8)
    status = run(page, text="the c", seed=SEED, length=200, ban="at, T")
    assert status.startswith("200 characters added.")
    added = page.input_value("#text").removeprefix("the c")
    tables = tables_of(model, ban=["at", "t"], ignore_case=True)
    codes = [[10, *map(ord, "the c")]]
    out = call(model, tables, codes, seed=SEED, mask=1, length=200)
    assert added == texts(out)[0]
    assert not page.locator("#end").is_visible()
