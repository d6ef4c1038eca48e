"""The loop of the on-device graph that draws texts which fit a rule.

A row draws freely and begins again where a character does not fit: the texts that are kept have
exactly the model's probabilities given the rule. Or only characters that fit are drawn (a mask),
which never fails but bends the distribution. Letters in shapes: B rows, V symbols, N to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from keras_charlm.network import sampling
from keras_charlm.text.vocabulary import UNKNOWN

LINE = 256  # N: maximum characters of a text that begins again where it does not fit
PATIENCE = 5000  # characters that a rule of the file's own lets a row draw in vain
NEVER = -1e30  # the logit of a character that does not fit

Step = Callable[[tf.Tensor, Sequence[tf.Tensor]], tuple[tf.Tensor, list[tf.Tensor]]]


@dataclass(frozen=True)
class Rule:
    """The tensors of `generation.tables`.

    Attributes:
        classes: int32 (V,).
        moves: int32 (M,).
        width: int32, scalar or (1,).
    """

    classes: tf.Tensor
    moves: tf.Tensor
    width: tf.Tensor | int

    def after(self, state: tf.Tensor) -> tf.Tensor:
        """What each symbol leads to, int32 (B, V), from states (B, 1); negative if it misfits."""
        return self._at(state, self.classes)

    def read(self, state: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """The states (B, 1) after reading ids (B,), whether they fit or not; labels change none."""
        symbols = ids < self.classes.shape[0]
        moved = self._at(state, tf.gather(self.classes, tf.where(symbols, ids, 0))[:, None])
        return tf.where(symbols[:, None], tf.maximum(moved, -1 - moved), state)

    def _at(self, state: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        # Wrong inputs from a host must not read out of bounds.
        index = tf.clip_by_value(state * self.width + classes, 0, self.moves.shape[0] - 1)
        return tf.gather(self.moves, index)


@dataclass(frozen=True)
class Request:
    """What to draw.

    Attributes:
        uniform: `sampling.uniform`, or what computes the same.
        seed, position: int32 (B,), its arguments.
        active: Rows that draw, bool (B,).
        length: Most characters of a text, int32, at most `LINE`.
        stop: Id that ends a text, int32 (1,).
        cuts: temperature, top_k, top_p and min_p of `sampling.draw`.
        masks: Rows that draw only what fits, bool (B,).
        patience: Characters that a row may draw before its last beginning, int32.
        gives_up: Whether a row ends without a text after that; else it draws only what fits.
    """

    uniform: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    seed: tf.Tensor
    position: tf.Tensor
    active: tf.Tensor
    length: tf.Tensor
    stop: tf.Tensor
    cuts: tuple[tf.Tensor, ...]
    masks: tf.Tensor
    patience: tf.Tensor | int
    gives_up: bool


def nothing(ids: tf.Tensor, width: int) -> tf.Tensor:
    """UNKNOWN in int32 (B, width) for ids (B,): computed, since the file would hold a constant."""
    return tf.where(ids[:, None] < 0, tf.range(width), UNKNOWN)


def draw(
    step: Step,
    logits_of: Callable[[tf.Tensor], tf.Tensor],
    rule: Rule,
    last: tf.Tensor,
    first: Sequence[tf.Tensor],
    request: Request,
) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
    """Draw texts that fit a rule.

    Args:
        step: Reads ids (B,) after states; the last of the states is the rule's, int32 (B, 1).
        logits_of: Logits (B, V) of what `step` returns.
        rule: What the texts have to fit.
        last: Ids that are read first (B,).
        first: The states before them.
        request: How to draw.

    Returns:
        `drawn` int32 (B, N), ids, UNKNOWN after the end; `lengths`, `done` and `steps` int32 (B,);
        `nats` float32 (B,), sum of -ln p over the texts; and the states before the last character.
    """
    rows = last.shape[0]
    # A prompt may be one that no text that fits begins with.
    possible = tf.reduce_any(rule.after(rule.read(first[-1], last)) >= 0, axis=1)
    none, begins = tf.zeros(rows, tf.int32), request.active & possible
    active, drawn = begins & (request.length > 0), nothing(last, LINE)
    start = (
        tf.constant(0),
        last,
        active,
        request.masks,
        ~begins,
        drawn,
        none,
        none,
        tf.zeros(rows),
    )
    body = _drawing_step(step, logits_of, rule, last, first, request)
    _, _, _, _, done, drawn, lengths, steps, nats, *states = tf.while_loop(
        lambda n, before, active, *_: tf.reduce_any(active), body, (*start, *first)
    )
    results = {"drawn": drawn, "lengths": lengths, "done": tf.cast(done, tf.int32)}
    return results | {"steps": steps, "nats": nats}, states


def _drawing_step(
    step: Step,
    logits_of: Callable[[tf.Tensor], tf.Tensor],
    rule: Rule,
    last: tf.Tensor,
    first: Sequence[tf.Tensor],
    request: Request,
) -> Callable[..., tuple[tf.Tensor, ...]]:
    """The body of the loop of `draw`, whose arguments it takes: one character of each row."""
    columns = tf.range(LINE)

    def body(n, before, active, masks, ended, drawn, lengths, steps, nats, *states):
        x, after = step(before, states)
        logits = logits_of(x)  # (B, V)
        moves = rule.after(after[-1])  # (B, V)
        allowed = tf.where(masks[:, None] & (moves < 0), NEVER, logits)
        uniform = request.uniform(request.seed, request.position + n)
        chosen = sampling.draw(allowed, uniform, *request.cuts)  # (B,)
        again = active & (tf.gather(moves, chosen, batch_dims=1) < 0)
        stops = active & ~again & tf.equal(chosen, request.stop)
        adds = active & ~again & ~stops
        cost = -tf.gather(tf.nn.log_softmax(logits), chosen, batch_dims=1)
        column = adds[:, None] & tf.equal(columns, lengths[:, None])
        drawn = tf.where(again[:, None], UNKNOWN, tf.where(column, chosen[:, None], drawn))
        lengths = tf.where(again, 0, lengths + tf.cast(adds, tf.int32))
        nats = tf.where(again, 0.0, nats + tf.where(active, cost, 0.0))
        steps = tf.where(active, n + 1, steps)
        late = again & (n + 1 >= request.patience)
        states = keep_ended(again, first, keep_ended(active, after, states))
        active = active & ~stops & (lengths < request.length)
        if request.gives_up:
            active &= ~late
        else:
            masks |= late
        before = tf.where(again, last, chosen)
        return n + 1, before, active, masks, ended | stops, drawn, lengths, steps, nats, *states

    return body


def keep_ended(
    active: tf.Tensor, new: Sequence[tf.Tensor], old: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
    """Of tensors (B, ...), take `new` in the rows that are active (B,) and `old` in the others."""
    return [tf.where(active[:, None], a, b) for a, b in zip(new, old, strict=True)]
