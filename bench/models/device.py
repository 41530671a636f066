"""What a device can do in hardware."""

from __future__ import annotations

from pathlib import Path

import torch


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware (a processor without AMX or AVX512-BF16 only emulates it)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(_flags() & {"amx_bf16", "avx512_bf16", "bf16"})


def sums_int8() -> bool:
    """Whether torch's 8-bit kernels add products without overflow here: with AVX512-VNNI, the only such path of FBGEMM.

    Elsewhere one of the two ranges has to be halved.
    """
    return "avx512_vnni" in _flags()


def _flags() -> set[str]:
    file = Path("/proc/cpuinfo")
    return set(file.read_text().split()) if file.is_file() else set()
