"""Which number format a training stage uses: bf16 where the hardware has it natively, fp32 otherwise or on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from bench.core.errors import DeviceError
from bench.models.device import native_bf16
from bench.train.settings import Format


@dataclass(frozen=True, slots=True)
class Precision:
    """A decided number format and why it was chosen; both are recorded."""

    name: Literal["fp32", "bf16"]
    why: str

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which losses are computed; student and teacher share it."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.name == "bf16")


def choose(request: Format, device: torch.device) -> Precision:
    """Decide a stage's precision. Raises DeviceError when bf16 is asked for and the device only emulates it."""
    if request == "fp32":
        return Precision("fp32", "asked for")
    if native_bf16(device):
        return Precision("bf16", "asked for" if request == "bf16" else "native on this device")
    if request == "bf16":
        raise DeviceError(
            "bf16 was asked for", found=f"a {device.type} device that only emulates it", fix="--set ...precision=fp32"
        )
    return Precision("fp32", "bf16 is not native on this device")
