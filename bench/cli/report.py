"""`bench report`: writes reports/ from records and claims, or checks them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Results
from bench.cli.output import say


def command(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a report is stale.")] = False,
    scale: Annotated[str, typer.Option("--scale", help="smoke writes reports/smoke; else small, full and shape.")] = "",
    results: Results = None,
    reports: Annotated[str, typer.Option("--reports", help="Where reports are written.")] = "reports",
) -> None:
    """Write the reports from records and claims."""
    from bench.report import build

    root, out = Path(results or "results"), Path(reports)
    if check:
        stale = build.stale(root, out, scale)
        for path in stale:
            say(f"stale: {path}")
        raise typer.Exit(1 if stale else 0)
    for path in build.write(root, out, scale):
        say(str(path))
