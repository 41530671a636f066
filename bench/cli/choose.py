"""`bench choose`: which compressed model fits a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json
from bench.cli.output import complain, say, say_json, say_table


def command(
    max_mb: Annotated[
        float | None, typer.Option("--max-mb", help="Megabytes (10^6 bytes) of weights on a disk at most.")
    ] = None,
    min_speedup: Annotated[float | None, typer.Option("--min-speedup", help="Times as fast as the reference.")] = None,
    min_retention: Annotated[
        float | None, typer.Option("--min-retention", help="Percent of the teacher's score at least, as 95.")
    ] = None,
    machine: Annotated[
        str, typer.Option("--machine", help="Take the speeds of this machine, as reports/table.md names it.")
    ] = "",
    results: Annotated[
        list[str] | None, typer.Option("--results", help="Records; repeatable, as of bench report: results by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The systems that fit a device, best first. Each number printed or measured; where none fits, the nearest one."""
    from bench.report.choose import Bounds, choose, missed_by, row

    bounds = Bounds(max_mb, min_speedup, min_retention, machine)
    answer = choose([Path(folder) for folder in results or ["results"]], bounds)
    if answer.printed_only:
        complain("warning: there are no records, so that every number is a printed one; next: bench measure --quick")
    if as_json:
        nearest = answer.nearest.as_json(answer.task) if answer.nearest else None
        fitting = [one.as_json(answer.task) for one in answer.fitting]
        missed = [one.as_json(answer.task) for one in answer.missed]
        left_out = [{"variant": one.view.key[1], "why": why} for one, why in answer.unknown]
        return say_json({"fitting": fitting, "missed_by_little": missed, "nearest": nearest, "left_out": left_out})
    if answer.fitting:
        if all(one.view.guessed for one in answer.fitting):
            say("no network that one can get fits; a stand-in, our guess at an unpublished network, would:")
        say_table([row(one, answer.task) for one in answer.fitting])
    elif answer.nearest:
        missed = ", ".join(name for name, _ in answer.nearest.missed(bounds))
        say(f"nothing fits; the nearest misses {missed}:")
        say_table([row(answer.nearest, answer.task)])
    else:
        say("nothing fits, and no system has a number for each of the bounds")
    if answer.fitting and answer.missed:
        say(f"just missed: {', '.join(missed_by(one, bounds) for one in answer.missed)}")
    if answer.unknown:
        say(f"left out: {', '.join(f'{one.view.system.name} ({why})' for one, why in answer.unknown)}")
    machines = sorted({one.machine for one in (*answer.fitting, answer.nearest) if one and one.machine})
    if machines:
        told = ", ".join(machines)
        say(f"speed at batch 1, length 128, without tokenisation, on {told}; bench measure times this machine")
    say(
        "best first, by the score kept (averages before one task), then speed; printed: by the paper; by arithmetic: "
        "of a packed file, while its speed is of a larger form in 8 bits; stand-in, last: our guess at an unpublished "
        "network; compare scores of smaller runs only after about as many rows"
    )
