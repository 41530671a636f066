"""`bench baseline`: named, immutable lists of records that later ones are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Json, Papers, Results
from bench.cli.output import say, say_facts, say_json, say_table
from bench.core.errors import SpecError

if TYPE_CHECKING:
    from bench.core.baseline import Baseline

DOES = ("set", "list", "show", "promote")


def command(
    what: Annotated[str, typer.Argument(help="set, list, show or promote")],
    name: Annotated[str, typer.Argument(help="The baseline's name.")] = "",
    why: Annotated[str, typer.Option("--why", help="What it is kept for; with set.")] = "",
    paper: Papers = None,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="A variant; repeatable. All by default.")
    ] = None,
    scale: Annotated[list[str] | None, typer.Option("--scale", help="smoke, small, full or shape; repeatable.")] = None,
    results: Results = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Set, list, show or promote baselines. One is of the records at hand; the promoted one regress takes unasked."""
    from bench.core import baseline as baselines

    folder = Path(results or "results")
    if what not in DOES:
        raise SpecError("unknown word", where="bench baseline", found=what, expected=", ".join(DOES))
    if what != "list" and not name:
        raise SpecError("a name is needed", where=f"bench baseline {what}", fix="bench baseline list")
    if what == "list":
        return _list(folder, as_json)
    if what == "set":
        found = baselines.set_(folder, name, why, paper or (), variant or (), scale or ())
    else:
        found = baselines.promote(folder, name) if what == "promote" else baselines.load(folder, name)
    if as_json:
        return say_json(found.model_dump(mode="json"))
    if what != "show":
        told = "is set" if what == "set" else "is what bench regress takes unasked"
        return say(f"{name} {told}: {len(found.records)} records")
    say_facts(_facts(folder, found))


def _list(folder: Path, as_json: bool) -> None:
    from bench.core import baseline as baselines

    promoted = baselines.promoted(folder)
    every = [baselines.load(folder, name) for name in baselines.names(folder)]
    rows = [{"name": one.name, "promoted": one.name == promoted, "set": one.date, "records": len(one.records),
             "commit": one.commit[:12], "why": one.why} for one in every]  # fmt: skip
    if as_json:
        say_json(rows)
    elif rows:
        say_table([row | {"promoted": "yes" if row["promoted"] else ""} for row in rows])
    else:
        say("there are none; next: bench baseline set NAME --why TEXT")


def _facts(folder: Path, found: Baseline) -> list[tuple[str, str]]:
    from bench.core.baseline import gone

    groups: dict[str, int] = {}
    for named in found.records:
        scale, paper = named.path.split("/")[:2]
        groups[f"{paper}, {scale}"] = groups.get(f"{paper}, {scale}", 0) + 1
    commit = found.commit[:12] + (" with uncommitted changes" if found.dirty else "")
    lost = gone(folder, found)
    lines = [("baseline", found.name), ("why", found.why), ("set", found.date), ("commit", commit),
             ("records", str(len(found.records)))]  # fmt: skip
    lines += [("", f"{number} of {name}") for name, number in sorted(groups.items())]
    return [*lines, ("state", "; ".join(lost) if lost else "all there, unchanged")]
