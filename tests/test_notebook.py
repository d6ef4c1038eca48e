"""The notebook of docs/ runs, and shows what notebooks can show."""

from pathlib import Path

import pytest

import keras_charlm
from keras_charlm.evaluation.scores import Evaluation

NOTEBOOK = Path(__file__).parent.parent / "docs" / "first-hour.ipynb"
# Instead of twelve epochs: a small network that has hardly learned.
SMALL = {"epochs=EPOCHS)": "epochs=2, layers=1, units=8, embedding=4, synthetic=0, max_time=20)"}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The notebook's cells with their outputs, in a small form."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        for long, short in SMALL.items():
            cell.source = cell.source.replace(long, short)
    folder = str(tmp_path_factory.mktemp("notebook"))
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": folder}}
    ).execute()
    return {
        cell.source.splitlines()[0]: cell.outputs for cell in notebook.cells if cell.get("outputs")
    }


def html(outputs):
    return "".join(output.data.get("text/html", "") for output in outputs if "data" in output)


def test_the_notebook_has_no_line_of_the_libraries(cells):
    streams = [o for outputs in cells.values() for o in outputs if o.output_type == "stream"]
    assert {stream.name for stream in streams} == {"stdout"}
    text = "".join(stream.text for stream in streams)
    for noise in ("Assets written", "cuda", "CUDA", "tensorflow", "WARNING", "INFO", "XNNPACK"):
        assert noise not in text
    assert "epoch   2   train" in text
    assert "1.5 " in text  # the temperatures


def test_the_notebook_draws_the_progress_bar(cells):
    outputs = cells["EPOCHS = 12"]
    assert "━" in html(outputs)


def test_models_scores_and_pages_show_themselves(cells):
    assert "bits per character</td>" in html(cells["model"])
    assert "rgba(220, 60, 40" in html(cells["model"])
    assert "bits per character</th>" in html(cells['model.evaluate(baseline="ngram", by="kind")'])
    for first in ("model.report()", 'text = "\\n".join(sample.text for sample in '
                  "model.samples(num=150, seed=2))"):  # fmt: skip
        assert html(cells[first]).startswith('<iframe srcdoc="&lt;!doctype html')
    assert "image/png" in cells["import matplotlib.pyplot as plt"][0].data


def test_a_text_is_coloured_by_its_surprise(text_model):
    model = keras_charlm.load(text_model)
    found = model.surprise("the <cat\x1b")
    assert len(found.bits) == 9
    assert found.bits.mean() == pytest.approx(
        next(model.scores(["the <cat\x1b"])).bits / 9, rel=1e-4
    )
    assert ">&lt;</span>" in found.html() and "\x1b" not in found.html()


def test_scores_that_were_not_measured_have_no_row():
    page = Evaluation(5, 1.0, 1.5, 2.0, 0.5, text="a <b>")._repr_html_()
    assert "a &lt;b&gt;" in page and "1.5000" in page and "dynamic" not in page
