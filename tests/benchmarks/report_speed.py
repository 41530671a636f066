"""How long `bench report` takes over many records, reading them included: at most 5 s for 20,000, 20 s for 100,000.

    python tests/benchmarks/report_speed.py [RECORDS]        about a minute, most of it to make up the records

The largest resident set of the process (at most 1 GiB for 100,000 records) and its processor time stand above the last
line, `report_s: N`, the wall time of the whole command. Fails when torch was imported.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "report"
sys.path[:0] = [str(ROOT), str(FIXTURES)]

_PROGRAM = """
import resource, sys, time
from pathlib import Path
from bench.report import build
folder = Path(sys.argv[1])
report = build.write(build.request([folder / "results"], folder / "reports"))
assert "torch" not in sys.modules
print(f"files: {len(report.files)}")
print(f"peak_mib: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")
print(f"processor_s: {time.process_time():.2f}")
"""


def make(folder: Path, number: int) -> None:
    """So many records: seven variants of seven papers, nine tasks, as many seeds as it takes."""
    from records import METRICS, record

    tasks = [task for task in METRICS if task != "imdb"]
    variants = [(paper, f"{paper}-{letter}") for paper in ("bert", "distilbert", *"pqrst") for letter in "abcdefg"]
    variants[0], variants[7] = ("bert", "bert"), ("distilbert", "distilbert")
    for place in range(number):
        paper, variant = variants[place % len(variants)]
        task = tasks[place // len(variants) % len(tasks)]
        seed = place // (len(variants) * len(tasks))
        machine = ("xeon-2c", "epyc-64c")[seed % 2]
        teacher = None if paper == "bert" else 0.9
        made = record(
            paper, variant, task, seed, score=0.8 + place % 89 / 1000, teacher=teacher, stamp=place, machine=machine
        )
        where = folder / "results" / "small" / paper / variant / task
        where.mkdir(parents=True, exist_ok=True)
        (where / f"{made.id}.json").write_text(made.model_dump_json(indent=1) + "\n")


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), number)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", _PROGRAM, name], check=True, cwd=ROOT)
        print(f"report_s: {time.perf_counter() - start:.2f}")


if __name__ == "__main__":
    main()
