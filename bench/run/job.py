"""One job -> one record, whatever happens: the function that a plain run, a worker and a cluster task call alike."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache as once
from typing import Any, NoReturn

import torch
from accelerate import Accelerator

from bench.core import environment
from bench.core.errors import BenchError, ModelError, Stopped, TrainError
from bench.core.meaning import wrong_measurement
from bench.core.record import (
    BELOW_FLOOR,
    Answers,
    Artefact,
    Code,
    Data,
    Measurement,
    Record,
    RunSpec,
    StageEntry,
    TeacherLink,
    Tier,
    moment,
    record_id,
)
from bench.core.redact import cleaned, cleaned_settings
from bench.core.store import Store
from bench.data.tasks import floor
from bench.models import load
from bench.run import evaluate, further, peers
from bench.run.cache import WORKERS, Cache
from bench.run.codehash import measuring_hash
from bench.run.inputs import Reading, checkpoint_identity
from bench.run.plan import Job
from bench.run.stages import ChainLog, make_stages, tokenizer_folder
from bench.train import deterministic
from bench.train.precision import choose
from bench.train.processes import decided
from bench.train.progress import Bars, bar

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Found:
    """What is known of a run while it goes on: a failed one is recorded with it, too."""

    chain: ChainLog = field(default_factory=ChainLog)
    measurements: list[Measurement] = field(default_factory=list)
    artefacts: list[Artefact] = field(default_factory=list)
    answers: dict[str, Answers] = field(default_factory=dict)
    teacher: TeacherLink | None = None
    failed: str | None = None
    """Why it failed, if it did."""


def run_job(job: Job, store: Store, cache: Cache, progress: Bars = bar, again: bool = False) -> Record:
    """The job's record: the one that is there, or a new one (always a new one with `again`). A failed run writes one.

    Raises MachineError, and writes nothing, for what the machine did not allow: that says nothing of the run. Where one
    of several processes was lost, the main process writes a failed record before it raises.
    What the job needs (its base and teachers) must have its record before. Nothing is kept between two calls.
    """
    accelerator = Accelerator()
    found = None if again else decided(accelerator, lambda: store.find(job.spec, job.hash))
    if found is not None:
        return found
    _where()  # now: another commit may be checked out before the record is written
    started, clock = datetime.now(UTC), time.monotonic()
    so_far, failure = _Found(), None
    try:
        with deterministic.told():
            _make(job, store, cache, progress, so_far)
    except (Exception, Stopped) as error:
        failure = peers.failure_of(error, job.hash, job.spec)
        so_far.failed = cleaned(failure.reason)
        so_far.measurements = [one for one in so_far.measurements if not wrong_measurement(one)]
    if failure is not None and failure.alone:
        _end_alone(job, store, failure, lambda: _record(job, started, time.monotonic() - clock, so_far))
    if failure is not None and isinstance(failure.error, BenchError):
        log.error("%s", failure.error)
        reason = so_far.failed or ""
        before = decided(accelerator, lambda: store.failed_before(job.spec, job.hash, reason, _code(job)))
        if before is not None:
            log.info("failed as before, record=%s", before.id)
            return before
    record = _record(job, started, time.monotonic() - clock, so_far)
    if accelerator.is_main_process:
        log.info("record=%s status=%s", store.write(record), record.status)
        _track(job, record)
    accelerator.wait_for_everyone()
    if failure is not None and not isinstance(failure.error, BenchError):
        raise failure.error
    return record


def _end_alone(job: Job, store: Store, failure: peers.Failure, record: Callable[[], Record]) -> NoReturn:
    """End a run of several processes of which not all failed: the main process writes the record, then all raise."""
    if Accelerator().is_main_process:
        made = record()
        if store.failed_before(job.spec, job.hash, made.reason, made.code) is None:
            log.info("record=%s status=%s", store.write(made), made.status)
        peers.written(job.hash)
    else:
        peers.wait_until_written(job.hash)
    raise failure.error


def _make(job: Job, store: Store, cache: Cache, bars: Bars, so_far: _Found) -> None:
    """Make the model, measure it, and write down what is found as it is found."""
    accelerator, chain, measurements = Accelerator(), so_far.chain, so_far.measurements
    reference = _reference(job, store, so_far) if job.reference else None
    key = make_stages(job, cache, chain, bars=bars)
    chain.entries[:0] = _base_entries(job, cache, chain)
    facts = cache.check(key)["facts"]
    folder = cache.model_folder(key)
    measurements += evaluate.cost(chain.entries)
    so_far.artefacts += evaluate.artefacts(load.weight_files(folder))
    model = load.load_saved(folder)
    reading = Reading(tokenizer_folder(job, cache), job.reading.max_length, job.reading.windows)
    logits = evaluate.logits(job, model, reading, accelerator)
    said = evaluate.said(job, logits, reading)
    measurements += decided(accelerator, lambda: evaluate.quality(job, said))
    so_far.answers = {split: job.inputs.each_answer(job.task, split, found) for split, found in said.items()}
    measurements += evaluate.size(model, folder)
    measurements += evaluate.findings(facts)
    other = None
    if job.reference is not None:
        other = load.load_saved(cache.model_folder(make_stages(job.reference, cache, ChainLog(), bars=bars)))
    if job.recipe.further:
        beside = cache.further_folder(key)
        measurements += further.measure(job, job.recipe.further, model, logits, other, beside, reading, accelerator)
        so_far.artefacts += evaluate.artefacts(load.packed_files(beside))
    if accelerator.is_main_process:  # the others wait: they would disturb its timing
        measurements += evaluate.speed(model, other, accelerator)
    accelerator.wait_for_everyone()
    if reference is not None:
        measurements += evaluate.against_reference(job, measurements, reference.measurements)
    for one in measurements:
        if found := wrong_measurement(one):
            raise TrainError("a measurement means nothing", where=one.split, found=found, fix="report it: it is a bug")


def _track(job: Job, record: Record) -> None:
    """Tell the tracker, where one is asked for, what a finished run scored."""
    tracking = job.inputs.tracking
    if tracking is None or record.status != "ok":
        return
    said = {"run": job.spec.as_dict(), "record": record.id, "tier": record.tier, "settings": record.hyper}
    run = tracking.run(f"{job.spec}/scores", said)
    if run is not None:
        with run:
            run.log({f"{m.metric}/{m.split}": m.value for m in record.measurements
                     if m.unit == "fraction" and m.value is not None}, step=0)  # fmt: skip


def _base_entries(job: Job, cache: Cache, chain: ChainLog) -> list[StageEntry]:
    """What the models below a stack cost: part of its price. The reference, which others start from too, is not."""
    if job.below is None:
        return []
    lower = ChainLog()
    make_stages(job.below, cache, lower)
    chain.dev_looks += lower.dev_looks
    own = [entry.model_copy(update={"name": f"{job.below.spec.variant}: {entry.name}"}) for entry in lower.entries]
    return [*_base_entries(job.below, cache, chain), *own]


def _reference(job: Job, store: Store, so_far: _Found) -> Record:
    """The record of the model that this one is compared with.

    Raises ModelError where it, or a model that a stack starts from, has no record or does no better than guessing.
    """
    found: dict[Job, Record] = {}
    for needed in job.needed:
        record = decided(Accelerator(), lambda needed=needed: store.find(needed.spec, needed.hash))
        if record is None:
            raise ModelError("what the run starts or learns from has no record", where=needed.spec,
                             fix="see why its run failed")  # fmt: skip
        found[needed] = record
    reference = job.reference
    assert reference is not None and reference in found, "it is among what is needed"
    so_far.teacher = TeacherLink(record=found[reference].id, score=_score(job, found[reference]))
    what = {reference: "the fine-tuned teacher"} | ({job.base: "what the run starts from"} if job.base else {})
    for other, name in what.items():
        check_floor(job, _score(job, found[other]), name, other.spec, "train it longer or give another one")
    return found[reference]


def _score(job: Job, record: Record) -> float | None:
    return record.value(job.task.primary, job.task.scored[0])


def check_floor(job: Job, score: float | None, name: str, where: object, fix: str) -> None:
    """Refuse what a run starts or learns from that does no better than guessing. Raises: ModelError."""
    lowest = floor(job.task, job.inputs.whole(job.task, job.task.scored[0]).labels)
    if score is None or score < lowest:
        raise ModelError(f"{name} {BELOW_FLOOR}", where=where, found=score,
                         expected=f"{job.task.name} {job.task.primary} of at least {lowest:.4f}", fix=fix)  # fmt: skip


@once
def _where() -> tuple[dict[str, Any], Code]:
    """What this process runs on, and the code that it was started from."""
    device = Accelerator().device
    precision = choose("auto", device)
    facts = environment.fingerprint(torch.get_num_threads()) | {
        "device": device.type, "processes": Accelerator().num_processes, "precision": precision.name,
        "precision_why": precision.why, "workers": int(os.environ.get(WORKERS, "1")),
    } | ({"tf32": deterministic.tf32()} if device.type == "cuda" else {})  # fmt: skip
    return facts, environment.started_from()


def _record(job: Job, started: datetime, seconds: float, found: _Found) -> Record:
    hyper, budget = _settings(job)
    return Record(
        id=record_id(started, job.hash, job.spec.seed),
        spec=RunSpec.model_validate(job.spec.as_dict()),
        status="ok" if found.failed is None else "failed",
        reason=found.failed or "",
        tier=_tier(job, found.chain.entries),
        hyper=cleaned_settings(hyper) | {"budget": job.inputs.limits(job.task) | budget},
        hash=job.hash,
        overrides=cleaned_settings(_overrides(job)),
        code=_code(job),
        environment=_where()[0],
        data=_data(job),
        teacher=found.teacher,
        stages=found.chain.entries,
        dev_looks=found.chain.dev_looks,
        measurements=found.measurements,
        answers=found.answers,
        artefacts=found.artefacts,
        started=moment(started),
        seconds=round(seconds, 3),
    )


def _settings(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """All settings that shaped the model, and the budgets among them; those of a model below a stack under `base`.

    What --set changed of the teacher is told under `teacher`: its other settings are its recipe's own.
    """
    hyper, budget = job.hyper.model_dump(mode="json"), job.hyper.budget()
    if job.below is not None:
        lower, spent = _settings(job.below)
        hyper |= {"base": {"variant": job.below.spec.variant} | lower}
        budget |= {f"base.{name}": value for name, value in spent.items()}
    if job.reference is not None and job.reference.overrides and "base" not in hyper:
        hyper |= {"teacher": dict(job.reference.overrides)}
    return hyper, budget


def _overrides(job: Job) -> dict[str, str]:
    """What --set changed of the run's own settings, and of those of the models below it."""
    lower = _overrides(job.below) if job.below is not None else {}
    return dict(job.overrides) | {f"base.{path}": text for path, text in lower.items()}


def _code(job: Job) -> Code:
    """The commit, and the code of each stage; of a stack those of the models below, too."""
    hashes: dict[str, str] = {}
    at: Job | None = job
    while at is not None:
        before = "" if at is job else f"{at.spec.variant}: "
        hashes = {f"{before}{plan.stage.name}": plan.code for plan in at.stages} | hashes
        at = at.below
    return _where()[1].model_copy(update={"stage_hashes": hashes, "measure_hash": measuring_hash()})


def _tier(job: Job, entries: Sequence[StageEntry]) -> Tier:
    """How close the run is to the paper: another teacher, budgets and overrides only ever lower it."""
    request = job.inputs.request
    if job.spec.scale == "smoke":
        return "proxy"
    partial = any(rows.partial for rows in _splits(job).values())
    given = request.teacher or request.limit or request.labels or request.unlabelled
    changed = any(one.overrides for one in (*job.needed, job))
    # What nobody printed cannot be close to it: a stack is never exact.
    if job.spec.scale == "small" or given or changed or partial or job.below or _short_of_text(job, entries):
        return "reduced"
    return "checkpoint" if job.released else "exact"


def _short_of_text(job: Job, entries: Sequence[StageEntry]) -> bool:
    """Whether the corpus held less than a stage asked for, which is a smaller budget."""
    read = {entry.name: entry.corpus_tokens for entry in entries}
    for plan in job.stages:
        asked = (getattr(getattr(job.hyper, name), "corpus_tokens", 0) for name in plan.stage.uses)
        found = read.get(plan.stage.name)
        if found is not None and found < max(asked, default=0):
            return True
    return False


def _splits(job: Job) -> dict[str, Any]:
    return {split: job.inputs.rows(job.task, split) for split in (job.task.train, *job.task.scored)}


def _data(job: Job) -> Data:
    splits, task, inputs = _splits(job), job.task, job.inputs
    first = splits[task.train]
    used = {split: len(rows) for split, rows in splits.items()}
    used[task.train] = len(inputs.used(task, task.train))
    if inputs.request.labels or inputs.request.unlabelled:
        used["unlabelled"] = len(inputs.all_texts(task)) - used[task.train]
    return Data(source=first.source, revision=first.revision, sha256=inputs.data_identity(task), rows=used,
                partial=any(rows.partial for rows in splits.values()), corpus=_corpus(job),
                encoder=_encoder(job))  # fmt: skip


def _corpus(job: Job) -> str:
    """The hash of the text that the model, or one that it is made of, learnt from."""
    read = any(plan.corpus for one in (*job.needed, job) for plan in one.stages)
    return job.inputs.corpus_identity or "" if read else ""


def _encoder(job: Job) -> str:
    """The hash of the checkpoint that the reference of a run started from."""
    return next((checkpoint_identity(one.encoder.folder) for one in (*job.needed, job) if one.encoder), "")
