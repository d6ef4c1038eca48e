"""The fault campaign: kill -9 at random moments, go on as told, compare to the last bit.

    python tests/faults.py --kills 200 --seed 1

Each child process does one piece of work and is killed: half of them at a random time, half just
before a random one of their own file operations, which an audit hook counts. Then the work is done
again in the way that the error messages tell, is killed again, and so on until it ends; its result
must be that of work that was never disturbed, and nothing temporary may be left. The children are
forked from a process that has loaded TensorFlow and not started it, so they begin at once.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import contextlib
import csv
import gc
import hashlib
import json
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conftest import babble

OPERATIONS = {
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.truncate",
    "os.utime",
    "shutil.copyfile",
    "shutil.rmtree",
}
WRITING = os.O_WRONLY | os.O_RDWR
PATIENCE = 1200  # seconds after which a child hangs, also on a very busy machine


@dataclass(frozen=True)
class Moment:
    """When a child dies: before its n-th file operation, or after a time. Neither: never."""

    operation: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class End:
    """What became of a child: what it returned (None: killed), its operations and seconds."""

    result: str | None
    operations: int
    seconds: float


def _watch_operations(deadly: int | None, counted: int) -> None:
    """Count this process's writing file operations on a pipe, and die before the deadly one."""
    done = 0

    def hook(event, args):
        nonlocal done
        writes = event == "open" and args[2] & WRITING  # (path, mode, flags)
        if not (writes or event in OPERATIONS):
            return
        done += 1
        if done == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(counted, b".")

    sys.addaudithook(hook)


def run(work: Callable[[], str], moment: Moment | None = None) -> End:
    """Do the work in a forked child, and kill it at the moment.

    Raises:
        AssertionError: The child failed, or did not end.
    """
    moment = moment or Moment()
    counting, counted = os.pipe()
    answering, answered = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            _watch_operations(moment.operation, counted)
            os.write(answered, b"=" + work().encode())
            code = 0
        except BaseException:
            os.write(answered, b"!" + traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(code)
    os.close(counted)
    os.close(answered)
    deadline = moment.seconds if moment.seconds is not None else PATIENCE
    operations, answer = 0, b""
    with os.fdopen(counting, "rb", 0) as counts, os.fdopen(answering, "rb", 0) as answers:
        open_ends = [counts, answers]
        while open_ends:
            left = began + deadline - time.monotonic()
            ready, _, _ = select.select(open_ends, [], [], max(0, left))
            if not ready:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                deadline += 3600  # the pipes end now
                continue
            for end in ready:
                data = end.read(65536)
                if not data:
                    open_ends.remove(end)
                elif end is counts:
                    operations += len(data)
                else:
                    answer += data
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    seconds = time.monotonic() - began
    assert not answer.startswith(b"!"), answer[1:].decode()
    assert not killed or moment != Moment(), f"hung for {PATIENCE} seconds"
    return End(None if killed else answer[1:].decode(), operations, seconds)


# The kinds of work. Each is a function of a folder of its own that does the work, or goes on with
# it as the program's messages tell, and returns a digest of the result.

FIT = {
    "layers": 1,
    "units": 8,
    "embedding": 4,
    "batch_size": 4,
    "seq_length": 16,
    "epochs": 3,
    "dropout": 0.3,
    "precision": "float32",
    "checkpoint_every": 0.001,
    "verbose": 0,
}


def fit(home: Path) -> str:
    """A training with a checkpoint after each batch."""
    import keras_charlm
    from keras_charlm.errors import BundleError

    text, folder = home / "cats.txt", home / "models" / "cats"
    if not text.exists():
        text.write_text(babble(1200))
    try:
        keras_charlm.fit(text, folder, **FIT)
    except BundleError as error:
        if "--resume" in str(error):
            keras_charlm.resume(folder, verbose=0)
        else:
            assert "holds a model" in str(error), error  # killed behind the very last step
    return digest_of_model(folder)


def overwrite(home: Path) -> str:
    """A training over an older model, which must be readable until the new one is."""
    import keras_charlm
    from keras_charlm.saved import bundle

    text, folder = home / "cats.txt", home / "models" / "cats"
    text.write_text(babble(1200))
    bundle.recover(folder)
    if not folder.exists():
        shutil.copytree(old_model(home), folder)
    keras_charlm.load(folder).generate(length=3)
    if bundle.open_bundle(folder).card.fit.seed == FIT.get("seed", 0) + 1:
        return digest_of_model(folder)
    if (folder / "checkpoint" / "state.npz").exists():
        keras_charlm.resume(folder, verbose=0)
    else:
        keras_charlm.fit(text, folder, overwrite=True, **FIT, seed=1)
    return digest_of_model(folder)


def prepare(home: Path) -> str:
    """Reading a text whose symbols have to be widened on the way."""
    from keras_charlm.text import corpus, decoding

    decoding.BLOCK = 4096
    text = home / "wide.txt"
    if not text.exists():
        text.write_text(
            babble(50_000)
            + "".join(map(chr, range(0x4E00, 0x4E00 + 70_000 // 2)))
            + babble(20_000)
            + "".join(map(chr, range(0x10000, 0x10000 + 40_000)))
        )
    found = corpus.prepare([text])
    return hashlib.sha256(found.text(0, len(found.symbols))).hexdigest()


def export_file(home: Path) -> str:
    """Writing an on-device file over an older one."""
    return _export(home, "cats.tflite", to="tflite", quantize="int8")


def export_page(home: Path) -> str:
    """Writing a page over an older one."""
    return _export(home, "cats-web", to="web")


def _export(home: Path, name: str, **settings) -> str:
    import keras_charlm

    output = home / "out" / name
    output.parent.mkdir(exist_ok=True)
    keras_charlm.load(old_model(home)).export(output, overwrite=True, **settings)
    report = json.loads(output.with_name(f"{name}.report.json").read_text())
    assert report["file"] == name
    files = [output] if output.is_file() else sorted(p for p in output.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


WORK = {work.__name__: work for work in (fit, overwrite, prepare, export_file, export_page)}


def old_model(home: Path) -> Path:
    return home.parent / "old" / "cats"


def digest_of_model(folder: Path) -> str:
    """Weights, scores and figures of a model, without what a clock or chance put in."""
    import keras_charlm

    model = keras_charlm.load(folder)
    assert model.card.finished
    digest = hashlib.sha256()
    for array in model.model.get_weights():
        digest.update(array.tobytes())
    digest.update(json.dumps(model.card.scores).encode())
    with (folder / "history.csv").open() as file:
        for row in csv.DictReader(file):
            del row["seconds"], row["characters_per_second"]
            digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def leftovers(home: Path, cache: Path) -> list[str]:
    """Whatever is in the folders that no finished work leaves there."""
    places = {
        home: {"cats.txt", "wide.txt", "models", "out"},
        home / "models": {"cats"},
        home / "out": {
            f"{n}{s}" for n in ("cats.tflite", "cats-web") for s in ("", ".report.json")
        },
        home / "models" / "cats": {p.name for p in old_model(home).iterdir()},
    }
    found = [
        str(path)
        for place, names in places.items()
        if place.is_dir()
        for path in place.iterdir()
        if path.name not in names
    ]
    texts = {path.stem for path in cache.glob("*.json")}
    return found + [
        str(path)
        for path in cache.iterdir()
        if path.stem not in texts or path.suffix not in (".json", ".uint8", ".uint16", ".uint32")
    ]


def campaign(
    folder: Path, kinds: list[str], kills: int, seed: int, model: Path | None = None, say=print
) -> dict[str, int]:
    """Kill, go on and compare until there were enough kills.

    Args:
        folder, kinds, kills, seed, say: An empty folder, and what `main` reads.
        model: The older model, which is exported and written over; by default one is trained.

    Returns:
        How often each kind of work was killed.

    Raises:
        AssertionError: A result differs, something fails or something is left behind.
    """
    import tensorflow as tf

    import keras_charlm.training.run  # noqa: F401  loaded before forking
    from keras_charlm.export import tflite, web  # noqa: F401

    tf.config.threading.set_intra_op_parallelism_threads(1)  # the networks are tiny
    tf.config.threading.set_inter_op_parallelism_threads(2)

    gc.freeze()  # collections in the children leave its memory shared
    chance = random.Random(seed)
    cache, expected, dead = folder / "cache", {}, dict.fromkeys(kinds, 0)
    os.environ["KERAS_CHARLM_CACHE"] = str(cache)
    cache.mkdir(parents=True)
    _make_older(folder, model)

    def home():
        shutil.rmtree(folder / "home", ignore_errors=True)
        (folder / "home").mkdir()
        return folder / "home"

    for kind in kinds:
        at = home()
        expected[kind] = run(lambda kind=kind, at=at: WORK[kind](at))
        say(
            f"{kind}: {expected[kind].operations} file operations in "
            f"{expected[kind].seconds:.1f} s undisturbed"
        )
    seconds = {kind: end.seconds for kind, end in expected.items()}  # as the machine is busy now
    while (left_to_kill := kills - sum(dead.values())) > 0:
        # All kinds get the same share of the time, so quick ones are killed more often.
        kind = min(kinds, key=lambda kind: dead[kind] * seconds[kind])
        at, whole = home(), expected[kind]
        if kind == "prepare":
            shutil.rmtree(cache, ignore_errors=True)
        share = max(1, min(left_to_kill, kills // len(kinds)))  # each kind gets one or more
        end, moments = _kill_and_go_on(kind, at, chance, whole, seconds[kind], share)
        seconds[kind] = end.seconds
        dead[kind] += len(moments)
        assert end.result == whole.result, f"{kind} ended differently after {moments}"
        left = leftovers(at, cache)
        assert not left, f"{kind} left {left} after {moments}"
        say(f"{sum(dead.values()):5} kills; {kind} ended alike after {len(moments)}")
    return dead


def _make_older(folder: Path, model: Path | None) -> None:
    """Put the older model, or one that is trained for it, where the work expects it."""
    import keras_charlm

    old = old_model(folder / "home")
    if model:
        shutil.copytree(model, old)
        return
    (folder / "old.txt").write_text(babble(1000, seed=2))
    run(lambda: str(keras_charlm.fit(folder / "old.txt", old, **FIT)))


def _kill_and_go_on(
    kind: str, at: Path, chance: random.Random, whole: End, seconds: float, most: int
) -> tuple[End, list[Moment]]:
    """Kill one piece of work at random moments until it may end.

    Args:
        kind: The work.
        at: Its folder.
        chance: Chooses the moments.
        whole: How the work ended undisturbed.
        seconds: About how long it takes.
        most: Most kills.

    Returns:
        How it ended, and the moments of its kills.
    """
    moments: list[Moment] = []
    while True:
        moment = Moment(seconds=chance.uniform(0, seconds))
        if chance.random() < 0.5:
            moment = Moment(operation=chance.randint(1, whole.operations))
        # After some kills it may end: what is compared is the result.
        last = len(moments) >= min(chance.randint(2, 10), most)
        try:
            end = run(lambda: WORK[kind](at), None if last else moment)
        except AssertionError as error:
            raise AssertionError(f"{kind} after {moments}: {error}") from None
        if end.result is not None:
            return end, moments
        moments.append(moment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--model", type=Path, help="an older model; otherwise one is trained")
    parser.add_argument("--work", nargs="*", choices=WORK, default=list(WORK))
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.randrange(2**31)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        dead = campaign(
            Path(folder),
            given.work,
            given.kills,
            seed,
            given.model,
            say=lambda text: print(text, flush=True),
        )
    print(f"{sum(dead.values())} kills, all ended alike and left nothing (seed {seed}): {dead}")


if __name__ == "__main__":
    main()
