"""Character-level language models with Keras: train on your own text, sample, ship.

    import keras_charlm

    model = keras_charlm.fit("corpus.txt", max_time=600)
    print(model.generate("Once", length=200, temp=0.8))
    print(model.evaluate("Some other text.").bits_per_character)

Importing this package loads neither TensorFlow nor NumPy; the names below are imported when used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from keras_charlm import backend  # notes every fork from now on

if TYPE_CHECKING:
    from keras_charlm.charlm import CharLM, load
    from keras_charlm.config import (
        CorpusConfig,
        EvaluateConfig,
        ExportConfig,
        FitConfig,
        InspectConfig,
        ModelConfig,
        SampleConfig,
    )
    from keras_charlm.errors import CharLMError, Interrupted
    from keras_charlm.evaluation.scores import Evaluation, Scores
    from keras_charlm.generation.samples import Sample
    from keras_charlm.inspection.activations import Activations, activations
    from keras_charlm.inspection.inspect import Inspection
    from keras_charlm.network.model import build, loss
    from keras_charlm.text.corpus import Corpus, prepare
    from keras_charlm.text.split import Split, split_corpus
    from keras_charlm.text.streams import Windows
    from keras_charlm.training.pieces import export_network
    from keras_charlm.training.run import fit, resume

__version__ = "0.1.0"

# Where each public name is; it is imported when it is used.
HOMES = {
    "fit": "training.run",
    "resume": "training.run",
    "build": "network.model",
    "loss": "network.model",
    "export_network": "training.pieces",
    "prepare": "text.corpus",
    "Corpus": "text.corpus",
    "split_corpus": "text.split",
    "Split": "text.split",
    "Windows": "text.streams",
    "load": "charlm",
    "CharLM": "charlm",
    "activations": "inspection.activations",
    "Activations": "inspection.activations",
    "Inspection": "inspection.inspect",
    "Sample": "generation.samples",
    "Scores": "evaluation.scores",
    "Evaluation": "evaluation.scores",
    "CorpusConfig": "config",
    "ModelConfig": "config",
    "FitConfig": "config",
    "SampleConfig": "config",
    "InspectConfig": "config",
    "EvaluateConfig": "config",
    "ExportConfig": "config",
    "CharLMError": "errors",
    "Interrupted": "errors",
}
_ON_TENSORFLOW = ("training.run", "training.pieces", "network.model")
__all__ = [
    "Activations",
    "CharLM",
    "CharLMError",
    "Corpus",
    "CorpusConfig",
    "EvaluateConfig",
    "Evaluation",
    "ExportConfig",
    "FitConfig",
    "InspectConfig",
    "Inspection",
    "Interrupted",
    "ModelConfig",
    "Sample",
    "SampleConfig",
    "Scores",
    "Split",
    "Windows",
    "activations",
    "build",
    "export_network",
    "fit",
    "load",
    "loss",
    "prepare",
    "resume",
    "split_corpus",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if HOMES[name] in _ON_TENSORFLOW:
        backend.load()
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
