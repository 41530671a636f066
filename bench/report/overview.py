"""reports/README.md: the table, the figures, the verdicts, the environments and the notes; and the figures' points."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from bench.claims.claim import Ledger
from bench.core.record import Record
from bench.judge.verdict import VERDICTS, Judged
from bench.judge.verdict import counts as tally
from bench.report import notes, plots
from bench.report.averages import averages
from bench.report.curves import Sweep, sweep
from bench.report.gather import BATCHES, Model, Name
from bench.report.markdown import bullets, document, table
from bench.report.numbers import Interval
from bench.report.table import Verdicts, degenerates, overview

FINE_PRINT = (
    "Scores are in percent, on the splits named in the task lists; the GLUE score is the plain mean of the listed "
    "tasks, each the mean over seeds. Scores over different task lists (the letters) must not be compared.",
    "Retention is the score divided by that of our own fine-tuned teacher on the same tasks and seeds, paired by seed.",
    "Intervals are 95% t intervals: over the seeds' averages for scores and retention (where tasks have different "
    "seeds, the tasks count as independent samples); over runs for the speed-up, on the logs of the ratios (with one "
    "run, over its timing rounds). Where none is shown there are fewer than two seeds or runs.",
    "Speed-up is over the run's own teacher in the same session, rounds interleaved, tokenisation excluded, at length "
    '128. Times of different machines are never pooled: a further machine has a further row, where " repeats the row '
    "above.",
    "Params, MB and GFLOPs (one example of length 128, 2 per multiply-add) are of the artefact that was scored; "
    "training seconds are the median over runs of the whole chain of stages, shared stages included.",
    "Packed is the same model as a file of packed bits, int8 that file on 8-bit kernels, whose own score is on the "
    "paper's page.",
    "Students of teachers of different size, or runs under other overrides or budgets, stand in rows of their own "
    "(#1, #2); the teacher's parameters stand beside retention. Budgets are listed below: an ablation is compared with "
    "the row of its own budget. Limits on rows alone may differ from task to task within a row.",
    "Where a model rounds its weights to few bits, the first speed-up is of that rounding as it is simulated in "
    "floats, which nobody deploys; int8 runs any such variant in 8 bits, so that 2 and 8 bits are equally fast.",
    "‡ marks an architecture that its paper does not give: size, FLOPs and speed are of our stand-in, and no claim is "
    "judged by them.",
    "† marks scores that count runs which look degenerate; see below for the scores without them.",
    "A number at scale small is from smaller models or data than the paper's: it can be consistent with a claim, never "
    "reproduce it, and no small row is a model to deploy. Scale shape has the paper's sizes with random weights: "
    "sizes and speed only.",
)

FIGURE = (
    "Retention: solid points share the students' longest task list, and the grey line joins those that no other beats "
    "on both axes. Pale points are over other tasks, so that their height says nothing beside solid ones; what ran on "
    "less than half as many tasks is in the table only. Points of one size or speed stand a little apart. Bars are the "
    "table's 95% intervals. Sweep: the speed-up over the reference at paper size, with random weights."
)


def readme(
    ledgers: Sequence[Ledger],
    verdicts: Mapping[str, Sequence[Judged]],
    models: Sequence[Model],
    records: Sequence[Record],
    figures: Sequence[str],
    broken: Mapping[str, str],
) -> str:
    """The whole page."""
    head = [
        "What compressing BERT keeps, and what it costs: every variant that was run, measured by the same code as its "
        "teacher. Every number here is computed from `results/` and the papers' `claims.toml`.",
        "## The table",
    ]
    if not records:
        head += ["No records yet: nothing was run, and no claim is judged from a measurement."]
        return document("No free lunch", [*head, *_verdicts(ledgers, verdicts), *_broken(broken)])
    parts = [
        overview(models, attribute(models, verdicts)),
        "### Fine print",
        bullets(FINE_PRINT),
        *(f"![{name}]({name})" for name in figures),
        FIGURE if figures else "No figure: no variant has a score beside its teacher's.",
        *_verdicts(ledgers, verdicts),
        "## Environments",
        notes.environments(records),
        "## Degenerate runs",
        degenerates(models),
        "## Failed runs",
        notes.failures(models),
        "## Budgets and dev looks",
        "A dev look is one evaluation on the split that is reported, made while training or choosing.",
        notes.budgets(models),
        "## Runs not shown",
        notes.beside(models),
        *_broken(broken),
    ]
    return document("No free lunch", [*head, *parts])


def _broken(broken: Mapping[str, str]) -> list[str]:
    rows = [{"paper": name, "reason": reason} for name, reason in sorted(broken.items())]
    return ["## Papers that could not be read", table(rows)] if rows else []


def _verdicts(ledgers: Sequence[Ledger], verdicts: Mapping[str, Sequence[Judged]]) -> list[str]:
    """How many claims of each paper have each verdict."""
    tallies = {ledger.paper.name: tally(verdicts[ledger.paper.name]) for ledger in ledgers}
    names = [name for name in VERDICTS if any(name in numbers for numbers in tallies.values())]
    rows = [
        {"paper": f"[{paper}]({paper}.md)", "claims": str(sum(numbers.values()))}
        | {name: str(numbers.get(name, 0)) for name in names}
        for paper, numbers in tallies.items()
    ]
    return ["## Verdicts on the papers' claims", table(rows, ("paper", "claims", *names), ("claims", *names))]


def attribute(models: Sequence[Model], verdicts: Mapping[str, Sequence[Judged]]) -> Verdicts:
    """Verdict counts per row: a claim goes to the row whose runs judged it, else to its variant's first row.

    A claim about a variant without a row stays in the totals per paper only.
    """
    home = {record.id: model.name for model in models for record in model.used}
    first: dict[tuple[str, str], Name] = {}
    for model in models:
        first.setdefault((model.paper, model.variant), model.name)
    owned: dict[Name, list[Judged]] = {}
    for judged in verdicts.values():
        for entry in judged:
            claim = entry.claim
            rows = [home[name] for name in entry.records if name in home and home[name][1] == claim.maker]
            rows.sort(key=lambda row, variant=claim.variant: row[2] != variant)  # stable: the claim's own variant first
            row = rows[0] if rows else first.get((claim.maker, claim.variant))
            if row is not None:
                owned.setdefault(row, []).append(entry)
    return {row: tally(entries) for row, entries in owned.items()}


def figures(models: Sequence[Model]) -> dict[str, plots.Picture | Sweep]:
    """One Pareto figure per scale that has retention: against size, and against speed on each machine; and the sweep
    over batches and threads at shape."""
    found: dict[str, plots.Picture | Sweep] = {}
    for scale in dict.fromkeys(model.scale for model in models):
        panels = _panels([model for model in models if model.scale == scale])
        if any(not point.reference for panel in panels for point in panel.points):
            found[f"pareto-{scale}.svg"] = plots.Picture(tuple(panels), "GLUE retention (% of own teacher)")
    swept = sweep(models)
    return found | ({"sweep-shape.svg": swept} if swept else {})


def _panels(models: Sequence[Model]) -> list[plots.Panel]:
    machines = sorted({machine for model in models for machine in model.machines()})
    kept = {model.name: averages(model) for model in models}
    panels = [plots.Panel("Size on disk", "MB on disk (log)", "left", _points(models, kept, _size))]
    for machine in machines[:3]:  # a fourth would not be readable; the table has them all
        points = _points(models, kept, lambda m, machine=machine: _speed(m, machine))
        title = f"Speed, batch 1, length 128, on {machine}"
        panels.append(plots.Panel(title, "speed-up over own teacher (log)", "right", points))
    return panels


def _size(model: Model) -> Interval | None:
    return Interval(model.size_bytes / 1e6, None, None, 1) if model.size_bytes else None


def _speed(model: Model, machine: str) -> Interval | None:
    found = model.speedup(machine, BATCHES[0])
    return Interval(1.0, None, None, 1) if model.reference and found is None else found


def _points(
    models: Sequence[Model], averaged: Mapping[Name, tuple[Interval, Interval] | None],
    x: Callable[[Model], Interval | None],
) -> tuple[plots.Point, ...]:  # fmt: skip
    """Each variant with a retention over half of the students' longest task list or more, which alone is comparable.

    The reference is 100% by definition, on whatever tasks. Most ablations are made on a task or two: the tables have
    them.
    """
    lists = Counter(tuple(model.glue_tasks()) for model in models if model.glue_tasks() and not model.reference)
    shared = list(max(lists, key=lambda tasks: (len(tasks), lists[tasks], tasks), default=()))
    found: list[plots.Point] = []
    for model in models:
        both = averaged[model.name]
        at = x(model)
        if both is None or at is None or 2 * len(model.glue_tasks()) < len(shared):
            continue
        kept = both[1].scaled(100)
        if math.isnan(kept.value):
            if not model.reference:
                continue
            kept = Interval(100.0, None, None, 1)
        tasks = len(model.glue_tasks())
        comparable = model.reference or model.glue_tasks() == shared
        label = f"{model.label.partition(' (')[0]} ({tasks} task{'s' if tasks > 1 else ''})"
        found.append(plots.Point(label, model.paper, at, kept, model.reference, comparable))
    return tuple(found)
