"""The Pareto figure: what is kept of the teacher against what it costs, as an SVG that is the same byte for byte."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.numbers import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#666666")
"""Okabe and Ito's palette, told apart by colour-blind readers; one colour per paper."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

STYLE: Any = {
    "svg.hashsalt": "bench",
    "svg.fonttype": "none",  # text stays text: glyph outlines would differ between font library versions
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify": False,
}


@dataclass(frozen=True, slots=True)
class Point:
    """One variant in a panel: `y` is retention or score in percent."""

    label: str
    paper: str
    x: Interval
    y: Interval
    reference: bool = False
    comparable: bool = True
    """Whether its score is over the same tasks as most; others are drawn pale and are not on the front."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One x axis; `better` is the side on which the cheaper models are, `left` or `right`."""

    title: str
    x_label: str
    better: str
    points: tuple[Point, ...]


def front(points: Sequence[Point], better: str) -> list[Point]:
    """The points that no other beats on both axes, from cheap to dear."""
    sign = 1.0 if better == "left" else -1.0
    ordered = sorted(points, key=lambda p: (sign * p.x.value, -p.y.value, p.label))
    kept: list[Point] = []
    for point in ordered:
        if not kept or point.y.value > kept[-1].y.value:
            kept.append(point)
    return kept


def draw(panels: Sequence[Panel], y_label: str) -> Figure:
    """The figure, panels side by side on one y axis.  Raises: ValueError without a point."""
    import matplotlib
    from matplotlib.figure import Figure

    if not any(panel.points for panel in panels):
        raise ValueError("nothing to draw")
    with matplotlib.rc_context(STYLE):
        papers = sorted({point.paper for panel in panels for point in panel.points})
        look = {paper: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, paper in enumerate(papers)}
        low, high = _limits([point for panel in panels for point in panel.points])
        width = 0.8 + 5.2 * len(panels)
        figure = Figure(figsize=(width, 4.6))
        for place, panel in enumerate(panels):
            left = (0.7 + 5.2 * place) / width
            axes = figure.add_axes((left, 0.14, 4.6 / width, 0.76))
            axes.set_ylim(low, high)
            _panel(axes, panel, look)
            if place == 0:
                axes.set_ylabel(y_label)
        return figure


def _limits(points: Sequence[Point]) -> tuple[float, float]:
    lows = [point.y.value if point.y.low is None else point.y.low for point in points]
    highs = [point.y.value if point.y.high is None else point.y.high for point in points]
    # An interval over two seeds can span the page; the axis shows the values and clips such bars.
    values = [point.y.value for point in points]
    room = max(5.0, max(values) - min(values))
    low, high = max(min(lows), min(values) - room), min(max(highs), max(values) + room)
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def _panel(axes: Axes, panel: Panel, look: dict[str, tuple[str, str]]) -> None:
    axes.set_title(panel.title, fontsize=9.5, loc="left")
    axes.set_xlabel(panel.x_label)
    axes.grid(True, color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    if not panel.points:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="#888888")
        return
    values = [point.x.value for point in panel.points]
    axes.set_xscale("log")
    left, right = min(values) / 1.25, max(values) * 1.25
    right *= (right / left) ** 0.6  # room for the labels, which stand to the right of their points
    axes.set_xlim(left, right)
    _ticks(axes, left, right)
    best = front([point for point in panel.points if point.comparable], panel.better)
    axes.plot([p.x.value for p in best], [p.y.value for p in best], color="#bbbbbb", linewidth=1.0, zorder=1)
    for point in panel.points:
        colour, marker = look[point.paper]
        axes.errorbar(
            [point.x.value], [point.y.value], xerr=_bars(point.x), yerr=_bars(point.y), color=colour, marker=marker,
            markersize=6, markerfacecolor="white" if point.reference else colour, elinewidth=0.9, capsize=2.0,
            linestyle="none", zorder=3, alpha=1.0 if point.comparable else 0.45,
        )  # fmt: skip
    _labels(axes, panel.points, look)


def _bars(entry: Interval) -> list[list[float]] | None:
    if entry.low is None or entry.high is None:
        return None
    return [[entry.value - entry.low], [entry.high - entry.value]]


def _ticks(axes: Axes, low: float, high: float) -> None:
    """Round numbers on a log axis, written out."""
    ticks: list[float] = []
    for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7), (1, 2, 5), (1,)):
        ticks = [tick for e in range(-3, 7) for m in steps if low <= (tick := m * 10.0**e) <= high]
        if len(ticks) <= 8:
            break
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _labels(axes: Axes, points: Sequence[Point], look: dict[str, tuple[str, str]]) -> None:
    """Names to the right of their points, pushed apart where points share a place, with a thin line back."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    step = 0.042 * (high - low)
    span = math.log(right / left)
    placed: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (-p.y.value, p.x.value, p.label)):
        at = math.log(point.x.value / left) / span
        y = point.y.value
        near = [other for where, other in placed if abs(where - at) < 0.3]
        y = min([y, *(other - step for other in near if abs(other - y) < step or other < y)])
        placed.append((at, y))
        x = left * math.exp(span * (at + 0.035))
        axes.annotate(
            point.label, (point.x.value, point.y.value), (x, y), fontsize=7.5, va="center", color=look[point.paper][0],
            arrowprops={"arrowstyle": "-", "color": "#cccccc", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
            annotation_clip=False, zorder=2,
        )  # fmt: skip


def svg(figure: Figure) -> str:
    """The figure as text: no date, fixed ids, the same bytes in every process."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": "bench report"})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
