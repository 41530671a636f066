"""How long `bench regress` takes over many records, reading them included: at most 5 s for 20,000, 15 s for 100,000.

    python tests/benchmarks/regress_speed.py [RECORDS]        about a minute, most of it to make up the records

Half of the records are the baseline's, half came after it. The largest resident set of the process and its processor
time stand above the last line, `regress_s: N`, the wall time of the whole command. Fails when torch was imported.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fixtures" / "report")]

SEEDS = 10

_PROGRAM = """
import resource, sys, time
from pathlib import Path
sys.argv = ["bench", "regress", "--no-confirm", "--results", sys.argv[1] + "/results", "--reports", sys.argv[1]]
from bench.cli.main import main
try:
    main()
except SystemExit as ended:
    print(f"exit_code: {ended.code}")
assert "torch" not in sys.modules
print(f"peak_mib: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")
print(f"processor_s: {time.process_time():.2f}")
"""


def make(folder: Path, number: int, month: int) -> None:
    """So many records of ten seeds a series, begun in this month; scores and times spread as real ones do."""
    from records import METRICS, record

    tasks, chance = [task for task in METRICS if task != "imdb"], random.Random(month)
    for place in range(number):
        series, seed = divmod(place, SEEDS)
        task, variant = tasks[series % len(tasks)], f"student-{series // len(tasks)}"
        made = record("distilbert", variant, task, seed, score=0.8 + chance.gauss(0, 0.005), stamp=place,
                      speedup=2 * math.exp(chance.gauss(0, 0.02)))  # fmt: skip
        month_of = made.started.replace("2026-01", f"2026-{month:02d}")
        name = made.id.replace("202601", f"2026{month:02d}")
        where = folder / "small" / "distilbert" / variant / task
        where.mkdir(parents=True, exist_ok=True)
        text = made.model_copy(update={"started": month_of, "id": name}).model_dump_json(indent=1)
        (where / f"{name}.json").write_text(text + "\n")


def main() -> None:
    from bench.core import baseline

    number = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as name:
        results = Path(name) / "results"
        make(results, number // 2, 1)
        baseline.set_(results, "before", "half of them")
        make(results, number - number // 2, 2)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", _PROGRAM, name], check=True, cwd=ROOT)
        print(f"regress_s: {time.perf_counter() - start:.2f}")


if __name__ == "__main__":
    main()
