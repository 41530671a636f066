"""The cache of stages: a model is written once, however many stages hand it on, and again when one has trained it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from bench.core.errors import MachineError, SpecError
from bench.core.paths import made_home
from bench.core.processes import host
from bench.core.record import StageEntry
from bench.run import cache as cache_module
from bench.run.cache import Cache
from bench.train.recipe import State

TRAINED = StageEntry(name="stage", seconds=1.0, steps=5)


def bert() -> BertModel:
    return BertModel(BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                                intermediate_size=8))  # fmt: skip


def save(cache: Cache, key: str, after: State, before: State, before_key: str | None) -> None:
    cache.save(key, after, before, before_key, TRAINED, 0, None)


def test_a_model_that_was_handed_on_is_written_once(tmp_path: Path) -> None:
    cache, first = Cache(tmp_path), State({"words": bert(), "model": bert()})
    save(cache, "aa1", first, State(), None)
    with torch.no_grad():
        for parameter in first.model.parameters():
            parameter.add_(1.0)
    second = State({**first.models}, {"seen": 1})
    save(cache, "aa2", second, first, "aa1")
    assert cache.model_folder("aa2", "words") == cache.model_folder("aa1", "words")
    assert cache.model_folder("aa2") != cache.model_folder("aa1"), "the same object, but trained"
    loaded = cache.load("aa2")
    assert loaded.facts == {"seen": 1}
    for name, model in second.models.items():
        for mine, theirs in zip(model.parameters(), loaded.models[name].parameters(), strict=True):
            assert torch.equal(mine, theirs)


def test_another_object_is_written_though_it_holds_the_same(tmp_path: Path) -> None:
    cache, model = Cache(tmp_path), bert()
    save(cache, "aa1", State({"model": model}), State(), None)
    save(cache, "aa2", State({"model": model}), State({"model": bert()}), "aa1")
    assert cache.model_folder("aa2") != cache.model_folder("aa1")


def flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)


def weights(cache: Cache, key: str, name: str = "model") -> Path:
    return cache.model_folder(key, name) / "model.safetensors"


def test_a_damaged_entry_is_named_once_and_cleared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path)
    save(cache, "aa1", State({"model": bert()}), State(), None)
    assert cache.whole("aa1") and not caplog.messages
    flip(weights(cache, "aa1"))
    assert not cache.whole("aa1") and not cache.whole("aa1")
    assert len(caplog.messages) == 1 and "aa1 is damaged: the content of models/model/model.saf" in caplog.messages[0]
    with pytest.raises(MachineError, match="damaged"):
        cache.load("aa1")
    cache.clear("aa1")
    cache.clear("aa1")
    assert not cache.has("aa1")
    save(cache, "aa1", State({"model": bert()}), State(), None)
    assert cache.whole("aa1")


def test_an_entry_is_as_whole_as_those_it_refers_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, first = Cache(tmp_path), State({"words": bert(), "model": bert()})
    save(cache, "aa1", first, State(), None)
    save(cache, "aa2", State({"words": first.models["words"], "model": bert()}), first, "aa1")
    assert cache.whole("aa2")
    flip(weights(cache, "aa1", "words"))
    assert cache.has("aa2") and not cache.whole("aa2") and "its model words lies in" in caplog.messages[0]
    cache.clear("aa1")
    assert not cache.has("aa2")
    save(cache, "aa1", State({"words": bert(), "model": bert()}), State(), None)
    assert not cache.whole("aa2"), "made again it came out otherwise"


def test_an_entry_speaks_for_its_chain(tmp_path: Path) -> None:
    cache, model = Cache(tmp_path), State({"model": bert()})
    cache.save("aa2", model, State(), "gone", TRAINED, 3, None, [TRAINED.model_copy(update={"name": "before"})])
    manifest = cache.manifest("aa2")
    assert [one["name"] for one in manifest["earlier"]] == ["before"] and manifest["dev_looks"] == 3


def test_where_the_cache_is_full_a_stage_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache, state = Cache(tmp_path / "home"), State({"model": bert()})
    save(cache, "aa1", State({"model": bert()}), State(), None)
    real = cache_module.whole_folder

    def full(path: Path) -> Any:
        if path.is_relative_to(tmp_path / "home"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path)

    monkeypatch.setattr(cache_module, "whole_folder", full)
    (cache.progress("aa2") / "fit-0").mkdir(parents=True)
    save(cache, "aa2", state, State(), None)
    assert (cache.progress("aa2") / "fit-0").is_dir(), "the stage is gone with this process: its checkpoints are not"
    assert "the cache is full" in caplog.messages[0] and "free space in" in caplog.messages[0]
    assert "stages 0.0 MB" in caplog.messages[0], "it says what may be freed"
    assert cache.whole("aa2") and not Cache(tmp_path / "home").has("aa2")
    assert torch.equal(next(cache.load("aa2").model.parameters()), next(state.model.parameters()))

    monkeypatch.setenv(cache_module.WORKERS, "2")
    with pytest.raises(MachineError, match="the cache is full"):
        save(cache, "aa3", state, State(), None)  # another worker would not find it
    monkeypatch.delenv(cache_module.WORKERS)

    def nowhere(path: Path) -> Any:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))

    monkeypatch.setattr(cache_module, "whole_folder", nowhere)
    with pytest.raises(MachineError, match="the cache is full"):
        save(cache, "aa3", state, State(), None)


def test_what_killed_writers_left_is_swept_and_live_ones_are_left(tmp_path: Path) -> None:
    place, dead = tmp_path / "stages" / "aa", f"{host()}-{2**22 + 1}"
    for writer in (dead, f"{host()}-{os.getpid()}", f"{'f' * 16}-1"):
        (place / f".x.{writer}-{'0' * 32}.writing" / "models").mkdir(parents=True)
    Cache(tmp_path).check_writable([])
    assert len(list(place.iterdir())) == 2 and not list(place.glob(f".x.{dead}*"))


def test_a_home_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("BENCH_HOME", str(home))
        with pytest.raises(SpecError, match=f"BENCH_HOME {home}"):
            made_home()
    monkeypatch.delenv("BENCH_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(SpecError, match="export BENCH_HOME"):
        made_home()
