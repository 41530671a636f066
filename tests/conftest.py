"""What all tests share: no network, no cache of the user's, one thread each, and a whole record to start from."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Before anything imports torch or transformers: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # what a test looks for on stderr is the bench's
os.environ["BENCH_HOME"] = tempfile.mkdtemp(prefix="bench-tests-")

from bench.core.record import Record

ROOT = Path(__file__).resolve().parents[1]
# What tests start in other folders is this checkout, not the one that happens to be installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

# The same examples every time, so that what passed once passes again; HYPOTHESIS_PROFILE=explore draws new ones.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails; sockets within this machine work."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        local = self.family == getattr(socket, "AF_UNIX", None) or address[0] in ("127.0.0.1", "::1", "localhost")
        assert local, f"a test reached for the network: {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m bench ...` in a folder (an empty one by default), with a cache of its own unless env names one."""

    def run(*arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 300) -> Any:
        settings = {"BENCH_HOME": str(tmp_path / "bench-home"), "PYTHONPATH": str(ROOT), **(env or {})}
        return subprocess.run(
            [sys.executable, "-m", "bench", *arguments], cwd=cwd or tmp_path, env=os.environ | settings,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A valid record; `spec` changes parts of its spec, everything else is given by field name."""

    def make(spec: dict[str, Any] | None = None, **fields: Any) -> Record:
        content: dict[str, Any] = {
            "id": "20260101T000000Z-0123abcd-s1",
            "status": "ok",
            "spec": {"paper": "bert", "variant": "bert", "task": "sst2", "scale": "small", "seed": 1} | (spec or {}),
            "tier": "reduced",
            "hyper": {"max_length": 128, "fine_tune": {"epochs": 3, "lr": 2e-5}, "budget": {"limit": None}},
            "hash": "0123abcd" * 8,
            "code": {"commit": "f" * 40, "dirty": False, "stage_hashes": {"fine_tune": "ab" * 32}},
            "environment": {"machine": "test-2c-8g-000000", "threads": 1, "packages": {"torch": "2.13.0"}},
            "data": {"source": "folder", "revision": "", "sha256": "cd" * 32, "partial": False,
                     "rows": {"train": 67349, "validation": 872}},
            "stages": [{"name": "fine_tune", "seconds": 12.5, "steps": 100, "examples": 3200, "first_loss": 0.7,
                        "last_loss": 0.2, "peak_bytes": 1000, "precision": "fp32"}],
            "measurements": [
                {"metric": "accuracy", "split": "validation", "value": 0.9, "unit": "fraction", "n": 872},
                {"metric": "latency_s", "split": "batch1-length128", "value": 0.02, "unit": "s", "n": 3,
                 "samples": [0.02, 0.021, 0.0195]},
            ],
            "artefacts": [{"name": "model.safetensors", "sha256": "ef" * 32, "bytes": 438_000_000}],
            "started": "2026-01-01T00:00:00Z",
            "seconds": 15.25,
        }  # fmt: skip
        return Record.model_validate(content | fields)

    return make
