"""What of a device is in the hash of every run that is trained on it, and how many threads it works with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from bench.core import environment
from bench.models.device import native_bf16


@dataclass(frozen=True, slots=True)
class Device:
    """A kind of device; two of one kind make the same runs."""

    type: str
    bf16: bool
    """Whether it has bf16 of its own."""

    @classmethod
    def here(cls) -> Device:
        """What the user's variables leave this process to train on."""
        device = Accelerator().device
        return cls(device.type, native_bf16(device))


def threads() -> int:
    """Threads that torch works with: its own choice, but no more than the cores of a container, which it cannot see."""
    return min(torch.get_num_threads(), environment.cores())


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Torch works with so many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
