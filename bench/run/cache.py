"""The cache of stages: what a stage left, under the hash of everything that shaped it.

An entry appears whole or not at all; entries never change; two processes may share the cache.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from bench.core.files import whole_folder
from bench.core.record import StageEntry
from bench.models import load
from bench.train.recipe import State

MANIFEST = "manifest.json"


def home() -> Path:
    """The cache folder: $BENCH_HOME, else `bench` in the user's cache folder."""
    given = os.environ.get("BENCH_HOME")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bench"


class Cache:
    """Stage entries under `root/stages`, unfinished training under `root/progress`, locks under `root/locks`."""

    def __init__(self, root: Path):
        self.root = root

    def entry(self, key: str) -> Path:
        return self.root / "stages" / key[:2] / key

    def progress(self, key: str) -> Path:
        """Where a stage's unfinished training is checkpointed."""
        return self.root / "progress" / key

    def has(self, key: str) -> bool:
        return (self.entry(key) / MANIFEST).is_file()

    def manifest(self, key: str) -> dict[str, Any]:
        return json.loads((self.entry(key) / MANIFEST).read_text())

    def model_folder(self, key: str, name: str = "model") -> Path:
        """The folder that holds a model of an entry (a later stage that did not touch it refers to an earlier one)."""
        return self.entry(self.manifest(key)["models"][name]) / "models" / name

    def further_folder(self, key: str) -> Path:
        """Where the further file of an entry's model is written."""
        return self.root / "further" / key

    def load(self, key: str) -> State:
        """The state that a stage left."""
        manifest = self.manifest(key)
        models = {name: load.load_saved(self.model_folder(key, name)) for name in manifest["models"]}
        words = load.tokenizer(self.model_folder(key)) if self.own_tokenizer(key) else None
        return State(models, manifest["facts"], words)

    def own_tokenizer(self, key: str) -> bool:
        """Whether the model of an entry reads with a tokenizer of its own, which lies beside it."""
        return bool(self.manifest(key).get("own_tokenizer"))

    def save(
        self,
        key: str,
        state: State,
        before: State,
        before_key: str | None,
        log: StageEntry,
        dev_looks: int,
        tokenizer: Any,
    ) -> None:
        """Write an entry; a model that the stage handed on untouched is referred to, not written again."""
        kept = self.manifest(before_key)["models"] if before_key and self.has(before_key) else {}
        with whole_folder(self.entry(key)) as staging:
            models = {}
            for name, model in state.models.items():
                handed_on = before.models.get(name) is model and name in kept
                if handed_on and load.is_saved_in(model, self.model_folder(before_key or "", name)):
                    models[name] = kept[name]
                    continue
                load.save(model, staging / "models" / name, state.tokenizer or tokenizer)
                models[name] = key
            content = {"own_tokenizer": state.tokenizer is not None, "models": models, "facts": dict(state.facts),
                       "log": log.model_dump(), "dev_looks": dev_looks}  # fmt: skip
            (staging / MANIFEST).write_text(json.dumps(content, indent=1, sort_keys=True))
        shutil.rmtree(self.progress(key), ignore_errors=True)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Only one process builds an entry; a lock dies with its process."""
        path = self.root / "locks" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield
