"""The page of `kcharlm inspect` in a real browser, opened from the disk."""

import json

import numpy as np
import pytest

import keras_charlm
from keras_charlm.errors import OptionError
from keras_charlm.inspection import page as inspection_page
from keras_charlm.inspection.inspect import Inspection, inspect

NASTY = (
    '</script><script>alert(1)</script> "quoted" {{data}} <!-- & \' é 中 🙂 \u202e\ud800\t\x1b'
    "<b onclick=x>\n"
)
WORDS = "the cat sat on a mat.\n\nand ran, " * 40


@pytest.fixture(scope="module")
def found(text_model):
    return inspect(text_model, NASTY + WORDS, ablate=["0:3"], level=0.5)


@pytest.fixture(scope="module")
def file(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "a <b> & 'c'.html"
    inspection_page.write(found, path)
    return path


@pytest.fixture
def visit(chromium):
    contexts, problems = [], []

    def open_page(path, **options):
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on("dialog", lambda dialog: problems.append("a dialog"))
        page.on("request", lambda r: r.url.startswith("file:") or problems.append(r.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-state=ready]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


def sign(found):
    """-1 if the page opens on a cell that is low where its feature holds, and flips it."""
    top = found.search.ordered()[0]
    return top.sign(top.cell) if top.found else 1


DESKTOP = {"viewport": {"width": 1300, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_text_is_shown_literally(visit, file, found, size):
    page = visit(file, **size)
    shown = page.locator("#sheet .c b").all_text_contents()
    expected = NASTY.translate(
        {ord(a): b for a, b in zip(" \n\t\x1b\u202e\ud800", "·↵→␛▯▯", strict=True)}
    )
    assert "".join(shown).startswith(expected)
    assert page.evaluate("document.documentElement.scrollWidth") == size["viewport"]["width"]
    assert page.locator("script").count() == 2
    assert page.locator("#pane").evaluate("pane => pane.scrollWidth <= pane.clientWidth")


def test_the_numbers_are_those_of_the_arrays(visit, file, found):
    page = visit(file, **DESKTOP)
    kept = inspection_page.choose(found)
    for at in (0, 5, len(NASTY) + 3):
        page.locator(f"#sheet .c[data-i='{at}']").click()
        layer, cell = found.locate(kept[0])
        value = sign(found) * found.values[layer, cell, at] / 127
        shown = page.text_content("#value").replace("−", "-").split()[1]
        assert float(shown) == pytest.approx(value, abs=0.0051)
        assert float(page.text_content("#surprise").split()[1]) == pytest.approx(
            found.surprise[at], abs=0.0101
        )
        percent = page.locator("#readout li span:last-child").all_text_contents()
        np.testing.assert_allclose(
            [float(p.strip("%")) for p in percent], 100 * found.guess_probabilities[at], atol=0.051
        )
    values = page.evaluate("Array.from(inspection.values)")
    np.testing.assert_array_equal(
        np.reshape(values, (len(kept), -1)), found.values.reshape(-1, len(found.codes))[kept]
    )
    assert page.evaluate("Array.from(inspection.codes)") == found.codes.tolist()
    saturation = np.reshape(page.evaluate("Array.from(inspection.saturation)"), (3, 2, 1, 8))
    np.testing.assert_allclose(saturation / 1000, np.stack([*found.saturation.values()]), atol=6e-4)
    row = page.locator("#ablated tbody td").all_text_contents()
    assert row[0] == "0:3"
    assert float(row[1].replace("−", "-")) == pytest.approx(found.ablations[0].bits, abs=6e-5)
    assert row[2] == found.ablations[0].effect


def test_keys_step_through_cells_and_colours_follow(visit, file, found):
    page = visit(file, **DESKTOP)
    kept = [":".join(map(str, found.locate(i))) for i in inspection_page.choose(found)]
    current = "document.documentElement.dataset.cell"
    first = page.locator("#sheet .c b").evaluate_all("all => all.map(b => b.style.background)")
    seen = [page.evaluate(current)]
    for key in ("j", "ArrowRight", "k", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
        seen.append(page.evaluate(current))
    assert seen == [kept[i] for i in (0, 1, 2, 1, 0, -1)]
    last = page.locator("#sheet .c b").evaluate_all("all => all.map(b => b.style.background)")
    assert len(first) == len(last) and first != last
    page.select_option("#cell", value=str(kept.index("0:2")))
    assert page.evaluate(current) == "0:2"


def test_search_extremes_and_cells_side_by_side(visit, file, found):
    page = visit(file, **DESKTOP)
    page.keyboard.press("/")
    page.keyboard.type("CAT SAT")
    assert page.text_content("#hits") == "40 found"
    page.keyboard.press("Enter")
    assert page.text_content("#hits") == "1 of 40"
    page.keyboard.press("Escape")
    page.keyboard.press("N")
    assert page.text_content("#hits") == "40 of 40"
    at = (NASTY + WORDS).rindex("cat sat")
    assert page.get_attribute(".c.at", "data-i") == str(at)
    layer, cell = found.locate(inspection_page.choose(found)[0])
    values = sign(found) * found.values[layer, cell]
    for key, extreme in (("o", values.max()), ("f", values.min())):
        page.keyboard.press(key)
        assert values[int(page.get_attribute(".c.at", "data-i"))] == extreme
    page.keyboard.press("p")
    heads = page.locator("#lanes > div span").all_text_contents()
    kept = [":".join(map(str, found.locate(i))) for i in inspection_page.choose(found)]
    assert [head.split()[0] for head in heads] == [kept[1], kept[0]]
    lanes = page.locator(".row").first.locator(".lane")
    assert lanes.nth(0).text_content() == lanes.nth(1).text_content()
    page.keyboard.press("g")
    assert page.locator("#sheet .c i").count() == 0
    page.keyboard.press("s")
    assert page.text_content("#high") == "8"


def test_a_tap_opens_a_cell_or_a_character(visit, file, found):
    page = visit(file, **PHONE)
    page.locator("#sheet .c[data-i='7']").tap()
    assert "character 7" in page.text_content("#readout")
    tile = page.locator("#tiles button").nth(2)
    tile.tap()
    assert page.evaluate("document.documentElement.dataset.cell") == ":".join(
        map(str, found.locate(inspection_page.choose(found)[2]))
    )
    assert tile.get_attribute("aria-current") == "true"


def test_only_rows_in_view_are_drawn(visit, text_model, tmp_path):
    found = inspect(text_model, "the cat sat on a mat.\n" * 2000, characters=40_000)
    report = inspection_page.write(found, tmp_path / "long.html")
    assert report["left_out"] == 0
    page = visit(tmp_path / "long.html", **DESKTOP)
    assert page.locator(".row").count() < 30
    page.locator("#pane").evaluate("pane => { pane.scrollTop = pane.scrollHeight }")
    page.wait_for_selector(".c[data-i='39999']")
    assert page.locator(".row").count() < 30


def test_the_page_leaves_out_what_does_not_fit(found, tmp_path):
    few = Inspection(**{**vars(found), "config": keras_charlm.InspectConfig(cells=2)})
    report = inspection_page.write(few, tmp_path / "few.html")
    assert (report["cells"], report["left_out"]) == (2, 6)
    assert report["bytes"] == (tmp_path / "few.html").stat().st_size
    with pytest.raises(OptionError, match="exists"):
        inspection_page.write(few, tmp_path / "few.html")
    with pytest.raises(OptionError, match="no folder"):
        inspection_page.write(few, tmp_path / "none" / "few.html")
    with pytest.raises(OptionError, match="is a folder"):
        inspection_page.write(few, tmp_path, overwrite=True)


def test_the_command(kcharlm, text_model, text_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = kcharlm(
        "inspect", text_model, text_file, "--characters", "600", "--ablate", "0:1", "--probe", "c.t"
    )
    assert code == 0, err
    assert "without 0:1" in out and "c.t" in out
    assert "Read the first 600 characters; 900 were left out" in err
    assert (tmp_path / "cats.html").stat().st_size > 10_000
    assert kcharlm("inspect", text_model, text_file)[0] == 2  # the page exists
    code, out, _ = kcharlm("inspect", text_model, text_file, "--json", "--npz", "all.npz")
    values = json.loads(out)
    assert code == 0 and values["characters"] == 1500
    assert len(values["cells"]) == 8 and values["cells"][3]["cell"] == 3
    with np.load("all.npz") as arrays:
        assert arrays["hidden"].shape == (1500, 1, 8)
        assert arrays["surprise"].mean() == pytest.approx(values["bits_per_character"], abs=1e-4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.npz", "cats.html"]
    code, out, _ = kcharlm("inspect", text_model, "-", "--json", stdin=b"the cat\n" * 9)
    assert code == 0 and json.loads(out)["text"] == "stdin"


@pytest.mark.parametrize(
    "args, message",
    [
        (["--probe", "("], "not a regular expression"),
        (["--ablate", "9:9"], "no cell 9:9"),
        (["--ablate", "x"], "LAYER:CELL"),
        (["--cells", "0"], "at least 1"),
        (["-o", "none/page.html"], "no folder none"),
        (["--npz", "."], "is a folder"),
    ],
)
def test_mistakes_leave_nothing_behind(
    kcharlm, text_model, text_file, tmp_path, monkeypatch, args, message
):
    monkeypatch.chdir(tmp_path)
    code, out, err = kcharlm("inspect", text_model, text_file, *args)
    assert (code, out) == (2, "")
    assert message in err and "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_empty_and_missing_files(kcharlm, text_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 4)
    for name in ("empty", "binary", "missing"):
        code, out, err = kcharlm("inspect", text_model, name)
        assert (code, out) == (2, "") and "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["binary", "empty"]
