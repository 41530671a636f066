"""A plan while others make its pieces: which piece is next, and what became of each. Makes and writes nothing.

Children of one machine (`bench.run.workers`) and tasks of a cluster (`bench.run.cluster`) are handed pieces by the same
rules: the longest rest of the plan first; what a failure blocks is not made, but each blocked job still writes why; a
piece whose maker died is handed out again, until so many have died at it that the piece itself must be the reason.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.core import errors, store
from bench.core.errors import BenchError, TrainError
from bench.core.record import Record
from bench.core.store import Store
from bench.run.costs import ROW_TOKENS
from bench.run.deadline import Deadline
from bench.run.execute import needed_stages, refuse_given_teacher
from bench.run.leases import Leases
from bench.run.plan import Job, Plan, StagePlan
from bench.run.schedule import Scheduler, graph, uncached
from bench.train.settings import training_of

log = logging.getLogger(__name__)

DEATHS = 2
"""A piece at which so many makers died is not tried again: memory, most likely."""
BUSY_S = 2.0
"""How long a job that another bench makes is left alone before it is asked for again."""
TEXT_COST = 3.0
"""How many times as long a token of the corpus takes as one of a task's rows, roughly: two models read it, and some
project it to a vocabulary. `tests/benchmarks/text_cost.py` takes it from committed records."""
TOKENS_PER_S = 5_000.0
"""Of training, roughly: only the proportions of the costs matter."""


class Pieces:
    """The pieces of a plan; `keys` are those of the scheduler's nodes: a stage's key, or a job's hash."""

    def __init__(self, plan: Plan, deadline: Deadline | None = None):
        self.plan, self._deadline = plan, deadline
        found = Store(Path(plan.request.results))
        self.records = {job.hash: record for job in plan.jobs if (record := found.find(job.spec, job.hash))}
        """What is there: hash of a job -> its record."""
        nodes = graph(plan.jobs, self.records, plan.cache.has, cost_s)
        self._pieces, self._scheduler = nodes.pieces, Scheduler(nodes.nodes)
        self._blocked: list[str] = []
        """Jobs that wait to write that they cannot be made."""
        self._later: list[tuple[float, str]] = []
        """(when, key) of jobs that another bench makes."""
        self._deaths: Counter[str] = Counter()
        self._told_busy: set[str] = set()

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def all_handed_out(self) -> bool:
        """Whether nothing is left to hand out, now or later; what is being made may still come back."""
        return self._scheduler.finished and not (self._blocked or self._later)

    def stage(self, key: str) -> str:
        """The key of the stage that a piece is; "" for a job, and for no piece."""
        return self._pieces[key].stage if key else ""

    def job(self, key: str) -> Job:
        """The job that a piece is, or of a shared stage the first that has it."""
        return self.plan.jobs[self._pieces[key].job]

    def order(self, key: str) -> dict[str, Any]:
        """What is said to who makes a piece; see `bench.run.worker`."""
        piece = self._pieces[key]
        return ({"do": "stage", "key": piece.stage} if piece.stage else {"do": "job"}) | {"job": piece.job}

    def take(self) -> str | None:
        """The next piece, or None while there is none; what there is no time for is left, with all that needs it."""
        self._due()
        if (key := self._next_blocked()) is not None:
            return key
        while (key := self._scheduler.take()) is not None:
            if self._deadline is None or self._deadline.fits(self.expected_s(key)):
                return key
            gone = [self._pieces[one] for one in (key, *self._scheduler.failed(key))]
            self._deadline.leave(self.plan.jobs[piece.job] for piece in gone if not piece.stage)
        return self._next_blocked()  # those that wait for what was left now are left, too

    def expected_s(self, key: str) -> float:
        """Seconds that a piece is expected to take, by the deadline's estimates; 0 without one."""
        if self._deadline is None:
            return 0.0
        job, stage = self.job(key), self.stage(key)
        if stage:
            return self._deadline.seconds([stage])
        return self._deadline.seconds((one.key for one in uncached(job, self.plan.cache.has)), job.hash)

    def waits_s(self) -> float | None:
        """How long until a job may be asked for again that another bench makes; None where there is none."""
        first = min((when for when, _ in self._later), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def made(self, key: str, record: Record | None) -> str:
        """A piece was made, a job with its record. Returns its state, for who watches."""
        if record is None:
            self._scheduler.done(key)
            return "ok"
        self.records[key] = record
        if key in self._scheduler.taken:
            self._scheduler.done(key) if record.status == "ok" else self.failed(key)
        return record.status

    def failed(self, key: str) -> None:
        """A piece cannot be made: the jobs that this blocks still write why, the stages are left."""
        self._blocked += [one for one in self._scheduler.failed(key) if not self._pieces[one].stage]

    def put_off(self, key: str) -> None:
        """Another bench makes this job: it is asked for again in a while."""
        self._later.append((time.monotonic() + BUSY_S, key))
        if key not in self._told_busy:
            log.info("run=%s state=waits reason='another bench makes it'", self.name(key))
            self._told_busy.add(key)

    def died(self, key: str, found: object, fix: str) -> None:
        """Who made a piece ("" between two of them) is dead: it is handed out again.

        Raises TrainError where too many have died at it.
        """
        self._deaths[key] += 1
        if self._deaths[key] >= DEATHS:
            raise TrainError(f"{DEATHS} workers died at one piece of the plan", where=self.name(key), found=found,
                             expected="a record", fix=fix)  # fmt: skip
        if key:
            self._give_back(key)

    def name(self, key: str) -> str:
        """What a piece is called: its run, or its stage and the first run that has it."""
        if not key:
            return "the start"
        job, stage = self.job(key), self.stage(key)
        names = [one.stage.name for one in job.stages if one.key == stage]
        return "/".join([job.spec.paper, job.spec.variant, *names]) if names else str(job.spec)

    def _due(self) -> None:
        for when, key in list(self._later):
            if time.monotonic() >= when:
                self._later.remove((when, key))
                self._give_back(key)

    def _next_blocked(self) -> str | None:
        """A job of which a need failed, once the jobs whose models it asks for have their records.

        Where there is no time for one of those, there is none for this.
        """
        for key in list(self._blocked):
            job = self.job(key)
            if all(other.hash in self.records for other in job.direct):
                self._blocked.remove(key)
                return key
            if self._deadline and any(other.hash in self._deadline.left for other in job.needed):
                self._blocked.remove(key)
                self._deadline.leave([job])
        return None

    def _give_back(self, key: str) -> None:
        if key in self._scheduler.taken:
            self._scheduler.give_back(key)
        else:
            self._blocked.insert(0, key)


def prepared(plan: Plan, deadline: Deadline | None = None) -> Pieces:
    """The pieces that are left of a plan, once it is sure that they may be made and kept here.

    Raises: what is wrong with the given teacher, the results folder or the cache.
    """
    results = Path(plan.request.results)
    refuse_given_teacher(plan)
    store.check_writable(results)
    plan.cache.check_writable(needed_stages(plan, Store(results)))
    Leases(results).refuse_another_bench()
    if deadline:
        deadline.plan(plan)
    return Pieces(plan, deadline)


def told_failure(answer: dict[str, Any]) -> BenchError:
    """The error that an answer tells of, of the class that it had where it happened."""
    error = getattr(errors, answer.get("kind", ""), TrainError)("")
    error.args = (answer["error"],)
    return error


def cost_s(job: Job, stage: StagePlan | None) -> float:
    """A rough estimate: tokens of training, none of them counted, at a usual rate; after the stages, a constant."""
    if stage is None:
        return 1.0
    tokens = 0.0
    for name in stage.stage.uses:
        setting = getattr(job.hyper, name)
        if training := training_of(setting):
            rows = len(job.inputs.used(job.task, job.task.train))
            text = getattr(setting, "corpus_tokens", None)
            tokens += (TEXT_COST * text if text else ROW_TOKENS * rows) * training.epochs
    return 0.1 + tokens / TOKENS_PER_S
