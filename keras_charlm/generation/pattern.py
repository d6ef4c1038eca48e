"""Regular expressions as automata, whose states are made only when they are asked for.

Python's own parser reads the expression. The libraries interegular 0.3, greenery 4.2 and
outlines-core 0.2 build the whole automaton at once and take no limit, and neither the length of an
expression nor its repetitions tell how large it becomes: `(a|b)*a(a|b){12}` takes interegular 9
seconds for 8,193 states, which double with every repetition; greenery takes more than 15 for two
repetitions fewer. A product made state by state stops at its limit instead. Also, interegular's
`\\w`, `\\d` and `\\s` are those of ASCII: an "é" would not be a letter.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from keras_charlm.errors import OptionError, brief

MOST_PARTS = 5000  # states of the nondeterministic automaton of an expression
MOST_STEPS = 5_000_000  # from one of them to the next; about a second
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
_CLASSES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}
_REFUSED = {
    "GROUPREF": "a back-reference",
    "GROUPREF_EXISTS": "a conditional group",
    "ASSERT": "a look-around",
    "ASSERT_NOT": "a look-around",
    "AT": "an anchor (the expression must match the whole text; leave out ^ and $)",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repetition",
}

States = frozenset[int]
Atom = Callable[[str], bool]


class Pattern:
    """An automaton of a regular expression that must match a whole text (Thompson, 1968).

    Args:
        expression: The expression, in the syntax of Python's `re`.
        ignore_case: Whether upper and lower case are the same.

    Attributes:
        start: The state before the first character.

    Raises:
        OptionError: It is not an expression, is too long, or needs more than an automaton.
    """

    def __init__(self, expression: str, ignore_case: bool = False):
        self.expression, self.ignore_case = expression, ignore_case
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                parsed = parser.parse(expression)
        except (re.error, OverflowError, RecursionError) as error:
            raise OptionError(
                f"match {brief(repr(expression))} is not a regular expression ({error})."
            ) from None
        flags = parsed.state.flags
        self._any_newline = bool(flags & re.DOTALL)
        self._ascii = flags & re.ASCII
        self.ignore_case = ignore_case or bool(flags & re.IGNORECASE)
        self._empty: list[list[int]] = []  # moves that read nothing, by state
        self._reading: list[tuple[int, int] | None] = []  # the atom that is read, and what follows
        self._atoms: list[Atom] = []
        self._numbers: dict[str, int] = {}  # of the atoms: one that is repeated is tested once
        self._signatures: dict[str, tuple[bool, ...]] = {}
        self._steps = 0
        first = self._state()
        try:
            self._end = self._sequence(parsed, first)
        except RecursionError:
            raise self._too_long() from None
        self.start = self._close([first])

    def step(self, states: States, character: str) -> States | None:
        """The state after a character, or None if no match is left."""
        matches = self.signature(character)
        moves = (self._reading[state] for state in states)
        after = [move[1] for move in moves if move and matches[move[0]]]
        self._steps += len(states)
        if self._steps > MOST_STEPS:
            raise OptionError(
                f"match {brief(repr(self.expression))} takes more than {MOST_STEPS:,} steps to "
                "compile; shorten it or its repetitions."
            )
        return self._close(after) if after else None

    def accepts(self, states: States) -> bool:
        """Whether the text read so far matches."""
        return self._end in states

    def signature(self, character: str) -> tuple[bool, ...]:
        """Which parts of the expression match a character."""
        if character not in self._signatures:
            matches = tuple(atom(character) for atom in self._atoms)
            self._signatures[character] = matches
        return self._signatures[character]

    def _state(self) -> int:
        if len(self._empty) >= MOST_PARTS:
            raise self._too_long()
        self._empty.append([])
        self._reading.append(None)
        return len(self._empty) - 1

    def _too_long(self) -> OptionError:
        return OptionError(
            f"match {self.expression[:60]!r} has more than {MOST_PARTS:,} parts once its "
            "repetitions are written out; shorten it."
        )

    def _close(self, states: Iterable[int]) -> States:
        """Add what is reached without reading a character."""
        waiting, closed = list(states), set(states)
        while waiting:
            for state in self._empty[waiting.pop()]:
                if state not in closed:
                    closed.add(state)
                    waiting.append(state)
        return frozenset(closed)

    def _sequence(self, items: Any, at: int) -> int:
        """Append items after the state `at`; returns the state after them."""
        for op, value in items:
            at = self._item(str(op), value, at)
        return at

    def _item(self, op: str, value: Any, at: int) -> int:
        if op in _REFUSED:
            raise OptionError(
                f"match {brief(repr(self.expression))} has {_REFUSED[op]}, which an automaton "
                "cannot follow; write it without."
            )
        if op == "SUBPATTERN":
            _, added, removed, items = value
            if added or removed:
                raise OptionError(
                    f"match {brief(repr(self.expression))} changes a flag within a group, which is "
                    "not supported; use --ignore-case."
                )
            return self._sequence(items, at)
        if op == "BRANCH":
            end = self._state()
            for items in value[1]:
                first = self._state()
                self._empty[at].append(first)
                self._empty[self._sequence(items, first)].append(end)
            return end
        if op in _REPEATS:
            least, most, repeated = value
            return self._repeat(least, most, repeated, at)
        after = self._state()
        name = repr((op, value))
        if name not in self._numbers:
            self._numbers[name] = len(self._atoms)
            self._atoms.append(self._either_case(self._atom(op, value)))
        self._reading[at] = (self._numbers[name], after)
        # A state reads by one move only; what follows starts in a state of its own.
        return after

    def _repeat(self, least: int, most: Any, items: Any, at: int) -> int:
        for _ in range(least):
            before, at = at, self._sequence(items, at)
            if at == before:  # it reads nothing, however often
                break
        if most == constants.MAXREPEAT:
            loop, end = self._state(), self._state()
            first = self._state()
            self._empty[at].append(loop)
            self._empty[loop] += [first, end]
            self._empty[self._sequence(items, first)].append(loop)
            return end
        end = self._state()
        for _ in range(most - least):
            first = self._state()
            self._empty[at] += [first, end]
            at = self._sequence(items, first)
        self._empty[at].append(end)
        return end

    def _atom(self, op: str, value: Any) -> Atom:
        """A function that tells whether a part of the expression matches a character."""
        if op == "LITERAL":
            return lambda c: ord(c) == value
        if op == "NOT_LITERAL":
            return lambda c: ord(c) != value
        if op == "ANY":
            return lambda c: self._any_newline or c != "\n"
        if op == "RANGE":
            return lambda c: value[0] <= ord(c) <= value[1]
        if op == "CATEGORY":
            return lambda c: bool(re.fullmatch(_CLASSES[str(value)], c, self._ascii))
        if op == "IN":
            negated = str(value[0][0]) == "NEGATE"
            parts = [self._atom(str(o), v) for o, v in value[negated:]]
            return lambda c: any(part(c) for part in parts) != negated
        raise OptionError(
            f"match {brief(repr(self.expression))} has {op.lower()}, which is not supported."
        )

    def _either_case(self, atom: Atom) -> Atom:
        if not self.ignore_case:
            return atom
        return lambda c: any(atom(x) for x in {c, c.lower(), c.upper()} if len(x) == 1)
