"""Checks of the graph engine on a GPU: the same losses as without graphs, the same bits after a stop, a way back."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from gpu_parts.work import Work
from torch import Tensor, nn

from bench.data.batches import Batch, Batches, InTurn
from bench.data.masking import Masking
from bench.models.outputs import frozen
from bench.train import fit as loop
from bench.train import graphs
from bench.train.checkpoint import Checkpointer
from bench.train.losses import supervised
from bench.train.meter import Meter
from bench.train.progress import Advance
from bench.train.settings import Training
from bench.train.step import Loss
from papers.distilbert.losses import kd_loss
from papers.distilbert.positions import Attended
from papers.distilbert.recipe import Distillation, triple_loss
from papers.distilbert.soft_targets import soft_targets
from papers.distilbert.student import DistilBertForMaskedLM, config


class _Stop(Exception):
    pass


@contextmanager
def _told(losses: list[float]) -> Iterator[None]:
    """Every training inside adds the loss of each of its steps."""

    class Told(Meter):
        def look(self) -> None:
            losses.extend(float(total) for total in self._totals)
            super().look()

    before, loop.Meter = loop.Meter, Told
    try:
        yield
    finally:
        loop.Meter = before


@contextmanager
def _without_recording(asked: bool) -> Iterator[None]:
    """Inside, the graph engine runs its steps, on the same shapes, one operation after another."""
    before = graphs.WARM
    graphs.WARM = 10**9 if asked else before
    try:
        yield
    finally:
        graphs.WARM = before


def _tasks(work: Work, precision: str) -> dict[str, tuple[Any, Loss, Batches, Training]]:
    """Name -> (makes the model, loss, batches, training): fine-tuning and distillation of the small encoder."""
    teacher = frozen(work.masked_lm(work.size.small), work.device)
    student = config(teacher.config)
    masking = InTurn((Masking(4, work.size.words, frozenset({0, 2, 3})), Attended(0.5)))
    shared = {"epochs": 1, "lr": 1e-4, "precision": precision, "engine": work.engines[-1]}
    steps = work.size.equal_steps

    def lm() -> nn.Module:
        torch.manual_seed(0)
        with work.device:
            return DistilBertForMaskedLM(student)

    return {
        "fine_tune": (
            lambda: work.classifier(work.size.small), supervised("label"),
            Batches(work.rows(16 * steps, 10, 50), 16, 0), Training(batch_size=16, **shared),
        ),
        "distil": (
            lm, triple_loss(teacher, Distillation(ce_share=0.5)),
            Batches(work.rows(16 * steps, 10, 50), 16, 0, transform=masking), Training(batch_size=16, **shared),
        ),
    }  # fmt: skip


def _replayed(work: Work, says: str) -> None:
    """Refuse a check on a GPU in which no step was a graph's: it would hold for nothing."""
    if work.gpu and (not says.startswith("graph (") or says.startswith("graph (0 ")):
        raise AssertionError(f"no step was replayed: {says}")


def equal(work: Work) -> dict[str, float]:
    """The largest difference of a loss between graphs and single operations: dropout on, fp32, the same shapes."""
    found = {}
    for name, (make, loss, batches, training) in _tasks(work, "fp32").items():
        runs: list[list[float]] = []
        says = ""
        for recorded in (False, True):
            losses: list[float] = []
            model = make()
            torch.manual_seed(1)
            with _without_recording(not recorded), _told(losses):
                says = loop.fit(model, loss, batches, training, work.accelerator).engine
            runs.append(losses)
        _replayed(work, says)
        assert len(runs[0]) == len(runs[1]) == work.size.equal_steps
        found[f"equal_{name}"] = max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(*runs, strict=True))
        found[f"equal_{name}_bits"] = float(runs[0] == runs[1])
        print(f"  {name}: {says}; losses {runs[1][0]:.4f} to {runs[1][-1]:.4f}")
    return found


class _Once(Checkpointer):
    """Writes one checkpoint, at a step, and then the training is stopped."""

    at = 0
    calls = 0

    def due(self, now_s: float) -> bool:
        self.calls += 1
        return self.calls == self.at


def resume(work: Work) -> dict[str, float]:
    """Whether a training that is stopped and resumed ends with the same bits; the largest difference of a weight."""
    found = {}
    for name, precision in (("fine_tune", "fp32"), ("distil", "bf16" if work.gpu else "fp32")):
        make, loss, batches, training = _tasks(work, precision)[name]
        whole = make()
        torch.manual_seed(1)
        _replayed(work, loop.fit(whole, loss, batches, training, work.accelerator).engine)
        with tempfile.TemporaryDirectory() as folder:
            resumed = _stopped(work, make, loss, batches, training, Path(folder) / "fit")
        pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
        found[f"resume_{name}_{precision}"] = max(float((a.float() - b.float()).abs().max()) for a, b in pairs)
    return found


def _stopped(work: Work, make: Any, loss: Loss, batches: Batches, training: Training, folder: Path) -> nn.Module:
    """A training that is stopped two steps after a checkpoint, and taken up by a model with other weights."""
    steps = work.size.equal_steps
    saved = _Once(folder)
    saved.at = steps // 2

    @contextmanager
    def stopping(total: int, before: int) -> Iterator[Advance]:
        done = before

        def advance(count: int, text: str) -> None:
            nonlocal done
            done += count
            if done == steps // 2 + 2:
                raise _Stop

        yield advance

    model = make()
    torch.manual_seed(1)
    with suppress(_Stop):
        loop.fit(model, loss, batches, training, work.accelerator, checkpointer=saved, progress=stopping)
    other = make()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    loop.fit(other, loss, batches, training, work.accelerator, checkpointer=Checkpointer(folder, 1e9))
    return other


def recover(work: Work) -> dict[str, float]:
    """A loss that waits for the device, and one that breaks its recording: both go on without graphs and say so."""
    if not work.gpu:
        return {}
    found = {}
    for name, breaks in (("waits", False), ("breaks", True)):

        def loss(model: nn.Module, batch: Batch, breaks: bool = breaks) -> dict[str, Tensor]:
            terms = supervised("label")(model, batch)
            if not breaks or torch.cuda.is_current_stream_capturing():
                float(terms["task"])
            return terms

        training = Training(epochs=1, batch_size=16, engine="graph")
        log = loop.fit(work.classifier(work.size.small), loss, Batches(work.rows(16 * 40, 10, 16), 16, 0), training,
                       work.accelerator)  # fmt: skip
        print(f"  {name}: {log.engine}")
        found[f"recover_{name}"] = float(log.engine.startswith("eager (no graph") and log.steps == 40)
    return found


def soft(work: Work) -> dict[str, float]:
    """Soft targets by the kernel and by plain operations in double precision: relative errors of value and gradients.

    On a CPU the chunks stand in for the kernel. Half of the positions only fill up.
    """
    torch.manual_seed(0)
    positions, words, found = (4096 if work.gpu else 32), work.size.words, {}
    with work.device:
        head, teacher_head = nn.Linear(64, words), nn.Linear(96, words)
        student, teacher = torch.randn(positions, 64, requires_grad=True), torch.randn(positions, 96)
        counts = (torch.arange(positions) % 2).float()
    wanted = _gradients(
        kd_loss(head.double()(student[1::2].double()), teacher_head.double()(teacher[1::2].double()), 2.0),
        student, head,
    )  # fmt: skip
    head, teacher_head = head.float(), teacher_head.float()
    for name, low in (("fp32", False), ("bf16", True)):
        with torch.autocast(work.device.type, torch.bfloat16, enabled=low):
            value = soft_targets(student, teacher, head, teacher_head, 2.0, counts=counts)
        pairs = zip(_gradients(value, student, head), wanted, strict=True)
        found[f"soft_{name}_error"] = max(float((a - b).norm() / b.norm()) for a, b in pairs)
    work.wait()
    started = time.perf_counter()
    for _ in range(5):
        with torch.autocast(work.device.type, torch.bfloat16):
            soft_targets(student, teacher, head, teacher_head, 2.0, counts=counts)
    work.wait()
    return found | {"soft_ms_per_4096": 1e3 * (time.perf_counter() - started) / 5 * 4096 / positions}


def _gradients(value: Tensor, student: Tensor, head: nn.Linear) -> list[Tensor]:
    """The value and its gradients, in double precision."""
    assert head.bias is not None
    gradients = torch.autograd.grad(value, [student, head.weight, head.bias])
    return [one.detach().double() for one in (value, *gradients)]
