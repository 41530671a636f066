"""The landscape figure: the loss around a model along the two directions in which it bends most."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.report.gather import Model
from bench.report.plots import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PANELS = 3
"""A fourth would not be readable."""


@dataclass(frozen=True, slots=True)
class Surface:
    """The loss [points][points] of one run on a square grid, the model in the middle."""

    title: str
    loss: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Landscape:
    """Panels side by side, one per task."""

    panels: tuple[Surface, ...]


def landscape(models: Sequence[Model]) -> Landscape | None:
    """The surface of each task's run with the lowest seed, or None."""
    found: dict[str, tuple[int, Surface]] = {}
    for record in (record for model in models for record in model.used):
        for entry in record.measurements:
            points = math.isqrt(len(entry.samples))
            if entry.metric != "landscape" or points < 2 or points**2 != len(entry.samples):
                continue
            rows = tuple(tuple(entry.samples[i * points : (i + 1) * points]) for i in range(points))
            where = re.sub(r"layer(\d+)", r"layer \1", entry.split)
            surface = Surface(f"{record.spec.task}, {where}, seed {record.spec.seed}", rows)
            seed, task = record.spec.seed, record.spec.task
            if task not in found or seed < found[task][0]:
                found[task] = seed, surface
    panels = tuple(found[task][1] for task in sorted(found))[:MOST_PANELS]
    return Landscape(panels) if panels else None


def draw(landscape: Landscape) -> Figure:
    """The figure in matplotlib: contours of the loss, each panel with a scale of its own."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        width = 3.6 * len(landscape.panels) + 0.3
        figure = Figure(figsize=(width, 3.4))
        for place, panel in enumerate(landscape.panels):
            axes = figure.add_axes(((0.5 + 3.6 * place) / width, 0.14, 2.6 / width, 0.74))
            filled = axes.contourf(panel.loss, levels=12, cmap="viridis")
            middle = (len(panel.loss) - 1) / 2
            axes.plot(middle, middle, marker="o", color="white", markeredgecolor="black", markersize=5)
            axes.set_title(panel.title, fontsize=9, loc="left")
            axes.set_xlabel("along the second eigenvector")
            axes.set_ylabel("along the first eigenvector")
            axes.set_xticks([])
            axes.set_yticks([])
            bar = figure.colorbar(filled, cax=figure.add_axes(((3.15 + 3.6 * place) / width, 0.14, 0.1 / width, 0.74)))
            bar.ax.tick_params(labelsize=7)
        return figure
