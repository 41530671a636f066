"""How much faster two workers with a thread each make the smoke plan than one with two: minutes a round.

    python tests/benchmarks/workers_speed.py [--rounds 3] [--profile] [-- SELECTORS OF BENCH RUN]

Both sides run on the same two cores, in fresh caches and results folders, and take turns; which comes first changes
from round to round. The last line is the geometric mean of the paired ratios; the aim is 1.3. With --profile it is
said where the time went: until the first piece starts, what every worker made, how long each had nothing to make.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.store import read_records

ROOT = Path(__file__).resolve().parents[2]
CORES = 2
BEGINS = re.compile(r"worker=(\d+) makes=(\S+)$")
ENDS = re.compile(r"worker=(\d+) makes=(\S+) state=(\S+)")


@dataclass(frozen=True, slots=True)
class Piece:
    worker: int
    name: str
    begins_s: float
    ends_s: float


@dataclass(slots=True)
class Took:
    """One run of the command: its seconds, and what its log and its records say."""

    seconds: float
    pieces: list[Piece] = field(default_factory=list)
    stages: list[tuple[str, float]] = field(default_factory=list)
    jobs_s: float = 0.0


def run(workers: int, selectors: list[str]) -> Took:
    """The plan from nothing, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        threads = {"OMP_NUM_THREADS": str(max(1, CORES // workers))}
        command = [sys.executable, "-m", "bench", "run", *(selectors or ["smoke"]), "--results", f"{folder}/results",
                   "--workers", str(workers)]  # fmt: skip
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=os.environ | threads | {"BENCH_HOME": f"{folder}/home"},
        )  # fmt: skip
        begun: dict[tuple[int, str], float] = {}
        pieces, lines = [], []
        assert process.stderr is not None
        for line in process.stderr:
            now = time.perf_counter() - started
            lines.append(line)
            if found := BEGINS.search(line):
                begun[int(found[1]), found[2]] = now
            elif (found := ENDS.search(line)) and (int(found[1]), found[2]) in begun:
                pieces.append(Piece(int(found[1]), found[2], begun.pop((int(found[1]), found[2])), now))
        code = process.wait()
        took = Took(time.perf_counter() - started, pieces)
        if code not in (0, 1):  # 1: a run failed, which takes its time, too
            sys.exit("".join(lines[-20:]))
        for record in read_records(Path(folder) / "results"):
            took.jobs_s += record.seconds
            took.stages += [(f"{record.spec.variant} {s.name}", s.seconds) for s in record.stages if not s.cached]
        return took


def profile(one: Took, two: Took) -> None:
    """Where the time of a pair of runs went."""
    print(f"one worker: {one.seconds:.1f} s, of which jobs {one.jobs_s:.1f} s; the longest stages:")
    for name, seconds in sorted(one.stages, key=lambda stage: -stage[1])[:8]:
        print(f"  {seconds:7.1f} s  {name}")
    first = min((piece.begins_s for piece in two.pieces), default=0.0)
    last = max((piece.ends_s for piece in two.pieces), default=0.0)
    print(
        f"two workers: {two.seconds:.1f} s, the first piece at {first:.1f} s, {two.seconds - last:.1f} s after the last"
    )
    for worker in sorted({piece.worker for piece in two.pieces}):
        own = [piece for piece in two.pieces if piece.worker == worker]
        busy = sum(piece.ends_s - piece.begins_s for piece in own)
        print(f"  worker {worker}: busy {busy:.1f} s, with nothing to make {last - first - busy:.1f} s")
        for piece in sorted(own, key=lambda piece: piece.begins_s):
            print(f"    {piece.begins_s:7.1f} s + {piece.ends_s - piece.begins_s:6.1f} s  {piece.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("selectors", nargs="*")
    asked = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    ratios = []
    for number in range(asked.rounds):
        took = {workers: run(workers, asked.selectors) for workers in ((1, 2) if number % 2 == 0 else (2, 1))}
        ratios.append(took[1].seconds / took[2].seconds)
        print(f"round {number + 1}: one {took[1].seconds:.1f} s, two {took[2].seconds:.1f} s, {ratios[-1]:.2f}x",
              flush=True)  # fmt: skip
        if asked.profile:
            profile(took[1], took[2])
    print(f"two workers are {statistics.geometric_mean(ratios):.2f}x as fast as one")


if __name__ == "__main__":
    main()
