"""AdaBERT's two figures, from plain data: cells as graphs, and scores as a matrix.

Both are narrow, so that they can be read on a phone: cells stand below each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from papers.adabert.names import CONVOLUTIONS, INPUTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.5
"""Inches, of both figures."""
STEP, LEFT, RADIUS = 0.74, 0.3, 0.2
"""Of a cell, in inches: from state to state, from the edge to the first state, and of a state."""
LIFT = {1: 0.45, 2: 0.77, 3: 1.06, 4: 1.35}
"""How high an edge rises, in inches, by the number of states that it spans."""
ROOM = 0.2
"""Above the highest edge, for its name."""
TITLE = 0.3
HEAD = 0.62
"""Of a matrix: its title and the names of its columns."""
NAMES = ("$c_{k-2}$", "$c_{k-1}$", "1", "2", "3")


def cells(panels: Sequence[Mapping[str, Any]], colours: Sequence[str]) -> Figure:
    """A cell per panel, below each other: states from left to right, the two edges into each node as arcs.

    `nodes` of a panel has (source, operation) of each edge into each node. Of a node's edges the one from farther away
    is above, the other one below.
    """
    from matplotlib.figure import Figure

    rooms = [_rooms(panel["nodes"]) for panel in panels]
    height = sum(TITLE + above + below for above, below in rooms)
    figure = Figure(figsize=(WIDTH, height))
    top = height
    for panel, (above, below) in zip(panels, rooms, strict=True):
        size = TITLE + above + below
        # The units of the axes are inches: what is round stays round, and names fit.
        axes = figure.add_axes(
            (0, (top - size) / height, 1, size / height), xlim=(0, WIDTH), ylim=(-below, above + TITLE)
        )
        axes.set_axis_off()
        axes.text(0.05, above + TITLE - 0.2, panel["title"], fontsize=9.5, parse_math=False)
        _cell(axes, panel["nodes"], colours)
        top -= size
    return figure


def _sides(node: Sequence[Sequence[Any]]) -> list[tuple[int, str, int]]:
    """(source, operation, side) of a node's edges: 1 above, -1 below."""
    ordered = sorted((source, operation) for source, operation in node)
    return [(source, operation, 1 if place == 0 else -1) for place, (source, operation) in enumerate(ordered)]


def _rooms(nodes: Sequence[Sequence[Sequence[Any]]]) -> tuple[float, float]:
    """What a cell needs above and below its states, in inches."""
    edges = [(side, INPUTS + i - source) for i, node in enumerate(nodes) for source, _, side in _sides(node)]
    above, below = (max(span for its, span in edges if its == side) for side in (1, -1))
    return LIFT[above] + ROOM, LIFT[below] + ROOM


def _cell(axes: Axes, nodes: Sequence[Sequence[Sequence[Any]]], colours: Sequence[str]) -> None:
    from matplotlib.patches import FancyBboxPatch

    places = [LEFT + STEP * i for i in range(len(NAMES))]
    first, last, out = places[INPUTS], places[-1], WIDTH - LEFT
    frame = FancyBboxPatch((first - 0.27, -0.27), last - first + 0.54, 0.54, boxstyle="round,pad=0,rounding_size=0.1",
                           facecolor="#f0f0f0", edgecolor="#bbbbbb", linewidth=0.6, zorder=0)  # fmt: skip
    axes.add_patch(frame)
    axes.annotate("", (out - RADIUS, 0), (last + 0.27, 0), arrowprops={"arrowstyle": "-|>", "color": "#666666"})
    for i, node in enumerate(nodes):
        for source, operation, side in _sides(node):
            _edge(axes, (places[source], places[INPUTS + i]), side * LIFT[INPUTS + i - source], operation, colours)
    for place, name in zip((*places, out), (*NAMES, "$c_k$"), strict=True):
        axes.plot(place, 0, marker="o", markersize=144 * RADIUS, color="white", markeredgecolor="#444444", zorder=3)
        axes.text(place, 0, name, ha="center", va="center", zorder=4)


def _edge(axes: Axes, ends: tuple[float, float], lift: float, operation: str, colours: Sequence[str]) -> None:
    """An arc with its operation at the top; `lift` says how high that is, below the states where it is negative."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    start, end = ends
    foot = RADIUS if lift > 0 else -RADIUS
    reach = (lift - 0.25 * foot) / 0.75  # of the two middle points of the curve, whose top is then at `lift`
    # An arc ends a little left of its node's middle and begins a little right: those of two nodes keep apart.
    begin, arrive = start + 0.05, end - 0.05
    arc = Path([(begin, foot), (begin, reach), (arrive, reach), (arrive, foot)],
               [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])  # fmt: skip
    colour, line = _look(operation, colours)
    axes.add_patch(FancyArrowPatch(path=arc, arrowstyle="-|>", mutation_scale=9, color=colour, linestyle=line,
                                   linewidth=1.2, zorder=1))  # fmt: skip
    axes.text((begin + arrive) / 2, lift, operation.replace("-", "\n"), color=colour, linespacing=0.95, ha="center",
              va="center", zorder=2, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0})  # fmt: skip


def _look(operation: str, colours: Sequence[str]) -> tuple[str, str]:
    """Colour and line of an operation, by its kind."""
    if operation in CONVOLUTIONS:
        return colours[CONVOLUTIONS[operation][1] - 1], "-"
    return {"identity": ("#444444", "-"), "zero": ("#767676", ":")}.get(operation, (colours[2], "-"))


def transfer(panels: Sequence[Mapping[str, Any]]) -> Figure:
    """A matrix per panel, below each other.

    A cell holds [score, distance to the diagonal or none], both in percent, or nothing; the distance is its colour.
    """
    from matplotlib.figure import Figure

    heights = [HEAD + 0.36 * len(panel["rows"]) for panel in panels]
    height = sum(heights) + 0.65
    figure = Figure(figsize=(WIDTH, height))
    apart = [abs(cell[1]) for panel in panels for row in panel["cells"] for cell in row if cell and cell[1] is not None]
    most = 1.2 * max([1.0, *apart])  # the darkest shades, on which text is hard to read, are left over
    top, left, drawn = height, 1.25, []
    for panel, room in zip(panels, heights, strict=True):
        where = (left / WIDTH, (top - room) / height, (WIDTH - left - 0.1) / WIDTH, (room - HEAD) / height)
        drawn.append(_matrix(figure.add_axes(where), panel, most))
        top -= room
    bar = figure.colorbar(drawn[0], cax=figure.add_axes((left / WIDTH, 0.42 / height, (WIDTH - left - 0.1) / WIDTH,
                                                      0.1 / height)), orientation="horizontal")  # fmt: skip
    bar.set_label("points above or below the diagonal of the column", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _matrix(axes: Axes, panel: Mapping[str, Any], most: float) -> Any:
    """Grey is what has no diagonal to be compared with; a gap sets the controls apart."""
    from matplotlib.patches import Rectangle

    distances = [[cell[1] if cell and cell[1] is not None else float("nan") for cell in row] for row in panel["cells"]]
    drawn = axes.imshow(distances, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    axes.set_facecolor("#e6e6e6")
    axes.grid(False)
    if len(panel["rows"]) > len(panel["columns"]):
        axes.axhline(len(panel["columns"]) - 0.5, color="white", linewidth=5)
    axes.set_title(panel["title"], fontsize=9.5, loc="left", x=-0.4, pad=20, parse_math=False)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(panel["columns"])), panel["columns"], parse_math=False)
    axes.set_yticks(range(len(panel["rows"])), panel["rows"], parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for i in range(len(panel["columns"])):  # the diagonal: the first rows are the tasks of the columns, in their order
        axes.add_patch(Rectangle((i - 0.46, i - 0.38), 0.92, 0.76, fill=False, edgecolor="#444444", linewidth=0.8))
    for i, row in enumerate(panel["cells"]):
        for j, cell in enumerate(row):
            dark = cell is not None and abs(cell[1] or 0) > 0.6 * most
            axes.text(j, i, "–" if cell is None else f"{cell[0]:.1f}", ha="center", va="center",
                      color="white" if dark else "black", fontsize=8.5)  # fmt: skip
    return drawn
