"""Nothing that a text, a model or a file's name holds can steer a terminal, in any verb."""

import json
import re
import shutil

import pytest
from conftest import TINY, babble, shown_fit, train, with_card
from test_cli import COMMAND, terminal

from keras_charlm.display import printable
from keras_charlm.saved import tflite_card

EVIL = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202e\x7f"  # title, colour, C1, direction, delete
MARKUP = '<script>window.hurt = 1</script><img src=x onerror="window.hurt = 2">&amp;"\'\n'
STEERING = set(
    map(
        chr,
        (
            *range(9),
            11,
            12,
            *range(14, 32),
            *range(127, 160),
            *range(0x202A, 0x202F),
            *range(0x2066, 0x206A),
        ),
    )
)


def hostile_model(made):
    """Train on what would steer a terminal, or run as a program, if it were shown as it is."""
    text = made / f"{EVIL}<b>x.txt"
    text.write_text((EVIL + babble(40) + MARKUP + "\a") * 15)
    shown_fit(text, made / f"m{EVIL}", epochs=2)


@pytest.fixture(scope="module")
def trained(made_once):
    """A model of such a text, in such a folder, and what its training showed."""
    folder = made_once("hostile", hostile_model)
    return folder / f"m{EVIL}", (folder / "shown.txt").read_text()


@pytest.fixture(scope="module")
def evil_text(trained):
    return trained[0].with_name(f"{EVIL}<b>x.txt")


@pytest.fixture(scope="module")
def evil_model(trained):
    """The model, whose card says such things too."""
    folder, _ = trained
    config = json.loads((folder / "config.json").read_text())
    config |= {"name": EVIL, "created": EVIL, "versions": {EVIL: EVIL}}
    config["corpus"]["name"] = EVIL
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def steers(screen):
    bar = r"\x1b\[(\?25[lh]|2K|1A|0m|90m|1m|2m|38;5;\d+m)"  # our own, of a progress bar
    return set(re.sub(bar, "", screen).replace("\r", "")) & STEERING


def test_no_verb_passes_control_sequences_on(evil_model, evil_text, tmp_path):
    with_license = tmp_path / f"{EVIL}.tflite"
    values = {
        k: v for k, v in tflite_card.read(evil_model / "model.tflite").items() if k != "file_sha256"
    }
    with_license.write_bytes(
        with_card((evil_model / "model.tflite").read_bytes(), values | {"license": EVIL})
    )
    for command in (
        ["generate", evil_model, "--length", "300", "--seed", "1"],
        ["generate", evil_model, "--length", "99", "--num", "3", "--json"],
        ["generate", evil_model, "--prompt", EVIL, "--length", "9"],
        ["info", evil_model],
        ["info", evil_model, "--json"],
        ["info", with_license],
        ["evaluate", with_license, evil_text],
        ["compress", evil_model, evil_text, "-o", tmp_path / f"c{EVIL}"],
        ["decompress", evil_model, tmp_path / f"c{EVIL}", "-o", tmp_path / f"d{EVIL}"],
    ):
        code, seen = terminal([*COMMAND, *command])
        assert code == 0, seen
        assert seen.strip()
        assert not steers(seen), command
    assert (
        "\x1b"
        in terminal([*COMMAND, "generate", evil_model, "--length", "300", "--seed", "1", "--raw"])[
            1
        ]
    )


def test_no_error_passes_control_sequences_on(evil_model, evil_text, text_model, tmp_path, kcharlm):
    binary = tmp_path / f"{EVIL}.bin"
    binary.write_bytes(b"a\0b")
    broken = shutil.copytree(evil_model, tmp_path / f"broken{EVIL}")
    (broken / "config.json").write_text(json.dumps({"format": 1, EVIL: EVIL}))
    for command in (
        ["fit", binary],
        ["fit", f"{EVIL}.none"],
        ["fit", tmp_path],
        ["fit", EVIL],
        ["fit", evil_text, "-o", evil_model],
        ["fit", "--resume", evil_model],
        ["fit", evil_text, "--encoding", EVIL],
        ["fit", evil_text, "--cell", EVIL],
        ["generate", EVIL],
        ["generate", broken],
        ["generate", f"{EVIL}.tflite"],
        ["generate", text_model, "--prompt", EVIL],
        ["generate", EVIL, EVIL],
        ["generate", text_model, "--prompt-file", EVIL],
        ["info", evil_text],
        ["evaluate", evil_model, EVIL],
        ["export", EVIL],
        [EVIL],
        [f"--{EVIL}"],
        ["generate", f"--{EVIL}"],
    ):
        code, out, err = kcharlm(*command)
        assert code == 2, command
        assert out == ""
        assert err
        assert not steers(err), command


def test_a_training_shows_none_either(trained, tmp_path, capfd):
    _, shown = trained
    assert "␛" in shown and "next        kcharlm generate" in shown
    assert not steers(shown)
    (tmp_path / "list.txt").write_text("".join(f"{EVIL}{i}\n" for i in range(60)))
    settings = {**TINY, "verbose": 1, "lines": True, "epochs": 2}
    train(tmp_path / "list.txt", tmp_path / f"list{EVIL}", **settings)
    shown = capfd.readouterr().err
    assert "epoch   2" in shown and "␛" in shown
    assert not steers(shown)


def test_all_steering_characters_are_replaced_and_no_others():
    everything = "".join(map(chr, range(0x3000)))
    shown = printable(everything)
    assert not set(shown) & STEERING - {"\r"}
    kept = [c for c in everything if c not in STEERING and c != "\r"]
    assert list(printable("".join(kept))) == kept
