"""An opened model with all its verbs: the Python interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_charlm.config import EvaluateConfig
from keras_charlm.config_base import expect
from keras_charlm.saved.trained import TrainedModel

if TYPE_CHECKING:
    from keras_charlm.evaluation import Watch
    from keras_charlm.evaluation.compression import Compression
    from keras_charlm.evaluation.ngram import NGram
    from keras_charlm.evaluation.scores import Evaluation
    from keras_charlm.inspection.inspect import Inspection


def load(path: str | Path | None = None) -> CharLM:
    """Open a trained model. TensorFlow is loaded only when `model` or `evaluate` needs it.

    Args:
        path: The model's folder, its name under saved_models/, or a .tflite file that `export`
            wrote, which needs no TensorFlow for `evaluate`; by default the newest model under
            saved_models/, or the shipped name generator if there is none.

    Returns:
        The model.

    Raises:
        BundleError: It is missing, half-written, damaged or of another format.

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
            prompt: The text to continue.
            **settings: Fields of SampleConfig: temp, length, top_k, top_p, seed, stop, ...

        Returns:
            The prompt and its continuation; bytes for a byte model.

        Raises:
            PromptError: The prompt has a character that the model has never seen.
            OptionError: A setting is out of range.

        Example:
            >>> model.generate("Once", length=100, temp=0.5, seed=1)
        """
        sample = next(self.samples(prompt, **settings), None)
        if sample is None:
            return self.vocabulary.from_codes(np.array([]))
        codes = [self.vocabulary.to_codes(part) for part in (sample.prompt, sample.text)]
        return self.vocabulary.from_codes(np.concatenate(codes))

    def evaluate(
        self,
        text: str | bytes | Path | None = None,
        *,
        corpus: Sequence[str | Path] = (),
        watch: Watch | None = None,
        **settings: Any,
    ) -> Evaluation:
        """Score how well the model predicts a text, in one pass that carries the state.

        Args:
            text: The text itself, or the Path of a file, which is read as the corpus was; by
                default the validation part of the model's corpus.
            corpus: The files that the model was trained on, if the training text is needed and is
                neither in the cache nor at its old path.
            watch: Called with the progress of long work: characters done, and their total.
            **settings: Fields of EvaluateConfig: baseline, dynamic, by, novelty, ...

        Returns:
            Evaluation: characters, nats_per_character, bits_per_character, perplexity, accuracy,
            unknown, and what the settings ask for.

        Raises:
            CorpusError: A file cannot be read, or the training text is needed and missing.
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
        """Count the n-grams of the text that the model was trained on.

        Args:
            order: Length of the longest grams; by default the best on the validation part.
            corpus: As for `evaluate`.

        Returns:
            NGram: `bits` scores by smoothed counts, `generate` draws by unsmoothed ones.

        Raises:
            CorpusError: The training text is missing.

        Example:
            >>> model.vocabulary.decode(model.ngram(order=10).generate(500, seed=1))
        """
        from keras_charlm.evaluation import ngram

        _, split = self.corpus(corpus)
        return ngram.baseline(split) if order is None else ngram.count(split, order)

    def inspect(
        self,
        text: str | bytes | Path,
        *,
        probe: Sequence[str] = (),
        ablate: Sequence[str] = (),
        output: str | Path | None = None,
        overwrite: bool = False,
        **settings: Any,
    ) -> Inspection:
        """Read a text, and find out which cells follow a known feature of it.

        Args:
            text: The text itself, or the Path of a file, which is read as the corpus was.
            probe: Regular expressions to use as features, beside the known ones.
            ablate: Cells to hold at zero, as 'LAYER:CELL'.
            output: The .html page to write; by default none.
            overwrite: Replace what is there.
            **settings: Fields of InspectConfig: characters, cells, value, level.

        Returns:
            Inspection: what the probes found, and the arrays over the text.

        Raises:
            BundleError, CorpusError: The weights or the text cannot be read, or it is empty.
            OptionError: A setting, an expression or a cell is wrong, or the page cannot be written.

        Example:
            >>> found = model.inspect(Path("main.c"), ablate=["1:37"], output="inside.html")
            >>> found.bits_per_character
        """
        from keras_charlm.files import check_output
        from keras_charlm.inspection.inspect import inspect

        expect("text", text, (str, bytes, Path), "a text, or the Path of a file")
        if output is not None:
            check_output(Path(output), overwrite)
        found = inspect(self, text, probe=probe, ablate=ablate, **settings)
        if output is not None:
            from keras_charlm.inspection import page

            page.write(found, output, overwrite=overwrite)
        return found

    def compress(self, data: bytes) -> bytes:
        """Compress bytes by the model's probabilities; only the same model can restore them.

        Example:
            >>> model.decompress(model.compress(b"To be, or not to be"))
        """
        from keras_charlm.evaluation.compression import compress

        return compress(self, data)[0]

    def decompress(self, content: bytes) -> bytes:
        """Restore the bytes that `compress` read.

        Raises:
            CompressionError: The content is damaged, or another model or machine wrote it.
        """
        from keras_charlm.evaluation.compression import decompress

        return decompress(self, content)

    def compress_file(
        self,
        source: str | Path,
        output: str | Path | None = None,
        *,
        overwrite: bool = False,
        watch: Watch | None = None,
    ) -> tuple[Path, Compression]:
        """Compress a file; see `evaluation.compression.compress_file`."""
        from keras_charlm.evaluation.compression import compress_file

        return compress_file(self, source, output, overwrite=overwrite, watch=watch)

    def decompress_file(
        self,
        source: str | Path,
        output: str | Path | None = None,
        *,
        overwrite: bool = False,
        watch: Watch | None = None,
    ) -> tuple[Path, int]:
        """Restore the file that `compress_file` read; see `evaluation.compression`."""
        from keras_charlm.evaluation.compression import decompress_file

        return decompress_file(self, source, output, overwrite=overwrite, watch=watch)

    def export(
        self, output: str | Path | None = None, *, overwrite: bool = False, **settings: Any
    ) -> dict[str, Any]:
        """Write the model in another format, and check what was written.

        Args:
            output: The file or folder to write; by default named for the model.
            overwrite: Replace what is there.
            **settings: Fields of ExportConfig: to, quantize, budget, license.

        Returns:
            The report, which is also written to `<output>.report.json`.

        Raises:
            OptionError, ExportError, BundleError: See `keras_charlm.export.export`.
        """
        from keras_charlm.export.export import export

        return export(self, output, overwrite=overwrite, **settings)

    def report(
        self, output: str | Path | None = None, *, corpus: Sequence[str | Path] = ()
    ) -> Path:
        """Write a page with the model's scores, the course of its training, and samples.

        Args:
            output: The page; by default report.html in the model's folder.
            corpus: The files that the model was trained on, if they are no longer at their paths.

        Returns:
            The page's path.

        Raises:
            BundleError, CorpusError, OptionError: See `keras_charlm.report.report.write`.
        """
        from keras_charlm.report import report

        return report.write(self, output, corpus=corpus)
