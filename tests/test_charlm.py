"""The Python interface: wrong arguments raise one of our errors, before any work."""

import subprocess
import sys

import pytest

import keras_charlm
from keras_charlm.errors import CharLMError, OptionError
from keras_charlm.export import export

WRONG = {
    "load a number": lambda model: keras_charlm.load(3),
    "load bytes": lambda model: keras_charlm.load(b"names"),
    "load a list": lambda model: keras_charlm.load([]),
    "prompt": lambda model: model.generate(5),
    "no prompt": lambda model: model.generate(None),
    "stream": lambda model: model.stream(["a"]),
    "length": lambda model: model.generate(length="x"),
    "fraction": lambda model: model.generate(length=2.5),
    "temp": lambda model: model.generate(temp="hot"),
    "stop": lambda model: model.generate(stop=3),
    "num": lambda model: model.samples(num=True),
    "evaluate a number": lambda model: model.evaluate(3),
    "evaluate a list": lambda model: model.evaluate(["a"]),
    "inspect a number": lambda model: model.inspect(3),
    "inspect a list": lambda model: model.inspect(["a"]),
    "build": lambda model: model.build("x"),
    "export to a number": lambda model: model.export(3),
    "export a number": lambda model: export.export(3),
    "quantize": lambda model: model.export(quantize=3),
    "budget": lambda model: model.export(budget="300KB"),
    "corpus": lambda model: keras_charlm.fit(3),
    "corpora": lambda model: keras_charlm.fit(["a.txt", 3]),
    "output": lambda model: keras_charlm.fit(output=3),
    "init_from": lambda model: keras_charlm.fit(init_from=3),
    "callbacks": lambda model: keras_charlm.fit(callbacks=3),
    "callback": lambda model: keras_charlm.fit(callbacks=["early"]),
    "batch_size": lambda model: keras_charlm.fit(batch_size="a"),
    "resume": lambda model: keras_charlm.resume(3),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_types_are_refused(text_model, tmp_path, monkeypatch, name):
    model = keras_charlm.load(text_model)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CharLMError, match=r" is .*; it takes (a|an) "):
        WRONG[name](model)
    assert not list(tmp_path.iterdir())


def test_an_inspection_writes_its_page(text_model, tmp_path):
    model, page = keras_charlm.load(text_model), tmp_path / "inside.html"
    found = model.inspect("the cat sat on a mat.\n" * 20, ablate=["0:3"], output=page, level=0.5)
    assert isinstance(found, keras_charlm.Inspection)
    assert len(found.codes) == 440 and found.ablations[0].cell == 3
    assert "Inside cats" in page.read_text()
    with pytest.raises(OptionError, match="exists; name another --output"):
        model.inspect("the cat", output=page)
    model.inspect("the cat", output=page, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["inside.html"]


def test_files_are_compressed_and_restored(text_model, tmp_path):
    model, file = keras_charlm.load(text_model), tmp_path / "file"
    file.write_bytes(b"the cat")
    packed, figures = model.compress_file(file)
    assert (packed.name, figures.characters) == ("file.kclm", 7)
    assert model.decompress_file(packed, tmp_path / "again") == (tmp_path / "again", 7)
    assert (tmp_path / "again").read_bytes() == b"the cat"


def test_looking_inside_loads_no_tensorflow_by_itself():
    code = (
        "import sys, keras_charlm.inspection.inspect, keras_charlm.inspection.page; "
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
