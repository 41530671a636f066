"""Whether `bench plan` says what runs then use, of time, memory and disk: within a factor of 1.5.

    python tests/benchmarks/forecast_holds.py                          committed records alone: half a minute
    python tests/benchmarks/forecast_holds.py smoke --paper bert       and these runs: as long as they take
    python tests/benchmarks/forecast_holds.py small --paper bert --task rte --limit 500 --teacher FOLDER --data FOLDER

Of each machine with committed records a random half says what the other half took, run by run; once more the records
of the other machines say it. Then what the arguments ask for is planned in an empty folder, made, and planned anew
beside its records. Without records what is said is held against processor time over threads, since the machine may do
other things, too; with records of this machine against the clock. Memory is the most that the process held, disk what
lies in its cache. Ratios are said over used. The last line holds the figures; exit 1 where a total is outside.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bench.core.environment import cores
from bench.run import pace
from bench.run.costs import StageCosts
from bench.run.forecast import START_S
from bench.run.plan import Plan
from bench.run.recorded import Calibration, RecordedStage, read

ROOT = Path(__file__).resolve().parents[2]
FACTOR = 1.5
FEWEST = 20
"""Runs that a machine has at least, to be halved."""


def within(ratio: float) -> bool:
    return 1 / FACTOR <= ratio <= FACTOR


def halves(device: str) -> list[float]:
    """Of each machine with such a device: what half of its runs say of the others, over what those took."""
    known = StageCosts(cast(Plan, SimpleNamespace(jobs=(), request=None)), narrow=True)
    rate = pace.NOMINAL.get(device, pace.NOMINAL_CPU)
    machines: dict[str, list[RecordedStage]] = defaultdict(list)
    seen = read([ROOT / "results"], device)
    expected = {id(one): START_S + rate.seconds(*known.recorded(one)) for one in seen}
    for one in seen:
        machines[one.machine].append(one)
    totals = []
    for machine, stages in machines.items():
        runs: dict[int, list[RecordedStage]] = defaultdict(list)
        for one in stages:
            runs[id(one.record)].append(one)
        if len(runs) < FEWEST:
            continue
        order = list(runs)
        random.Random(0).shuffle(order)
        learned, asked = set(order[: len(order) // 2]), order[len(order) // 2 :]
        sources = {"its other half": [one for one in stages if id(one.record) in learned],
                   "other machines": [one for one in seen if one.machine != machine]}  # fmt: skip
        for source, given in sources.items():
            told = Calibration(given, machine, lambda one: expected[id(one)], timed=False)
            said = [sum(told.factor(one.keys)[0] * expected[id(one)] for one in runs[run]) for run in asked]
            took = [sum(one.seconds for one in runs[run]) for run in asked]
            ratios = [a / b for a, b in zip(said, took, strict=True)]
            share = sum(map(within, ratios)) / len(ratios)
            print(f"{machine}, by {source}: {len(asked)} runs, total {sum(said) / sum(took):.2f}, middle run "
                  f"{statistics.median(ratios):.2f}, {share:.0%} of them within")  # fmt: skip
            if source == "its other half":
                totals.append(sum(said) / sum(took))
    return totals


def called(folder: Path, home: str, *arguments: str) -> tuple[Any, dict[str, float]]:
    """What a command answers as JSON, and what its process used."""
    threads = os.environ.get("OMP_NUM_THREADS", str(cores()))
    given = {"BENCH_HOME": str(folder / home), "XDG_CACHE_HOME": str(folder / "answers"), "PYTHONPATH": str(ROOT),
             "OMP_NUM_THREADS": threads}  # fmt: skip
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, "-m", "bench", *arguments, "--json"], cwd=folder, env=os.environ | given,
                          stdout=subprocess.PIPE, text=True, check=False)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"bench {' '.join(arguments)}: exit code {done.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
    disk = sum(file.stat().st_size for file in (folder / home).rglob("*") if file.is_file())
    return json.loads(done.stdout), {"clock_s": time.monotonic() - began, "processor_s": spent / int(threads),
                                     "memory_mb": after.ru_maxrss / 1e3, "disk_mb": disk / 1e6}  # fmt: skip


def made(folder: Path, asked: list[str]) -> dict[str, float]:
    """Plan, make, and plan anew: what was said over what was used."""
    asked = [str(Path(word).resolve()) if Path(word).exists() else word for word in asked]
    first, _ = called(folder, "empty", "plan", *asked)
    records, used = called(folder, "home", "run", *asked)
    again, _ = called(folder, "empty", "plan", *asked)
    took = {tuple(record["spec"].values()): record["seconds"] for record in records}
    for before, after in zip(first["jobs"], again["jobs"], strict=True):
        spec = tuple(before[name] for name in ("paper", "variant", "task", "scale", "seed"))
        print(f"{spec[1]} {spec[2]} s{spec[4]}: took {took[spec]:.0f} s, said {before['expected_s']} s before "
              f"({before['from']}), {after['expected_s']} s with its record")  # fmt: skip
    print(f"used: {used}\nsaid before: {first['total']}\nsaid with records: {again['total']}")
    return {
        "time": first["total"]["expected_s"] / used["processor_s"],
        "time with records": again["total"]["expected_s"] / used["clock_s"],
        "memory": first["total"]["memory_mb"] / used["memory_mb"],
        "memory with records": again["total"]["memory_mb"] / used["memory_mb"],
        "disk": first["total"]["disk_mb"] / used["disk_mb"],
        "disk with records": again["total"]["disk_mb"] / used["disk_mb"],
    }  # fmt: skip


def main() -> None:
    asked = sys.argv[1:]
    totals = [ratio for device in ("cpu", "cuda") for ratio in halves(device)]
    good = all(map(within, totals))
    told = f"halves of {len(totals)} machines' records: totals {min(totals):.2f} to {max(totals):.2f}"
    if asked:
        with tempfile.TemporaryDirectory() as name:
            ratios = made(Path(name), asked)
        good = good and all(map(within, ratios.values()))
        told += "; " + ", ".join(f"{what} {ratio:.2f}" for what, ratio in ratios.items())
    print(told)
    sys.exit(not good)


if __name__ == "__main__":
    main()
