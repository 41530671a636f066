"""What recorded runs say of how long a stage takes, and how much memory: read without torch, for `bench plan`.

A machine's own runs speak first. Of others only proportions count: how one stage compares with all the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.core import store
from bench.core.errors import RecordError
from bench.core.record import Record, StageEntry
from bench.core.spec import SCALES

FINISH = "finish"
"""What follows the stages of a run: scoring and timing."""
SOURCES = ("this run", "this variant", "this paper", "this paper")
"""Whose stage of that name it is that a machine has recorded, for each of `keys`."""
NEWEST = 20
"""So many of the newest runs speak for a stage."""

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordedStage:
    """A stage of a recorded run that was made then, or its finish."""

    machine: str
    scale: str
    paper: str
    variant: str
    task: str
    stage: str
    seconds: float
    peak_bytes: float
    entry: StageEntry | None
    """The stage's entry of the record; None of a finish."""
    record: Record

    @property
    def keys(self) -> tuple[Key, ...]:
        """What it may speak for, the closest first."""
        return keys(self.paper, self.variant, self.task, self.scale, self.stage)


def keys(paper: str, variant: str, task: str, scale: str, stage: str) -> tuple[Key, ...]:
    """The runs that may speak for a stage, the closest first; see SOURCES."""
    return (scale, paper, variant, task, stage), (scale, paper, variant, stage), (scale, paper, stage), (paper, stage)


def folders(results: str) -> list[Path]:
    """Where recorded runs lie: the folder of a request, and the usual one."""
    return [Path(results), Path("results")]


def stamp(folders: Iterable[Path]) -> list[int]:
    """How many records lie there, and when the newest was written: what is said of them holds until that changes."""
    times = [file.stat().st_mtime_ns for file in _files(folders)]
    return [len(times), max(times, default=0)]


def read(folders: Iterable[Path], device: str) -> list[RecordedStage]:
    """The stages of all runs on such a device (`cpu`, `cuda`), the oldest first; what cannot be read says nothing."""
    records: list[Record] = []
    for folder in _places(folders):
        with suppress(RecordError):  # there is none, or nothing but damaged ones, which a warning has named
            records += store.read_records(folder, SCALES)
    records.sort(key=lambda record: record.started)
    return [seen for record in records if record.status == "ok" and record.environment.get("device") == device
            for seen in _seen(record)]  # fmt: skip


def _places(folders: Iterable[Path]) -> list[Path]:
    return [folder for folder in dict.fromkeys(folder.absolute() for folder in folders) if folder.is_dir()]


def _files(folders: Iterable[Path]) -> list[Path]:
    return [file for folder in _places(folders) for scale in SCALES for file in (folder / scale).glob("*/*/*/*.json")]


def _seen(record: Record) -> list[RecordedStage]:
    spec, machine = record.spec, str(record.environment.get("machine", ""))

    def one(stage: str, seconds: float, entry: StageEntry | None) -> RecordedStage:
        peak = float(entry.peak_bytes) if entry else 0.0
        return RecordedStage(
            machine, spec.scale, spec.paper, spec.variant, spec.task, stage, seconds, peak, entry, record
        )

    made = [entry for entry in record.stages if not entry.cached and ":" not in entry.name]
    left = record.seconds - sum(entry.seconds for entry in made)
    return [*(one(entry.name, entry.seconds, entry) for entry in made), one(FINISH, max(0.0, left), None)]


class Calibration:
    """How many times as long as `expected` says stages took, on this machine and in the proportions of others.

    `timed` says that expectations are of this machine already; else, without a run of its own, it is as fast as others.
    """

    def __init__(
        self, seen: Sequence[RecordedStage], machine: str, expected: Callable[[RecordedStage], float], timed: bool
    ):
        own = [one for one in seen if one.machine == machine]
        others: dict[str, list[RecordedStage]] = defaultdict(list)
        for one in seen:
            if one.machine != machine:
                others[one.machine].append(one)
        self.runs, self.machines = len({id(one.record) for one in own}), len(others)
        """Recorded runs of this machine, and other machines with such a device."""
        self._here, whole = _factors(own, expected)
        self._peaks: dict[Key, float] = {}
        for one in own:
            self._peaks[one.keys[0]] = max(one.peak_bytes, self._peaks.get(one.keys[0], 0.0))
        self._others: dict[Key, list[float]] = defaultdict(list)
        wholes = []
        for runs in others.values():
            factors, all_of_it = _factors(runs, expected)
            wholes.append(all_of_it)
            for key, factor in factors.items():
                self._others[key].append(factor / all_of_it)
        self._whole = whole if own else 1.0 if timed or not wholes else median(wholes)

    def factor(self, asked: tuple[Key, ...]) -> tuple[float, str]:
        """By how much an expectation is to be multiplied, and whose runs say so."""
        for key, source in zip(asked, SOURCES, strict=True):
            if key in self._here:
                return self._here[key], source
        for key in asked:
            if key in self._others:
                return self._whole * median(self._others[key]), "other machines"
        return self._whole, "estimated"

    def peak_bytes(self, asked: tuple[Key, ...]) -> float | None:
        """Peak memory of this very stage on this machine, or None where it is not recorded."""
        return self._peaks.get(asked[0]) or None


def _factors(
    seen: Sequence[RecordedStage], expected: Callable[[RecordedStage], float]
) -> tuple[dict[Key, float], float]:
    """By how much what was expected of one machine's stages is to be multiplied: by key, and of all together."""
    found: dict[Key, list[float]] = defaultdict(list)
    took: list[tuple[float, float]] = []
    for one in seen:
        factor = one.seconds / expected(one)
        took.append((factor, one.seconds))
        for key in one.keys:
            found[key].append(factor)
    return {key: median(factors[-NEWEST:]) for key, factors in found.items()}, _middle(took)


def _middle(took: list[tuple[float, float]]) -> float:
    """The factor that half of the recorded seconds lie up to; 1 without any.

    Not all seconds over all that were expected: a few stages that are counted many times too long, as those whose
    teacher has answered before, would bend what is said of every other.
    """
    half, sofar = sum(seconds for _, seconds in took) / 2, 0.0
    for factor, seconds in sorted(took):
        sofar += seconds
        if sofar >= half > 0:
            return factor
    return 1.0
