"""The training loop: exact resume, one path for one process and two, loud failure."""

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bench.core.errors import DeviceError, TrainError
from bench.data.batches import Batch, Batches, Encoded
from bench.run.context import StageContext
from bench.train.checkpoint import Checkpointer
from bench.train.fit import fit
from bench.train.precision import choose
from bench.train.progress import silent
from bench.train.settings import Group, Training
from bench.train.step import clip_gradients, move

ROOT = Path(__file__).resolve().parents[2]


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(8, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.out(self.drop(self.embed(input_ids).mean(1)))


def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    return {"task": nn.functional.cross_entropy(model(batch["input_ids"]), batch["labels"])}


def data(count: int = 50) -> Encoded:
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 20, 5).tolist() for _ in range(count)]
    return Encoded.from_lists(rows, [[0] * 5] * count, np.array([r[0] % 2 for r in rows]))


TRAINING = Training(epochs=3, batch_size=4, accumulation=2, lr=1e-2)


def fresh() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


class Interrupted(Exception):
    pass


def test_it_learns_and_says_what_it_did() -> None:
    model = fresh()
    log = fit(model, loss, Batches(data(), 4, 0), TRAINING.model_copy(update={"epochs": 30}), Accelerator())
    assert log.steps == 30 * 7 and log.examples == 30 * 50 and log.last_loss < 0.5 * log.first_loss
    assert log.precision in ("fp32", "bf16") and log.peak_bytes > 0


GROUPS = [Group(match="embed.*", rate=0), Group(match="*.bias", rate=0.5), Group(match="*", rate=0.1, weight_decay=0.5)]


@pytest.mark.parametrize("groups", [(), GROUPS], ids=["plain", "groups"])
@pytest.mark.parametrize("stop_at", [1, 7, 9, 18])
def test_resumed_training_is_equal_to_the_last_bit(tmp_path: Path, stop_at: int, groups: list[Group]) -> None:
    whole = fresh()
    torch.manual_seed(1)
    want = fit(whole, loss, Batches(data(), 4, 0), TRAINING, Accelerator(), groups=groups)

    calls = 0

    def interrupted(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls > 2 * stop_at:
            raise Interrupted
        return loss(model, batch)

    broken = fresh()
    torch.manual_seed(1)
    checkpointer = Checkpointer(tmp_path / "fit", every_s=0.0)
    with pytest.raises(Interrupted):
        fit(broken, interrupted, Batches(data(), 4, 0), TRAINING, Accelerator(), groups=groups,
            checkpointer=checkpointer)  # fmt: skip
    assert [p.name for p in (tmp_path / "fit").iterdir()] != []
    resumed = Tiny()  # other weights and another random state: both must come from the checkpoint
    got = fit(resumed, loss, Batches(data(), 4, 0), TRAINING, Accelerator(), groups=groups,
              checkpointer=checkpointer)  # fmt: skip
    assert got.steps == want.steps and got.examples == want.examples
    assert got.first_loss == want.first_loss and got.last_loss == want.last_loss
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_non_finite_loss_stops_the_run_naming_step_and_terms() -> None:
    def bad(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return loss(model, batch) | {"extra": torch.tensor(float("nan"))}

    with pytest.raises(TrainError, match=r"step 0 .*task .*extra nan"):
        fit(fresh(), bad, Batches(data(), 4, 0), TRAINING, Accelerator())


def test_frozen_parameters_stay() -> None:
    model = fresh()
    model.embed.requires_grad_(False)
    before = model.embed.weight.clone()
    fit(model, loss, Batches(data(), 4, 0), TRAINING, Accelerator())
    assert torch.equal(model.embed.weight, before)


# Groups


def rates(model: nn.Module, training: Training, groups: list[Group]) -> list[dict[str, tuple[float, float]]]:
    """Per optimiser step: parameter -> (learning rate, weight decay), of those that are trained."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    seen: list[dict[str, tuple[float, float]]] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        seen.append({names[p]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]})

    hook = register_optimizer_step_pre_hook(note)
    try:
        fit(model, loss, Batches(data(), 4, 0), training, Accelerator(), groups=groups)
    finally:
        hook.remove()
    return seen


def test_the_first_group_that_matches_decides_and_the_schedule_multiplies_all() -> None:
    groups = [Group(match="out.bias", rate=2.0, weight_decay=0.7), Group(match="out.*", rate=0.1, weight_decay=0.3)]
    seen = rates(fresh(), TRAINING, groups)
    assert len(seen) == 21
    for step, found in enumerate(seen):
        lr = TRAINING.lr_at(step, 21)
        assert found == {
            "embed.weight": (lr, TRAINING.weight_decay),
            "out.weight": (lr * 0.1, 0.3),
            "out.bias": (lr * 2.0, 0.0),  # vectors are not decayed, in no group
        }


def test_a_group_of_rate_1_changes_nothing() -> None:
    ends = []
    for groups in ([], [Group(match="out.*", rate=1.0)]):
        model = fresh()
        fit(model, loss, Batches(data(), 4, 0), TRAINING, Accelerator(), groups=groups)
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0]) and len(ends[0]) == 3


def test_rate_0_freezes_while_fit_runs() -> None:
    model, needed = fresh(), []
    model.out.bias.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def watched(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        needed.append([p.requires_grad for p in model.parameters()])
        return loss(model, batch)

    groups = [Group(match="embed.*", rate=0), Group(match="out.bias", rate=0)]
    fit(model, watched, Batches(data(), 4, 0), TRAINING, Accelerator(), groups=groups)
    assert needed[0] == [False, True, False] and model.embed.weight.grad is None
    assert [p.requires_grad for p in model.parameters()] == [True, True, False], "as it was before"
    same = {name: torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()}
    assert same == {"embed.weight": True, "out.weight": False, "out.bias": True}
    assert set(rates(model, TRAINING, groups)[0]) == {"out.weight"}, "the optimizer holds no other"


def test_requires_grad_is_restored_after_a_failure_too() -> None:
    def bad(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        raise Interrupted

    model = fresh()
    with pytest.raises(Interrupted):
        fit(model, bad, Batches(data(), 4, 0), TRAINING, Accelerator(), groups=GROUPS)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ([Group(match="head.*", rate=1)], r"a group decides no parameter; in match 'head\.\*'; found no such name"),
        ([Group(match="OUT.*", rate=1)], "no such name; expected a glob over names like embed.weight"),
        ([Group(match="*", rate=0.1), Group(match="out.*", rate=1)], "found 2 names that match, all in earlier"),
        ([Group(match="*", rate=0)], "nothing to train"),
    ],
)  # fmt: skip
def test_a_group_without_effect_is_an_error(groups: list[Group], says: str) -> None:
    model = fresh()
    with pytest.raises(TrainError, match=says):
        fit(model, loss, Batches(data(), 4, 0), TRAINING, Accelerator(), groups=groups)
    assert all(p.requires_grad for p in model.parameters())


def test_gradients_are_clipped_together_or_one_by_one() -> None:
    def norms(**chosen: Any) -> list[float]:
        tensors = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
        for tensor, gradient in zip(tensors, ([3.0, 0.0], [0.0, 4.0], [0.5]), strict=True):
            tensor.grad = torch.tensor(gradient)
        clip_gradients(tensors, Training(**chosen))
        return [float(tensor.grad.norm()) for tensor in tensors if tensor.grad is not None]

    whole = (9 + 16 + 0.25) ** 0.5
    assert norms() == pytest.approx([3 / whole, 4 / whole, 0.5 / whole], rel=1e-5)
    assert norms(clip_each=True) == pytest.approx([1.0, 1.0, 0.5], rel=1e-5)
    assert norms(clip=2.0, clip_each=True) == pytest.approx([2.0, 2.0, 0.5], rel=1e-5)
    assert norms(clip=None, clip_each=True) == [3.0, 4.0, 0.5]


@pytest.mark.parametrize("clipping", [{}, {"clip": 100.0}, {"clip": None}, {"clip_each": True}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fused_optimiser_clips_as_a_pass_of_its_own_would(clipping: dict[str, Any], dtype: torch.dtype) -> None:
    """Steps of one kernel on a CPU beside clipping, and then torch's plain loop over the parameters."""

    def moved(fused: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        tensors = [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in ((5, 3), (3,), (2,))]
        optimizer = torch.optim.AdamW(tensors, lr=0.1, fused=fused)
        for scale in (1.0, 50.0, 0.01):
            for tensor in tensors[:2]:  # the third one has no gradient
                tensor.grad = scale * torch.randn_like(tensor)
            if fused:
                move(optimizer, tensors, Training(**clipping))
            else:
                clip_gradients(tensors, Training(**clipping))
                optimizer.step()
        return [tensor.detach() for tensor in tensors]

    torch.testing.assert_close(moved(True), moved(False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clipping", [{"clip": None}, {"clip": 0.01}, {"clip": 0.01, "clip_each": True}])
def test_accumulation_equals_a_larger_batch(clipping: dict[str, Any]) -> None:
    """With batches of equal size, two accumulated batches give the gradient of their union."""
    ends = []
    for training in (
        Training(epochs=1, batch_size=8, **clipping),
        Training(epochs=1, batch_size=4, accumulation=2, **clipping),
    ):
        model = fresh().eval()
        model.drop.p = 0.0
        batches = Batches(data(48), training.batch_size, 0, bucket=False)
        fit(model, loss, batches, training, Accelerator())
        ends.append(model.out.weight.detach().clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-6)


def test_schedule_rises_and_falls_to_zero() -> None:
    training = Training(lr=1.0, warmup=0.1)
    rates = [training.lr_at(step, 100) for step in range(100)]
    assert rates[0] < rates[5] < rates[10] == pytest.approx(1.0)
    assert rates == rates[:11] + sorted(rates[11:], reverse=True) and 0 < rates[-1] < 0.02


def test_a_compiled_model_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[bool] = []

    def without_codegen(model: nn.Module, dynamic: bool) -> object:
        compiled.append(dynamic)
        return compiler(model, dynamic=dynamic, backend="eager")  # traces as usual; needs no C++ compiler

    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", without_codegen)
    weights = []
    monkeypatch.setattr("bench.core.compilers.shutil.which", lambda name: "/usr/bin/g++")
    for engine in ("auto", "compile"):
        model = fresh()
        model.drop.p = 0.0
        training = TRAINING.model_copy(update={"engine": engine})
        log = fit(model, loss, Batches(data(), 4, 0), training, Accelerator())
        assert log.engine == ("eager" if engine == "auto" else "compile")
        weights.append(model.out.weight.detach().clone())
    assert compiled == [True]
    torch.testing.assert_close(weights[1], weights[0])


def test_bf16_is_never_silently_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.train.precision.native_bf16", lambda device: False)
    assert choose("auto", torch.device("cpu")).name == "fp32"
    with pytest.raises(DeviceError, match="only emulates"):
        choose("bf16", torch.device("cpu"))


TWO = """
import sys, torch
sys.path[:0] = [{root!r}, {root!r} + "/tests/bench"]
from test_fit import *
from bench.train.predict import predict
accelerator = Accelerator()
model = fresh(); model.drop.p = 0.0
training = Training(epochs=2, batch_size=5, lr=1e-2, precision="fp32")
log = fit(model, loss, Batches(data(), 5, 0), training, accelerator)
if accelerator.is_main_process:
    print("RESULT", accelerator.num_processes, log.steps, log.examples, *model.out.weight.flatten().tolist())
"""


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO.format(root=str(ROOT)))
    results = []
    for processes in (1, 2):  # the launcher that `accelerate launch` itself starts for several processes
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes > 1 else []
        out = subprocess.run(
            [sys.executable, *launcher, str(script)], env=os.environ | {"ACCELERATE_USE_CPU": "true"},
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        line = [text for text in out.stdout.splitlines() if text.startswith("RESULT")]
        assert line, out.stderr[-2000:]
        results.append(line[0].split()[1:])
    assert results[0][0] == "1" and results[1][0] == "2"
    assert results[0][1:3] == results[1][1:3]
    np.testing.assert_allclose([float(x) for x in results[0][3:]], [float(x) for x in results[1][3:]], rtol=1e-4)


def test_a_fit_after_one_that_failed_begins_at_its_beginning(tmp_path: Path) -> None:
    def make(name: str) -> StageContext:
        request = SimpleNamespace(checkpoint_minutes=0.0)
        job: Any = SimpleNamespace(inputs=SimpleNamespace(request=request, tracking=None),
                                   spec=SimpleNamespace(variant="v", task="t", seed=0))  # fmt: skip
        plan: Any = SimpleNamespace(stage=SimpleNamespace(name="stage"), seed=0)
        return StageContext(job, plan, accelerator=Accelerator(), tokenizer_folder=tmp_path, ask=_nothing_is_asked,
                            progress_folder=tmp_path / name, bars=lambda label: silent)  # fmt: skip

    def breaks(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        seen.append(1)
        return {"task": loss(model, batch)["task"] * (math.nan if len(seen) > 12 else 1.0)}

    seen: list[int] = []
    context, plain = make("after"), make("alone")
    with pytest.raises(TrainError, match="the loss is not finite"):
        context.fit(fresh(), breaks, Batches(data(), 4, 0), TRAINING)
    assert list((tmp_path / "after").glob("fit-0/step-*")), "it left a checkpoint"
    second, alone = fresh(), fresh()
    for one, model in ((context, second), (plain, alone)):
        torch.manual_seed(3)
        log = one.fit(model, loss, Batches(data(), 4, 0), TRAINING)
        assert log.examples == 3 * 50
    assert all(torch.equal(a, b) for a, b in zip(second.parameters(), alone.parameters(), strict=True))


def _nothing_is_asked(kind: str) -> Any:
    raise AssertionError(kind)
