"""A trained model as Python sees it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_charlm import bundle, generation
from keras_charlm.config import EvaluateConfig, SampleConfig, Settings, expect
from keras_charlm.errors import OptionError

if TYPE_CHECKING:
    import keras

    from keras_charlm.examination import Watch
    from keras_charlm.ngram import NGram
    from keras_charlm.scores import Evaluation


def load(path: str | Path | None = None) -> CharLM:
    """Open a trained model. TensorFlow is loaded only when `model` or `evaluate` is used.

    Args:
        path: The model's folder, its name under saved_models/, or a .tflite file of ours, which
            needs no TensorFlow for `evaluate`; by default the newest model there, and the shipped
            name generator where there is none.

    Returns:
        The model.

    Raises:
        BundleError: The folder is missing, half-written, damaged or of another format.

    Example:
        >>> model = keras_charlm.load("saved_models/shakespeare")
        >>> model.generate("ROMEO:", length=300, temp=0.8, seed=1)
    """
    return CharLM(bundle.open_bundle(path))


class CharLM:
    """A trained character-level language model.

    Attributes:
        path: Its folder, or its .tflite file.
        card: What it is and where it comes from.
        vocabulary: Its characters.
    """

    def __init__(self, opened: bundle.Bundle):
        self.path, self.card, self.vocabulary = opened.path, opened.card, opened.vocabulary
        self._bundle = opened

    def __repr__(self) -> str:
        shape = self.card.model
        return f"<CharLM {self.path}: {shape.layers} x {shape.units} {shape.cell}>"

    @property
    def on_device(self) -> bool:
        """Whether this is a .tflite file alone."""
        return isinstance(self._bundle, bundle.DeviceFile)

    @functools.cached_property
    def device_file(self) -> Path:
        """The on-device file, its content checked."""
        return self._bundle.file(bundle.DEVICE)

    @functools.cached_property
    def runner(self) -> generation.Runner:
        """The on-device file, opened in LiteRT."""
        return generation.Runner(self.device_file)

    @functools.cached_property
    def model(self) -> keras.Sequential:
        """The Keras model in float32, batch size 1, with zero states.

        Its weights are those of the on-device file: as they were trained, or rounded where that
        file stores them as float16 or int8.
        """
        return self.build(batch_size=1)

    def build(self, batch_size: int) -> keras.Sequential:
        """The Keras model with its trained weights for another batch size."""
        from keras_charlm.model import build, named_weights

        expect("batch_size", batch_size, int, "a whole number")
        weights = self._bundle.weights()
        model = build(self.card.model, self.vocabulary.size, batch_size)
        for name, variable in named_weights(model).items():
            variable.assign(weights[name])
        return model

    def generate(self, prompt: str | bytes = "", **settings: Any) -> str | bytes:
        """Draw one text.

        Args:
            prompt: What to go on from.
            **settings: Fields of SampleConfig: temp, length, top_k, top_p, seed, stop, ...

        Returns:
            The prompt and what was drawn after it; bytes for a byte model.

        Raises:
            PromptError: The prompt has a character that the model has never seen.
            OptionError: A setting is out of range.

        Example:
            >>> model.generate("Once", length=100, temp=0.5, seed=1)
        """
        sample = next(self.samples(prompt, **settings), None)
        return sample.prompt + sample.text if sample else self.vocabulary.from_codes(np.array([]))

    def samples(self, prompt: str | bytes = "", counts: generation.Counts | None = None,
                **settings: Any) -> Iterator[generation.Sample]:
        """Draw `num` texts as a batch; each is yielded when it and those before it are done.

        Args:
            prompt: What to go on from.
            counts: Is filled with how many were drawn and how many of them were novel.
            **settings: Fields of SampleConfig.

        Returns:
            An iterator of Sample (text, prompt, seed, bits_per_character).

        Raises:
            PromptError, OptionError: As for `generate`.
        """
        config = _config(SampleConfig, "generate", settings)
        known = self.known if config.novel else None
        return generation.samples(self.runner, self.vocabulary, config, prompt, known=known,
                                  counts=counts, **self._reading())

    def stream(self, prompt: str | bytes = "", **settings: Any) -> Iterator[str | bytes]:
        """Draw one text and yield its pieces as they come, the prompt not included.

        Args, Raises: As for `samples`; `num` and `novel` do not matter.
        """
        return generation.stream(self.runner, self.vocabulary,
                                 _config(SampleConfig, "generate", settings), prompt,
                                 **self._reading())

    def evaluate(self, text: str | bytes | Path | None = None, *,
                 corpus: Sequence[str | Path] = (), watch: Watch | None = None,
                 **settings: Any) -> Evaluation:
        """Score how well the model predicts a text, over all of it, the state carried.

        Args:
            text: The text itself, or the Path of a file, which is read as the corpus was; by
                default the validation part of the model's corpus.
            corpus: The files that the model was trained on, where the training text is needed and
                neither in the cache nor where it was.
            watch: Is called now and then by what takes long: characters done, and of how many.
            **settings: Fields of EvaluateConfig: baseline, dynamic, by, novelty, ...

        Returns:
            Evaluation: characters, nats_per_character, bits_per_character, perplexity, accuracy,
            and beside them what the settings ask for.

        Raises:
            CorpusError: A file cannot be read, or the training text is needed and not there.
            OptionError: A setting is out of range.

        Example:
            >>> model.evaluate("To be, or not to be").bits_per_character
            >>> model.evaluate(baseline="ngram").baseline["bits_per_character"]
        """
        from keras_charlm.examination import examine

        if text is not None:
            expect("text", text, (str, bytes, Path), "a text, or the Path of a file")
        return examine(self, text, corpus, _config(EvaluateConfig, "evaluate", settings), watch)

    def ngram(self, order: int | None = None, corpus: Sequence[str | Path] = ()) -> NGram:
        """Count the text that the model was trained on.

        Args:
            order: Length of the longest grams; by default what is best on the validation part.
            corpus: As for `evaluate`.

        Returns:
            NGram: `bits` scores by smoothed counts, `generate` draws by bare ones.

        Raises:
            CorpusError: The training text is not there.

        Example:
            >>> model.vocabulary.decode(model.ngram(order=10).generate(500, seed=1))
        """
        from keras_charlm import ngram
        from keras_charlm.examination import training

        split = training(self, corpus).split
        return ngram.baseline(split) if order is None else ngram.count(split, order)

    def compress(self, data: bytes) -> bytes:
        """Code any bytes by the model's probabilities; `kcharlm compress` does so with files.

        Example:
            >>> model.decompress(model.compress(b"To be, or not to be"))
        """
        from keras_charlm.compression import compress

        return compress(self, data)[0]

    def decompress(self, content: bytes) -> bytes:
        """Give back what `compress` was given.

        Raises:
            CompressionError: It is damaged, or another model or machine wrote it.
        """
        from keras_charlm.compression import decompress

        return decompress(self, content)

    def export(self, output: str | Path | None = None, *, overwrite: bool = False,
               **settings: Any) -> dict[str, Any]:
        """Write the model for another place and check it there.

        Args:
            output: The file or folder to write; by default named for the model.
            overwrite: Replace what is there.
            **settings: Fields of ExportConfig: to, quantize, budget, license.

        Returns:
            The report, which also stands in `<output>.report.json`.

        Raises:
            OptionError, ExportError, BundleError: See `keras_charlm.export.export`.
        """
        from keras_charlm.export import export

        return export(self, output, overwrite=overwrite, **settings)

    def report(self, output: str | Path | None = None, *,
               corpus: Sequence[str | Path] = ()) -> Path:
        """Write the page that says how good the model is and how it came to be.

        Args:
            output: The page; by default report.html in the model's folder.
            corpus: The files that the model was trained on, where they are not where they were.

        Returns:
            The page's path.

        Raises:
            BundleError, CorpusError: See `keras_charlm.report.write`.
        """
        from keras_charlm import report

        return report.write(self.path, output, corpus=corpus)

    @functools.cached_property
    def known(self) -> Callable[[str | bytes], bool]:
        """Tells whether a line stands in the training text (models of lines only)."""
        from keras_charlm.corpus import fingerprints

        lines = self._bundle.training_lines()

        def known(line: str | bytes) -> bool:
            data = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line
            fingerprint = fingerprints([data])[0]
            at = np.searchsorted(lines, fingerprint)
            return bool(at < len(lines) and lines[at] == fingerprint)

        return known

    def _reading(self) -> dict[str, Any]:
        return {"lines": self.card.lines, "start": self.card.start,
                "normalize": self.card.normalize}


def _config(kind: type[Settings], verb: str, settings: dict[str, Any]) -> Any:
    try:
        return kind(**settings)
    except TypeError:
        names = sorted(kind().to_dict())
        unknown = sorted(set(settings) - set(names))[0]
        raise OptionError(
            f"{verb} has no setting {unknown!r}; it has {', '.join(names)}."
        ) from None
