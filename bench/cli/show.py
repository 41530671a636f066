"""`bench show`: one claim, run or variant on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Results
from bench.cli.output import say_facts


def command(
    name: Annotated[str, typer.Argument(help="The id of a claim or a run, a variant, or PAPER.TABLE for its claims.")],
    results: Results = None,
) -> None:
    """One claim, run, variant or table. Its source, verdict, numbers and the runs that gave them."""
    from bench.report.show import show

    say_facts(show(Path(results or "results"), name))
