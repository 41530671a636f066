"""What `bench plan` says, from the costs of a plan (`bench.run.forecast`) and what is cached; without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Costs = dict[str, Any]
"""As JSON: {"jobs": [{"spec", "stages": [{"name", "key", "shared", "seconds"}]}], "weights"}"""


def answer(costs: Costs, has: Callable[[str], bool]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row per job and the totals; `has` says whether a stage's key is cached. A shared stage is counted once."""
    rows = []
    for job in costs["jobs"]:
        stages = [{"name": s["name"], "cached": has(s["key"]), "shared": s["shared"], "key": s["key"][:12]}
                  for s in job["stages"]]  # fmt: skip
        seconds = sum(s["seconds"] for s in job["stages"] if not has(s["key"]))
        rows.append({**job["spec"], "stages": stages, "expected_s": round(seconds)})
    new = sum(not s["cached"] and not s["shared"] for row in rows for s in row["stages"])
    return rows, {
        "jobs": len(rows),
        "expected_s": sum(row["expected_s"] for row in rows),
        "memory_mb": round(costs["weights"] * 4 * 6 / 1e6),
        "disk_mb": round(new * costs["weights"] * 4 / 1e6),
    }
