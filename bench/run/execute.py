"""Runs a plan in this process, a job after the other; what was done before is not done again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator

from bench.core.record import Record
from bench.core.store import Store, check_writable
from bench.models import load
from bench.run import evaluate
from bench.run.cache import Cache
from bench.run.deadline import Deadline
from bench.run.device import threads
from bench.run.exports import has_model
from bench.run.job import check_floor, run_job
from bench.run.leases import HeldStore, LeaseLost, Leases
from bench.run.plan import Job, Plan
from bench.run.schedule import uncached
from bench.train.processes import decided

log = logging.getLogger(__name__)


def run(plan: Plan, again: bool = False, deadline: Deadline | None = None) -> list[Record]:
    """Every record of the plan, found or made. Failed ones are among them; the caller decides the exit code.

    With `again` a finished run whose model is gone from the cache is made once more: its newer record counts. With a
    deadline the runs for which there is no time are left, and those that need them.
    """
    torch.set_num_threads(threads())
    refuse_given_teacher(plan)
    store = Store(Path(plan.request.results))
    if Accelerator().is_main_process:
        check_writable(store.results)
        plan.cache.check_writable(needed_stages(plan, store, again))
        Leases(store.results).refuse_another_bench()
    if deadline:
        deadline.plan(plan)
    records: list[Record] = []
    for number, job in enumerate(plan.jobs, 1):
        found, gone = decided(Accelerator(), lambda job=job: _seen(job, store, plan.cache, again))
        if gone and not again:
            log.info(
                "run=%s: its model is gone from the cache; next: --again makes it again, for bench export", job.spec
            )
        state = "runs" if found is None else "runs again" if gone and again else "done"
        log.info("run=%s number=%d of=%d state=%s", job.spec, number, len(plan.jobs), state)
        if found and state == "done":
            records.append(found)
        elif record := _in_time(job, plan, deadline, lambda job=job: _made(job, store, plan.cache, again)):
            records.append(record)
    return records


def _seen(job: Job, store: Store, cache: Cache, again: bool) -> tuple[Record | None, bool]:
    """The job's record, and whether its model is gone from the cache."""
    found = store.find(job.spec, job.hash)
    return found, found is not None and not has_model(cache, job.key, found, whole=again)


def _in_time(job: Job, plan: Plan, deadline: Deadline | None, make: Callable[[], Record]) -> Record | None:
    """The job's record, made; None where there is no time for it, or none was for a run that it needs."""
    if deadline is None:
        return make()
    expected = deadline.seconds((stage.key for stage in uncached(job, plan.cache.has)), job.hash)
    if any(other.hash in deadline.left for other in job.needed) or not deadline.fits(expected):
        deadline.leave([job])
        return None
    started = time.monotonic()
    record = make()
    deadline.made += 1
    if record.status == "ok":  # a run that failed says nothing of how long the others take
        deadline.took(expected, time.monotonic() - started)
    return record


def needed_stages(plan: Plan, store: Store, again: bool = False) -> list[str]:
    """The key of the last stage of each job that may have to be made; the earlier ones are made only for it."""
    return [job.key for job in plan.jobs if again or store.find(job.spec, job.hash) is None]


def _made(job: Job, store: Store, cache: Cache, again: bool = False) -> Record:
    """The job's record, made under its lease: no other bench makes it at the same time."""
    accelerator = Accelerator()
    if not accelerator.is_main_process:  # of processes that train together one holds the lease
        accelerator.wait_for_everyone()
        return run_job(job, store, cache, again=again)
    while True:
        with Leases(store.results).wait(job.hash) as lease:
            accelerator.wait_for_everyone()
            try:
                return run_job(job, HeldStore(store.results, lease), cache, again=again)
            except LeaseLost as error:  # another bench took it over: its record is waited for
                log.warning("%s", error)
                if accelerator.num_processes > 1:
                    raise


def refuse_given_teacher(plan: Plan) -> None:
    """A teacher that was given fine-tuned and scores like guessing is wrong input: nothing is run or written.

    Raises: ModelError for one that is below its floor; the plan has refused one for another kind of task.
    """
    checkpoint = plan.checkpoint
    if checkpoint is None or not checkpoint.kinds:
        return
    for job in {job.task.name: job for job in plan.jobs if job.reference is None}.values():
        model = load.realign(load.load(checkpoint, load.architecture(checkpoint.architecture)), job.task.labels)
        split = job.task.scored[0]
        logits = evaluate.logits(job, model, job.reading, Accelerator())
        scores = evaluate.quality(job, evaluate.said(job, logits, job.reading))
        score = next(m.value for m in scores if m.metric == job.task.primary and m.split == split)
        check_floor(job, score, "the given teacher", plan.request.teacher,
                    "check its label order, or give one that is fine-tuned on the task")  # fmt: skip
