"""Which rate and how many epochs the small scale gives each paper: one search, the same for all, on dev scores.

    python tests/benchmarks/small_scale_search.py --teacher FOLDER --data FOLDER --corpus FOLDER --out FILE

A search finds the rate of what learns the task, for each number of epochs, and then the rate of what learns from plain
text, by the tasks that it leads to. Rates stand a factor of about three apart; where the best is at an edge, the next
one is tried. Each point is a plain `bench run` of seed 0 with few rows; runs land beside FILE, so that a search that
was cut off goes on. The evidence has all rows and other seeds too; both are read on dev. The last lines are the table.
small_scale_search.json is what it found.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TASKS = {"stsb": "pearson", "sst2": "accuracy"}
"""Task -> what it is searched by; on few rows of the others BERT itself is near chance."""
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
START = (1, 2, 3)
"""Of the rates, those that every search tries."""
FIRST = 1e-4
"""Rate on plain text while that on the task is searched."""


@dataclass(frozen=True)
class Side:
    """One paper's variant, and the fields that hold its settings."""

    variant: str
    trainings: tuple[str, ...]
    """What learns the task."""
    general: str | None = None
    """What learns from plain text."""
    fixed: tuple[tuple[str, float], ...] = ()
    """Fields that no point changes."""


SIDES = (
    Side("bert", ("fine_tune",)),
    Side("distilbert", ("fine_tune",), "general.training", (("general.ce_share", 0.25),)),
    Side("tinybert-4-no-da", ("intermediate.training", "prediction.training"), "general.training"),
)


class Search:
    """Runs points and remembers their scores."""

    def __init__(self, given: argparse.Namespace):
        self.given, self.out = given, Path(given.out)
        self.folder = self.out.with_suffix("")
        self.points: list[dict] = []

    def score(self, side: Side, fields: dict[str, float]) -> float:
        """The mean over the tasks of the dev score that a point reaches."""
        known = next(
            (one["mean"] for one in self.points if one["set"] == fields and one["variant"] == side.variant), None
        )
        if known is not None:
            return known
        name = "_".join([side.variant, *(f"{field}={value:g}" for field, value in sorted(fields.items()))])
        folder = self.folder / name.replace(".training", "")
        if not self._scores(folder, side):
            sets = [part for field, value in fields.items() for part in ("--set", f"{field}={value:g}")]
            subprocess.run(
                [sys.executable, "-m", "bench", "run", "small", "--variant", side.variant,
                 *(part for task in TASKS for part in ("--task", task)),
                 "--teacher", self.given.teacher, "--data", self.given.data, "--corpus", self.given.corpus,
                 "--seeds", "1", "--limit", str(self.given.rows), "--results", str(folder), *sets],
                check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        scores = self._scores(folder, side)
        mean = statistics.fmean(scores.values())
        self.points.append({"variant": side.variant, "set": fields, "dev": scores, "mean": mean})
        self.out.write_text(json.dumps({"rows": self.given.rows, "points": self.points}, indent=1) + "\n")
        print(f"{side.variant:18} {mean:.4f}  {scores}  {fields}", flush=True)
        return mean

    @staticmethod
    def _scores(folder: Path, side: Side) -> dict[str, float]:
        """Task -> its primary score on dev, where all tasks are done."""
        found = {}
        for path in sorted(folder.glob(f"small/*/{side.variant}/*/*.json")):
            record = json.loads(path.read_text())
            task = record["spec"]["task"]
            if task not in TASKS or record["status"] != "ok":
                continue
            values = {one["metric"]: one["value"] for one in record["measurements"] if one["split"] == "validation"}
            found[task] = values[TASKS[task]]
        return found if found.keys() == TASKS.keys() else {}


def climbed(score: Callable[[float], float]) -> tuple[float, float]:
    """The best of the rates, and its score; beyond the start only while the best stands at an edge."""
    known = {place: score(RATES[place]) for place in START}
    while True:
        best = max(known, key=lambda place: known[place])
        new = {best - 1, best + 1} - known.keys()
        if not new or not 0 <= (place := new.pop()) < len(RATES):
            return RATES[best], known[best]
        known[place] = score(RATES[place])


def searched(search: Search, side: Side) -> dict[str, float]:
    """The best point of one side."""
    fixed = dict(side.fixed)
    if side.general:
        fixed |= {"general.corpus_tokens": search.given.tokens, f"{side.general}.lr": FIRST}
    best: dict[float, dict[str, float]] = {}
    for epochs in search.given.epochs:
        rate, score = climbed(lambda rate, epochs=epochs: search.score(side, fixed | task_learning(side, rate, epochs)))
        best[score] = fixed | task_learning(side, rate, epochs)
    point = best[max(best)]
    if side.general:
        field = f"{side.general}.lr"
        rate, _ = climbed(lambda rate: search.score(side, point | {field: rate}))
        point = point | {field: rate}
    return point


def task_learning(side: Side, rate: float, epochs: int) -> dict[str, float]:
    names = itertools.chain.from_iterable((f"{one}.lr", f"{one}.epochs") for one in side.trainings)
    return dict(zip(names, itertools.cycle((rate, epochs))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--teacher", "--data", "--corpus", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--side", action="append", choices=[side.variant for side in SIDES])
    search = Search(parser.parse_args())
    chosen = [side for side in SIDES if side.variant in (search.given.side or [one.variant for one in SIDES])]
    table = [(side.variant, searched(search, side)) for side in chosen]
    for variant, point in table:
        print(variant, json.dumps(point))


if __name__ == "__main__":
    main()
