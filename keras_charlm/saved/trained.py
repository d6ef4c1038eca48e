"""An opened model: its card, its on-device file for sampling, and its Keras network."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from keras_charlm.config import CorpusConfig, SampleConfig
from keras_charlm.config_base import expect
from keras_charlm.errors import CorpusError
from keras_charlm.generation.litert import Runner
from keras_charlm.generation.samples import Counts, Sample, draw_samples, stream_text
from keras_charlm.generation.scoring import Score, score_lines
from keras_charlm.saved import bundle
from keras_charlm.text.corpus import Corpus, fingerprints, prepare, reopen
from keras_charlm.text.decoding import read_text
from keras_charlm.text.labels import Label, choose
from keras_charlm.text.split import Split, split_corpus
from keras_charlm.text.vocabulary import normalize

if TYPE_CHECKING:
    import keras

Model = TypeVar("Model", bound="TrainedModel")


def _membership(prints: np.ndarray) -> Callable[[str | bytes], bool]:
    """A function that tells whether a line has one of these fingerprints, uint64 (L,) ascending."""

    def known(line: str | bytes) -> bool:
        data = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line
        fingerprint = fingerprints([data])[0]
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
        from keras_charlm.network.model import build, named_weights

        expect("batch_size", batch_size, int, "a whole number")
        weights = self.bundle.weights()
        labels = self.vocabulary.labels
        model = build(self.card.model, self.vocabulary.size, batch_size, labels=labels)
        for name, variable in named_weights(model).items():
            variable.assign(weights[name])
        return model

    def samples(
        self, prompt: str | bytes = "", counts: Counts | None = None, **settings: Any
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
        config = SampleConfig.of("generate", settings)
        labels = self.labels(config.labels)
        known = None
        if config.novel:
            known = self.known
        elif config.novel_label:
            known = _membership(self.bundle.labelled_lines(labels))
        return draw_samples(
            self.runner,
            self.vocabulary,
            config,
            prompt,
            known=known,
            counts=counts,
            labels=[label.code for label in labels],
            **self._reading(),
        )

    def stream(self, prompt: str | bytes = "", **settings: Any) -> Iterator[str | bytes]:
        """Draw one text and yield it piece by piece, without the prompt.

        Arguments and errors are those of `samples`; `num` and `novel` are ignored.
        """
        config = SampleConfig.of("generate", settings)
        return stream_text(
            self.runner,
            self.vocabulary,
            config,
            prompt,
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
            OptionError: The model has no such label.
        """
        return score_lines(
            self.runner,
            self.vocabulary,
            texts,
            given=self.labels(labels),
            labels=self.card.labels,
            even=label_prior == "even",
            **self._reading(),
        )

    def labels(self, requested: str | Sequence[str]) -> tuple[Label, ...]:
        """The labels with these names, in the order of their columns.

        Args:
            requested: Each as VALUE or COLUMN=VALUE, at most one of each column.

        Raises:
            OptionError: There is no such label.
        """
        return choose(self.card.labels, [requested] if isinstance(requested, str) else requested)

    @functools.cached_property
    def known(self) -> Callable[[str | bytes], bool]:
        """A function that tells whether a line is in the training text (models of lines only)."""
        return _membership(self.bundle.training_lines())

    def read(self, text: str | bytes | Path) -> tuple[np.ndarray, np.ndarray]:
        """Read a text like the corpus: normalized, and decoded if it is a file.

        Args:
            text: The text itself, or the Path of a file; '-' is stdin.

        Returns:
            Symbols, int (N,), memory-mapped for a file; and the code of each symbol, int64 (A,).

        Raises:
            CorpusError: The file cannot be read, is not text, or is empty.
        """
        if isinstance(text, Path):
            if text.is_dir():
                raise CorpusError(f"{text} is a folder; name one file.")
            plain = {"lines": False, "labels": (), "text": None, "label_by_file": False}
            values = {**self.card.corpus_config.to_dict(), **plain}
            corpus = prepare([text], CorpusConfig.from_dict(values))
            return corpus.symbols, corpus.alphabet
        if isinstance(text, str):
            text = normalize(text, self.card.normalize)
        alphabet, symbols = np.unique(self.vocabulary.to_codes(text), return_inverse=True)
        return symbols, alphabet

    def read_prompt(self, path: str | Path) -> str | bytes:
        """Read a file like the corpus, as a prompt.

        Args:
            path: The file; '-' is stdin.

        Returns:
            The text, bytes for a byte model; it may be empty.

        Raises:
            CorpusError: It cannot be read, or is not text in the corpus's encoding.
        """
        return read_text(str(path), self.card.corpus_config, remedy="convert it")

    def corpus(self, files: Sequence[str | Path] = ()) -> tuple[Corpus, Split]:
        """The text that the model was trained on, and the same split into parts.

        Args:
            files: The files of the text, if it is neither in the cache nor at its old path.

        Returns:
            The text and its parts.

        Raises:
            CorpusError: The text is missing, or is a different one.
        """
        card = self.card
        sha256, config = card.corpus["sha256"], card.corpus_config
        if files:
            text = prepare(files, config)
            if text.sha256 != sha256:
                raise CorpusError(
                    f"{', '.join(map(str, files))} is not the text that {self.path} was trained on "
                    "(its hash differs); name with --corpus the files that fit read, in their "
                    "order."
                )
        else:
            try:
                # A text that was piped in is in the cache or gone: stdin is empty here.
                text = reopen(tuple(card.corpus["files"]), config, sha256, io.BytesIO())
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

    @property
    def end(self) -> int | None:
        """Id of the character that ends a line; None for texts."""
        return self.vocabulary.id_of(self.card.start) if self.card.lines else None

    def _reading(self) -> dict[str, Any]:
        return {
            "lines": self.card.lines,
            "start": self.card.start,
            "normalize": self.card.normalize,
            "usual": self._usual_length(),
        }

    def _usual_length(self) -> int | None:
        """A length that few lines have: five times the mean of the training lines."""
        size = self.card.split["train"]
        return 5 * -(-size["characters"] // size["lines"]) if size.get("lines") else None
