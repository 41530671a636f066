"""`bench list`: what there is to run."""

from __future__ import annotations

from typing import Any

from bench.cli.options import Json
from bench.cli.output import quiet_libraries, say, say_json
from bench.core.errors import BenchError


def command(as_json: Json = False) -> None:
    """Papers, variants, tasks, scales; what is broken."""
    quiet_libraries()
    from bench.core import registry
    from bench.core.spec import SCALES
    from bench.data.tasks import TASKS

    papers, broken = registry.find()
    listed: dict[str, Any] = {}
    for name in sorted(papers):
        if not registry.has_recipe(name):
            listed[name] = {"variants": {}, "tasks": [], "recipe": False}
            continue
        try:
            recipe = registry.load_recipe(name)
        except BenchError as error:
            broken[name] = str(error)
            continue
        listed[name] = {
            "variants": {name: one.says for name, one in recipe.variants.items()},
            "tasks": list(recipe.tasks),
            "recipe": True,
        }
    if as_json:
        return say_json({"papers": listed, "tasks": sorted(TASKS), "scales": list(SCALES), "broken": broken})
    for name, entry in listed.items():
        say(f"{name}  (tasks: {', '.join(entry['tasks']) or 'claims only, no recipe yet'})")
        for variant, says in entry["variants"].items():
            say(f"  {variant:28} {says}")
    for name, reason in sorted(broken.items()):
        say(f"{name}  BROKEN: {reason}")
    say(f"scales: {', '.join(SCALES)}")
