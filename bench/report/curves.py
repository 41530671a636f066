"""The sweep figure: how the speed-ups change with batch size and threads, as lines with 95% bars."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.report.gather import MEASURED_ONLY, Model
from bench.report.numbers import Interval
from bench.report.plots import COLOURS, MARKERS, STYLE, log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 3
"""A fourth would not be readable; the pages have all numbers."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A variant's speed-up over the reference at each batch size, with its interval."""

    label: str
    paper: str
    points: tuple[tuple[int, Interval], ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Panels side by side on one y axis, by machine; its name holds the threads where they are not its cores."""

    panels: tuple[tuple[str, tuple[Curve, ...]], ...]


def sweep(models: Sequence[Model]) -> Sweep | None:
    """What was timed at shape at two batch sizes or more, or None."""
    shapes = [model for model in models if model.scale == MEASURED_ONLY]
    machines = sorted({machine for model in shapes for machine in model.machines()})
    panels = [(machine, tuple(curve for model in shapes if (curve := _curve(model, machine)))) for machine in machines]
    drawn = tuple((machine, curves) for machine, curves in panels if curves)
    return Sweep(drawn[:MOST_PANELS]) if drawn else None


def _curve(model: Model, machine: str) -> Curve | None:
    points: list[tuple[int, Interval]] = []
    for metric, split, where in model.timed:
        shape = re.fullmatch(r"batch(\d+)-length128", split)
        ratio = model.speedup(machine, split) if metric == "speedup" and where == machine and shape else None
        if ratio is not None and shape is not None:
            points.append((int(shape[1]), ratio))
    return (
        Curve(model.label, model.paper, tuple(sorted(points, key=lambda point: point[0]))) if len(points) > 1 else None
    )


def draw(sweep: Sweep) -> Figure:
    """The figure in matplotlib: both axes logarithmic, names at the right ends of the lines."""
    import matplotlib
    from matplotlib.figure import Figure

    papers = sorted({curve.paper for _, curves in sweep.panels for curve in curves})
    look = {paper: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, paper in enumerate(papers)}
    ratios = [ratio.value for _, curves in sweep.panels for curve in curves for _, ratio in curve.points]
    low, high = min(ratios) / 1.15, max(ratios) * 1.15
    with matplotlib.rc_context(STYLE):
        width = 0.8 + 5.2 * len(sweep.panels)
        figure = Figure(figsize=(width, 4.6))
        for place, (machine, curves) in enumerate(sweep.panels):
            axes = figure.add_axes(((0.7 + 5.2 * place) / width, 0.14, 4.6 / width, 0.76))
            axes.set_yscale("log")
            axes.set_ylim(low, high)
            ticks = log_ticks(low, high)
            axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.set_yticks([], minor=True)
            if place == 0:
                axes.set_ylabel("speed-up over the reference (log)")
            _panel(axes, machine, curves, look)
        return figure


def _panel(axes: Axes, machine: str, curves: Sequence[Curve], look: Mapping[str, tuple[str, str]]) -> None:
    axes.set_title(f"On {machine}", fontsize=9.5, loc="left")
    axes.set_xlabel("batch size at length 128 (log)")
    axes.grid(True, color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axhline(1.0, color="#888888", linewidth=0.8)
    batches = sorted({batch for curve in curves for batch, _ in curve.points})
    axes.set_xscale("log")
    axes.set_xlim(batches[0] / 1.2, batches[-1] * (batches[-1] / batches[0]) ** 0.45)  # room for the names
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xticks([], minor=True)
    low, high = axes.get_ylim()
    step = 0.042 * math.log(high / low)
    below = math.inf
    for curve in sorted(curves, key=lambda curve: (-curve.points[-1][1].value, curve.label)):
        colour, marker = look[curve.paper]
        x, y = zip(*((batch, ratio.value) for batch, ratio in curve.points), strict=True)
        for batch, ratio in curve.points:
            if ratio.low is not None and ratio.high is not None:
                axes.vlines(batch, ratio.low, ratio.high, color=colour, linewidth=0.8, alpha=0.6)
        axes.plot(x, y, color=colour, marker=marker, markersize=4, linewidth=1.0)
        below = min(math.log(y[-1]), below - step)
        axes.text(x[-1] * 1.08, math.exp(below), f" {curve.label}", fontsize=7.5, va="center", color=colour)
