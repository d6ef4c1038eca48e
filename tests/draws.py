"""Thousands of lines under random combinations of constraints.

    python tests/draws.py names --combinations 20 --num 10000 --seconds 30

Every line must fit, by Python's own means, and none may be missing. Prints, for each combination,
the seconds of processor time to the first line and to all; exits with 1 where a line does not fit.
The tests run a short form (test_draws.py).
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from keras_charlm.errors import OptionError
from keras_charlm.saved.trained import TrainedModel

PATTERNS = ("[A-Z].*", ".*[aeiou]", "(..)+", "[^aeiou]*([aeiou][^aeiou]+)*[aeiou]?", ".{3,9}")


@st.composite
def combinations(draw: Any, letters: str) -> dict[str, Any]:
    """Constraints that often go together, of a model's letters."""
    word = st.text(letters, min_size=1, max_size=2)
    low = draw(st.integers(0, 8))
    values = {
        "starts_with": draw(st.none() | st.sampled_from(letters)),
        "ends_with": draw(st.none() | word),
        "contains": draw(st.none() | word),
        "ban": tuple(draw(st.lists(word, max_size=4))),
        "min_length": low,
        "max_length": draw(st.none() | st.integers(max(low, 4), 14)),
        "match": draw(st.none() | st.none() | st.sampled_from(PATTERNS)),
        "ignore_case": draw(st.booleans()),
        "temp": draw(st.sampled_from([0.8, 0.8, 1.0, 1.5])),
        "top_k": draw(st.sampled_from([0, 0, 10])),
        "min_p": draw(st.sampled_from([0.0, 0.0, 0.02])),
    }
    return {name: value for name, value in values.items() if value not in (None, (), 0, False)}


def draw_combinations(letters: str, count: int) -> list[dict[str, Any]]:
    """As many different combinations, always the same ones."""
    drawn: list[dict[str, Any]] = []

    @settings(
        max_examples=20 * count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(combinations(letters))
    def collect(values: dict[str, Any]) -> None:
        if len(values) > 2 and values not in drawn:
            drawn.append(values)

    collect()
    return drawn[:: max(len(drawn) // count, 1)][:count]


def fits(text: str, values: dict[str, Any]) -> bool:
    """Whether a line fits, by Python's own means."""
    ignore = values.get("ignore_case", False)

    def case(s: str) -> str:
        return s.lower() if ignore else s

    flags = re.IGNORECASE if ignore else 0
    return (
        case(text).startswith(case(values.get("starts_with", "")))
        and case(text).endswith(case(values.get("ends_with", "")))
        and case(values.get("contains", "")) in case(text)
        and not any(case(word) in case(text) for word in values.get("ban", ()))
        and values.get("min_length", 1) <= len(text) <= values.get("max_length", 10**9)
        and ("match" not in values or re.fullmatch(values["match"], text, flags) is not None)
    )


def run(
    model: TrainedModel, count: int, num: int, most: float = math.inf
) -> Iterator[tuple[dict[str, Any], str]]:
    """Draw under each combination.

    Args:
        model: Draws the lines.
        count: Combinations.
        num: Lines of each.
        most: Seconds after which no more lines of a combination are drawn.

    Yields:
        The combination, and what came of it: "contradiction", or the seconds of processor time.

    Raises:
        AssertionError: A line does not fit, or is missing.
    """
    letters = "".join(c for c in map(chr, model.vocabulary.codes) if c.isalpha())
    for values in draw_combinations(letters, count):
        began = time.process_time()
        try:
            samples = model.samples(num=num, seed=0, repeat=True, **values)
        except OptionError as error:
            assert "fits all the constraints" in str(error), error
            yield values, "contradiction"
            continue
        first, drawn, seconds = 0.0, 0, 0.0
        for sample in samples:
            seconds = time.process_time() - began
            first = first or seconds
            drawn += 1
            assert fits(str(sample.text), values), (sample, values)
            if seconds > most:
                break
        assert drawn == num or seconds > most, (drawn, values)
        yield values, f"first {first:.2f} s, {drawn:,} in {seconds:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("model")
    parser.add_argument("--combinations", type=int, default=20)
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=math.inf, help="at most, for each")
    given_ = parser.parse_args()
    model = TrainedModel(given_.model)
    for values, result in run(model, given_.combinations, given_.num, given_.seconds):
        print(f"{result:<34}{values}", flush=True)


if __name__ == "__main__":
    main()
