import io
import re
import subprocess
import sys

import pytest

from keras_charlm.display import Display, duration, printable


def test_quiet_holds_noise_back_and_leaves_log_handlers_whole():
    code = (
        "import logging, os\n"
        "from keras_charlm.display import quiet\n"
        "with quiet():\n"
        "    os.write(2, b'noise')\n"
        "    logging.getLogger().addHandler(logging.StreamHandler())\n"
        "logging.warning('heard')\n"
    )
    stderr = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr
    assert stderr == b"heard\n"


def test_quiet_in_two_threads_ends_with_the_last():
    code = (
        "import os, threading\n"
        "from keras_charlm.display import quiet\n"
        "inside, go_on = threading.Event(), threading.Event()\n"
        "def other():\n"
        "    with quiet():\n"
        "        inside.set()\n"
        "        go_on.wait()\n"
        "thread = threading.Thread(target=other)\n"
        "with quiet():\n"
        "    thread.start()\n"
        "    inside.wait()\n"
        "os.write(2, b'noise')\n"
        "go_on.set()\n"
        "thread.join()\n"
        "os.write(2, b'heard')\n"
    )
    stderr = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr
    assert stderr == b"heard"


def test_quiet_does_without_stderr():
    code = (
        "import os; os.close(2)\n"
        "from keras_charlm.display import quiet\n"
        "with quiet(), quiet(): pass\n"
        "print('done')\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code]) == b"done\n"


def test_no_control_sequence_reaches_a_terminal():
    assert printable("a\x1b[31mb\x07\x9b\x7f\tc\nd\u00e9") == "a␛[31mb␇�␡\tc\ndé"
    assert printable(b"\xff\x1b") == "�␛"
    assert all(ord(c) >= 32 or c in "\n\t" for c in printable("".join(map(chr, range(256)))))


def test_durations_read_as_people_write_them():
    assert [duration(s) for s in (0.4, 59.6, 125, 12_000, float("inf"))] == [
        "0 s",
        "1 min 00 s",
        "2 min 05 s",
        "3 h 20 min",
        "?",
    ]


def test_nothing_is_shown_when_quiet(capsys):
    display = Display(0)
    display.note("x")
    display.start()
    display.update("epoch 1", 0.5, "y")
    display.stop()
    assert capsys.readouterr() == ("", "")


class _Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_a_narrow_terminal_keeps_the_figures_of_the_bar(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    screen = _Screen()
    display = Display(stream=screen)
    display.start()
    figures, more = "2.345 bits/char  12 min 05 s left", "batch 123/456  70,123 char/s"
    display.update("epoch 12/100", 0.5, figures, more)
    display.stop()
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert f"{figures}" in seen
    assert "epoch 12/100" in seen
    assert (more in seen) == (columns > 80)


def test_a_status_is_a_line_without_a_terminal_and_goes_from_one(monkeypatch):
    plain = io.StringIO()
    with Display(stream=plain).status("scoring the test part ..."):
        pass
    assert plain.getvalue() == "scoring the test part ...\n"
    monkeypatch.setenv("TERM", "xterm")
    screen = _Screen()
    with Display(stream=screen).status("scoring [the] \x07 part ..."):
        pass
    assert "scoring [the] ␇ part ..." in screen.getvalue()
    assert screen.getvalue().rstrip("\r\n").endswith(("\x1b[2K", "\x1b[?25h"))


def test_samples_wrap_between_words_on_a_terminal_only(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    text = "some words " * 12 + "\n\n  short"
    assert Display(stream=io.StringIO()).wrapped(text) == text
    shown = Display(stream=_Screen()).wrapped(text)
    assert max(map(len, shown.split("\n"))) <= 50
    assert shown.split() == text.split()
    assert shown.endswith("\n\n  short")
