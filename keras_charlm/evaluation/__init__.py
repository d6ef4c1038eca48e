"""A trained model and a text come in; bits per character, and what to compare them with, go out."""

from collections.abc import Callable

# Shows the progress of long work: called with the characters done so far, and with their total.
Watch = Callable[[int, int], None]
