"""The page in a real browser: Debian's Chromium, headless, driven by Playwright."""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from pages import distinct, drawn, run, wait, warm, write

import keras_charlm
from keras_charlm.export import web
from keras_charlm.text.corpus import fingerprints


@pytest.mark.parametrize("prompt", ["", "ab"])
@pytest.mark.parametrize("settings", [{"temp": 0.8}, {"temp": 1.5, "top_k": 4, "top_p": 0.9}])
def test_names_are_those_of_python(visit, names_page, list_model, prompt, settings):
    page = visit(names_page)
    warm(page, settings["temp"])
    fields = {name: value for name, value in settings.items() if name != "temp"}
    status = run(page, begin=prompt, number=40, seed=2**31 - 5, length=30, **fields)
    model = keras_charlm.load(list_model)
    expected = list(model.samples(prompt, num=400, seed=2**31 - 5, length=30, **settings))
    ended = {sample.whole: sample.ended for sample in expected}
    texts = distinct(expected, 40)
    assert drawn(page) == texts
    marked = page.locator("#list li").evaluate_all("all => all.map(li => li.className === 'new')")
    assert marked == [ended[text] and not model.known(text) for text in texts]
    cut = sum(not ended[text] for text in texts)
    short = f" {cut} cut at 30 characters." if cut else ""
    short += "" if len(texts) == 40 else " There seem to be no more."
    assert status == f"{len(texts)} invented, {sum(marked)} new. Seed {2**31 - 5}.{short}"


def test_the_shipped_model_draws_its_golden_names(visit, tmp_path):
    golden = json.loads((Path(__file__).parent / "golden.json").read_text())
    shipped = Path(__file__).parent.parent / "saved_models" / "names"
    write(keras_charlm.load(shipped), tmp_path / "page")
    page = visit(tmp_path / "page")
    for call in golden["calls"]:
        if call["prompt"].isdigit():  # unknown to the model, which the page asks about first
            continue
        warm(page, call["temperature"])
        run(
            page,
            begin=call["prompt"],
            number=1,
            length=60,
            seed=call["seed"],
            top_k=call["top_k"],
            top_p=call["top_p"],
            min_p=call["min_p"],
        )
        assert drawn(page) == [call["prompt"] + call["text"]]


def test_a_label_is_read_before_the_name(visit, tmp_path):
    model = keras_charlm.load(Path(__file__).parent.parent / "saved_models" / "names")
    write(model, tmp_path / "page")
    page = visit(tmp_path / "page")
    for value in ["female", "male"]:
        page.get_by_label(value, exact=True).check()
        run(page, number=10, length=30, seed=3)
        expected = model.samples(num=15, length=30, seed=3, labels=[value])
        assert drawn(page) == distinct(expected, 10)
    run(page, number=5, length=30, seed=3, end="o")  # a rule leaves labels alone
    assert all(name.endswith("o") for name in drawn(page))
    page.get_by_label("any", exact=True).check()
    run(page, number=10, length=30, seed=3, end="")
    assert drawn(page) == distinct(model.samples(num=15, length=30, seed=3), 10)


def test_many_labels_are_a_list_to_choose_from(visit, tmp_path):
    model = keras_charlm.load(Path(__file__).parent.parent / "saved_models" / "names")
    write(model, tmp_path / "page")
    facts = json.loads((tmp_path / "page" / "model.json").read_text())
    male = next(label for label in facts["labels"] if label["value"] == "male")
    facts["labels"] += [{**male, "value": f"male {i}"} for i in range(6)]
    (tmp_path / "page" / "model.json").write_text(json.dumps(facts))
    page = visit(tmp_path / "page")
    page.select_option("#labels select", label="male 5")
    run(page, number=10, length=30, seed=3)
    assert drawn(page) == distinct(model.samples(num=15, length=30, seed=3, labels=["male"]), 10)


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_quantized_files_draw_what_python_draws(visit, tmp_path, quantize):
    original = keras_charlm.load(Path(__file__).parent.parent / "saved_models" / "names")
    original.export(tmp_path / "names.tflite", quantize=quantize)
    content = (tmp_path / "names.tflite").read_bytes()
    write(original, tmp_path / "page", content)
    page = visit(tmp_path / "page")
    run(page, number=200, length=30, seed=7)
    expected = keras_charlm.load(tmp_path / "names.tflite").samples(num=250, length=30, seed=7)
    # int8 rounds what goes into a product too, and there the last bit of a sum can be a step.
    different = set(drawn(page)) ^ set(distinct(expected, 200))
    assert len(different) <= (4 if quantize == "int8" else 0), different


def test_copy_share_and_keep_the_seed(visit, names_page):
    page = visit(
        names_page,
        permissions=["clipboard-read", "clipboard-write"],
        script="navigator.share = (what) => { window.shared = what }",
    )
    run(page, number=5)
    names = drawn(page)
    page.click("#copy")
    page.wait_for_selector("#status:text('Copied.')")
    assert page.evaluate("() => navigator.clipboard.readText()") == "\n".join(names)
    page.locator("#list button").first.click()
    page.wait_for_selector(f"#status:text('Copied {names[0]}.')")
    assert page.evaluate("() => navigator.clipboard.readText()") == names[0]
    page.click("#share")
    assert page.evaluate("() => window.shared.text") == "\n".join(names)
    page.click("#keep")
    run(page)
    assert drawn(page) == names


def test_names_that_were_cut_are_no_new_ones(visit, names_page, list_model):
    model = keras_charlm.load(list_model)
    page = visit(names_page)
    assert page.input_value("#length") == str(model.card.line_limit)
    status = run(page, number=20, seed=3, length=2)
    texts = [s for s in model.samples(num=100, seed=3, length=2) if s.text][: len(drawn(page))]
    cut = sum(not sample.ended for sample in texts)
    assert cut and f" {cut} cut at 2 characters." in status
    marked = page.locator("#list li").evaluate_all("all => all.map(li => li.className === 'new')")
    assert marked == [sample.ended and not model.known(sample.text) for sample in texts]


def test_only_new_names(visit, names_page, list_model):
    page = visit(names_page)
    page.locator("#more").evaluate("more => { more.open = true }")
    page.check("#novel")
    run(page, number=20, seed=3, length=30)
    model = keras_charlm.load(list_model)
    expected = model.samples(num=60, seed=3, length=30, novel=True)
    assert drawn(page) == distinct(expected, 20)


def test_the_writing_pad_goes_on_as_python_does(visit, text_page, text_model):
    page = visit(text_page)
    model = keras_charlm.load(text_model)
    prompt = "the cat sat on a mat. " * 8  # longer than one call reads
    first = model.generate(prompt, length=150, seed=7)
    assert run(page, text=prompt, length=150, seed=7) == "150 characters added. Seed 7."
    assert page.input_value("#text") == first
    # What it wrote is remembered rather than read again, and that changes nothing.
    run(page)
    assert page.input_value("#text") == model.generate(first, length=150, seed=7)
    page.click("#undo")
    assert page.input_value("#text") == first
    assert page.is_disabled("#undo")
    run(page, text="", length=20)
    assert page.input_value("#text") == model.generate(length=20, seed=7)


def test_writing_can_be_stopped_by_keyboard(visit, text_page):
    page = visit(text_page)
    page.locator("#more").evaluate("more => { more.open = true }")
    page.fill("#length", "100000")
    page.fill("#text", "the ")
    page.press("#text", "Control+Enter")
    wait(page, "running")
    page.wait_for_timeout(200)
    page.keyboard.press("Escape")
    wait(page, "ready")
    assert "then stopped" in page.text_content("#status")
    assert 4 < len(page.input_value("#text")) < 100_000


def test_a_byte_model_writes_what_its_bytes_say(visit, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("für Äpfel und Öl 😀\n" * 60)
    model = keras_charlm.fit(
        corpus,
        tmp_path / "model",
        unit="byte",
        layers=1,
        units=8,
        embedding=4,
        batch_size=4,
        seq_length=8,
        epochs=1,
        verbose=0,
    )
    write(model, tmp_path / "page")
    page = visit(tmp_path / "page")
    run(page, text="Ö😀", length=40, seed=1)
    expected = model.generate("Ö😀", length=40, seed=1)
    assert page.input_value("#text") == expected.decode("utf-8", "replace")


def test_unknown_characters_are_named_and_can_be_left_out(visit, names_page, text_page):
    page = visit(names_page)
    page.fill("#begin", "aßb😀")
    page.press("#begin", "Enter")
    message = page.text_content("#problem")
    assert "“ß” (U+00DF), character 2 of your text, nor 1 other in it" in message
    assert page.get_attribute("#begin", "aria-invalid") == "true"
    page.click("#problem button")
    assert page.input_value("#begin") == "ab"
    assert not page.text_content("#problem")
    # Composed as the training text was: e and a combining accent are one character, the first.
    page = visit(text_page)
    page.fill("#text", "e\u0301")
    page.click("#go")
    assert "“é” (U+00E9), character 1 " in page.text_content("#problem")


def test_letters_of_the_other_case_are_offered(visit, names_page):
    page = visit(names_page)
    assert page.get_attribute("#begin", "autocapitalize") == "none"
    page.fill("#begin", "AB")
    page.click("#go")
    page.click("#problem button:text('Use small letters')")
    assert page.input_value("#begin") == "ab"


def test_an_error_takes_the_results_away(visit, names_page):
    page = visit(names_page)
    run(page, number=5)
    page.fill("#begin", "ß")
    page.click("#go")
    assert drawn(page) == []
    assert page.is_hidden("#results") and page.is_hidden("#tools")
    assert page.text_content("#status") == ""
    assert run(page, begin="a", number=1, seed=1).startswith("1 invented, ")


def test_novelty_can_ignore_case(visit, names_page):
    lines = ["Anna Maria", "eve", "BOB", "jean-Luc"]
    known = np.unique(fingerprints(line.encode() for line in lines)).astype("<u8").tobytes()
    asked = ["anna maria", "ANNA MARIA", "Eve", "bob", "Bob", "jean-luc", "Jean-Luc", "evi"]
    page = visit(names_page)
    exact, anyhow = page.evaluate(
        """async ([data, asked]) => {
            const { knownInAnyCase, knownLines } = await import("./novelty.js");
            const known = knownLines(Uint8Array.from(data).buffer);
            return [asked.filter(known), asked.filter(knownInAnyCase(known))];
        }""",
        [list(known), asked],
    )
    assert exact == []
    assert anyhow == ["anna maria", "ANNA MARIA", "Eve", "bob", "Bob"]
    page.locator("#more").evaluate("more => { more.open = true }")
    page.check("#any-case")
    assert run(page, number=20, seed=3).startswith("20 invented, ")


@pytest.mark.parametrize(
    ("field", "value"),
    [("number", ""), ("length", "0"), ("seed", "-1"), ("top_p", "2"), ("top_k", "1.5")],
)
def test_wrong_numbers_are_explained(visit, names_page, field, value):
    page = visit(names_page)
    page.locator("#more").evaluate("more => { more.open = true }")
    page.fill(f"#{field.replace('_', '-')}", value)
    page.click("#go")
    assert "takes a" in page.text_content("#problem")
    assert page.locator(":focus").get_attribute("id") == field.replace("_", "-")


@pytest.mark.parametrize("kind", ["names", "text"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_all_without_scrolling_sideways(
    visit, names_page, text_page, kind, scheme
):
    page = visit(
        names_page if kind == "names" else text_page,
        color_scheme=scheme,
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
    )
    run(page)
    page.set_viewport_size({"width": 320, "height": 600})
    root = page.locator("html")
    assert root.evaluate("e => e.scrollWidth <= window.innerWidth")
    # Every control has a name, and is large enough for a finger.
    small = page.locator("button:visible, input:visible, textarea:visible").evaluate_all(
        "all => all.filter(e => e.getBoundingClientRect().height < 18 || !(e.labels?.length || "
        "e.textContent)).map(e => e.id)"
    )
    assert small == []


def test_works_without_a_network_after_the_first_visit(chromium, serve, names_page):
    context = chromium.new_context()
    address, server = serve(names_page)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("html[data-offline=ready]", state="attached", timeout=60_000)
    run(page, number=10, seed=4)
    before = drawn(page)
    server.shutdown()
    server.server_close()
    context.set_offline(True)
    page.goto(address)
    wait(page, "ready")
    run(page, number=10, seed=4)
    assert drawn(page) == before
    context.close()


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "no model"])
def test_a_broken_model_file_is_reported(visit, names_page, tmp_path, damage):
    folder = tmp_path / "page"
    shutil.copytree(names_page, folder)
    model, facts = folder / web.WEIGHTS, json.loads((folder / web.FACTS).read_text())
    content = model.read_bytes()
    if damage == "gone":
        model.unlink()
    else:
        content = {
            "cut": content[:-1000],
            "changed": content[:-9] + b"x" + content[-8:],
            "no model": b"TFL3" * 1000,
        }[damage]
        model.write_bytes(content)
    if damage == "no model":  # as exported, but not for this engine
        facts["files"][web.WEIGHTS] = {"bytes": len(content), "crc32": zlib.crc32(content)}
        (folder / web.FACTS).write_text(json.dumps(facts))
    page = visit(folder, "broken")
    expected = {"gone": "could not be fetched", "no model": "cannot be opened"}
    assert expected.get(damage, "is damaged") in page.text_content("#status")
    assert page.is_hidden("#form")
    visit.problems.clear()  # the browser's own reports of it


def test_a_browser_without_webassembly_says_so(visit, names_page):
    page = visit(names_page, "broken", "delete window.WebAssembly")
    assert "has no WebAssembly" in page.text_content("#status")


def test_the_page_knows_the_training_lines_and_no_others(visit, names_page):
    known = [f"name {i} " + "é" * (i % 150) for i in range(3000)]  # up to three blocks of the hash
    content = np.unique(fingerprints(line.encode() for line in known)).astype("<u8").tobytes()
    page = visit(names_page)
    others = [f"other {i}" for i in range(20_000)]
    inside, outside, empty = page.evaluate(
        """async ([data, known, others]) => {
            const { knownLines } = await import("./novelty.js");
            const is = knownLines(Uint8Array.from(data).buffer);
            const none = knownLines(new ArrayBuffer(0));
            return [known, others, known].map((lines, i) => lines.filter(i < 2 ? is : none).length);
        }""",
        [list(content), known, others],
    )
    assert (inside, outside, empty) == (len(known), 0, 0)
