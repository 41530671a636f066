"""`bench measure`: size, FLOPs and speed of paper-sized architectures, each in one record of the scale `shape`."""

from __future__ import annotations

import logging
import secrets
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.core import environment, registry, store
from bench.core.errors import BenchError, SpecError
from bench.core.record import Measurement, Record, RunSpec, moment, record_id
from bench.core.spec import digest
from bench.core.steering import DETERMINISTIC, WORKSPACE, deterministic, steering
from bench.measure import backends, room
from bench.measure.process import Subject
from bench.measure.session import FULL, Effort, Failure, Measured, Timing, measure
from bench.models.device import here
from bench.models.shape import Key, Shape, all_shapes, find_shape
from bench.run.codehash import measuring_hash, module_hash
from bench.run.recipes import usable

log = logging.getLogger(__name__)

TASK = "shape"
"""Stands where a run has its task: a shape has none."""


LONGEST = 512
"""Positions of the papers' models."""
MOST_EXAMPLES = 65_536
"""Of one batch; whether that fits in memory is another question."""


@dataclass(frozen=True, slots=True)
class Request:
    """What `bench measure` was asked for."""

    variants: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1, 32)
    length: int = 128
    threads: tuple[int, ...] = ()
    backends: tuple[str, ...] = ()
    """None: those that are usual on this device"""
    effort: Effort = FULL
    results: str = "results"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.backends) - set(backends.BACKENDS))
        if unknown:
            raise SpecError("unknown backend", found=", ".join(unknown),
                            expected=f"one of {', '.join(backends.BACKENDS)}")  # fmt: skip
        numbers = {"--batch": (self.batches, MOST_EXAMPLES), "--length": ((self.length,), LONGEST),
                   "--threads": (self.threads, environment.cores())}  # fmt: skip
        for option, (values, most) in numbers.items():
            wrong = [value for value in values if not 1 <= value <= most]
            if wrong:
                raise SpecError(f"{option} is out of range", found=wrong[0], expected=f"numbers from 1 to {most}")


def run(request: Request) -> list[Record]:
    """Measure what was asked, in a session per number of threads; one record per variant and session.

    A variant that could not be measured, or not under each backend, has a failed record (beside one of what could).
    Raises SpecError for an unknown variant or backend, DeviceError for a backend that cannot run here: before that,
    nothing is written. Raises what ended the reference's process, after its failed record was written.
    """
    steering()  # refuses what would change what is measured
    if deterministic():
        raise SpecError("deterministic operations are slower: their times say nothing", where=DETERMINISTIC,
                        found="1", fix=f"unset {DETERMINISTIC} {WORKSPACE}")  # fmt: skip
    environment.started_from()
    device = here()
    chosen_backends = request.backends or backends.usual(device)
    for backend in chosen_backends:
        backends.check(backend, device)
    shapes = all_shapes()
    named = dict(find_shape(name) for name in request.variants)
    chosen, shapes = list(named or shapes), shapes | named
    reference = _reference(shapes)
    room.check({key: shapes[key] for key in (reference, *chosen)}, request.batches, request.length)
    store.check_writable(Path(request.results))
    floats = shapes[reference].packed
    records = _written(request, [_arithmetic(key, shapes[key], floats) for key in chosen if shapes[key].build is None])
    live = [key for key in chosen if shapes[key].build is not None]
    for threads in request.threads or (environment.cores(),):
        if live:
            subjects = [Subject(*key, backend) for key in live for backend in chosen_backends]
            records += _session(request, Subject(*reference), subjects, threads, shapes)
    return records


def _written(request: Request, records: list[Record]) -> list[Record]:
    """The same records, written: those of a session as it ends, whatever becomes of the next one."""
    for record in records:
        log.info("record=%s", store.write_record(Path(request.results), record))
    return records


def _session(
    request: Request, reference: Subject, subjects: Sequence[Subject], threads: int, shapes: Mapping[Key, Shape]
) -> list[Record]:
    """The records of one session, written.

    Raises what ended the reference's process, after its failed record was written.
    """
    clock, started = time.monotonic(), datetime.now(UTC)
    try:
        measured = measure(reference, subjects, request.batches, request.length, threads, request.effort, say=log.info)
    except BenchError as error:
        ended = Measured({}, (), (Failure(reference, None, str(error)),))
        _written(request, _records(ended, request.effort, threads, started, time.monotonic() - clock, shapes))
        raise
    for timing in measured.timings:
        if timing.noisy and timing.ratio is None:
            log.warning("noisy session: batch=%d A/A ratio %.3f [%.3f, %.3f]; run it again on a quiet machine",
                        timing.batch, timing.floor.value, timing.floor.low, timing.floor.high)  # fmt: skip
    return _written(request, _records(measured, request.effort, threads, started, time.monotonic() - clock, shapes))


def _reference(shapes: Mapping[Key, Shape]) -> Key:
    """The first shape of the paper that is everybody's teacher."""
    recipes = usable()
    for key in shapes:
        if key[0] in recipes and recipes[key[0]].default_encoder:
            return key
    raise SpecError("there is no reference to measure against", expected="a paper whose recipe is the teacher")


def _records(
    measured: Measured, effort: Effort, threads: int, started: datetime, seconds: float,
    shapes: Mapping[Key, Shape],
) -> list[Record]:  # fmt: skip
    by_model: dict[Key, list[Timing]] = defaultdict(list)
    for timing in measured.timings:
        by_model[timing.subject.paper, timing.subject.variant].append(timing)
    failed: dict[Key, list[Failure]] = defaultdict(list)
    for failure in measured.failures:
        failed[failure.subject.paper, failure.subject.variant].append(failure)
    facts = {(subject.paper, subject.variant): found for subject, found in measured.facts.items()}
    name = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    sessions = {key: session_name(name, timings) for key, timings in by_model.items()}
    reference, device = next(iter(by_model), None), here()
    machine = environment.fingerprint(threads) | {
        "device": device.type, "processes": len(measured.facts) + 1, "precision": "fp32",
        "timer": "CUDA events" if device.type == "cuda" else "host clock",
    }  # fmt: skip
    whole = [
        _record(
            key, shapes[key], started, seconds,
            [*_sizes(facts[key]), *_packed(shapes[key].packed, {}), *(m for t in timings for m in _times(t)),
             *(_ratios(facts, key, by_model, reference) if reference and key != reference else ())],
            machine, effort, session=sessions[key],
        )
        for key, timings in by_model.items()
    ]  # fmt: skip
    return whole + [
        _record(key, shapes[key], started, seconds, _sizes(facts[key]) if key in facts else [], machine, effort,
                "; ".join(map(_reason, failures)), sessions.get(key, name))
        for key, failures in failed.items()
    ]  # fmt: skip


def session_name(name: str, timings: Sequence[Timing]) -> str:
    """The name of the session, with a number where another had to follow; empty for times of several of them."""
    groups = {timing.group for timing in timings}
    return "" if len(groups) > 1 else name + "".join(f"-{group + 1}" for group in groups if group)


def _reason(failure: Failure) -> str:
    where = "" if failure.batch is None else f", batch {failure.batch}"
    return f"{failure.subject.backend}{where}: {failure.reason}"


def _ratios(
    facts: Mapping[Key, Mapping[str, Any]], key: Key, timings: Mapping[Key, Sequence[Timing]], reference: Key
) -> list[Measurement]:
    """Parameters, bytes and FLOPs over those of the reference."""
    mine, theirs = facts[key], facts[reference]
    found = {"parameters_ratio": mine["parameters"] / theirs["parameters"],
             "size_ratio": mine["size_bytes"] / theirs["size_bytes"],
             "flops_ratio": timings[key][0].flops / timings[reference][0].flops}  # fmt: skip
    return [Measurement(metric=name, split="teacher", value=value, unit="ratio", n=1) for name, value in found.items()]


def _record(
    key: Key, shape: Shape, started: datetime, seconds: float, measurements: list[Measurement],
    machine: dict[str, Any], effort: Effort | None, reason: str = "", session: str = "",
) -> Record:  # fmt: skip
    paper, variant = key
    papers, _ = registry.find()
    code = environment.started_from().model_copy(
        update={
            "stage_hashes": {"shape": module_hash(f"{papers[paper].module}.shapes")},
            "measure_hash": measuring_hash(),
        }
    )
    hyper: dict[str, Any] = {"guessed": shape.guessed} if shape.guessed else {}
    if effort:
        budget = {"copies": effort.copies, "rounds": effort.rounds, "turn_s": effort.turn_s}
        hyper |= {"effort": asdict(effort), "budget": budget}
    spec = RunSpec(paper=paper, variant=variant, task=TASK, scale="shape", seed=0)
    content = digest([spec.model_dump(), hyper, code.stage_hashes, machine.get("machine"), dict(shape.packed),
                      *([reason] if reason else [])])  # fmt: skip
    return Record(
        id=record_id(started, content, spec.seed), status="failed" if reason else "ok", reason=reason,
        spec=spec, hyper=hyper, hash=content,
        tier="reduced" if effort and effort.reduced else "exact", code=code, environment=machine,
        measurements=measurements, session=session,
        started=moment(started), seconds=round(seconds, 3),
    )  # fmt: skip


def _arithmetic(key: Key, shape: Shape, floats: Mapping[str, int]) -> Record:
    """A shape that is arithmetic only: what its packed weights would weigh; no module, so no speed."""
    found = _packed(shape.packed, floats)
    return _record(key, shape, datetime.now(UTC), 0.0, found, environment.fingerprint(), None)


def _packed(packed: Mapping[str, int], floats: Mapping[str, int]) -> list[Measurement]:
    """Bytes by arithmetic, and their ratio to those of the same part of the reference."""
    sizes = [Measurement(metric="size_bytes", split=split, value=size, unit="bytes", n=1)
             for split, size in packed.items()]  # fmt: skip
    return sizes + [Measurement(metric="size_ratio", split=split, value=size / floats[split], unit="ratio", n=1)
                    for split, size in packed.items() if split in floats]  # fmt: skip


def _sizes(facts: Mapping[str, Any]) -> list[Measurement]:
    units = {"parameters": ("all", "count"), "parameters_without_embeddings": ("all", "count"),
             "size_bytes": ("artefact", "bytes")}  # fmt: skip
    return [Measurement(metric=name, split=split, value=facts[name], unit=unit, n=1)
            for name, (split, unit) in units.items()]  # fmt: skip


def _times(timing: Timing) -> list[Measurement]:
    """Every time of one backend at one shape; the split names a backend other than eager, and text that is read."""
    backend = timing.subject.backend
    split = f"batch{timing.batch}-length{timing.length}" + ("" if backend == "eager" else f"-{backend}")
    calls = timing.calls

    def one(metric: str, value: float, unit: str, samples: Sequence[float] = (), where: str = split) -> Measurement:
        kept = [float(f"{sample:.6g}") for sample in samples]
        return Measurement(metric=metric, split=where, value=value, unit=unit, n=max(1, len(kept)), samples=kept)

    found = [
        one("latency_s", calls.p50, "s", timing.rounds), one("latency_p90_s", calls.p90, "s"),
        one("latency_p99_s", calls.p99, "s"), one("throughput", timing.batch / calls.p50, "examples/s"),
        one("first_call_s", timing.first_s, "s"), one("aa_ratio", timing.floor.value, "ratio", timing.floor.samples),
    ]  # fmt: skip
    if backend == "eager":
        found.append(one("flops", timing.flops, "flop"))
    else:
        found.append(one("output_difference", timing.difference, "logit"))
    if timing.ratio is not None:
        found.append(one("speedup", timing.ratio.value, "ratio", timing.ratio.samples))
    if timing.alike is not None:
        found.append(one("speedup_same_backend", timing.alike.value, "ratio", timing.alike.samples))
    if timing.read_s:
        found.append(one("tokenise_s", statistics.median(timing.read_s), "s", timing.read_s))
    if timing.text is not None:
        found.append(one("speedup", timing.text.value, "ratio", timing.text.samples, f"{split}-text"))
    return found


def lines(record: Record) -> list[dict[str, Any]]:
    """A record for the eye: one row per shape and backend, or one with the bytes where there is only arithmetic.

    A failed one has no row; its reason is said apart.
    """
    if record.status == "failed":
        return []
    found = {(m.metric, m.split): m for m in record.measurements}

    def shown(metric: str, split: str, factor: float = 1.0, digits: int = 2) -> str:
        entry = found.get((metric, split))
        return "" if entry is None or entry.value is None else f"{entry.value * factor:.{digits}f}"

    head = {
        "variant": record.spec.variant, "threads": record.environment["threads"],
        "params (M)": shown("parameters", "all", 1e-6),
        "MB": shown("size_bytes", "artefact", 1e-6, 1) or shown("size_bytes", "packed", 1e-6, 1) + " (arithmetic)",
    }  # fmt: skip
    splits = [split for metric, split in found if metric == "latency_s"]
    return [
        head | {"shape": split, "GFLOPs": shown("flops", split, 1e-9), "p50 ms": shown("latency_s", split, 1e3),
                "p99 ms": shown("latency_p99_s", split, 1e3), "speed-up": shown("speedup", split),
                "A/A": shown("aa_ratio", split, digits=3)}
        for split in splits or [""]
    ]  # fmt: skip
