"""The checks of `bench doctor`: what this machine can run, what is missing, and the command that mends it.

Each check looks and touches nothing: no download, and no file of the user's is written. torch is imported only where it
is not remembered which recipes are whole (`bench.cli.catalogue`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from packaging.requirements import Requirement

from bench.core import environment, hub, paths, registry
from bench.core.compilers import compiler
from bench.core.errors import BenchError
from bench.core.steering import steering
from bench.data.tasks import TASKS

_GIB = 2**30
_SMOKE_GIB, _DISK_GIB = 4, 5
"""What the main job on embedded data needs at most: torch alone is near 1 GiB of memory, the cache grows per run."""


class Check(TypedDict):
    """One line of the doctor: `fix` is a command, or empty where nothing is to be mended."""

    name: str
    ok: bool
    found: str
    fix: str


def checks() -> list[Check]:
    """All checks, in the order in which a user would mend them."""
    every: tuple[Callable[[], Check], ...] = (
        _python, _packages, _kernels, _papers, _code, _variables, _machine, _processor, _accelerator, _memory,
        _cache_folder, _data_sets, _compiler,
    )  # fmt: skip
    return [_told(check) for check in every]


def _told(check: Callable[[], Check]) -> Check:
    """A check; where the system does not let it look, it says so."""
    name = check.__name__.strip("_").replace("_", " ")
    try:
        return check()
    except BenchError as error:
        found, _, fix = str(error).partition("; next: ")
        return _check(name, False, found, fix)
    except (OSError, RuntimeError, ValueError) as error:
        found = f"cannot be looked at: {' '.join(str(error).split())}"
        return _check(name, False, found, "let this user read there")


def _check(name: str, ok: bool, found: str, fix: str = "") -> Check:
    return {"name": name, "ok": ok, "found": found, "fix": "" if ok else fix}


def _python() -> Check:
    found = ".".join(str(part) for part in sys.version_info[:3])
    return _check("python", sys.version_info >= (3, 11), found, "make clean && make install PYTHON=python3.11")


def requirements(extra: str = "") -> list[Requirement]:
    """What this package requires: its main requirements, or those of one extra. Empty when it is not installed."""
    try:
        lines = importlib.metadata.requires(environment.DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = [Requirement(line) for line in lines]
    if not extra:
        return [item for item in found if item.marker is None or item.marker.evaluate({"extra": ""})]
    return [item for item in found if item.marker is not None and item.marker.evaluate({"extra": extra})]


def wanting(needed: list[Requirement]) -> list[str]:
    """The requirements that are not met, each with what is there instead."""
    lines = []
    for item in needed:
        try:
            version = importlib.metadata.version(item.name)
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{item.name} missing")
            continue
        if not item.specifier.contains(version, prereleases=True):
            lines.append(f"{item.name} {version} is not {item.specifier}")
    return lines


def _packages() -> Check:
    needed = requirements()
    if not needed:
        return _check("packages", False, f"{environment.DISTRIBUTION} is not installed", "make install")
    wrong = wanting(needed)
    return _check("packages", not wrong, "; ".join(wrong) or f"all {len(needed)} as required", "make install")


def _kernels() -> Check:
    needed = requirements("kernels")
    wrong = wanting(needed)
    fix = ".venv/bin/pip install -c constraints.txt -e '.[kernels]'"
    found = "; ".join(wrong) or ", ".join(item.name for item in needed) or "unknown"
    return _check("optional backends", bool(needed) and not wrong, f"{found} (only for bench measure --backend)", fix)


def _papers() -> Check:
    """What is broken in recipes shows only where they can be imported; without torch, layout and ledgers count."""
    try:
        papers, broken = registry.find()
        if all(map(importlib.util.find_spec, ("torch", "transformers"))):
            from bench.cli.catalogue import listing

            found = listing()
            papers, broken = found["papers"], found["broken"]
    except BenchError as error:
        return _check("papers", False, str(error), "rename one of the two")
    found = f"{len(papers)} found" + "".join(f"; {name} is broken: {reason}" for name, reason in broken.items())
    return _check("papers", bool(papers) and not broken, found, "mend or remove the broken ones; bench list shows them")


def _code() -> Check:
    state = environment.code_state()
    found = f"commit {state.commit[:12]}" if state.commit else "not a git checkout: records cannot name their code"
    changed = bool(state.commit) and state.dirty
    fix = "git commit, before a run that is to count" if changed else "git clone the project and install from there"
    return _check("code", not state.dirty, found + (", with uncommitted changes" if changed else ""), fix)


def _variables() -> Check:
    try:
        found = steering()
    except BenchError as error:
        return _check("environment variables", False, str(error), str(error).rpartition("next: ")[2].partition(";")[0])
    told = ", ".join(f"{name}={value}" for name, value in found.items())
    return _check("environment variables", True, f"{told}: recorded" if told else "none that changes training")


def _processor() -> Check:
    facts = environment.fingerprint()
    native = {"amx_bf16", "avx512_bf16", "bf16"} & set(facts["isa"])
    found = f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads; "
    found += f"bf16 native ({', '.join(sorted(native))})" if native else "no native bf16: training runs in fp32"
    ok = facts["threads"] <= facts["cores"]
    return _check("processor", ok, found, "unset OMP_NUM_THREADS: more threads than cores slow each other down")


def _machine() -> Check:
    """The key under which records are compared: times of two keys never are."""
    key, alone = (environment.fingerprint(threads)["machine"] for threads in (None, 1))
    return _check("machine key", True, key if key == alone else f"{key}; with --threads 1 {alone}")


def _accelerator() -> Check:
    gpus = environment.gpus()
    version = environment.packages(("torch",)).get("torch", "")
    if not gpus:
        return _check("accelerator", True, "none: everything runs on the processor; the scale full would take weeks")
    public = version.partition("+")[0] or "2.13.0"
    fix = f".venv/bin/pip install --force-reinstall torch=={public} --index-url https://download.pytorch.org/whl/cu130"
    found = f"{', '.join(gpus)}; torch {version or 'missing'}"
    return _check("accelerator", bool(version) and not version.endswith("+cpu"), found, fix)


def _memory() -> Check:
    free = environment.free_bytes() / _GIB
    found = f"{free:.1f} GiB free, {_SMOKE_GIB} needed for smoke"
    return _check("memory", free >= _SMOKE_GIB, found, "end other programs")


def _cache_folder() -> Check:
    folder = paths.home()
    there = folder.absolute()
    while not os.path.lexists(there):
        there = there.parent
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    free = shutil.disk_usage(there).free / _GIB if writable else 0.0
    found = f"{folder}: {free:.0f} GiB free" if writable else f"{folder}: {there} cannot be written"
    return _check("cache folder", writable and free >= _DISK_GIB, found, "export BENCH_HOME=FOLDER_WITH_SPACE")


def _data_sets() -> Check:
    home = Path(os.environ.get("HF_HOME") or paths.user_cache() / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    names = sorted({task.hub[0] for task in TASKS.values() if task.hub[0]})
    have = [name for name in names if (cache / f"datasets--{name.replace('/', '--')}").is_dir()]
    offline = hub.offline()
    found = f"{', '.join(have)} in the cache" if have else "none in the cache"
    if len(have) == len(names):
        return _check("data sets", True, found)
    if not offline:
        return _check("data sets", True, f"{found}; fetched from the hub when a run needs them")
    told = f"{found}; offline by {', '.join(offline)}"
    return _check("data sets", False, told, f"unset {' '.join(offline)}, or give --data FOLDER")


def _compiler() -> Check:
    found = compiler("C++")
    text = f"{found or 'none'} (only for torch.compile: bench measure --backend compile, --set ...engine=compile)"
    return _check("C++ compiler", found is not None, text, "sudo apt-get install g++")
