"""`bench list`: what there is to run, and which variants can follow each other in a stack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench.cli.options import Json
from bench.cli.output import quiet_libraries, say, say_json
from bench.core.errors import BenchError


def command(as_json: Json = False) -> None:
    """Papers, variants, stacks, tasks, scales; what is broken."""
    quiet_libraries()
    from bench.core import registry
    from bench.core.spec import SCALES
    from bench.data.tasks import TASKS

    papers, broken = registry.find()
    listed: dict[str, Any] = {}
    recipes: dict[str, Any] = {}
    for name in sorted(papers):
        if not registry.has_recipe(name):
            listed[name] = {"variants": {}, "tasks": [], "recipe": False}
            continue
        try:
            recipes[name] = recipe = registry.load_recipe(name)
        except BenchError as error:
            broken[name] = str(error)
            continue
        variants = {variant: one.says for variant, one in recipe.variants.items()}
        listed[name] = {"variants": variants, "tasks": list(recipe.tasks), "recipe": True}
    pairs = _pairs(recipes)
    if as_json:
        return say_json({"papers": listed, "stacks": pairs, "tasks": sorted(TASKS), "scales": list(SCALES),
                         "broken": broken})  # fmt: skip
    for name, entry in listed.items():
        say(f"{name}  (tasks: {', '.join(entry['tasks']) or 'claims only, no recipe yet'})")
        for variant, says in entry["variants"].items():
            say(f"  {variant:28} {says}")
    say("stacks, as in --variant A+B: B starts from the finished model of A")
    for line in _told(pairs):
        say(f"  {line}")
    for name, reason in sorted(broken.items()):
        say(f"{name}  BROKEN: {reason}")
    say(f"scales: {', '.join(SCALES)}")


def _pairs(recipes: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every pair of papers, and why their variants do not combine (empty where they do)."""
    from bench.run.stack import why_not

    return [{"below": below, "above": above, "why_not": why_not(recipes[below], recipes[above])}
            for above in recipes for below in recipes if above != below]  # fmt: skip


def _told(pairs: Sequence[Mapping[str, str]]) -> list[str]:
    """The pairs that combine, and a line for each reason why others do not."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        by_reason[pair["why_not"]].append(f"{pair['below']}+{pair['above']}")
    return [f"{', '.join(names)}: {f'no, {reason}' if reason else 'any variant of each'}"
            for reason, names in sorted(by_reason.items())]  # fmt: skip
