"""`bench report`: writes reports/ from records and claims, or checks them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.output import say


def command(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a report is stale.")] = False,
    scale: Annotated[str, typer.Option("--scale", help="smoke writes reports/smoke; else small, full and shape.")] = "",
    results: Annotated[
        list[str] | None,
        typer.Option("--results", help="Records; repeatable: machines of a later folder stand beside the first's."),
    ] = None,
    reports: Annotated[str, typer.Option("--reports", help="Where reports are written.")] = "reports",
) -> None:
    """Write the reports from records and claims."""
    from bench.report import build

    request = build.request([Path(folder) for folder in results or ["results"]], Path(reports), scale)
    if check:
        stale = build.stale(request)
        for path in stale:
            say(f"stale: {path}")
        say("next: bench report" if stale else "every report is what the records say")
        raise typer.Exit(1 if stale else 0)
    for line in build.write(request).summary:
        say(line)
