"""What a device can do in hardware."""

from __future__ import annotations

from pathlib import Path

import torch


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware (a processor without AMX or AVX512-BF16 only emulates it)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text().split()) if flags.is_file() else set()
    return bool(words & {"amx_bf16", "avx512_bf16", "bf16"})
