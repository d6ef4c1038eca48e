"""Samples drawn from a network during training, and the graph that draws them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras

from keras_charlm.config import CorpusConfig, ModelConfig, SampleConfig
from keras_charlm.export.graph import OnDeviceGraph
from keras_charlm.generation.samples import draw_samples
from keras_charlm.saved.bundle import SAMPLES, SAMPLES_TEXT
from keras_charlm.saved.history import TrainingSample, write_samples
from keras_charlm.text.split import Split
from keras_charlm.training.progress import Progress

_NAMES, _LENGTH = 5, 300  # lines of a list, or characters of a text, in a sample


class SampleWriter:
    """Draws samples from the network in training and appends them to its folder's files.

    Args:
        folder: Folder of samples.jsonl and samples.txt.
        model: The network's configuration.
        corpus: How the text was read.
        split: The text's parts and vocabulary.
        progress: Holds how much of samples.jsonl belongs to the training.
    """

    def __init__(
        self,
        folder: Path,
        model: ModelConfig,
        corpus: CorpusConfig,
        split: Split,
        progress: Progress,
    ):
        self.folder, self.config, self.corpus = folder, model, corpus
        self.split, self.progress = split, progress
        self._graph: OnDeviceGraph | None = None
        self._begun = False

    def graph(self, model: keras.Model) -> OnDeviceGraph:
        """The graph with a network's weights. It is one graph, because tracing it takes long.

        Args:
            model: A network of the training's configuration.
        """
        if self._graph is None:
            self._graph = OnDeviceGraph(model, self.config, self.split.vocabulary)
        else:
            self._graph.assign(model)
        return self._graph

    def write(
        self, model: keras.Model, epoch: int | None, train: float, validation: float | None = None
    ) -> str:
        """Draw a sample and append it.

        Args:
            model: The network in training.
            epoch: The epoch that has just ended, from 1; None within one.
            train, validation: Losses in bits per character.

        Returns:
            The text.
        """
        vocabulary, progress = self.split.vocabulary, self.progress
        if not self._begun:
            self._begin()
        if validation is not None and not math.isfinite(validation):  # the network overflowed
            validation = None
        text = self._draw(self.graph(model).runner(), seed=progress.step % 2**31)
        sample = TrainingSample(progress.step, epoch, train, validation, text)
        with (self.folder / SAMPLES).open("ab") as file:
            progress.samples_size += file.write(sample.to_line())
        with (self.folder / SAMPLES_TEXT).open("ab") as file:
            file.write(sample.render(vocabulary.unit_name).encode("utf-8", "surrogatepass"))
        return text

    def _begin(self) -> None:
        """Remove what a killed process wrote after its last checkpoint."""
        content = (self.folder / SAMPLES).read_bytes()[: self.progress.samples_size]
        write_samples(self.folder, content, self.split.vocabulary.unit_name)
        self._begun = True

    def _draw(self, runner: Any, seed: int) -> str:
        """A few lines of a list, or a piece of text; bytes are decoded as UTF-8."""
        split, lines = self.split, self.corpus.lines
        config = SampleConfig(
            num=_NAMES if lines else 1,
            length=None if lines else _LENGTH,
            seed=seed,
            repeat=True,
        )
        drawn = draw_samples(
            runner,
            split.vocabulary,
            config,
            lines=self.corpus.records,
            start=split.start,
            normalize="none" if split.vocabulary.unit == "byte" else self.corpus.normalize,
        )
        texts = [
            sample.text.decode("utf-8", "replace")
            if isinstance(sample.text, bytes)
            else sample.text
            for sample in drawn
        ]
        return ", ".join(texts) if lines else "".join(texts)
