"""The Python interface: what is given wrongly is told as one of our errors, before any work."""

import pytest

import keras_charlm
from keras_charlm.errors import CharLMError
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
def test_wrong_types_are_told(text_model, tmp_path, monkeypatch, name):
    model = keras_charlm.load(text_model)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CharLMError, match=r" is .*; it takes (a|an) "):
        WRONG[name](model)
    assert not list(tmp_path.iterdir())
