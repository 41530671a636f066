"""reports/table.md: every suite of runs, what it keeps of its teacher, and what it costs on each machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bench.core.stats import Estimate
from bench.judge.rules import Judged, counts
from bench.judge.runs import SHAPE
from bench.judge.scores import Scores
from bench.judge.standing import SCALE_ORDER
from bench.report import curves
from bench.report.numbers import DASH, interval, millions, show, significant
from bench.report.page import DITTO, Block, Bullets, Cell, Link, Note, Page, Section, Table
from bench.report.rows import BATCHES, INT8, ONE, Row

RIGHT = ("params (M)", "teacher (M)", "MB on disk", "GFLOPs", "seeds")

FINE_PRINT = (
    "Scores are in percent, on the splits named in the task lists. The GLUE score is the plain mean of the listed "
    "tasks, each the mean over seeds. Never compare scores over different task lists (the letters).",
    "Retention is the score over that of our own fine-tuned teacher on the same tasks and seeds, paired by seed; tasks "
    "on which either guesses are left out, and the number of the others stands in brackets. "
    "Scores and retention leave out seeds that look degenerate; † marks them, and the budgets page shows both numbers.",
    "Intervals are 95%. Of scores and retention they are t intervals over the seeds' averages; where tasks have "
    "different seeds, the tasks count as independent samples. Of speed-ups they are taken on the logs, over runs or "
    "over the timings of one session, and widened by the session's noise floor. Where none is shown there are too few "
    "values.",
    "Speed-up is over the run's own teacher in the same session, rounds interleaved, tokenisation excluded, at length "
    '128. Times of different machines are never pooled: a further machine has a further row, where " repeats the row '
    "above. A full session speaks before a quick one.",
    "Params, MB and GFLOPs (one example of length 128, 2 per multiply-add) are of the artefact that was scored. "
    "Training seconds are the median over runs of the whole chain of stages, shared stages included.",
    "Packed is the same model as a file of packed bits; int8 is that file on 8-bit kernels, whose own score is on the "
    "paper's page. Where a model rounds its weights to few bits, the first speed-up is of that rounding as it is "
    "simulated in floats, which nobody deploys.",
    "Runs under other budgets, other --set changes, another teacher or another size of model stand in rows of their "
    "own, the largest budget on top. Limits on rows and passes may differ from task to task within a row.",
    "‡ marks an architecture that its paper does not give: size, FLOPs and speed are of our stand-in: no claim "
    "on size or FLOPs is judged by them, and a speed can show a claim but not refute it.",
    "Scale small is of smaller models or data than the paper's: no small row is a model to deploy. Scale shape has the "
    "paper's sizes with random weights: sizes and speed only.",
)  # fmt: skip


def page(rows: Sequence[Row], judged: Sequence[Judged], launches: Section | None = None) -> Page:
    """The page; `launches` is what `bench.report.launches` has to say."""
    blocks: list[Block] = [Note(("Every variant that ran, measured by the same code as its teacher. Back to ",
                                 Link("the first screen", "README.md"), "."))]  # fmt: skip
    if not rows:
        return Page("table.md", "Every row", (*blocks, Note("No records yet: nothing was run.")))
    letters = _letters(rows)
    lines = _lines(rows, letters, _attributed(rows, judged))
    for scale in sorted({row.scale for row in rows}, key=SCALE_ORDER.index):
        own = [line for line in lines if line["scale"] == scale]
        blocks.append(_physical(scale, own))
        blocks += _scored(scale, own)
    if letters:
        lists = Bullets(tuple(f"{letter}: {', '.join(tasks)}" for tasks, letter in letters.items()))
        blocks.append(Section("Task lists", (lists,)))
    swept = curves.sweep(rows)
    if swept is not None:
        told = Note("How the speed-ups change with the batch size, at paper size with random weights.")
        blocks.append(Section("Speed over batch sizes", (told, swept)))
    if launches is not None:
        blocks.append(launches)
    blocks.append(Section("Fine print", (Bullets(FINE_PRINT),)))
    return Page("table.md", "Every row", tuple(blocks), (Table.of(lines, _WHOLE, RIGHT, name="table"),))


_WHERE = ("paper", "variant")
PHYSICAL = ("params (M)", "MB on disk", "GFLOPs", "speed-up, batch 1", "speed-up, batch 32", "machine",
             "training, s per run")  # fmt: skip
SCORED = ("GLUE score", "retention (%)", "teacher (M)", "tasks", "seeds", "tier")
_WHOLE = (*_WHERE, "scale", *PHYSICAL, *SCORED, "verdicts")
"""The columns of the CSV and LaTeX files; the page shows them in tables that fit a screen."""

_TITLES = {"shape": "paper size, random weights", "full": "paper size, trained", "small": "small runs",
           "smoke": "made-up data"}  # fmt: skip


def _physical(scale: str, lines: Sequence[Mapping[str, Cell]]) -> Section:
    columns = [column for column in PHYSICAL if any(line[column] != DASH for line in lines)]
    return Section(f"Size and speed: {_TITLES[scale]}", (Table.of(lines, (*_WHERE, *columns), RIGHT),))


def _scored(scale: str, lines: Sequence[Mapping[str, Cell]]) -> list[Section]:
    own = [line for line in lines if line["GLUE score"] not in (DASH, DITTO)]
    return [Section(f"Scores: {_TITLES[scale]}", (Table.of(own, (*_WHERE, *SCORED), RIGHT),))] if own else []


def _tasks(row: Row) -> tuple[str, ...]:
    return tuple(f"{e.task} ({e.metrics[0]}, {e.splits[0]})" for e in (row.glue.entries if row.glue else ()))


def _letters(rows: Sequence[Row]) -> dict[tuple[str, ...], str]:
    """Task list -> the letter that stands for it."""
    lists = dict.fromkeys(tasks for row in rows if (tasks := _tasks(row)))
    return {tasks: _letter(place) for place, tasks in enumerate(lists)}


def _lines(
    rows: Sequence[Row], letters: Mapping[tuple[str, ...], str], verdicts: Mapping[Row, Mapping[str, int]]
) -> list[dict[str, Cell]]:
    """A line per row and machine; where the machine alone differs, dittos repeat the line above."""
    lines: list[dict[str, Cell]] = []
    for row in rows:
        shared = _quality(row, letters.get(_tasks(row), ""))
        machines = row.suite.machines()
        by_arithmetic = row.scale == SHAPE and not any(run.timed for run in row.suite.runs)
        for place, machine in enumerate(machines[:1] if by_arithmetic else machines):
            fixed = shared if place == 0 else dict.fromkeys(shared, DITTO)
            names = row.where() | {"variant": row.label + " ‡" * row.guessed}
            told = DITTO if place else _counts(verdicts.get(row, {}))
            lines.append(names | fixed | _times(row, machine) | {"verdicts": told})
    return lines


def _letter(place: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    return ("" if place < 26 else _letter(place // 26 - 1)) + chr(ord("a") + place % 26)


def _quality(row: Row, letter: str) -> dict[str, Cell]:
    flops = row.typical("flops", ONE)
    return {
        "params (M)": millions(row.typical("parameters", "all")),
        "MB on disk": _megabytes(row),
        "GFLOPs": show(flops and flops / 1e9, 2),
        "GLUE score": score(row.glue),
        "retention (%)": retention(row),
        "teacher (M)": millions(row.teacher_size),
        "tasks": f"{len(row.glue.entries)}: {letter}" if row.glue else DASH,
        "seeds": _seeds(row),
        "tier": ", ".join(sorted({run.tier for run in row.suite.runs})) or DASH,
    }


def score(scores: Scores | None) -> str:
    """The mean of the tasks in percent with its interval; † where a seed looks degenerate."""
    if scores is None:
        return DASH
    summary = scores.average()
    return interval(summary.estimate, factor=100) + (" †" if summary.degenerate else "")


def retention(row: Row) -> str:
    """The share of the own teachers' score in percent; the number of tasks, where some are left out as guesses."""
    if row.is_baseline:
        return "reference"
    found = row.telling.kept() if row.telling else None
    if found is None or row.telling is None or row.glue is None:
        return DASH
    fewer = f" ({len(row.telling.entries)})" if len(row.telling.entries) < len(row.glue.entries) else ""
    return interval(found, factor=100) + fewer


def _megabytes(row: Row) -> str:
    """What lies on a disk; a size that is only computed says so."""
    packed = row.typical("size_bytes", "packed")
    if row.size_bytes is None and packed is not None:
        return f"({packed / 1e6:.1f} by arithmetic)"
    shown = show(row.size_bytes and row.size_bytes / 1e6, 1)
    file = row.typical("size_bytes", "packed-file")
    if file is None and packed is not None and not row.reference:
        return f"{shown}; packed {packed / 1e6:.1f} by arithmetic"
    return shown if file is None else f"{shown}; packed {show(file / 1e6, 1)}"


def _seeds(row: Row) -> str:
    """How many seeds each task has: `5`, or `3-5` where tasks differ."""
    numbers = [len(series.runs) for series in row.suite.best.values()]
    low, high = min(numbers, default=0), max(numbers, default=0)
    return str(low) if low == high else f"{low}-{high}"


def _times(row: Row, machine: str) -> dict[str, Cell]:
    cost = row.training_seconds(machine)
    paid = DASH
    if cost:
        seconds, runs = cost
        paid = f"{show(seconds, 0 if seconds >= 100 else 1)} ({runs} run{'s' if runs > 1 else ''})"
    first, second = (speed(row, machine, batch) for batch in BATCHES)
    kernels = row.speedup(machine, INT8)
    if kernels:
        first = f"{'' if first == DASH else f'{first}; '}int8 {times(kernels)}"
    return {
        "speed-up, batch 1": first,
        "speed-up, batch 32": second,
        "machine": machine,
        "training, s per run": paid,
    }


def speed(row: Row, machine: str, split: str) -> str:
    """`1.93x [1.90, 1.96]`; the reference, which is compared with nothing, is 1 by definition."""
    found = row.speedup(machine, split)
    return times(found) if found else "1 (reference)" if row.is_baseline else DASH


def times(found: Estimate) -> str:
    """`1.93x [1.90, 1.96]`; beyond a hundred decimals tell nothing, nor does an interval of runs that lie far apart."""
    bounds = found.interval()
    if bounds and bounds[1] > UNEVEN * bounds[0]:
        return f"{significant(found.value)}x ({found.n} runs, too far apart for an interval)"
    return interval(found, 2 if found.value < 100 else 0, "x")


UNEVEN = 10
"""An interval of a speed-up whose ends are so many times apart tells nothing but that the runs do not agree."""


def _counts(numbers: Mapping[str, int]) -> str:
    """`3 reproduced, 1 not run`."""
    return ", ".join(f"{number} {name}" for name, number in numbers.items() if number) or DASH


def _attributed(rows: Sequence[Row], judged: Sequence[Judged]) -> dict[Row, dict[str, int]]:
    """Verdict counts per row: a claim goes to the row whose runs judged it, else to its variant's first row."""
    home = {run.id: row for row in rows for found in row.suite.series.values() for series in found
            for run in (*series.repeated, *series.runs.values())}  # fmt: skip
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault((row.paper, row.suite.variant), row)
    owned: dict[Row, list[Judged]] = {}
    for entry in judged:
        claim = entry.claim
        behind = Counter(home[name] for name in entry.records if name in home)
        own = [row for row in behind if (row.paper, row.suite.variant) == (claim.maker, claim.variant)]
        found = own or list(behind)
        row = found[0] if found else first.get((claim.maker, claim.variant))
        if row is not None:
            owned.setdefault(row, []).append(entry)
    return {row: counts(entries) for row, entries in owned.items()}
