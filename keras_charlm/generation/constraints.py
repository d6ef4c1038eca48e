"""Constraints on a text, compiled to one finite automaton over a model's characters."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.config import CONSTRAINTS, SampleConfig
from keras_charlm.errors import OptionError, brief
from keras_charlm.generation.pattern import Pattern
from keras_charlm.generation.words import Beginning, Words
from keras_charlm.text.vocabulary import Vocabulary
from keras_charlm.text.vocabulary import normalize as unicode_normalize

MOST_STATES = 20_000
MOST_ENTRIES = 10_000_000  # of a table with a row for each length and a column for each state
MOST_CHARACTERS = 10_000  # of a constrained text
NOWHERE = 0  # the state of texts that cannot fit any more
_LITERALS = ("starts_with", "ends_with", "contains")


@dataclass(frozen=True)
class Automaton:
    """A finite automaton over the symbols of a model.

    Attributes:
        classes: The class of each symbol, int32 (V,); symbols of a class lead to the same states.
        moves: The state after a symbol of each class, int32 (S, C); state 0 is never left, and 1
            is the first.
        accepting: In which states a text may end, bool (S,).
    """

    classes: np.ndarray
    moves: np.ndarray
    accepting: np.ndarray

    def run(self, ids: Sequence[int] | np.ndarray, state: int = 1) -> int:
        """The state after symbols, from the first state or another."""
        for symbol in ids:
            state = int(self.moves[state, self.classes[symbol]])
        return state


@dataclass(frozen=True)
class Rule:
    """What the texts drawn have to fit: an automaton and bounds of the length.

    Attributes:
        automaton: Accepts the texts.
        open_until: Whether a text with n characters in a state may go on to one that fits, bool
            (L + 1, S).
        may_end: Whether it fits as it is, of the same shape.
        sizes: Different characters of each class, upper and lower case counted once if constraints
            ignore them, int (C,).
    """

    automaton: Automaton
    open_until: np.ndarray
    may_end: np.ndarray
    sizes: np.ndarray

    @property
    def longest(self) -> int:
        """Characters that a text may have (L)."""
        return len(self.may_end) - 1

    def count(self, n: int, state: int) -> float:
        """How many texts go on from one of n characters in a state; infinite above 10**12."""
        counts = self.may_end[self.longest].astype(float)
        for at in reversed(range(n, self.longest)):
            further = counts[self.automaton.moves] @ self.sizes
            counts = np.where(self.open_until[at], self.may_end[at] + further, 0.0)
            counts[counts > 1e12] = np.inf
        return float(counts[state])


def is_constrained(config: SampleConfig) -> bool:
    """Whether a configuration restricts which texts are drawn."""
    return bool(constraints_of(config).keys() - {"ignore_case"})


def constraints_of(config: SampleConfig) -> dict[str, Any]:
    """The constraints of a configuration, by option, without those left out."""
    values = {name: getattr(config, name) for name in CONSTRAINTS}
    return {
        name: value
        for name, value in values.items()
        if value not in (None, (), 0) and (value or name == "match")
    }


def as_options(config: SampleConfig) -> str:
    """The constraints of a configuration as on a command line, without the folder of a file."""
    words: list[str] = []
    for name, value in constraints_of(config).items():
        for one in value if isinstance(value, tuple) else (value,):
            words.append(f"--{name.replace('_', '-')}")
            if one is not True:
                words.append(Path(one).name if name == "ban_file" else str(one))
    return shlex.join(words)


def compile_automaton(
    vocabulary: Vocabulary, config: SampleConfig, end: int | None, normalize: str = "nfc"
) -> Automaton:
    """Compile the constraints of a configuration but those of the length.

    Args:
        vocabulary: The model's characters.
        config: The constraints.
        end: Id of the character that ends a text, if one does.
        normalize: Unicode normalization of the constraints.

    Raises:
        OptionError: A constraint is wrong, or they need too many states.
    """
    characters = [chr(code) for code in vocabulary.codes]
    if config.ignore_case:
        characters = [_fold(c, vocabulary.unit) for c in characters]
    machines = _machines(vocabulary, config, characters, normalize)
    classes, examples = _classes(machines, characters, end)
    moves, accepting = _product(machines, examples)
    if config.max_length is not None and config.min_length > config.max_length:
        raise OptionError(
            f"min_length {config.min_length} is more than max_length {config.max_length}; lower it."
        )
    return Automaton(classes, moves, accepting)


def compile_rule(
    vocabulary: Vocabulary,
    config: SampleConfig,
    longest: int,
    end: int | None,
    normalize: str = "nfc",
    usual: int | None = None,
) -> Rule:
    """Compile the constraints of a configuration.

    Args:
        vocabulary: The model's characters.
        config: The constraints.
        longest: Most characters of a text (L).
        end: Id of the character that ends a text; None if a text ends at `longest`.
        normalize: Unicode normalization of the constraints.
        usual: Most characters of a text, or twice or four times as many if only longer texts fit.

    Raises:
        OptionError: A constraint is wrong, no text fits all, or they need too many states.
    """
    if longest > MOST_CHARACTERS:
        raise OptionError(
            f"A text of {longest:,} characters is too long for constraints, which hold for at most "
            f"{MOST_CHARACTERS:,}; lower length or max_length."
        )
    automaton = compile_automaton(vocabulary, config, end, normalize)
    folded = [chr(code).casefold() if config.ignore_case else code for code in vocabulary.codes]
    different = {(int(c), x) for c, x in zip(automaton.classes[1:], folded, strict=True) if c}
    sizes = np.bincount([c for c, _ in different], minlength=automaton.moves.shape[1])
    limit = min(usual or longest, longest)
    rule = _with_lengths(automaton, config.min_length, limit, end is not None, sizes)
    while not rule.open_until[0, 1]:
        if limit == longest:
            raise OptionError(
                f"No text of at most {longest} characters fits all the constraints; loosen one."
            )
        limit = min(2 * limit, longest)
        rule = _with_lengths(automaton, config.min_length, limit, end is not None, sizes)
    return rule


def _with_lengths(
    automaton: Automaton, least: int, longest: int, ends: bool, sizes: np.ndarray
) -> Rule:
    """Bound the length of the texts that an automaton accepts."""
    moves, accepting = automaton.moves, automaton.accepting
    if longest * len(moves) > MOST_ENTRIES:
        raise OptionError(
            f"The constraints need {len(moves):,} states for each of {longest:,} characters, more "
            f"than {MOST_ENTRIES:,} in all; lower max_length or length, or shorten the constraints."
        )
    n = np.arange(longest + 1)[:, None]
    may_end = accepting[None] & (n >= least) & (True if ends else n == longest)
    open_until = may_end.copy()
    for at in reversed(range(longest)):
        open_until[at] |= open_until[at + 1][moves].any(axis=1)
    open_until[:, NOWHERE] = False
    return Rule(automaton, open_until, may_end, sizes)


def _fold(character: str, unit: str) -> str:
    lower = character.lower()
    return character if len(lower) != 1 or (unit == "byte" and ord(character) > 127) else lower


def _machines(
    vocabulary: Vocabulary, config: SampleConfig, characters: list[str], normalize: str
) -> list[Any]:
    """The automaton of each constraint."""

    known = set(characters)

    def literal(name: str, text: str) -> str:
        codes = vocabulary.to_codes(unicode_normalize(text, normalize)).tolist()
        word = "".join(map(chr, codes))
        if config.ignore_case:
            word = "".join(_fold(c, vocabulary.unit) for c in word)
        missing = [c for c in word if c not in known]
        if missing and name in _LITERALS:
            raise OptionError(
                f"{name} is {brief(repr(text))}, but the model's vocabulary has no "
                f"{missing[0]!r}; use characters that `kcharlm info` lists."
            )
        return word

    machines: list[Any] = []
    if config.starts_with:
        machines.append(Beginning(literal("starts_with", config.starts_with)))
    if config.ends_with:
        machines.append(Words([literal("ends_with", config.ends_with)], "end"))
    if config.contains:
        machines.append(Words([literal("contains", config.contains)], "contain"))
    banned = [literal("ban", word) for word in (*config.ban, *_lines(config.ban_file)) if word]
    if banned:
        machines.append(Words(banned, "ban"))
    if config.match is not None:
        if vocabulary.unit == "byte" and not config.match.isascii():
            raise OptionError("match has a character that is not ASCII; write its bytes as \\xNN.")
        expression = unicode_normalize(config.match, normalize)
        machines.append(Pattern(expression, config.ignore_case))
    return machines


def _lines(path: str | None) -> list[str]:
    """The words of a file, one a line."""
    if path is None:
        return []
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise OptionError(f"ban_file {brief(path)} cannot be read ({reason}).") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _classes(
    machines: list[Any], characters: list[str], end: int | None
) -> tuple[np.ndarray, list[str]]:
    """Group the symbols that no machine tells apart.

    Returns:
        The class of each symbol, int32 (V,), and a character of each class; class 0 is never drawn.
    """
    literals: set[str] = set()
    for machine in machines:
        if isinstance(machine, Beginning):
            literals.update(machine.word)
        elif isinstance(machine, Words):
            literals.update(*machine.words)
    patterns = [machine for machine in machines if isinstance(machine, Pattern)]
    classes, known, examples = np.zeros(len(characters) + 1, np.int32), {}, [""]
    for symbol, c in enumerate(characters, 1):
        if symbol == end:
            continue
        key = (c if c in literals else None, *(p.signature(c) for p in patterns))
        if key not in known:
            known[key] = len(examples)
            examples.append(c)
        classes[symbol] = known[key]
    return classes, examples


def _product(machines: list[Any], examples: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Run all machines at once; returns the moves (S, C) and the accepting states (S,)."""
    first = tuple(machine.start for machine in machines)
    known, states = {first: 1}, [first]
    rows = [np.zeros(len(examples), np.int32)]
    for state in states:  # grows as it is read
        row = np.zeros(len(examples), np.int32)
        for c, example in enumerate(examples[1:], 1):
            after = tuple(m.step(s, example) for m, s in zip(machines, state, strict=True))
            if None in after:
                continue
            if after not in known:
                if len(states) >= MOST_STATES:
                    raise OptionError(
                        f"The constraints need an automaton of more than {MOST_STATES:,} states; "
                        "shorten the regular expression or the list of banned texts."
                    )
                states.append(after)
                known[after] = len(states)
            row[c] = known[after]
        rows.append(row)
    accepting = [
        all(m.accepts(s) for m, s in zip(machines, state, strict=True)) for state in states
    ]
    return np.stack(rows), np.array([False, *accepting])
