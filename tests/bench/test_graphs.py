"""The graph engine's bookkeeping, with recordings that a CPU can make: what it replays, and when it goes back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from test_engine import MASKING, WORDS, bert, encoded
from torch import Tensor, nn
from transformers import BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from bench.core.errors import TrainError
from bench.data.batches import Batch, Batches, InTurn
from bench.train import engine, graphs
from bench.train.feed import Part
from bench.train.fit import FitLog, fit
from bench.train.losses import supervised
from bench.train.settings import Training
from bench.train.step import Job
from papers.distilbert.positions import Attended
from papers.distilbert.recipe import Distillation, triple_loss


class Recording:
    """In place of a CUDA graph: what it was recorded from runs again at each replay."""

    now: Recording | None = None
    again: Callable[[], object]

    def replay(self) -> None:
        self.again()


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    """Makes the graph engine run on a CPU; the recordings that were made."""
    made: list[Recording] = []
    real = {name: getattr(graphs, name) for name in ("whole", "part")}

    @contextmanager
    def record(graph: Recording, **how: Any) -> Iterator[None]:
        assert how["capture_error_mode"] == "thread_local", "batches are pinned meanwhile"
        Recording.now = graph
        made.append(graph)
        try:
            yield
        finally:
            Recording.now = None

    def of(name: str) -> graphs.Runs:
        def runs(job: Job, batch: Batch, weight: float | Tensor) -> graphs.Cost:
            if Recording.now is None:
                return real[name](job, batch, weight)
            with torch.random.fork_rng():
                # Runs the loss, as a recording does, and nothing else.
                names = tuple(job.cost_of(batch, weight, Part(batch)).terms)
            values = torch.full((1 + len(names),), float("nan"))
            Recording.now.again = lambda: values.copy_(real[name](job, batch, weight)[1])
            return names, values

        return runs

    stream = SimpleNamespace(wait_stream=lambda other: None, synchronize=lambda: None)
    for name, value in {
        "Stream": lambda device: stream, "current_stream": lambda device: stream, "stream": lambda _: nullcontext(),
        "graph_pool_handle": lambda: (0, 1), "set_sync_debug_mode": lambda mode: None, "CUDAGraph": Recording,
        "graph": record, "synchronize": lambda device: None, "current_device": lambda: 0,
        "default_generators": [SimpleNamespace(graphsafe_set_state=lambda state: None, clone_state=lambda: None)],
    }.items():  # fmt: skip
        monkeypatch.setattr(graphs.torch.cuda, name, value)
    runs = {name: of(name) for name in real}
    for name in real:
        monkeypatch.setattr(graphs, name, runs[name])
    monkeypatch.setattr(engine, "choose", lambda training, device, **more: training.engine)
    monkeypatch.setattr(engine, "records", lambda name, accelerator: name != "eager")
    return made


TRAINING = Training(epochs=3, batch_size=4, lr=1e-3, engine="graph", precision="fp32")


Trained = tuple[FitLog, list[Tensor]]


def trained(model: nn.Module, loss: Any, batches: Batches, training: Training = TRAINING) -> Trained:
    torch.manual_seed(3)
    log = fit(model, loss, batches, training, Accelerator())
    return log, list(model.state_dict().values())


@pytest.mark.parametrize("what", ["task", "distil"])
def test_replays_train_as_single_steps_do(
    what: str, recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = Batches(encoded(), 4, 0)
    if what == "distil":
        batches = Batches(encoded(), 4, 0, transform=InTurn((MASKING, Attended(0.5))))

    def once() -> Trained:
        if what == "task":
            return trained(bert(), supervised("label"), batches)
        torch.manual_seed(0)
        student = DistilBertForMaskedLM(
            DistilBertConfig(vocab_size=WORDS, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
        )
        return trained(student, triple_loss(bert(BertForMaskedLM), Distillation(ce_share=0.5)), batches)

    log, weights = once()
    assert 2 <= len(recordings) <= graphs.MOST
    replays = int(log.engine.removeprefix("graph (").split()[0])
    assert (
        log.steps == 45
        and log.engine == f"graph ({replays} of 45 batches by {len(recordings)} graphs)"
        and replays > 10
    )
    monkeypatch.setattr(graphs, "WARM", 10**9)
    alone, others = once()
    assert alone.engine == "graph (0 of 45 batches by 0 graphs)"
    assert (alone.first_loss, alone.last_loss) == (log.first_loss, log.last_loss)
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def test_no_more_shapes_than_allowed_are_recorded(recordings: list[Recording], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST", 1)
    log, _ = trained(bert(), supervised("label"), Batches(encoded(), 4, 0))
    assert len(recordings) == 1 and log.engine.endswith("of 45 batches by 1 graphs)")


def test_a_loss_that_waits_or_breaks_goes_on_without_graphs_and_says_why(recordings: list[Recording]) -> None:
    def waits(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        warnings.warn("called a synchronizing CUDA operation (Triggered internally)", UserWarning, stacklevel=1)
        return supervised("label")(model, batch)

    def breaks(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if Recording.now is not None:
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        return supervised("label")(model, batch)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log, weights = trained(bert(), waits, Batches(encoded(), 4, 0))
    assert log.engine.startswith("eager (no graph: a step waits for the device in test_graphs.py:") and not recordings
    log, others = trained(bert(), breaks, Batches(encoded(), 4, 0))
    assert log.engine == "eager (no graph: operation not permitted when stream is capturing)" and len(recordings) == 1
    assert log.steps == 45 and all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def test_steps_that_were_replayed_before_a_refusal_are_told(recordings: list[Recording]) -> None:
    def waits_later(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if recordings:
            warnings.warn("called a synchronizing CUDA operation (Triggered internally)", UserWarning, stacklevel=1)
        return supervised("label")(model, batch)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log, _ = trained(bert(), waits_later, Batches(encoded(), 4, 0))
    assert len(recordings) == 1 and log.engine.startswith("graph (")
    assert int(log.engine.removeprefix("graph (").split()[0]) > 0 and "a step waits for the device" in log.engine


def test_a_device_that_failed_is_told_once(recordings: list[Recording], monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails whoever asks next, too."""

    def fails(*_: object) -> Any:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nmore lines")

    stream = SimpleNamespace(wait_stream=lambda other: None, synchronize=fails)
    monkeypatch.setattr(graphs.torch.cuda, "Stream", lambda device: stream)
    with pytest.raises(TrainError, match="the device failed in a step; found CUDA error: unspecified launch failure;"):
        trained(bert(), fails, Batches(encoded(), 4, 0))


def test_a_step_of_several_batches_replays_each(recordings: list[Recording], monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for engine_name, warm in (("graph", graphs.WARM), ("graph", 10**9), ("eager", 3)):
        monkeypatch.setattr(graphs, "WARM", warm)
        training = TRAINING.model_copy(update={"accumulation": 4, "engine": engine_name})
        batches = Batches(encoded(), 4, 0).of_few_shapes()
        ends.append(trained(bert(), supervised("label"), batches, training))
    assert len(recordings) >= 2 and ends[0][0].engine.endswith(f"of 45 batches by {len(recordings)} graphs)")
    for log, weights in ends[1:]:
        assert log.last_loss == pytest.approx(ends[0][0].last_loss, rel=1e-6) and log.steps == 12
        for a, b in zip(weights, ends[0][1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


class Three(nn.Module):
    """Layers, of which a batch reaches one."""

    def __init__(self) -> None:
        super().__init__()
        self.short, self.long, self.never = nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 2)

    def reached(self, batch: Any, length: int) -> dict[str, Tensor]:
        layer = self.short if batch["input_ids"].shape[1] <= length else self.long
        return {"one": layer(batch["input_ids"][:, :4].float() / WORDS).square().mean()}


@pytest.mark.parametrize(("warm", "length"), [(graphs.WARM, 1000), (10**9, 8)])
def test_what_a_step_does_not_reach_is_left_alone_as_in_eager_mode(
    warm: int, length: int, recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "WARM", warm)
    found = []
    for engine_name in ("graph", "eager"):
        training = TRAINING.model_copy(update={"accumulation": 2, "engine": engine_name, "weight_decay": 0.5})
        torch.manual_seed(0)
        model = Three()
        found.append(
            trained(
                model,
                lambda model, batch: model.reached(batch, length),
                Batches(encoded(), 4, 0).of_few_shapes(),
                training,
            )[1]
        )
        assert all(parameter.grad is None for parameter in model.parameters()), "a fit leaves no gradients"
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_compiled_steps_are_recorded_too(recordings: list[Recording], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(engine, "compiled_in_place", lambda model: nullcontext(compiled.append(model)))
    model = bert()
    training = TRAINING.model_copy(update={"engine": "compile"})
    log, weights = trained(model, supervised("label"), Batches(encoded(), 4, 0), training)
    assert compiled == [model] and log.engine.startswith("compile, graph (") and len(recordings) >= 2
    alone, others = trained(bert(), supervised("label"), Batches(encoded(), 4, 0))
    assert alone.engine.startswith("graph (") and all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))
