"""One page per paper: its headlines, every claim with its verdict, every task's scores, times and costs."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from bench.claims.averages import recompute
from bench.claims.claim import Ledger
from bench.core.stats import deviation
from bench.judge.rules import Judged, counts
from bench.judge.runs import SHAPE
from bench.judge.series import Series
from bench.report import headlines
from bench.report.claims import KINDS, folded, heading, measured_rows, open_rows
from bench.report.numbers import DASH, interval, percent, show, significant
from bench.report.page import Block, Cell, Link, Note, Page, Section, Table
from bench.report.rows import BATCHES, Row
from bench.report.table import speed

_VERDICTS = (
    "In brackets: behind what was measured the 95% interval, behind a p value the one after Holm's correction. The "
    'sign " means: the same reason as above.'
)
_SCORES = (
    "Percent, a line per variant, task and series of runs; of several series the first is the one that other pages "
    "show: larger budgets come before more seeds. † marks seeds that look degenerate; mean and share leave them out. A "
    "share is not told where the model or its teacher does no better than guessing. The spread is the sample standard "
    "deviation."
)
_SPEED = (
    "Wall-clock time of one forward pass, without tokenisation. The speed-up is over the run's own teacher in the "
    "same session, rounds interleaved. Times of different machines are never pooled. Rows may have been timed under "
    "different load: compare a latency with the teacher's beside it only. `-text` adds the tokenisation of both."
)
_COST = (
    "Per stage, over the runs that did it. A stage taken from the cache was paid for by another run, and its time is "
    "not counted here again."
)
_AVERAGES = "An average fits where the rounding of its cells explains the difference."


def page(
    ledger: Ledger, judged: Sequence[Judged], rows: Sequence[Row], papers: set[str], results: Path, reports: Path,
    more: Sequence[Section] = (),
) -> Page:  # fmt: skip
    """The page; `more` are the sections that the paper itself brings, `papers` all that have a ledger."""
    tally, ours = counts(judged), sum(not entry.claim.is_printed for entry in judged)
    told = ", ".join(f"{number} {name}" for name, number in tally.items()) or "none"
    more_of_ours = f" Beside them stand {ours} of ours, which nobody printed." if ours else ""
    parts: list[Block] = [_head(ledger, reports), *headlines.section(ledger, judged)]
    about = Note(f"{sum(tally.values())} claims: {told}.{more_of_ours} {_VERDICTS}")
    parts += [Section("Verdicts", (about, *_claims(judged, papers)))]
    parts += [*_recomputed(ledger), Section("Sources and conditions", (_conditions(judged),))]
    parts += [Section("Scores", tuple(_scores(rows))), *more]
    timed = [line for row in rows for line in _speeds(row)]
    if timed:
        right = ("latency, ms", "teacher, ms", "runs")
        parts.append(Section("Speed", (Note(_SPEED), Table.of(timed, (), right))))
    spent = [line for row in rows for line in _costs(row)]
    if spent:
        right = ("runs", "from cache", "median s", "steps")
        parts.append(Section("Cost of training", (Note(_COST), Table.of(spent, (), right))))
    if rows:
        lines = [_records(row, results, reports) for row in rows]
        parts.append(Section("Records", (Table.of(lines, (), ("runs",)),)))
    return Page(f"{ledger.paper.name}.md", ledger.paper.title, tuple(parts))


def _head(ledger: Ledger, reports: Path) -> Note:
    """The paper, its code, and where its deviations and what was tried are told."""
    paper = ledger.paper
    parts: list[Any] = [paper.venue]
    if paper.arxiv:
        parts += [", ", Link(f"arXiv {paper.arxiv}", f"https://arxiv.org/abs/{paper.arxiv}")]
    if paper.code:
        parts += [", ", Link("code", paper.code), f" at {paper.commit[:12]}" if paper.commit else ""]
    told = Path(ledger.file).with_name("README.md")
    if told.is_file():
        parts += [". ", link("Deviations from the paper, and what was tried", told, reports)]
    return Note((*parts, ". Back to ", Link("the first screen", "README.md"), "."))


def link(text: str, target: Path, reports: Path) -> str | Link:
    """A relative link from a page, or the bare text where the way would leave the project (nothing local leaks)."""
    way = Path(os.path.relpath(target, reports)).as_posix()
    return text if way.startswith("../../../") else Link(text, way)


def _claims(judged: Sequence[Judged], papers: set[str]) -> list[Block]:
    """Claims by kind, the measured ones first; those that no run of ours could answer, in one line a printed table."""
    answerable, other = folded(judged, papers)
    parts: list[Block] = []
    for kind in KINDS:
        own = [entry for entry in answerable if entry.claim.kind == kind]
        shown = tuple(Table.of(rows) for rows in (measured_rows(own), open_rows(own)) if rows)
        parts += [Section(heading(kind), shown, 3)] if shown else []
    if other:
        table = Table.of(other, (), ("claims",))
        parts.append(Section("Printed numbers that no run here can answer", (table,), 3))
    return parts


def _recomputed(ledger: Ledger) -> list[Section]:
    """Every printed average beside the one that the paper's own cells give."""
    rows: list[dict[str, Cell]] = []
    for claim in ledger.claims:
        found = recompute(ledger, claim)
        if found is not None:
            rows.append({
                "claim": claim.id, "tasks": f"{claim.average} ({len(claim.tasks)})", "printed": f"{found.printed:g}",
                "from its cells": show(found.recomputed, 2), "fits": "yes" if found.fits else "no",
                "why not": claim.misprint or DASH,
            })  # fmt: skip
    table = Table.of(rows, (), ("printed", "from its cells"))
    return [Section("Averages, recomputed", (Note(_AVERAGES), table))] if rows else []


def _conditions(judged: Sequence[Judged]) -> Table:
    """Where the numbers are printed, and under what conditions they were made."""
    printed = [entry.claim for entry in judged if not entry.claim.derived_from]
    groups = Counter(
        (c.source, c.conditions or DASH, c.device or DASH, c.aggregation, c.transcription) for c in printed
    )
    names = ("source", "conditions", "device", "aggregation", "transcription")
    rows = [dict(zip(names, key, strict=True)) | {"claims": str(number)} for key, number in groups.items()]
    return Table.of(rows, (), ("claims",))


def _scores(rows: Sequence[Row]) -> list[Block]:
    """Per scale, variant and task: the distribution over seeds, and the teacher's score on the same seeds."""
    cells: dict[tuple[str, str, str], list[tuple[Row, Series]]] = defaultdict(list)
    for row in rows:
        for task, found in row.suite.series.items():
            cells[row.scale, row.suite.variant, task] += [(row, series) for series in found if row.scale != SHAPE]
    lines = []
    for found in cells.values():
        ordered = sorted(found, key=lambda one: one[1].rank, reverse=True)
        lines += [line for row, series in ordered if (line := _score_row(row, series))]
    if not lines:
        return [Note("No scores: the runs at hand measured size and speed only, or failed." if rows else
                     "No records yet: nothing was run.")]  # fmt: skip
    right = ("rows", "mean", "median", "spread", "n", "teacher, mean", "kept (%)")
    return [Note(_SCORES), Table.of(lines, (), right)]


def _score_row(row: Row, series: Series) -> dict[str, Cell] | None:
    scores = row.book.of_series(row.suite, series)
    if scores is None:
        return None
    entry, found = scores.entries[0], scores.scores[0]
    summary = scores.average()
    trained = [score for score in found if not score.degenerate] or found
    values = [score.value for score in trained]
    taught = [score.teacher for score in trained if score.teacher is not None]
    data = series.newest.data
    mark = " †" if summary.degenerate else ""
    return {
        "scale": row.scale, "variant": row.label, "task": entry.task + mark,
        "rows": f"{data.rows['train']:,}" if data and data.rows.get("train") else DASH,
        "split": entry.splits[0], "metric": entry.metrics[0], "mean": interval(summary.estimate, factor=100),
        "median": percent(median(values)), "spread": percent(deviation(values) if len(values) > 1 else None),
        "n": str(len(trained)), "teacher, mean": percent(fmean(taught) if taught else None),
        "kept (%)": "at chance" if scores.at_chance else interval(scores.kept(), factor=100),
        "by seed": " ".join(f"{score.seed}:{percent(score.value)}" for score in found),
    }  # fmt: skip


def _speeds(row: Row) -> list[dict[str, Cell]]:
    lines: list[dict[str, Cell]] = []
    splits = {split for run in row.suite.runs for metric, split in run.measured if metric in ("latency_s", "speedup")}
    for machine in row.suite.machines():
        for split in sorted(splits, key=lambda s: (s not in BATCHES, BATCHES.index(s) if s in BATCHES else 0, s)):
            own, teacher = (row.times(metric, split, machine) for metric in ("latency_s", "teacher_latency_s"))
            if own or teacher or row.speedup(machine, split):
                lines.append({
                    "scale": row.scale, "variant": row.label, "machine": machine, "batch and length": split,
                    "latency, ms": significant(median(own) * 1e3) if own else DASH,
                    "teacher, ms": significant(median(teacher) * 1e3) if teacher else DASH,
                    "speed-up": speed(row, machine, split), "runs": str(len(own)),
                })  # fmt: skip
    return lines


def _costs(row: Row) -> list[dict[str, Cell]]:
    """What each stage cost, per machine: over the runs that did it; one taken from the cache cost nothing again."""
    times: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    cached: Counter[tuple[str, str]] = Counter()
    order: dict[str, int] = {}
    for run in row.suite.runs:
        for place, stage in enumerate(run.stages):
            order.setdefault(stage.name, place)
            key = run.environment.machine, stage.name
            if stage.cached:
                cached[key] += 1
            else:
                times[key].append((stage.seconds, stage.steps))
    return [
        {
            "scale": row.scale, "variant": row.label, "machine": key[0], "stage": key[1],
            "runs": str(len(times[key])), "from cache": str(cached[key]),
            "median s": show(_median(seconds for seconds, _ in times[key])),
            "steps": show(_median(steps for _, steps in times[key]), 0),
        }
        for key in sorted({*times, *cached}, key=lambda key: (key[0], order[key[1]], key[1]))
    ]  # fmt: skip


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None


def _records(row: Row, results: Path, reports: Path) -> dict[str, Cell]:
    folder = Path(row.scale, row.paper, row.suite.variant)
    return {
        "scale": row.scale, "variant": row.label, "runs": str(len(row.suite.runs)),
        "folder": link(f"results/{folder.as_posix()}", results / folder, reports),
    }  # fmt: skip
