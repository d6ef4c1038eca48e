"""A trained model as Python sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_charlm.config import EvaluateConfig
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.settings import expect

if TYPE_CHECKING:
    from keras_charlm.evaluation.evaluate import Watch
    from keras_charlm.evaluation.ngram import NGram
    from keras_charlm.evaluation.scores import Evaluation


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
    return CharLM(path)


class CharLM(TrainedModel):
    """A trained character-level language model, with all that can be done with it."""

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

    def evaluate(
        self,
        text: str | bytes | Path | None = None,
        *,
        corpus: Sequence[str | Path] = (),
        watch: Watch | None = None,
        **settings: Any,
    ) -> Evaluation:
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
        from keras_charlm.evaluation.evaluate import evaluate

        if text is not None:
            expect("text", text, (str, bytes, Path), "a text, or the Path of a file")
        return evaluate(self, text, corpus, EvaluateConfig.of("evaluate", settings), watch)

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
        from keras_charlm.evaluation import ngram
        from keras_charlm.evaluation.evaluate import training_text

        split = training_text(self, corpus).split
        return ngram.baseline(split) if order is None else ngram.count(split, order)

    def compress(self, data: bytes) -> bytes:
        """Code any bytes by the model's probabilities; `kcharlm compress` does so with files.

        Example:
            >>> model.decompress(model.compress(b"To be, or not to be"))
        """
        from keras_charlm.evaluation.compression import compress

        return compress(self, data)[0]

    def decompress(self, content: bytes) -> bytes:
        """Give back what `compress` was given.

        Raises:
            CompressionError: It is damaged, or another model or machine wrote it.
        """
        from keras_charlm.evaluation.compression import decompress

        return decompress(self, content)

    def export(
        self, output: str | Path | None = None, *, overwrite: bool = False, **settings: Any
    ) -> dict[str, Any]:
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
        from keras_charlm.export.export import export

        return export(self, output, overwrite=overwrite, **settings)

    def report(
        self, output: str | Path | None = None, *, corpus: Sequence[str | Path] = ()
    ) -> Path:
        """Write the page that says how good the model is and how it came to be.

        Args:
            output: The page; by default report.html in the model's folder.
            corpus: The files that the model was trained on, where they are not where they were.

        Returns:
            The page's path.

        Raises:
            BundleError, CorpusError: See `keras_charlm.report.write`.
        """
        from keras_charlm.report import report

        return report.write(self.path, output, corpus=corpus)
