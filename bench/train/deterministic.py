"""Deterministic operations: the same bits again on the same device, where a faster kernel would add in any order.

What asks for them are environment variables (`bench.core.steering`), so that workers and the processes of a launcher
have them, records and hashes name them, and nothing that was timed under them stands beside what was not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.core.errors import TrainError
from bench.core.steering import deterministic

_LACKING = re.compile(r"^(\S+) does not have a deterministic implementation")
"""How torch names an operation that has none."""


def settle() -> None:
    """Take deterministic operations in this process from now on where they are asked for, and else what is fastest."""
    asked = deterministic()
    torch.use_deterministic_algorithms(asked)
    torch.backends.cudnn.deterministic = asked
    if asked:
        torch.backends.cudnn.benchmark = False


def tf32() -> list[str]:
    """The operations of a GPU in fp32 that may round their inputs to TF32: `matmul`, `convolution`, both or none."""
    backends = {"matmul": torch.backends.cuda.matmul, "convolution": torch.backends.cudnn}
    return [name for name, backend in backends.items() if backend.allow_tf32]


@contextmanager
def told() -> Iterator[None]:
    """Turns what torch says of an operation without a deterministic form into one line. Raises TrainError."""
    try:
        yield
    except RuntimeError as error:
        found = _LACKING.match(str(error))
        if found is None:
            raise
        raise TrainError("an operation has no deterministic form on this device", found=found[1],
                         fix="leave out --deterministic") from error  # fmt: skip
