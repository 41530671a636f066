"""What `bench plan` says, from the costs of a plan (`bench.run.forecast`) and what is cached; without torch."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.core import environment
from bench.core.paths import home
from bench.core.spec import Spec
from bench.core.store import Store

log = logging.getLogger(__name__)

Costs = dict[str, Any]
"""As JSON: {"jobs": [{"spec", "hash", "asks", "stages": [{"name", "key", "seconds", "device_bytes", "host_bytes",
"kept_bytes", "progress_bytes", "from"}], "finish_s"}], "device", "gpu", "processes", "start_s", "base_bytes", "from"}.
`asks` are the hashes of the runs whose models a run asks for; `from` says whose runs an estimate is from; `start_s` is
what a process takes before its first run, `base_bytes` what it holds then."""

FIXES = {
    "memory": "a smaller batch_size with as much more accumulation (--set), or another device",
    "host": "less text: --set ...corpus_tokens=N, or another machine",
    "disk": "make room, or let BENCH_HOME name a folder on another disk",
}
"""What of a machine a plan needs -> what to do where there is too little."""

ROOMS = {"memory": "memory", "host": "main memory", "disk": "disk"}
"""The same -> what people call it."""


def marked(costs: Costs, results: Path) -> Costs:
    """The same, with what of it is `done`: the runs that have their record."""
    store = Store(results)
    jobs = [job | {"done": store.find(Spec(**job["spec"]), job["hash"]) is not None} for job in costs["jobs"]]
    return costs | {"jobs": jobs}


def joined(parts: list[Costs]) -> Costs:
    """The costs of the parts of a profile as those of one plan: a run that several have is counted once."""
    jobs: dict[str, dict[str, Any]] = {}
    for part, costs in enumerate(parts, 1):
        for job in costs["jobs"]:
            jobs.setdefault(job["hash"], job | ({"part": part} if len(parts) > 1 else {}))
    return {**parts[0], "jobs": list(jobs.values())}


def answer(costs: Costs, has: Callable[[str], bool]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row per job and the totals, of costs that are `marked`; `has` says whether a stage's key is cached.

    What several runs make is counted once, for the first of them; for the others it is `shared`.
    """
    rows, new, seen = [], [], set[str]()
    for job, left in zip(costs["jobs"], _left(costs["jobs"], has), strict=True):
        stages = [{"name": s["name"], "cached": has(s["key"]), "shared": s["key"] in seen, "key": s["key"][:12]}
                  for s in job["stages"]]  # fmt: skip
        own = [s for s in left if s["key"] not in seen]
        seen |= {s["key"] for s in left}
        seconds = sum(s["seconds"] for s in own) + (0.0 if job["done"] else job["finish_s"])
        part = {"part": job["part"]} if "part" in job else {}
        rows.append({**part, **job["spec"], "stages": stages, "expected_s": round(seconds),
                     "from": ", ".join(dict.fromkeys(s["from"] for s in left))})  # fmt: skip
        new += own
    seconds = sum(row["expected_s"] for row in rows) + round(costs["start_s"])
    return rows, {
        "jobs": len(rows), "device": costs["device"], "expected_s": seconds,
        "device_hours": round(seconds / 3600 * costs["processes"], 2), **_room(costs, new), "from": costs["from"],
    }  # fmt: skip


def _left(jobs: list[dict[str, Any]], has: Callable[[str], bool]) -> list[list[dict[str, Any]]]:
    """The stages of each run that are to be made: all after its last cached one, where it is not done.

    Those of a run that is done are, too, where another one asks for its model and the cache has lost it.
    """
    known = {job["hash"]: job for job in jobs}
    left: dict[str, list[dict[str, Any]]] = {}
    todo = [job["hash"] for job in jobs if not job["done"]]
    while todo:
        job = known[todo.pop()]
        if job["hash"] in left:
            continue
        last = max((place for place, stage in enumerate(job["stages"], 1) if has(stage["key"])), default=0)
        left[job["hash"]] = job["stages"][last:]
        if left[job["hash"]] or not job["done"]:  # one that is scored is timed beside its teacher
            todo += job["asks"]
    return [left.get(job["hash"], []) for job in jobs]


def _room(costs: Costs, stages: list[dict[str, Any]]) -> dict[str, int]:
    """What the largest of the stages needs of memory, and all of them of disk, beside what is free.

    Of a GPU's machine also its main memory, which holds the data.
    """

    def most(*fields: str) -> float:
        return max((sum(stage[field] for field in fields) for stage in stages), default=0.0)

    disk = sum(stage["kept_bytes"] for stage in stages) + most("progress_bytes")
    main = environment.free_bytes()
    base = costs["base_bytes"]
    found = {"memory": (base + most("device_bytes", "host_bytes"), main)}
    if costs["gpu"]:
        gpu = environment.gpu_free_bytes()
        found = {"memory": (most("device_bytes"), gpu), "host": (base + most("host_bytes"), main)}
    found["disk"] = disk, shutil.disk_usage(_existing(home())).free
    return {name: round(size / 1e6) for what, sizes in found.items()
            for name, size in zip((f"{what}_mb", f"{what}_free_mb"), sizes, strict=True)}  # fmt: skip


def sentence(total: dict[str, Any]) -> str:
    """The totals for people: `2 jobs on a chip, fp32: about 1 h 05 min, 2.0 GB of memory (23.9 free), ...`"""
    jobs = f"{total['jobs']} job{'s' if total['jobs'] != 1 else ''} on {total['device']}"
    room = [f"{total[f'{name}_mb'] / 1000:.1f} GB of {says} ({total[f'{name}_free_mb'] / 1000:.1f} free)"
            for name, says in ROOMS.items() if f"{name}_mb" in total]  # fmt: skip
    return f"{jobs}: about {', '.join((duration(total['expected_s']), *room))}. From: {total['from']}."


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `1 h 05 min`"""
    if seconds < 60:
        return f"{round(seconds)} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def warn(total: dict[str, Any]) -> None:
    """Say in the log what of a plan does not fit here, and what to do about it."""
    for name, fix in FIXES.items():
        needed, free = total.get(f"{name}_mb", 0), total.get(f"{name}_free_mb", 0)
        if needed > free:
            log.warning("the plan needs about %d MB of %s; found %d MB free; next: %s", needed, name, free, fix)


def _existing(path: Path) -> Path:
    """The nearest folder that is there."""
    return next((one for one in (path, *path.absolute().parents) if one.exists()), Path("/"))
