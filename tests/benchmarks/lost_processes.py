"""How long the other processes of a run go on when one dies or fails, or when their launcher is killed.

    python tests/benchmarks/lost_processes.py     about 3 minutes on two cores

A little BERT is trained by 2 and by 3 processes together, each time with a fault in one of them (see
tests/bench/faulty.py), from which the seconds count until none is left. The last line holds the longest; exit 1 where
it is over 10 seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from damage import PROFILE, ROOT

AIM_S = 10.0
FAULTS = ("train:1:raise", "train:1:kill", "train:0:kill", "predict:1:kill", "train:1:launcher")


class Ended(NamedTuple):
    """A run of several processes that has ended."""

    code: int
    """The launcher's exit code."""
    said: str
    left: int
    """Processes that are still there a minute after their launcher."""
    started: int
    took_s: float
    """From the fault until none was left; 0 without a fault."""


def run(folder: Path, fault: str, processes: int) -> Ended:
    """Make the profile's run in a folder by so many processes, one of which has the fault."""
    folder.mkdir(exist_ok=True)
    # Checkpoints after nearly every step: the same command has something to go on from.
    (folder / "profile.toml").write_text(PROFILE.replace("0.005", "0.0002"))
    environment = os.environ | {"BENCH_HOME": str(folder / "home"), "ACCELERATE_USE_CPU": "true", "FAULT": fault,
                                "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # fmt: skip
    program = ROOT / "tests" / "bench" / "faulty.py"
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), str(program)]
    with (folder / "said").open("w") as said:
        started = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, stdout=said, stderr=said)
        ranks: set[psutil.Process] = set()
        while started.poll() is None:
            ranks.update(psutil.Process(started.pid).children())
            time.sleep(0.05)
    left = psutil.wait_procs(list(ranks), timeout=60)[1]
    at = folder / "fault"
    took_s = time.time() - float(at.read_text()) if at.exists() else 0.0
    at.unlink(missing_ok=True)
    return Ended(started.returncode, (folder / "said").read_text(), len(left), len(ranks), took_s)


def main() -> None:
    longest = 0.0
    with tempfile.TemporaryDirectory() as name:
        for processes in (2, 3):
            for number, fault in enumerate(FAULTS):
                ended = run(Path(name) / f"{processes}-{number}", fault, processes)
                assert ended.code != 0 and ended.started == processes, ended.said[-3000:]
                longest = max(longest, ended.took_s if not ended.left else float("inf"))
                print(f"{processes} processes, {fault}: {ended.took_s:.1f} s", flush=True)
    print(f"the others end within {longest:.1f} s, aim {AIM_S:g}")
    if longest > AIM_S:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
