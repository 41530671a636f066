"""`bench export`: the model of a run as a folder that other tools load."""

from __future__ import annotations

from pathlib import Path

from bench.cli.options import Results
from bench.cli.output import quiet_libraries, say


def command(run_id: str, folder: str, results: Results = None) -> None:
    """Write a run's model to a folder, with a card."""
    quiet_libraries()
    from bench.run.exports import export_run

    say(str(export_run(Path(results or "results"), run_id, Path(folder))))
