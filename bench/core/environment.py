"""What a run ran on: machine, instruction sets, packages, commit. Facts only, without torch, and nobody's name.

Nothing here is a host name, a user name or a path. The machine key is made of facts that do not change from one
boot to the next (no clock rates), so that times are compared only where they may be.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from bench.core.record import Code
from bench.core.steering import honoured

DISTRIBUTION = "bench-compression"
"""The bench itself, as it is installed."""

PACKAGES = (
    "accelerate", "ai-edge-litert", "datasets", "evaluate", "litert-torch", "numpy", "onnxruntime", "pandas", "pyarrow",
    "pytorch-optimizer", "safetensors", "scikit-learn", "scipy", "seqeval", "tokenizers", "torch", "torchao",
    "transformers",
)  # fmt: skip
"""The packages whose version can change a result or a time."""

TRAIN = ("accelerate", "numpy", "pytorch-optimizer", "tokenizers", "torch", "transformers")
"""Those of them that can change what a training stage makes."""

ISA = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "bf16", "i8mm", "sve", "sve2",
)  # fmt: skip
"""The instruction sets that decide how fast matrices are multiplied, and in which formats (x86 and ARM)."""

_GIB = 2**30
_SOURCES = ("bench", "papers", "pyproject.toml", "constraints.txt")
"""What a commit must hold for a record to be repeatable; records and reports being written are not part of it."""


def fingerprint(threads: int | None = None) -> dict[str, Any]:
    """The environment of a record: machine key, processor, memory, GPUs, threads, system, Python and packages.

    Environment variables that choose kernels stand under `steering`, and make another machine key: nothing timed under
    them is compared with times without. `threads` is given where the work runs in child processes; else it is this
    process's own number.
    """
    cpu, flags = _processor()
    facts: dict[str, Any] = {
        "cpu": cpu,
        "cores": cores(),
        "memory_gib": _steady_gib(memory_bytes()),
        "gpus": list(gpus()),
        "isa": [name for name in ISA if name in flags],
    }
    threads = threads or _threads()
    steering = honoured()
    key = machine_key(facts, threads)
    return {
        "machine": f"{key}-e{hashlib.sha256(repr(steering).encode()).hexdigest()[:4]}" if steering else key,
        **facts,
        **({"steering": steering} if steering else {}),
        "threads": threads,
        "os": f"{platform.system()} {_major_minor(platform.release())} {platform.machine()}",
        "python": platform.python_version(),
        "packages": packages(),
    }


def machine_key(facts: dict[str, Any], threads: int) -> str:
    """A short name for a kind of machine: readable, with a hash of all its facts.

    The number of threads is part of it where it is not the number of cores: such times are not comparable.
    """
    gpu = facts["gpus"][0] if facts["gpus"] else ""
    cpu = re.sub(r"\(.*?\)|@.*|\b(cpu|processor)\b", " ", facts["cpu"], flags=re.I)
    hardware = f"{len(facts['gpus'])}x-{gpu}" if gpu else cpu
    readable = re.sub(r"[^a-z0-9]+", "-", hardware.lower()).strip("-") or "machine"
    content = repr([facts[name] for name in ("cpu", "cores", "memory_gib", "gpus", "isa")])
    key = f"{readable[:40]}-{facts['cores']}c-{facts['memory_gib']}g-{hashlib.sha256(content.encode()).hexdigest()[:6]}"
    return key if threads == facts["cores"] else f"{key}-{threads}t"


def packages(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Installed versions, read from metadata (nothing is imported); a package that is not there is left out."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Processors that this process may use: its affinity, and the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = (_text("/sys/fs/cgroup/cpu.max") or "max 100000").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def memory_bytes() -> int:
    """Main memory in bytes that this process may use: the machine's, or its container's limit where that is less."""
    limit = _text("/sys/fs/cgroup/memory.max")
    total = int(psutil.virtual_memory().total)
    return min(total, int(limit)) if limit.isdigit() else total


def free_bytes() -> int:
    """Main memory in bytes that is free, and that this process may use."""
    free, limit = int(psutil.virtual_memory().available), _text("/sys/fs/cgroup/memory.max")
    return min(free, max(0, int(limit) - _held_bytes())) if limit.isdigit() else free


def _held_bytes() -> int:
    """What a container holds of its memory, without files that the kernel would drop."""
    held = _text("/sys/fs/cgroup/memory.current")
    files = re.search(r"^inactive_file (\d+)$", _text("/sys/fs/cgroup/memory.stat"), re.MULTILINE)
    return int(held) - (int(files[1]) if files else 0) if held.isdigit() else 0


@cache
def gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs that the driver shows, one per GPU; empty without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
    except pynvml.NVMLError:  # no driver, or one without a GPU
        return ()


def gpu_free_bytes() -> int:
    """Free memory in bytes of the first GPU that this process may use; 0 without one, or by a name that is not told."""
    import pynvml

    if not gpus():
        return 0
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    by = pynvml.nvmlDeviceGetHandleByIndex if first.isdigit() else pynvml.nvmlDeviceGetHandleByUUID
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(by(int(first) if first.isdigit() else first)).free)
    except pynvml.NVMLError:  # a part of a name, or a part of a GPU
        return 0


def code_state(root: Path | None = None) -> Code:
    """The commit of the code that runs, and whether what makes results (`_SOURCES`) differs from it.

    `root` is a folder of the checkout, by default the one this package lies in. Outside git the commit is empty and
    the code counts as changed: nobody could get it back.
    """
    folder = root or Path(__file__).resolve().parents[2]
    commit = _git(folder, "rev-parse", "HEAD")
    top = _git(folder, "rev-parse", "--show-toplevel")
    if commit is None or top is None:
        return Code(commit="", dirty=True)
    changes = _git(Path(top.strip()), "status", "--porcelain", "--", *_SOURCES)
    return Code(commit=commit.strip(), dirty=changes is None or bool(changes.strip()))


@cache
def version() -> str:
    """The version of the bench, as installed."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@cache
def started_from() -> Code:
    """The code of this process as it was when first asked: a commit may be checked out while it trains."""
    return code_state()


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says of a folder, or None; a hook's own GIT_DIR and the like must not redirect the question."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=clean)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@cache
def _processor() -> tuple[str, frozenset[str]]:
    """The processor's model (with family and model number: clouds sell several chips under one name) and its flags."""
    import cpuinfo  # imported here, and asked once: it starts a process of its own

    try:
        found = cpuinfo.get_cpu_info()
    except (OSError, ValueError):  # a process that this user may not start
        found = {}
    name = found.get("brand_raw") or found.get("arch_string_raw") or platform.machine() or "unknown"
    numbers = [str(found[key]) for key in ("family", "model", "stepping") if key in found]
    return (f"{name} ({'.'.join(numbers)})" if numbers else name), frozenset(found.get("flags", ()))


def _steady_gib(size: int) -> int:
    """GiB, rounded so that two boots of one machine agree: to 1 below 12 GiB, to 4 above."""
    gib = size / _GIB
    return max(1, round(gib)) if gib < 12 else round(gib / 4) * 4


def _threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else cores()


def _major_minor(release: str) -> str:
    match = re.match(r"\d+\.\d+", release)
    return match[0] if match else "unknown"


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
