"""Names of the layers; a weight is named by its layer and its role, as in `lstm_0/kernel`.

No array library is loaded, so that saved weights can be read without TensorFlow.
"""

from __future__ import annotations

EMBEDDING, LOGITS = "embedding", "logits"


def recurrent_name(cell: str, layer: int) -> str:
    """The name of a recurrent layer.

    Args:
        cell: The kind of cell, as in `ModelConfig`.
        layer: Its number, counted from 0 at the input.
    """
    return f"{cell}_{layer}"
