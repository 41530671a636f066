"""The figure of the first screen: what each system keeps of its teacher against how fast it is on this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.report.page import Figure
from bench.report.plots import STYLE, log_axis, looks
from bench.report.systems import SystemView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

DPI = 96
WIDTH, HEIGHT = 980 / DPI, 215 / DPI
"""Inches: the first screen's 980 pixels across."""

FONT = 11.5 * 72 / DPI
"""Points that are at least 11 pixels at this width."""


def figure(views: Sequence[SystemView], task: str) -> Figure | None:
    """Every system that was timed and has a retention, printed or measured on one task; None without any."""
    points = _side_by_side([point for view in views if (point := _point(view, task))])
    if not points:
        return None
    says = "Share of the reference's score kept, as printed over the paper's tasks"
    says += f", and as measured on {task} after the rows in brackets" if task else ""
    return Figure("tradeoff.svg", f"{says}, against the speed-up measured here", f"{__name__}:draw",
                  {"points": points, "task": task})  # fmt: skip


def _side_by_side(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Systems of one speed stand a little apart, so that each bar can be seen."""
    last = 0.0
    for point in sorted(points, key=lambda point: point["x"]):
        point["x"] = last = max(point["x"], 1.02 * last)
    return points


def _point(view: SystemView, task: str) -> dict[str, Any] | None:
    speedup = 1.0 if view.reference else view.speedup.value if view.speedup else None
    # A point is one model: a score of other networks than those that were timed has no place beside their speed.
    printed, scores = view.printed("retention"), None if view.system.scored_as else view.tasks.get(task)
    kept = scores.kept() if scores else None
    rows = view.rows(task) if kept is not None and not view.reference else None
    if speedup is None or (printed is None and kept is None and not view.reference):
        return None
    name = view.system.name
    return {
        "label": name, "shown": f"{name} ({rows:,})" if rows else name, "paper": view.ledger.paper.name, "x": speedup,
        "printed": 100.0 if view.reference else None if printed is None else 100 * printed,
        "measured": None if kept is None or view.reference else 100 * kept.value,
        "bar": None if kept is None or view.reference else [100 * bound for bound in kept.interval() or ()],
    }  # fmt: skip


Box = tuple[float, float, float, float]
"""left, bottom, right, top, in pixels."""


def draw(data: Mapping[str, Any]) -> Drawing:
    """The figure in matplotlib: hollow what was printed, solid what was measured, a line for the gap."""
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    points = data["points"]
    look = looks(point["paper"] for point in points)
    heights = [y for point in points for y in (point["printed"], point["measured"]) if y is not None]
    with matplotlib.rc_context(STYLE | {"font.size": FONT}):
        drawing = Drawing(figsize=(WIDTH, HEIGHT), dpi=DPI)
        axes = drawing.add_axes((0.062, 0.185, 0.925, 0.8))
        log_axis(axes, "x", 0.85, 1.6 * max(point["x"] for point in points))
        margin = 0.12 * (max(heights) - min(heights)) + 2
        axes.set_ylim(min(heights) - margin, max(heights) + margin)
        solid = f"; solid: measured on {data['task']} (rows)" if data["task"] else ""
        axes.set_xlabel(f"times as fast as the reference here, batch 1 (log); hollow: printed{solid}")
        axes.set_ylabel("% of the reference's score")
        for point in points:
            _mark(axes, point, *look[point["paper"]])
        _label(drawing, axes, points, look)
        return drawing


def _mark(axes: Axes, point: Mapping[str, Any], colour: str, marker: str) -> None:
    """What was printed and measured of one system, the gap between them, and the interval of what was measured."""
    x, printed, kept = point["x"], point["printed"], point["measured"]
    if printed is not None:
        axes.scatter([x], [printed], s=42, marker=marker, c="white", edgecolors=colour, linewidths=1.3, zorder=3)
    if kept is None:
        return
    if printed is not None:
        axes.plot([x, x], [printed, kept], color=colour, linewidth=0.9, linestyle=":", zorder=1)
    axes.scatter([x], [kept], s=42, marker=marker, c=colour, edgecolors=colour, zorder=3)
    if point["bar"]:
        axes.plot([x, x], point["bar"], color=colour, linewidth=1.6, alpha=0.5, zorder=2, scaley=False)


def _label(drawing: Drawing, axes: Axes, points: Sequence[Mapping[str, Any]], look: Mapping[str, Any]) -> None:
    """Names beside the marks, where nothing else is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(drawing).get_renderer()
    frame = axes.get_window_extent(renderer)
    anchors, obstacles, texts = [], [], []
    for point in points:
        heights = [y for y in (point["printed"], point["measured"]) if y is not None]
        pixels = [axes.transData.transform((point["x"], y)) for y in (*heights, *(point["bar"] or ()))]
        obstacles += [(x - 5, y - 5, x + 5, y + 5) for x, y in pixels[: len(heights)]]
        obstacles.append((pixels[0][0] - 2, min(y for _, y in pixels), pixels[0][0] + 2, max(y for _, y in pixels)))
        anchors.append((float(pixels[0][0]), float(pixels[0][1])))
        texts.append(axes.text(0, 0, point["shown"], color=look[point["paper"]][0], zorder=4, va="bottom"))
    # Readers may have another font than ours: room for one that is a tenth wider.
    sizes = [(1.1 * box.width, box.height) for box in (text.get_window_extent(renderer) for text in texts)]
    placed = place(anchors, sizes, obstacles, (frame.x0, frame.y0, frame.x1, frame.y1))
    for text, (left, bottom, right, top), (x, y) in zip(texts, placed, anchors, strict=True):
        text.set_position(axes.transData.inverted().transform((left, bottom)))
        near = min(max(x, left), right), min(max(y, bottom), top)
        if math.dist(near, (x, y)) > 14:
            ends = axes.transData.inverted().transform([near, (x, y)])
            axes.plot(*zip(*ends, strict=True), color="#bbbbbb", linewidth=0.5, zorder=1)


def place(
    anchors: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], obstacles: Sequence[Box], frame: Box
) -> list[Box]:
    """A box for each label near its anchor, in which neither another label nor an obstacle lies, and within the frame.

    Tried are places around the anchor, farther and farther; where all are taken the one with the least under it. The
    highest anchor is first, which keeps labels nearer to theirs than the order of the systems does.
    """
    taken = list(obstacles)
    found: dict[int, Box] = {}
    for number in sorted(range(len(anchors)), key=lambda number: -anchors[number][1]):
        (x, y), (width, height) = anchors[number], sizes[number]
        tried = []
        for distance in range(7, 160, 6):
            for across, up in ((0, 0.5), (1, 0.5), (0, 1), (0, 0), (1, 1), (1, 0), (0.5, 1), (0.5, 0)):
                # `across` and `up` say which part of the label faces the anchor: 0, 0.5 is the middle of its left edge.
                left = x - across * width + (0.5 - across) * 2 * distance
                bottom = y - up * height + (0.5 - up) * 2 * distance
                tried.append((left, bottom, left + width, bottom + height))
        inside = [box for box in tried if box[0] >= frame[0] and box[2] <= frame[2]
                  and box[1] >= frame[1] and box[3] <= frame[3]]  # fmt: skip
        best = min(inside or tried, key=lambda box: sum(_shared(box, other) for other in taken))  # the first of equals
        found[number] = best
        taken.append(best)
    return [found[number] for number in range(len(anchors))]


def _shared(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
