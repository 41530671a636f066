"""`bench claims`: the ledger, in counts first, and each claim with its present verdict when filtered."""

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
    task: Annotated[str | None, typer.Option("--task", help="A task.")] = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """The printed claims, counted by verdict. Rows with --kind, --verdict or --task."""
    from bench.report.listing import judged_rows, tally

    rows = judged_rows(Path(results or "results"), tuple(paper or ()), kind, verdict, task)
    if as_json:
        return say_json(rows)
    ours = sum(row["transcription"] == "ours" for row in rows)
    if (kind or verdict or task) and rows:
        say_table([{k: row[k] for k in ("id", "printed", "source", "measured", "verdict", "why")} for row in rows])
    elif rows:
        say_table(tally(rows))
    say(f"{len(rows) - ours} claims" + (f", and {ours} of ours that nobody printed" if ours else ""))
    if not (kind or verdict or task):
        say("rows with --kind, --verdict or --task; one claim in full with: bench show ID")
