"""The Python interface: a trained model with a method for each verb."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from keras_charlm.config import EvaluateConfig, ExportConfig, InspectConfig, SampleConfig
from keras_charlm.config_base import expect, lists_settings
from keras_charlm.effects import note
from keras_charlm.notebook import table
from keras_charlm.saved.description import describe_network
from keras_charlm.saved.reading import InputText
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.settings import (
    EvaluateSettings,
    ExportSettings,
    InspectSettings,
    SampleSettings,
)
from keras_charlm.text.sources import Paths

if TYPE_CHECKING:
    from keras_charlm.evaluation import Watch
    from keras_charlm.evaluation.compression import Compression
    from keras_charlm.evaluation.ngram import NGram
    from keras_charlm.evaluation.scores import Evaluation
    from keras_charlm.inspection.inspect import Inspection

_TEXTS = (str, bytes, Path, InputText)


def load(path: str | Path | None = None) -> CharLM:
    """Open a trained model. TensorFlow is loaded only when `model` or `evaluate` needs it.

    Args:
        path: The model's folder, its name under saved_models/, or a .tflite file that `export`
            wrote, for which `evaluate` needs no TensorFlow; by default the newest model under
            saved_models/, or the bundled name generator if there is none.

    Returns:
        The model.

    Raises:
        BundleError: The model is missing, incomplete, damaged or of another format.

    Example:
        >>> model = keras_charlm.load("saved_models/shakespeare")
        >>> model.generate("ROMEO:", length=300, temp=0.8, seed=1)
    """
    return CharLM(path)


class CharLM(TrainedModel):
    """A trained character-level language model: generate, evaluate, inspect, compress, export."""

    def _repr_html_(self) -> str:
        """A small table for a notebook, and a sample coloured by surprise."""
        card = self.card
        scores = [(part, card.scores.get(part)) for part in ("validation", "test")]
        rows = [
            ("model", self.path),
            ("text", f"{card.corpus['name']}, {card.corpus['characters']:,} characters"),
            ("network", describe_network(card.model, card.parameters)),
            *(
                (part, f"{s['bits_per_character']:.4f} bits per character")
                for part, s in scores
                if s
            ),
        ]
        drawn = self.samples(num=5 if card.lines else 1, length=200, seed=1)
        return table(rows) + "".join(self.surprise(sample.text).html() for sample in drawn)

    @lists_settings(SampleConfig)
    def generate(self, prompt: str | bytes = "", **settings: Unpack[SampleSettings]) -> str | bytes:
        """Draw one text.

        Args:
            prompt: The text to continue.
            **settings: Fields of SampleConfig: temp, length, top_k, top_p, seed, stop, ...

        Returns:
            The prompt and its continuation; bytes for a byte model.

        Raises:
            PromptError: The prompt has a character outside the model's vocabulary.
            OptionError: A setting is out of range.

        Example:
            >>> model.generate("Once", length=100, temp=0.5, seed=1)
        """
        if settings.get("num", 1) != 1:
            note(["num has no effect with generate, which draws one text; use samples."])
        sample = next(self.samples(prompt, **settings), None)
        if sample is None:
            return self.vocabulary.from_codes(np.array([]))
        codes = [self.vocabulary.to_codes(part) for part in (sample.prompt, sample.text)]
        return self.vocabulary.from_codes(np.concatenate(codes))

    @lists_settings(EvaluateConfig)
    def evaluate(
        self,
        text: str | bytes | Path | InputText | None = None,
        *,
        corpus: Paths = (),
        watch: Watch | None = None,
        **settings: Unpack[EvaluateSettings],
    ) -> Evaluation:
        """Score how well the model predicts a text, in one pass that carries the state.

        Args:
            text: The text itself, or the Path of a file, which is read like the corpus, or what
                `read` returned; by default the validation part of the model's corpus.
            corpus: The files that the model was trained on, if the training text is needed and is
                neither in the cache nor at its original path.
            watch: Called with the progress: characters done, and their total.
            **settings: Fields of EvaluateConfig: baseline, dynamic, by, novelty, ...

        Returns:
            Evaluation: characters, nats_per_character, bits_per_character, perplexity, accuracy,
            unknown, and the further scores that the settings ask for.

        Raises:
            CorpusError: A file cannot be read, or the training text is needed and missing.
            OptionError: A setting is out of range.

        Example:
            >>> model.evaluate("To be, or not to be").bits_per_character
            >>> model.evaluate(baseline="ngram").baseline["bits_per_character"]
        """
        from keras_charlm.evaluation.evaluate import evaluate

        if text is not None:
            expect("text", text, _TEXTS, "a text, or the Path of a file")
        return evaluate(self, text, corpus, EvaluateConfig.of("evaluate", settings), watch)

    def ngram(self, order: int | None = None, corpus: Paths = ()) -> NGram:
        """Count the n-grams of the text that the model was trained on.

        Args:
            order: Length of the longest n-grams; by default the best on the validation part.
            corpus: As for `evaluate`.

        Returns:
            NGram: `bits` scores with smoothed counts, `generate` samples from unsmoothed ones.

        Raises:
            CorpusError: The training text is missing.

        Example:
            >>> model.vocabulary.decode(model.ngram(order=10).generate(500, seed=1))
        """
        from keras_charlm.evaluation import ngram

        _, split = self.corpus(corpus)
        return ngram.baseline(split) if order is None else ngram.count(split, order)

    @lists_settings(InspectConfig)
    def inspect(
        self,
        text: str | bytes | Path | InputText,
        *,
        probe: Sequence[str] = (),
        ablate: Sequence[str] = (),
        output: str | Path | None = None,
        overwrite: bool = False,
        **settings: Unpack[InspectSettings],
    ) -> Inspection:
        """Read a text, and find out which cells follow a known feature of it.

        Args:
            text: The text itself, or the Path of a file, which is read like the corpus.
            probe: Regular expressions to use as features, besides the built-in ones.
            ablate: Cells to hold at zero, as 'LAYER:CELL'.
            output: The .html page to write; by default none.
            overwrite: Replace an existing page.
            **settings: Fields of InspectConfig: characters, cells, value, level, labels.

        Returns:
            Inspection: the findings of the probes, and the arrays over the text.

        Raises:
            BundleError, CorpusError: The weights or the text cannot be read, or it is empty.
            OptionError: A setting, an expression or a cell is wrong, or the page cannot be written.

        Example:
            >>> found = model.inspect(Path("main.c"), ablate=["1:37"], output="inside.html")
            >>> found.bits_per_character
        """
        from keras_charlm.files import check_output
        from keras_charlm.inspection import page
        from keras_charlm.inspection.inspect import inspect

        expect("text", text, _TEXTS, "a text, or the Path of a file")
        if output is not None:
            check_output(Path(output), overwrite)
        found = page.Inside(**vars(inspect(self, text, probe=probe, ablate=ablate, **settings)))
        if output is not None:
            page.write(found, output, overwrite=overwrite)
        return found

    def compress(self, data: bytes, *, labels: str | Sequence[str] = ()) -> bytes:
        """Compress bytes with the model's probabilities; only the same model can restore them.

        Args:
            data: Any bytes.
            labels: Labels of the text, or of each of its lines for a model of lines.

        Returns:
            The content of a compressed file.

        Example:
            >>> model.decompress(model.compress(b"To be, or not to be"))
        """
        from keras_charlm.evaluation.compression import compress

        return compress(self, data, labels=labels)[0]

    def decompress(self, content: bytes) -> bytes:
        """Restore the bytes that `compress` read.

        Args:
            content: The content of a compressed file.

        Returns:
            The original bytes.

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
        labels: str | Sequence[str] = (),
        encoding: str | None = None,
    ) -> tuple[Path, Compression]:
        """Compress a file; see `evaluation.compression.compress_file`."""
        from keras_charlm.evaluation.compression import compress_file

        return compress_file(
            self,
            source,
            output,
            overwrite=overwrite,
            watch=watch,
            labels=labels,
            encoding=encoding,
        )

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

    @lists_settings(ExportConfig)
    def export(
        self,
        output: str | Path | None = None,
        *,
        overwrite: bool = False,
        **settings: Unpack[ExportSettings],
    ) -> dict[str, Any]:
        """Write the model in another format, and check what was written.

        Args:
            output: The file or folder to write; by default named after the model.
            overwrite: Replace an existing file or folder.
            **settings: Fields of ExportConfig: to, quantize, budget, license.

        Returns:
            The report, which is also written to `<output>.report.json`.

        Raises:
            OptionError, ExportError, BundleError: See `keras_charlm.export.export`.
        """
        from keras_charlm.export.export import export

        return export(self, output, overwrite=overwrite, **settings)

    def report(self, output: str | Path | None = None, *, corpus: Paths = ()) -> Path:
        """Write a page with the model's scores, its training curves, and samples.

        Args:
            output: The page; by default report.html in the model's folder.
            corpus: The files that the model was trained on, if they have moved.

        Returns:
            The page's path.

        Raises:
            BundleError, CorpusError, OptionError: See `keras_charlm.report.report.write`.
        """
        from keras_charlm.report import report

        return report.write(self, output, corpus=corpus)
