"""BENCH_HOME as an URL: what one machine made another finds there, whole, or makes again."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import pytest
import words

from bench.core import paths
from bench.core.errors import SpecError
from bench.core.record import Record
from bench.run import execute, plan
from bench.run.cache import Cache
from bench.run.exports import has_model
from bench.run.request import Request
from bench.run.shared import SharedCache, opened

folder, tokenizer = commands.folder, words.tokenizer  # fixtures


@pytest.fixture
def machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Record]]:
    """The records of the tiny plan, made on a machine of that name, whose cache is its own but for the URL."""
    monkeypatch.setenv("BENCH_HOME", f"file://{folder}/url")

    def run(name: str) -> list[Record]:
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / name))
        given: dict[str, Any] = {
            "scale": "smoke", "paper": ("bert", "distilbert"), "task": ("sst2",), "seeds": 1, "results": f"r-{name}",
            "teacher": str(folder / "teacher"), "data": str(folder / "data"), "corpus": str(folder / "corpus.txt"),
            "set": {"fine_tune.epochs": "4", "fine_tune.lr": "3e-3", "general.corpus_tokens": "400"},
        }  # fmt: skip
        return execute.run(plan.make(Request(**given)))

    return run


def made(records: list[Record]) -> list[str]:
    """The stages that were made for these records."""
    return [f"{r.spec.paper} {stage.name}" for r in records for stage in r.stages if not stage.cached]


def stages(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.glob("*/*/models/**/*.safetensors")}


def test_another_machine_makes_no_stage_again(machine: Callable[[str], list[Record]], folder: Path) -> None:
    first = machine("a")
    packed = sorted((folder / "url" / "stages").glob("*/*"))
    assert len(made(first)) >= 5 and len(packed) >= 5 and {path.suffix for path in packed} == {".zip"}
    second = machine("b")
    assert made(second) == [] and [one.hash for one in second] == [one.hash for one in first]
    copies = stages(folder / "b" / "bench" / "stages")
    assert copies and copies.items() <= stages(folder / "a" / "bench" / "stages").items()
    assert [[(m.metric, m.value) for m in one.measurements if m.unit == "fraction"] for one in first] == [
        [(m.metric, m.value) for m in one.measurements if m.unit == "fraction"] for one in second
    ]


@pytest.mark.parametrize("damage", ["flipped", "short", "other"])
def test_what_is_damaged_there_is_named_and_made_again(
    machine: Callable[[str], list[Record]], folder: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    first = machine("a")
    last = next((folder / "url" / "stages").glob(f"*/{plan_key(first)}.zip"))
    content = last.read_bytes()
    if damage == "flipped":
        middle = len(content) // 2
        last.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "short":
        last.write_bytes(content[:-100])
    else:
        with zipfile.ZipFile(last, "a") as more:
            more.writestr("../../outside.txt", "x")
    second = machine("b")
    assert [one.status for one in second] == ["ok", "ok"] and made(second) == [made(first)[-1]]
    assert [text for text in caplog.messages if last.name in text and "damaged" in text]
    assert not list(folder.rglob("outside.txt")) and zipfile.ZipFile(last).testzip() is None
    assert made(machine("c")) == []


def plan_key(records: list[Record]) -> str:
    """The key of the last stage of the last record, as its cache names it."""
    url = Path(paths.shared_url().removeprefix("file://"))
    order = sorted((url / "stages").glob("*/*.zip"), key=lambda path: path.stat().st_mtime_ns)
    return order[-1].stem


def test_an_url_that_takes_nothing_costs_a_warning(
    machine: Callable[[str], list[Record]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Any, *words_: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.put_file", full)
    assert [one.status for one in machine("a")] == ["ok", "ok"]
    told = [text for text in caplog.messages if "cannot be copied" in text]
    assert told and all("No space left" in text for text in told)
    assert all(record.levelno == logging.WARNING for record in caplog.records if "cannot be copied" in record.message)


def test_whether_a_model_is_kept_is_asked_without_fetching_it(
    machine: Callable[[str], list[Record]], folder: Path
) -> None:
    records = machine("a")
    key, there = plan_key(records), SharedCache(folder / "c", f"file://{folder}/url")
    assert has_model(there, key, records[-1]) and not list((folder / "c").rglob("*.safetensors"))
    next((folder / "url" / "stages").glob(f"*/{key}.zip")).write_bytes(b"no zip")
    assert has_model(there, key, records[-1]), "a look at the name says no more"
    assert not has_model(there, key, records[-1], whole=True)


def test_what_another_process_fetched_meanwhile_is_left_alone(
    machine: Callable[[str], list[Record]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = plan_key(machine("a"))
    one, other = (SharedCache(folder / "b", f"file://{folder}/url") for _ in range(2))
    ask = one._there

    def slowly(asked: str) -> bool:
        assert asked != key or other.whole(key)
        return ask(asked)

    monkeypatch.setattr(one, "_there", slowly)
    monkeypatch.setattr(one, "clear", lambda key: pytest.fail(f"{key} was removed under the other's eyes"))
    assert one.whole(key)


def test_an_url_of_no_kind_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("BENCH_HOME", "nothing://there")
    with pytest.raises(SpecError, match=r"URL cannot be opened; in BENCH_HOME nothing://there; .*fsspec"):
        opened()
    monkeypatch.setenv("BENCH_HOME", "memory://there")
    assert isinstance(opened(), SharedCache) and opened().root == tmp_path / "bench"
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "plain"))
    assert type(opened()) is Cache and opened().root == tmp_path / "plain"
