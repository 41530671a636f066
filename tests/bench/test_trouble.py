"""Trouble of the machine is one line and no failed record; every other error stays what it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from bench.core.errors import MachineError, ModelError, SpecError
from bench.core.trouble import explained, system_number

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x")
RUST = 'Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }'
ALLOCATOR = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FULL, "the system refused; in /data/x; found No space left on device; next: free space"),
        (OSError(errno.EROFS, "x"), "the system refused; in a run; found Read-only file system"),
        (OSError(errno.EMFILE, "x"), "ulimit"),
        (PermissionError(errno.EACCES, "x", "/data/y"), "in /data/y; found Permission denied"),
        (SafetensorError(RUST), "found No space left on device"),
        (SafetensorError("IoError: File too large (os error 27)"), "found File too large"),
        (MemoryError(), "the memory is full"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore"), "found CUDA out of memory"),
        (RuntimeError(ALLOCATOR), "the memory is full"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1"), "was lost"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "another process of this run was lost"),
        (MachineError("mine"), "mine"),
    ],
)
def test_it_is_told(error: Exception, says: str) -> None:
    told = explained(error, "a run")
    assert told is not None and says in str(told) and told.exit_code == 1 and "\n" not in str(told)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No space left on device"), RuntimeError("shapes do not match"), KeyError("memory"),
        OSError("a library says so of a file"), SafetensorError("invalid header"), SpecError("wrong input"),
    ],
)  # fmt: skip
def test_other_errors_stay(error: Exception) -> None:
    assert explained(error) is None


def test_a_full_disk_is_found_behind_what_a_paper_says_of_it() -> None:
    outer, other = SpecError("the file cannot be written"), ModelError("no such file")
    outer.__cause__, other.__cause__ = FULL, FileNotFoundError(errno.ENOENT, "x")
    assert isinstance(explained(outer), MachineError) and explained(other) is None


def test_how_safetensors_tells_the_number(tmp_path: Path) -> None:
    """Its text is all that it gives; where a release words it otherwise this must notice."""
    with pytest.raises((SafetensorError, OSError)) as caught:
        save_file({"x": torch.zeros(1)}, tmp_path / "nowhere" / "x.safetensors")
    assert system_number(caught.value) == errno.ENOENT
