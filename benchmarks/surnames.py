"""Generation and classification by one model: `python -m benchmarks.surnames FOLDER`.

FOLDER has a list of names for each language. A tenth of each list is held out, and with a name its
copies in the other lists. On the rest are trained, with the same validation part: the network with
the languages as labels, which classifies by Bayes' rule; an n-gram model for each language, which
does the same; and a classifier of the network's shape that reads a name and gives its language.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import save
from keras_charlm import CharLM, fit
from keras_charlm.evaluation import ngram
from keras_charlm.text.split import Split

HELD_OUT = 0.1
ORDERS = range(1, 8)

Names = list[tuple[str, str]]  # name and label


def deal(lists: dict[str, list[str]], seed: int) -> tuple[Names, Names]:
    """Divide lists of names into those to train on and those held out.

    Args:
        lists: The names of each label.
        seed: Of the choice.

    Returns:
        The distinct pairs of each part; a name is in one part only.
    """
    random, held_out = np.random.default_rng(seed), set()
    for names in lists.values():
        distinct = list(dict.fromkeys(names))
        chosen = random.permutation(len(distinct))[: round(HELD_OUT * len(distinct))]
        held_out |= {distinct[i] for i in chosen}
    pairs = [(name, label) for label, names in lists.items() for name in dict.fromkeys(names)]
    train = [pair for pair in pairs if pair[0] not in held_out]
    return train, [pair for pair in pairs if pair[0] in held_out]


def figures(costs: np.ndarray, true: np.ndarray, shares: np.ndarray) -> dict[str, float]:
    """Accuracy, and the mean over the labels of each one's accuracy.

    Args:
        costs: -log2 p(name | label) up to a constant for each name, float (N, L).
        true: Index of each name's label, int (N,).
        shares: Share of each label in the training part, float (L,).
    """
    by_share = (costs - np.log2(shares)).argmin(axis=1) == true
    even = costs.argmin(axis=1) == true
    return {
        "accuracy": float(by_share.mean()),
        "balanced_accuracy": float(np.mean([even[true == n].mean() for n in np.unique(true)])),
    }


def by_network(model: CharLM, names: list[str]) -> np.ndarray:
    """-log2 p of each name under each label, float (N, L)."""
    return np.array(
        [
            [score.bits for score in model.scores(names, labels=f"{label.column}={label.value}")]
            for label in model.card.labels
        ]
    ).T


def by_counting(
    model: CharLM, split: Split, names: list[str]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Count the n-grams of each label.

    The order is the one that needs the fewest bits for the validation part.

    Returns:
        -log2 p of each name under each label, float (N, L), that under any label, (N,), from the
        n-grams of all, and the order.
    """
    lines, size, start = _lines(model, split, "train"), model.vocabulary.size, model.start
    of_label = {
        label.id: np.concatenate([[start], *lines[label.id]]) for label in model.card.labels
    }
    validation = _lines(model, split, "validation")

    def fitted(order: int) -> dict[int, ngram.NGram]:
        return {id: ngram.fit(ids, size, order, start, start) for id, ids in of_label.items()}

    def cost(order: int) -> float:
        counted = fitted(order)
        return sum(
            counted[id].bits(np.concatenate([[start], line])).sum()
            for id, own in validation.items()
            for line in own
        )

    order = min(ORDERS, key=cost)
    texts = [np.concatenate([[start], model.vocabulary.encode(name), [start]]) for name in names]
    counted = fitted(order)
    costs = [[counted[label.id].bits(text).sum() for label in model.card.labels] for text in texts]
    together = ngram.baseline(split)
    return (
        np.array(costs),
        np.array([together.bits(text).sum() for text in texts]),
        order,
    )


def _lines(model: CharLM, split: Split, part: str) -> dict[int, list[np.ndarray]]:
    """The lines of a part with their newlines by label, each ids (n,)."""
    stream: Any = getattr(split, part)
    ids = stream.ids[stream.symbols]
    labels = stream.label_ids.ids[stream.lines.labels[:, 0]]
    found: dict[int, list[np.ndarray]] = {label.id: [] for label in model.card.labels}
    for start, length, label in zip(stream.lines.starts, stream.lines.lengths, labels, strict=True):
        found[int(label)].append(np.append(ids[start : start + length], model.start))
    return found


def by_classifier(
    model: CharLM, split: Split, names: list[str], epochs: int
) -> tuple[np.ndarray, int]:
    """Train a classifier of the network's shape, and keep the epoch with the best validation loss.

    Returns:
        -log2 p(label | name) for each name, float (N, L), and the number of its parameters.
    """
    import keras

    shape, first = model.card.model, model.vocabulary.size
    longest = 20

    def examples(part: str) -> tuple[np.ndarray, np.ndarray]:
        pairs = [
            (line, label - first)
            for label, own in _lines(model, split, part).items()
            for line in own
        ]
        return padded([line for line, _ in pairs]), np.array([label for _, label in pairs])

    def padded(lines: list[np.ndarray]) -> np.ndarray:
        """Ids, int32 (N, longest), with zeros before them."""
        rows = np.zeros((len(lines), longest), np.int32)
        for row, line in zip(rows, lines, strict=True):
            row[longest - len(line[-longest:]) :] = line[-longest:]
        return rows

    keras.utils.set_random_seed(0)
    stack: list[Any] = [keras.layers.Embedding(first, shape.embedding, mask_zero=True)]
    for layer in range(shape.layers or 0):
        last = layer + 1 == shape.layers
        stack += [
            keras.layers.LSTM(shape.units, return_sequences=not last, use_cudnn=False),
            keras.layers.Dropout(shape.dropout),
        ]
    stack.append(keras.layers.Dense(len(model.card.labels), activation="softmax"))
    network = keras.Sequential(stack)
    network.compile(keras.optimizers.Adam(2e-3, clipnorm=1.0), "sparse_categorical_crossentropy")
    stop = keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)
    network.fit(
        *examples("train"),
        64,
        epochs,
        validation_data=examples("validation"),
        callbacks=[stop],
        verbose=0,
    )
    texts = [np.append(model.vocabulary.encode(name), model.start) for name in names]
    probabilities = network.predict(padded(texts), 512, verbose=0)
    return -np.log2(np.maximum(probabilities, 1e-30)), network.count_params()


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seed", default=0, help="Seed of the names held out.")
@click.option("--epochs", type=int, help="Passes over the names, for the network.")
@click.option("--classifier-epochs", default=40, help="Most passes for the classifier.")
@click.option("--units", type=int, help="Cells in each layer, if not the default.")
@click.option("--save-as", default="surnames", help="Name of the JSON file in benchmarks/results/.")
def main(folder, seed, epochs, classifier_epochs, units, save_as):
    """Accuracy, balanced accuracy and bits per character on the names held out."""
    lists = {
        path.stem: [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        for path in sorted(folder.glob("*.txt"))
    }
    train, test = deal(lists, seed)
    with tempfile.TemporaryDirectory() as work:
        for label in lists:
            own = [name for name, other in train if other == label]
            (Path(work) / f"{label}.txt").write_text("\n".join(own) + "\n", encoding="utf-8")
        model = fit(
            sorted(Path(work).glob("*.txt")),
            Path(work) / "model",
            lines=True,
            label_by_file=True,
            test_frac=0,
            epochs=epochs,
            units=units,
            verbose=0,
        )
        save(save_as, measure(model, train, test, classifier_epochs))


def measure(model: CharLM, train: Names, test: Names, epochs: int) -> dict[str, Any]:
    """Classify the names held out in each way."""
    _, split = model.corpus()
    values = [label.value for label in model.card.labels]
    shares = np.array([label.share for label in model.card.labels])
    test = [(name, label) for name, label in test if label in values]
    names, true = [name for name, _ in test], np.array([values.index(label) for _, label in test])
    characters = sum(len(model.vocabulary.encode(name)) + 1 for name in names)
    rows: dict[str, Any] = {}

    def bits(costs: np.ndarray) -> float:
        return float(costs[np.arange(len(true)), true].sum()) / characters

    costs = by_network(model, names)
    without = sum(score.bits for score in _plain(model, names)) / characters
    rows["network"] = {
        **figures(costs, true, shares),
        "bits": bits(costs),
        "bits_without_label": without,
        "parameters": model.card.parameters,
    }
    costs, together, order = by_counting(model, split, names)
    rows["counting"] = {
        **figures(costs, true, shares),
        "bits": bits(costs),
        "bits_without_label": float(together.sum()) / characters,
        "order": order,
    }
    posterior, parameters = by_classifier(model, split, names, epochs)
    rows["classifier"] = {
        **figures(posterior + np.log2(shares), true, shares),
        "parameters": parameters,
    }
    return {
        "labels": dict(zip(values, shares.tolist(), strict=True)),
        "train": len(train),
        "test": len(test),
        "ways": rows,
    }


def _plain(model: CharLM, names: list[str]) -> Any:
    """Scores of names without any label and without finding one."""
    from keras_charlm.generation.scoring import score_lines

    card = model.card
    return score_lines(
        model.runner,
        model.vocabulary,
        names,
        lines=True,
        start=card.start,
        normalize=card.normalize,
    )


if __name__ == "__main__":
    main()
