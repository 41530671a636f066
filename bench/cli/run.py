"""`bench run`: makes the runs of a plan, each ending in one record."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from bench.cli.options import (
    Again,
    Cluster,
    Corpus,
    DataOption,
    Deterministic,
    DevLimit,
    Json,
    Labels,
    Limit,
    Minutes,
    Papers,
    Results,
    ScaleOrFile,
    Seeds,
    Set,
    Tasks,
    Teacher,
    Track,
    Unlabelled,
    Variants,
    Workers,
    make_requests,
)
from bench.cli.output import complain, quiet_libraries, say_json, say_table
from bench.core.errors import SpecError
from bench.core.processes import trains_together


def command(
    scale: ScaleOrFile = "smoke", paper: Papers = None, variant: Variants = None, task: Tasks = None,
    seeds: Seeds = None, teacher: Teacher = None, data: DataOption = None, corpus: Corpus = None, limit: Limit = None,
    dev_limit: DevLimit = None, labels: Labels = None, unlabelled: Unlabelled = None, set_: Set = None,
    results: Results = None, workers: Workers = "1", minutes: Minutes = None, again: Again = False,
    cluster: Cluster = None, track: Track = None, deterministic: Deterministic = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Run the jobs that are not done yet."""
    _refuse_beside_cluster(cluster, workers, minutes, again)
    count = _workers(workers, again)
    deadline = _deadline(minutes, again)
    _meet()
    requests = make_requests(
        scale, paper=paper, variant=variant, task=task, seeds=seeds, teacher=teacher, data=data, corpus=corpus,
        limit=limit, dev_limit=dev_limit, labels=labels, unlabelled=unlabelled, set=set_, results=results,
        track=track, deterministic=deterministic,
    )  # fmt: skip
    quiet_libraries()
    with _maker(cluster, count, again, deadline) as (device, make):
        from bench.run import plan

        records = _made([plan.make(request, device) for request in requests], make)
    if deadline:
        deadline.check()
    if as_json:
        say_json([record.model_dump(mode="json") for record in records])
    else:
        say_table([_line(record) for record in records])
    if deadline and deadline.left:
        complain(f"no time for {len(deadline.left)} of the runs; next: the same command goes on")
    failed = [record for record in records if record.status == "failed"]
    if failed:
        complain(f"{len(failed)} of {len(records)} runs failed; the first: {failed[0].reason}")
        raise typer.Exit(1)


def _meet() -> None:
    """Meet the processes that this one trains with, if any. Raises SpecError where several are asked for and one came.

    On CPUs `accelerate launch --num_processes N` starts a single process, and leaves an address to meet at.
    """
    if "WORLD_SIZE" in os.environ:
        from bench.run import peers

        peers.start()
    elif {"ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys() - _of_mpi():
        raise SpecError("the launcher started one process of several", where="accelerate launch", found="--cpu",
                        fix="ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes N -m bench "
                        "run ...")  # fmt: skip


def _of_mpi() -> set[str]:
    """Variables that say nothing where mpirun starts the processes."""
    started = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"} & os.environ.keys()
    return {"MASTER_ADDR"} if started else set()


def _workers(asked: str, again: bool) -> int:
    """How many workers are asked for; `auto` measures what suits the cores, and says it.

    Raises SpecError for a number that cannot work; says so where they are more than the cores.
    """
    from bench.core.environment import cores

    if asked == "auto":
        if again or trains_together():
            return 1
        from bench.run.cores import best_workers

        count, gain = best_workers()
        complain(f"workers: {count}; {cores()} cores do {gain:.1f} times as much apart as together")
        return count
    if not (asked.isdecimal() and int(asked) > 0):
        raise SpecError("that many workers make no runs", where="--workers", found=asked,
                        expected="1 or more, or auto")  # fmt: skip
    count = int(asked)
    if count > 1 and trains_together():
        raise SpecError("processes that train together cannot have workers", where="--workers", found=asked,
                        fix="leave out accelerate launch, or --workers")  # fmt: skip
    if again and count > 1:
        raise SpecError("--again takes one process", where="--workers", found=asked, expected="1",
                        fix="leave out --workers")  # fmt: skip
    if count > cores():
        complain(f"warning: {count} workers share {cores()} cores; next: --workers {cores()} is likely faster")
    return count


def _deadline(minutes: float | None, again: bool) -> Any:
    """When all must have ended, or None. Raises SpecError for minutes that cannot be kept."""
    from bench.run.deadline import Deadline

    if minutes is None:
        return None
    if not 0 < minutes < float("inf"):
        raise SpecError("there is no time for any run", where="--minutes", found=minutes, expected="more than 0")
    if trains_together():
        raise SpecError("processes that train together keep no time", where="--minutes", found=f"{minutes:g}",
                        fix="leave out accelerate launch, or --minutes")  # fmt: skip
    if again:
        raise SpecError("--again keeps no time", where="--minutes", found=f"{minutes:g}", fix="leave out one of them")
    return Deadline(minutes)


def _refuse_beside_cluster(cluster: str | None, workers: str, minutes: float | None, again: bool) -> None:
    """Raises SpecError for what cannot be asked for together with a cluster."""
    if cluster is None:
        return
    if trains_together():
        raise SpecError("processes that train together use no cluster", where="--cluster", found=cluster,
                        fix="leave out accelerate launch, or --cluster")  # fmt: skip
    beside = {"--workers": workers != "1", "--minutes": minutes is not None, "--again": again}
    for name, given in beside.items():
        if given:
            raise SpecError(f"{name} is not for a cluster", where="--cluster", found=cluster,
                            fix=f"leave out {name} or --cluster")  # fmt: skip


@contextmanager
def _maker(cluster: str | None, workers: int, again: bool, deadline: Any) -> Iterator[tuple[Any, Any]]:
    """(device, make): what the runs are made on, None for this machine's, and what makes a plan's records."""
    if cluster is not None:
        from bench.run import cluster as driver
        from bench.run.nodes import connected

        with connected(cluster) as nodes:
            yield nodes.device, lambda plan: driver.run(plan, nodes)
    elif workers > 1:
        from bench.run import workers as pool

        yield None, lambda plan: pool.run(plan, workers, deadline)
    else:
        from bench.run import execute

        yield None, lambda plan: execute.run(plan, again, deadline)


def _made(plans: list[Any], make: Any) -> list[Any]:
    """The plans' records; one that two plans share once."""
    found: dict[str, Any] = {}
    for number, plan in enumerate(plans, 1):
        if len(plans) > 1:
            complain(f"part {number} of {len(plans)}" + (f": {plan.request.says}" if plan.request.says else ""))
        found |= {record.hash: record for record in make(plan)}
    return list(found.values())


def _line(record: Any) -> dict[str, Any]:
    scores = [f"{m.metric} {m.value:.4f}" for m in record.measurements if m.unit == "fraction" and m.value is not None]
    return {"paper": record.spec.paper, "variant": record.spec.variant, "task": record.spec.task,
            "seed": record.spec.seed, "status": record.status, "scores": ", ".join(scores) or record.reason,
            "seconds": round(record.seconds, 1)}  # fmt: skip
