"""The report: a page whose figures are the model's own, and whose texts do nothing."""

import csv
import json
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import TINY
from test_terminal import EVIL, MARKUP, hostile_model

import keras_charlm
from keras_charlm.errors import BundleError
from keras_charlm.evaluation import ngram
from keras_charlm.report import charts, drawn, report
from keras_charlm.saved import bundle
from keras_charlm.saved.history import TrainingSample, read_samples, write_samples
from keras_charlm.text.corpus import prepare
from keras_charlm.text.split import split_corpus
from keras_charlm.training.progress import MOST_TRACED, Progress


class Page(HTMLParser):
    """A page's tags, addresses, ids and text by element id."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.addresses, self.ids, self.text = [], [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action", "srcset"):
                self.addresses.append(value)
            elif name == "id":
                self.ids.append(value)

    def handle_data(self, data):
        self.text += data


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def cells(html):
    """The history's table, without its head."""
    table = re.search(r'<table id="history">.*?</table>', html, re.S)[0]
    found = [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr")]
    return [row for row in found if row]


@pytest.fixture(scope="module")
def hostile(made_once):
    """A model of a text that would run as a program if a page let it, with a bell in it."""
    return made_once("hostile", hostile_model) / f"m{EVIL}"


def test_every_fit_leaves_one_and_its_figures_are_the_model_s(text_model):
    html = (text_model / "report.html").read_text()
    card = keras_charlm.load(text_model).card
    for part in ("validation", "test"):
        shown = re.search(rf'data-figure="{part}">([\d.]+)<', html)[1]
        assert shown == f"{card.scores[part]['bits_per_character']:.3f}"
    history = rows(text_model / "history.csv")
    assert len(cells(html)) == len(history) == 2
    for shown, row in zip(cells(html), history, strict=True):
        assert shown[0] == row["epoch"]
        assert int(shown[1].replace(",", "")) == int(row["step"])
        assert shown[3] == f"{float(row['train_bits_per_character']):.4f}"
        assert shown[4] == f"{float(row['val_bits_per_character']):.4f}"
    assert f"{card.corpus['characters']:,} characters" in html
    for name, version in card.versions.items():
        assert name in html and version in html


def test_the_baseline_is_that_of_counting_and_is_counted_again_alike(text_model):
    card = keras_charlm.load(text_model).card
    text = prepare(card.corpus["files"], card.corpus_config)
    split = split_corpus(text, card.fit.seed)
    best = ngram.baseline(split)
    (counted,) = card.scores["baseline"]
    assert counted["order"] == best.order
    for part in ("validation", "test"):
        assert counted[part] == pytest.approx(best.bits_per_character(getattr(split, part)))
    html = (text_model / "report.html").read_text()
    assert f">{counted['test']:.2f} \u00b1 {counted['test_margin']:.2f}<" in html


def test_the_verdict_is_that_of_the_margin(text_model, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(text_model, folder)
    values = json.loads((folder / "config.json").read_text())
    network, (row,) = values["scores"]["test"], values["scores"]["baseline"]
    verdicts = ("bits less", "counting is better", "within the margin of error", "not tell which")
    for bits, margin, words in (
        (3.0, 0.4, verdicts[:1]),
        (2.0, 0.4, verdicts[1:2]),
        (2.6, 0.4, verdicts[2:]),
        (2.4, 0.4, verdicts[2:]),
        (3.0, None, verdicts[3:]),
    ):
        network["bits_per_character"] = 2.5
        row |= {"test": bits, "test_margin": margin}
        (folder / "config.json").write_text(json.dumps(values))
        text = Page(report.write(folder).read_text()).text
        assert tuple(verdict for verdict in verdicts if verdict in text) == words


def test_it_is_rebuilt_byte_for_byte_and_the_model_stays_whole(
    text_model, of_all, tmp_path, kcharlm
):
    trained, folder = of_all / "made" / "text" / "cats", tmp_path / "m"
    shutil.copytree(trained, folder)  # `text_model` is a copy, whose report names the original
    first = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    code, out, err = kcharlm("report", folder)
    assert (code, out, err) == (0, f"{folder}/report.html\n", "")
    again = (folder / "report.html").read_bytes()
    assert again.replace(bytes(folder), bytes(trained)) == first
    again = keras_charlm.load(trained).report(tmp_path / "page.html")
    assert again.read_bytes() == first
    opened = bundle.open_bundle(folder)
    for name in opened.card.files:
        opened.file(name)


def test_a_model_without_a_baseline_is_counted_where_its_text_is_still_there(
    text_model, text_file, tmp_path, kcharlm, monkeypatch
):
    folder = tmp_path / "m"
    shutil.copytree(text_model, folder)
    values = json.loads((folder / "config.json").read_text())
    (counted,) = values["scores"].pop("baseline")
    shown = f">{counted['test']:.2f} \u00b1 {counted['test_margin']:.2f}<"
    (folder / "config.json").write_text(json.dumps(values))
    assert "counting" in kcharlm("report", folder)[2]
    assert shown in (folder / "report.html").read_text()

    monkeypatch.setenv("KERAS_CHARLM_CACHE", str(tmp_path / "empty"))
    values["corpus"]["files"] = [str(tmp_path / "gone.txt")]
    (folder / "config.json").write_text(json.dumps(values))
    assert kcharlm("report", folder)[0] == 0
    html = (folder / "report.html").read_text()
    assert shown not in html
    assert "the training text is no longer where it was" in " ".join(html.split())
    assert kcharlm("report", folder, "--corpus", text_file)[0] == 0
    assert shown in (folder / "report.html").read_text()
    (tmp_path / "other.txt").write_text("other")
    code, _, err = kcharlm("report", folder, "--corpus", tmp_path / "other.txt")
    assert code == 2 and "is not the text" in err


def test_nothing_is_fetched_and_ids_are_unique(text_model, list_model, hostile):
    for folder in (text_model, list_model, hostile):
        html = (folder / "report.html").read_text()
        page = Page(html)
        assert all(address.startswith("#") for address in page.addresses)
        assert {a[1:] for a in page.addresses} <= set(page.ids)
        assert len(set(page.ids)) == len(page.ids)
        assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
        assert set(re.findall(r"https?://[^\"' <)]+", html)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert "@import" not in html and not re.search(r"url\((?!#)", html)
        assert page.tags.count("svg") == page.tags.count("desc") == 4  # two charts, two widths


def test_texts_are_shown_as_they_are(hostile):
    samples = hostile / "samples.jsonl"
    first = json.loads(samples.read_text().splitlines()[0])
    samples.write_text(json.dumps({**first, "text": f"\a{MARKUP}"}) + "\n")
    html = report.write(hostile).read_text()
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert "\u2407" + MARKUP in page.text
    assert "<b>x.txt" in page.text
    assert "<b>x" not in html


@pytest.mark.parametrize("model", ["hostile", "list_model"])
@pytest.mark.parametrize("width", [1100, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_from_disk_in_a_browser(model, width, scheme, chromium, request):
    folder, problems = request.getfixturevalue(model), []
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda asked: asked.url.startswith("file:") or problems.append(asked.url))
    page.goto((folder / "report.html").resolve().as_uri())
    assert page.evaluate("window.hurt") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in page.locator("figure.chart").all():
        shown = [svg for svg in chart.locator("svg").all() if svg.is_visible()]
        assert [svg.get_attribute("class") for svg in shown] == [
            "wide" if width > 640 else "narrow"
        ]
    ink = page.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
    assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > 380) == (scheme == "dark")
    context.close()
    assert not problems


@pytest.mark.parametrize("model", ["text_model", "list_model"])
def test_nothing_on_paper_leaves_half_a_page_empty(model, chromium, request):
    millimetre = 96 / 25.4
    width, height = (210 - 28) * millimetre, (297 - 28) * millimetre  # A4 within its margins
    page = chromium.new_page(viewport={"width": int(width), "height": int(height)})
    page.emulate_media(media="print")
    page.goto((request.getfixturevalue(model) / "report.html").resolve().as_uri())
    heights = page.evaluate(
        "[...document.querySelectorAll('body *')]"
        ".filter(e => getComputedStyle(e).breakInside == 'avoid')"
        ".map(e => e.getBoundingClientRect().height)"
    )
    page.close()
    assert len(heights) > 10 and 0 < max(heights) < 0.4 * height


def test_samples_at_temperatures_are_those_of_generate(text_model, kcharlm):
    page = Page((text_model / "report.html").read_text())
    model = keras_charlm.load(text_model)
    for temp in drawn.TEMPERATURES:
        text = model.generate(temp=temp, seed=drawn.SEED, length=drawn.LENGTH)
        assert drawn.cut(text) in page.text
    ((first, _),) = drawn.first(model)
    settings = {"seed": drawn.FIRST_SEED, "length": drawn.FIRST_LENGTH}
    assert first == drawn.cut(model.generate(temp=drawn.FIRST_TEMP, **settings))
    assert page.text.index(first) < page.text.index("bits per character, test")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("The one line.\nA second", "The one line."),
        ("A first line.\nA second.\n", "A first line.\nA second."),
        (
            "a\nthe half after this line break has none",
            "a\nthe half after this line break has \u2026",
        ),
        ("ROMEO:\nAy, that is all I said.\n\nJULIET:\n", "ROMEO:\nAy, that is all I said."),
        ("ROMEO:\n\nAy, that is all\nthat I sai", "ROMEO:\n\nAy, that is all"),
        ("xqzjvkwp", "xqzjvkwp"),
        ("", ""),
    ],
)
def test_a_sample_is_cut_where_a_line_ends(text, shown):
    assert drawn.cut(text) == shown


def test_novelty_of_a_list_is_that_of_its_lines(list_model):
    model = keras_charlm.load(list_model)
    known = set((list_model.parent / "names.txt").read_text().split())
    for one in drawn.draw(model):
        samples = list(model.samples(temp=one.temp, num=one.number, seed=drawn.SEED, repeat=True))
        # Held-out lines stand in the file, but not in the training part: they count as new. A line
        # that was cut does not.
        new = [s.text for s in samples if s.ended and not model.known(s.text)]
        least = sum(s.ended and s.text not in known for s in samples) / len(samples)
        assert least <= one.novel == len(new) / len(samples) <= 1
        assert one.distinct == len({s.text for s in samples}) / len(samples)
        assert all(marked == (text in new) for text, marked in one.texts)
    html = (list_model / "report.html").read_text()
    assert f"{one.novel:.0%} new" in html
    shown = re.findall(r'<li dir="auto"( class="new")?>(.*?)</li>', html)
    wanted = drawn.first(model) + [pair for one in drawn.draw(model) for pair in one.texts]
    assert [(text, bool(new)) for new, text in shown] == wanted
    assert {new for _, new in wanted} == {True, False} and "<s" not in Page(html).tags


def test_samples_are_read_back(text_model):
    samples = read_samples(text_model)
    history = {int(row["step"]): row for row in rows(text_model / "history.csv")}
    assert samples and samples[-1].step in history
    for sample in samples:
        row = history[sample.step]
        assert sample.epoch == int(row["epoch"])
        assert sample.train == pytest.approx(float(row["train_bits_per_character"]), abs=1e-4)
        assert sample.validation == pytest.approx(float(row["val_bits_per_character"]), abs=1e-4)
    text = (text_model / "samples.txt").read_text()
    assert text == "".join(sample.render("character") for sample in samples)
    assert all(f" ====\n{sample.text}\n\n" in text for sample in samples)


def test_a_sample_may_look_like_a_title(tmp_path):
    text = "==== step 3, training loss 1.0000 bits per character ====\nmine\u2028\r\ud800"
    samples = [TrainingSample(9, 1, 2.5, None, text), TrainingSample(20, None, 2.0, None, "")]
    write_samples(tmp_path, b"".join(sample.to_line() for sample in samples), "character")
    assert read_samples(tmp_path) == samples
    assert (
        (tmp_path / "samples.txt")
        .read_bytes()
        .startswith(b"==== epoch 1, step 9, train 2.5000 bits per character ====\n==== step 3, ")
    )


@pytest.mark.parametrize(
    "change",
    [{"step": -1}, {"step": 1.5}, {"epoch": "1"}, {"train": "2"}, {"train": -1.0}, {"text": 3},
     {"validation": 1e16}, {"more": 1}],
)  # fmt: skip
def test_damaged_samples_are_refused_in_one_sentence(text_model, tmp_path, change):
    line = (text_model / "samples.jsonl").read_text().splitlines()[0]
    (tmp_path / "samples.jsonl").write_text(json.dumps({**json.loads(line), **change}))
    with pytest.raises(BundleError, match=r"samples\.jsonl cannot be read"):
        read_samples(tmp_path)


def test_the_report_of_a_byte_model_has_its_samples(byte_model):
    assert "bits per byte ====" in (byte_model / "samples.txt").read_text()
    samples = read_samples(byte_model)
    assert samples and samples[-1].text
    assert "Watch it learn" in (byte_model / "report.html").read_text()


@pytest.mark.parametrize("steps", [[1], [1, 2], range(1, 2000), [100, 200, 400, 800, 1600] * 2])
def test_chosen_samples_rise_and_have_both_ends(steps):
    chosen = report.choose([TrainingSample(step, None, 1.0, None, "") for step in sorted(steps)])
    found = [sample.step for sample in chosen]
    assert found == sorted(set(found)) and len(found) == min(report.MOMENTS, len(set(steps)))
    assert (found[0], found[-1]) == (min(steps), max(steps))


def test_a_folder_without_history_still_has_a_page(text_model, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(text_model, folder)
    for name in ("history.csv", "curve.csv", "samples.jsonl", "samples.txt", "report.html"):
        (folder / name).unlink()
    html = report.write(folder).read_text()
    assert "The course of the training" not in html and "Watch it learn" not in html
    assert 'data-figure="test"' in html
    good = (text_model / "history.csv").read_text()
    for bad in ("epoch,step\n1,x\n", "epoch,step\n1,2\n", good.replace("2,", "2,nan,"), good + ","):
        (folder / "history.csv").write_text(bad)
        with pytest.raises(BundleError, match=r"history\.csv cannot be read"):
            report.write(folder)


def test_a_model_without_held_out_text_says_so(text_model, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(text_model, folder)
    values = json.loads((folder / "config.json").read_text())
    values["scores"] = {"epoch": 2}
    values["split"] |= {"validation": {"characters": 0}, "test": {"characters": 0}}
    (folder / "config.json").write_text(json.dumps(values))
    history = [row | {"val_bits_per_character": ""} for row in rows(folder / "history.csv")]
    with (folder / "history.csv").open("w") as file:
        table = csv.DictWriter(file, history[0])
        table.writeheader()
        table.writerows(history)
    html = report.write(folder).read_text()
    page = Page(html)
    assert "Kept epoch 2, the last." in page.text
    assert "no held-out text" in page.text and page.tags.count("svg") == 2
    assert "data-figure" not in html and 'class="key validation"' not in html


def test_the_speed_is_shown_from_three_epochs_on_and_the_kept_epoch_named(text_model, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(text_model, folder)
    assert "characters a second" not in report.write(folder).read_text()
    last = rows(folder / "history.csv")[-1]
    last |= {"epoch": "3", "step": str(int(last["step"]) + 9), "val_bits_per_character": "9"}
    with (folder / "history.csv").open("a") as file:
        csv.DictWriter(file, last).writerow(last)
    html = report.write(folder).read_text()
    assert "characters a second</text>" in html and "a second (median" in html
    epoch = keras_charlm.load(folder).card.scores["epoch"]
    assert f"Kept epoch {epoch} of 3, the best on validation." in Page(html).text


def test_the_curve_reaches_an_even_guess_and_marks_the_shown_samples():
    steps = np.arange(1, 41) * 1000.0
    pair, none = (steps, np.full(40, 2.0)), (np.zeros(0), np.zeros(0))
    plain, marked = (
        charts.curves(charts.Curves(pair, none, pair, none, pair, 6.0, samples=at), "Title", "")
        for at in (none[0], steps[:7])
    )
    assert marked.count("<use") == plain.count("<use") + 2 * 7  # in two widths
    assert marked.count("an even guess, 6.00<") == 2
    labels = [float(text) for text in re.findall(r">(\d\.?\d?)</text>", marked)]
    assert max(labels) == 6 and "characters a second" not in marked


def test_a_stopped_training_leaves_one_too(unfinished, of_all):
    text = Page((unfinished / "report.html").read_text()).text
    assert "was stopped before its end" in text
    assert f"kcharlm fit --resume {of_all / 'made' / 'unfinished' / 'cats'}" in text


def test_a_failing_report_fails_no_fit(text_file, tmp_path, monkeypatch, capfd):
    # A module that cannot be imported: the way a broken installation of a library shows.
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("charts", "figures", "report"):
        monkeypatch.delitem(sys.modules, f"keras_charlm.report.{name}", raising=False)
        monkeypatch.delattr(keras_charlm.report, name, raising=False)
    keras_charlm.fit(text_file, tmp_path / "m", epochs=1, **TINY | {"verbose": 1})
    assert "The report could not be written" in capfd.readouterr().err
    assert not (tmp_path / "m" / "report.html").exists()
    assert keras_charlm.load(tmp_path / "m").generate(length=5, seed=1)


def test_wrong_arguments_are_refused(text_model, tmp_path, kcharlm):
    for args, words in (
        ([], "Missing argument"),
        ([tmp_path / "no"], "There is no model"),
        ([tmp_path], "is no model"),
        ([text_model / "model.tflite"], "is only an on-device file"),
        ([text_model, "-o", tmp_path / "no" / "x.html"], "There is no folder"),
    ):
        code, out, err = kcharlm("report", *args)
        assert (code, out) == (2, "") and words in err and "Traceback" not in err
    assert "is a folder" in kcharlm("report", text_model, "-o", tmp_path)[2]
    assert kcharlm("report", text_model, "-o", tmp_path / "x.html")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]


def test_a_trace_is_thinned_and_its_means_are_of_the_batches_between():
    losses = np.random.default_rng(0).uniform(1, 5, 3000)
    steps, progress = 700, Progress()
    for step in range(1, len(losses) + 1):
        progress.step = step
        within = losses[(step - 1) // steps * steps : step]  # what Keras's mean is of
        progress.note(float(within.mean()), rate=step / 1000)
    curve = progress.curve(steps)
    assert MOST_TRACED / 2 <= len(curve) <= MOST_TRACED
    before = 0
    for step, _, bits, rate in curve:
        assert rate == step / 1000
        begin = max(before, (step - 1) // steps * steps)
        assert bits == pytest.approx(losses[begin:step].mean(), abs=1e-4)
        before = step
