"""The smoke teacher beside a linear model on word counts, task by task: embedded data must need more than words.

    make reproduce && python tests/benchmarks/linear_against_teacher.py [RESULTS]      seconds

Scores of the teacher are those of the newest records in RESULTS (results by default): accuracy, or Pearson for stsb.
The last line counts the tasks on which the teacher is at least 10 points above the linear model.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.core import registry, store
from bench.data.tasks import TASKS

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "synthetic"
MARGIN = 0.10


def main() -> None:
    sys.path.insert(0, str(FIXTURES))
    from word_counts import linear_score  # pyright: ignore[reportMissingImports]

    results = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    papers, _ = registry.find()
    references = {name for name in papers if registry.has_recipe(name) and registry.load_recipe(name).is_reference}
    records = store.read_records(results, ("smoke",))
    newest = {r.spec.task: r for r in records if r.spec.paper in references and r.status == "ok"}
    if not newest:
        sys.exit(f"no record of a teacher under {results}/smoke; next: make reproduce")
    clear = 0
    print(f"{'task':8} {'split':18} {'linear':>7} {'teacher':>8}")
    for name, record in sorted(newest.items()):
        split = TASKS[name].scored[0]
        teacher = record.value("pearson" if TASKS[name].regression else "accuracy", split)
        linear = linear_score(name, split)
        clear += teacher is not None and teacher - linear >= MARGIN
        print(f"{name:8} {split:18} {linear:7.3f} {'-' if teacher is None else f'{teacher:8.3f}'}")
    print(f"tasks clearly above word counts: {clear} of {len(newest)}")


if __name__ == "__main__":
    main()
