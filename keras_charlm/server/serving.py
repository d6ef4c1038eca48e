"""Run the web server: open the model, listen, and close connections that send too slowly."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from keras_charlm import cpu
from keras_charlm.errors import OptionError
from keras_charlm.export import web
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.server.app import Limits, application

CONNECTIONS = 1_000  # at once; further ones get status 503
MODELS = 4  # at most; each takes the memory of the weights
LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class PunctualProtocol(H11Protocol):
    """HTTP for clients that send the head of a request in time; Uvicorn waits forever."""

    seconds = Limits.seconds
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._late:
            self._late.cancel()

    def _wait(self) -> None:
        """Start the clock where a head is incomplete, and stop it where it has arrived."""
        idle = self.conn.their_state is h11.IDLE
        if idle and self._late is None:
            self._late = self.loop.call_later(self.seconds, self._end)
        elif not idle and self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(LATE)
            self.transport.close()


def listen(port: int, lan: bool) -> socket.socket:
    """Open the port, on this machine alone or for all in the network.

    Raises:
        OptionError: Another program has it, or it may not be opened.
    """
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("0.0.0.0" if lan else "127.0.0.1", port))
        server.listen(CONNECTIONS)
    except OSError as error:
        server.close()
        busy = error.errno == errno.EADDRINUSE
        reason = "is in use" if busy else f"cannot be opened ({error.strerror})"
        raise OptionError(
            f"Port {port} {reason}; give another --port, or --port 0 for a free one."
        ) from error
    return server


def lan_address() -> str:
    """This machine's address in its network; the loopback address if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the way out
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def prepare(path: str | Path, hosts: Sequence[str]) -> Starlette:
    """Open a model and make its page.

    Args:
        path: The model's folder, or its name under saved_models/.
        hosts: Names of the server that requests may use.

    Raises:
        BundleError: The model cannot be read, or is an on-device file alone.
    """
    models = [TrainedModel(path) for _ in range(min(MODELS, cpu.cores()))]
    files, _ = web.page_files(models[0], models[0].device_file.read_bytes())
    return application(models, files, hosts)


def run(app: Starlette, server: socket.socket) -> None:
    """Serve an application on a listening socket until Ctrl-C."""
    config = uvicorn.Config(
        app,
        http=PunctualProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[server])
