"""`bench claims`: the ledger, each claim with its present verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json, Papers, Results
from bench.cli.output import say, say_json, say_table


def command(
    paper: Papers = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="quality, retention, size, flops, speed, cost, ordering.")
    ] = None,
    verdict: Annotated[
        str | None, typer.Option("--verdict", help="A verdict, or inside, above, below, across.")
    ] = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """The printed claims, each with its present verdict."""
    from bench.report.ledger import judged_rows

    rows = judged_rows(Path(results or "results"), tuple(paper or ()), kind, verdict)
    if as_json:
        return say_json(rows)
    say_table([{k: row[k] for k in ("id", "printed", "source", "measured", "verdict", "why")} for row in rows])
    ours = sum(row["transcription"] == "ours" for row in rows)
    say(f"{len(rows) - ours} claims" + (f", and {ours} of ours that nobody printed" if ours else ""))
