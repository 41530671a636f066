"""The cache of stages: what a stage left, under the hash of everything that shaped it.

An entry appears whole or not at all, and says of every file what it is (`bench.core.sealed`): one that is no longer
what was written is named, removed and made again, never used. Entries never change; two processes may share the cache.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from bench.core import sealed
from bench.core.errors import MachineError, SpecError
from bench.core.files import locked, remove_folder, staged_file, sweep_dead, whole_folder
from bench.core.processes import trains_together
from bench.core.record import StageEntry
from bench.core.trouble import FULL, explained, system_number

if TYPE_CHECKING:
    from bench.train.recipe import State

log = logging.getLogger(__name__)

MANIFEST = sealed.MANIFEST
ROOMS = ("stages", "progress", "logits", "further", "tokenizers")
"""What lies below the cache folder, beside what papers keep."""
WORKERS = "BENCH_WORKERS"
"""Set by the parent of several workers: so many share the machine, also while one of them is timed."""


class Cache:
    """Stage entries under `root/stages`, unfinished training under `root/progress`, locks under `root/locks`.

    What cannot be written there is kept in a temporary folder until this process ends.
    """

    def __init__(self, root: Path):
        self.root = root
        self._kept: Path | None = None
        self._named: set[str] = set()

    def entry(self, key: str) -> Path:
        """The folder of an entry, there or not."""
        kept = self._kept / key if self._kept else None
        return kept if kept and kept.is_dir() else self.root / "stages" / key[:2] / key

    def progress(self, key: str) -> Path:
        """Where a stage's unfinished training is checkpointed."""
        return self.root / "progress" / key

    def has(self, key: str) -> bool:
        """Whether an entry need not be made."""
        return self.is_here(key)

    def is_here(self, key: str) -> bool:
        """Whether an entry lies on this machine, by its manifest and the sizes of its files; `whole` reads them."""
        try:
            self._content(key, sealed.content)
        except (sealed.Damaged, OSError):
            return False
        return True

    def whole(self, key: str) -> bool:
        """Whether an entry is there, every byte as it was written; a damaged one is named, once.

        Raises OSError for one that could not be read: that says nothing of it.
        """
        try:
            self._content(key, sealed.checked)
        except sealed.LOST as damage:
            if self.entry(key).exists() and key not in self._named:
                self._named.add(key)
                told = damage if isinstance(damage, sealed.Damaged) else f"{MANIFEST} is missing"
                log.warning("the cache entry %s is damaged: %s; it is made again", self.entry(key), told)
            return False
        return True

    def check(self, key: str) -> dict[str, Any]:
        """An entry's content, after reading every byte of it. Raises MachineError where it is damaged."""
        try:
            return self._content(key, sealed.checked)
        except (sealed.Damaged, OSError) as damage:
            raise MachineError("a cache entry was damaged while it was used", where=self.entry(key), found=damage,
                               fix="look after the disk, and give the same command again") from damage  # fmt: skip

    def clear(self, key: str) -> None:
        """Remove what is there of a damaged entry, so that it can be made again.

        Raises MachineError where it cannot be removed.
        """
        if not os.path.lexists(self.entry(key)):
            return
        try:
            remove_folder(self.entry(key))
        except OSError as error:
            raise MachineError("a damaged cache entry cannot be removed", where=self.entry(key), found=error.strerror,
                               fix="delete that folder, or export BENCH_HOME=ANOTHER_FOLDER") from error  # fmt: skip

    def _content(self, key: str, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """An entry's content, by a reader of sealed folders; what lies in earlier entries is read, too."""
        found = read(self.entry(key))
        if "models" not in found:
            raise sealed.Damaged("an older bench made it")
        for name, other in found["models"].items():
            if other == key:
                continue
            try:
                read(self.entry(other))
                same = sealed.sums(self.entry(other), f"models/{name}") == found["seen"][name]
            except sealed.LOST as damage:
                raise sealed.Damaged(f"its model {name} lies in {self.entry(other)}: {damage}") from damage
            if not same:
                raise sealed.Damaged(f"its model {name} is another one in {self.entry(other)}")
        return found

    def manifest(self, key: str) -> dict[str, Any]:
        """What is written of an entry that is there."""
        return sealed.content(self.entry(key))

    def model_folder(self, key: str, name: str = "model") -> Path:
        """The folder that holds a model of an entry (a later stage that did not touch it refers to an earlier one)."""
        return self.entry(self.manifest(key)["models"][name]) / "models" / name

    def further_folder(self, key: str) -> Path:
        """Where the further file of an entry's model is written."""
        return self.root / "further" / key if self._kept is None else self._kept / "further" / key

    def load(self, key: str) -> State:
        """The state that a stage left. Raises MachineError for a damaged entry."""
        from bench.models import load  # with torch, which looking at the cache need not wait for
        from bench.train.recipe import State

        manifest = self.check(key)
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
        earlier: Sequence[StageEntry] = (),
    ) -> None:
        """Write an entry; a model that the stage handed on untouched is referred to, not written again.

        `earlier` says what the stages before it did and `dev_looks` counts theirs, too: an entry can speak for its
        chain when the earlier ones are gone. Where the cache is full or read-only the entry is kept elsewhere until
        this process ends, with a warning; raises MachineError where it can be kept nowhere.
        """
        from bench.models import load

        kept = self.manifest(before_key)["models"] if before_key and self.has(before_key) else {}

        def write(staging: Path) -> None:
            models, seen = {}, {}
            for name, model in state.models.items():
                handed_on = before.models.get(name) is model and name in kept
                if handed_on and load.is_saved_in(model, self.model_folder(before_key or "", name)):
                    models[name] = kept[name]
                    seen[name] = sealed.sums(self.entry(kept[name]), f"models/{name}")
                    continue
                load.save(model, staging / "models" / name, state.tokenizer or tokenizer)
                models[name] = key
            sealed.seal(staging, {
                "own_tokenizer": state.tokenizer is not None, "models": models, "seen": seen,
                "facts": dict(state.facts), "log": log.model_dump(), "dev_looks": dev_looks,
                "earlier": [one.model_dump() for one in earlier],
            })  # fmt: skip

        if self._write(key, write):  # what is kept elsewhere is gone when this process ends: its checkpoints are not
            shutil.rmtree(self.progress(key), ignore_errors=True)

    def _write(self, key: str, write: Callable[[Path], None]) -> bool:
        """Whether the entry lies in the cache; where that is full, this run's own folder has it."""
        place = self.entry(key)
        try:
            sweep_dead(place.parent)
            with whole_folder(place) as staging:
                write(staging)
            return True
        except (OSError, SafetensorError) as error:
            number = system_number(error)
            if number is None:
                raise
            trouble = _troubled(error, number, self.root, self.holds())
        if trains_together() or int(os.environ.get(WORKERS, "1")) > 1:  # others would not find it
            raise trouble
        try:
            with whole_folder(self._elsewhere() / key) as staging:
                write(staging)
        except (OSError, SafetensorError):
            raise trouble from None
        log.warning("%s; until this run ends the stage is kept in %s", trouble, self._kept)
        return False

    def _elsewhere(self) -> Path:
        """A folder that is there until this process ends."""
        if self._kept is None:
            self._kept = Path(tempfile.mkdtemp(prefix="bench-kept-"))
            atexit.register(shutil.rmtree, self._kept, ignore_errors=True)
        return self._kept

    def holds(self) -> str:
        """How much lies in which of the cache's folders, the largest first: what may be freed."""
        sizes: list[tuple[int, str]] = []
        with suppress(OSError):
            for folder in self.root.iterdir():
                files = (Path(at) / name for at, _, names in os.walk(folder) for name in names)
                sizes.append((sum(_bytes(file) for file in files), folder.name))
        return ", ".join(f"{name} {size / 1e6:,.1f} MB" for size, name in sorted(sizes, reverse=True) if size)

    def check_writable(self, keys: Sequence[str]) -> None:
        """Raises SpecError where nothing can be written and some of these stages are not there yet.

        A full disk passes: much can be done on it. What killed processes left half written goes first.
        """
        self.sweep()
        probe = self.root / f"probe-{os.getpid()}"
        try:
            with staged_file(probe) as staging:
                staging.touch()
        except OSError as error:
            if error.errno in FULL:
                return
            if not all(map(self.has, keys)):
                raise SpecError("the cache cannot be written", where=f"BENCH_HOME {self.root}", found=error.strerror,
                                fix="export BENCH_HOME=FOLDER_THAT_CAN_BE_WRITTEN") from error  # fmt: skip
            log.warning("the cache cannot be written (%s): %s; every stage is there", error.strerror, self.root)
            self._elsewhere()

    def sweep(self) -> None:
        """Remove what killed processes left half written anywhere in the cache."""
        sweep_dead(self.root)
        for room in ROOMS:
            for folder in (self.root / room, *(self.root / room).glob("*"), *(self.root / room).glob("*/fit-*")):
                if not folder.name.startswith("."):
                    sweep_dead(folder)

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Only one process builds an entry; see `locked`."""
        return locked(self.root / "locks" / key)


def _troubled(error: Exception, number: int, where: Path, holds: str) -> MachineError:
    if number in FULL:
        held = f" ({holds}; progress is of unfinished training)" if holds else ""
        return MachineError("the cache is full", where=where, found=os.strerror(number),
                            fix=f"free space in {where}{held}, or export BENCH_HOME=ANOTHER_FOLDER")  # fmt: skip
    told = explained(error, where)
    assert told is not None, "the system has said why"
    return told


def _bytes(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:
        return 0
