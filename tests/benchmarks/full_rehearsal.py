"""The full scale, rehearsed: every paper, variant and task that has a recipe, against a little hub; about 40 minutes.

    .venv/bin/python tests/benchmarks/full_rehearsal.py            main variants on every task, all variants on one
    .venv/bin/python tests/benchmarks/full_rehearsal.py --all      every variant on every task: hours
    .venv/bin/python tests/benchmarks/full_rehearsal.py --paper P  one paper's variants

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


SMALLER = {
    "stream.hidden_size": 32, "stream.embedding_size": 8, "teacher.num_hidden_layers": 2,
    "student.num_hidden_layers": 2, "teacher.intra_bottleneck_size": 32, "teacher.intermediate_size": 64,
    "student.intra_bottleneck_size": 8, "student.intermediate_size": 32, "pretrain.epochs": 1,
    "transfer.training.epochs": 1, "distillation.training.epochs": 1, "fine_tune.tries": 2,
    "stream.initializer_range": 0.1, "fine_tune.training.lr": 3e-3, "fine_tune.training.epochs": 12,
}  # fmt: skip
"""Of MobileBERT, whose sizes at full scale are the paper's own and not those of the encoder at hand."""


def commands(everything: bool, only: str) -> list[list[str]]:
    """The command lines; tasks of a cased vocabulary are run by themselves, as their teacher is another one."""
    every = ["--seeds", "1", "--corpus", "corpus.txt"]
    smaller = _each("--set", (f"{name}={value}" for name, value in SMALLER.items()))
    found = [] if everything or only else [["run", "full", *every, *smaller]]
    for recipe in [one for one in usable().values() if not only or one.name == only]:
        variants = [variant for variant in recipe.variants if variant not in SPANS_ALONE]
        tasks = [task for task in recipe.tasks if not get_task(task).cased] if everything else [ONE]
        if recipe.name == "mobilebert":
            released = [variant for variant in variants if recipe.variants[variant].released]
            found.append(["run", "full", *every, *_each("--variant", released), *_each("--task", tasks)])
            variants = [variant for variant in variants if variant not in released]
        own = smaller if recipe.name == "mobilebert" else []
        found.append(["run", "full", *every, *own, *_each("--variant", variants), *_each("--task", tasks)])
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
    parser.add_argument("--paper", default="", help="this paper alone")
    given, started = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory() as name, serving([*models(), *data_sets()]) as hub:
        place, badly = Place(hub, Path(name)), 0
        write_corpus(place.folder / "corpus.txt")
        for words in commands(given.all, given.paper):
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
