"""A rule as the two small tables that the on-device file takes, and as a file for apps.

A rule is a finite automaton over the symbols of a model, lengths and the end of a line included.
From state s a symbol of class c leads to moves[s, c]. A negative entry v never is drawn; where a
prompt has it, reading it leads to the state -1 - v. State 0 is the first. All zeros is the rule
that every text fits.

A rule file is a sequence of little-endian int32: `MAGIC`, `VERSION`, 1 if its texts are lines else
0, V, S, C, the check of the vocabulary (`fingerprint`), then the V classes, and the S x C moves row
by row.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_charlm.config import SampleConfig
from keras_charlm.errors import OptionError
from keras_charlm.generation.constraints import Automaton, compile_automaton
from keras_charlm.text.vocabulary import Vocabulary

ENTRIES = 65_536  # most entries of `moves`
MAGIC = int.from_bytes(b"RULE", "little")
VERSION = 1
_HEADER = 7  # numbers before the classes
_MOST = 1_000_000  # entries before equal states are merged
_FIRST = 1  # the first state of an `Automaton`


@dataclass(frozen=True)
class Tables:
    """A rule.

    Attributes:
        classes: The class of each symbol, int32 (V,); class 0 is that of the unknown symbol.
        moves: int32 (S, C), as described above.
        lines: Whether texts are lines, which a character ends.
    """

    classes: np.ndarray
    moves: np.ndarray
    lines: bool

    def to_bytes(self, vocabulary: Vocabulary) -> bytes:
        """The content of a rule file."""
        sizes = [int(self.lines), len(self.classes), *self.moves.shape]
        header = np.array([MAGIC, VERSION, *sizes, fingerprint(vocabulary)])
        numbers = np.concatenate([header, self.classes, self.moves.ravel()])
        return numbers.astype("<i4").tobytes()

    @classmethod
    def read(cls, path: str | Path, vocabulary: Vocabulary) -> Tables:
        """Read a rule file of a model with this vocabulary.

        Raises:
            OptionError: It cannot be read, is no rule file, or is one of another model.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise OptionError(f"{path} cannot be read ({error.strerror}).") from error
        numbers = np.frombuffer(content[: len(content) // 4 * 4], "<i4").astype(np.int32)
        if len(numbers) < _HEADER or numbers[0] != MAGIC or numbers[1] != VERSION:
            raise OptionError(f"{path} is no rule file; kcharlm export --to rule writes one.")
        lines, symbols, states, width, check = map(int, numbers[2:_HEADER])
        if symbols != vocabulary.size or check != fingerprint(vocabulary):
            raise OptionError(
                f"{path} was made for a model with another vocabulary; export it for this one."
            )
        classes, moves = np.split(numbers[_HEADER:], [symbols])
        if 4 * (_HEADER + symbols + states * width) != len(content) or not moves.size:
            raise OptionError(f"{path} is damaged; copy or export it again.")
        return cls(classes, moves.reshape(states, width), bool(lines))


def fingerprint(vocabulary: Vocabulary) -> int:
    """CRC-32 of the codes as little-endian int32, itself as int32."""
    crc = zlib.crc32(np.array(vocabulary.codes, "<i4").tobytes())
    return int(np.uint32(crc).astype(np.int32))


def compile_tables(
    vocabulary: Vocabulary, config: SampleConfig, end: int | None, normalize: str = "nfc"
) -> Tables:
    """Compile the constraints of a configuration.

    Args:
        vocabulary: The model's characters.
        config: The constraints. Lengths count the characters of a line with its prompt, or of a
            text without it.
        end: Id of the character that ends a line; None for texts. A line is never empty.
        normalize: Unicode normalization of the constraints.

    Raises:
        OptionError: A constraint is wrong, no text fits all, or the tables are too large.
    """
    automaton = compile_automaton(vocabulary, config, end, normalize)
    ends = end is not None
    moves = _unfold(automaton, max(config.min_length, int(ends)), config.max_length, ends)
    classes = automaton.classes.copy()
    if end is not None:
        classes[end] = moves.shape[1] - 1
    moves = _merge_states(_reachable(moves))
    classes, moves = _merge_classes(classes, moves)
    if moves.size > ENTRIES:
        raise _too_large()
    return Tables(classes, _in_order(moves), ends)


def _too_large() -> OptionError:
    return OptionError(
        f"The constraints need tables of more than {ENTRIES:,} entries, the most that an on-device "
        "file takes; ban fewer texts, or lower max_length."
    )


def _unfold(automaton: Automaton, least: int, longest: int | None, ends: bool) -> np.ndarray:
    """The moves of the automaton together with the number of characters read, int (S, C).

    Args:
        automaton: The rule without lengths.
        least: Fewest characters of a text.
        longest: Most of them; None if there is no limit.
        ends: Whether a character ends a text; it becomes the last class. Else a text ends at
            `longest`.

    Returns:
        The moves; `_FIRST` is the first state, and not all others are reached.
    """
    base, accepting = automaton.moves, automaton.accepting
    states, width = base.shape
    last = (least if ends else 0) if longest is None else longest  # where counting stops
    if (last + 1) * base.size > _MOST:
        raise _too_large()
    may_end = np.zeros((last + 1, states), bool)
    if ends:
        may_end[least:] = accepting
    elif longest is not None:
        may_end[last] = accepting
    opens = _open(base, may_end, longest is None, ends or longest is not None)
    if not opens[0, _FIRST]:
        limit = "" if longest is None else f" of at most {longest} characters"
        raise OptionError(f"No text{limit} fits all the constraints; loosen one.")
    n = np.arange(last + 1)[:, None, None]
    after = np.minimum(n + 1, last)
    fits = opens[after, base[None]] & (base != 0)
    if longest is not None:
        # Of a text, a host draws no more than that: what would follow is not restricted.
        fits[last] = not ends
        fits[:, :, 0] = False
    further = (after * states + base[None]).reshape(-1, width)
    fits = fits.reshape(-1, width)
    if not ends:
        return np.where(fits, further, -1 - _FIRST)
    dead = len(further)  # a line that begins with what does not fit, up to its end
    ending = np.where(may_end.ravel(), _FIRST, -1 - _FIRST)[:, None]
    moves = np.concatenate([np.where(fits, further, -1 - dead), ending], axis=1)
    return np.concatenate([moves, [[*[-1 - dead] * width, -1 - _FIRST]]])


def _open(base: np.ndarray, may_end: np.ndarray, loops: bool, finite: bool) -> np.ndarray:
    """After how many characters, in which state, a text can go on to one that fits.

    Args:
        base: The moves of the automaton (T, C).
        may_end: Where a text may end, bool (L + 1, T).
        loops: Whether L is "L or more".
        finite: Whether texts end.

    Returns:
        bool (L + 1, T).
    """
    opens = may_end.copy()
    if loops:
        opens[-1] |= not finite
        while True:
            now = may_end[-1] | (opens[-1][base] & (base != 0)).any(axis=1)
            if np.array_equal(now, opens[-1]):
                break
            opens[-1] = now
    for n in reversed(range(len(opens) - 1)):
        opens[n] |= (opens[n + 1][base] & (base != 0)).any(axis=1)
    return opens


def _targets(moves: np.ndarray) -> np.ndarray:
    """The states that symbols lead to when they are read."""
    return np.maximum(moves, -1 - moves)


def _renamed(moves: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Moves with other numbers for the states that they lead to."""
    to = names[_targets(moves)]
    return np.where(moves < 0, -1 - to, to)


def _reachable(moves: np.ndarray) -> np.ndarray:
    """Leave out the states that are never reached; the first becomes state 0."""
    known, border = np.zeros(len(moves), bool), np.array([_FIRST])
    while border.size:
        known[border] = True
        after = np.unique(_targets(moves[border]))
        border = after[~known[after]]
    known[_FIRST] = False
    order = np.array([_FIRST, *np.flatnonzero(known)])
    names = np.zeros(len(moves), np.int64)
    names[order] = np.arange(len(order))
    return _renamed(moves[order], names)


def _merge_states(moves: np.ndarray) -> np.ndarray:
    """Merge states from which the same texts fit (Moore, 1956); state 0 stays the first."""
    # Rows are compared by a random linear hash of 64 bits, which is faster than sorting them.
    weights = np.random.default_rng(0).integers(1, 2**63, moves.shape[1], np.uint64)
    names, count = np.zeros(len(moves), np.int64), 1
    while True:
        hashes = _renamed(moves, names).astype(np.uint64) @ weights
        _, first, names = np.unique(hashes, return_index=True, return_inverse=True)
        if len(first) == count:
            break
        count = len(first)
    zero = names[0]  # exchange the names of the first state and of class 0
    names = np.where(names == zero, 0, np.where(names == 0, zero, names))
    first[[0, zero]] = first[[zero, 0]]
    return _renamed(moves[first], names)


def _merge_classes(classes: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge classes that no state tells apart, numbered by their first symbols."""
    known: dict[bytes, int] = {}
    columns: list[int] = []
    new = np.zeros(len(classes), np.int32)
    keys = [np.ascontiguousarray(column).tobytes() for column in moves.T]
    for symbol, c in enumerate(classes.tolist()):
        if keys[c] not in known:
            known[keys[c]] = len(columns)
            columns.append(c)
        new[symbol] = known[keys[c]]
    return new, moves[:, columns]


def _in_order(moves: np.ndarray) -> np.ndarray:
    """Number the states as they are reached, class by class, so that equal rules are equal."""
    order, names = [0], {0: 0}
    targets = _targets(moves).tolist()
    for state in order:  # grows as it is read
        for after in targets[state]:
            if after not in names:
                names[after] = len(order)
                order.append(after)
    numbers = np.array([names[state] for state in range(len(moves))])
    return _renamed(moves[order], numbers).astype(np.int32)
