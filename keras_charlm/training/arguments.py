"""The arguments of `fit` and `resume`, checked."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import keras

from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig, fit_configs
from keras_charlm.config_base import expect
from keras_charlm.errors import CorpusError, OptionError
from keras_charlm.text.corpus import Corpus, prepare
from keras_charlm.text.given import Given, GivenText, given_text
from keras_charlm.text.sources import Paths, path_list
from keras_charlm.training.network import Network
from keras_charlm.training.own import Own, check_names, obey, separate

Config = CorpusConfig | ModelConfig | FitConfig
Callbacks: TypeAlias = keras.callbacks.Callback | Sequence[keras.callbacks.Callback]


@dataclass(frozen=True)
class Request:
    """What `fit` was asked for.

    Args:
        paths: The corpus's files; empty for the bundled list of names.
        stdin: Stream that '-' reads.
        given: The text, if it was given instead of files.
        settings: All settings that were given, by name, without objects.
        corpus, model, fit: The configurations that they make.
        own: The user's own objects.
        callbacks: The user's callbacks.
        network: The user's network.
    """

    paths: Sequence[str | Path]
    stdin: BinaryIO | None
    given: GivenText | None
    settings: dict[str, Any]
    corpus: CorpusConfig
    model: ModelConfig
    fit: FitConfig
    own: Own
    callbacks: list[keras.callbacks.Callback]
    network: Network | None

    def read(self) -> Corpus:
        """Read the files, or the text that was given.

        Raises:
            CorpusError: It cannot be read, or is not text.
        """
        if self.given is None:
            return prepare(self.paths, self.corpus, self.stdin)
        try:
            return replace(prepare(self.paths, self.corpus, self.stdin), name=self.given.name)
        except CorpusError as error:
            raise self.given.explained(error) from error


def request(
    corpus: Paths,
    text: Given | None,
    config: Config | Iterable[Config],
    network: Network | None,
    callbacks: Callbacks,
    stdin: BinaryIO | None,
    settings: Mapping[str, Any],
) -> Request:
    """Check the arguments of `fit`, which describes them.

    Raises:
        OptionError, CorpusError: One is wrong, or two conflict.
    """
    files: Sequence[str | Path] = path_list(corpus)
    users = callback_list(callbacks)
    values, own = separate(_merged(config, settings))
    given = None
    if text is not None:
        if files or stdin is not None:
            raise OptionError("Both a corpus and a text were given; give one of the two.")
        given = given_text(text, values)
        if not isinstance(text, str) and given.settings.get("lines") and values.get("labels"):
            raise OptionError(
                "labels names columns of a table, and a list of texts has none; give the path of a "
                "CSV file, or its content as one string."
            )
        files, stdin, values = ["-"], given.stream, {**values, **given.settings}
    reading, model, fit = fit_configs(values)
    check_names(fit)
    if network is not None:
        _check_network(network, values)
    fit = obey(users, own.described(fit), "schedule" in values or own.rates is not None)
    check_tensorboard(fit.tensorboard)
    if not files:
        reading = replace(reading, lines=True, separator=None, documents=False)
    return Request(files, stdin, given, values, reading, model, fit, own, users, network)


def callback_list(callbacks: Callbacks) -> list[keras.callbacks.Callback]:
    """One callback or several, as a list.

    Raises:
        OptionError: One of them is something else.
    """
    several: list[Any] = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    for callback in several:
        expect("callbacks", callback, keras.callbacks.Callback, "a list of Keras callbacks")
    return several


def _check_network(network: Network, settings: Mapping[str, Any]) -> None:
    """Raise OptionError if settings that shape the network were given besides one."""
    if not callable(network):  # a Sequential is callable, too
        raise OptionError(f"network is {network!r}; it takes a Sequential, or a function.")
    names = [field.name for field in fields(ModelConfig)] + ["size", "precision"]
    if both := [name for name in names if name in settings]:
        raise OptionError(
            f"Both a network and {both[0]} were given, and a network has its own; leave "
            f"{both[0]} out."
        )


def _merged(config: Config | Iterable[Config], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of configurations that are not defaults, and those given by name, which win."""
    values: dict[str, Any] = {}
    several: list[Any] = list(config) if isinstance(config, (list, tuple)) else [config]
    for each in several:
        kinds = (CorpusConfig, ModelConfig, FitConfig)
        expect("config", each, kinds, "a FitConfig, ModelConfig or CorpusConfig, or several")
        for field in fields(each):
            if (value := getattr(each, field.name)) != field.default:
                values[field.name] = value
    return {**values, **settings}


def check_tensorboard(folder: str | None) -> None:
    """Check before the training that TensorBoard's events can be written."""
    if folder is None:
        return
    if not importlib.util.find_spec("tensorboard"):
        raise OptionError(
            "--tensorboard needs the package tensorboard; install it with: "
            "pip install 'keras_charlm[tensorboard]'"
        )
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"TensorBoard's folder {folder} cannot be made "
            f"({error.strerror or error}); name another."
        ) from error
