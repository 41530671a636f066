"""Sorts records into what the tables need: one `Model` per scale, paper, variant and session, scored task by task.

Scores are pooled over machines, times never: they stay keyed by machine. Nothing is dropped silently: runs that
failed, were repeated or ran under other settings are kept beside the ones that the table shows.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.core.record import Measurement, Record
from bench.core.spec import RECORD_SCALES, digest
from bench.core.stats import mean, median
from bench.core.units import TASK_METRICS
from bench.report.numbers import Interval, geometric, half_of_means

QUALITY = ("accuracy", "f1", "matthews", "pearson", "spearman", "exact_match")
GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
"""The nine tasks that a GLUE average may hold, in the benchmark's order."""

BATCHES = ("batch1-length128", "batch32-length128")
"""The two conditions of the main table."""


Name = tuple[str, str, str, int]
"""(scale, paper, variant, session)"""


@dataclass(frozen=True, slots=True)
class Score:
    """One seed's score on one task; `degenerate` says why the run is suspect, or is empty."""

    seed: int
    value: float | None
    teacher: float | None
    degenerate: str
    record: Record

    @property
    def counted(self) -> float:
        """What enters an average: an undefined score counts as 0, as on the GLUE server."""
        return 0.0 if self.value is None else self.value


@dataclass(frozen=True, slots=True)
class TaskScores:
    """All seeds of one task under one setting, ordered by seed; `split` and `metric` name the primary score."""

    task: str
    split: str
    metric: str
    scores: tuple[Score, ...]

    def without_degenerate(self) -> list[Score]:
        return [score for score in self.scores if not score.degenerate]


@dataclass(frozen=True, slots=True)
class Model:
    """One variant at one scale in one session: the runs shown (`used`), and those beside them."""

    scale: str
    paper: str
    variant: str
    session: int
    """Place among the sessions of this variant: 1, 2, ..."""
    label: str
    """The variant, with its session where there are several."""
    reference: bool
    teacher_parameters: float | None
    used: tuple[Record, ...]
    tasks: Mapping[str, TaskScores]
    failed: tuple[Record, ...]
    repeated: tuple[Record, ...]
    """Earlier runs of a (task, seed, setting) that has a newer one."""
    aside: tuple[Record, ...]
    """Runs under another setting than the one shown."""
    found: Mapping[tuple[str, str], tuple[tuple[Record, Measurement], ...]] = field(repr=False)

    @property
    def name(self) -> Name:
        return self.scale, self.paper, self.variant, self.session

    def where(self) -> dict[str, str]:
        """The first cells of a table row about this model."""
        return {"scale": self.scale, "paper": self.paper, "variant": self.label}

    def typical(self, metric: str, split: str | None = None) -> float | None:
        """The median over runs of a measurement that hardly varies (size, parameters, FLOPs)."""
        values = [
            entry.value
            for (name, where), entries in self.found.items()
            if name == metric and split in (None, where)
            for _, entry in entries
            if entry.value is not None
        ]
        return median(values) if values else None

    def machines(self) -> list[str]:
        """The machines on which this model was timed, or else ran; sorted."""
        timed = {
            machine_of(record)
            for (metric, _), entries in self.found.items()
            if metric in ("speedup", "latency_s")
            for record, _ in entries
        }
        return sorted(timed or {machine_of(record) for record in self.used})

    def speedup(self, machine: str, split: str) -> Interval | None:
        """Speed-up over the teacher on one machine: over runs, or over the rounds of the only run."""
        entries = [(r, m) for r, m in self.found.get(("speedup", split), ()) if machine_of(r) == machine]
        values = [m.value for _, m in entries if m.value is not None and m.value > 0]
        if len(values) == 1:
            samples = [value for value in entries[0][1].samples if value > 0]
            rounds = geometric(samples) if len(samples) > 1 else None
            if rounds and rounds.low is not None and rounds.low <= values[0] <= (rounds.high or 0.0):
                return Interval(values[0], rounds.low, rounds.high, 1)
        return geometric(values) if values else None

    def training_seconds(self, machine: str) -> tuple[float, float, int] | None:
        """(median seconds of a run, sum over the runs, runs) on one machine."""
        values = [
            entry.value
            for record, entry in self.found.get(("training_seconds", "all"), ())
            if machine_of(record) == machine and entry.value is not None
        ]
        return (median(values), sum(values), len(values)) if values else None

    def glue_tasks(self) -> list[str]:
        return [task for task in GLUE if task in self.tasks]


def machine_of(record: Record) -> str:
    """The machine that a time belongs to; its key holds the threads. A GPU machine run on its CPU is another."""
    key = str(record.environment.get("machine", "unknown"))
    idle_gpu = record.environment.get("gpus") and record.environment.get("device") == "cpu"
    return f"{key}-on-cpu" if idle_gpu else key


def averages(model: Model, keep: Callable[[Score], bool] = lambda score: True) -> tuple[Interval, Interval] | None:
    """(GLUE score, retention) over the model's GLUE tasks; every score kept counts, also of seeds that miss a task.

    The score is the mean over tasks of the mean over seeds. Retention divides it by the same mean of the runs' own
    teachers, and is nan where a run has none. Where all tasks have the same seeds, the intervals are t intervals over
    the seeds' averages; else the tasks count as independent samples, and retention's is linearised (delta method).
    """
    tasks = [[score for score in model.tasks[task].scores if keep(score)] for task in model.glue_tasks()]
    if not tasks or not all(tasks):
        return None
    seeds = {tuple(score.seed for score in scores) for scores in tasks}
    alike = len(seeds) == 1
    own = [[score.counted for score in scores] for scores in tasks]
    value = mean([mean(values) for values in own])
    number = min(len(values) for values in own)
    score = Interval.of(_averages(own)) if alike else _around(value, half_of_means(own), number)
    known = [[score.teacher for score in scores if score.teacher is not None] for scores in tasks]
    if [len(values) for values in known] != [len(values) for values in own]:
        return score, Interval(math.nan, None, None, 0)
    teacher = mean([mean(values) for values in known])
    if teacher <= 0:
        return score, Interval(math.nan, None, None, 0)
    kept = value / teacher
    if alike:
        below = _averages(known)
        ratios = [a / b for a, b in zip(_averages(own), below, strict=True)] if min(below) > 0 else [kept]
        return score, Interval.of(ratios)
    pairs = zip(own, known, strict=True)
    rest = [[(a - kept * b) / teacher for a, b in zip(mine, theirs, strict=True)] for mine, theirs in pairs]
    return score, _around(kept, half_of_means(rest), number)


def _averages(tasks: list[list[float]]) -> list[float]:
    """The average over tasks of each seed."""
    return [mean(values) for values in zip(*tasks, strict=True)]


def _around(value: float, half: float | None, number: int) -> Interval:
    return Interval(value, None if half is None else value - half, None if half is None else value + half, number)


def gather(records: Iterable[Record], references: set[str]) -> list[Model]:
    """One model per scale, paper, variant and session: by scale, the papers in `references` first, then by name.

    What a session shares: the data's source, overrides, the budgets but the limit on rows (which is a matter of one
    task), and the sizes of the model and its teacher, so that students of two teachers never stand in one row.
    """
    groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    by_id: dict[str, Record] = {}
    for record in records:
        groups[record.spec.scale, record.spec.paper, record.spec.variant].append(record)
        by_id[record.id] = record
    models = [
        model for name, members in groups.items() for model in _sessions(name, members, name[1] in references, by_id)
    ]
    order = {scale: place for place, scale in enumerate(RECORD_SCALES)}
    return sorted(models, key=lambda m: (order[m.scale], not m.reference, m.paper, m.variant, m.session))


def _sessions(
    name: tuple[str, str, str], records: list[Record], reference: bool, by_id: Mapping[str, Record]
) -> list[Model]:
    """The sessions of a variant, the one with the most tasks, then runs, then the oldest, first."""
    ran = sorted((r for r in records if r.status == "ok"), key=lambda r: (r.started, r.id))
    failed = sorted((r for r in records if r.status == "failed"), key=lambda r: (r.started, r.id))
    own = [record.value("parameters", "all") for record in ran]
    teachers = [_teacher_parameters(record, by_id) for record in ran]
    classes, taught = _size_classes(own), _size_classes(teachers)
    groups: dict[str, list[Record]] = defaultdict(list)
    above: dict[str, float | None] = {}
    for record, size, teacher in zip(ran, own, teachers, strict=True):
        budget = {key: value for key, value in (record.hyper.get("budget") or {}).items() if key != "limit"}
        source = record.data and record.data.source
        key = digest([budget, record.overrides, source, classes.get(size), taught.get(teacher)])
        groups[key].append(record)
        above.setdefault(key, teacher)
    ordered = sorted(groups, key=lambda key: (-len({r.spec.task for r in groups[key]}), -len(groups[key]),
                                              groups[key][0].started, groups[key][0].id))  # fmt: skip
    if not ordered:
        return [_model((*name, 1), name[2], [], failed, reference, None, by_id)]
    return [
        _model((*name, place), f"{name[2]} #{place}" if len(ordered) > 1 else name[2], groups[key],
               failed if place == 1 else [], reference, above[key], by_id)
        for place, key in enumerate(ordered, 1)
    ]  # fmt: skip


def _teacher_parameters(record: Record, by_id: Mapping[str, Record]) -> float | None:
    teacher = by_id.get(record.teacher.record) if record.teacher else None
    return teacher.value("parameters", "all") if teacher else None


def _size_classes(sizes: Iterable[float | None]) -> dict[float | None, float]:
    """size -> the smallest one of its class: classifiers differ by task, so steps within 1% are one size."""
    classes: dict[float | None, float] = {}
    smallest = last = 0.0
    for size in sorted({size for size in sizes if size is not None}):
        smallest = size if size > 1.01 * last else smallest
        classes[size] = smallest
        last = size
    return classes


def setting(record: Record) -> str:
    """What must agree for two runs to be seeds of one thing: hyper-parameters, overrides and data."""
    data = record.data
    return digest([record.hyper, record.overrides, data and [data.source, data.revision, data.sha256, data.rows]])


def _model(
    name: Name,
    label: str,
    ran: list[Record],
    failed: list[Record],
    reference: bool,
    teacher_parameters: float | None,
    by_id: Mapping[str, Record],
) -> Model:
    """A session as a model: of each task the setting with the most seeds, of each seed the newest run."""
    by_task: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in ran:
        by_task[record.spec.task][setting(record)].append(record)
    used: list[Record] = []
    repeated: list[Record] = []
    aside: list[Record] = []
    for _, settings in sorted(by_task.items()):
        shown = max(settings.values(), key=lambda rs: (len({r.spec.seed for r in rs}), rs[-1].started, rs[-1].id))
        newest = {record.spec.seed: record for record in shown}
        used += [newest[seed] for seed in sorted(newest)]
        repeated += [record for record in shown if newest[record.spec.seed] is not record]
        aside += [record for members in settings.values() if members is not shown for record in members]
    found: dict[tuple[str, str], list[tuple[Record, Measurement]]] = defaultdict(list)
    for record in used:
        for entry in record.measurements:
            found[entry.metric, entry.split].append((record, entry))
    return Model(
        *name,
        label=label,
        reference=reference,
        teacher_parameters=teacher_parameters,
        used=tuple(used),
        tasks=_scores(used, by_id),
        failed=tuple(failed),
        repeated=tuple(repeated),
        aside=tuple(sorted(aside, key=lambda r: (r.started, r.id))),
        found={key: tuple(entries) for key, entries in sorted(found.items())},
    )


def _scores(used: list[Record], by_id: Mapping[str, Record]) -> dict[str, TaskScores]:
    """The primary score of each task: on the first split, by name, that has it."""
    by_task: dict[str, list[Record]] = defaultdict(list)
    for record in used:
        by_task[record.spec.task].append(record)
    tasks: dict[str, TaskScores] = {}
    for task, records in by_task.items():
        quality = [m for record in records for m in record.measurements if m.metric in QUALITY and m.split != "train"]
        metric = TASK_METRICS[task][0] if task in TASK_METRICS else (quality[0].metric if quality else "")
        splits = sorted({m.split for m in quality if m.metric == metric})
        if splits:
            scores = [_score(record, metric, splits[0], by_id) for record in records]
            tasks[task] = TaskScores(task, splits[0], metric, tuple(score for score in scores if score))
    return tasks


def _score(record: Record, metric: str, split: str, by_id: Mapping[str, Record]) -> Score | None:
    entry = next((m for m in record.measurements if m.metric == metric and m.split == split), None)
    if entry is None:
        return None
    teacher = record.teacher.score if record.teacher else None
    if record.teacher and teacher is None and record.teacher.record in by_id:
        teacher = by_id[record.teacher.record].value(metric, split)
    return Score(record.spec.seed, entry.value, teacher, degenerate(record, split), record)


def degenerate(record: Record, split: str) -> str:
    """Why the predictions on a split look constant, from the measurements alone; empty when they do not."""
    values = {m.metric: m.value for m in record.measurements if m.split == split}
    undefined = sorted(name for name in QUALITY if name in values and values[name] is None)
    if undefined:
        return f"{' and '.join(undefined)} undefined: the predictions are constant"
    if values.get("matthews") == 0.0:
        return "matthews is exactly 0: no better than constant predictions"
    accuracy, f1, majority = values.get("accuracy"), values.get("f1"), values.get("majority")
    if accuracy is not None and majority is not None and accuracy == majority:
        return "accuracy is exactly the majority class's share"
    if f1 == 0.0:
        return "F1 is 0: not one positive found"
    if accuracy and f1 and 0 < accuracy < 1 and abs(f1 - 2 * accuracy / (1 + accuracy)) < 1e-9:
        return "accuracy and F1 are those of predicting the positive class only"
    return ""


def stages(model: Model) -> list[dict[str, Any]]:
    """What each stage cost, per machine: over the runs that did it; a stage taken from the cache cost nothing again."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    steps: dict[tuple[str, str], list[int]] = defaultdict(list)
    cached: Counter[tuple[str, str]] = Counter()
    order: dict[str, int] = {}
    for record in model.used:
        for place, stage in enumerate(record.stages):
            order.setdefault(stage.name, place)
            key = machine_of(record), stage.name
            if stage.cached:
                cached[key] += 1
            else:
                times[key].append(stage.seconds)
                steps[key].append(stage.steps)
    keys = sorted(set(times) | set(cached), key=lambda key: (key[0], order[key[1]], key[1]))
    return [
        {
            "machine": machine,
            "stage": name,
            "runs": len(times[machine, name]),
            "from cache": cached[machine, name],
            "median s": median(times[machine, name]) if times[machine, name] else None,
            "sum s": sum(times[machine, name]),
            "median steps": median([float(n) for n in steps[machine, name]]) if steps[machine, name] else None,
        }
        for machine, name in keys
    ]
