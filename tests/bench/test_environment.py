"""The fingerprint, the state of the code, the doctor, and the pinned versions."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import platform
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cpuinfo
import pynvml
import pytest
from packaging.requirements import Requirement

from bench.cli import checks as doctor
from bench.core import environment, hub
from bench.run import device

CPUINFO = {
    "brand_raw": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "family": 6, "model": 143, "stepping": 8,
    "flags": ["fpu", "avx2", "avx512f", "amx_bf16", "avx512_bf16", "nonsense"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What was probed once is probed anew in each test."""
    probes = (environment.gpus, environment._processor)  # a test may put another in their place
    for probe in probes:
        probe.cache_clear()
    yield
    for probe in probes:
        probe.cache_clear()


def named(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    """Let the module read these files and no others."""
    monkeypatch.setattr(environment, "_text", lambda path: files.get(path, "").strip())


def facts(**changes: Any) -> dict[str, Any]:
    return {"cpu": "AMD EPYC 7B13 (25.1.0)", "cores": 4, "memory_gib": 16, "gpus": [], "isa": ["avx2"]} | changes


def test_the_fingerprint_has_its_keys_and_is_json() -> None:
    found = environment.fingerprint()
    assert " ".join(found) == "machine cpu cores memory_gib gpus isa threads os python packages"
    assert json.loads(json.dumps(found)) == found and found == environment.fingerprint()
    assert found["cores"] >= 1 and found["memory_gib"] >= 1
    assert found["packages"]["torch"] == importlib.metadata.version("torch")
    assert re.fullmatch(r"[a-z0-9-]+", found["machine"])


def test_nobody_is_named() -> None:
    text = json.dumps(environment.fingerprint())
    secret = {platform.node(), str(Path.home()), str(Path.cwd()), "/"} | ({getpass.getuser()} - {"root"})
    assert len(secret) >= 3
    assert not [word for word in secret if len(word) > 2 and word in text] and "/" not in text


def test_the_clock_rate_is_not_part_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for mhz in (2700, 3512):
        monkeypatch.setattr(cpuinfo, "get_cpu_info", lambda mhz=mhz: CPUINFO | {"hz_actual": (mhz, 0)})
        environment._processor.cache_clear()
        found = environment.fingerprint()
        keys.add(found["machine"])
        assert found["cpu"] == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz (6.143.8)"
        assert found["isa"] == ["avx2", "avx512f", "avx512_bf16", "amx_bf16"]
    assert len(keys) == 1 and keys.pop().startswith("intel-xeon-platinum-8481c-")


def test_every_fact_and_the_threads_change_the_key() -> None:
    changes = [{}, {"cpu": "other"}, {"cores": 8}, {"memory_gib": 32}, {"gpus": ["NVIDIA H200"]}, {"isa": []},
               {"gpus": ["NVIDIA H200"] * 2}]  # fmt: skip
    keys = {environment.machine_key(facts(**change), change.get("cores", 4)) for change in changes}
    assert len(keys) == len(changes) == 7
    assert environment.machine_key(facts(), 1) == environment.machine_key(facts(), 4) + "-1t"
    assert environment.machine_key(facts(gpus=["NVIDIA H200"]), 4).startswith("1x-nvidia-h200-4c-16g-")


@pytest.mark.parametrize(("gib", "shown"), [(0.4, 1), (3.8, 4), (7.7, 8), (15.6, 16), (23.4, 24), (22.9, 24)])
def test_memory_is_rounded_so_that_boots_agree(gib: float, shown: int) -> None:
    assert environment._steady_gib(int(gib * 2**30)) == shown


def test_doctor_names_the_variables_that_keep_data_sets_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_HUB_CACHE", *hub.OFFLINE):
        monkeypatch.delenv(name, raising=False)
    assert doctor._data_sets()["ok"]
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    found = doctor._data_sets()
    assert not found["ok"] and found["found"].endswith("offline by HF_DATASETS_OFFLINE")
    assert found["fix"] == "unset HF_DATASETS_OFFLINE, or give --data FOLDER"


def test_a_containers_limits_count(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, {"/sys/fs/cgroup/cpu.max": "100000 100000", "/sys/fs/cgroup/memory.max": str(2**30)})
    assert environment.cores() == 1 and environment.memory_bytes() == 2**30 >= environment.free_bytes()
    named(monkeypatch, {"/sys/fs/cgroup/cpu.max": "max 100000", "/sys/fs/cgroup/memory.max": "max"})
    assert environment.cores() >= 1 and environment.memory_bytes() > 2**30
    named(monkeypatch, {"/sys/fs/cgroup/memory.max": str(2**30), "/sys/fs/cgroup/memory.current": str(2**29 + 2**28),
                        "/sys/fs/cgroup/memory.stat": f"anon {2**29}\ninactive_file {2**28}\n"})  # fmt: skip
    assert environment.free_bytes() == 2**29, "what it holds is not free, files that the kernel would drop are"


def test_gpus_are_asked_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"nvmlInit": lambda: None, "nvmlDeviceGetCount": lambda: 2, "nvmlDeviceGetHandleByIndex": lambda i: i,
               "nvmlDeviceGetName": lambda handle: "NVIDIA H200"}  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    assert environment.gpus() == ("NVIDIA H200", "NVIDIA H200")
    environment.gpus.cache_clear()

    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    assert environment.gpus() == ()


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_the_code_is_dirty_when_code_changed_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.code_state(tmp_path) == environment.Code(commit="", dirty=True)
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "a.py").write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    state = environment.code_state(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", state.commit) and not state.dirty
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "r.json").write_text("{}")
    assert not environment.code_state(tmp_path).dirty
    (tmp_path / "bench" / "b.py").write_text("b = 1\n")
    assert environment.code_state(tmp_path / "bench").dirty


def test_the_doctor_says_what_is_and_how_to_mend_what_is_not() -> None:
    rows = doctor.checks()
    assert len(rows) == 13 and len({row["name"] for row in rows}) == 13
    for row in rows:
        assert row["found"] and "\n" not in row["found"], row
        assert bool(row["fix"]) is not row["ok"], row
    assert json.loads(json.dumps(rows)) == rows
    key = next(row["found"] for row in rows if row["name"] == "machine key")
    assert key == environment.fingerprint()["machine"], "the one that records hold"


def test_the_doctor_sees_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor.wanting([Requirement("not-there>=1"), Requirement("pytest<1"), Requirement("pytest")]) == [
        "not-there missing", f"pytest {pytest.__version__} is not <1",
    ]  # fmt: skip
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(doctor.environment, "gpus", lambda: ["NVIDIA H200"])
    monkeypatch.setattr(doctor.environment, "packages", lambda *_: {"torch": "2.13.0+cpu"})
    rows = {row["name"]: row for row in doctor.checks()}
    assert "BENCH_HOME" in rows["cache folder"]["fix"] and not rows["cache folder"]["ok"]
    assert "torch==2.13.0 --index-url" in rows["accelerator"]["fix"]


def pins(root: Path) -> dict[str, str]:
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}


def test_every_requirement_is_pinned_inside_its_range(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    needed = [item for item in map(Requirement, lines) if item.name != project["name"]]  # dev takes kernels in
    pinned = pins(root)
    assert len(needed) >= 27 and len(pinned) >= 70
    for item in needed:
        assert item.specifier.contains(pinned[item.name]), f"{item} against the pin {pinned[item.name]}"
    assert pinned["torch"] == "2.13.0" and not [v for v in pinned.values() if not v or "+" in v]


def test_torch_takes_no_more_threads_than_a_container_has_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(environment, "cores", lambda: 3)
    assert device.threads() == 3
    monkeypatch.setattr(device.torch, "get_num_threads", lambda: 2)
    assert device.threads() == 2
