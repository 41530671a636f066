"""The sweep figure: how the speed-ups change with the batch size on each machine, as lines with 95% bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.core.conditions import Condition, condition
from bench.judge.runs import SHAPE
from bench.report.page import Figure
from bench.report.plots import STYLE, log_axis, looks
from bench.report.rows import LENGTH, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

MOST_PANELS = 3
"""A fourth would not be readable; the pages have all numbers."""


def sweep(rows: Sequence[Row]) -> Figure | None:
    """What was timed at shape at two batch sizes or more, or None."""
    shapes = [row for row in rows if row.scale == SHAPE]
    machines = sorted({machine for row in shapes for machine in row.suite.machines()})
    panels = [(machine, [line for row in shapes if (line := _line(row, machine))]) for machine in machines]
    drawn = [{"machine": machine, "lines": lines} for machine, lines in panels if lines]
    if not drawn:
        return None
    return Figure("sweep-shape.svg", "Speed-up over the reference by batch size", f"{__name__}:draw",
                  {"panels": drawn[:MOST_PANELS]})  # fmt: skip


def _line(row: Row, machine: str) -> dict[str, Any] | None:
    """A variant's speed-up over the reference at each batch size: [batch, value, low, high]."""
    splits = {split for run in row.suite.runs for metric, split in run.measured if metric == "speedup"}
    points = []
    for split in splits:
        found = condition(split)
        if found is None or found != Condition(found.batch, LENGTH):
            continue
        ratio = row.speedup(machine, split)
        if ratio is not None:
            points.append([found.batch, ratio.value, *(ratio.interval() or (None, None))])
    return {"label": row.label, "paper": row.paper, "points": sorted(points)} if len(points) > 1 else None


def draw(data: Mapping[str, Any]) -> Drawing:
    """The figure in matplotlib: both axes logarithmic, names at the right ends of the lines."""
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    panels = data["panels"]
    look = looks(line["paper"] for panel in panels for line in panel["lines"])
    ratios = [point[1] for panel in panels for line in panel["lines"] for point in line["points"]]
    with matplotlib.rc_context(STYLE):
        width = 0.8 + 5.2 * len(panels)
        figure = Drawing(figsize=(width, 4.6))
        for place, panel in enumerate(panels):
            axes = figure.add_axes(((0.7 + 5.2 * place) / width, 0.14, 4.6 / width, 0.76))
            log_axis(axes, "y", min(ratios) / 1.15, max(ratios) * 1.15)
            if place == 0:
                axes.set_ylabel("speed-up over the reference (log)")
            _panel(axes, panel["machine"], panel["lines"], look)
        return figure


def _panel(axes: Axes, machine: str, lines: Sequence[Mapping[str, Any]], look: Mapping[str, tuple[str, str]]) -> None:
    axes.set_title(f"On {machine}", fontsize=9.5, loc="left")
    axes.set_xlabel("batch size at length 128 (log)")
    axes.axhline(1.0, color="#888888", linewidth=0.8)
    batches = sorted({point[0] for line in lines for point in line["points"]})
    axes.set_xscale("log")
    axes.set_xlim(batches[0] / 1.2, batches[-1] * (batches[-1] / batches[0]) ** 0.45)  # room for the names
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xticks([], minor=True)
    low, high = axes.get_ylim()
    step = 0.042 * math.log(high / low)
    below = math.inf
    for line in sorted(lines, key=lambda line: (-line["points"][-1][1], line["label"])):
        colour, marker = look[line["paper"]]
        x, y = [point[0] for point in line["points"]], [point[1] for point in line["points"]]
        for batch, _, least, most in line["points"]:
            if least is not None:
                axes.vlines(batch, least, most, color=colour, linewidth=0.8, alpha=0.6)
        axes.plot(x, y, color=colour, marker=marker, markersize=4, linewidth=1.0)
        below = min(math.log(y[-1]), below - step)
        axes.text(x[-1] * 1.08, math.exp(below), f" {line['label']}", fontsize=7.5, va="center", color=colour)
