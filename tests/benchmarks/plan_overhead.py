"""What planning, handing out and hearing of 1,000 jobs take beside making them: two to five minutes.

    python tests/benchmarks/plan_overhead.py [--jobs 1000] [--workers 2] [--against RESULTS]

A plan of smoke runs is made as `bench run smoke --workers N` makes it, and handed to real child processes over their
pipes; but these answer at once, with a record that one real run wrote. What is left is the bench's own time, of the
processor, so that a busy machine does not count: planning, twice, since each child plans too, and all that the parent
does until it has the last answer. It is held against what the same jobs take when they are made: their number times
the mean seconds of the records in RESULTS, over the workers. Without RESULTS two papers' smoke runs are made first.
The last line is the share; exit 1 from 1% on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

AIM = 0.01
ANSWER = "PLAN_OVERHEAD_ANSWER"
"""Names the file with what the children answer."""


def idle(pipe: Connection, request: dict[str, Any]) -> None:
    """A child that makes nothing."""
    told = json.loads(Path(os.environ[ANSWER]).read_text())
    pipe.send({"say": "ready", "plan": told["plan"]})
    try:
        while True:
            order = pipe.recv()
            made = {"record": told["record"]} if order["do"] == "job" else {}
            pipe.send({"say": "done"} | made)
    except (EOFError, OSError):
        return


def real(results: Path) -> None:
    """Two papers' smoke runs."""
    command = [sys.executable, "-m", "bench", "run", "smoke", "--paper", "bert", "--paper", "distilbert", "--results",
               str(results)]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--against", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"BENCH_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
        against = asked.against or folder / "real"
        if asked.against is None:
            real(against)
        sys.exit(measured(folder, asked.jobs, asked.workers, against))


def measured(folder: Path, jobs: int, workers: int, against: Path) -> int:
    """The exit code, after the figures are printed."""
    from bench.core.store import read_records
    from bench.run import plan as planning
    from bench.run import workers as pool
    from bench.run.request import Request
    from bench.run.worker import identity

    records = [record for record in read_records(against) if record.status == "ok"]
    mean_s = sum(record.seconds for record in records) / len(records)
    request = Request(results=str(folder / "results"), seeds=1)
    seeds = -(-jobs // len(planning.make(request).jobs))  # and what is read only once is read
    began = time.process_time()
    plan = planning.make(request.model_copy(update={"seeds": seeds}))
    planning_s = time.process_time() - began
    answer = folder / "answer.json"
    answer.write_text(json.dumps({"plan": identity(plan), "record": records[0].model_dump(mode="json")}))
    os.environ[ANSWER] = str(answer)
    pool.serve = idle
    began = time.process_time()
    made = pool.run(plan, workers)
    handing_s = time.process_time() - began
    count = len(plan.jobs)
    assert len(made) == count >= jobs, f"{len(made)} records of {count} jobs"
    own_s, run_s = 2 * planning_s + handing_s, count * mean_s / workers
    print(f"{count} jobs: planning {planning_s:.2f} s, handing out and hearing {handing_s:.2f} s; "
          f"a job took {mean_s:.1f} s, the mean of {len(records)} records")  # fmt: skip
    print(f"the bench's own share of {run_s:,.0f} s with {workers} workers: {own_s / run_s:.3%}, aim under {AIM:.0%}")
    return int(own_s / run_s >= AIM)


if __name__ == "__main__":
    main()
