"""Environment variables by which libraries would train another model than the settings say.

What only changes how numbers are rounded is honoured: it is in every record and in the hash of what was trained. What
would change the method, or asks for something that `fit` decides by its settings, is refused by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from bench.core.errors import SpecError

DETERMINISTIC = "BENCH_DETERMINISTIC"
"""Set to 1 by `bench run --deterministic`."""
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_WORKSPACES = (":4096:8", ":16:8")
"""Those with which cuBLAS adds in one order (its documentation, "Results reproducibility"); read when CUDA starts."""

HONOURED = (
    "ATEN_CPU_CAPABILITY", DETERMINISTIC, WORKSPACE, "CUDNN_FRONTEND_ATTN_DP_WORKSPACE_LIMIT",
    "DISABLE_ADDMM_CUDA_LT", "DNNL_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA", "FLASH_ATTENTION_DETERMINISTIC",
    "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_DISABLE_FAST_MM", "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "PYTORCH_TUNABLEOP_ENABLED",
    "TORCHDYNAMO_DISABLE", "TORCHINDUCTOR_EMULATE_PRECISION_CASTS", "TORCHINDUCTOR_FREEZING",
    "TORCHINDUCTOR_MAX_AUTOTUNE", "TORCHINDUCTOR_USE_FAST_MATH", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT", "TORCH_BLAS_PREFER_HIPBLASLT", "TORCH_COMPILE_BACKEND", "TORCH_COMPILE_DISABLE",
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B", "TORCH_CUDNN_V8_API_DISABLED", "TORCH_LINALG_PREFER_CUSOLVER",
    "TORCH_LINALG_PREFER_HIPSOLVER", "TORCH_LINEAR_FLATTEN_3D", "TORCH_MKLDNN_MATMUL_MIN_DIM",
    "TORCH_MKLDNN_MATMUL_MIN_SIZE", "TORCH_ROCM_FA_PREFER_CK", "TRANSFORMERS_DISABLE_DEEPGEMM_LINEAR",
    "TRANSFORMERS_SDPA_FORCE_GQA",
)  # fmt: skip
"""What chooses kernels or how they round."""

_OFF = frozenset({"", "0", "no", "n", "off", "false", "f", "none"})

REFUSED: Mapping[str, frozenset[str]] = {
    "ACCELERATE_MIXED_PRECISION": _OFF,
    "ACCELERATE_DYNAMO_BACKEND": _OFF,
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": _OFF | {"1"},
    "ACCELERATE_GRADIENT_CLIPPING": _OFF,
    "ACCELERATE_DOWNCAST_BF16": _OFF,
    "ACCELERATE_FP8_BACKEND": _OFF,
    "ACCELERATE_USE_DEEPSPEED": _OFF,
    "ACCELERATE_USE_FSDP": _OFF,
    "ACCELERATE_USE_MEGATRON_LM": _OFF,
    "ACCELERATE_USE_PARALLELISM_CONFIG": _OFF,
    "ACCELERATE_USE_SAGEMAKER": _OFF,
    "TORCH_COMPILE_OVERRIDE_BACKENDS": _OFF,
    "TORCH_COMPILE_OVERRIDE_DYNAMO_CONFIGS": _OFF,
    "TORCH_COMPILE_OVERRIDE_INDUCTOR_CONFIGS": _OFF,
    "TRITON_INTERPRET": _OFF,
    "USE_TORCH_XLA": _OFF,
    "XLA_DOWNCAST_BF16": _OFF,
    "XLA_USE_BF16": _OFF,
}
"""What is refused -> the values, in small letters, that ask for nothing."""

_FIXES = {
    "ACCELERATE_MIXED_PRECISION": "precision is a setting: --set fine_tune.precision=bf16",
    "ACCELERATE_DYNAMO_BACKEND": "compilation is a setting: --set fine_tune.engine=compile",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "accumulation is a setting: --set fine_tune.accumulation=N",
    "ACCELERATE_GRADIENT_CLIPPING": "clipping is a setting: --set fine_tune.clip=1.0",
}
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")
_PLAIN = re.compile(r"[\w:.,+-]{1,40}")
"""A value that can stand in a record: short, and no path."""


def steering() -> dict[str, str]:
    """The variables set here that change how a model is trained, by name, with their values; most often none.

    Raises: SpecError for one that would change the method, or holds what no record should.
    """
    for name, neutral in REFUSED.items():
        value = os.environ.get(name, "").strip()
        if value.lower() not in neutral:
            raise _refused(name, value, _FIXES.get(name, ""))
    device = os.environ.get("ACCELERATE_TORCH_DEVICE", "")
    if device and not _DEVICE.fullmatch(device):
        raise _refused("ACCELERATE_TORCH_DEVICE", device, "cpu, cuda, mps and xpu are devices")
    for name in HONOURED:
        value = os.environ.get(name, "").strip()
        if value and not _PLAIN.fullmatch(value):
            raise _refused(name, value, "")
    if os.environ.get(DETERMINISTIC, "1") != "1":
        raise _refused(DETERMINISTIC, os.environ[DETERMINISTIC], "bench run --deterministic sets it")
    if deterministic() and os.environ.get(WORKSPACE) not in _WORKSPACES:
        raise SpecError("deterministic operations need a fixed workspace", where=WORKSPACE,
                        found=os.environ.get(WORKSPACE, "nothing"), expected=" or ".join(_WORKSPACES),
                        fix=f"unset {WORKSPACE}, and bench run --deterministic")  # fmt: skip
    return honoured()


def ask_for_deterministic() -> None:
    """Ask for deterministic operations, here and in all processes that this one starts; before CUDA starts."""
    os.environ[DETERMINISTIC] = "1"
    os.environ.setdefault(WORKSPACE, _WORKSPACES[0])


def deterministic() -> bool:
    """Whether deterministic operations are asked for."""
    return os.environ.get(DETERMINISTIC) == "1"


def honoured() -> dict[str, str]:
    """Those of `steering` that are honoured, without its checks; a value that no record should hold is left out."""
    found = {name: os.environ.get(name, "").strip() for name in HONOURED}
    return {name: value for name, value in found.items() if _PLAIN.fullmatch(value)}


def _refused(name: str, value: str, fix: str) -> SpecError:
    shown = value if _PLAIN.fullmatch(value) else "another value"
    return SpecError("an environment variable would change how models are trained", where=name, found=shown,
                     expected="it to be unset", fix=f"unset {name}{f'; {fix}' if fix else ''}")  # fmt: skip
