"""reports/budgets.md: what runs were allowed, which look degenerate or failed, and which stand behind no number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from bench.judge.runs import SHAPE, Run
from bench.judge.scores import Scores, Summary
from bench.judge.series import SeriesIndex
from bench.report.environments import spelled
from bench.report.numbers import DASH, interval, percent
from bench.report.page import Block, Cell, Link, Note, Page, Section, Table
from bench.report.rows import Row


def page(rows: Sequence[Row], index: SeriesIndex) -> Page:
    """The page."""
    back = Note(("What every run was allowed, and which runs stand behind no number. Back to ",
                 Link("the first screen", "README.md"), "."))  # fmt: skip
    looks = Note("A dev look is one evaluation on the split that is reported, made while training or choosing.")
    return Page("budgets.md", "Budgets, and runs that do not count", (
        back, Section("Budgets and dev looks", (looks, _budgets(rows))),
        Section("Degenerate runs", tuple(_degenerate(rows))), Section("Failed runs", (_failed(index),)),
        Section("Runs behind no number", (_beside(rows),)),
    ))  # fmt: skip


def _budgets(rows: Sequence[Row]) -> Table:
    """What each variant was allowed: limits, overrides, rows, partial data; and how often it looked at the dev set."""
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for row in rows:
        distinct: dict[tuple[int, int], list[Run]] = defaultdict(list)
        for run in row.suite.runs:  # few settings, many runs
            distinct[id(run.settings), id(run.data)].append(run)
        for members in distinct.values():
            run = members[0]
            source = f"{run.data.source}{' (partial)' if run.data.partial else ''}" if run.data else DASH
            given = spelled(run.settings.budget), spelled(run.settings.changes)
            groups[(*row.where().values(), *given, source)] += members
    names = ("scale", "paper", "variant", "budget", "overrides", "data")
    lines = [
        dict(zip(names, key, strict=True))
        | {"rows": _rows(members), "runs": str(len(members)), "dev looks per run": _span(members)}
        for key, members in groups.items()
    ]
    return Table.of(lines, (*names, "rows", "runs", "dev looks per run"), ("runs", "dev looks per run"))


def _rows(runs: Iterable[Run]) -> str:
    """`cola: train 8,551, validation 1,043; rte: ...`"""
    found = {run.task: run.data.rows for run in runs if run.data}
    parts = {task: ", ".join(f"{split} {n:,}" for split, n in sorted(rows.items())) for task, rows in found.items()}
    return "; ".join(f"{task}: {text}" for task, text in sorted(parts.items())) or DASH


def _span(runs: Iterable[Run]) -> str:
    looks = sorted({run.dev_looks for run in runs})
    return str(looks[0]) if len(looks) == 1 else f"{looks[0]}-{looks[-1]}"


def _degenerate(rows: Sequence[Row]) -> list[Block]:
    """Every suspect run, and each affected score and average without and with them; nothing is dropped."""
    runs: list[Mapping[str, Cell]] = []
    pairs: list[Mapping[str, Cell]] = []
    for row in rows:
        for task in sorted(row.suite.series):
            scores = row.book.primary(row.suite, (task,)) if task != SHAPE else None
            if scores is None or not scores.average().degenerate:
                continue
            runs += [row.where() | {"task": task, "seed": str(score.seed), "score": percent(score.value),
                                    "why it is suspect": score.degenerate, "record": score.run.id}
                     for score in scores.scores[0] if score.degenerate]  # fmt: skip
            pairs.append(_pair(row, f"{task} {scores.entries[0].metrics[0]}", scores.average(), scores))
        if row.glue and len(row.glue.entries) > 1 and row.glue.average().degenerate:
            pairs.append(_pair(row, "GLUE score", row.glue.average(), row.glue))
            kept = row.glue.retention()
            pairs += [_pair(row, "retention (%)", kept, row.glue)] if kept else []
    if not runs:
        return [
            Note("No run looks degenerate (constant predictions, an undefined metric, the majority class's score).")
        ]
    words = (
        "Without them, and with all of them counted by a trimmed mean (an undefined score counts as 0). The other "
        "tables show the first."
    )
    return [Table.of(runs, (), ("seed", "score")), Note(words), Table.of(pairs)]


def _pair(row: Row, name: str, summary: Summary, scores: Scores) -> Mapping[str, Cell]:
    total = sum(len(one) for one in scores.scores)
    return row.where() | {
        "score": name,
        "without": interval(summary.trained, factor=100),
        "with": interval(summary.every, factor=100),
        "runs": f"{total - summary.degenerate} / {total}",
    }


def _failed(index: SeriesIndex) -> Block:
    """Every failed run with its reason."""
    rows = [{"scale": run.scale, "paper": run.paper, "variant": run.variant, "task": run.task, "seed": str(run.seed),
             "reason": run.reason or "none given", "record": run.id}
            for key in index.keys for run in index.failed(key)]  # fmt: skip
    return Table.of(rows, (), ("seed",)) if rows else Note("No run failed.")


def _beside(rows: Sequence[Row]) -> Block:
    """Runs on disk that the numbers do not come from, and why."""
    lines = []
    for row in (row for row in rows if row.scale != SHAPE):
        repeated = [run for found in row.suite.series.values() for series in found for run in series.repeated]
        aside = [run for found in row.suite.series.values() for series in found[1:] for run in series.runs.values()]
        for runs, why in (
            (repeated, "a newer run of the same task, seed and settings exists"),
            (aside, "of the same task there is a series with a larger budget, more seeds or newer runs"),
        ):
            if runs:
                lines.append(row.where() | {"runs": str(len(runs)), "why": why,
                                            "tasks": ", ".join(sorted({run.task for run in runs}))})  # fmt: skip
    return Table.of(lines, (), ("runs",)) if lines else Note("None: every run that ended well stands behind a number.")
