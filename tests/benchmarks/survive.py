"""Whether runs that are killed at random moments lose, double or change anything.

    python tests/benchmarks/survive.py [KILLS] [SEED]      100 and 0 by default, about 20 minutes

Four runs of a little BERT are made without trouble. Then they are made again and again, each time in a new place, by
one bench, by one with two workers, or by two benches on one cache and one results folder, while kill -9 ends a bench
with all its children, one of its workers, or their parent alone, at a random moment; the same command goes on, until
all is done. Children of a killed parent must end within 10 seconds. The last line holds the figures; exit 1 where
anything was lost, doubled, different or left running.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil
from damage import PROFILE, ROOT, numbers

from bench.core.record import Record
from bench.core.store import read_records

ASKED = PROFILE.replace("seeds = 1", "seeds = 4")
WAYS = ("one bench", "two workers", "two benches")
ORPHANS_S = 10.0
"""Within so long the children of a killed parent must have ended."""
LATEST_S = 900.0
"""After so long a place that is not done counts as lost."""


orphans: list[psutil.Process] = []
"""Children that went on when their parent was killed."""


class Found(NamedTuple):
    """What the records of a place say, beside those of the undisturbed one."""

    lost: int
    doubled: int
    different: int
    left: int
    """Half-written files and folders that the last bench did not sweep away."""


def started(place: Path, *more: str) -> subprocess.Popen[bytes]:
    """The command, in a session of its own."""
    environment = os.environ | {"BENCH_HOME": str(place / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                                "HF_HUB_OFFLINE": "1"}  # fmt: skip
    with (place / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", "bench", "run", "profile.toml", *more]
        return subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=log,
                                start_new_session=True)  # fmt: skip


def in_peace(place: Path, *more: str) -> dict[str, Record]:
    """The records of runs that nothing disturbs, by what they are of."""
    assert started(place, *more).wait() == 0, (place / "log.txt").read_text()[-3000:]
    found = {str(record.spec): record for record in read_records(place / "results", ("smoke",))}
    assert len(found) == 4, sorted(found)
    return found


def kill(process: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Kill -9 of a bench and all its children, of one child, or of the parent; false where it had ended by itself."""
    if process.poll() is not None:
        return False
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = [one for one in psutil.Process(process.pid).children(recursive=True)
                    if "spawn_main" in " ".join(one.cmdline())]  # fmt: skip
        if children and chance.random() < 0.5:
            chance.choice(children).kill()
            return True
    if children and chance.random() < 0.5:
        process.kill()
        process.wait()
        orphans.extend(psutil.wait_procs(children, ORPHANS_S)[1])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def disturbed(place: Path, way: str, most: int, lasts_s: float, chance: random.Random) -> int:
    """Make the runs of a place while at most so many kills fall; how many fell."""
    arguments = ("--workers", "2") if way == "two workers" else ()
    count, kills, ends = 2 if way == "two benches" else 1, 0, time.monotonic() + LATEST_S
    benches: list[subprocess.Popen[bytes]] = []
    while time.monotonic() < ends:
        if any(one.poll() == 0 for one in benches):
            for one in benches:
                one.wait(LATEST_S)
            return kills
        benches = [one for one in benches if one.poll() is None]
        while len(benches) < count:
            benches.append(started(place, *arguments))
        if kills < most:
            time.sleep(chance.uniform(0.1, 0.9) * lasts_s)
            kills += kill(chance.choice(benches), chance)
        else:
            time.sleep(0.5)
    for one in benches:
        kill(one, chance)
    return kills


def judged(place: Path, wanted: dict[str, Record]) -> Found:
    """The records of a place beside those that were made in peace."""
    records = list(read_records(place / "results", ("smoke",)))
    times = Counter(str(record.spec) for record in records if record.status == "ok")
    good = {str(record.spec): record for record in records if record.status == "ok"}
    different = [name for name, record in wanted.items() if name in good and numbers(good[name]) != numbers(record)]
    left = [path for root in ("home", "results") for path in (place / root).rglob(".*.writing")]
    return Found(
        len(wanted.keys() - good.keys()), sum(count - 1 for count in times.values()), len(different), len(left)
    )


def new(folder: Path, name: str) -> Path:
    """A place with the profile."""
    (folder / name).mkdir()
    (folder / name / "profile.toml").write_text(ASKED)
    return folder / name


def total(found: Iterable[Found]) -> Found:
    return Found(*map(sum, zip(*found, strict=True)))


def main() -> None:
    most, seed = (int(text) for text in (*sys.argv[1:], *("100", "0")[len(sys.argv) - 1 :]))
    chance, kills, found = random.Random(seed), 0, []
    with tempfile.TemporaryDirectory() as name:
        began, wanted = time.monotonic(), in_peace(new(Path(name), "alone"))
        lasts_s = time.monotonic() - began
        while kills < most:
            way = WAYS[len(found) % len(WAYS)]
            place = new(Path(name), f"place-{len(found)}")
            kills += disturbed(place, way, min(10, most - kills), lasts_s, chance)
            found.append(judged(place, wanted))
            print(f"{kills} kills; {way}: {found[-1]}", flush=True)
    lost, doubled, different, left = total(found)
    print(f"kills {kills}, places {len(found)}, records lost {lost}, doubled {doubled}, different {different}, "
          f"half-written files left {left}, children left running {len(orphans)}")  # fmt: skip
    if lost or doubled or different or orphans:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
