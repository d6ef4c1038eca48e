"""What is shown: a training's notes and progress on stderr, and no noise of other libraries."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TextIO

# A terminal would obey control characters in a text; they are shown by their Unicode pictures.
_PICTURES = {c: 0x2400 + c for c in range(32) if chr(c) not in "\n\t"} | {127: 0x2421}
_PICTURES |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
# So would it obey those that turn the direction of what follows, and show another text.
_PICTURES |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)
_EVERY = 30.0  # seconds between plain progress lines


def printable(text: str | bytes) -> str:
    """A text as a terminal may show it: no control sequence survives."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return text.translate(_PICTURES)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what TensorFlow's and LiteRT's libraries log on file descriptor 2.

    `sys.stderr` stays the object it is: a log handler made meanwhile keeps it.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, AttributeError):  # there is no stderr: it was closed
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def duration(seconds: float) -> str:
    """Seconds as people write them: 45 s, 2 min 05 s, 3 h 20 min."""
    if seconds == float("inf"):
        return "?"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things: 1 epoch, 1,000 epochs."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


class Display:
    """A training's face.

    Args:
        verbose: 0 shows errors only, 1 everything.
        stream: Where to write.
    """

    def __init__(self, verbose: int = 1, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self.verbose = verbose if self.stream else 0
        self._bar = None
        self._shown = 0.0
        self._terminal = bool(self.verbose) and self.stream.isatty()

    def note(self, text: str = "") -> None:
        """Show a line, above the bar where there is one."""
        if not self.verbose:
            return
        text = printable(text)
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            with contextlib.suppress(OSError):  # a log that is full must not cost the training
                print(text, file=self.stream, flush=True)

    def start(self) -> None:
        """Show a bar from now on, where there is a terminal."""
        if not self._terminal:
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            console=Console(file=self.stream),
            transient=True,
            refresh_per_second=5,
        )
        self._task = self._bar.add_task("starting", total=1.0, figures="")
        self._bar.start()

    def update(self, label: str, fraction: float, figures: str) -> None:
        """Move the bar; without a terminal, write a line now and then."""
        now = time.monotonic()
        if self._bar:
            if now - self._shown > 0.2:
                self._bar.update(self._task, completed=fraction, description=label, figures=figures)
                self._shown = now
        elif self.verbose:
            if not self._shown:
                self._shown = now
            if now - self._shown > _EVERY:
                self.note(f"{label}  {fraction:4.0%}  {figures}")
                self._shown = now

    def stop(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
