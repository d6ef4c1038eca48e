"""Automata of literal texts: one that reads a beginning, one that finds words."""

from __future__ import annotations

from collections.abc import Iterable


class Beginning:
    """Accepts the texts that begin with a word; a state is the number of its characters read."""

    start = 0

    def __init__(self, word: str):
        self.word = word

    def step(self, state: int, character: str) -> int | None:
        """The state after a character, or None if the text begins differently."""
        if state == len(self.word):
            return state
        return state + 1 if self.word[state] == character else None

    def accepts(self, state: int) -> bool:
        """Whether the whole word was read."""
        return state == len(self.word)


class Words:
    """Finds any of several words in a text (Aho and Corasick, 1975).

    A state is the longest end of the text that begins a word.

    Args:
        words: The words, none of them empty.
        found: What a word does: the text is refused ("ban"), accepted from then on ("contain"), or
            accepted where a word ends it ("end").
    """

    start = ""

    def __init__(self, words: Iterable[str], found: str):
        self.words, self.found = set(words), found
        self._beginnings = {word[:n] for word in self.words for n in range(len(word) + 1)}

    def step(self, state: str, character: str) -> str | None:
        """The state after a character, or None if a banned word was read."""
        if self.found == "contain" and state in self.words:
            return state
        text = state + character
        ends = [text[n:] for n in range(len(text) + 1)]
        # A banned word may end within a longer one that has only begun.
        if self.found == "ban" and any(end in self.words for end in ends):
            return None
        return next(end for end in ends if end in self._beginnings)

    def accepts(self, state: str) -> bool:
        """Whether the text read so far is accepted."""
        return self.found == "ban" or state in self.words
