"""Notes and progress on stderr, escaping of control characters, silencing of libraries' logs."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from keras_charlm import notebook

if TYPE_CHECKING:
    from rich.progress import Progress

# A terminal would interpret control characters in a text; show their Unicode pictures instead.
_PICTURES = {c: 0x2400 + c for c in range(32) if chr(c) not in "\n\t"} | {127: 0x2421}
_PICTURES |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
# Bidirectional controls could make the terminal show a different text.
_PICTURES |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)
_EVERY = 30.0  # seconds between plain progress lines
_LEAST_BAR, _MOST_BAR = 5, 40  # columns of the progress bar
_NOTEBOOK_COLUMNS = 100


def printable(text: str | bytes) -> str:
    """A text without control sequences, safe to show on a terminal; bytes are read as UTF-8."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return text.translate(_PICTURES)


def command(*words: str | os.PathLike[str]) -> str:
    """A command line that a shell reads back as these words.

    Args:
        *words: The program and its arguments. A path that begins with a dash gets './' before it,
            so that it is no option.
    """
    return " ".join(map(_quoted, words))


def _quoted(word: str | os.PathLike[str]) -> str:
    """A word as a shell reads it."""
    text = os.fspath(word)
    if not isinstance(word, str) and text.startswith("-"):
        text = f"./{text}"
    if os.name == "nt":
        return subprocess.list2cmdline([text])
    if printable(text) == text and not {"\n", "\t"} & {*text} and not _is_surrogate(text):
        return shlex.quote(text)
    # What would steer the terminal, or is not UTF-8, is written as bytes in octal.
    data = os.fsencode(text)
    plain = (chr(b) if 32 <= b < 127 and b not in b"\\'" else f"\\{b:03o}" for b in data)
    return f"$'{''.join(plain)}'"


def _is_surrogate(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


class _Redirection:
    """Redirects file descriptor 2 to the null device while any thread needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._kept: int | None = None  # duplicate of the real descriptor 2

    def begin(self) -> None:
        """Redirect, unless another thread already did."""
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            try:
                sys.stderr.flush()
                self._kept = os.dup(2)
            except (OSError, AttributeError):  # there is no stderr: it was closed
                return
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.close(null)

    def end(self) -> None:
        """Restore, unless another thread still needs it."""
        with self._lock:
            self._users -= 1
            if self._users or self._kept is None:
                return
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            os.dup2(self._kept, 2)
            os.close(self._kept)
            self._kept = None


_redirection = _Redirection()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what TensorFlow's and LiteRT's libraries log on file descriptor 2.

    The descriptor belongs to the whole process, so the first of several threads redirects it and
    the last restores it. `sys.stderr` stays the same object, because log handlers created in the
    meantime keep a reference to it.
    """
    _redirection.begin()
    try:
        yield
    finally:
        _redirection.end()


def duration(seconds: float) -> str:
    """Seconds as 45 s, 2 min 05 s or 3 h 20 min; '?' for infinity."""
    if seconds == float("inf"):
        return "?"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: 1 epoch, 1,000 epochs.

    Args:
        number: How many.
        one: The noun in the singular.
        many: The plural; by default the singular with an s.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


class Display:
    """Shows notes and the progress of a long task on stderr, or in the cell of a notebook.

    Args:
        verbose: 0 shows nothing, 1 everything.
        stream: Where to write instead of stderr.
    """

    def __init__(self, verbose: int = 1, stream: TextIO | None = None):
        self._notebook = notebook.running() and stream is None
        # None where it was closed. Notebooks show stderr as if it were an error.
        self.stream = stream or (sys.stdout if self._notebook else sys.stderr)
        self.verbose = verbose if self.stream else 0
        self._bar: Progress | None = None
        self._cell: Any = None  # where the bar is in a notebook
        self._last_shown = 0.0
        self._terminal = bool(self.verbose) and self.stream.isatty()

    def note(self, text: str = "") -> None:
        """Show a line; above the progress bar, if there is one."""
        if not self.verbose:
            return
        text = printable(text)
        if self._bar and not self._cell:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            with contextlib.suppress(
                OSError
            ):  # a full disk under the log must not end the training
                print(text, file=self.stream, flush=True)

    def wrapped(self, text: str) -> str:
        """A text whose long lines are broken between words to fit the terminal, if there is one."""
        if not self._terminal:
            return text
        width = shutil.get_terminal_size().columns
        return "\n".join(
            "\n".join(textwrap.wrap(line, width, drop_whitespace=True, tabsize=8))
            if len(line) > width
            else line
            for line in text.split("\n")
        )

    @contextlib.contextmanager
    def status(self, text: str) -> Iterator[None]:
        """Show what is being done: a spinner on a terminal until it ends, otherwise one line.

        Args:
            text: What is being done, such as "scoring the test part ...".
        """
        if not self._terminal or self._bar:  # rich shows one live display at a time
            self.note(text)
            yield
            return
        from rich.console import Console
        from rich.text import Text

        with Console(file=self.stream).status(Text(printable(text))):
            yield

    def start(self) -> None:
        """Show a progress bar from now on, on a terminal or in a notebook."""
        if not (self._terminal or (self._notebook and self.verbose)):
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress
        from rich.table import Column

        self._bar = Progress(
            "{task.description}",
            BarColumn(_LEAST_BAR, table_column=Column(no_wrap=True)),
            "{task.fields[figures]}",
            console=Console(file=self.stream, width=_NOTEBOOK_COLUMNS if self._notebook else None),
            transient=True,
            refresh_per_second=5,
        )
        self._columns = self._bar.columns
        self._task = self._bar.add_task("starting", total=1.0, figures="")
        if self._notebook:  # rich's own way needs ipywidgets
            from IPython.display import display

            self._cell = display(self._bar, display_id=True)
        else:
            self._bar.start()

    def update(self, label: str, fraction: float, figures: str, more: str = "") -> None:
        """Show progress: in the bar, or without a terminal as a line every half minute.

        Args:
            label: Name of the task.
            fraction: How much of it is done, from 0 to 1.
            figures: Shown after the bar.
            more: Further figures, shown where the terminal is wide enough.
        """
        now = time.monotonic()
        if self._bar:
            if now - self._last_shown > 0.2:
                figures = self._fit(label, figures, more)
                self._bar.update(self._task, completed=fraction, description=label, figures=figures)
                self._last_shown = now
                if self._cell:
                    self._cell.update(self._bar)
        elif self.verbose:
            if not self._last_shown:
                self._last_shown = now
            if now - self._last_shown > _EVERY:
                self.note(f"{label}  {fraction:4.0%}  {figures}  {more}".rstrip())
                self._last_shown = now

    def _fit(self, label: str, figures: str, more: str) -> str:
        """The figures that fit the terminal; the bar takes the columns left, or goes."""
        from rich.progress import BarColumn

        progress, columns = self._bar, self._columns
        if not progress:
            return figures
        free = progress.console.width - len(label) - len(figures) - 2
        if more and free - len(more) - 2 >= _LEAST_BAR:
            figures, free = f"{figures}  {more}", free - len(more) - 2
        progress.columns = columns if free >= _LEAST_BAR else (columns[0], columns[2])
        for column in columns:
            if isinstance(column, BarColumn):
                column.bar_width = min(free, _MOST_BAR)
        return figures

    def stop(self) -> None:
        """Remove the progress bar; in a notebook it stays as it is."""
        if self._bar and not self._cell:
            self._bar.stop()
        self._bar = self._cell = None
