"""The tables of a rule: what they accept, the same from Python and JavaScript, and their file."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from keras_charlm.config import SampleConfig
from keras_charlm.errors import OptionError
from keras_charlm.export import export as exports
from keras_charlm.generation.tables import ENTRIES, Tables, compile_tables
from keras_charlm.text.vocabulary import Vocabulary

SCRIPT = Path(exports.__file__).parent / "page" / "rule.js"
LETTERS = Vocabulary("char", tuple(map(ord, "\nABCabc")))
END = LETTERS.id_of(10)
WIDE = Vocabulary("char", (10, *map(ord, "abcßéİΣςσ"), 0x1F600))
CASES = [
    (LETTERS, {}),
    (LETTERS, {"ends_with": "a"}),
    (LETTERS, {"ends_with": "aBa", "ban": ("cc", "ac"), "max_length": 5}),
    (LETTERS, {"min_length": 3, "max_length": 4}),
    (LETTERS, {"min_length": 3, "ban": ("abc", "bc", "x")}),
    (WIDE, {"ban": ("σ", "\U0001f600a"), "ends_with": "É", "max_length": 3}),
]


def accepted(tables, vocabulary, text):
    """Whether a line or text fits, by walking through the tables."""
    state = 0
    for symbol in vocabulary.encode(text):
        state = tables.moves[state, tables.classes[symbol]]
        if state < 0:
            return False
    return True


@pytest.mark.parametrize("given", [{}, *(case[1] for case in CASES[1:5]), {"match": "a(b|c)*"}])
def test_the_tables_accept_the_lines_that_fit(given):
    config = SampleConfig(**given, ignore_case=True)
    tables = compile_tables(LETTERS, config, END)
    longest = config.max_length or 10**9
    for n in range(6):
        for letters in itertools.product("aBc", repeat=n):
            line = "".join(letters)
            low = line.lower()
            fits = (
                max(config.min_length, 1) <= n <= longest
                and low.endswith((config.ends_with or "").lower())
                and not any(word in low for word in config.ban)
                and (config.match is None or re.fullmatch(config.match, low) is not None)
            )
            assert accepted(tables, LETTERS, line + "\n") == fits, line
            # A line after a line is as a first one, and every state leads to a line that fits.
            if fits:
                assert accepted(tables, LETTERS, f"{line}\n{line}\n")
    allowed = (tables.moves >= 0).any(axis=1)
    assert (~allowed).sum() <= 1, "only a line that began wrongly cannot go on"


def test_a_text_without_an_end_never_gets_stuck():
    tables = compile_tables(LETTERS, SampleConfig(ban=("ab", "ba", "b")), None)
    assert accepted(tables, LETTERS, "aaccac" * 20)
    assert not accepted(tables, LETTERS, "ab")
    with pytest.raises(OptionError, match="No text fits all"):
        compile_tables(LETTERS, SampleConfig(ban=tuple("\nabc"), ignore_case=True), None)
    fixed = compile_tables(LETTERS, SampleConfig(ends_with="ab", max_length=4), None)
    assert accepted(fixed, LETTERS, "ccab")
    assert not accepted(fixed, LETTERS, "ccac")


def test_too_large_tables_are_refused():
    words = tuple("".join(w) for w in itertools.islice(itertools.permutations("ABCabc"), 400))
    with pytest.raises(OptionError, match=f"more than {ENTRIES:,} entries"):
        compile_tables(LETTERS, SampleConfig(ban=words, max_length=400), END)
    with pytest.raises(OptionError, match="No text of at most 2 characters fits"):
        compile_tables(LETTERS, SampleConfig(ends_with="abc", max_length=2), END)


@pytest.mark.parametrize("lines", [True, False])
def test_the_page_compiles_the_same_tables(lines):
    node = shutil.which("node")
    if not node:
        pytest.skip("node is not installed")
    jobs, expected = [], []
    for vocabulary, given in CASES:
        if not lines and "ends_with" in given and "max_length" not in given:
            continue
        end = vocabulary.id_of(10) if lines else None
        config = SampleConfig(**given, ignore_case=True)
        if not lines and not config.max_length:
            config = SampleConfig(ban=config.ban, ignore_case=True)
        tables = compile_tables(vocabulary, config, end)
        expected.append([tables.classes.tolist(), tables.moves.ravel().tolist()])
        model = {"codes": [-1, *vocabulary.codes], "unit": vocabulary.unit, "end": end}
        wishes = {
            "endsWith": list(map(ord, config.ends_with or "")),
            "ban": [list(map(ord, word)) for word in config.ban],
            "minLength": config.min_length,
            "maxLength": config.max_length,
        }
        jobs.append([model, wishes])
    program = (
        f"const rule = await import({json.dumps(SCRIPT.as_uri())});"
        f"console.log(JSON.stringify({json.dumps(jobs)}.map(([model, wishes]) => {{"
        "const {classes, moves} = rule.compile(model, wishes);"
        "return [Array.from(classes), Array.from(moves)]; })));"
    )
    run = [node, "--input-type=module", "-e", program]
    out = subprocess.run(run, capture_output=True, check=True, text=True, timeout=60).stdout
    assert json.loads(out) == expected


def test_a_file_is_read_as_it_was_written_and_for_its_model_only(tmp_path):
    tables = compile_tables(LETTERS, SampleConfig(ends_with="ab", max_length=6), END)
    path = tmp_path / "ab.rule"
    path.write_bytes(tables.to_bytes(LETTERS))
    again = Tables.read(path, LETTERS)
    assert again.lines
    np.testing.assert_array_equal(again.moves, tables.moves)
    np.testing.assert_array_equal(again.classes, tables.classes)
    with pytest.raises(OptionError, match="another vocabulary"):
        Tables.read(path, WIDE)
    path.write_bytes(tables.to_bytes(LETTERS)[:-3])
    with pytest.raises(OptionError, match="is damaged"):
        Tables.read(path, LETTERS)
    for content in b"", b"a rule, as text", b"\0" * 64:
        path.write_bytes(content)
        with pytest.raises(OptionError, match="no rule file"):
            Tables.read(path, LETTERS)
    with pytest.raises(OptionError, match="cannot be read"):
        Tables.read(tmp_path, LETTERS)
