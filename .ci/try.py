"""Fit, generate and export with the installed package, in a few seconds: `python .ci/try.py`."""

import os
import sys
import tempfile

import keras_charlm

os.chdir(tempfile.mkdtemp())
model = keras_charlm.fit(
    text="The cat sat on the mat.\n" * 100, epochs=2, layers=1, units=8, embedding=4, verbose=0,
    init_from=None,
)  # fmt: skip
assert model is not None
drawn = model.generate("The", length=20, seed=1)
model.export("cats.tflite")
assert keras_charlm.load("cats.tflite").generate("The", length=20, seed=1) == drawn
assert keras_charlm.load("names").generate(seed=1)
print(f"Python {sys.version.split()[0]}: fits, generates and exports")
