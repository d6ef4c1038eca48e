"""An opened model: its card, its on-device file for sampling, and its Keras network."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import numpy as np

from keras_charlm import backend
from keras_charlm.config import SampleConfig
from keras_charlm.config_base import expect, lists_settings, plain_number
from keras_charlm.effects import note, unused
from keras_charlm.errors import CorpusError, OptionError, brief
from keras_charlm.files import is_kind
from keras_charlm.generation.constraints import is_constrained
from keras_charlm.generation.litert import Runner, score_characters
from keras_charlm.generation.samples import Counts, Sample, draw_samples, stream_text
from keras_charlm.generation.scoring import Score, Surprise, score_lines
from keras_charlm.saved import bundle, reading
from keras_charlm.saved.history import read_history
from keras_charlm.saved.reading import InputText
from keras_charlm.settings import SampleSettings
from keras_charlm.text.corpus import Corpus, prepare, reopen
from keras_charlm.text.decoding import open_blocks, read_pieces, read_text
from keras_charlm.text.filetype import READ
from keras_charlm.text.labels import Label, choose
from keras_charlm.text.likeness import key_fingerprints
from keras_charlm.text.records import split
from keras_charlm.text.sources import Paths, file_names, path_list
from keras_charlm.text.split import Split, split_corpus
from keras_charlm.text.vocabulary import NEWLINE, UNKNOWN, describe, normalize

if TYPE_CHECKING:
    import keras

Model = TypeVar("Model", bound="TrainedModel")
_LONGEST_NAME = 4096  # characters of a path


def _membership(prints: np.ndarray, ignore_case: bool = False) -> Callable[[str | bytes], bool]:
    """A function that tells whether a line has one of these fingerprints, uint64 (L,) ascending."""

    def known(line: str | bytes) -> bool:
        fingerprint = key_fingerprints([line], ignore_case)[0]
        at = np.searchsorted(prints, fingerprint)
        return bool(at < len(prints) and prints[at] == fingerprint)

    return known


class TrainedModel:
    """A trained character-level language model.

    Args:
        path: The model's folder, its name under saved_models/, or a .tflite file; by default the
            newest model under saved_models/, or the bundled name generator if there is none.

    Attributes:
        path: Its folder, or its .tflite file.
        card: Its configuration, corpus and scores.
        vocabulary: Its characters.

    Raises:
        BundleError: The folder is missing, incomplete, damaged or of another format.
    """

    def __init__(self, path: str | Path | None = None):
        self.bundle = bundle.open_bundle(path)
        self.path, self.card = self.bundle.path, self.bundle.card
        self.vocabulary = self.bundle.vocabulary

    @classmethod
    def of(cls: type[Model], model: TrainedModel | str | Path) -> TrainedModel:
        """The model itself, or the one with a path or name."""
        return model if isinstance(model, TrainedModel) else cls(model)

    def __repr__(self) -> str:
        shape = self.card.model
        return f"<{type(self).__name__} {self.path}: {shape.layers} x {shape.units} {shape.cell}>"

    def __getstate__(self) -> dict[str, Any]:
        """For `pickle` and `copy`: runner and network are opened again when they are needed."""
        path = self.path.resolve()  # the other process may be in another folder
        opened = dataclasses.replace(self.bundle, path=path)
        return {"bundle": opened, "path": path, "card": self.card, "vocabulary": self.vocabulary}

    @functools.cached_property
    def history(self) -> dict[str, list[float]]:
        """The losses of each epoch in nats, as `keras.callbacks.History` has them: `loss`,
        `val_loss` and `learning_rate`; empty for an on-device file."""
        record = None if self.on_device else read_history(self.path)
        return record.by_epoch() if record else {}

    @property
    def on_device(self) -> bool:
        """Whether this is only a .tflite file."""
        return isinstance(self.bundle, bundle.DeviceFile)

    @property
    def start(self) -> int:
        """Id of the character that is read first if there is no prompt."""
        return self.vocabulary.id_of(self.card.start)

    @functools.cached_property
    def device_file(self) -> Path:
        """The on-device file, its hash verified."""
        return self.bundle.file(bundle.DEVICE)

    @functools.cached_property
    def runner(self) -> Runner:
        """The on-device file, opened in LiteRT."""
        return Runner(self.device_file)

    @functools.cached_property
    def model(self) -> keras.Sequential:
        """The Keras model in float32, batch size 1, with zero states."""
        return self.build(batch_size=1)

    def build(self, batch_size: int) -> keras.Sequential:
        """Build the Keras model with its trained weights, with zero states.

        Args:
            batch_size: Rows of a batch.
        """
        expect("batch_size", plain_number(batch_size), int, "a whole number")
        backend.load()
        from keras_charlm.network.model import build, named_weights

        weights = self.bundle.weights()
        size, labels = self.vocabulary.size, self.vocabulary.labels
        model = build(self.card.model, size, int(batch_size), labels=labels)
        for name, variable in named_weights(model).items():
            variable.assign(weights[name])
        return model

    @lists_settings(SampleConfig)
    def samples(
        self,
        prompt: str | bytes = "",
        counts: Counts | None = None,
        **settings: Unpack[SampleSettings],
    ) -> Iterator[Sample]:
        """Draw `num` texts as a batch; each is yielded when it and those before it are complete.

        Args:
            prompt: The text to continue.
            counts: Updated with the numbers of samples drawn and novel.
            **settings: Fields of SampleConfig.

        Returns:
            An iterator of Sample (text, prompt, seed, bits_per_character).

        Raises:
            PromptError: The prompt has a character outside the vocabulary.
            OptionError: A setting is out of range.
        """
        config = self._sampling(settings)
        labels = self.labels(config.labels)
        known = None
        if config.novel:
            known = self.known_lines(config.ignore_case)
        elif config.novel_label:
            known = _membership(self.bundle.labelled_lines(labels))
        return draw_samples(
            self.runner,
            self.vocabulary,
            config,
            prompt,
            known=known,
            counts=counts,
            usual=self._usual_length(),
            labels=[label.code for label in labels],
            **self._reading(),
        )

    @lists_settings(SampleConfig)
    def stream(
        self, prompt: str | bytes = "", **settings: Unpack[SampleSettings]
    ) -> Iterator[str | bytes]:
        """Draw one text and yield it piece by piece, without the prompt.

        Arguments and errors are those of `samples`; `num` and `novel` are ignored.
        """
        config = self._sampling(settings)
        return stream_text(
            self.runner,
            self.vocabulary,
            config,
            prompt,
            usual=self._usual_length(),
            labels=[label.code for label in self.labels(config.labels)],
            **self._reading(),
        )

    def scores(
        self,
        texts: Iterable[str | bytes],
        *,
        labels: str | Sequence[str] = (),
        label_prior: str = "shares",
    ) -> Iterator[Score]:
        """Score lines one after another, each from the beginning of a text.

        Args:
            texts: The lines, without newlines.
            labels: Labels of all lines, as VALUE or COLUMN=VALUE.
            label_prior: Probabilities of the labels before a line is read: 'shares', as in the
                training text, or 'even'.

        Returns:
            An iterator of Score (text, characters, bits, bits_per_character, and for a model with
            labels the likeliest label of each column whose label is not given).

        Raises:
            OptionError: The model has no such label, or there is no such prior.
        """
        if label_prior not in ("shares", "even"):
            raise OptionError(
                f"label_prior is {brief(repr(label_prior))}; choose one of shares, even."
            )
        if isinstance(texts, (str, bytes)):
            raise OptionError("texts is a single text; give a list of lines.")
        if label_prior != "shares" and not self.card.labels:
            note(["label_prior has no effect on a model without labels."])
        return score_lines(
            self.runner,
            self.vocabulary,
            texts,
            given=self.labels(labels),
            labels=self.card.labels,
            even=label_prior == "even",
            lines=self.card.lines,
            start=self.card.start,
            normalize=self.card.normalize,
        )

    def labels(self, requested: str | Sequence[str]) -> tuple[Label, ...]:
        """The labels with these names, in the order of their columns.

        Args:
            requested: Each as VALUE or COLUMN=VALUE, at most one of each column.

        Raises:
            OptionError: There is no such label.
        """
        return choose(self.card.labels, [requested] if isinstance(requested, str) else requested)

    def surprise(self, text: str | bytes) -> Surprise:
        """How surprising each character of a text is; a notebook colours it by that.

        Args:
            text: The text, read from the beginning.

        Returns:
            Surprise (text, bits).

        Example:
            >>> model.surprise(model.generate("Once", length=200, seed=1))
        """
        expect("text", text, (str, bytes), "a text")
        if isinstance(text, str):
            text = normalize(text, self.card.normalize)
        codes = np.concatenate([[self.card.start], self.vocabulary.to_codes(text)])
        ids = self.vocabulary.lookup(codes)
        bits, _ = score_characters(self.runner, codes.astype(np.int64), ids)
        return Surprise(text, bits)

    @functools.cached_property
    def known(self) -> Callable[[str | bytes], bool]:
        """A function that tells whether a line is in the training text (models of lines only)."""
        return self.known_lines()

    def known_lines(self, ignore_case: bool = False) -> Callable[[str | bytes], bool]:
        """A function that tells whether a line is in the training text, apart from blanks.

        Args:
            ignore_case: Whether upper and lower case are the same.

        Raises:
            BundleError: The model was not trained on lines, or has no record of them.
        """
        return _membership(self.bundle.training_lines(ignore_case), ignore_case)

    def read(self, text: str | bytes | Path | InputText, encoding: str | None = None) -> InputText:
        """Read a text like the corpus: normalized, and decoded if it is a file.

        Args:
            text: The text itself, or the Path of a file; '-' is stdin.
            encoding: Encoding of the file, if it is not that of the corpus.

        Returns:
            The text, which `evaluate`, `inspect` and `activations` take.

        Raises:
            CorpusError: The file cannot be read, is not text, or is empty.
        """
        if isinstance(text, InputText):
            return text
        if isinstance(text, Path):
            return reading.read_file(text, self.card.corpus_config, encoding)
        if isinstance(text, str) and len(text) < _LONGEST_NAME and is_kind(text, Path.is_file):
            about = (
                f"The text {brief(repr(text))} is also the name of a file, which Path(...) reads."
            )
            note([about], stacklevel=5)
        return reading.read_given(text, self.vocabulary, self.card)

    def read_prompt(self, path: str | Path, encoding: str | None = None) -> str | bytes:
        """Read a file like the corpus, as a prompt.

        Args:
            path: The file; '-' is stdin.
            encoding: Encoding of the file, if it is not that of the corpus.

        Returns:
            The text, bytes for a byte model; it may be empty. For a model of lines it is without
            the newline that ends the file.

        Raises:
            CorpusError: It cannot be read, or is not text in the corpus's encoding.
        """
        # Of a list, the line ends are replaced as in the corpus; blanks may be part of a prompt.
        config = replace(
            reading.with_encoding(self.card.corpus_config.unlabelled(), encoding),
            separator=None,
            documents=False,
            keep_blanks=True,
        )
        text = read_text(str(path), config, READ)
        if not self.card.lines:
            return text
        if isinstance(text, bytes):
            return text.removesuffix(b"\n").removesuffix(b"\r")
        return text.removesuffix("\n").removesuffix("\r")

    def read_lines(self, path: str | Path, encoding: str | None = None) -> Iterator[str | bytes]:
        """Read the lines, or other documents, of a file like the corpus, each once it is there.

        Args:
            path: The file; '-' is stdin.
            encoding: Encoding of the file, if it is not that of the corpus.

        Yields:
            The lines, empty ones too, or the documents, without their ends.

        Raises:
            CorpusError: It cannot be read, or is not text.
        """
        config = reading.with_encoding(self.card.corpus_config, encoding)
        blocks = open_blocks(str(path), None, config.unit == "char")
        pieces = read_pieces(blocks, str(path), config, READ)
        return split(pieces, config.end if config.records else NEWLINE)

    def corpus(self, files: Paths = (), *, only_files: bool = False) -> tuple[Corpus, Split]:
        """The text that the model was trained on, and the same split into parts.

        Args:
            files: The files of the text, if it is neither in the cache nor at its old path.
            only_files: Read nothing but regular files at its old path: an untrusted model may name
                pipes, devices or whole disks.

        Returns:
            The text and its parts.

        Raises:
            CorpusError: The text is missing, or is a different one.
        """
        card = self.card
        sha256, config = card.corpus["sha256"], card.corpus_config
        if files := path_list(files):
            text = prepare(files, config)
            if text.sha256 != sha256:
                raise CorpusError(
                    f"{file_names([*map(str, files)])} is not the text that {self.path} was "
                    "trained on (its hash differs); name with --corpus the files that fit read, in "
                    "their order."
                )
        else:
            names = (f for f in card.corpus["files"] if not only_files or Path(f).is_file())
            try:
                # A text that was piped in is in the cache or gone: stdin is empty here.
                text = reopen(tuple(names), config, sha256, io.BytesIO())
            except CorpusError:
                raise CorpusError(
                    f"The text that {self.path} was trained on ({card.corpus['name']}) is no "
                    "longer in the cache or at its old path; name its files with --corpus."
                ) from None
        parts = split_corpus(text, card.fit.seed)
        if parts.vocabulary != self.vocabulary:
            raise CorpusError(
                f"{card.corpus['name']} has a different vocabulary from {self.path}, so the model "
                "is damaged; copy or train it again."
            )
        return text, parts

    def _sampling(self, settings: Mapping[str, Any]) -> SampleConfig:
        """The settings of `samples`, with the length at which lines are cut."""
        config = SampleConfig.of("generate", settings)
        if config.length is None and not is_constrained(config):  # those end by themselves
            config = replace(config, length=self.card.line_limit)
        note([*unused(config), *self._unused_by_model(config)], stacklevel=4)
        return config

    def _unused_by_model(self, config: SampleConfig) -> Iterator[str]:
        """A sentence for each setting that has no effect with this model."""
        lines, constrained = self.card.lines, is_constrained(config)
        if config.repeat and not lines:
            yield "repeat has no effect on a model of texts, which may always repeat themselves."
        if config.ignore_case and not (lines or constrained):
            yield "ignore_case has no effect without a constraint."
        for name, text in (("stop", config.stop or ""), *(("ban", word) for word in config.ban)):
            codes = self.vocabulary.to_codes(normalize(text, self.card.normalize))
            strange = codes[self.vocabulary.lookup(codes) == UNKNOWN]
            if len(strange) and not (config.ignore_case and name == "ban"):
                yield (
                    f"{name} {brief(repr(text))} has no effect: the model never writes "
                    f"{describe(int(strange[0]), self.vocabulary.unit)}."
                )

    @property
    def end(self) -> int | None:
        """Id of the character that ends a line; None for texts."""
        return self.vocabulary.id_of(self.card.start) if self.card.lines else None

    def _reading(self) -> dict[str, Any]:
        return {
            "lines": self.card.lines,
            "start": self.card.start,
            "normalize": self.card.normalize,
        }

    def _usual_length(self) -> int | None:
        """A length that few lines have: five times the mean of the training lines."""
        size = self.card.split["train"]
        return 5 * -(-size["characters"] // size["lines"]) if size.get("lines") else None
