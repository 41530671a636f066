"""`bench measure`: size, FLOPs and speed at paper size."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.options import Json, Results, Variants
from bench.cli.output import quiet_libraries, say_json, say_table
from bench.core.errors import SpecError


def command(
    variant: Variants = None,
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes: 1,32 by default, 1 with --quick.")] = "",
    length: Annotated[int, typer.Option("--length", help="Word pieces per example.")] = 128,
    threads: Annotated[str, typer.Option("--threads", help="Threads, for example 1,2; all cores by default.")] = "",
    backend: Annotated[
        str,
        typer.Option("--backend", help="Of eager,compile,bf16,int8,onnxruntime,onnxruntime-int8; several with commas."),
    ] = "eager",
    quick: Annotated[bool, typer.Option("--quick", help="A short protocol, recorded as reduced.")] = False,
    until: Annotated[str, typer.Option("--until", help="Go on until ratios are this narrow, for example 3%.")] = "",
    minutes: Annotated[float, typer.Option("--minutes", help="The most that --until may take per batch size.")] = 10.0,
    results: Results = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Size, FLOPs and speed at paper size, against BERT-base."""
    quiet_libraries()
    from dataclasses import replace

    from bench.measure.session import FULL, QUICK
    from bench.run import shapes

    effort = replace(QUICK if quick else FULL, until=_share(until), minutes=minutes)
    batches = _numbers("--batch", batch or ("1" if quick else "1,32"))
    request = shapes.Request(
        tuple(variant or ()), batches, length, _numbers("--threads", threads),
        tuple(backend.split(",")), effort, results or "results",
    )  # fmt: skip
    records = shapes.run(request)
    if as_json:
        return say_json([record.model_dump(mode="json") for record in records])
    say_table([row for record in records for row in shapes.lines(record)])


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise SpecError(f"{option} is not a list of numbers", found=text, expected="for example 1,32") from None


def _share(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text.removesuffix("%")) / 100
    except ValueError:
        raise SpecError("--until is not a share", found=text, expected="for example 3%") from None
