"""Teacher logits on disk: made once per teacher and rows, read back without loading them into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from filelock import FileLock

from bench.core.files import whole_file
from bench.run.cache import home


def _path(key: str) -> Path:
    return home() / "logits" / key[:2] / f"{key}.npy"


@contextmanager
def making(key: str, accelerator: Accelerator) -> Iterator[None]:
    """Only one process of a machine makes them; processes that train together make them together."""
    if accelerator.num_processes > 1:
        yield
        return
    path = _path(key).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def missing(key: str, accelerator: Accelerator) -> bool:
    """Whether nobody has made them yet; all processes see the same answer."""
    accelerator.wait_for_everyone()
    found = _path(key).is_file()
    accelerator.wait_for_everyone()  # nobody writes before all have looked
    return not found


def write(key: str, logits: np.ndarray, accelerator: Accelerator) -> None:
    """Write fp32 [N, C], whole or not at all; only the main process writes."""
    if accelerator.is_main_process:
        with whole_file(_path(key)) as staging, staging.open("wb") as file:
            np.save(file, logits.astype(np.float32), allow_pickle=False)
    accelerator.wait_for_everyone()


def read(key: str, rows: int) -> np.ndarray:
    """The same as a read-only map of the file, [N, C]."""
    logits = np.load(_path(key), mmap_mode="r", allow_pickle=False)
    assert logits.ndim == 2 and len(logits) == rows, f"{logits.shape} logits for {rows} rows"
    return logits
