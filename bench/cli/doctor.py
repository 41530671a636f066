"""`bench doctor`: what this machine can run, and the command that mends what is missing."""

from __future__ import annotations

from bench.cli.options import Json
from bench.cli.output import say, say_json


def command(as_json: Json = False) -> None:
    """What this machine can run, and what is missing."""
    from bench.cli.checks import checks

    rows = checks()
    if as_json:
        return say_json(rows)
    for row in rows:
        fix = f"  -> {row['fix']}" if row["fix"] else ""
        say(f"{'ok     ' if row['ok'] else 'missing'} {row['name']:28} {row['found']}{fix}")
