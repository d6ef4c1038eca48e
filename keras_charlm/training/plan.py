"""The plan of a training: everything that determines its result, stored in its checkpoint."""

from __future__ import annotations

import dataclasses
import json
import uuid
from dataclasses import dataclass, replace
from typing import Any

from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig
from keras_charlm.defaults import Tuning, resolve
from keras_charlm.errors import BundleError, OptionError, TrainingError
from keras_charlm.files import LARGEST
from keras_charlm.saved.bundle import Bundle
from keras_charlm.saved.card import versions
from keras_charlm.saved.weights import count_parameters
from keras_charlm.text import hints, streams
from keras_charlm.text.corpus import Corpus
from keras_charlm.text.split import Split
from keras_charlm.text.vocabulary import Vocabulary
from keras_charlm.training.compiled import dtype_policy
from keras_charlm.training.synthetic import possible
from keras_charlm.training.workers import Workers

# Settings that may differ between workers, or do not change the result.
_OWN = ("devices", "join_timeout", "tensorboard", "glob")


@dataclass(frozen=True)
class Plan:
    """Everything that determines a training's result, with all settings resolved.

    Args:
        run: Unique identifier of the training.
        files: The text's files, as given; empty for the bundled list of names.
        name: The text's name.
        sha256: Hash of the text.
        corpus, model, fit: The configurations.
        policy: Keras dtype policy of the layers.
        base: Name of the model to start from; empty for none.
        own: The user's own objects; see `Own.serialized`.
    """

    run: str
    files: tuple[str, ...]
    name: str
    sha256: str
    corpus: CorpusConfig
    model: ModelConfig
    fit: FitConfig
    policy: str
    base: str
    own: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """Rebuild from `to_dict`'s value.

        Raises:
            BundleError: It is not such a value.
        """
        configs: dict[str, Any] = {"corpus": CorpusConfig, "model": ModelConfig, "fit": FitConfig}
        try:
            values = {**values, "files": tuple(values["files"])}
            read = {name: config.from_dict(values[name]) for name, config in configs.items()}
            plan = cls(**{**values, **read})
            texts = (
                plan.run,
                plan.name,
                plan.sha256,
                plan.policy,
                plan.base,
                plan.own,
                *plan.files,
            )
            if not all(isinstance(text, str) for text in texts) or None in (
                plan.model.layers,
                plan.model.units,
                plan.model.embedding,
                plan.model.dropout,
                plan.fit.epochs,
                plan.fit.learning_rate,
            ):
                raise TypeError("a value has the wrong type")
            return plan
        except (KeyError, TypeError, AttributeError, OptionError) as error:
            raise BundleError(
                f"The checkpoint's settings are damaged ({error}); train the model again."
            ) from error

    def shared_facts(self, split: Split, workers: Workers, base: Bundle | None) -> dict[str, str]:
        """The facts that must be equal on all workers, under the names that users know.

        Args:
            split: The text's parts.
            workers: This worker among the others.
            base: The model to start from.
        """
        settings = {**self.model.to_dict(), **self.fit.to_dict(), **self.corpus.to_dict()}
        shared = {
            name: str(value) for name, value in settings.items() if name not in (*_OWN, "precision")
        }
        return {
            "program": json.dumps(versions()),
            "number of devices": str(len(workers.parts)),
            "text": self.sha256,
            "vocabulary": json.dumps(split.vocabulary.to_dict()),
            "precision": self.policy,
            "own objects": self.own,
            **shared,
            "starting model": json.dumps(base.card.files) if base else "none",
        }


def make_plan(
    text: Corpus,
    split: Split,
    model: ModelConfig,
    fit: FitConfig,
    replicas: int,
    base: Bundle | None = None,
    tuning: Tuning | None = None,
) -> tuple[Plan, list[str]]:
    """Adapt the settings to the text and the devices.

    Args:
        text: The prepared text.
        split: Its parts.
        model, fit: The configurations as given.
        replicas: Number of devices of all workers.
        base: The model to start from; its shape replaces that of `model`.
        tuning: The defaults for starting from it.

    Returns:
        The plan, and a notice for each setting that differs from the request.

    Raises:
        CorpusError: The text is too short.
    """
    notices = [*text.notices, *hints.hints(text)]
    asked = _divisible(fit.batch_size, replicas), fit.seq_length
    batch, window = streams.fit_windows(split.train, *asked, replicas)
    if asked[0] != fit.batch_size:
        notices.append(
            f"{replicas} devices cannot share a batch of {fit.batch_size} evenly: using {asked[0]}."
        )
    if (batch, window) != asked:
        notices.append(
            f"The text is too short for {asked[0]} rows of several windows of {asked[1]} "
            f"characters: using a batch of {batch} and windows of {window} characters."
        )
    fit = replace(fit, batch_size=batch, seq_length=window)
    if base:
        model = replace(base.card.model, dropout=model.dropout, noise=model.noise)
    model, fit = resolve(model, fit, split.train.length, tuning)
    if not possible(split):
        fit = replace(fit, synthetic=0.0)
    plan = Plan(
        run=uuid.uuid4().hex,
        files=text.files,
        name=text.name,
        sha256=text.sha256,
        corpus=text.config,
        model=model,
        fit=fit,
        policy=dtype_policy(fit.precision),
        base=base.card.name if base else "",
    )
    return plan, notices


def check_size(plan: Plan, vocabulary: Vocabulary) -> None:
    """Raise OptionError if the network is too large for an on-device file.

    Args:
        plan: The training's plan.
        vocabulary: The symbols that the network reads and predicts.
    """
    parameters = count_parameters(plan.model, vocabulary.size, vocabulary.labels)
    size = parameters * {"none": 4, "float16": 2, "int8": 1}[plan.fit.quantize]
    if size > LARGEST:
        half = ", or halve it with --quantize float16" if plan.fit.quantize == "none" else ""
        raise OptionError(
            f"The network has {parameters:,} parameters, and its on-device file would have "
            f"{size:,} bytes where at most {LARGEST:,} are possible; lower --units or "
            f"--layers{half}."
        )


def check_devices(plan: Plan, replicas: int) -> None:
    """Raise TrainingError if `replicas` does not divide the batch of a resumed training."""
    batch = plan.fit.batch_size
    if batch % replicas == 0:
        return
    *others, most = [str(n) for n in range(1, min(batch, 1024) + 1) if batch % n == 0]
    choice = f"{', '.join(others)} or {most}" if others else most
    raise TrainingError(
        f"The training has a batch of {batch}, which {replicas} devices cannot share "
        f"evenly; continue with {choice} of them."
    )


def _divisible(batch: int, replicas: int) -> int:
    """The batch size nearest to `batch` that the devices can share evenly."""
    return max(1, (batch + replicas // 2) // replicas) * replicas
