"""The history of a variant: its numbers by commit, as rows and as a figure with the steps marked."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core import store
from bench.core.errors import SpecError
from bench.core.stats import mean_of
from bench.judge.history import Line, Point, history
from bench.judge.runs import read_runs
from bench.judge.series import SeriesIndex
from bench.report.drawing import Drawing
from bench.report.page import Figure
from bench.report.plots import COLOURS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Plot

FOLDER = "history"
MOST_PANELS = 12
"""More would not be readable; the rows have all lines."""


def lines(results: Path, variant: str) -> list[Line]:
    """The lines of a variant.  Raises: SpecError for one without runs, with the closest names; as `read_runs` does."""
    index = SeriesIndex(read_runs([results]))
    keys = [key for key in index.keys if key[1] == variant]
    found = [line for key in keys for line in history(index, key)]
    if not found:
        close = difflib.get_close_matches(variant, sorted({key[1] for key in index.keys}), 3, 0.5)
        raise SpecError("no run of this variant", where=results, found=variant,
                        expected=f"for example {', '.join(close)}" if close else "a variant of bench list",
                        fix="bench run or bench measure makes one")  # fmt: skip
    return found


def rows(found: Sequence[Line]) -> list[dict[str, Any]]:
    """One JSON-able row per line and commit; a score is a fraction, a speed a ratio."""
    return [
        {"line": line.name, "commit": point.commit[:12] + "+" * point.commit.endswith("+"), "started": point.started,
         "value": _shown(line, point.mean), "low": low, "high": high, "n": len(point.values),
         "step": (point.step if line.kind == "quality" else math.expm1(point.step)) or None}
        for line in found for point in line.points for low, high in [_interval(line, point)]
    ]  # fmt: skip


def step(row: Mapping[str, Any]) -> str:
    """A step in words."""
    if row["step"] is None:
        return ""
    return f"{100 * row['step']:+.1f}%" if row["line"].startswith("speed-up") else f"{row['step']:+.2f} points"


def _shown(line: Line, value: float) -> float:
    return value / 100 if line.kind == "quality" else math.exp(value)


def _interval(line: Line, point: Point) -> tuple[float | None, float | None]:
    """95%, in the unit of `rows`."""
    found = mean_of(point.values, point.least).interval()
    return (_shown(line, found[0]), _shown(line, found[1])) if found else (None, None)


def write(variant: str, found: Sequence[Line], reports: Path) -> Path | None:
    """Draw the lines of two commits or more; None where there is none."""
    drawn = [line for line in found if len(line.points) > 1][:MOST_PANELS]
    if not drawn:
        return None
    panels = [{"name": line.name, "points": rows([line])} for line in drawn]
    path = reports / FOLDER / f"{variant}.svg"
    with Drawing() as drawing:
        drawing.draw([Figure(path.name, f"{variant} by commit", f"{__name__}:draw", {"panels": panels})])
        store.write_atomic(path, drawing.drawn()[path.name])
    return path


def draw(data: Mapping[str, Any]) -> Plot:
    """The figure in matplotlib: a panel a line, commits from left to right, a step as a line with its size."""
    import matplotlib
    from matplotlib.figure import Figure as Plot

    panels = data["panels"]
    with matplotlib.rc_context(STYLE):
        height = 2.1 * len(panels)
        figure = Plot(figsize=(7.0, height))
        for place, panel in enumerate(panels):
            bottom = (2.1 * (len(panels) - 1 - place) + 0.55) / height
            _panel(figure.add_axes((0.11, bottom, 0.85, 1.2 / height)), panel["name"], panel["points"])
        return figure


def _panel(axes: Axes, name: str, points: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title(name, fontsize=8.5, loc="left")
    places = range(len(points))
    axes.plot(places, [point["value"] for point in points], color=COLOURS[0], marker="o", markersize=4, linewidth=1.0)
    for place, point in zip(places, points, strict=True):
        if point["low"] is not None:
            axes.vlines(place, point["low"], point["high"], color=COLOURS[0], linewidth=0.8, alpha=0.6)
        if point["step"] is not None:
            axes.axvline(place - 0.5, color=COLOURS[1], linewidth=1.0, linestyle="--")
            axes.text(place - 0.45, 0.97, step(point), transform=axes.get_xaxis_transform(), fontsize=7.5, va="top",
                      color=COLOURS[1])  # fmt: skip
    axes.set_xticks(list(places), [point["commit"][:7] or "none" for point in points], fontsize=7)
    axes.set_xlim(-0.6, len(points) - 0.4)
