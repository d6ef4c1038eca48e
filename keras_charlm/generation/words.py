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

    A state is the longest end of the text that begins a word, by its number; 0 is the empty one.

    Args:
        words: The words, none of them empty.
        found: What a word does: the text is refused ("ban"), accepted from then on ("contain"), or
            accepted where a word ends it ("end").
    """

    start = 0

    def __init__(self, words: Iterable[str], found: str):
        self.words, self.found = set(words), found
        self._after: list[dict[str, int]] = [{}]  # of each beginning, those one character longer
        self._ends = [False]  # whether the beginning ends with a word
        for word in sorted(self.words):
            state = 0
            for character in word:
                if character not in self._after[state]:
                    self._after[state][character] = len(self._after)
                    self._after.append({})
                    self._ends.append(False)
                state = self._after[state][character]
            self._ends[state] = True
        self._shorter = [0] * len(self._after)  # the longest end that begins a word, too
        waiting = list(self._after[0].values())
        for state in waiting:  # grows as it is read: short beginnings first
            self._ends[state] |= self._ends[self._shorter[state]]
            for character, longer in self._after[state].items():
                self._shorter[longer] = self._longest(self._shorter[state], character)
                waiting.append(longer)

    def step(self, state: int, character: str) -> int | None:
        """The state after a character, or None if a banned word was read."""
        if self.found == "contain" and self._ends[state]:
            return state
        after = self._longest(state, character)
        return None if self.found == "ban" and self._ends[after] else after

    def accepts(self, state: int) -> bool:
        """Whether the text read so far is accepted."""
        return self.found == "ban" or self._ends[state]

    def _longest(self, state: int, character: str) -> int:
        """The state after a character, whether or not a word was read."""
        while state and character not in self._after[state]:
            state = self._shorter[state]
        return self._after[state].get(character, 0)
