"""What only this paper's page shows: how the score grows with the number of labels, for each way to train a student."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.report.numbers import DASH, Estimate, interval, mean_of
from bench.report.page import Cell, Figure, Note, Outcome, Section, Table
from bench.report.plots import COLOURS, MARKERS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

LABELS = "labels"
"""The part of a budget: so many training rows keep their label; None is all of them."""

MOST_PANELS = 3
"""Tasks side by side; the table has them all."""

_ABOUT = (
    "The score of each task's first split, in percent: the mean over all seeds, those that guess included, with its "
    "95% interval. So many training rows keep their label, for the teacher and for the student; the rest is text "
    "without labels, which only a distilled student reads. Runs stand in one line where nothing but the number of "
    "labels differs in what they were allowed."
)


@dataclass(frozen=True, slots=True)
class Line:
    """Series that differ in the number of labels alone."""

    scale: str
    task: str
    name: str
    """The variant, with what tells its lines apart."""
    points: Mapping[int | None, Estimate]
    """Labels -> the score over seeds; None is all labels, and comes last."""


def sections(outcomes: Sequence[Outcome]) -> list[Section]:
    """The section, or none where no line has two numbers of labels."""
    shown = [line for line in lines(outcomes) if len(line.points) > 1]
    if not shown:
        return []
    columns = {budget: _heading(budget) for budget in _ordered(budget for line in shown for budget in line.points)}
    rows: list[Mapping[str, Cell]] = [
        {"scale": line.scale, "task": line.task, "variant": line.name}
        | {name: _score(line.points.get(budget)) for budget, name in columns.items()}
        for line in shown
    ]
    table = Table.of(rows, (), tuple(columns.values()))
    return [Section("Score by number of labels", (Note(_ABOUT), figure(shown), table))]


def lines(outcomes: Sequence[Outcome]) -> list[Line]:
    """Every line with a score, by scale and task, variants in the order in which they come."""
    scores: dict[_Way, dict[int | None, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in outcomes:
        score = one.value(one.metric, one.split)
        if score is not None:
            rest = frozenset(_allowed(*item) for item in one.budget.items() if item[0] != LABELS)
            way = _Way(one.scale, one.task, one.variant, rest, one.apart)
            scores[way][one.budget.get(LABELS)].append(score)
    out = []
    for way, by_labels in scores.items():
        points = {labels: mean_of(by_labels[labels]) for labels in _ordered(by_labels)}
        out.append(Line(way.scale, way.task, way.called(scores), points))
    return sorted(out, key=lambda line: (line.scale, line.task))


def _allowed(name: str, value: Any) -> str:
    if name == "limit":
        return "all rows" if value is None else f"{value:,} rows"
    return f"{name}={value}"


class _Way(NamedTuple):
    """What all runs of a line share."""

    scale: str
    task: str
    variant: str
    rest: frozenset[str]
    """What they were allowed beside labels."""
    apart: str

    def called(self, others: Iterable[_Way]) -> str:
        """The variant, with what tells this way from others to train it."""
        same = [way for way in others if way[:3] == self[:3]]
        common = frozenset.intersection(*(way.rest for way in same))
        told = sorted(self.rest - common)
        if self.apart and len({way.apart for way in same}) > 1:
            told.append(self.apart)
        return f"{self.variant} ({', '.join(told)})" if told else self.variant


def _ordered(budgets: Iterable[int | None]) -> list[int | None]:
    """Each once, smallest first, all labels last."""
    return sorted(set(budgets), key=lambda labels: (labels is None, labels or 0))


def _heading(labels: int | None) -> str:
    return "all labels" if labels is None else f"{labels:,} labels"


def _score(entry: Estimate | None) -> str:
    return interval(entry, factor=100) if entry else DASH


def figure(found: Sequence[Line]) -> Figure:
    """A panel per task, those with the most points first."""
    panels: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in found:
        panels[line.scale, line.task].append(line)
    most = sorted(panels, key=lambda key: (-sum(len(line.points) for line in panels[key]), key))[:MOST_PANELS]
    data = [
        {"title": f"{task}, {scale}", "lines": [
            {"name": line.name, "points": [[labels, entry.value, *(entry.interval() or (None, None))]
                                           for labels, entry in line.points.items()]}
            for line in panels[scale, task]]}
        for scale, task in most
    ]  # fmt: skip
    return Figure("labels-lowresource.svg", "Score of each student by the number of labels", f"{__name__}:draw",
                  {"panels": data})  # fmt: skip


def draw(data: Mapping[str, Any]) -> Drawing:
    """Scores over a logarithmic number of labels with 95% bars; all labels stand apart at the right."""
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    panels = data["panels"]
    names = list(dict.fromkeys(line["name"] for panel in panels for line in panel["lines"]))
    looks: dict[str, Any] = {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)],
               "linestyle": "-" if i < len(COLOURS) else "--", "linewidth": 1.0, "markersize": 4}
        for i, name in enumerate(names)
    }  # fmt: skip
    with matplotlib.rc_context(STYLE):
        columns = min(2, len(panels))  # a panel is as wide as one long name
        width, height = 3.9 * len(panels) + 0.2, 3.8 + 0.18 * math.ceil(len(names) / columns)
        drawing = Drawing(figsize=(width, height))
        for place, panel in enumerate(panels):
            axes = drawing.add_axes(((0.6 + 3.9 * place) / width, 1 - 3.2 / height, 3.1 / width, 2.8 / height))
            if place == 0:
                axes.set_ylabel("score, %")
            _panel(axes, panel, looks)
        marks = {name: axes.plot([], [], **look)[0] for name, look in looks.items()}
        drawing.legend(list(marks.values()), list(marks), loc="lower left", ncols=columns, frameon=False, fontsize=7.5)
        return drawing


def _panel(axes: Axes, panel: Mapping[str, Any], looks: Mapping[str, Any]) -> None:
    axes.set(xlabel="labelled rows (log)", xscale="log")
    axes.set_title(panel["title"], fontsize=9.5, loc="left")
    budgets = _ordered(point[0] for line in panel["lines"] for point in line["points"])
    numbers = [labels for labels in budgets if labels is not None]
    at = {labels: labels for labels in numbers} | {None: 3 * max(numbers, default=1)}
    for line in panel["lines"]:
        look = looks[line["name"]]
        places, scores = [at[point[0]] for point in line["points"]], [100 * point[1] for point in line["points"]]
        axes.plot(places, scores, **look)
        for labels, _, low, high in line["points"]:
            if low is not None:
                axes.vlines(at[labels], 100 * low, 100 * high, color=look["color"], linewidth=0.8, alpha=0.6)
    axes.set_xticks([at[labels] for labels in budgets], ["all" if b is None else f"{b:,}" for b in budgets])
    axes.set_xticks([], minor=True)
