"""How the page of `kcharlm inspect` shows findings, and lays out a text, in a real browser."""

from dataclasses import replace

import numpy as np
import pytest
from test_inspect_page import DESKTOP, PHONE, visit  # noqa: F401

from keras_charlm.inspection import page as inspection_page
from keras_charlm.inspection.inspect import inspect
from keras_charlm.inspection.probes import Search, features, search

LINES = ["a = f(b);", "return c[d * (e + 2)];", "g(h, i, 33);", "j += 4;", "k(a + b) - c"]
CODE = "\n".join(np.random.default_rng(0).choice(LINES, 300)) + "\n"


@pytest.fixture(scope="module")
def planted(text_model):
    """An inspection with cells that follow features: 3 rises with the position in the line and 5 is
    off in brackets, 6 is on at a letter; the others are noise."""
    found = inspect(text_model, CODE, ablate=["0:5"])
    known = features(CODE)
    rng = np.random.default_rng(0)
    values = rng.integers(-40, 40, found.values.shape)
    values[0, 3] += (2 * known["position in the line"]).astype(int)
    values[0, 5] -= 80 * known["inside ( )"]
    values[0, 6] += 87 * known["at a letter"]
    values = values.astype(np.int8)
    result = search(values[0], known, level=0.5)
    return replace(found, values=values, search=result)


def open_on(visit, found, folder, **options):  # noqa: F811
    path = folder / "page.html"
    inspection_page.write(found, path, overwrite=True)
    return visit(path, **options)


def test_a_feature_is_the_warm_colour(visit, planted, tmp_path):  # noqa: F811
    page = open_on(visit, planted, tmp_path, **DESKTOP)
    assert page.text_content("#caption") == "Cell 0:5 follows inside ( )"
    assert page.text_content("#evidence").startswith("Reliable: score 1.00 on")
    assert "sign is flipped" in page.text_content("#evidence")
    assert "sign flipped" in page.text_content("#scale-name")
    inside = features(CODE)["inside ( )"]
    colours = page.locator("#sheet .c b").evaluate_all(
        "all => all.map(b => [+b.parentNode.dataset.i, "
        "b.style.background.match(/\\d+/g).map(Number)])"
    )
    assert sum(inside[at] for at, _ in colours) > 20
    for at, (red, _, blue) in colours:
        assert red > blue or not inside[at]
    page.keyboard.press("o")
    assert inside[int(page.get_attribute(".c.at", "data-i"))]
    assert "−" not in page.text_content("#value")
    tile = page.locator("#tiles button[data-cell='0'] canvas").evaluate(
        "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return Math.max(...Array.from({ length: d.length / 4 }, (_, i) => d[4*i] - d[4*i+2])) }"
    )
    assert tile > 60  # orange


def test_a_cell_has_one_name_and_features_are_sorted(visit, planted, tmp_path):  # noqa: F811
    page = open_on(visit, planted, tmp_path, **DESKTOP)
    rows = page.locator("#probes tbody tr[data-feature]")
    names = rows.evaluate_all("rows => rows.map(row => row.dataset.feature)")
    assert names == [f.name for f in planted.search.ordered() if f.found]
    assert page.locator("#probes tr.plain ~ tr").evaluate_all(
        "rows => rows.map(row => row.dataset.feature)"
    ) == [name for name in names if name.startswith("at ")]
    for i, name in enumerate(names):
        rows.nth(i).locator("button").click()
        label, score, _, match = rows.nth(i).locator("td").all_text_contents()[1:]
        assert page.text_content("#caption") == f"Cell {label} follows {name}"
        assert f"{match}: score {score}" in page.text_content("#evidence").lower()
        assert page.locator("#cell option:checked").text_content().split()[0] == label
        assert page.locator("#tiles [aria-current=true] span").text_content().startswith(label)
        assert page.locator("tr[aria-current=true]").count() == 1


def test_negative_findings_are_folded(visit, planted, tmp_path):  # noqa: F811
    page = open_on(visit, planted, tmp_path, **DESKTOP)
    assert page.text_content("#unfound summary").startswith("Features without a cell (")
    assert not page.locator("#unfound p").is_visible()
    page.locator("#unfound summary").click()
    assert "inside a URL" in page.locator("#unfound p").inner_text()
    nothing = Search((), 0.05, 0, 0)
    page = open_on(visit, replace(planted, search=nothing, ablations=()), tmp_path, **DESKTOP)
    assert page.text_content("#caption") == "Cell 0:6 follows no known feature"
    assert not page.locator("#probes").is_visible() and not page.locator("#unfound").is_visible()


def test_surprise_is_that_of_the_character(visit, planted, tmp_path):  # noqa: F811
    page = open_on(visit, planted, tmp_path, **DESKTOP)
    for at, words in ((0, "Before any text"), (7, "Predicted from the text before it")):
        page.locator(f"#sheet .c[data-i='{at}']").click()
        text = page.text_content("#expected")
        assert text.startswith(words) and text.endswith("Likeliest after it:")
        probability = float(text.split(" of ")[1].split("%")[0]) / 100
        assert probability == pytest.approx(2.0 ** -planted.surprise[at], abs=0.006)
    page.keyboard.press("s")
    assert "predicted from those before it" in page.text_content("#scale-name")


@pytest.mark.parametrize(
    "options, first", [(DESKTOP, "reader"), (PHONE, "findings")], ids=["desktop", "phone"]
)
def test_on_a_phone_the_findings_come_first(visit, planted, tmp_path, options, first):  # noqa: F811
    page = open_on(visit, planted, tmp_path, **options)
    top = {name: page.locator(f"#{name}").bounding_box()["y"] for name in ("reader", "findings")}
    assert min(top, key=top.get) == first
    if first == "findings":
        page.locator("#probes button").nth(1).tap()
        page.wait_for_function("document.getElementById('reader').getBoundingClientRect().top < 9")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_prints_with_its_colours(visit, planted, tmp_path, scheme):  # noqa: F811
    page = open_on(visit, planted, tmp_path, color_scheme=scheme, **DESKTOP)
    assert len(page.pdf(format="A4")) > 10_000
    assert page.get_attribute("html", "class") == ""  # as before
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    style = "b => [getComputedStyle(b).printColorAdjust, b.style.background]"
    adjust, colour = page.locator(".c[data-i='9'] b").evaluate(style)
    assert adjust == "exact" and min(map(int, colour[4:-1].split(","))) > 50
    assert page.locator("body").bounding_box()["width"] == 680
    assert page.locator(".lane").first.evaluate("lane => lane.scrollWidth <= lane.clientWidth")
    assert not page.locator("#bar").is_visible()


def edges(page, text):
    """Left edge and width of each character, in columns."""
    found = page.locator("#sheet .c").evaluate_all(
        "all => { const of = c => c.getBoundingClientRect(), col = parseFloat("
        "getComputedStyle(all[0]).getPropertyValue('--col')), left = of(all[0].parentNode).left;"
        "return all.map(c => [+c.dataset.i, (of(c).left - left) / col, of(c).width / col]) }"
    )
    inset = min(left for _, left, _ in found)
    rounded = {at: (round(left - inset), round(width)) for at, left, width in found}
    return [rounded[at] for at in range(len(text))]


def test_tabs_reach_a_tab_stop_and_wide_characters_take_two(visit, text_model, tmp_path):  # noqa: F811
    text = "a\tbc\t\td\n中a🙂b\n"
    page = open_on(visit, inspect(text_model, text), tmp_path, **DESKTOP)
    first = [(0, 1), (1, 7), (8, 1), (9, 1), (10, 6), (16, 8), (24, 1), (25, 1)]
    second = [(0, 2), (2, 1), (3, 2), (5, 1), (6, 1)]
    assert edges(page, text) == first + second


def test_right_to_left_text_is_read_from_the_right(visit, text_model, tmp_path):  # noqa: F811
    text = "שלום abc 3.14 עולם\nx שלום 12 עולם y\nسلام\n"
    page = open_on(visit, inspect(text_model, text), tmp_path, **DESKTOP)
    lines = page.locator(".lane").evaluate_all(
        "all => all.map(lane => [...lane.querySelectorAll('b')].map(b => b.textContent).join(''))"
    )
    hello, world = "שלום"[::-1], "עולם"[::-1]
    assert lines[0] == f"↵{world}·abc·3.14·{hello}"
    assert lines[1] == f"x·{world}·12·{hello}·y↵"
    # Zero-width joiners give each letter the shape that it has in the word.
    assert lines[2] == "↵م" + "\u200dا" + "\u200dل\u200d" + "س\u200d"
    right = page.locator(".lane").first.evaluate(
        "lane => lane.getBoundingClientRect().right - lane.lastChild.getBoundingClientRect().right"
    )
    assert right < 20
