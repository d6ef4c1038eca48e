"""Workers on this machine, in processes of their own, train as one."""

import contextlib
import json
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import preloaded
import pytest
from conftest import babble, train

import keras_charlm
from keras_charlm.errors import OptionError
from keras_charlm.training import checkpoint
from keras_charlm.training.workers import addresses

SETTINGS = {
    "layers": 1,
    "units": 8,
    "embedding": 4,
    "batch-size": 6,
    "seq-length": 8,
    "precision": "float32",
    "dropout": 0,
    "clip-norm": 0.02,
}
WHOLE = {**SETTINGS, "epochs": 2}
STARTED = []
# Below those that a system gives to outgoing connections: it would give one away before the worker
# that is to listen there has started.
PORTS = iter(random.sample(range(20_000, 32_000), 12_000))
# The command line, which stops its own process (SIGSTOP) at any moment soon after a checkpoint: a
# test that looked for the moment from outside would come too late on a busy machine.
HALTING = """
import os, random, signal, threading
from kcharlm.main import main
from kcharlm.options import load_tensorflow
load_tensorflow(start=False)
from keras_charlm.training.callbacks import Saving
save = Saving.save
def save_and_halt(self):
    save(self)
    Saving.save = save
    halt = threading.Timer(random.uniform(0, 0.1), os.kill, (os.getpid(), signal.SIGSTOP))
    halt.daemon = True
    halt.start()
Saving.save = save_and_halt
main()
"""


def ports(count):
    """As many free ports of the loopback address, none of them twice."""
    found = []
    while len(found) < count:
        port = next(PORTS)
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            found.append(port)
    return found


def start(count, *args, each=lambda index: (), missing=0, halting=None, **settings):
    """Start `kcharlm fit` as so many workers but the last `missing`, or without TF_CONFIG for
    one. The one numbered `halting` stops in mid-training."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports(count)]}
    running = []
    for index in range(count - missing):
        env = {
            **os.environ,
            "TF_CONFIG": json.dumps(
                {"cluster": cluster, "task": {"type": "worker", "index": index}}
            ),
        }
        if count == 1:
            del env["TF_CONFIG"]
        running.append(
            preloaded.Popen(
                [
                    sys.executable,
                    *(("-c", HALTING) if index == halting else ("-m", "kcharlm")),
                    "fit",
                    *map(str, args),
                    *options,
                    *each(index),
                ],
                env=env,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    STARTED.extend(running)
    return running


@pytest.fixture(autouse=True)
def cleared():
    """No process outlives its test."""
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def ended(running, timeout=600):
    """Exit code and standard error of each, which have to come before the time is out."""
    errors = [process.communicate(timeout=timeout)[1] for process in running]
    return [(process.returncode, error) for process, error in zip(running, errors, strict=True)]


def strike(process, number):
    """Send the signal as soon as the process has stopped itself."""
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), process.communicate()
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)


def alone(text, folder, **settings):
    """The same training in this process, on one device: its weights, and the bits per character
    of its last epoch, in training and validation."""
    settings |= {name.replace("-", "_"): value for name, value in SETTINGS.items()}
    history = keras.callbacks.History()
    network = train(text, folder, verbose=0, callbacks=[history], **settings)
    bits = [history.history[name][-1] / math.log(2) for name in ("loss", "val_loss")]
    return network.get_weights(), bits


def weights(folder):
    return keras_charlm.load(folder).model.get_weights()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text(babble(1600))
    return path


def test_three_workers_train_as_one_device(text, tmp_path):
    running = start(3, text, "-o", tmp_path / "3", **WHOLE)
    one, bits = alone(text, tmp_path / "1", epochs=WHOLE["epochs"])
    codes, errors = zip(*ended(running), strict=True)
    assert codes == (0,) * 3, errors
    assert "device      3 workers of 1 x CPU, float32" in errors[0]  # the chief shows
    assert not any(errors[1:])  # and it alone
    for a, b in zip(one, weights(tmp_path / "3"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)
    row = (tmp_path / "3" / "history.csv").read_text().splitlines()[-1].split(",")
    np.testing.assert_allclose(bits, [float(x) for x in row[3:5]], atol=2e-5)
    assert not (tmp_path / "3" / "checkpoint").exists()


def test_workers_that_differ_are_refused(text, tmp_path):
    other = tmp_path / "b.txt"
    other.write_text(babble(1600, seed=1))
    wrong = {
        "learning_rate": start(
            2,
            text,
            "-o",
            tmp_path / "m",
            **SETTINGS,
            each=lambda index: ["--learning-rate", "0.1" if index else "0.2"],
        ),
        "text": start(
            2, "-o", tmp_path / "n", **SETTINGS, each=lambda index: [str(other if index else text)]
        ),
        "missing": start(
            2,
            "-o",
            tmp_path / "o",
            **SETTINGS,
            each=lambda index: [str(tmp_path / "none" if index else text)],
        ),
    }
    wrong = {name: ended(running) for name, running in wrong.items()}
    assert all(code == 2 for results in wrong.values() for code, _ in results), wrong
    for _, error in wrong["learning_rate"]:
        assert re.search(
            r"kcharlm: Worker 1 \(127\.0\.0\.1:\d+\) has another learning_rate than "
            r"Worker 0 \(127\.0\.0\.1:\d+\) \(0\.1 and 0\.2\)",
            error,
        )
    assert all("has another text than Worker 0" in error for _, error in wrong["text"])
    assert re.search(r"Worker 1 \(\S+\) stopped: There is no file", wrong["missing"][0][1])
    assert wrong["missing"][1][1].startswith("kcharlm: There is no file")
    assert not any((tmp_path / name).exists() for name in "mno")


def killed(running, victim, folder):
    """Kill a worker that has stopped itself: the others say which one is gone, and stop."""
    strike(running[victim], signal.SIGKILL)
    results = ended(running, timeout=120)
    assert results.pop(victim)[0] == -signal.SIGKILL
    for code, error in results:
        assert code == 2
        # Where there are more, one that heard of it first may be taken for the one that died.
        gone = victim if len(running) == 2 else r"\d"
        assert re.search(
            rf"^kcharlm: Worker {gone} \(\S+\) is gone, and the training stopped "
            rf"after batch [\d,]+; start every worker again with: kcharlm fit "
            rf"--resume {folder}$",
            error,
            re.M,
        ), error
        assert "Traceback" not in error and "E0000" not in error


def test_stopped_and_killed_workers_lose_nothing(text, tmp_path):
    """A signal for one stops all after the same batch. When the chief dies, the other says so and
    stops, and all go on from the last checkpoint to the end of an undisturbed training."""
    undisturbed, folder = tmp_path / "whole", tmp_path / "cut"
    more = {**SETTINGS, "epochs": 3, "checkpoint-every": "0.1s", "dropout": 0.3}
    assert [code for code, _ in ended(start(2, text, "-o", undisturbed, **more))] == [0, 0]

    running = start(2, text, "-o", folder, halting=1, **more)
    strike(running[1], signal.SIGTERM)
    stopped = {
        re.search(
            r"Stopped after batch [\d,]+, and nothing is lost; continue with: kcharlm "
            rf"fit --resume {folder}",
            error,
        )[0]
        for code, error in ended(running)
        if code == 143
    }
    assert len(stopped) == 1 and {process.returncode for process in running} == {143}

    killed(start(2, "--resume", folder, halting=0), 0, folder)
    assert [code for code, _ in ended(start(2, "--resume", folder))] == [0, 0]
    for a, b in zip(weights(undisturbed), weights(folder), strict=True):
        np.testing.assert_array_equal(a, b)
    one, other = (
        json.loads((path / "config.json").read_text())["scores"] for path in (undisturbed, folder)
    )
    for part in "validation", "test":  # of equal weights; the last digits differ between processes
        assert one.pop(part) == pytest.approx(other.pop(part), rel=1e-7)
    assert one == other


def test_when_one_of_three_dies_both_others_stop(text, tmp_path):
    more = {**WHOLE, "checkpoint-every": "0.1s"}
    killed(start(3, text, "-o", tmp_path / "cut", halting=1, **more), 1, tmp_path / "cut")
    assert (tmp_path / "cut" / "checkpoint" / checkpoint.STATE).exists()


def test_a_worker_does_not_wait_for_ever(text, tmp_path):
    running = start(3, text, "-o", tmp_path / "m", join_timeout="9s", missing=1)
    (code, error), (other_code, other) = ended(running, timeout=60)
    assert code == other_code == 2 and "and not all joined" in other
    assert re.fullmatch(
        r"kcharlm: Waited 9 s at 127\.0\.0\.1:\d+ for the other workers "
        r"\(127\.0\.0\.1:\d+\), and not all joined; .*--join-timeout\.\n",
        error,
    )


def test_tf_config(kcharlm, text, monkeypatch):
    two = {"worker": ["a:1", "b:1"]}
    assert addresses("") == []
    assert addresses(json.dumps({"cluster": two, "task": {"type": "worker", "index": 1}})) == [
        "a:1",
        "b:1",
    ]
    assert addresses(
        json.dumps({"cluster": {"chief": ["c:1"], **two}, "task": {"type": "chief", "index": 0}})
    ) == ["c:1", "a:1", "b:1"]
    for wrong in (
        "{",
        "[]",
        '{"cluster": {}}',
        json.dumps({"cluster": two, "task": {"type": "worker", "index": 2}}),
        json.dumps({"cluster": {**two, "ps": ["d:1"]}, "task": {"type": "worker", "index": 0}}),
    ):
        with pytest.raises(OptionError, match="TF_CONFIG cannot be used"):
            addresses(wrong)
    monkeypatch.setenv("TF_CONFIG", "{")
    code, _, err = kcharlm("fit", text)
    assert code == 2 and err.startswith("kcharlm: TF_CONFIG cannot be used")


def test_the_documents_start_workers(tmp_path):
    """The shell lines of docs/scale.md, with stand-ins for the programs of a cluster."""
    document = (Path(__file__).parent.parent / "docs" / "scale.md").read_text()
    slurm, kubernetes = (
        re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", document, re.S)[1]
        for name in ("slurm", "kubernetes")
    )
    kubernetes = kubernetes[kubernetes.index("HOSTS=") :]
    for name, lines in (
        ("srun", 'for SLURM_PROCID in 0 1 2 3; do export SLURM_PROCID; "$@"; done'),
        ("scontrol", "printf 'train-%s.train\\n' 0 1 2 3"),
        ("kcharlm", "echo $TF_CONFIG"),
    ):
        (tmp_path / name).write_text(f"#!/bin/bash\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "JOB_COMPLETION_INDEX": "2",
        "SLURM_JOB_NODELIST": "train-[0-3]",
    }
    for script, indices in ((slurm, [0, 1, 2, 3]), (kubernetes, [2])):
        done = subprocess.run(["bash", "-euc", script], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        values = done.stdout.splitlines()
        assert [json.loads(value)["task"]["index"] for value in values] == indices
        assert all(
            addresses(value) == [f"train-{i}.train:12345" for i in range(4)] for value in values
        )


def test_the_prediction_is_the_script_s():
    root = Path(__file__).parent.parent
    script = root / "benchmarks" / "scale_model.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stdout.strip() in (root / "docs" / "scale.md").read_text()


def test_a_metric_moves_to_another_number_of_devices():
    class Two:
        replicas, parts = 2, range(2)

    class Three:
        replicas, parts = 3, range(1, 2)

    saved = np.array([[1.0], [2.0]])
    np.testing.assert_array_equal(checkpoint._parts(saved, Two), saved)
    np.testing.assert_array_equal(checkpoint._parts(saved, Three), [[1.0]])


def test_ray_starts_the_same_training(text, tmp_path, kcharlm):
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    done = start(1, text, "-o", tmp_path / "2", "--launcher", "ray", epochs=2, **SETTINGS)
    one, _ = alone(text, tmp_path / "1", epochs=2)
    ((code, error),) = ended(done, timeout=300)
    assert code == 0, error
    shown = [line.split()[0] for line in error.splitlines() if line.strip()]
    assert [shown.count(word) for word in ("ray", "corpus", "device", "model")] == [2, 1, 1, 2]
    assert "pid=" not in error and "WARNING" not in error
    for a, b in zip(one, weights(tmp_path / "2"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)


def test_ray_tells_what_a_worker_says(tmp_path):
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    done = start(1, tmp_path / "none", "-o", tmp_path / "m", "--launcher", "ray", **SETTINGS)
    ((code, error),) = ended(done, timeout=300)
    assert code == 2 and re.search(
        r"^kcharlm: (Worker 0 \S+ stopped: )?There is no file", error, re.M
    ), error
    assert "Traceback" not in error


def test_workers_go_with_a_launcher(text, kcharlm):
    code, _, err = kcharlm("fit", text, "--workers", "2")
    assert code == 2 and "--workers needs --launcher" in err
