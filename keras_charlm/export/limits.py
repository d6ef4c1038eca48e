"""The settings that the on-device file accepts; others give an error value instead of a text."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

WRONG = -1  # `lengths` of every row if a setting is out of range

# Lowest and highest accepted values, which float16 can hold: the converter rounds them with the
# weights.
LIMITS = {
    "temperature": (0.0, 2.0**15),
    "top_k": (0.0, np.inf),
    "top_p": (2.0**-24, 1.0),
    "min_p": (0.0, 1.0),
}


def checked(
    draw: Callable[..., dict[str, tf.Tensor]], most: int
) -> Callable[..., dict[str, tf.Tensor]]:
    """Let a drawing function refuse settings out of range.

    Args:
        draw: `OnDeviceGraph._generate`, or another function with its inputs.
        most: Maximum of `length`.

    Returns:
        A function with the same inputs. If a setting is out of range or not a number, it draws
        nothing, and `lengths` is `WRONG` in every row.
    """

    @functools.wraps(draw)
    def drawing(*args: tf.Tensor, **named: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs: dict[str, Any] = inspect.signature(draw).bind(*args, **named).arguments
        width = inputs["text"].shape[1]
        values, lows, highs = [], [], []
        for name, (low, high) in {
            **LIMITS,
            "length": (0.0, most),
            "text_length": (0.0, width),
        }.items():
            if name in inputs:
                values.append(tf.cast(inputs[name], tf.float32))
                count = inputs[name].shape[0]
                lows += [low] * count
                highs += [high] * count
        given = tf.concat(values, axis=0)
        # Written so that a value that is not a number is wrong too.
        right = (given >= np.array(lows, np.float32)) & (given <= np.array(highs, np.float32))
        wrong = tf.reduce_any(~right)
        out = draw(**{**inputs, "length": tf.where(wrong, 0, inputs["length"])})
        return {**out, "lengths": tf.where(wrong, WRONG, out["lengths"])}

    return drawing
