# pyright: reportUnnecessaryTypeIgnoreComment=true
"""A user's script, which mypy and pyright check: each ignored line has a mistake that they find."""

import keras

import keras_charlm
from keras_charlm import CharLM, FitConfig


def train() -> CharLM | None:
    keras_charlm.fit("corpus.txt", epochs=3, max_time="10m", optimizer="adam", lines=True)
    keras_charlm.fit(text=["Anna", "Otto"], optimizer=keras.optimizers.SGD(0.1))
    keras_charlm.fit(text="Once", config=FitConfig(epochs=2), cell="gru")
    keras_charlm.fit("corpus.txt", epoch=3)  # type: ignore[call-arg]
    keras_charlm.fit("corpus.txt", cell="transformer")  # type: ignore[arg-type]
    keras_charlm.fit("corpus.txt", batch_size="many")  # type: ignore[arg-type]
    return keras_charlm.fit("corpus.txt")


def use(model: CharLM) -> float:
    model.generate("Once", temp=0.8, length=100, ban=["cat"])
    model.generate("Once", temperature=0.8)  # type: ignore[call-arg]
    model.export("corpus.tflite", quantize="int8")
    model.export("corpus.tflite", quantize="int4")  # type: ignore[arg-type]
    model.inspect("Once", value="hidden")
    model.inspect("Once", values="hidden")  # type: ignore[call-arg]
    for sample in model.samples(num=3):
        print(sample.seed, sample.text)
    print(model.history["loss"][-1])
    scores = model.evaluate("Some text.", by="kind")
    model.evaluate("Some text.", by="word")  # type: ignore[arg-type]
    print(scores.bits)  # type: ignore[attr-defined]
    return scores.bits_per_character
