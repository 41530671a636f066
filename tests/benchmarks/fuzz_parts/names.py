"""Profiles, and the names that a command line takes: of runs, papers, variants, tasks, baselines."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuzz_parts.mutations import NAMES, as_toml, changed_bytes, changed_text, changed_tree
from fuzz_parts.reader import Reader, plain_name, possible, same, staying_in
from fuzz_parts.records import RESULTS

from bench.core import baseline, registry, store
from bench.core.errors import BenchError
from bench.core.spec import SCALES, Spec
from bench.core.store import Store
from bench.data.tasks import get_task
from bench.run.exports import find_record
from bench.run.request import Request, parse_set, read
from bench.run.stack import chosen_stacks

PROFILES: tuple[dict[str, Any], ...] = (
    {"scale": "smoke", "variant": ["bert"], "task": ["sst2"], "seeds": 2, "limit": 256, "dev_limit": 100,
     "checkpoint_minutes": 0.5, "set": {"fine_tune.epochs": 2, "fine_tune": {"lr": 3e-5, "engine": "auto"}}},
    {"scale": "small", "teacher": "teacher", "data": "data", "corpus": "corpus", "results": "results", "labels": 100,
     "unlabelled": "more.txt", "track": "tensorboard", "set": {"a": [1, 2]},
     "part": [{"paper": ["bert"], "says": "first", "set": {"b": "x"}}, {"task": ["rte", "mrpc"], "seeds": 1}]},
)  # fmt: skip


class Profiles(Reader):
    """`NAME.toml`, what `bench run` is given."""

    name, inputs = "profile", 35_000

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.file = folder / "profile.toml"
        for seed in PROFILES:
            self.file.write_bytes(as_toml(seed))
            read(str(self.file), {})

    def one(self, chance: random.Random) -> None:
        seed = chance.choice(PROFILES)
        if chance.random() < 0.25:
            self.last = changed_bytes(as_toml(seed), chance)
        else:
            self.last = as_toml(changed_tree(copy.deepcopy(seed), chance))
        self.file.write_bytes(self.last)
        requests = read(str(self.file), {})
        for request in requests:
            _check(request)
        whole = {"part": [request.model_dump(exclude_none=True) for request in requests]}
        self.file.write_bytes(as_toml(whole))
        same(read(str(self.file), {}), requests, "the profile")


def _check(request: Request) -> None:
    """Nothing of a request that was taken is impossible."""
    possible(request.scale in SCALES, "a scale", request.scale)
    for name in ("seeds", "limit", "dev_limit", "labels"):
        value = getattr(request, name)
        possible(value is None or (type(value) is int and 1 <= value < 2**63), f"a number of {name}", value)
    possible(len(request.seed_list) <= 1000, "a number of seeds", len(request.seed_list))
    minutes = request.checkpoint_minutes
    possible(math.isfinite(minutes) and minutes >= 0, "a time", minutes)
    for name in ("teacher", "data", "corpus", "unlabelled", "results"):
        value = getattr(request, name)
        possible(value is None or (bool(value) and "\0" not in value), f"a path of {name}", value)
    possible(all(isinstance(one, str) and one for one in (*request.paper, *request.variant, *request.task)), "a name",
             request)  # fmt: skip


class Names(Reader):
    """A name on the command line: what it makes a path of stays in the results folder."""

    name, inputs = "name", 15_000

    def __init__(self, folder: Path):
        super().__init__(folder)
        path = min(RESULTS.glob("small/*/*/*/*.json"), key=lambda one: one.stat().st_size)
        self.record = store.read_record(path)
        self.results = folder / "results"
        self.id = store.write_record(self.results, self.record).stem
        baseline.set_(self.results, "base", "a reason")
        for outside in (folder / "x.json", folder.parent / "x.json", self.results / "x.json"):
            outside.write_bytes(path.read_bytes())
        spec = self.record.spec
        self.good = (self.id, "base", spec.paper, spec.variant, spec.task, "bert+qbert-w4", "fine_tune.lr=1")
        self.ways: tuple[Callable[[str], object], ...] = (
            lambda name: find_record(self.results, name), lambda name: baseline.load(self.results, name or "x"),
            lambda name: baseline.promote(self.results, name), self._set_baseline, self._find, self._write_paper,
            self._write_id, get_task, registry.load_recipe, registry.load_shapes, registry.load_sections,
            lambda name: chosen_stacks(*read("smoke", {"variant": (name,)})),
            lambda name: chosen_stacks(*read("smoke", {"paper": (name,)})), lambda name: read(name, {}),
            lambda name: parse_set([name]), lambda name: read("smoke", {"task": (name,)}),
        )  # fmt: skip

    def one(self, chance: random.Random) -> None:
        way = chance.randrange(len(self.ways))
        name = changed_text(chance.choice(self.good), chance) if chance.random() < 0.8 else chance.choice(NAMES)
        self.last = (way, name)
        with staying_in(self.results, self.results.parent):
            self.ways[way](name)

    def _set_baseline(self, name: str) -> None:
        baseline.set_(self.results, name, "a reason")
        file = self.results / baseline.FOLDER / f"{name}.json"
        possible(plain_name(name) and file.is_file(), "a baseline", name)
        same(baseline.read(file).name, name, "the baseline")
        file.unlink()

    def _find(self, name: str) -> None:
        spec = self.record.spec
        for changed in ({"paper": name}, {"variant": name}, {"task": name}):
            asked = replace(Spec(**spec.model_dump()), **changed)
            try:
                found = Store(self.results).find(asked, self.record.hash)
            except BenchError:
                continue
            possible(found is None or name in (spec.paper, spec.variant, spec.task), "another run's record", name)
        Store(self.results).find(Spec(**spec.model_dump()), name)

    def _write_paper(self, name: str) -> None:
        spec = self.record.spec.model_copy(update={"variant": name})
        self._written(self.record.model_copy(update={"spec": spec}))

    def _write_id(self, name: str) -> None:
        self._written(self.record.model_copy(update={"id": name}))

    def _written(self, record: Any) -> None:
        path = store.write_record(self.results, record)
        possible(plain_name(path.stem) and plain_name(path.parents[1].name), "a path", path)
        path.unlink()
