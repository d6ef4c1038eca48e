"""Publishing a trained model: its folder with weights, scores, on-device file and report."""

from __future__ import annotations

import datetime
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_charlm.display import Display, command, quiet
from keras_charlm.evaluation import ngram
from keras_charlm.evaluation.evaluator import Evaluator
from keras_charlm.evaluation.labels import Labelled, bits_by_label
from keras_charlm.evaluation.scores import Tally, margin
from keras_charlm.export import packing, tflite
from keras_charlm.files import reserve, write_json
from keras_charlm.network import model
from keras_charlm.saved import bundle
from keras_charlm.saved.card import Card, versions
from keras_charlm.saved.history import write_samples
from keras_charlm.saved.weights import compress_weights
from keras_charlm.text.corpus import Corpus
from keras_charlm.text.labelled import LabelledLineStream
from keras_charlm.text.likeness import key_fingerprints, line_texts
from keras_charlm.text.split import Split
from keras_charlm.text.vocabulary import UNKNOWN
from keras_charlm.training.checkpoint import Checkpoints
from keras_charlm.training.plan import Plan
from keras_charlm.training.progress import Progress
from keras_charlm.training.samples import SampleWriter
from keras_charlm.training.summary import part_sizes

_SOON_COUNTED = 3_000_000  # training characters; n-grams of no more are counted within seconds
_HDF5 = 1 << 14  # bytes of an array's names and places in a file, more than HDF5 takes


@dataclass(frozen=True)
class Outcome:
    """Writes the model of a training.

    Args:
        folder: The model's folder.
        plan: The training's plan.
        text: The text.
        split: Its parts.
        progress: The training's progress.
        checkpoints: Hold its best weights and its history.
        samples: Holds the graph of the on-device file, which its samples were drawn with.
        display: Shows failures.
    """

    folder: Path
    plan: Plan
    text: Corpus
    split: Split
    progress: Progress
    checkpoints: Checkpoints
    samples: SampleWriter
    display: Display

    def publish(self, network: keras.Model) -> Card:
        """Write and score the best model; if no epoch was the best, the network's present weights.

        Args:
            network: The trained network.

        Returns:
            The model's card.
        """
        weights = self.checkpoints.best_weights() or [np.asarray(w) for w in network.weights]
        return self._write(weights, finished=True)

    def publish_unfinished(self) -> None:
        """Write the best model so far, unless there is none or another model is in the folder."""
        weights = self.checkpoints.best_weights()
        if weights is None:
            return
        config = self.folder / bundle.CONFIG
        if config.exists() and bundle.open_bundle(self.folder).card.run != self.plan.run:
            return
        self._write(weights, finished=False)

    def _write(self, weights: list[np.ndarray], finished: bool) -> Card:
        plan, vocabulary = self.plan, self.split.vocabulary
        half = plan.fit.quantize != "none"
        if half:  # score what is stored: the rounded weights
            weights = [w.astype(np.float16).astype(np.float32) for w in weights]
        network = model.build(plan.model, vocabulary.size, labels=vocabulary.labels)
        network.set_weights(weights)
        card = self._card(network, finished)
        graph = self.samples.graph(network)
        content = tflite.convert(graph, plan.fit.quantize)
        content = packing.pack(content, card.on_device(vocabulary, plan.fit.quantize))
        tflite.check(content, graph, exact=plan.fit.quantize != "int8")

        def fill(folder: Path) -> None:
            # HDF5 may end the process after a write that failed: fail before it begins.
            size = sum(w.nbytes + _HDF5 for w in weights)
            reserve(folder / bundle.WEIGHTS, size * (2 if half else 1))  # compressed to a second
            network.save_weights(folder / bundle.WEIGHTS)
            if half:
                compress_weights(folder / bundle.WEIGHTS)
            (folder / bundle.DEVICE).write_bytes(content)
            self._fill(folder, finished)

        return bundle.publish(self.folder, card, fill, self._report)

    def _card(self, network: keras.Model, finished: bool) -> Card:
        plan = self.plan
        return Card(
            name=self.folder.name,
            run=plan.run,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=versions(),
            model=plan.model,
            fit=plan.fit,
            corpus={
                "name": plan.name,
                "files": list(plan.files),
                "bytes": self.text.size,
                "characters": self.text.characters,
                "sha256": plan.sha256,
                "config": plan.corpus.to_dict(),
            },
            split=part_sizes(self.text, self.split),
            start=self.split.start,
            finished=finished,
            parameters=network.count_params(),
            base=plan.base,
            labels=self.split.labels,
            scores=self._scores(network, finished),
        )

    def _scores(self, network: keras.Model, finished: bool) -> dict[str, Any]:
        split, best = self.split, self.progress.best
        scores: dict[str, Any] = {"epoch": self.progress.best_epoch}
        if not finished:
            if best is not None:
                scores["validation"] = {
                    "bits_per_character": best,
                    "nats_per_character": best * math.log(2),
                }
            return scores
        evaluator = Evaluator(network, split.vocabulary.id_of(split.start))
        bits: dict[str, np.ndarray] = {}
        for name, stream in (("validation", split.validation), ("test", split.test)):
            if stream.length > stream.lead:
                bits[name], correct = evaluator.characters(stream)
                unknown = int((ngram.read(stream, evaluator.start)[1:] == UNKNOWN).sum())
                scores[name] = Tally.of(bits[name], correct, unknown).scores().to_dict()
                if isinstance(stream, Labelled):
                    by_label = bits_by_label(*stream.examples(), bits[name], split.labels)
                    scores.setdefault("labels", {})[name] = by_label
        if best is None and "validation" in bits:
            error = margin(bits["validation"])
            if math.isfinite(error):
                scores["validation"]["margin"] = error
        if bits and split.train.length <= _SOON_COUNTED:
            scores["baseline"] = ngram.scores(split, bits)
        return scores

    def _fill(self, folder: Path, finished: bool) -> None:
        """Write the model's files that are not made from its weights."""
        split, work = self.split, self.checkpoints.folder
        write_json(folder / bundle.VOCABULARY, split.vocabulary.to_dict())
        if split.train_lines is not None:
            for name, ignore_case in zip(bundle.NOVELTY, (False, True), strict=True):
                texts = line_texts(self.text, split.train_lines)
                lines = key_fingerprints(texts, ignore_case)
                if (of_base := work / name).exists():
                    lines = np.concatenate([lines, np.fromfile(of_base, "<u8")])
                np.unique(lines).astype("<u8").tofile(folder / name)
        if isinstance(split.train, LabelledLineStream):
            split.train.fingerprints().astype("<u8").tofile(folder / bundle.LABELS)
        # Written from the progress, not copied: after a kill the files may be newer than that.
        self.checkpoints.write_history(folder)
        samples = (work / bundle.SAMPLES).read_bytes()[: self.progress.samples_size]
        write_samples(folder, samples, split.vocabulary.unit_name)
        if not finished:  # resuming needs the checkpoint
            (folder / bundle.CHECKPOINT).mkdir()
            for path in work.iterdir():
                _link(path, folder / bundle.CHECKPOINT / path.name)

    def _report(self, folder: Path) -> None:
        """Write the report of a model before it is published; a failure must not lose the model."""
        try:
            with quiet():  # Matplotlib logs to stderr if its folders cannot be written
                from keras_charlm.report import report

                report.write(folder, folder=self.folder, count=False)
        except Exception as error:
            self.display.note(
                f"The report could not be written ({error}); try again with: "
                f"{command('kcharlm', 'report', self.folder)}"
            )


def _link(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:  # a file system without links
        shutil.copy(path, copy)
