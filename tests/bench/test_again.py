"""A finished run whose model is gone from the cache: said, and made again with --again, so that export has an end."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core import sealed
from bench.core.errors import RecordError
from bench.core.files import file_sha256
from bench.core.record import Artefact
from bench.run import execute, exports
from bench.run.cache import Cache

KEY = "ab" + "0" * 62


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", ".hidden", "", "a*b", "x\n", "C:\\x"])
def test_the_name_of_an_artefact_is_a_name(name: str) -> None:
    with pytest.raises(ValidationError):
        Artefact(name=name, sha256="0", bytes=1)
    assert Artefact(name="model-00001-of-00002.safetensors", sha256="0", bytes=1).bytes == 1


def kept(tmp_path: Path) -> tuple[Cache, Any]:
    """A cache that holds a model, and the record of the run that made it."""
    cache = Cache(tmp_path / "home")
    folder = cache.entry(KEY) / "models" / "model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    sealed.seal(cache.entry(KEY), {"models": {"model": KEY}, "seen": {}})
    name = Artefact(name="model.safetensors", sha256=file_sha256(folder / "model.safetensors"), bytes=7)
    return cache, SimpleNamespace(artefacts=[name], status="ok", id="old")


def test_a_model_that_is_gone_is_noticed(tmp_path: Path) -> None:
    cache, record = kept(tmp_path)
    assert exports.has_model(cache, KEY, record) and not exports.has_model(cache, "cd" + KEY[2:], record)
    weights = cache.model_folder(KEY) / "model.safetensors"
    weights.write_bytes(b"wEights")  # what only reading it shows
    assert exports.has_model(cache, KEY, record) and not exports.has_model(cache, KEY, record, whole=True)
    weights.write_bytes(b"half")
    assert not exports.has_model(cache, KEY, record)
    with pytest.raises(
        RecordError, match=r"not in this machine's cache.*next: the bench run that made it, with --again"
    ):
        exports._find(cache, record.artefacts[0], "stages", "*/*/models/model")


def test_again_makes_only_what_has_lost_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache, record = kept(tmp_path)
    monkeypatch.setattr(execute, "refuse_given_teacher", lambda plan: None)
    monkeypatch.setattr(execute.Store, "find", lambda *_: record)
    monkeypatch.setattr(execute, "_made", lambda job, store, cache, again: "made again" if again else "made")
    jobs = [SimpleNamespace(spec="kept", key=KEY, hash="1"), SimpleNamespace(spec="gone", key="cd" + KEY[2:], hash="2")]
    plan: Any = SimpleNamespace(request=SimpleNamespace(results=str(tmp_path / "results")), jobs=jobs, cache=cache)
    with caplog.at_level(logging.INFO, "bench"):
        assert execute.run(plan) == [record, record]
    assert (
        "run=gone: its model is gone from the cache; next: --again" in caplog.text
        and "run=kept: its" not in caplog.text
    )
    assert execute.run(plan, again=True) == [record, "made again"]
    store = execute.Store(tmp_path / "results")
    assert execute.needed_stages(plan, store) == [] and cache.entry(KEY).is_dir()
    assert execute.needed_stages(plan, store, again=True) == [job.key for job in jobs], "those are to be written again"
    cache.clear(jobs[1].key)  # of which there is nothing


def test_again_takes_one_process() -> None:
    done = CliRunner().invoke(app, ["run", "--again", "--workers", "2"])
    assert "--again takes one process" in str(done.exception)
