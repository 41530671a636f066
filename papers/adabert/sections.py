"""What only AdaBERT's page shows: the structures that were found, their controls, and what a teacher's layers know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.core.errors import RecordError
from bench.report.numbers import DASH, percent, percent_of, show
from bench.report.page import Block, Bullets, Cell, Figure, Link, Note, Outcome, Section, Table
from bench.report.plots import COLOURS, STYLE
from papers.adabert import drawing
from papers.adabert.names import INPUTS, KEPT, LENT, MAX_CELLS, NODES, OPERATIONS, TASKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

SEARCHED, RANDOM = "adabert", "adabert-random"
CONTROLS = (RANDOM, "adabert-no-kd", "adabert-scratch")
"""What the searched network is set beside."""
MOST_PANELS = 3
"""Cells that are drawn; all are told in words."""
STATES = ("c(k−2)", "c(k−1)", "node 1", "node 2", "node 3")
"""What an edge may come from, by the number that a record gives it."""

_FOUND: Cell = (
    "What was found, over all seeds. A search chooses the number of cells K, and six edges that all cells share: two "
    "into each of three nodes, each with one operation. A search that collapsed is not here, but among the ",
    Link("failed runs", "budgets.md#failed-runs"),
    ". A variant that takes its structures from the search of another one has no line.",
)
_COLUMNS = (
    "Parameters and MFLOPs (one row of 128 word pieces) are those of the structure at the paper's size: width 128, "
    "BERT's vocabulary. Told are the mean, and the smallest to the largest. A small teacher allows fewer cells than "
    f"the paper's {MAX_CELLS}, and so smaller networks.",
    "Undecided is the entropy of the chances when the search ends: 1 where all are even, 0 where one has them all.",
    "Guarded counts nodes that would have kept zero on both edges. Such a node was given another operation on one.",
    "The score is that of the first split, in percent, with its 95% interval. Here and below all seeds count, those "
    "that guess included.",
)  # fmt: skip
_KEPT = "How many edges kept which operation, over all seeds. Chance alone would give each about a tenth of the edges."
_CELL = (
    "For each task this is the network with the median score among the seeds of adabert; of two in the middle, the "
    "lower. It is K such cells in a row. A cell reads the outputs of the two cells before it, c(k−2) and c(k−1). A "
    "node adds its two edges; the output c(k) is a weighted sum of the nodes. An edge with zero passes nothing on."
)
_CONTROLS = (
    "adabert-random: a structure drawn at random, trained by as many steps. adabert-no-kd: no teacher. "
    "adabert-scratch: the searched structure with new weights, which take the steps of the second training alone. Only "
    "runs with the same budget stand beside each other. Scores are in percent: the mean ± the standard deviation over "
    "seeds. The difference is this variant minus adabert in points, paired by seed, with its 95% interval. Below 0 "
    "adabert is better; where the interval holds 0, the seeds do not tell the two apart. Parameters are told as above, "
    "at the paper's size."
)
_LENT = (
    "A column is a task on which networks are trained, a row the task on which their structure was searched. On the "
    "diagonal (boxed) stands adabert itself, which goes on with the weights of its search. All others begin with new "
    "weights and take as many steps. The last rows are controls: the task's own structure with new weights, and "
    "structures drawn at random. Scores are in percent: the mean ± the standard deviation, in brackets the seeds. "
    "The colour is the distance to the diagonal of the same column, in points; without a diagonal it is grey."
)
_PROBES = (
    "A probe is a softmax classifier on what one layer of the fine-tuned teacher makes of a row's first token. Told is "
    "the share of rows that it gets right, in percent, the mean over seeds. These are the training rows, on which the "
    "probe was trained, not rows that it has not seen."
)


def sections(outcomes: Sequence[Outcome]) -> list[Section]:
    """The sections of the page, those without content left out."""
    found = groups(one for one in outcomes if one.speaks)
    return [*_structures(found), *_controls(found), *_transfer(found), *_probes(found)]


class _Terms(NamedTuple):
    """What runs have to share to be compared."""

    scale: str
    task: str
    allowed: frozenset[str]
    apart: str


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one task that were allowed the same, by variant and seed."""

    scale: str
    task: str
    told: str
    """What tells it from other groups of that task; mostly nothing."""
    runs: Mapping[str, Mapping[int, Outcome]]

    def name(self, variant: str) -> str:
        """The variant, with what tells its groups apart."""
        return f"{variant} ({self.told})" if self.told else variant

    def scores(self, variant: str) -> dict[int, float]:
        """Seed -> score."""
        return {seed: score for seed, one in self.runs.get(variant, {}).items()
                if (score := one.value(one.metric, one.split)) is not None}  # fmt: skip

    def numbers(self, variant: str, metric: str, split: str) -> list[float]:
        """A number of each run that has it, in the order of the seeds."""
        return [value for one in self.runs.get(variant, {}).values()
                if (value := one.value(metric, split)) is not None]  # fmt: skip


def groups(outcomes: Iterable[Outcome]) -> list[Group]:
    """All groups, by scale and task.

    Networks of one variant differ in size, and other tables may show them as several rows: here they stand together.
    """
    by_terms: dict[_Terms, dict[str, dict[int, Outcome]]] = defaultdict(lambda: defaultdict(dict))
    for one in outcomes:
        allowed = frozenset(f"{name}={value}" for name, value in one.budget.items())
        # The better series comes first; a seed that a lesser one repeats stays as it is.
        by_terms[_Terms(one.scale, one.task, allowed, one.apart)][one.variant].setdefault(one.seed, one)
    found = []
    for terms, variants in by_terms.items():
        same = [other for other in by_terms if other[:2] == terms[:2]]
        told = sorted(terms.allowed - frozenset.intersection(*(other.allowed for other in same)))
        told += [terms.apart] if terms.apart and len({other.apart for other in same}) > 1 else []
        runs = {variant: dict(sorted(variants[variant].items())) for variant in sorted(variants)}
        found.append(Group(terms.scale, terms.task, ", ".join(told), runs))
    return sorted(found, key=lambda group: (group.scale, group.task))


Nodes = tuple[tuple[tuple[int, str], ...], ...]
"""nodes[i]: (source, operation) of each edge into node i."""


def nodes_of(one: Outcome) -> Nodes | None:
    """The edges that a run tells; None where it tells none.

    Raises: RecordError for an edge that no cell can have.
    """
    nodes: list[tuple[tuple[int, str], ...]] = []
    for i in range(NODES):
        names = [f"node{i + 1}-edge{j + 1}" for j in range(KEPT)]
        edges = [(one.value("edge_source", name), one.value("edge_operation", name)) for name in names]
        known = [(source, kind) for source, kind in edges if source is not None and kind is not None]
        if len(known) < KEPT:
            return None
        if not all(s in range(INPUTS + i) and kind in range(len(OPERATIONS)) for s, kind in known):
            raise RecordError("a record tells a structure that the search space does not hold", found=known,
                              where=f"{one.variant} on {one.task}, seed {one.seed}, node {i + 1}",
                              expected=f"edges from 0 to {INPUTS + i - 1}, operations from 0 to {len(OPERATIONS) - 1}",
                              fix="move the record away")  # fmt: skip
        nodes.append(tuple((int(source), OPERATIONS[int(kind)]) for source, kind in known))
    return tuple(nodes)


def _structures(found: Sequence[Group]) -> list[Section]:
    """What was searched: sizes, operations, and one cell of each task."""
    searched = [(group, variant) for group in found for variant in _searches(group)]
    if not searched:
        return []
    right = ("seeds", "guarded")
    kept = [_kept_row(group, variant) for group, variant in searched]
    blocks: list[Block] = [
        Note(_FOUND), Bullets(_COLUMNS),
        Table.of([_found_row(group, variant) for group, variant in searched], (), right),
        Note(_KEPT), Table.of(kept, (), ("edges", *OPERATIONS)), *_cells(found),
    ]  # fmt: skip
    return [Section("Structures that were found", tuple(blocks))]


def _searches(group: Group) -> list[str]:
    """The variants that searched, without those that took all their structures from searches of another one."""
    seen: dict[str, dict[int, tuple[float, ...]]] = {}
    for variant, runs in group.runs.items():
        told = {seed: number.samples for seed, one in runs.items()
                if (number := one.numbers.get(("entropy", "structure")))}  # fmt: skip
        # Chances alike to the last bit are those of one search.
        if told and not any(told.items() <= other.items() for other in seen.values()):
            seen[variant] = told
    return list(seen)


def _found_row(group: Group, variant: str) -> dict[str, Cell]:
    runs = group.runs[variant]
    operations, depth = _undecided(runs.values())
    guarded = group.numbers(variant, "guarded_nodes", "found")
    return {
        "scale": group.scale, "task": group.task, "variant": group.name(variant), "seeds": str(len(runs)),
        "K by seed": " ".join(f"{seed}:{show(one.value('cells', 'found'), 0)}" for seed, one in runs.items()),
        "parameters, M": _range(group.numbers(variant, "paper_parameters", "found"), 1e-6),
        "MFLOPs": _range(group.numbers(variant, "paper_flops", "batch1-length128"), 1e-6, 0),
        "undecided: operations": operations, "undecided: K": depth,
        "guarded": f"{sum(guarded):.0f} of {NODES * len(guarded)}" if guarded else DASH,
        "score": percent_of(list(group.scores(variant).values())),
    }  # fmt: skip


def _undecided(runs: Iterable[Outcome]) -> tuple[str, str]:
    """The mean entropy of edges, and that of the depth where it could be chosen."""
    edges, depths = [], []
    for one in runs:
        number = one.numbers.get(("entropy", "structure"))
        every = sum(INPUTS + i for i in range(NODES))
        if number is not None and len(number.samples) >= every:
            edges.append(fmean(number.samples[:every]))
            depths += number.samples[every : every + 1]
    return _range(edges), _range(depths)


def _range(values: Sequence[float], factor: float = 1.0, digits: int = 2) -> str:
    """`7.12 (6.34 to 9.49)`: the mean, and the smallest to the largest where they differ."""
    if not values:
        return DASH
    low, mean, high = (show(factor * value, digits) for value in (min(values), fmean(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def _spread(scores: Sequence[float]) -> str:
    """`84.2 ± 0.5`, in percent; the score alone where there is one."""
    if not scores:
        return DASH
    return percent(fmean(scores)) + (f" ± {percent(stdev(scores))}" if len(scores) > 1 else "")


def _kept_row(group: Group, variant: str) -> dict[str, Cell]:
    told = [nodes for one in group.runs[variant].values() if (nodes := nodes_of(one))]
    kept = Counter(operation for nodes in told for node in nodes for _, operation in node)
    where = {"scale": group.scale, "task": group.task, "variant": group.name(variant)}
    return {**where, "edges": str(kept.total()), **{name: str(kept[name]) for name in OPERATIONS}}


def _cells(found: Sequence[Group]) -> list[Section]:
    """The cell of one searched network of each task, drawn and in words."""
    panels: list[dict[str, Any]] = []
    for group in sorted(found, key=lambda group: -len(group.scores(SEARCHED))):
        scores = group.scores(SEARCHED)
        runs = {seed: one for seed, one in group.runs.get(SEARCHED, {}).items() if seed in scores and nodes_of(one)}
        if runs and (group.scale, group.task) not in [(one["scale"], one["task"]) for one in panels]:
            ordered = sorted(runs, key=lambda seed: (scores[seed], seed))
            seed = ordered[(len(ordered) - 1) // 2]
            depth = show(runs[seed].value("cells", "found"), 0)
            panels.append({
                "scale": group.scale, "task": group.task, "nodes": nodes_of(runs[seed]),
                "title": f"{group.task}, {group.scale}, seed {seed}: K = {depth}",
                "told": f"{percent(scores[seed])}, the median of {len(runs)}",
            })  # fmt: skip
    if not panels:
        return []
    drawn = [{"title": one["title"], "nodes": one["nodes"]} for one in panels[:MOST_PANELS]]
    figure = Figure("cells-adabert.svg", "The cell of a searched network: its nodes, and the operation of each edge",
                    f"{__name__}:draw_cells", {"panels": drawn})  # fmt: skip
    lines = tuple(f"{one['title']}, score {one['told']}. {_in_words(one['nodes'])}" for one in panels)
    return [Section("The cell of one network per task", (Note(_CELL), figure, Bullets(lines)), 3)]


def _in_words(nodes: Nodes) -> str:
    sums = [" + ".join(f"{operation} of {STATES[source]}" for source, operation in sorted(edges)) for edges in nodes]
    return " ".join(f"Node {i + 1} is {told}." for i, told in enumerate(sums))


def _controls(found: Sequence[Group]) -> list[Section]:
    """The searched network beside what should be worse."""
    rows = [_control_row(group, variant) for group in found
            if any(map(group.scores, CONTROLS))
            for variant in (SEARCHED, *CONTROLS) if group.scores(variant)]  # fmt: skip
    table = Table.of(rows, (), ("seeds", "pairs"))
    return [Section("Searched, random, without a teacher", (Note(_CONTROLS), table))] if rows else []


def _control_row(group: Group, variant: str) -> dict[str, Cell]:
    base, own = group.scores(SEARCHED), group.scores(variant)
    paired = [own[seed] - base[seed] for seed in own if seed in base and variant != SEARCHED]
    return {
        "scale": group.scale, "task": group.task, "variant": group.name(variant), "seeds": str(len(own)),
        "score": _spread(list(own.values())), "difference": percent_of(paired),
        "pairs": str(len(paired)) if paired else DASH,
        "parameters, M": _range(group.numbers(variant, "paper_parameters", "found"), 1e-6),
    }  # fmt: skip


def _transfer(found: Sequence[Group]) -> list[Section]:
    """Structures that were searched on one task and trained on another."""
    lent = [group for group in found if any(map(group.scores, LENT))]
    used = {LENT[variant] for group in lent for variant in LENT if group.scores(variant)}
    names = [task for task in TASKS if task in used | {group.task for group in lent}]
    rows: list[Mapping[str, Cell]] = []
    panels: list[dict[str, Any]] = []
    for scale in sorted({group.scale for group in lent}):
        lines = _matrix([group for group in found if group.scale == scale], names)
        rows += [{"scale": scale, "searched on": name} | dict(zip(names, map(_cell, scores), strict=True))
                 for name, scores in lines]  # fmt: skip
        panels.append(_panel(scale, names, lines))
    if not rows:
        return []
    figure = Figure("transfer-adabert.svg", "Scores of structures by the task of their search and of their training",
                    f"{__name__}:draw_transfer", {"panels": panels})  # fmt: skip
    return [Section("Structures on other tasks", (Note(_LENT), figure, Table.of(rows, (), names)))]


Lines = list[tuple[str, list[list[float]]]]
"""The name of each row of a matrix, and the scores of each column."""


def _matrix(found: Sequence[Group], names: Sequence[str]) -> Lines:
    """A row per task, in the order of the columns; then the controls that were run."""
    by_task = {to: [group for group in found if group.task == to] for to in names}
    # Of several budgets on a task, the one under which the most structures were trained.
    columns = {to: max(own, key=lambda group: sum(bool(group.scores(variant)) for variant in (SEARCHED, *LENT)))
               for to, own in by_task.items() if own}  # fmt: skip

    def scores(to: str, variant: str) -> list[float]:
        return list(columns[to].scores(variant).values()) if to in columns else []

    borrows = {task: variant for variant, task in LENT.items()}
    lines = [(task, [scores(to, SEARCHED if to == task else borrows[task]) for to in names]) for task in names]
    controls = [("own, new weights", [scores(to, borrows[to]) for to in names]),
                ("random", [scores(to, RANDOM) for to in names])]  # fmt: skip
    return lines + [(name, cells) for name, cells in controls if any(cells)]


def _cell(scores: Sequence[float]) -> str:
    return f"{_spread(scores)} ({len(scores)})" if scores else DASH


def _panel(scale: str, names: Sequence[str], lines: Lines) -> dict[str, Any]:
    """One matrix as numbers in percent: of each cell the mean, and its distance to the diagonal."""
    means = [[100 * fmean(scores) if scores else None for scores in cells] for _, cells in lines]
    own = [means[i][i] for i in range(len(names))]
    cells = [[None if mean is None else [mean, None if base is None else mean - base]
              for mean, base in zip(row, own, strict=True)] for row in means]  # fmt: skip
    title = f"Percent at scale {scale}: searched on (down), trained on (across)"
    return {"title": title, "columns": list(names), "rows": [name for name, _ in lines], "cells": cells}


def _probes(found: Sequence[Group]) -> list[Section]:
    """How much of the training rows the probe of each layer gets right; variants share a seed's probes."""
    by_group: list[tuple[Group, dict[int, list[float]]]] = []
    for group in found:
        told: dict[int, list[float]] = {}
        for runs in group.runs.values():
            for seed, one in runs.items():
                if layers := _by_layer(one):
                    told.setdefault(seed, layers)
        by_group += [(group, told)] if told else []
    if not by_group:
        return []
    columns = [f"layer {i + 1}" for i in range(max(len(layers) for _, told in by_group for layers in told.values()))]
    rows: list[Mapping[str, Cell]] = []
    for group, told in by_group:
        values = [[layers[i] for layers in told.values() if i < len(layers)] for i in range(len(columns))]
        shown = {name: percent(fmean(shares) if shares else None) for name, shares in zip(columns, values, strict=True)}
        task = f"{group.task} ({group.told})" if group.told else group.task
        rows.append({"scale": group.scale, "task": task, "seeds": str(len(told))} | shown)
    return [Section("What the teacher's layers know", (Note(_PROBES), Table.of(rows, (), ("seeds", *columns))))]


def _by_layer(one: Outcome) -> list[float]:
    """The share of each layer from the first on, as far as a run tells them."""
    shares: list[float] = []
    while (share := one.value("probe_accuracy", f"layer{len(shares) + 1}")) is not None:
        shares.append(share)
    return shares


def draw_cells(data: Mapping[str, Any]) -> Drawing:
    """See `papers.adabert.drawing`."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        return drawing.cells(data["panels"], COLOURS)


def draw_transfer(data: Mapping[str, Any]) -> Drawing:
    """See `papers.adabert.drawing`."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        return drawing.transfer(data["panels"])
