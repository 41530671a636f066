"""What a device can do in hardware."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from bench.core.compilers import compiler

FP16_CAPABILITY = (5, 3)
"""The oldest compute capability with fp16 arithmetic (CUDA C++ Programming Guide, table of throughputs)."""


def here() -> torch.device:
    """The device that models are measured on: the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware (a processor without AMX or AVX512-BF16 only emulates it)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(_flags() & {"amx_bf16", "avx512_bf16", "bf16"})


def native_fp16(device: torch.device) -> bool:
    """Whether the device multiplies fp16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= FP16_CAPABILITY
    return bool(_flags() & {"amx_fp16", "avx512_fp16", "asimdhp"})


def lacks_for_compile(device: torch.device) -> tuple[str, str] | None:
    """What torch.compile lacks here, and what mends it; None where it has all."""
    language, command, variable = ("C++", "g++", "CXX") if device.type == "cpu" else ("C", "gcc", "CC")
    if compiler(language) is None:
        return f"no {language} compiler", f"install {command}, or name yours in {variable}"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton not installed", "pip install triton"
    return None


def sums_int8() -> bool:
    """Whether torch's 8-bit kernels add products without overflow here: with AVX512-VNNI, the only such path of FBGEMM.

    Elsewhere one of the two ranges has to be halved.
    """
    return "avx512_vnni" in _flags()


def _flags() -> set[str]:
    file = Path("/proc/cpuinfo")
    return set(file.read_text().split()) if file.is_file() else set()
