"""`bench measure`: size, FLOPs and speed at paper size."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.options import Json, Results, Variants
from bench.cli.output import complain, quiet_libraries, say_json, say_table
from bench.core.errors import SpecError

MOST_MINUTES = 7 * 24 * 60
MOST_COPIES = 1000


def command(
    variant: Variants = None,
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes: 1,32 by default, 1 with --quick.")] = "",
    length: Annotated[int, typer.Option("--length", help="Word pieces per example.")] = 128,
    threads: Annotated[str, typer.Option("--threads", help="Threads, for example 1,2; all cores by default.")] = "",
    backend: Annotated[
        str,
        typer.Option("--backend", help="Of eager,compile,cudagraph,bf16,fp16,int8,onnxruntime,onnxruntime-int8,tflite, "
                     "with commas between. Eager by default, and cudagraph on a GPU."),
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="A short protocol, recorded as reduced.")] = False,
    copies: Annotated[
        int | None, typer.Option("--copies", help="Fresh sets of processes: 5 by default, 10 to compare sessions.")
    ] = None,
    until: Annotated[str, typer.Option("--until", help="Go on until ratios are this narrow, for example 3%.")] = "",
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="The most that --until may take per batch size: 10 by default.")
    ] = None,
    results: Results = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Size, FLOPs and speed at paper size, against the reference."""
    quiet_libraries()
    from dataclasses import replace

    from bench.measure.session import FULL, QUICK
    from bench.run import shapes

    effort = replace(QUICK if quick else FULL, until=_share(until))
    if minutes is not None:
        effort = replace(effort, minutes=_minutes(minutes, until))
    if copies is not None:
        effort = replace(effort, copies=_copies(copies))
    batches = _numbers("--batch", batch or ("1" if quick else "1,32"))
    request = shapes.Request(
        tuple(variant or ()), batches, length, _numbers("--threads", threads),
        tuple(dict.fromkeys(backend.split(","))) if backend else (), effort, results or "results",
    )  # fmt: skip
    records = shapes.run(request)
    if as_json:
        say_json([record.model_dump(mode="json") for record in records])
    else:
        say_table([row for record in records for row in shapes.lines(record)])
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        complain(f"{record.spec.variant} failed: {record.reason}")
    if failed:
        raise typer.Exit(1)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Numbers parted by commas, each once. Raises SpecError for anything else."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(","))) if text else ()
    except ValueError:
        raise SpecError(f"{option} is not a list of numbers", found=text, expected="for example 1,32") from None
    return found


def _share(text: str) -> float | None:
    """A share given in per cent. Raises SpecError for what no interval can be: only more than 0 and less than 100%."""
    if not text:
        return None
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = float("nan")
    if not 0 < share < 1:
        raise SpecError("--until is not a share", found=text, expected="more than 0% and less than 100%",
                        fix="for example --until 3%")  # fmt: skip
    return share


def _copies(copies: int) -> int:
    """Raises SpecError for a number of processes that is none, or that nobody waits for."""
    if not 1 <= copies <= MOST_COPIES:
        raise SpecError("--copies is out of range", found=copies, expected=f"a number from 1 to {MOST_COPIES}")
    return copies


def _minutes(minutes: float, until: str) -> float:
    """Raises SpecError for a time that does not pass, or does not end, and where it bounds nothing."""
    if not until:
        raise SpecError("--minutes bounds --until, which is not there", found=minutes, fix="add --until 3%")
    if not 0 < minutes <= MOST_MINUTES:
        raise SpecError("--minutes is no time to measure", found=minutes, expected=f"more than 0, up to {MOST_MINUTES}")
    return minutes
