"""Makes a job's chain of stages: from the deepest cached one on, saving after each."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from bench.core.record import StageEntry
from bench.core.spec import digest
from bench.models import load
from bench.run.cache import Cache
from bench.run.context import StageContext
from bench.run.plan import Job, StagePlan
from bench.train import deterministic
from bench.train.memory import peak_bytes, restart_peak
from bench.train.processes import decided
from bench.train.progress import Bars, bar
from bench.train.recipe import Asked, State


@dataclass(slots=True)
class ChainLog:
    """What the stages of a job did, for its record."""

    entries: list[StageEntry] = field(default_factory=list)
    dev_looks: int = 0


def make_stages(job: Job, cache: Cache, log: ChainLog, upto: str | None = None, bars: Bars = bar) -> str:
    """Make sure that the chain is in the cache, up to the stage key `upto`; returns the last key.

    `log` is filled as stages end, so that a failed run can say how far it came. Only the main process writes.
    """
    keys = [plan.key for plan in job.stages]
    stop = keys.index(upto) + 1 if upto else len(keys)
    accelerator = Accelerator()
    deepest = decided(accelerator, lambda: next((i for i in reversed(range(stop)) if cache.whole(keys[i])), -1))
    if deepest >= 0:
        _remember(job.stages[deepest], cache, log)
    if deepest + 1 < stop:
        # What a stage asks for is made before it begins, so that it draws the same random numbers whoever made that.
        for other, key in dict.fromkeys(one for plan in job.stages[deepest + 1 : stop] for one in _asked(job, plan)):
            make_stages(other, cache, ChainLog(), key, bars)
        state = cache.load(keys[deepest]) if deepest >= 0 else State()
        for place in range(deepest + 1, stop):
            before = keys[place - 1] if place else None
            state = _build(job, job.stages[place], cache, state, before, log, bars)
    return keys[stop - 1]


def tokenizer_folder(job: Job, cache: Cache) -> Path:
    """Where the tokenizer of a finished job lies: beside its model where it has one of its own, else the given one."""
    if cache.own_tokenizer(job.key):
        return cache.model_folder(job.key)
    return tokenizer_folder(job.base, cache) if job.base else job.tokenizer_folder


def _remember(plan: StagePlan, cache: Cache, log: ChainLog) -> None:
    """What the chain did up to a stage, as its entry says; what the log says of those before is replaced."""
    manifest = cache.manifest(plan.key)
    before = {entry.name: entry for entry in log.entries}
    told = [StageEntry.model_validate(one | {"cached": True}) for one in (*manifest["earlier"], manifest["log"])]
    log.entries[:] = [before.get(entry.name, entry) for entry in told]
    log.dev_looks = manifest["dev_looks"]


def _build(
    job: Job, plan: StagePlan, cache: Cache, state: State, before: str | None, log: ChainLog, bars: Bars
) -> State:
    accelerator = Accelerator()
    # Of processes that train together one waits for the lock, and the others for what it says.
    with cache.lock(plan.key) if accelerator.is_main_process else nullcontext():
        if decided(accelerator, lambda: cache.whole(plan.key)):  # another bench made it meanwhile
            _remember(plan, cache, log)
            return cache.load(plan.key)
        return _execute(job, plan, cache, state, before, log, bars, accelerator)


def _execute(
    job: Job, plan: StagePlan, cache: Cache, state: State, before: str | None, log: ChainLog, bars: Bars,
    accelerator: Accelerator,
) -> State:  # fmt: skip
    if accelerator.is_main_process:
        cache.clear(plan.key)
    context = _context(job, plan, cache, accelerator, bars)
    with load.ALONE:  # so that each of two jobs in one process sees its own random numbers
        started = time.monotonic()
        restart_peak(accelerator.device)
        set_seed(int(digest([plan.seed, plan.stage.name])[:8], 16))
        with deterministic.told():
            after = plan.stage.run(state, job.hyper.only(*plan.stage.uses), context)
    fits = context.logs
    # All that the stage took, labelling and new text too; training before a stop is in the fits' own time alone.
    took = max(time.monotonic() - started, sum(f.seconds for f in fits))
    entry = StageEntry(
        name=plan.stage.name, seconds=round(took, 3),
        steps=sum(f.steps for f in fits), examples=sum(f.examples for f in fits),
        first_loss=fits[0].first_loss if fits else None, last_loss=fits[-1].last_loss if fits else None,
        peak_bytes=max([f.peak_bytes for f in fits], default=peak_bytes(accelerator.device)),
        precision=fits[-1].precision if fits else None, engine=fits[-1].engine if fits else None,
        teacher_logits=context.teacher_logits_from,
        corpus_tokens=context.corpus_tokens,
    )  # fmt: skip
    earlier = list(log.entries)
    log.entries.append(entry)
    log.dev_looks += context.dev_looks
    if accelerator.is_main_process:
        cache.save(plan.key, after, state, before, entry, log.dev_looks, context.tokenizer, earlier)
    accelerator.wait_for_everyone()
    return after


def _asked(job: Job, plan: StagePlan) -> list[tuple[Job, str]]:
    """The models that a stage asks for, each as a job and the key of the stage that leaves it; a base always."""
    found = [(job.base, job.base.key)] if job.base else []
    for kind in plan.stage.asks:
        if kind != "base":
            other = _owner(job, kind)
            found.append((other, other.pretrained_key if kind == "pretrained" else other.key))
    return found


def _owner(job: Job, kind: Asked) -> Job:
    """The job that makes a model that a stage asks for."""
    found = {"base": job.base, "lent": job.lender}[kind] if kind in ("base", "lent") else job.teachers[0]
    assert found is not None, f"a recipe whose stages ask for {kind!r} says which run that is"
    return found


def _context(job: Job, plan: StagePlan, cache: Cache, accelerator: Accelerator, bars: Bars) -> StageContext:
    def ask(kind: Asked) -> tuple[nn.Module, Path]:
        assert kind in plan.stage.asks, f"stage {plan.stage.name} did not declare that it asks for {kind!r}"
        other = _owner(job, kind)
        if kind == "pretrained":
            return cache.load(other.pretrained_key).model, other.tokenizer_folder
        return cache.load(other.key).model, tokenizer_folder(other, cache)

    # A run that starts from a finished model reads as that model does.
    folder = tokenizer_folder(job.base, cache) if job.base else job.tokenizer_folder
    return StageContext(job, plan, accelerator=accelerator, tokenizer_folder=folder,
                        progress_folder=cache.progress(plan.key), ask=ask, bars=bars)  # fmt: skip
