"""Trackers: they hear of what the training has looked at anyhow, and cost no run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from test_fit import TRAINING, data, fresh, loss

from bench.core.errors import SpecError
from bench.core.record import Record
from bench.core.spec import Spec
from bench.data.batches import Batches
from bench.run import job as jobs
from bench.run.codehash import closure
from bench.run.context import StageContext
from bench.run.inputs import Inputs
from bench.run.request import Request
from bench.train import meter, tracking
from bench.train.checkpoint import Checkpointer, Position
from bench.train.fit import FitLog, fit
from bench.train.progress import silent
from bench.train.tracking import Tracking, Watched, plain_settings, watched


class Kept(GeneralTracker):
    """A tracker that keeps what it is told, and fails at a step where that is asked for."""

    name = "kept"
    requires_logging_directory = False

    def __init__(self, run: str, fails_at: int | None = None):
        super().__init__()
        self.run, self.fails_at = run, fails_at
        self.settings: dict[str, Any] = {}
        self.said: list[tuple[int | None, dict[str, Any]]] = []
        self.ended = False

    @property
    def tracker(self) -> list[Any]:
        return self.said

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        if step == self.fails_at:
            raise ConnectionError("no answer\nfrom the server")
        self.said.append((step, values))

    def finish(self) -> None:
        self.ended = True


class Shelf:
    """Makes trackers, and has them all."""

    def __init__(self, **given: Any):
        self.made: list[Kept] = []
        self.tracking = Tracking("kept", lambda run: self.make(run, **given))

    def make(self, run: str, **given: Any) -> Kept:
        self.made.append(Kept(run, **given))
        return self.made[-1]


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "EVERY_S", 0.0)


def trained(shelf: Shelf, folder: Path, every_s: float = 1000.0) -> FitLog:
    """A tiny training of 21 steps that is watched."""
    run = shelf.tracking.run("a run", {"lr": 0.1})
    with watched(run, Checkpointer(folder, every_s), silent) as (checkpointer, progress):
        return fit(fresh(), loss, Batches(data(), 4, 0), TRAINING, Accelerator(), checkpointer=checkpointer,
                   progress=progress)  # fmt: skip


@pytest.mark.usefixtures("every_step")
def test_steps_ascend_and_the_last_one_is_there(tmp_path: Path) -> None:
    shelf = Shelf()
    found = trained(shelf, tmp_path)
    (kept,) = shelf.made
    assert [step for step, _ in kept.said] == list(range(1, 22)), "a CPU looks at every step"
    assert kept.said[-1] == (found.steps, {"loss": found.last_loss})
    assert kept.settings == {"lr": 0.1} and kept.ended


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("every_s", [1000.0, 0.0], ids=["rare checkpoints", "checkpoints at each step"])
def test_nothing_is_told_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_s: float) -> None:
    monkeypatch.setitem(meter.EVERY, Accelerator().device.type, 8)
    looks: list[int] = []
    look = meter.Meter.look
    monkeypatch.setattr(meter.Meter, "look", lambda self: (looks.append(1), look(self))[1])
    told: list[int] = []
    shelf = Shelf()
    shelf.tracking.make = lambda run: shelf.make(run)
    monkeypatch.setattr(tracking.Run, "log", lambda self, values, step: told.append(step))
    trained(shelf, tmp_path, every_s)
    assert told == ([8, 16, 21] if every_s else list(range(1, 22)))
    assert len(told) <= len(looks)


def test_at_most_one_loss_a_second_and_the_last() -> None:
    now, told = 0.0, []
    run = cast(tracking.Run, SimpleNamespace(log=lambda values, step: told.append((step, values["loss"]))))
    seen = Watched(Path("nowhere"), 1000.0, run, clock=lambda: now)
    seen._at = at = Position()
    with seen.progress(silent)(40, 0) as advance:
        for step in range(1, 41):
            at.step, at.last_loss, now = step, 1.0 / step, step / 10
            advance(1, "")
    assert told == [(1, 1.0), (11, 1 / 11), (21, 1 / 21), (31, 1 / 31), (40, 1 / 40)]


@pytest.mark.usefixtures("every_step")
def test_a_tracker_that_fails_costs_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(fails_at=3)
    found = trained(shelf, tmp_path)
    assert found.steps == 21 and [step for step, _ in shelf.made[0].said] == [1, 2]
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1 and "no answer from the server" in warned[0].getMessage()
    assert shelf.tracking.run("the next", {}) is None, "it is not asked again"
    trained(shelf, tmp_path / "next")
    assert len(shelf.made) == 1 and len(caplog.records) == 1


def test_a_tracker_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "WAIT_S", 0.0)
    free = threading.Event()
    shelf = Shelf()
    shelf.tracking.make = lambda run: (free.wait(60), shelf.make(run))[1]
    try:
        assert trained(shelf, tmp_path).steps == 21
        assert "no answer" in caplog.text
    finally:
        free.set()


def test_the_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    def weights(shelf: Shelf | None, folder: Path) -> list[torch.Tensor]:
        model, run = fresh(), shelf and shelf.tracking.run("a run", {})
        torch.manual_seed(1)
        with watched(run, Checkpointer(folder, 0.0), silent) as (checkpointer, progress):
            fit(model, loss, Batches(data(), 4, 0), TRAINING, Accelerator(), checkpointer=checkpointer,
                progress=progress)  # fmt: skip
        return list(model.state_dict().values())

    pairs = zip(weights(None, tmp_path / "a"), weights(Shelf(), tmp_path / "b"), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.usefixtures("every_step")
def test_a_resumed_training_goes_on_in_its_steps(tmp_path: Path) -> None:
    trained(Shelf(), tmp_path, 0.0)
    for newest in sorted(tmp_path.glob("step-*"))[1:]:  # of the last two, the one before stays
        for file in newest.iterdir():
            file.unlink()
        newest.rmdir()
    shelf = Shelf()
    trained(shelf, tmp_path)
    assert [step for step, _ in shelf.made[0].said] == [21]


SPEC = Spec("bert", "bert", "sst2", "smoke", 3)


def context(shelf: Shelf | None, folder: Path) -> StageContext:
    request = SimpleNamespace(checkpoint_minutes=60)
    inputs = SimpleNamespace(request=request, tracking=shelf and shelf.tracking)
    job: Any = SimpleNamespace(inputs=inputs, spec=SPEC, hyper=SimpleNamespace(fine_tune=TRAINING, other=1))
    plan: Any = SimpleNamespace(stage=SimpleNamespace(name="fine_tune", uses=("fine_tune",)), seed=3)
    ask: Any = None
    return StageContext(job, plan, accelerator=Accelerator(), tokenizer_folder=folder, progress_folder=folder, ask=ask,
                        bars=lambda label: silent)  # fmt: skip


def test_each_fit_of_a_stage_is_a_run_with_its_settings(tmp_path: Path) -> None:
    shelf = Shelf()
    stage = context(shelf, tmp_path)
    for _ in range(2):
        stage.fit(fresh(), loss, Batches(data(), 4, 0), TRAINING)
    assert [kept.run for kept in shelf.made] == [f"bert/bert/sst2/smoke/s3/fine_tune-{number}" for number in (0, 1)]
    settings = shelf.made[0].settings
    assert settings["run.variant"] == "bert" and settings["training.lr"] == settings["settings.fine_tune.lr"] == 1e-2
    assert not any("other" in name for name in settings), "what the stage does not use is not its own"
    assert all(isinstance(value, str | int | float | bool) for value in settings.values())
    assert all(kept.said[-1][0] == 21 and kept.ended for kept in shelf.made)


def test_without_a_tracker_fit_is_given_what_it_always_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr("bench.run.context.fit", lambda *_, checkpointer, progress, **__: given.extend(
        [checkpointer, progress]))  # fmt: skip
    monkeypatch.setattr(tracking, "Run", None)
    context(None, tmp_path).fit(fresh(), loss, Batches(data(), 4, 0), TRAINING)
    assert type(given[0]) is Checkpointer and given[1] is silent


def test_scores_of_a_finished_run_are_its_last_run(make_record: Callable[..., Record]) -> None:
    shelf = Shelf()
    job: Any = SimpleNamespace(inputs=SimpleNamespace(tracking=shelf.tracking), spec=SPEC)
    jobs._track(job, make_record())
    jobs._track(job, make_record(status="failed", reason="no"))
    (kept,) = shelf.made
    assert kept.run.endswith("/scores") and kept.said == [(0, {"accuracy/validation": 0.9})] and kept.ended
    assert kept.settings["settings.fine_tune.lr"] == 2e-5
    job.inputs.tracking = None
    jobs._track(job, make_record())


def test_settings_are_flat_and_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    nested = {"a": {"b": 1, "c": None, "d": [1, "x"]}, "e": True, "f": "/home/somebody/data"}
    assert plain_settings(nested) == {"a.b": 1, "a.d": "[1, 'x']", "e": True, "f": "~/data"}


def test_a_tracker_is_in_no_key_of_a_stage() -> None:
    reached = closure("bench.train.recipe")
    assert "bench.train.fit" in reached and "bench.train.tracking" not in reached


@pytest.mark.parametrize(
    ("name", "says"),
    [("wandb", "not installed.*found wandb; next: pip install wandb"), ("aim", "tensorboard, wandb, mlflow.*pip")],
)  # fmt: skip
def test_what_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    monkeypatch.setattr(tracking, "get_available_trackers", list)
    with pytest.raises(SpecError, match=says):
        Inputs(Request(track=name))


def test_it_is_refused_before_anything_runs(bench: Callable[..., Any], tmp_path: Path) -> None:
    found = bench("run", "smoke", "--track", "nobody")
    assert found.returncode == 2 and found.stdout == "" and found.stderr.count("\n") == 1
    assert "unknown tracker" in found.stderr and "pip install" in found.stderr
    assert not (tmp_path / "results").exists()
