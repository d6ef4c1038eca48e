"""The folder that an export to the web writes: what is in it, and where it may be written."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pages import write

import keras_charlm
from keras_charlm.errors import BundleError, ExportError, OptionError
from keras_charlm.export import web
from keras_charlm.export.export import export


def test_refuses_what_it_cannot_write(list_model, text_model, tmp_path):
    model, page = keras_charlm.load(list_model), tmp_path / "page"
    page.mkdir()
    for overwrite, reason in (False, "no export wrote"), (True, "no export wrote"):
        with pytest.raises(OptionError, match=reason):
            export(model, page, to="web", overwrite=overwrite)
    with pytest.raises(ExportError, match="is not the npm package"):
        export(model, tmp_path / "other", to="web", engine="litert", runtime=str(tmp_path))
    with pytest.raises(BundleError, match="not a readable"):
        write(model, tmp_path / "other", content=b"TFL3" * 100)
    (tmp_path / "other").rmdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="There is no folder"):
        export(model, tmp_path / "file" / "page", to="web")
    (page / "letter.txt").write_text("Dear")
    with pytest.raises(OptionError, match="no export wrote"):
        export(model, page, to="web", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "page"]
    assert [p.name for p in page.iterdir()] == ["letter.txt"]


def test_a_page_replaces_the_one_before(list_model, text_model, tmp_path):
    model, page = keras_charlm.load(list_model), tmp_path / "page"
    report = export(model, page, to="web")
    lines = model.bundle.training_lines()
    assert report["novelty"] == {"lines": len(lines), "bytes": 8 * len(lines)}
    assert (np.fromfile(page / web.LINES, "<u8") == lines).all()
    with pytest.raises(OptionError, match="exists"):
        export(model, page, to="web")
    report = export(text_model, page, to="web", overwrite=True)
    assert "novelty" not in report
    assert web.LINES not in report["files"]
    written = {str(p.relative_to(page)): p.stat().st_size for p in page.rglob("*") if p.is_file()}
    assert written == report["files"]


def test_a_name_is_text_and_never_markup(list_model):
    model = keras_charlm.load(list_model)
    facts = web._facts(model, "own", {}, {}) | {"name": "<b>&'\"{{ 1 }}"}
    files = web._page(facts, {web.WEIGHTS: b""})
    index = files["index.html"].decode()
    assert "<b>" not in index
    assert "<title>&lt;b&gt;&amp;&#39;&#34;{{ 1 }}</title>" in index
    worker = files[web.WORKER].decode()
    assert json.loads(re.search("const FILES = (.*);", worker)[1]) == sorted(
        {*files, web.WEIGHTS} - {web.WORKER}
    )


@pytest.mark.parametrize("size", web.ICONS)
def test_icons_are_pictures(size):
    tf = pytest.importorskip("tensorflow")
    page = Path(web.__file__).parent / "page"
    image = tf.io.decode_png((page / f"icon-{size}.png").read_bytes()).numpy()
    assert image.shape == (size, size, 3)
    assert "#{:02x}{:02x}{:02x}".format(*image[0, 0]) in (page / "icon.svg").read_text()
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 3
