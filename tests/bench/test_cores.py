"""How many workers suit the cores."""

from __future__ import annotations

import sys

import pytest
import torch

from bench.cli import main as cli
from bench.run import cores


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores.environment, "cores", lambda: 2)
    monkeypatch.setattr(cores.environment, "memory_bytes", lambda: 100 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def rates(monkeypatch: pytest.MonkeyPatch, apart: float, together: float) -> None:
    monkeypatch.setattr(cores, "_products", lambda threads: apart if threads > 1 else together)


def test_workers_where_the_cores_do_more_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, apart=30.0, together=20.0)
    assert cores.best_workers() == (2, 1.5)


def test_one_where_they_do_as_much_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, apart=21.0, together=20.0)
    assert cores.best_workers()[0] == 1


def test_no_more_than_the_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, apart=30.0, together=20.0)
    monkeypatch.setattr(cores.environment, "memory_bytes", lambda: 4 * 2**30)
    assert cores.best_workers()[0] == 1


def test_one_core_or_a_gpu_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_products", lambda threads: pytest.fail("it was measured"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cores.best_workers() == (1, 1.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cores.environment, "cores", lambda: 1)
    assert cores.best_workers() == (1, 1.0)


def test_a_measurement_counts_products_and_leaves_the_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "SECONDS", 0.02)
    before = torch.get_num_threads()
    workers, gain = cores.best_workers()
    assert workers in (1, 2)
    assert gain > 0
    assert torch.get_num_threads() == before


def test_auto_says_what_it_took(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rates(monkeypatch, apart=30.0, together=20.0)
    monkeypatch.setattr(sys, "argv", ["bench", "run", "smoke", "--workers", "auto", "--paper", "nobody"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said, refused = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert said.startswith("bench: workers: 2; ")
    assert said.endswith("cores do 1.5 times as much apart as together")
    assert "nobody" in refused
