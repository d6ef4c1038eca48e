"""`Popen` and `run` of `subprocess`, for Python commands that begin with TensorFlow loaded.

TensorFlow and Keras take seconds to import, and tests start dozens of processes. Here they are
forked from one that has imported them and started nothing: what they do, their signals, streams and
exit codes are those of a process of its own. They take `python -m MODULE ...`, `python -c ...` and
`python -I RELOAD ...`, the program that calls a SavedModel where there are no Keras and no package.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import pickle
import runpy
import socket
import subprocess
import sys
from pathlib import Path

PIPE = subprocess.PIPE
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl: orphans below this process become its children
_MESSAGE = 1 << 18  # bytes; the arguments and the environment of a command


class Popen(subprocess.Popen):
    """A process that is forked from the one that has loaded TensorFlow, where there are forks."""

    if sys.platform == "linux":  # elsewhere it is a process like any other

        def _execute_child(
            self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest
        ):
            *_, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = rest[:9]
            command = [os.fspath(arg) for arg in args]
            assert command[0] == sys.executable and command[1] in ("-c", "-m", "-I"), command
            environment = dict(os.environ if env is None else env)
            message = pickle.dumps((command, str(cwd or Path.cwd()), environment, preexec_fn))
            ends = [
                end if end != -1 else usual
                for usual, end in enumerate((p2cread, c2pwrite, errwrite))
            ]
            server = _server(command[2] if command[1] == "-I" else None)
            socket.send_fds(server, [message], ends)
            self.pid = int(server.recv(32))
            self._child_created = True
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def run(command, input=None, capture_output=False, check=False, **options):
    """Run a command to its end, as `subprocess.run` does."""
    if input is not None:
        options["stdin"] = PIPE
    if capture_output:
        options["stdout"] = options["stderr"] = PIPE
    with Popen(command, **options) as process:
        output, errors = process.communicate(input)
    done = subprocess.CompletedProcess(command, process.returncode, output, errors)
    if check:
        done.check_returncode()
    return done


@functools.cache
def _server(reload: str | None) -> socket.socket:
    """The socket of a process that has loaded TensorFlow, which is started once.

    Args:
        reload: The program for which it hides Keras and this package from itself.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MESSAGE)
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    with theirs:
        subprocess.Popen(
            [sys.executable, *(["-I"] if reload else []), __file__, str(theirs.fileno())]
            + ([reload] if reload else []),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return ours


def _serve(server: socket.socket) -> None:
    """Fork a process for each command, until the tests end; in that process, run the command."""
    while True:
        message, ends, *_ = socket.recv_fds(server, _MESSAGE, 3)
        if not message:
            os._exit(0)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            if child := os.fork():
                os.write(writing, b"%d" % child)
                os._exit(0)  # the tests' process becomes the parent
            os.dup2(ends[0], 0)
            os.dup2(ends[1], 1)
            os.dup2(ends[2], 2)
            os.closerange(3, max(*ends, reading, writing, server.detach()) + 1)
            return _become(*pickle.loads(message))
        os.waitpid(between, 0)
        server.send(os.read(reading, 32))
        for end in (*ends, reading, writing):
            os.close(end)


def _become(command, folder, environment, preexec) -> None:
    """Run a command as Python does that has just been started."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if preexec:
        preexec()
    for file, name in enumerate(("stdin", "stdout", "stderr")):  # the old ones know other files
        old, mode = getattr(sys, name), "w" if file else "r"
        line = 1 if file == 2 or os.isatty(file) else -1  # buffered as Python does
        stream = open(file, mode, line, old.encoding, old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    _, kind, code, *args = command
    if kind != "-I":
        sys.path[0] = folder if kind == "-m" else ""
    sys.argv = [kind, *args]
    if kind == "-m":
        runpy.run_module(code, run_name="__main__", alter_sys=True)
    elif kind == "-I":
        runpy.run_path(code, run_name="__main__")
    else:
        exec(code, {"__name__": "__main__"})


def as_written() -> None:
    """Let TensorFlow run graphs as they are written, unless KERAS_CHARLM_LONG_TESTS is set:
    optimizing those of tiny networks takes longer than running them."""
    if "tensorflow" in sys.modules and not os.environ.get("KERAS_CHARLM_LONG_TESTS"):
        options = {"disable_meta_optimizer": True}
        sys.modules["tensorflow"].config.optimizer.set_experimental_options(options)


def _load(reload: str | None = None) -> None:
    """Load TensorFlow and, unless they are hidden, Keras and this package."""
    if reload:
        sys.meta_path[:] = map(runpy.run_path(reload)["Hiding"], sys.meta_path)
        import tensorflow  # noqa: F401
    else:
        from keras_charlm import backend

        backend.load()
        import conversions  # not found by isolated Python

        import keras_charlm.training.run  # noqa: F401
        from keras_charlm.export import tflite, web  # noqa: F401
        from keras_charlm.report import report  # noqa: F401

        tflite.convert = conversions.shared(tflite.convert)
    as_written()
    gc.freeze()  # collections in the children leave its memory shared
    gc.set_threshold(50_000, 20, 100)  # as in conftest.py


if __name__ == "__main__":
    _load(*sys.argv[2:])
    _serve(socket.socket(fileno=int(sys.argv[1])))
