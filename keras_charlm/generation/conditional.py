"""Draw from a model's own distribution over the texts that fit a rule.

Masking the characters that do not fit is fast, but bends the distribution: a name forced to end in
"a" is not a name that ends in "a". Here a text is proposed with the mask and kept with the
probability that corrects for it, so that what is kept has exactly the conditional distribution.
What a proposal found out about its beginning (a bound of the probability that a text with that
beginning fits) makes the next proposals of the same text likelier to be kept. This is the expected
future of Park et al. ("Grammar-Aligned Decoding", 2024), with a rejection that makes each step
exact. Where that takes too long, particles are weighted and resampled instead (sequential Monte
Carlo; Lew et al., "Sequential Monte Carlo Steering", 2023); their distribution is close, not exact.
They are steered towards characters after which a text fits more often, as far as pairs of
characters tell: the last character, and the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_charlm.config import SampleConfig
from keras_charlm.generation.constraints import Rule
from keras_charlm.generation.litert import SignatureRunner
from keras_charlm.generation.odds import Odds
from keras_charlm.text.vocabulary import Vocabulary

TRIALS = 4  # texts drawn by rejection to decide between the two ways
MOST_WORK = 10_000  # for them: one for each character, `NEW` for one where the network has to run
NEW = 10
PARTICLES = 128
MOST_MOVES = 10_000  # of all particles together: of a long text there are fewer
CACHE_BYTES = 64_000_000  # of what texts with the same beginning share


@dataclass(frozen=True)
class Beginning:
    """A beginning of a text: the network after it, and what may follow.

    Attributes:
        length: Characters drawn so far.
        rule_state: State of the rule's automaton.
        network: State of the network after it, float32 (1, S).
        surprise: -log2 p of each symbol at temperature 1, float64 (V,).
        weights: Probability of each symbol as it is sampled, 0 where it does not fit, float64 (V,).
        odds: For particles, an estimate of the probability that a text fits after each symbol,
            relative to that before the symbol, float64 (V,); ones otherwise.
    """

    length: int
    rule_state: int
    network: np.ndarray
    surprise: np.ndarray
    weights: np.ndarray
    odds: np.ndarray


class Node:
    """A beginning in the tree of those that were proposed.

    Attributes:
        beginning: The beginning.
        bounds: Upper bound of the probability that a text fits after each symbol, float64 (V,).
        following: The beginnings that are one symbol longer.
    """

    def __init__(self, beginning: Beginning):
        self.beginning, self.bounds = beginning, np.ones(len(beginning.weights))
        self.following: dict[int, Node] = {}

    @property
    def bound(self) -> float:
        """The upper bound of the probability that a text with this beginning fits."""
        return float(self.beginning.weights @ self.bounds)


@dataclass(frozen=True)
class Drawn:
    """A text that was drawn: its ids without the end, and the sum of -log2 p with it."""

    ids: list[int]
    bits: float
    symbols: int  # with the end


@dataclass(frozen=True)
class Path:
    """What particles that drew the same symbols share."""

    beginning: Beginning
    symbols: list[int]
    bits: float
    complete: bool


class Conditional:
    """Draws texts that fit a rule.

    Args:
        runner: Runs the network.
        vocabulary: The model's characters.
        config: How to draw.
        rule: What the texts have to fit.
        last: Code that is read first.
        state: State of the network before it, float32 (1, S).
        rule_state: State of the rule's automaton after the prompt.
        read: Characters of the prompt that the rule counts.
        end: Id of the character that ends a text; None if only the length does.

    Attributes:
        rejects: Whether texts are drawn by rejection, rather than with particles. This depends on
            the rule only, not on a seed: a seed gives the same text alone and among others.
    """

    def __init__(
        self,
        runner: SignatureRunner,
        vocabulary: Vocabulary,
        config: SampleConfig,
        rule: Rule,
        last: int,
        state: np.ndarray,
        rule_state: int,
        read: int,
        end: int | None,
    ):
        self._runner, self._config, self._rule, self._end = runner, config, rule, end
        self._codes = vocabulary.codes_by_id.astype(np.int32)
        self._steps: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
        self._beginnings: dict[tuple[int, ...], Beginning] = {}
        self._fits: dict[tuple[int, int], np.ndarray] = {}
        self._kept = CACHE_BYTES // (4 * runner.state_size + 32 * len(self._codes) + 500)
        self._last, self._state = last, state
        self._rule_state, self._read = rule_state, read
        self._odds: Odds | None = None
        self._particles = min(PARTICLES, max(MOST_MOVES // rule.longest, 32))
        self._work_left = max(MOST_WORK, 2 * TRIALS * NEW * rule.longest * (end is None))
        self._greedy = config.temp == 0 or config.top_k == 1
        self.rejects = not self._greedy and all(
            self._by_rejection(np.random.Generator(np.random.Philox(n))) for n in range(TRIALS)
        )
        if self._greedy:
            self.steer(np.exp2(-self._first().surprise)[None])

    def steer(self, counts: np.ndarray) -> None:
        """Draw symbols more often after which a text fits more often.

        Args:
            counts: How often symbols follow symbols, float64 (V, V) or (1, V), as for `Odds`.
        """
        self._odds = Odds(self._rule, counts, self._end)
        self._beginnings.clear()  # they are without odds

    def draw(self, seed: int) -> Drawn:
        """Draw a text; the same seed gives the same one."""
        random = np.random.Generator(np.random.Philox(seed))
        if self.rejects:
            self._work_left = 100 * MOST_WORK
            if drawn := self._by_rejection(random):
                return drawn
        if not self._greedy and (drawn := self._by_particles(random)):
            return drawn
        # Every fitting text has a character that temperature, top-k, top-p or min-p exclude.
        return self.draw_masked(random)

    def draw_masked(self, random: np.random.Generator) -> Drawn:
        """Draw a text by excluding the characters that do not fit, which bends the distribution."""
        symbols: list[int] = []
        bits, at = 0.0, self._first(mask_first=True)
        while not self._complete(at, symbols):
            symbol = _pick(at.weights, random.random())
            symbols.append(symbol)
            bits += float(at.surprise[symbol])
            if symbol != self._end:
                at = self._follow(at, symbols, mask_first=True)
        return self._drawn(symbols, bits)

    def _by_rejection(self, random: np.random.Generator) -> Drawn | None:
        """Propose texts until one is kept; None if that takes too long or none can be drawn."""
        first = Node(self._first())
        while self._work_left > 0 and first.bound > 0:
            at, path, kept = first, [], True
            symbols: list[int] = []
            while kept and not self._complete(at.beginning, symbols):
                symbol = _pick(at.beginning.weights * at.bounds, random.random())
                path.append((at, symbol))
                symbols.append(symbol)
                self._work_left -= 1
                if symbol == self._end:
                    continue
                if symbol not in at.following:
                    at.following[symbol] = Node(self._follow(at.beginning, symbols))
                    kept = random.random() < _certain(self._bound(at.following[symbol]))
                at = at.following[symbol]
            for before, symbol in reversed(path):
                if symbol in before.following:
                    before.bounds[symbol] = self._bound(before.following[symbol])
            if kept:
                bits = sum(float(node.beginning.surprise[symbol]) for node, symbol in path)
                return self._drawn(symbols, bits)
        return None

    def _by_particles(self, random: np.random.Generator) -> Drawn | None:
        """Draw several texts at once, and take one by weight; None if all of them died."""
        first, count = self._first(), self._particles
        paths = [Path(first, [], 0.0, self._complete(first, []))]
        of, weights = np.zeros(count, int), np.ones(count)  # each particle's path
        while not all(path.complete for path in paths):
            paths, of = self._move(paths, of, weights, random)
            if not weights.sum() > 0:
                return None
            weights /= weights.sum()
            if 1 / (weights**2).sum() < count / 2:  # the effective number of particles
                of = of[_resample(weights, random.random())]
                weights = np.full(count, 1 / count)
        path = paths[of[_pick(weights, random.random())]]
        return self._drawn(path.symbols, path.bits)

    def _move(
        self,
        paths: list[Path],
        of: np.ndarray,
        weights: np.ndarray,
        random: np.random.Generator,
    ) -> tuple[list[Path], np.ndarray]:
        """Draw a fitting symbol for each particle, and multiply its weight by their share.

        Args:
            paths: The different paths.
            of: The path of each particle, int (N,).
            weights: Of the particles, float64 (N,); they are changed.
            random: Where the symbols come from.

        Returns:
            The paths after it, without those that no particle with a weight has, and that of each
            particle.
        """
        moved: list[Path] = []
        now = np.zeros(len(of), int)
        for number, path in enumerate(paths):
            members = np.flatnonzero((of == number) & (weights > 0))
            if not members.size:
                continue
            if path.complete:
                now[members] = len(moved)
                moved.append(path)
                continue
            chances = path.beginning.weights * path.beginning.odds
            edges = np.cumsum(chances)
            weights[members] *= edges[-1]
            if not edges[-1] > 0:
                continue
            chosen = np.searchsorted(edges, random.random(len(members)) * edges[-1], side="right")
            chosen = np.minimum(chosen, np.flatnonzero(chances)[-1])
            for symbol in np.unique(chosen).tolist():
                now[members[chosen == symbol]] = len(moved)
                moved.append(self._further(path, symbol))
        return moved, now

    def _further(self, path: Path, symbol: int) -> Path:
        symbols, at = [*path.symbols, symbol], path.beginning
        bits = path.bits + float(at.surprise[symbol])
        if symbol != self._end:
            at = self._follow(at, symbols)
        return Path(at, symbols, bits, self._complete(at, symbols))

    def _drawn(self, symbols: list[int], bits: float) -> Drawn:
        ended = bool(symbols) and symbols[-1] == self._end
        return Drawn(symbols[:-1] if ended else symbols, bits, len(symbols))

    def _complete(self, at: Beginning, symbols: list[int]) -> bool:
        if symbols and symbols[-1] == self._end:
            return True
        return self._end is None and at.length == self._rule.longest

    def _bound(self, node: Node) -> float:
        """The bound of a node; 1 for a text that ends there."""
        return 1.0 if self._complete(node.beginning, []) else node.bound

    def _first(self, mask_first: bool = False) -> Beginning:
        network, logits = self._network((), self._last, self._state)
        return self._beginning(self._read, self._rule_state, 0, network, logits, mask_first)

    def _follow(self, at: Beginning, symbols: list[int], mask_first: bool = False) -> Beginning:
        """Read the last of all symbols so far after the beginning without it."""
        key, symbol = tuple(symbols), symbols[-1]
        if not mask_first and key in self._beginnings:
            return self._beginnings[key]
        network, logits = self._network(key, int(self._codes[symbol]), at.network)
        state = self._rule.automaton.run([symbol], at.rule_state)
        after = self._beginning(at.length + 1, state, symbol, network, logits, mask_first)
        if not mask_first:
            if len(self._beginnings) >= self._kept:
                self._beginnings.clear()
            self._beginnings[key] = after
        return after

    def _network(
        self, key: tuple[int, ...], code: int, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read a code; returns the state (1, S) and the logits (V,)."""
        if key not in self._steps:
            if len(self._steps) >= self._kept:
                self._steps.clear()
            out = self._runner("step", text=np.array([code], np.int32), state=state)
            self._steps[key] = out["state"], out["logits"][0]
            self._work_left -= NEW
        return self._steps[key]

    def _beginning(
        self,
        n: int,
        rule_state: int,
        symbol: int,
        network: np.ndarray,
        logits: np.ndarray,
        mask_first: bool,
    ) -> Beginning:
        values = logits.astype(np.float64)
        values -= values.max()
        surprise = (np.log(np.exp(values).sum()) - values) / np.log(2)
        values[0] = -np.inf  # the unknown symbol is never drawn
        fits, odds = self._fitting(n, rule_state), np.ones(len(values))
        if self._odds is not None:
            odds = self._odds.after(n, rule_state, symbol)
        if mask_first:
            with np.errstate(divide="ignore"):
                values = np.where(fits, values + np.log(odds), -np.inf)
        weights = np.where(fits, probabilities(values, self._config), 0.0)
        return Beginning(n, rule_state, network, surprise, weights, odds)

    def _fitting(self, n: int, rule_state: int) -> np.ndarray:
        """Which symbols may follow n characters that lead to a state, bool (V,)."""
        key = (n, rule_state)
        if key not in self._fits:
            rule, fits = self._rule, np.zeros(len(self._codes), bool)
            if n < rule.longest:
                after = rule.automaton.moves[rule_state][rule.automaton.classes]
                fits = rule.open_until[n + 1][after]
            if self._end is not None:
                fits[self._end] = rule.may_end[n, rule_state]
            if len(self._fits) >= self._kept:
                self._fits.clear()
            self._fits[key] = fits
        return self._fits[key]


def probabilities(logits: np.ndarray, config: SampleConfig) -> np.ndarray:
    """The probabilities with which characters are sampled, as `network.sampling.draw` has them.

    Args:
        logits: float64 (V,), -inf for symbols that are never drawn.
        config: Temperature, top-k, top-p and min-p, applied in this order.

    Returns:
        float64 (V,).
    """
    largest = logits.max()
    if largest == -np.inf:
        return np.zeros(len(logits))
    if config.temp == 0 or config.top_k == 1:
        return np.eye(len(logits))[logits.argmax()]
    weights = np.exp((logits - largest) / config.temp)
    if config.top_k or config.top_p < 1:
        order = np.argsort(-weights, kind="stable")
        if config.top_k:
            weights[order[config.top_k :]] = 0
        if config.top_p < 1:
            below = np.cumsum(weights[order])
            weights[order[1 + (below < config.top_p * below[-1]).sum() :]] = 0
    weights[weights < config.min_p] = 0  # the likeliest weighs 1
    return weights / weights.sum()


def _pick(weights: np.ndarray, uniform: float) -> int:
    """Draw an index by weight."""
    edges = np.cumsum(weights)
    index = int(np.searchsorted(edges, uniform * edges[-1], side="right"))
    return min(index, int(np.flatnonzero(weights)[-1]))


def _resample(weights: np.ndarray, uniform: float) -> np.ndarray:
    """Draw as many indices as there are weights, evenly spread (systematic resampling)."""
    edges, points = np.cumsum(weights), (np.arange(len(weights)) + uniform) / len(weights)
    chosen = np.searchsorted(edges, points * edges[-1], side="right")
    return np.minimum(chosen, np.flatnonzero(weights)[-1])


def _certain(bound: float) -> float:
    """A bound that rounding keeps just below 1 is 1."""
    return 1.0 if bound > 1 - 1e-12 else bound
