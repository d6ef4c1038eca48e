"""The settings of `evaluate` and `inspect`; `config` has the others."""

from __future__ import annotations

from dataclasses import dataclass

from keras_charlm.config_base import Settings, setting, take_texts


@dataclass(frozen=True)
class EvaluateConfig(Settings):
    """What to measure besides the loss over a text."""

    baseline: str | None = setting(
        None,
        "Also score an n-gram model of the training text with Kneser-Ney smoothing and the order "
        "that is best on the validation part.",
        choices=("ngram",),
    )
    dynamic: bool = setting(
        False,
        "Also score the network while it is trained further on the text that it has read so far "
        "(dynamic evaluation).",
    )
    dynamic_rate: float = setting(
        0.001, "Learning rate of --dynamic.", low=0, open_low=True, high=1
    )
    window: int | None = setting(
        None,
        "Also score the text in windows of this many characters, each from a zero state, as models "
        "with a limited context are scored.",
        low=1,
        high=100_000,
    )
    by: str | None = setting(
        None,
        "Also break the loss down by kind of character, or by label.",
        choices=("kind", "label"),
    )
    labels: tuple[str, ...] = setting(
        (),
        "Read FILE with this label, as VALUE or COLUMN=VALUE; may be repeated for several columns.",
        flag="--label",
    )
    novelty: bool = setting(
        False,
        "Also generate text and measure how much of it is copied verbatim from the training text, "
        "compared with the same amount of FILE.",
    )
    temp: float = setting(0.8, "Temperature of the text generated for --novelty.", low=0, high=100)
    seed: int = setting(0, "Seed of the text generated for --novelty.", low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        take_texts(self, "labels")
        super().__post_init__()


@dataclass(frozen=True)
class InspectConfig(Settings):
    """How much of a trained network to show, and how strictly to test features."""

    characters: int = setting(
        20_000, "Maximum number of characters of the file to read.", low=1, high=1_000_000
    )
    cells: int | None = setting(
        None,
        "Maximum number of cells to show; by default as many as fit in 3 MB.",
        low=1,
        high=2**31 - 1,
    )
    labels: tuple[str, ...] = setting(
        (),
        "Read FILE with this label, as VALUE or COLUMN=VALUE; may be repeated for several columns.",
        flag="--label",
    )
    value: str = setting(
        "cell",
        "Value that the colours show for an LSTM: tanh of the cell state, or the hidden state.",
        choices=("cell", "hidden"),
    )
    level: float = setting(
        0.05,
        "Family-wise error rate: the probability that any cell is matched to a feature by chance.",
        low=0.001,
        high=0.5,
    )

    def __post_init__(self) -> None:
        take_texts(self, "labels")
        super().__post_init__()
