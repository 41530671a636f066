"""What of a system one chooses by: weight, speed and score, each number said to be printed or measured."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from bench.judge.rules import STRICT
from bench.judge.series import SeriesIndex
from bench.judge.sizes import estimate
from bench.report.numbers import show
from bench.report.systems import ARITHMETIC, SystemView, timings, with_text

TOGETHER = "--max-mb and --min-speedup"
"""A bound on what one form of a system is."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a system must meet; None leaves it open."""

    max_mb: float | None = None
    min_speedup: float | None = None
    min_retention: float | None = None
    """In percent of the teacher's score."""
    machine: str = ""
    """The machine whose speed-ups count; by default the one that speaks for each system."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One system with the numbers that are compared; None where nobody printed or measured it."""

    view: SystemView
    megabytes: float | None
    megabytes_by: str
    speedup: float | None
    speedup_by: str
    with_text: float | None
    """The same where each reads the text first; known only of models with a tokeniser of their own."""
    machine: str
    """Where the speed-up was measured; empty where it was not."""
    retention: float | None
    retention_by: str
    of_one_task: bool
    """Whether the score is of one task, and not an average over several."""
    records: tuple[str, ...]

    @property
    def two_forms(self) -> bool:
        """Whether its bytes are of a packed file and its speed is of a larger form, in 8 bits, that kernels exist for:
        no one form of it is known to be so small and so fast."""
        return self.megabytes_by == ARITHMETIC and bool(self.view.system.backend) and self.speedup is not None

    @property
    def goodness(self) -> tuple[float, ...]:
        """Best is what keeps most, as it is shown, then what is fastest, then what is smallest.

        A share on one task says less than an average: it comes after those, and before none at all. What nobody can
        get, as its network was not published, comes last.
        """
        sure = 0 if self.retention is None else 1 if self.of_one_task else 2
        kept = round(self.retention or 0.0, 1)
        return not self.view.guessed, sure, kept, self.speedup or 0.0, -(self.megabytes or math.inf)

    def misses(self, bounds: Bounds) -> float:
        """How far it is from the bounds: the largest ratio by which one is missed, 1 where all are met."""
        return max((ratio for _, ratio in self.missed(bounds)), default=1.0)

    def missed(self, bounds: Bounds) -> list[tuple[str, float]]:
        """Each bound that is missed and by what ratio; infinite where the system has no such number."""
        compared = (
            ("--max-mb", self.megabytes, bounds.max_mb, True),
            ("--min-speedup", self.speedup, bounds.min_speedup, False),
            ("--min-retention", self.retention, bounds.min_retention, False),
        )
        ratios = [(name, math.inf if not own else own / bound if most else bound / own)
                  for name, own, bound, most in compared if bound is not None]  # fmt: skip
        if bounds.max_mb is not None and bounds.min_speedup is not None and self.two_forms:
            ratios.append((TOGETHER, math.inf))
        return [(name, ratio) for name, ratio in ratios if ratio > 1]

    def as_json(self, task: str) -> dict[str, Any]:
        """Every number with where it is from, the price, and the records behind what was measured; smaller runs on one
        task, so that systems can be compared."""
        smaller = self.smaller(task)
        return {
            "system": self.view.system.name, "paper": self.view.key[0], "variant": self.view.key[1],
            "megabytes": self.megabytes, "megabytes_by": self.megabytes_by,
            "speedup": self.speedup, "speedup_by": self.speedup_by,
            "speedup_with_tokenisation": self.with_text, "machine": self.machine,
            "retention_percent": self.retention, "retention_by": self.retention_by,
            "device_hours": self.view.device_hours, "needs": self.view.system.needs,
            "kernels": self.view.system.backend or "floats", "stand_in": self.view.guessed, "two_forms": self.two_forms,
            "smaller_runs": smaller and asdict(smaller), "records": list(self.records),
        }  # fmt: skip

    def smaller(self, task: str) -> Smaller | None:
        """What runs below the paper's scale kept on one task; None where there are none, or larger ones speak."""
        scores = self.view.tasks.get(task)
        kept = scores.kept() if scores else None
        if self.view.reference or scores is None or kept is None or scores.tier in STRICT:
            return None
        return Smaller(task, 100 * kept.value, self.view.rows(task))


@dataclass(frozen=True, slots=True)
class Smaller:
    """The share of the reference's score that smaller runs kept."""

    task: str
    percent: float
    rows: int | None
    """That they learnt from."""

    def __str__(self) -> str:
        return f"{show(self.percent)}%" + (f" ({self.rows:,})" if self.rows else "")


def choice(view: SystemView, index: SeriesIndex, machine: str = "") -> Choice:
    """A system's numbers at paper size: bytes and speed are measured, a score is printed until a full run has it."""
    timing = view.timing
    if timing is not None and machine:
        timing = next((one for one in timings(view, index) if one.machine == machine), None)
    found = estimate(timing) if timing else None
    speed, by = (1.0, "by definition") if view.reference else (view.printed("speed"), "printed")
    if machine and not view.reference:  # a printed speed is of another device than the one that is asked about
        speed, by = None, ""
    records: tuple[str, ...] = ()
    if timing is not None and found is not None:
        # Low precision is timed on another model's weights: say whose speed it is.
        by = f"measured of {timing.suite.variant}" if view.system.timed_as else "measured"
        speed, records = found.value, tuple(run.id for run in timing.runs)
    printed, kept = view.printed("retention"), view.kept
    share, share_by = (None if printed is None else 100 * printed), "printed"
    of_one = bool(view.retention and view.retention.claim.task)
    if view.retention and of_one:
        share_by = f"printed on {view.retention.claim.task}"
    if view.reference:
        share, share_by = 100.0, "by definition"
    elif kept is not None and view.scores is not None and view.scores.tier in STRICT:
        share, share_by, of_one = 100 * kept.value, "measured", len(view.scores.entries) == 1
        records = (*records, *view.scores.records)
    size = view.bytes_
    text = with_text(index, timing) if timing else None
    read = estimate(text) if text else None
    return Choice(
        view, size.value / 1e6 if size else None, size.by if size else "", speed, by, read and read.value,
        timing.machine if found and timing else "", share, share_by, of_one,
        tuple(sorted({*records, *(size.records if size else ())})),
    )  # fmt: skip
