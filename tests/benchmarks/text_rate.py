"""Which rate lets a student learn from plain text at small scale: by the loss there, on no score of any task.

    python tests/benchmarks/text_rate.py --teacher FOLDER --data FOLDER --corpus FOLDER --out FILE

Each rate is a plain `bench run` of seed 0, whose stage before the task says its first and last loss; the task is only
there to end the run. Runs land beside FILE, so that what was cut off goes on. The last line is the rate.
text_rate.json is what it found for TinyBERT's general distillation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

ALIKE = 1.02
"""Losses that are this many times apart or less are alike: of rates that lead to such the smallest is taken."""


def losses(folder: Path, variant: str, stage: str) -> dict[str, float] | None:
    """The first and last loss of a stage, where its run is made."""
    for path in folder.glob(f"small/*/{variant}/*/*.json"):
        for entry in json.loads(path.read_text())["stages"]:
            if entry["name"] == stage:
                return {"first_loss": entry["first_loss"], "last_loss": entry["last_loss"], "steps": entry["steps"]}
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--teacher", "--data", "--corpus", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--variant", default="tinybert-4-init-gd")
    parser.add_argument("--field", default="general.training.lr")
    parser.add_argument("--stage", default="distil_general")
    given = parser.parse_args()
    out, points = Path(given.out), []
    for rate in RATES:
        folder = out.with_suffix("") / f"{rate:g}"
        if losses(folder, given.variant, given.stage) is None:
            subprocess.run(
                [sys.executable, "-m", "bench", "run", "small", "--variant", given.variant, "--task", "sst2",
                 "--teacher", given.teacher, "--data", given.data, "--corpus", given.corpus, "--seeds", "1",
                 "--limit", "1000", "--set", f"{given.field}={rate:g}", "--results", str(folder)],
                check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        found = losses(folder, given.variant, given.stage)
        assert found is not None, f"no run of {given.variant} has a stage {given.stage}"
        points.append({"rate": rate} | found)
        out.write_text(json.dumps({"variant": given.variant, "field": given.field, "points": points}, indent=1) + "\n")
        print(json.dumps(points[-1]), flush=True)
    best = min(point["last_loss"] for point in points)
    print(next(point["rate"] for point in points if point["last_loss"] <= ALIKE * best))


if __name__ == "__main__":
    main()
