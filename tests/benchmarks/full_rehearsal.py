"""The full scale, rehearsed: every paper, variant and task that has a recipe, against a little hub; about 40 minutes.

    .venv/bin/python tests/benchmarks/full_rehearsal.py            main variants on every task, all variants on one
    .venv/bin/python tests/benchmarks/full_rehearsal.py --all      every variant on every task: hours

Real ids, files and layouts and the papers' own settings; models and rows are tiny, so that nothing is learnt about
accuracy. Says which jobs failed and why. The last line: jobs run, failed, commands that ended badly, seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[up]) for up in (1, 2)]

from rehearsal.corpus import write_corpus  # noqa: E402
from rehearsal.hub import serving  # noqa: E402
from rehearsal.models import models  # noqa: E402
from rehearsal.place import Place, codes  # noqa: E402
from rehearsal.rows import data_sets  # noqa: E402

from bench.core.store import read_records  # noqa: E402
from bench.data.tasks import get_task  # noqa: E402
from bench.run.recipes import usable  # noqa: E402

ONE = "sst2"
"""The task on which every variant is tried."""
SPANS_ALONE = {"distilbert-d": "squad"}
"""Variants of a single task."""


def commands(everything: bool) -> list[list[str]]:
    """The command lines; tasks of a cased vocabulary are run by themselves, as their teacher is another one."""
    every = ["--seeds", "1", "--corpus", "corpus.txt"]
    found = [] if everything else [["run", "full", *every]]
    for recipe in usable().values():
        variants = [variant for variant in recipe.variants if variant not in SPANS_ALONE]
        tasks = [task for task in recipe.tasks if not get_task(task).cased] if everything else [ONE]
        found.append(["run", "full", *every, *_each("--variant", variants), *_each("--task", tasks)])
        cased = [task for task in recipe.tasks if get_task(task).cased]
        if cased:
            chosen = variants if everything else [recipe.main_variant]
            found.append(["run", "full", *every, *_each("--variant", chosen), *_each("--task", cased)])
        alone = {variant: task for variant, task in SPANS_ALONE.items() if variant in recipe.variants}
        found += [["run", "full", *every, "--variant", variant, "--task", task] for variant, task in alone.items()]
    return found


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Rehearse the full scale against a little hub.")
    parser.add_argument("--all", action="store_true", help="every variant on every task")
    everything, started = parser.parse_args().all, time.monotonic()
    with tempfile.TemporaryDirectory() as name, serving([*models(), *data_sets()]) as hub:
        place, badly = Place(hub, Path(name)), 0
        write_corpus(place.folder / "corpus.txt")
        for words in commands(everything):
            clock = time.monotonic()
            told = place.bench("plan", *words[1:], "--", *words, timeout=None)
            print(f"{time.monotonic() - clock:6.0f} s  exits {codes(told)}  bench {' '.join(words)}", flush=True)
            if codes(told) != [0, 0]:
                badly += 1
                print(told.stderr[-2000:], flush=True)
        told = place.bench("report", "--results", "results", "--reports", "reports")
        badly += codes(told) != [0]
        records = list(read_records(place.folder / "results", ("full",)))
        failed = [record for record in records if record.status == "failed"]
        for record in failed:
            print(f"{record.spec.variant} on {record.spec.task}: {record.reason}")
        tiers = {tier: sum(record.tier == tier for record in records) for tier in ("exact", "checkpoint")}
    seconds = time.monotonic() - started
    print(f"jobs={len(records)} failed={len(failed)} commands_failed={badly} exact={tiers['exact']} "
          f"checkpoint={tiers['checkpoint']} seconds={seconds:.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
