"""`bench history`: the numbers of one variant from commit to commit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json, Results
from bench.cli.output import say, say_json, say_table


def command(
    variant: Annotated[str, typer.Argument(help="A variant, or a stack.")],
    results: Results = None,
    reports: Annotated[str, typer.Option("--reports", help="Where history/VARIANT.svg is written.")] = "reports",
    as_json: Json = False,
) -> None:
    """Scores and speed-ups by commit, steps marked; draws them, too."""
    from bench.report import history

    found = history.lines(Path(results or "results"), variant)
    rows, path = history.rows(found), history.write(variant, found, Path(reports))
    if as_json:
        return say_json(rows)
    say_table([row | {"step": history.step(row)} for row in rows])
    say(f"drawn: {path}" if path else "nothing to draw: no line has two commits")
