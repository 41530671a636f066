"""The Pareto figure: what is kept of the teacher against what it costs, as an SVG that is the same byte for byte."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
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
    """Whether its score is over the longest task list; others are drawn pale and are not on the front."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One x axis; `better` is the side on which the cheaper models are, `left` or `right`."""

    title: str
    x_label: str
    better: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure before it is drawn: panels side by side on one y axis."""

    panels: tuple[Panel, ...]
    y_label: str


def front(points: Sequence[Point], better: str) -> list[Point]:
    """The points that no other beats on both axes, from cheap to dear."""
    sign = 1.0 if better == "left" else -1.0
    ordered = sorted(points, key=lambda p: (sign * p.x.value, -p.y.value, p.label))
    kept: list[Point] = []
    for point in ordered:
        if not kept or point.y.value > kept[-1].y.value:
            kept.append(point)
    return kept


def draw(picture: Picture) -> Figure:
    """The figure in matplotlib.  Raises: ValueError without a point."""
    import matplotlib
    from matplotlib.figure import Figure

    panels = picture.panels
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
                axes.set_ylabel(picture.y_label)
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
    ticks = log_ticks(left, right)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    best = front([point for point in panel.points if point.comparable], panel.better)
    drawn = _side_by_side(panel.points, math.log(right / left))
    axes.plot([drawn[p] for p in best], [p.y.value for p in best], color="#bbbbbb", linewidth=1.0, zorder=1)
    for paper, (colour, marker) in look.items():
        for comparable in (True, False):
            found = [p for p in panel.points if p.paper == paper and p.comparable == comparable]
            _marks(axes, found, drawn, colour, marker, 1.0 if comparable else 0.45)
    _labels(axes, panel.points, drawn, look)


def _side_by_side(points: Sequence[Point], span: float) -> dict[Point, float]:
    """Where each point is drawn: variants of one size or speed stand a little apart, so that their bars can be read."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda p: (p.x.value, p.label)):
        if groups and math.log(point.x.value / groups[-1][0].x.value) < 0.012 * span:
            groups[-1].append(point)
        else:
            groups.append([point])
    return {
        point: point.x.value * math.exp(0.014 * span * (place - (len(group) - 1) / 2))
        for group in groups
        for place, point in enumerate(sorted(group, key=lambda p: (p.y.value, p.label)))
    }


def _marks(
    axes: Axes, points: Sequence[Point], drawn: Mapping[Point, float], colour: str, marker: str, alpha: float
) -> None:
    """The points of one paper with their intervals; a reference is hollow. A few artists, however many points."""
    faces = ["white" if p.reference else colour for p in points]
    axes.scatter([drawn[p] for p in points], [p.y.value for p in points], s=30, marker=marker, c=faces,
                 edgecolors=colour, alpha=alpha, zorder=3)  # fmt: skip
    look = {"colors": colour, "linewidth": 0.9, "alpha": alpha, "zorder": 2.5}
    tall = [(drawn[p], p.y.low, p.y.high) for p in points if p.y.low is not None and p.y.high is not None]
    wide = [(p.y.value, p.x.low, p.x.high) for p in points if p.x.low is not None and p.x.high is not None]
    if tall:
        x, low, high = zip(*tall, strict=True)
        axes.vlines(x, low, high, **look)
        axes.scatter([*x, *x], [*low, *high], s=16, marker="_", linewidths=0.9, color=colour, alpha=alpha, zorder=2.5)
    if wide:
        axes.hlines(*zip(*wide, strict=True), **look)


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers for a log axis."""
    ticks: list[float] = []
    for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7), (1, 2, 5), (1,)):
        ticks = [tick for e in range(-3, 7) for m in steps if low <= (tick := m * 10.0**e) <= high]
        if len(ticks) <= 8:
            break
    return ticks


def _labels(
    axes: Axes, points: Sequence[Point], drawn: Mapping[Point, float], look: dict[str, tuple[str, str]]
) -> None:
    """Names to the right of their points, pushed apart where points share a place, with a thin line back."""
    from matplotlib.collections import LineCollection

    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    step = 0.042 * (high - low)
    span = math.log(right / left)
    placed: list[tuple[float, float]] = []
    leaders: list[list[tuple[float, float]]] = []
    for point in sorted(points, key=lambda p: (-p.y.value, p.x.value, p.label)):
        at = math.log(drawn[point] / left) / span
        y = point.y.value
        near = [other for where, other in placed if abs(where - at) < 0.3]
        y = min([y, *(other - step for other in near if other < y + step)])
        placed.append((at, y))
        x = left * math.exp(span * (at + 0.03))
        if y != point.y.value:
            leaders.append([(drawn[point], point.y.value), (x, y)])
        axes.text(x, y, f" {point.label}", fontsize=7.5, va="center", color=look[point.paper][0], zorder=4)
    axes.add_collection(LineCollection(leaders, colors="#cccccc", linewidths=0.5, zorder=2), autolim=False)


def svg(figure: Figure) -> str:
    """The figure as text: no date, fixed ids, the same bytes in every process."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": "bench report"})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
