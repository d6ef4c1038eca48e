"""Character-level language models with Keras: train on your own text, sample, ship.

    import keras_charlm

    model = keras_charlm.fit("corpus.txt", max_time=600)
    print(model.generate("Once", length=200, temp=0.8))
    print(model.evaluate("Some other text.").bits_per_character)

Importing this package loads neither TensorFlow nor NumPy; the names below are imported when used.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

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
    from keras_charlm.training.run import fit, resume

__version__ = "0.1.0"

# Where each public name is; it is imported when it is used.
HOMES = {
    "fit": "training.run",
    "resume": "training.run",
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
__all__ = [
    "Activations",
    "CharLM",
    "CharLMError",
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
    "activations",
    "fit",
    "load",
    "resume",
]


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(_load(f"{__name__}.{HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _load(module: str) -> ModuleType:
    """Import a module, without what TensorFlow logs as it loads if the user has not asked for it.

    It logs a missing GPU or a lost worker as errors; what matters is raised as well.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or "tensorflow" in sys.modules:
        return import_module(module)
    from keras_charlm.display import quiet

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with quiet():  # the level does not hold for the first lines
        return import_module(module)


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
