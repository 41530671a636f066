"""`bench list`: what there is to run, and which variants can follow each other in a stack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from bench.cli.options import Json
from bench.cli.output import say, say_json


def command(as_json: Json = False) -> None:
    """Papers, variants, stacks, tasks, scales; what is broken."""
    from bench.cli.catalogue import listing

    found = listing()
    if as_json:
        return say_json(found)
    for name, entry in found["papers"].items():
        say(f"{name}  (tasks: {', '.join(entry['tasks']) or 'claims only, no recipe yet'})")
        for variant, says in entry["variants"].items():
            say(f"  {variant:28} {says}")
        if entry["measured_only"]:
            say(f"  for bench measure and show alone: {', '.join(entry['measured_only'])}")
    say("stacks, as in --variant A+B: B starts from the finished model of A")
    for line in _told(found["stacks"]):
        say(f"  {line}")
    for name, reason in sorted(found["broken"].items()):
        say(f"{name}  BROKEN: {reason}")
    say(f"scales: {', '.join(found['scales'])}")


def _told(pairs: Sequence[Mapping[str, str]]) -> list[str]:
    """The pairs that combine, and a line for each reason why others do not."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        by_reason[pair["why_not"]].append(f"{pair['below']}+{pair['above']}")
    return [f"{', '.join(names)}: {f'no, {reason}' if reason else 'any variant of each'}"
            for reason, names in sorted(by_reason.items())]  # fmt: skip
