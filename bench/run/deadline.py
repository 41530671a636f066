"""The time that a user gives: no run starts that would end later."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from bench.core.errors import SpecError

if TYPE_CHECKING:
    from bench.run.plan import Job, Plan

log = logging.getLogger(__name__)


class Deadline:
    """When a plan's runs must have ended, and what each of them will take.

    Estimates are those of `bench plan`, times how long what was made since took for each second that was expected.
    """

    def __init__(self, minutes: float):
        self.minutes, self._ends = minutes, time.monotonic() + 60 * minutes
        self._stages: dict[str, float] = {}
        self._finish: dict[str, float] = {}
        self._expected = self._took = 0.0
        self._least = float("inf")
        self.left: set[str] = set()
        """Hashes of the jobs for which there was no time."""
        self.made = 0
        """Runs that were made, failed ones among them."""

    def plan(self, plan: Plan) -> None:
        """Learn what a plan's stages and runs cost."""
        from bench.run import forecast

        for job, cost in zip(plan.jobs, forecast.costs(plan)["jobs"], strict=True):
            for stage in cost["stages"]:
                self._stages.setdefault(stage["key"], stage["seconds"])
            self._finish[job.hash] = cost["finish_s"]

    def seconds(self, stages: Iterable[str], job: str = "") -> float:
        """What these stages (by key), and the end of a job (by hash), are expected to take by themselves."""
        return sum(self._stages.get(key, 0.0) for key in stages) + self._finish.get(job, 0.0)

    def fits(self, seconds: float) -> bool:
        """Whether work of so many expected seconds would end in time."""
        needed = seconds * self._ratio
        if needed <= self._ends - time.monotonic():
            return True
        self._least = min(self._least, needed)
        return False

    def took(self, expected: float, seconds: float) -> None:
        """Work that was expected to take so long took so long."""
        self._expected, self._took = self._expected + expected, self._took + seconds

    def leave(self, jobs: Iterable[Job]) -> None:
        """There is no time for these."""
        for job in jobs:
            if job.hash not in self.left:
                log.info("run=%s state=left reason='it would end after the minutes given'", job.spec)
                self.left.add(job.hash)

    def check(self) -> None:
        """Raises SpecError where there was time for no run at all."""
        if self.left and not self.made:
            least = math.ceil(self._least / 6) / 10
            raise SpecError("there is no time for any run", where="--minutes", found=f"{self.minutes:g}",
                            expected=f"at least {least:g} for the shortest of {len(self.left)}",
                            fix="give more, or a smaller --limit")  # fmt: skip

    @property
    def _ratio(self) -> float:
        return self._took / self._expected if self._expected else 1.0
