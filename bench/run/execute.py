"""Runs a plan: each job ends in exactly one record, also when it fails; what was done before is not done again."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from bench.core import environment, store
from bench.core.errors import BenchError, ModelError
from bench.core.record import Code, Data, Measurement, Record, RunSpec, TeacherLink, Tier
from bench.core.spec import RECORD_SCALES
from bench.data.tasks import floor
from bench.models import load
from bench.run import measure, packing
from bench.run.plan import Job, Plan
from bench.run.stages import ChainLog, StageRunner
from bench.train.precision import choose

log = logging.getLogger(__name__)


class Executor:
    """One pass over a plan."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.accelerator = Accelerator()
        self.runner = StageRunner(plan, self.accelerator)
        self.results = Path(plan.request.results)
        self.environment = environment.fingerprint() | {
            "device": self.accelerator.device.type,
            "processes": self.accelerator.num_processes,
            "precision": choose("auto", self.accelerator.device).name,
            "precision_why": choose("auto", self.accelerator.device).why,
        }
        self.code = environment.code_state()
        records = store.read_records(self.results, RECORD_SCALES)
        self.done = {r.hash: r for r in records if r.status == "ok"}
        self.failures = {(r.hash, r.reason, r.code.model_dump_json()): r for r in records if r.status == "failed"}
        self._measured: dict[str, list[Measurement]] = {}

    def run(self) -> list[Record]:
        """Every record of the plan, found or made. Failed ones are among them; the caller decides the exit code."""
        self._refuse_given_teacher()
        if self.accelerator.is_main_process:
            store.check_writable(self.results)
        records = []
        for number, job in enumerate(self.plan.jobs, 1):
            found = self.done.get(job.hash)
            log.info(
                "run=%s number=%d of=%d state=%s", job.spec, number, len(self.plan.jobs), "done" if found else "runs"
            )
            records.append(found or self._one(job))
            if records[-1].status == "ok":
                self.done[job.hash] = records[-1]
        return records

    def _one(self, job: Job) -> Record:
        started, clock = datetime.now(UTC), time.monotonic()
        chain = ChainLog()
        measurements: list[Measurement] = []
        content: dict[str, Any] = {"status": "ok", "reason": ""}
        try:
            self._make(job, chain, measurements, content)
        except BenchError as error:
            content |= {"status": "failed", "reason": str(error)}
            log.error("%s", error)
            before = self.failures.get((job.hash, str(error), self._code(job).model_dump_json()))
            if before:
                log.info("failed as before, record=%s", before.id)
                self.accelerator.wait_for_everyone()  # as _write does: processes may differ in what they see
                return before
        except Exception as error:
            self._write(job, started, clock, chain, measurements,
                        content | {"status": "failed", "reason": f"{type(error).__name__}: {error}"})  # fmt: skip
            raise
        return self._write(job, started, clock, chain, measurements, content)

    def _make(self, job: Job, chain: ChainLog, measurements: list[Measurement], content: dict[str, Any]) -> None:
        teacher_folder = self._teacher(job, content) if job.teacher else None
        key = self.runner.run(job, chain)
        folder = self.plan.cache.model_folder(key)
        measurements += measure.cost(chain.entries)
        content["artefacts"] = measure.artefacts(load.weight_files(folder))
        model = load.load_saved(folder)
        said = measure.answers(job, model, self.plan.inputs, self.accelerator)
        measurements += measure.quality(job, said, self.plan.inputs)
        measurements += measure.size(model, folder)
        measurements += measure.findings(self.plan.cache.manifest(key)["facts"])
        teacher = load.load_saved(teacher_folder) if teacher_folder else None
        if job.recipe.packing:
            small = self.plan.cache.packed_folder(key)
            measurements += packing.measure(
                job, job.recipe.packing, model, said, teacher, small, self.plan.inputs, self.accelerator
            )
            content["artefacts"] += measure.artefacts(load.packed_files(small))
        if self.accelerator.is_main_process:  # the others wait: they would disturb its timing
            measurements += measure.speed(model, teacher, self.accelerator)
        self.accelerator.wait_for_everyone()
        if job.teacher is not None:
            theirs = self._measured.get(job.teacher.key) or self.done[job.teacher.hash].measurements
            measurements += measure.against_teacher(job, measurements, theirs)
        self._measured[job.key] = list(measurements)

    def _teacher(self, job: Job, content: dict[str, Any]) -> Path:
        """The folder of the fine-tuned teacher, whose own record stands; raises ModelError where it failed."""
        assert job.teacher is not None
        record = self.done.get(job.teacher.hash)
        if record is None:
            raise ModelError("the teacher has no record", where=job.teacher.spec, fix="see why its run failed")
        score = record.value(job.task.primary, job.task.scored[0])
        content["teacher"] = TeacherLink(record=record.id, score=score)
        lowest = self._floor(job)
        if score is None or score < lowest:
            raise ModelError("the fine-tuned teacher is below its floor", where=job.teacher.spec, found=score,
                             expected=f"{job.task.primary} of at least {lowest:.4f}",
                             fix="train the teacher longer or give another one")  # fmt: skip
        return self.plan.cache.model_folder(self.runner.run(job.teacher, ChainLog()))

    def _floor(self, job: Job) -> float:
        return floor(job.task, self.plan.inputs.whole(job.task, job.task.scored[0]).labels)

    def _refuse_given_teacher(self) -> None:
        """A teacher that was given fine-tuned and scores like guessing is wrong input: nothing is run or written."""
        checkpoint = self.plan.checkpoint
        if checkpoint is None or not checkpoint.kinds:
            return
        for job in {job.task.name: job for job in self.plan.jobs if job.teacher is None}.values():
            if job.task.kind not in checkpoint.kinds:
                raise ModelError("the given teacher is fine-tuned for another kind of task",
                                 where=self.plan.request.teacher, found=checkpoint.architecture,
                                 expected=f"one for {job.task.name}, or an encoder",
                                 fix="give its pre-trained encoder, or another --task")  # fmt: skip
            model = load.realign(
                load.load(checkpoint.folder, load.architecture(checkpoint.architecture)), job.task.labels
            )
            split = job.task.scored[0]
            said = measure.answers(job, model, self.plan.inputs, self.accelerator)
            scores = measure.quality(job, said, self.plan.inputs)
            score = next(m.value for m in scores if m.metric == job.task.primary and m.split == split)
            if score is None or score < self._floor(job):
                raise ModelError("the given teacher is below its floor", where=self.plan.request.teacher, found=score,
                                 expected=f"{job.task.name} {job.task.primary} of at least {self._floor(job):.4f}",
                                 fix="check its label order, or give one that is fine-tuned on the task")  # fmt: skip

    def _write(
        self, job: Job, started: datetime, clock: float, chain: ChainLog, measurements: list[Measurement],
        content: dict[str, Any],
    ) -> Record:  # fmt: skip
        stamp = started.strftime("%Y%m%dT%H%M%SZ")
        budget = self.plan.inputs.limits(job.task) | job.hyper.budget()
        record = Record(
            id=f"{stamp}-{job.hash[:8]}-s{job.spec.seed}",
            spec=RunSpec.model_validate(job.spec.as_dict()),
            tier=self._tier(job),
            hyper=job.hyper.model_dump(mode="json") | {"budget": budget},
            hash=job.hash,
            overrides=self._overrides(job),
            code=self._code(job),
            environment=self.environment,
            data=self._data(job),
            stages=chain.entries,
            dev_looks=chain.dev_looks,
            measurements=measurements,
            started=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=round(time.monotonic() - clock, 3),
            **content,
        )
        if self.accelerator.is_main_process:
            path = store.write_record(self.results, record)
            log.info("record=%s status=%s", path, record.status)
        self.accelerator.wait_for_everyone()
        return record

    def _code(self, job: Job) -> Code:
        return self.code.model_copy(update={"stage_hashes": {p.stage.name: p.code for p in job.stages}})

    def _overrides(self, job: Job) -> dict[str, str]:
        """The --set changes that are of this run's own settings."""
        return {path: text for path, text in self.plan.request.set.items() if path in job.hyper.names()}

    def _tier(self, job: Job) -> Tier:
        """How close the run is to the paper: another teacher, budgets and overrides only ever lower it."""
        if job.spec.scale == "smoke":
            return "proxy"
        partial = any(rows.partial for rows in self._splits(job).values())
        if (
            job.spec.scale == "small"
            or self.plan.request.teacher
            or self.plan.request.limit
            or self._overrides(job)
            or partial
        ):
            return "reduced"
        return "checkpoint" if job.released else "exact"

    def _splits(self, job: Job) -> dict[str, Any]:
        inputs = self.plan.inputs
        return {split: inputs.rows(job.task, split) for split in (job.task.train, *job.task.scored)}

    def _data(self, job: Job) -> Data:
        splits = self._splits(job)
        first = splits[job.task.train]
        used = {split: len(rows) for split, rows in splits.items()}
        used[job.task.train] = len(self.plan.inputs.used(job.task, job.task.train))
        return Data(source=first.source, revision=first.revision, sha256=self.plan.inputs.data_identity(job.task),
                    rows=used, partial=any(rows.partial for rows in splits.values()))  # fmt: skip


def run(plan: Plan) -> list[Record]:
    """Run a plan; see Executor."""
    return Executor(plan).run()
