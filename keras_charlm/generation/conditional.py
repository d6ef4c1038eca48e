"""Draw from a model's own distribution over the texts that fit a rule.

Masking the characters that do not fit is fast, but bends the distribution: a name forced to end in
"a" is not a name that ends in "a". Here a text is proposed with the mask and kept with the
probability that corrects for it, so that what is kept has exactly the conditional distribution.
What a proposal found out about its beginning (a bound of the probability that a text with that
beginning fits) makes the next proposals of the same text likelier to be kept. This is the expected
future of Park et al. ("Grammar-Aligned Decoding", 2024), with a rejection that makes each step
exact. Where that takes too long, particles are weighted and resampled instead (sequential Monte
Carlo; Lew et al., "Sequential Monte Carlo Steering", 2023); their distribution is close, not exact.
They are steered towards characters after which a text fits more often, as far as the frequencies of
the characters alone tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from keras_charlm.config import SampleConfig
from keras_charlm.generation.constraints import Rule
from keras_charlm.generation.litert import SignatureRunner
from keras_charlm.text.vocabulary import Vocabulary

TRIALS = 4  # texts drawn by rejection to decide between the two ways
MOST_NODES = 2000  # characters that may be proposed for them
PARTICLES = 128  # 32 drew rare names of the shipped model that cost 30% more bits than exact ones
LEAST = 1e-9  # of an estimated probability: what may fit must stay possible
CACHE_BYTES = 64_000_000  # of logits and states that texts with the same beginning share


@dataclass
class Beginning:
    """A beginning of a text: the network after it, and what may follow.

    Attributes:
        length: Characters drawn so far.
        rule_state: State of the rule's automaton.
        network: State of the network after it, float32 (1, S).
        surprise: -log2 p of each symbol at temperature 1, float64 (V,).
        weights: Probability of each symbol as it is sampled, 0 where it does not fit, float64 (V,).
        bounds: By rejection, an upper bound of the probability that a text fits after each symbol;
            for particles, an estimate of it, relative to that before the symbol; float64 (V,).
        following: The beginnings that are one symbol longer.
    """

    length: int
    rule_state: int
    network: np.ndarray
    surprise: np.ndarray
    weights: np.ndarray
    bounds: np.ndarray
    following: dict[int, Beginning] = field(default_factory=dict)

    @property
    def bound(self) -> float:
        """The bound or the estimate of the beginning itself."""
        return float(self.weights @ self.bounds)


@dataclass(frozen=True)
class Drawn:
    """A text that was drawn: its ids without the end, and the sum of -log2 p with it."""

    ids: list[int]
    bits: float
    symbols: int  # with the end


Particle = tuple[Beginning, list[int], float]  # where it is, its symbols, their bits


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
        self._cache: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
        self._kept = CACHE_BYTES // (4 * (runner.state_size + len(self._codes)) + 200)
        self._last, self._state = last, state
        self._rule_state, self._read = rule_state, read
        self._odds: np.ndarray | None = None
        self._frequencies = np.zeros(len(self._codes))
        # The way depends on the rule only, not on the seed: a seed gives the same text alone and
        # among others.
        self._nodes_left = max(MOST_NODES, 4 * rule.longest * (end is None))
        self._greedy = config.temp == 0 or config.top_k == 1
        self._rejects = not self._greedy and all(
            self._by_rejection(np.random.Generator(np.random.Philox(n))) for n in range(TRIALS)
        )
        if not self._rejects:
            self._odds = self._chances()

    def draw(self, seed: int) -> Drawn:
        """Draw a text; the same seed gives the same one."""
        random = np.random.Generator(np.random.Philox(seed))
        if self._rejects:
            self._nodes_left = 100 * MOST_NODES
            if drawn := self._by_rejection(random):
                return drawn
        if not self._greedy and (drawn := self._by_particles(random, mask_first=False)):
            return drawn
        # Every fitting text has a character that temperature, top-k, top-p or min-p exclude.
        drawn = self._by_particles(random, mask_first=True)
        assert drawn is not None, "the rule leaves a way open from every state"
        return drawn

    def _by_rejection(self, random: np.random.Generator) -> Drawn | None:
        """Propose texts until one is kept; None if that takes too long or none can be drawn."""
        first = self._first(mask_first=False)
        while self._nodes_left > 0 and first.bound > 0:
            at, path, kept = first, [], True
            symbols: list[int] = []
            while kept and not self._complete(at, symbols):
                symbol = _pick(at.weights * at.bounds, random.random())
                path.append((at, symbol))
                symbols.append(symbol)
                if symbol == self._end:
                    continue
                if symbol not in at.following:
                    at.following[symbol] = self._follow(at, symbol, symbols, mask_first=False)
                    self._nodes_left -= 1
                    kept = random.random() < _certain(self._bound(at.following[symbol]))
                at = at.following[symbol]
            for before, symbol in reversed(path):
                if symbol in before.following:
                    before.bounds[symbol] = self._bound(before.following[symbol])
            if kept:
                return self._drawn(symbols, sum(float(b.surprise[s]) for b, s in path))
        return None

    def _by_particles(self, random: np.random.Generator, mask_first: bool) -> Drawn | None:
        """Draw several texts at once, and take one by weight; None if all of them died."""
        first = self._first(mask_first)
        count = 1 if mask_first else PARTICLES
        particles: list[Particle] = [(first, [], 0.0)] * count
        weights = np.ones(count)
        while not all(
            self._complete(at, symbols) or not weight
            for (at, symbols, _), weight in zip(particles, weights, strict=True)
        ):
            moved = self._move(particles, weights, random, mask_first)
            particles, total = moved, weights.sum()
            if not total > 0:
                return None
            weights /= total
            if 1 / (weights**2).sum() < count / 2:  # the effective number of particles
                chosen = _resample(weights, random.random())
                particles, weights = [particles[n] for n in chosen], np.full(count, 1 / count)
        _, symbols, bits = particles[_pick(weights, random.random())]
        return self._drawn(symbols, bits)

    def _move(
        self,
        particles: list[Particle],
        weights: np.ndarray,
        random: np.random.Generator,
        mask_first: bool,
    ) -> list[Particle]:
        """Draw a fitting symbol for each particle, and multiply its weight by their share."""
        moved: list[Particle] = []
        shared: dict[tuple[int, ...], Beginning] = {}
        for n, (at, symbols, bits) in enumerate(particles):
            if not self._complete(at, symbols):
                weights[n] *= at.bound
            if self._complete(at, symbols) or not weights[n]:
                moved.append((at, symbols, bits))
                continue
            symbol = _pick(at.weights * at.bounds, random.random())
            symbols, bits = [*symbols, symbol], bits + float(at.surprise[symbol])
            key = tuple(symbols)
            if symbol != self._end and key not in shared:
                shared[key] = self._follow(at, symbol, symbols, mask_first)
            moved.append((shared.get(key, at), symbols, bits))
        return moved

    def _drawn(self, symbols: list[int], bits: float) -> Drawn:
        ended = bool(symbols) and symbols[-1] == self._end
        return Drawn(symbols[:-1] if ended else symbols, bits, len(symbols))

    def _complete(self, at: Beginning, symbols: list[int]) -> bool:
        if symbols and symbols[-1] == self._end:
            return True
        return self._end is None and at.length == self._rule.longest

    def _bound(self, at: Beginning) -> float:
        """The bound of a beginning; 1 for a text that ends there."""
        return 1.0 if self._complete(at, []) else at.bound

    def _first(self, mask_first: bool) -> Beginning:
        network, logits = self._network((), self._last, self._state)
        return self._beginning(self._read, self._rule_state, network, logits, mask_first)

    def _follow(
        self, at: Beginning, symbol: int, symbols: list[int], mask_first: bool
    ) -> Beginning:
        """Read a symbol after a beginning; `symbols` are all symbols so far."""
        code = int(self._codes[symbol])
        network, logits = self._network(tuple(symbols), code, at.network)
        state = self._rule.automaton.run([symbol], at.rule_state)
        return self._beginning(at.length + 1, state, network, logits, mask_first)

    def _network(
        self, key: tuple[int, ...], code: int, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read a code; returns the state (1, S) and the logits (V,)."""
        if key not in self._cache:
            if len(self._cache) >= self._kept:
                self._cache.clear()
            out = self._runner("step", text=np.array([code], np.int32), state=state)
            self._cache[key] = out["state"], out["logits"][0]
        return self._cache[key]

    def _beginning(
        self, n: int, rule_state: int, network: np.ndarray, logits: np.ndarray, mask_first: bool
    ) -> Beginning:
        rule, fits = self._rule, np.zeros(len(self._codes), bool)
        after = rule.automaton.moves[rule_state][rule.automaton.classes]  # (V,)
        if n < rule.longest:
            fits = rule.open_until[n + 1][after]
        if self._end is not None:
            fits[self._end] = rule.may_end[n, rule_state]
        values = logits.astype(np.float64)
        values -= values.max()
        surprise = (np.log(np.exp(values).sum()) - values) / np.log(2)
        values[0] = -np.inf  # the unknown symbol is never drawn
        bounds = np.ones(len(values))
        if self._odds is None:
            self._frequencies += np.exp(values)
        else:
            bounds = self._odds[min(n + 1, rule.longest)][after]
            if self._end is not None:
                bounds[self._end] = 1.0
            bounds = bounds / self._odds[n, rule_state]
        if mask_first:
            with np.errstate(divide="ignore"):
                values = np.where(fits, values + np.log(bounds), -np.inf)
            bounds = np.ones(len(values))
        weights = np.where(fits, probabilities(values, self._config), 0.0)
        return Beginning(n, rule_state, network, surprise, weights, bounds)

    def _chances(self) -> np.ndarray:
        """How often a text fits if its characters are independent, float64 (L + 1, S)."""
        rule, automaton = self._rule, self._rule.automaton
        if not self._frequencies.any():
            self._first(mask_first=False)
        shares = self._frequencies / self._frequencies.sum() + LEAST
        ends = 1.0 if self._end is None else shares[self._end]
        by_class = np.bincount(automaton.classes, shares, automaton.moves.shape[1])  # (C,)
        by_class[0] = 0
        chances = rule.may_end * ends
        for n in reversed(range(rule.longest)):
            further = chances[n + 1][automaton.moves] @ by_class
            chances[n] = np.where(rule.open_until[n], chances[n] + further, 0.0)
        return np.maximum(chances, LEAST * rule.open_until)


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
