"""What `bench plan` says, from the costs of a plan (`bench.run.forecast`) and what is cached; without torch."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from bench.core import environment
from bench.core.places import home

log = logging.getLogger(__name__)

Costs = dict[str, Any]
"""As JSON: {"jobs": [{"spec", "stages": [{"name", "key", "shared", "seconds", "device_bytes", "host_bytes",
"kept_bytes", "progress_bytes", "from"}], "finish_s"}], "device", "gpu", "processes", "start_s", "base_bytes", "from"}.
`from` says whose runs an estimate is from; `start_s` is what a process takes before its first run, `base_bytes` what it
holds then."""

FIXES = {
    "memory": "a smaller batch_size with as much more accumulation (--set), or another device",
    "host": "less text: --set ...corpus_tokens=N, or another machine",
    "disk": "make room, or let BENCH_HOME name a folder on another disk",
}
"""What of a machine a plan needs -> what to do where there is too little."""


def joined(parts: list[Costs]) -> Costs:
    """The costs of the parts of a profile as those of one plan: what several have in common is counted once."""
    jobs, seen, known = [], set[str](), set[str]()
    for part, costs in enumerate(parts, 1):
        for job in costs["jobs"]:
            keys = [stage["key"] for stage in job["stages"]]
            name = f"{job['spec']} {keys[-1]}"
            if name in known:
                continue
            known.add(name)
            stages = [stage | {"shared": True, "seconds": 0.0, "kept_bytes": 0.0} if stage["key"] in seen else stage
                      for stage in job["stages"]]  # fmt: skip
            seen |= set(keys)
            spec = {"part": part, **job["spec"]} if len(parts) > 1 else job["spec"]
            jobs.append({**job, "spec": spec, "stages": stages})
    return {**parts[0], "jobs": jobs}


def answer(costs: Costs, has: Callable[[str], bool]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row per job and the totals; `has` says whether a stage's key is cached. A shared stage is counted once."""
    rows, new = [], []
    for job in costs["jobs"]:
        stages = [{"name": s["name"], "cached": has(s["key"]), "shared": s["shared"], "key": s["key"][:12]}
                  for s in job["stages"]]  # fmt: skip
        left = [s for s in job["stages"] if not has(s["key"])]
        seconds = sum(s["seconds"] for s in left) + (job["finish_s"] if left else 0.0)
        sources = ", ".join(dict.fromkeys(s["from"] for s in left))
        rows.append({**job["spec"], "stages": stages, "expected_s": round(seconds), "from": sources})
        new += left
    seconds = sum(row["expected_s"] for row in rows) + round(costs["start_s"])
    return rows, {
        "jobs": len(rows), "device": costs["device"], "expected_s": seconds,
        "device_hours": round(seconds / 3600 * costs["processes"], 2), **_room(costs, new), "from": costs["from"],
    }  # fmt: skip


def _room(costs: Costs, stages: list[dict[str, Any]]) -> dict[str, int]:
    """What the largest of the stages needs of memory, and all of them of disk, beside what is free.

    Of a GPU's machine also its main memory, which holds the data.
    """

    def most(*fields: str) -> float:
        return max((sum(stage[field] for field in fields) for stage in stages), default=0.0)

    disk = sum(stage["kept_bytes"] for stage in stages) + most("progress_bytes")
    main = min(int(psutil.virtual_memory().available), environment.memory_bytes())
    base = costs["base_bytes"]
    found = {"memory": (base + most("device_bytes", "host_bytes"), main)}
    if costs["gpu"]:
        gpu = environment.gpu_free_bytes()
        found = {"memory": (most("device_bytes"), gpu), "host": (base + most("host_bytes"), main)}
    found["disk"] = disk, shutil.disk_usage(_existing(home())).free
    return {name: round(size / 1e6) for what, sizes in found.items()
            for name, size in zip((f"{what}_mb", f"{what}_free_mb"), sizes, strict=True)}  # fmt: skip


def warn(total: dict[str, Any]) -> None:
    """Say in the log what of a plan does not fit here, and what to do about it."""
    for name, fix in FIXES.items():
        needed, free = total.get(f"{name}_mb", 0), total.get(f"{name}_free_mb", 0)
        if needed > free:
            log.warning("the plan needs about %d MB of %s; found %d MB free; next: %s", needed, name, free, fix)


def _existing(path: Path) -> Path:
    """The nearest folder that is there."""
    return next((one for one in (path, *path.absolute().parents) if one.exists()), Path("/"))
