"""How figures look, and how they become text that is the same byte for byte."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#666666")
"""Okabe and Ito's palette, told apart by colour-blind readers; one colour per paper."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def looks(papers: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Paper -> (colour, marker), by the order of names, so that figures of the same papers agree."""
    names = enumerate(sorted(set(papers)))
    return {paper: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, paper in names}


STYLE: Any = {
    "svg.hashsalt": "bench",
    "svg.fonttype": "none",  # text stays text: glyph outlines would differ between font library versions
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify": False,
}


def log_axis(axes: Axes, name: str, low: float, high: float) -> None:
    """Makes the axis `x` or `y` logarithmic from `low` to `high`, with ticks at round numbers, written plainly."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
    axis = axes.xaxis if name == "x" else axes.yaxis
    # Less than a decade shows all its ticks, more only the first of each kind.
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if high / low < 12 else (1, 2, 5), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.minorticks_off()


def svg(figure: Figure) -> str:
    """The figure as text: no date, fixed ids, the same bytes in every process."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": "bench report"})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
