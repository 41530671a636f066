"""Processes that train together and must not decide differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

Found = TypeVar("Found")


def decided(accelerator: Accelerator, decide: Callable[[], Found]) -> Found:
    """What the main process decides (something that can be copied), in all of them; the others do not look."""
    if accelerator.num_processes == 1:
        return decide()
    answers = [decide() if accelerator.is_main_process else None]
    broadcast_object_list(answers)
    return answers[0]  # pyright: ignore[reportReturnType]
