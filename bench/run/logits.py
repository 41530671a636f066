"""Teacher logits on disk: made once per teacher and rows, read back without loading them into memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from bench.core import sealed
from bench.core.files import locked, remove_folder, sweep_dead, whole_folder
from bench.core.paths import home
from bench.train.processes import decided

log = logging.getLogger(__name__)

FILE = "logits.npy"


def folder_of(key: str) -> Path:
    """Where they lie: the file, and a manifest that says what it is."""
    return home() / "logits" / key[:2] / key


@contextmanager
def _making(key: str, accelerator: Accelerator) -> Iterator[None]:
    """Only one process of a machine makes them; processes that train together make them together."""
    if accelerator.num_processes > 1:
        yield
        return
    with locked(folder_of(key).with_suffix(".lock")):
        yield


def kept(
    key: str, rows: int, make: Callable[[], np.ndarray], accelerator: Accelerator
) -> tuple[np.ndarray, bool]:  # fmt: skip
    """The logits of so many rows, fp32 [N, C], and whether they were made now.

    They are a read-only map of the file; where it cannot be written they stay in memory, with a warning.
    """
    folder = folder_of(key)
    with _making(key, accelerator):
        if decided(accelerator, lambda: _whole(folder, rows)):
            return _mapped(folder), False
        logits = make().astype(np.float32)
        assert len(logits) == rows, f"{logits.shape} logits for {rows} rows"
        written = decided(accelerator, lambda: _written(folder, logits))
        return (_mapped(folder) if written else logits), True


def _whole(folder: Path, rows: int, tell: bool = True) -> bool:
    """Whether they are there, every byte as it was written; a damaged entry is named.

    Raises OSError for one that could not be read: that says nothing of it.
    """
    try:
        if sealed.checked(folder) == {"rows": rows}:
            return True
        damage = "they are of other rows"
    except sealed.LOST as error:
        if not folder.exists():
            return False
        damage = str(error) if isinstance(error, sealed.Damaged) else f"{sealed.MANIFEST} is missing"
    if tell:
        log.warning("the teacher's logits in %s are damaged: %s; they are made again", folder, damage)
    return False


def _written(folder: Path, logits: np.ndarray) -> bool:
    try:
        if folder.exists() and not _whole(folder, len(logits), tell=False):
            remove_folder(folder)
        sweep_dead(folder.parent)
        with whole_folder(folder) as staging:
            with (staging / FILE).open("wb") as file:
                np.save(file, logits, allow_pickle=False)
            sealed.seal(staging, {"rows": len(logits)})
    except OSError as error:
        log.warning("the teacher's logits cannot be kept in %s (%s); next: free space there", folder, error.strerror)
        return False
    return True


def _mapped(folder: Path) -> np.ndarray:
    return np.load(folder / FILE, mmap_mode="r", allow_pickle=False)
