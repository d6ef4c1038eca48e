"""Scores of a trained model on a text, baselines to compare them with, and compression."""

from collections.abc import Callable

# Progress callback of a long task: called with the characters done so far and their total.
Watch = Callable[[int, int], None]
