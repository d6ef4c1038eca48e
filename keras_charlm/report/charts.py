"""Charts of a report as inline SVG, drawn by Matplotlib.

Every chart is drawn twice, for a desktop and for a phone, and the page shows the one that fits,
because text shrinks with an SVG. Colours are the CSS variables of the page, so that a chart follows
its light, dark and print styles.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Placeholders: Matplotlib does not accept CSS variables as colours; they are inserted in the SVG.
_COLOURS = {
    "ink": "#010101",
    "soft": "#020202",
    "line": "#030303",
    "train": "#040404",
    "validation": "#050505",
    "baseline": "#060606",
}
_WIDTHS = {"wide": 920, "narrow": 350}  # pixels, 72 per inch in Matplotlib
_STYLE = {
    "svg.fonttype": "none", "font.size": 12, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "axes.edgecolor": _COLOURS["line"], "axes.grid.axis": "y",
    "axes.grid": True, "axes.axisbelow": True, "grid.color": _COLOURS["line"],
    "grid.linewidth": 0.8, "xtick.color": _COLOURS["line"], "ytick.color": _COLOURS["line"],
    "xtick.labelcolor": _COLOURS["soft"], "ytick.labelcolor": _COLOURS["soft"],
    "ytick.left": False, "text.color": _COLOURS["ink"], "axes.labelcolor": _COLOURS["soft"],
    "axes.titlecolor": _COLOURS["soft"], "axes.titlesize": 12, "axes.titlelocation": "left",
    "axes.titlepad": 6, "lines.linewidth": 1.8, "lines.solid_capstyle": "round",
}  # fmt: skip
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Curves:
    """The data of a training's chart: pairs of steps (batches) and values, each (N,).

    Args:
        train, validation: Bits per character; validation may be empty.
        rate: Learning rates.
        speed: Characters per second; if empty, there is no such chart.
        seconds: Time since the start, for the axis at the top.
        guess: Bits per character of an even guess, where the axis ends.
        best: Step of the model that was kept, or None.
        samples: Steps at which the shown samples were drawn, (M,).
        baseline: Bits per character of n-grams, or None.
    """

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    rate: tuple[np.ndarray, np.ndarray]
    speed: tuple[np.ndarray, np.ndarray]
    seconds: tuple[np.ndarray, np.ndarray]
    guess: float
    best: int | None = None
    samples: np.ndarray = field(default_factory=lambda: np.zeros(0))
    baseline: float | None = None


def curves(data: Curves, title: str, description: str) -> Markup:
    """Draw a training: bits per character above, learning rate and speed below, over the steps.

    Args:
        data: What to draw.
        title, description: For screen readers.
    """
    timed = len(data.speed[0]) > 0

    def draw(figure: Figure, narrow: bool) -> None:
        ticks = 3 if narrow else 7
        heights = (6, 1.2, 1.2) if timed else (6, 1.2)
        loss, rate, *rest = figure.subplots(len(heights), sharex=True, height_ratios=heights)
        _loss(loss, data)
        _small(rate, data.rate, "learning rate", lambda y, _: f"{y:g}")
        for axes in rest:
            _small(axes, data.speed, "characters a second", lambda y, _: _short(y))
        last = float(max(data.train[0][-1], data.rate[0][-1]))
        lowest = rest[0] if rest else rate
        lowest.set_xlim(-0.01 * last, 1.02 * last)
        lowest.set_xlabel("batches")
        lowest.xaxis.set_major_locator(MaxNLocator(ticks, integer=True))
        lowest.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
        _clock(loss, data.seconds, ticks)

    heights = {"wide": 470, "narrow": 430} if timed else {"wide": 410, "narrow": 370}
    return _chart(draw, heights, title, description)


def _loss(axes: Axes, data: Curves) -> None:
    """Draw the bits per character, from the lowest up to an even guess."""
    axes.set_title("bits per character")
    axes.axhline(data.guess, color=_COLOURS["soft"], linestyle=(0, (1, 3)), linewidth=1.4)
    axes.annotate(
        f"an even guess, {data.guess:.2f}",
        (1, data.guess),
        (0, -3),
        ("axes fraction", "data"),
        "offset points",
        ha="right",
        va="top",
        color=_COLOURS["soft"],
    )
    if data.baseline is not None:
        axes.axhline(
            data.baseline, color=_COLOURS["baseline"], linestyle=(0, (5, 4)), linewidth=1.4
        )
    axes.plot(*data.train, color=_COLOURS["train"])
    marker = "o" if len(data.validation[0]) < 30 else ""
    if len(data.validation[0]):
        axes.plot(*data.validation, color=_COLOURS["validation"], marker=marker, markersize=4)
    if data.best is not None:
        at = data.validation[0].tolist().index(data.best)
        axes.plot(
            data.best,
            data.validation[1][at],
            "o",
            markersize=9,
            markerfacecolor="none",
            markeredgewidth=1.8,
            color=_COLOURS["validation"],
        )
    low, high = _range(data)
    axes.plot(
        data.samples,
        np.full(len(data.samples), low + 0.035 * (high - low)),
        "^",
        markersize=6,
        clip_on=False,
        color=_COLOURS["ink"],
    )
    axes.set_ylim(low, high)


def _range(data: Curves) -> tuple[float, float]:
    """The axis of the bits per character: up to an even guess, or the worst validation if that
    is higher; the first batches and a training that diverged may be above it."""
    levels = [data.guess] if data.baseline is None else [data.guess, data.baseline]
    low = np.concatenate([data.train[1], data.validation[1], levels]).min()
    high = np.append(data.validation[1], data.guess).max().clip(max=max(2 * data.guess, 1))
    return float(low - 0.1 * (high - low) - 0.02), float(high + 0.04 * (high - low) + 0.02)


def _clock(axes: Axes, points: tuple[np.ndarray, np.ndarray], ticks: int) -> None:
    """Draw a time axis along the top, from steps and seconds (N,)."""
    steps, seconds = (np.append(0, values) for values in points)
    size, unit = next(u for u in _UNITS if seconds[-1] >= 2 * u[0] or u[0] == 1)
    times = np.asarray(MaxNLocator(ticks, integer=True).tick_values(0, seconds[-1] / size))
    times = times[(times > 0) & (times * size <= seconds[-1])]
    positions = np.interp(times * size, seconds, steps)
    # While the first batch compiles, several ticks may fall on the same step.
    apart = np.diff(positions, prepend=-np.inf) > steps[-1] / (2 * ticks)
    clock = axes.secondary_xaxis("top")
    clock.spines["top"].set_visible(False)
    clock.set_xticks(positions[apart], [f"{time:g} {unit}" for time in times[apart]])


def _small(
    axes: Axes, points: tuple[np.ndarray, np.ndarray], title: str, form: Callable[[float, int], str]
) -> None:
    """Draw a small chart that starts at zero, with tick labels formatted by `form`."""
    axes.set_title(title)
    axes.plot(*points, color=_COLOURS["ink"], linewidth=1.4)
    axes.set_ylim(0, 1.1 * max(*points[1], 1e-9))
    axes.yaxis.set_major_locator(MaxNLocator(2))
    axes.yaxis.set_major_formatter(FuncFormatter(form))


def ladder(
    rungs: Sequence[tuple[str, float, float | None, str]], title: str, description: str
) -> Markup:
    """Draw horizontal bars of bits per character.

    Args:
        rungs: Name, bits per character, margin of error (or None) and colour name of each bar.
        title, description: For screen readers.
    """

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        axes.set_axis_off()
        most = max(bits for _, bits, _, _ in rungs)
        for row, (name, bits, margin, colour) in enumerate(rungs):
            axes.barh(row, bits, height=0.36, color=_COLOURS[colour])
            axes.text(0, row - 0.28, name, va="bottom", color=_COLOURS["ink"])
            axes.text(
                bits + most * 0.015,
                row,
                f"{bits:.2f}" if margin is None else _with_margin(bits, margin),
                va="center",
                color=_COLOURS["ink"],
                weight="bold",
            )
        axes.set_xlim(0, most * 1.12)
        axes.set_ylim(len(rungs) - 0.7, -0.75)

    height = 12 + 56 * len(rungs)
    return _chart(draw, {"wide": height, "narrow": height}, title, description)


def _with_margin(value: float, margin: float) -> str:
    """A value and its margin of error, with a digit more if the margin is small."""
    digits = 2 if margin >= 0.005 else 3
    return f"{value:.{digits}f} \u00b1 {margin:.{digits}f}"


def _short(value: float) -> str:
    """A short number: 950, 12k, 1.5M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def _chart(
    draw: Callable[[Figure, bool], None], heights: dict[str, int], title: str, description: str
) -> Markup:
    """Both sizes of a chart, with its title and description for screen readers."""
    return Markup("\n").join(
        _svg(draw, form, heights[form], title, description) for form in _WIDTHS
    )


def _svg(
    draw: Callable[[Figure, bool], None], form: str, height: int, title: str, description: str
) -> Markup:
    """A chart in one size, `wide` or `narrow`."""
    width = _WIDTHS[form]
    key = re.sub(r"\W+", "-", title.lower()) + "-" + form  # ids must be unique in the page
    style: Any = _STYLE | {"svg.hashsalt": key}
    with rc_context(style):
        figure = Figure(
            figsize=(width / 72, height / 72),
            facecolor="none",
            layout=ConstrainedLayoutEngine(w_pad=0, h_pad=0.03),
        )
        draw(figure, form == "narrow")
        for axes in figure.axes:
            axes.set_facecolor("none")
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=_NO_METADATA)
    text = stream.getvalue()
    text = text[text.index(">", text.index("<svg")) + 1 :]
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", text)
    for name, colour in _COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'class="{form}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{key} {key}-d">'
        '<title id="{key}">{title}</title><desc id="{key}-d">{description}</desc>'
    ).format(
        form=form, width=width, height=height, key=key, title=title, description=description
    ) + Markup(text)
