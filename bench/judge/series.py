"""Sorts records into groups whose runs may be pooled, so that 20,000 records answer 800 claims within two seconds.

Two runs are seeds of one thing when everything but the seed agrees: tier, settings, data, and the sizes of the model
and of its teacher (a student of another teacher is another thing). Failed runs never enter; of two runs of one seed
the newer one counts. Groups are made only for the variants that some claim names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.core.record import Measurement, Record
from bench.core.spec import digest
from bench.core.stats import mean

TIERS = ("exact", "checkpoint", "reduced", "proxy")
"""From closest to the paper to farthest."""

SCALE_ORDER = ("full", "shape", "small", "smoke")

Key = tuple[str, str]
"""(paper, variant)"""


@dataclass(frozen=True, slots=True)
class Run:
    """A record with its measurements by (metric, split), and those of its teacher."""

    record: Record
    found: Mapping[tuple[str, str], Measurement]
    teacher: Mapping[tuple[str, str], Measurement] | None

    def has_all(self, names: Sequence[tuple[str, str]]) -> bool:
        return all(name in self.found for name in names)

    def mean_score(self, names: Sequence[tuple[str, str]]) -> float:
        """The mean of these (metric, split) scores; an undefined one (constant predictions) counts as 0, as on the
        GLUE server."""
        return _mean([self.found[name].value for name in names])

    def mean_teacher_score(self, names: Sequence[tuple[str, str]], primary: tuple[str, str]) -> float | None:
        """The own teacher's mean: from its record, or else, for the primary score alone, from the link to it."""
        if self.teacher is not None and all(name in self.teacher for name in names):
            return _mean([self.teacher[name].value for name in names])
        link = self.record.teacher
        return link.score if link and tuple(names) == (primary,) else None


def _mean(values: Sequence[float | None]) -> float:
    return (values[0] or 0.0) if len(values) == 1 else mean([value or 0.0 for value in values])


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one variant on one task that differ in the seed only."""

    tier: str
    scale: str
    made_up: bool
    session: str
    """What runs on other tasks must share to enter an average with these: settings, source, sizes."""
    camp: str
    """The session without the model's own size: what whole variants must share to be ordered."""
    bout: str
    """What runs of other variants on this task must share to be ordered against these: same budget, same rows."""
    runs: Mapping[int, Run] = field(repr=False)
    newest: str
    whole: bool
    """Whether every row of the scored splits was scored."""

    @property
    def rank(self) -> tuple[int, int, bool, bool, int, str]:
        """Larger is better evidence: tier, scale, two seeds or more, all rows scored, seeds, newest."""
        seeds = len(self.runs)
        return -TIERS.index(self.tier), -SCALE_ORDER.index(self.scale), seeds > 1, self.whole, seeds, self.newest


ROW_LIMITS = ("limit", "dev_limit")
"""Parts of a budget that are a matter of one task: they part neither sessions nor camps."""


def scored_whole(record: Record) -> bool:
    """Whether no limit of the user's cut the scored splits."""
    return (record.hyper.get("budget") or {}).get("dev_limit") is None


def made_up(record: Record) -> bool:
    """Whether the run's data is synthetic: its scores say nothing about the paper's."""
    return record.spec.scale == "smoke" or (record.data is not None and record.data.source.startswith("synthetic"))


def _measured(record: Record) -> dict[tuple[str, str], Measurement]:
    return {(entry.metric, entry.split): entry for entry in record.measurements}


class Evidence:
    """The records, looked up by what claims ask for."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records: dict[Key, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
        self._by_id: dict[str, Record] = {}
        for record in records:
            self._by_id[record.id] = record
            if record.status == "ok":
                self._records[record.spec.paper, record.spec.variant][record.spec.task].append(record)
        self._groups: dict[tuple[Key, str], list[Group]] = {}
        self._measured: dict[str, dict[tuple[str, str], Measurement]] = {}
        self._holding: dict[tuple[Key, tuple[str, str]], list[Run]] = {}
        self._sizes: dict[float, float] = {}

    def groups(self, key: Key, task: str) -> list[Group]:
        """The groups of a variant on a task, the best evidence first."""
        if (key, task) not in self._groups:
            self._groups[key, task] = self._group(self._records.get(key, {}).get(task, []))
        return self._groups[key, task]

    def tasks(self, key: Key) -> list[str]:
        return sorted(self._records.get(key, {}))

    def holding(self, key: Key, metric: str, split: str) -> list[Run]:
        """Every run of a variant, whatever its task, that has a measurement with a value."""
        name = metric, split
        if (key, name) not in self._holding:
            every = (self._run(record) for records in self._records.get(key, {}).values() for record in records)
            self._holding[key, name] = [run for run in every if _value(run.found, metric, split) is not None]
        return self._holding[key, name]

    def _run(self, record: Record) -> Run:
        teacher = self._by_id.get(record.teacher.record) if record.teacher else None
        return Run(record, self._of(record), None if teacher is None else self._of(teacher))

    def _of(self, record: Record) -> dict[tuple[str, str], Measurement]:
        if record.id not in self._measured:
            self._measured[record.id] = _measured(record)
        return self._measured[record.id]

    def _group(self, records: list[Record]) -> list[Group]:
        seeds: dict[tuple[str, str, str, str], dict[int, Run]] = defaultdict(dict)
        newest: dict[tuple[str, str, str, str], Record] = {}
        for record in sorted(records, key=lambda record: (record.started, record.id)):
            run = self._run(record)
            name = self._names(run)
            seeds[name][record.spec.seed] = run
            newest[name] = record
        groups = [
            Group(
                tier=newest[name].tier, scale=newest[name].spec.scale, made_up=made_up(newest[name]),
                session=name[1], camp=name[2], bout=name[3], runs=runs,
                newest=f"{newest[name].started} {newest[name].id}", whole=scored_whole(newest[name]),
            )
            for name, runs in seeds.items()
        ]  # fmt: skip
        return sorted(groups, key=lambda group: group.rank, reverse=True)

    def _names(self, run: Run) -> tuple[str, str, str, str]:
        """Keys of everything but the seed, of the session, of the camp and of the bout."""
        record = run.record
        data = record.data
        taught = self._size(_value(run.teacher or {}, "parameters", "all"))
        size = self._size(_value(run.found, "parameters", "all"))
        budget = record.hyper.get("budget") or {}
        wider = {name: value for name, value in budget.items() if name not in ROW_LIMITS}
        camp = digest([record.spec.scale, wider, record.changes, data and data.origin, taught])
        rows = data and [data.source, data.revision, data.sha256, data.rows, data.partial]
        bout = digest([camp, record.tier, budget, rows])
        session = f"{camp} {size}"
        return f"{session} {bout} {digest(record.hyper)}", session, camp, bout

    def _size(self, parameters: float | None) -> float | None:
        """The size class of a model: heads differ by task, so sizes within 1% of the next one are one class."""
        if parameters is None:
            return None
        if not self._sizes:
            every = (record.value("parameters", "all") for record in self._by_id.values())
            smallest = last = 0.0
            for value in sorted({value for value in every if value is not None}):
                smallest = value if value > 1.01 * last else smallest
                self._sizes[value] = smallest
                last = value
        return self._sizes[parameters]


def _value(found: Mapping[tuple[str, str], Measurement], metric: str, split: str) -> float | None:
    entry = found.get((metric, split))
    return None if entry is None else entry.value
