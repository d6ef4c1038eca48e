import functools
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import preloaded
import pytest
from conftest import babble

from keras_charlm.errors import Interrupted
from keras_charlm.saved.card import FORMAT
from keras_charlm.training import run

TOY = [
    "--layers", "1", "--units", "8", "--batch-size", "4", "--seq-length", "8", "--synthetic", "0",
]  # fmt: skip
COMMAND = [sys.executable, "-m", "kcharlm"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cats(here):
    (here / "cats.txt").write_text(babble(900))
    return here / "cats.txt"


def end_soon(monkeypatch):
    """End every training of this process at its first batch, as Ctrl-C does."""
    callback = keras.callbacks.Callback()

    def end(*_, **__):
        raise Interrupted("Stopped.", signal.SIGINT)

    callback.on_train_batch_end = end
    monkeypatch.setattr(run, "fit", functools.partial(run.fit, callbacks=callback))


def test_fit_shows_what_it_does_and_generate_finds_the_model(kcharlm, here, cats, monkeypatch):
    code, out, err = kcharlm("fit", cats, "--epochs", 2, *TOY)
    assert code == 0
    assert out == ""
    for label in (
        "corpus      cats: 900 characters, ",
        "split       810 train, 45 validation, 45",
        "model       1 x 8 lstm",
        "training    2 epochs of 26 batches, 4 x 8",
        "device      1 x CPU",
        "output      saved_models/cats",
        "epoch   2   train ",
        "validation  ",
        "test        ",
        "next        kcharlm generate saved_models/cats",
        "            kcharlm inspect saved_models/cats ",
    ):
        assert label in err, label
    code, out, err = kcharlm("generate", "--seed", 1, "--length", 40)
    assert code == 0
    assert len(out) == 41
    assert err == "model: saved_models/cats\n"
    assert kcharlm("generate", "cats", "--seed", 1, "--length", 40)[1] == out
    end_soon(monkeypatch)
    code, _, err = kcharlm("fit", cats, "--epochs", 1, *TOY)
    assert code == 130
    assert "output      saved_models/cats-2\n" in err
    assert (here / "saved_models" / "cats-2").is_dir()


@pytest.mark.parametrize(
    "args, message",
    [
        (["fit", "none.txt"], "There is no file none.txt"),
        (["fit", "folder"], "folder is a folder; say which of its files to read"),
        (["fit", "empty.txt"], "empty.txt is empty"),
        (["fit", "one.txt"], "has 1 distinct char"),
        (["fit", "same.txt"], "has 1 distinct char"),
        (["fit", "latin.txt"], "is not utf-8: byte 0xE9 at offset 3 does not decode"),
        (["fit", "binary.bin"], "looks binary: there is a NUL at about offset 3"),
        (["fit", "cats.txt", "--batch-size", "0"], "batch_size is 0; it takes at least 1"),
        (
            ["fit", "cats.txt", "--dropout", "1"],
            "dropout is 1.0; it takes at least 0 and less than 1",
        ),
        (["fit", "cats.txt", "--learning-rate", "nan"], "learning_rate is nan"),
        (["fit", "cats.txt", "--epochs", str(10**20)], "it takes at least 1 and at most 1000000"),
        (["fit", "folder", "--glob", "/abs/*.md"], "'/abs/*.md' cannot match a file inside"),
        (["fit", "none.txt", "--skip-unreadable"], "skipped file: There is no file none.txt"),
        (["fit", "latin.txt", "--skip-unreadable"], "skipped file: latin.txt is not utf-8"),
        (["export", "names", "--budget", "9" * 400], "budget is a number of more than 100 digits"),
        (["fit", "cats.txt", "--max-time", "soon"], "'soon' is not a duration"),
        (["fit", "cats.txt", "--cell", "transformer"], "'transformer' is not one of"),
        (["fit", "cats.txt", "--val-frac", "0.9", "--test-frac", "0.2"], "leave less than 5%"),
        (["fit", "cats.txt", "--glow"], "No such option"),
        (["fit", "cats.txt", "-o", "empty.txt"], "empty.txt is a file"),
        (["fit", "cats.txt", "-o", "folder"], "holds something that is not a model"),
        (["fit", "cats.txt", "--init-from", "none"], "There is no model none"),
        (["fit", "--resume", "none"], "no training to resume in none"),
        (["fit", "cats.txt", "--resume", "none"], "--resume continues with the corpus"),
        (["generate", "none"], "There is no model none"),
        (
            ["generate", "none.tflite"],
            "There is no file none.tflite; write one with: kcharlm export",
        ),
        (["generate", "folder"], "folder is no model"),
        (["evaluate", "none", "cats.txt"], "There is no model none"),
        (
            ["info", "cats.txt"],
            "cats.txt is no on-device model; name a folder that kcharlm fit wrote",
        ),
        (["knit"], "No such command"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_everything_as_it_was(
    kcharlm, here, cats, args, message
):
    (here / "folder").mkdir()
    (here / "folder" / "x.md").write_text("x")
    for name, data in (
        ("empty.txt", b""),
        ("one.txt", b"a"),
        ("same.txt", b"aaaa"),
        ("latin.txt", b"caf\xe9"),
        ("binary.bin", b"abc\0def"),
    ):
        (here / name).write_bytes(data)
    before = sorted(here.rglob("*"))
    code, out, err = kcharlm(*args)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert sorted(here.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder root cannot write to")
def test_a_folder_that_cannot_be_written(kcharlm, here, cats):
    code, _, err = kcharlm("fit", cats, "-o", "/proc/self/m", *TOY)
    assert code == 2
    assert "The folder /proc/self/m cannot be written (" in err
    code, _, err = kcharlm("fit", cats, "-o", "m", "--tensorboard", "/proc/self/m", *TOY)
    assert code == 2
    assert "TensorBoard's folder /proc/self/m cannot be made" in err
    assert not (here / "m").exists()


def test_lists_are_recognised_and_their_lines_drawn(kcharlm, here, list_model, monkeypatch):
    (here / "list.txt").write_text("".join(f"item {i}\n" for i in range(50)))
    end_soon(monkeypatch)
    code, _, err = kcharlm("fit", "list.txt", "--epochs", 1, *TOY)
    assert code == 130
    assert "--lines" in err
    code, out, err = kcharlm("generate", list_model, "--num", 7, "--seed", 2, "--novel")
    assert code == 0
    assert len(out.splitlines()) == 7
    assert re.search(r"novel: \d+ of \d+ drawn \(\d+\.\d%\)", err)


def test_json_has_text_seed_and_bits(kcharlm, text_model):
    code, out, _ = kcharlm(
        "generate",
        text_model,
        "--num",
        3,
        "--seed",
        10,
        "--length",
        12,
        "--json",
        "--prompt",
        "the",
    )
    samples = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [s["seed"] for s in samples] == [10, 11, 12]
    assert all(s["text"].startswith("the") and len(s["text"]) == 15 for s in samples)
    assert all(0 < s["bits_per_character"] < 12 for s in samples)


def test_the_same_seed_draws_the_same_text(kcharlm, text_model):
    texts = [
        kcharlm("generate", text_model, "--seed", seed, "--length", 60)[1] for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_novel_needs_lines(kcharlm, text_model):
    code, _, err = kcharlm("generate", text_model, "--novel")
    assert code == 2
    assert "was not trained on lines" in err


def test_an_unknown_character_is_named(kcharlm, text_model):
    code, _, err = kcharlm("generate", text_model, "--prompt", "cat 7")
    assert code == 2
    assert "character 5 is '7' (U+0037 DIGIT SEVEN)" in err
    assert "--unknown-ok" in err
    assert kcharlm("generate", text_model, "--prompt", "cat 7", "--unknown-ok")[0] == 0


def test_prompts_come_from_files_too(kcharlm, text_model, here):
    (here / "p.txt").write_text("the cat")
    code, out, _ = kcharlm("generate", text_model, "--prompt-file", "p.txt", "--length", 3)
    assert code == 0
    assert out.startswith("the cat")
    (here / "p.txt").write_bytes(b"\xff")
    assert "p.txt is not utf-8" in kcharlm("generate", text_model, "--prompt-file", "p.txt")[2]
    assert "no file no.txt" in kcharlm("generate", text_model, "--prompt-file", "no.txt")[2]
    assert "cannot be read" in kcharlm("generate", text_model, "--prompt-file", ".")[2]
    (here / "p.txt").write_bytes(b"")
    empty = kcharlm("generate", text_model, "--prompt-file", "p.txt", "--seed", 1)
    assert empty == kcharlm("generate", text_model, "--seed", 1)
    piped = kcharlm("generate", text_model, "--prompt-file", "-", "--length", 3, stdin=b"the cat")
    assert piped[1].startswith("the cat")


def drawn_after(model, prompt):
    """What `generate` writes for a prompt file if it draws nothing."""
    Path("p.txt").write_bytes(prompt)
    command = [*COMMAND, "generate", model, "--prompt-file", "p.txt", "--length", "0"]
    return subprocess.check_output(command)


def test_a_prompt_file_of_bytes_is_read_as_it_is(here, byte_model):
    assert drawn_after(byte_model, b"b\xff\r\n") == b"b\xff\r\n\n"


@pytest.mark.parametrize(
    "corpus, options, read",
    [
        (b"some\r\nlines\r\n" * 60, ["--keep-line-ends"], {b"some\r\n": b"some\r\n"}),
        (
            b"caf\xe9 some\r\nlines\r\n" * 50,
            ["--encoding", "latin-1"],
            {b"some\r\nlines\r": b"some\nlines\n", b"caf\xe9": "caf\u00e9".encode()},
        ),
    ],
)
def test_a_prompt_file_is_read_as_the_corpus_was(kcharlm, here, corpus, options, read):
    (here / "c.txt").write_bytes(corpus)
    fit = kcharlm("fit", "c.txt", "-o", "m", "--epochs", 1, *TOY, *options, "--quiet")
    assert fit == (0, "", "")
    for prompt, text in read.items():
        assert drawn_after("m", prompt) == text + b"\n"


def test_evaluate_scores_a_file(kcharlm, text_model, text_file, here):
    code, out, _ = kcharlm("evaluate", text_model, text_file, "--json")
    scores = json.loads(out)
    assert code == 0
    assert list(scores) == [
        "characters",
        "nats_per_character",
        "bits_per_character",
        "perplexity",
        "accuracy",
        "unknown",
        "text",
    ]
    assert scores["characters"] == 1500
    assert scores["nats_per_character"] / scores["bits_per_character"] == pytest.approx(0.693147)
    assert "bits per character" in kcharlm("evaluate", text_model, text_file)[1]
    assert "unknown" not in kcharlm("evaluate", text_model, text_file)[1]
    (here / "other.txt").write_text("the cat\N{CAT FACE} sat, €5")
    for model in text_model, text_model / "model.tflite":
        out = kcharlm("evaluate", model, "other.txt")[1]
        assert "unknown             3 (not in the training text)" in out
        assert json.loads(kcharlm("evaluate", model, "other.txt", "--json")[1])["unknown"] == 3
    (here / "empty.txt").touch()
    code, _, err = kcharlm("evaluate", text_model, "empty.txt")
    assert code == 2
    assert "is empty" in err


def test_info_tells_what_a_model_is(kcharlm, text_model):
    code, out, _ = kcharlm("info", text_model)
    assert code == 0
    for label in ("1 x 8 lstm", "cats: 1,500 characters", "validation", "model.tflite", "keras "):
        assert label in out
    assert json.loads(kcharlm("info", text_model, "--json")[1])["format"] == FORMAT


def test_info_tells_what_is_missing(kcharlm, list_model, here):
    shutil.copytree(list_model, here / "names")
    assert "missing" not in kcharlm("info", "names")[1]
    (here / "names" / "training_lines.u64").unlink()
    code, out, _ = kcharlm("info", "names")
    assert code == 0
    assert "missing     training_lines.u64; copy the model again, or train it again" in out
    (here / "names" / "model.tflite").unlink()
    code, _, err = kcharlm("info", "names")
    assert code == 2
    assert "model.tflite cannot be read" in err


def test_a_closed_pipe_is_no_error(text_model):
    writer = subprocess.Popen(
        [*COMMAND, "generate", text_model, "--length", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert writer.stdout.read(10)
    writer.stdout.close()
    err = writer.stderr.read()
    writer.stderr.close()
    assert writer.wait(60) == 0
    assert err == b""


def test_ctrl_c_saves_and_resume_goes_on(here, cats):
    training = preloaded.Popen(
        [*COMMAND, "fit", "cats.txt", "--epochs", "100000", *TOY], stderr=subprocess.PIPE, text=True
    )
    seen = ""
    while "epoch   1" not in seen:
        line = training.stderr.readline()
        assert line, seen
        seen += line
    training.send_signal(signal.SIGINT)
    seen += training.communicate(timeout=120)[1]
    assert training.returncode == 130
    assert "continue with: kcharlm fit --resume saved_models/cats" in seen
    assert "Traceback" not in seen
    # The model so far can be used, and the training continues from where it was.
    drawn = subprocess.run(
        [*COMMAND, "generate", "cats", "--length", "9", "--seed", "1"],
        capture_output=True,
        text=True,
    )
    assert len(drawn.stdout) == 10
    resumed = preloaded.Popen(
        [*COMMAND, "fit", "--resume", "saved_models/cats"], stderr=subprocess.PIPE, text=True
    )
    seen = ""
    while "epoch " not in seen.replace("epochs", ""):
        line = resumed.stderr.readline()
        assert line, seen
        seen += line
    resumed.kill()
    resumed.communicate()
    assert "resuming    after epoch" in seen


def test_a_terminal_gets_a_bar_and_no_control_characters(here, text_model):
    (here / "bell.txt").write_text("ding\a\x1b[31mdong " * 60)
    code, seen = terminal([*COMMAND, "fit", "bell.txt", "--epochs", "3", *TOY])
    assert code == 0
    assert "bits/char" in seen
    code, seen = terminal([*COMMAND, "generate", "bell", "--length", "300", "--seed", "1"])
    assert code == 0
    assert "\a" not in seen
    assert "\x1b" not in seen
    assert "␇" in seen or "␛" in seen


def terminal(command):
    """Run a command on a pseudo-terminal: (exit code, everything on the screen)."""
    file, far = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), far)
    process = preloaded.Popen(list(map(str, command)), **streams)
    os.close(far)
    seen, end = b"", time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([file], [], [], 1)[0]:
            try:
                data = os.read(file, 65536)
            except OSError:
                break
            if not data:
                break
            seen += data
    os.close(file)
    return process.wait(), seen.decode("utf-8", "replace")


@pytest.mark.parametrize("mistyped, verb", [("train", "fit"), ("sample", "generate")])
def test_other_names_of_verbs_suggest_the_verb(kcharlm, here, mistyped, verb):
    code, _, err = kcharlm(mistyped, "x.txt")
    assert code == 2
    assert f"Did you mean '{verb}'?" in err


def test_a_text_after_the_model_suggests_prompt(kcharlm, here):
    code, _, err = kcharlm("generate", "names", "Maria")
    assert code != 0
    assert "'Maria'" in err and "--prompt" in err


def test_help_of_fit_begins_with_the_ten_usual_options(kcharlm):
    text = kcharlm("fit", "--help")[1]
    usual = text.split("Usual options:")[1].split("Starting:")[0]
    assert len(re.findall(r"^  (?:-\w, )?--", usual, re.M)) == 10 + 1  # and --help
    assert "--clip-norm" not in usual
    assert "--clip-norm" in text


@pytest.mark.parametrize("level", [None, "0"])
def test_tensorflow_is_quiet_from_python_unless_the_user_asks(monkeypatch, level):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if level:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    code = "import keras_charlm; keras_charlm.fit; import tensorflow as tf; tf.constant(1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert bool(done.stderr) == bool(level)


def test_what_fails_as_python_ends_is_not_shown():
    code = """
        import builtins, sys
        class Pool:
            def __del__(self):
                raise OSError("Bad file descriptor")
        builtins.pool = Pool()
        from kcharlm.main import main
        sys.argv = ["kcharlm", "info", "nothing"]
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("kcharlm: There is no model nothing;")
    assert len(done.stderr.splitlines()) == 1
