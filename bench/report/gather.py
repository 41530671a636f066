"""Sorts records into what the tables need: one `Model` per scale, paper, variant and session, scored task by task.

Scores are pooled over machines, times never: they stay keyed by machine. Nothing is dropped silently: runs that
failed, were repeated or ran under other settings are kept beside the ones that the table shows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.claims.units import TASK_METRICS
from bench.core.record import Measurement, Record
from bench.core.spec import RECORD_SCALES
from bench.core.stats import median
from bench.judge.series import ROW_LIMITS, scored_whole
from bench.report.numbers import Interval, geometric

QUALITY = ("accuracy", "f1", "matthews", "pearson", "spearman", "exact_match")
GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
"""The nine tasks that a GLUE average may hold, in the benchmark's order."""

BATCHES = ("batch1-length128", "batch32-length128")
"""The two conditions of the main table."""


MEASURED_ONLY = "shape"
"""The scale whose records hold no training: all sessions of a variant stand in one row, the newest measurement of a
condition on a machine counts."""

TIMED = ("speedup", "latency_s", "teacher_latency_s", "throughput", "training_seconds")
"""Metrics that belong to a machine."""

Measured = Mapping[tuple[str, str], Measurement]
"""A record's measurements by (metric, split)."""

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

    @property
    def rows(self) -> int | None:
        """Training rows of these runs, where the records say."""
        data = self.scores[0].record.data
        return data.rows.get("train") if data else None


@dataclass(frozen=True, slots=True)
class Model:
    """One variant at one scale in one session: the runs shown (`used`), and those beside them."""

    scale: str
    paper: str
    variant: str
    session: int
    """Place among the sessions of this variant: 1, 2, ..."""
    label: str
    """The variant, with its session where there are several and what `--set` changed in it."""
    reference: bool
    teacher_parameters: float | None
    used: tuple[Record, ...]
    tasks: Mapping[str, TaskScores]
    failed: tuple[Record, ...]
    repeated: tuple[Record, ...]
    """Earlier runs of a (task, seed, setting) that has a newer one."""
    aside: tuple[Record, ...]
    """Runs under another setting than the one shown."""
    elsewhere: tuple[TaskScores, ...]
    """The scores of those, by task and training rows."""
    found: Mapping[tuple[str, str], tuple[Measurement, ...]] = field(repr=False)
    """Measurements of the runs shown, by (metric, split)."""
    timed: Mapping[tuple[str, str, str], tuple[Measurement, ...]] = field(repr=False)
    """Those that are times or made of times, by (metric, split, machine): never pooled over machines."""

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
            for entry in entries
            if entry.value is not None
        ]
        return median(values) if values else None

    @property
    def size_bytes(self) -> float | None:
        """Bytes of the weight files that were scored or timed."""
        return self.typical("size_bytes", "artefact")

    def machines(self) -> list[str]:
        """The machines on which this model was timed, or else ran; sorted."""
        timed = {machine for metric, _, machine in self.timed if metric in ("speedup", "latency_s")}
        return sorted(timed or {machine_of(record) for record in self.used})

    def times(self, metric: str, split: str, machine: str) -> list[float]:
        """The values of a timed metric on one machine, one per run."""
        return [entry.value for entry in self.timed.get((metric, split, machine), ()) if entry.value is not None]

    def speedup(self, machine: str, split: str) -> Interval | None:
        """Speed-up over the teacher on one machine: over runs, or over the rounds of the only run."""
        values = [value for value in self.times("speedup", split, machine) if value > 0]
        if len(values) == 1:
            samples = [value for value in self.timed["speedup", split, machine][0].samples if value > 0]
            rounds = geometric(samples) if len(samples) > 1 else None
            if rounds and rounds.low is not None and rounds.low <= values[0] <= (rounds.high or 0.0):
                return Interval(values[0], rounds.low, rounds.high, 1)
        return geometric(values) if values else None

    def training_seconds(self, machine: str) -> tuple[float, int] | None:
        """(median seconds of a run, runs) on one machine."""
        values = self.times("training_seconds", "all", machine)
        return (median(values), len(values)) if values else None

    def glue_tasks(self) -> list[str]:
        return [task for task in GLUE if task in self.tasks]


def machine_of(record: Record) -> str:
    """The machine that a time belongs to; its key holds the threads. A GPU machine run on its CPU is another."""
    key = str(record.environment.get("machine", "unknown"))
    idle_gpu = record.environment.get("gpus") and record.environment.get("device") == "cpu"
    return f"{key}-on-cpu" if idle_gpu else key


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
    measured = {record.id: {(entry.metric, entry.split): entry for entry in record.measurements} for record in ran}
    sizes = (measured[record.id].get(("parameters", "all")) for record in ran)
    own = [entry.value if entry else None for entry in sizes]
    teachers = [_teacher_parameters(record, by_id) for record in ran]
    classes, taught = _size_classes(own), _size_classes(teachers)
    groups: dict[Hashable, list[Record]] = defaultdict(list)
    above: dict[Hashable, float | None] = {}
    for record, size, teacher in zip(ran, own, teachers, strict=True):
        budget = {key: value for key, value in (record.hyper.get("budget") or {}).items() if key not in ROW_LIMITS}
        origin = record.data and record.data.origin
        given = repr((sorted(budget.items()), sorted(record.changes.items())))
        key = (given, origin, classes.get(size), taught.get(teacher))
        key = None if name[0] == MEASURED_ONLY else key
        groups[key].append(record)
        above.setdefault(key, teacher)
    ordered = sorted(groups, key=lambda key: (-len({r.spec.task for r in groups[key]}), -len(groups[key]),
                                              groups[key][0].started, groups[key][0].id))  # fmt: skip
    if not ordered:
        return [_model((*name, 1), name[2], [], failed, reference, None, {}, by_id)]
    return [
        _model((*name, place), _label(name[2], place, len(ordered), groups[key]), groups[key],
               failed if place == 1 else [], reference, above[key], measured, by_id)
        for place, key in enumerate(ordered, 1)
    ]  # fmt: skip


def _label(variant: str, place: int, sessions: int, members: Sequence[Record]) -> str:
    """The variant, its session where there are several, and what `--set` changed in it."""
    number = f" #{place}" if sessions > 1 else ""
    changed = ", ".join(f"{path}={text}" for path, text in sorted(members[0].changes.items()))
    return f"{variant}{number} ({changed})" if changed and members[0].spec.scale != MEASURED_ONLY else variant + number


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


def setting(record: Record) -> Hashable:
    """What must agree for two runs to be seeds of one thing: hyper-parameters, overrides and data."""
    # Not a hash of JSON: twenty thousand of those take a second, and a key only lives for one report.
    if record.spec.scale == MEASURED_ONLY:
        return None
    data = record.data
    used = data and (data.source, data.revision, data.sha256, tuple(sorted(data.rows.items())))
    return repr(record.hyper), repr(sorted(record.changes.items())), used


def _standing(runs: list[Record]) -> tuple[bool, bool, int, str, str]:
    """Larger is shown: two seeds or more, all rows scored, seeds, newest."""
    seeds = len({record.spec.seed for record in runs})
    return seeds > 1, scored_whole(runs[0]), seeds, runs[-1].started, runs[-1].id


def _model(
    name: Name,
    label: str,
    ran: list[Record],
    failed: list[Record],
    reference: bool,
    teacher_parameters: float | None,
    measured: Mapping[str, Measured],
    by_id: Mapping[str, Record],
) -> Model:
    """A session as a model: of each task the setting of best standing, of each seed the newest run."""
    by_task: dict[str, dict[Hashable, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in ran:
        by_task[record.spec.task][setting(record)].append(record)
    used: list[Record] = []
    repeated: list[Record] = []
    aside: list[Record] = []
    elsewhere: list[TaskScores] = []
    for _, settings in sorted(by_task.items()):
        shown = max(settings.values(), key=_standing)
        newest = {_place(record): record for record in shown}
        used += [newest[place] for place in sorted(newest)]
        repeated += [record for record in shown if newest[_place(record)] is not record]
        for members in settings.values():
            if members is not shown:
                aside += members
                latest = sorted({record.spec.seed: record for record in members}.values(), key=lambda r: r.spec.seed)
                elsewhere += _scores(latest, measured, by_id).values()
    found, timed = _pooled(used, measured)
    return Model(
        *name,
        label=label,
        reference=reference,
        teacher_parameters=teacher_parameters,
        used=tuple(used),
        tasks=_scores(used, measured, by_id),
        failed=tuple(failed),
        repeated=tuple(repeated),
        aside=tuple(sorted(aside, key=lambda r: (r.started, r.id))),
        elsewhere=tuple(sorted(elsewhere, key=lambda s: (s.task, s.rows or 0, s.scores[0].record.id))),
        found=found,
        timed=timed,
    )


def _place(record: Record) -> tuple[int, str]:
    """What one run counts for: a seed; or, of what is only measured, itself."""
    return record.spec.seed, record.id if record.spec.scale == MEASURED_ONLY else ""


def _pooled(
    used: Sequence[Record], measured: Mapping[str, Measured]
) -> tuple[dict[tuple[str, str], tuple[Measurement, ...]], dict[tuple[str, str, str], tuple[Measurement, ...]]]:
    """The measurements of the runs by (metric, split), and the times among them by machine, too."""
    found: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    timed: dict[tuple[str, str, str], list[Measurement]] = defaultdict(list)
    for record in used:
        machine = machine_of(record)
        for key, entry in measured[record.id].items():
            at = key[0], key[1], machine
            if record.spec.scale == MEASURED_ONLY:  # the newest is the last
                found[key], timed[at] = [entry], []
            else:
                found[key].append(entry)
            if key[0] in TIMED:
                timed[at].append(entry)
    return (
        {key: tuple(entries) for key, entries in sorted(found.items())},
        {key: tuple(entries) for key, entries in sorted(timed.items()) if entries},
    )


def _scores(used: list[Record], measured: Mapping[str, Measured], by_id: Mapping[str, Record]) -> dict[str, TaskScores]:
    """The primary score of each task: on the first split, by name, that has it."""
    by_task: dict[str, list[tuple[Record, Measured]]] = defaultdict(list)
    for record in used:
        by_task[record.spec.task].append((record, measured[record.id]))
    tasks: dict[str, TaskScores] = {}
    for task, runs in by_task.items():
        quality = dict.fromkeys(key for _, entries in runs for key in entries if key[0] in QUALITY)
        metric = TASK_METRICS[task][0] if task in TASK_METRICS else next((name for name, _ in quality), "")
        splits = sorted(split for name, split in quality if name == metric and split != "train")
        if splits:
            key = metric, splits[0]
            scores = [_score(record, entries, key, by_id) for record, entries in runs if key in entries]
            tasks[task] = TaskScores(task, splits[0], metric, tuple(scores))
    return tasks


def _score(record: Record, entries: Measured, key: tuple[str, str], by_id: Mapping[str, Record]) -> Score:
    teacher = record.teacher.score if record.teacher else None
    if record.teacher and teacher is None and record.teacher.record in by_id:
        teacher = by_id[record.teacher.record].value(*key)
    values = {name: entries[name, key[1]].value for name in (*QUALITY, "majority") if (name, key[1]) in entries}
    return Score(record.spec.seed, entries[key].value, teacher, degenerate(values), record)


def degenerate(values: Mapping[str, float | None]) -> str:
    """Why the predictions on a split look constant, from its measurements by metric; empty when they do not.

    `majority`, where it was measured, is the accuracy of always predicting the commonest class.
    """
    undefined = sorted(name for name, value in values.items() if value is None and name in QUALITY)
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
