"""DistilBERT's soft targets in little memory against whole logits, and values worked by hand."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from papers.distilbert import soft_targets as module
from papers.distilbert.losses import kd_loss
from papers.distilbert.soft_targets import soft_targets


def heads(hidden: int = 6, vocabulary: int = 11, seed: int = 0) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(seed)
    return nn.Linear(hidden, vocabulary), nn.Linear(hidden + 2, vocabulary)


@pytest.mark.parametrize("chunk", [1, 3, 256])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_chunked_soft_targets_equal_the_plain_form_and_its_gradients(chunk: int, temperature: float) -> None:
    head, teacher_head = heads()
    student = torch.randn(7, 6, requires_grad=True)
    teacher = torch.randn(7, 8)
    plain = kd_loss(head(student), teacher_head(teacher), temperature)
    want = torch.autograd.grad(plain, [student, head.weight, head.bias])
    value = soft_targets(student, teacher, head, teacher_head, temperature, chunk)
    got = torch.autograd.grad(value * 1.0, [student, head.weight, head.bias])
    torch.testing.assert_close(value, plain)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_soft_targets_by_hand() -> None:
    """Two words, teacher (3/4, 1/4) and student (1/2, 1/2) at T=1: KL = 0.75 ln 1.5 + 0.25 ln 0.5."""
    head, teacher_head = nn.Linear(1, 2), nn.Linear(1, 2)
    with torch.no_grad():
        head.weight.zero_(), head.bias.zero_(), teacher_head.weight.zero_()
        teacher_head.bias.copy_(torch.tensor([math.log(3.0), 0.0]))
    value = soft_targets(torch.zeros(4, 1), torch.zeros(4, 1), head, teacher_head, 1.0)
    assert value.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-6)


def test_soft_targets_are_zero_for_equal_models_and_scale_with_the_upstream_gradient() -> None:
    head, _ = heads()
    hidden = torch.randn(5, 6, requires_grad=True)
    value = soft_targets(hidden, hidden.detach(), head, head, 2.0)
    assert abs(value.item()) < 1e-6
    other = torch.randn(5, 6)
    one = torch.autograd.grad(soft_targets(hidden, other, head, head, 2.0), hidden)[0]
    three = torch.autograd.grad(soft_targets(hidden, other, head, head, 2.0) * 3.0, hidden)[0]
    torch.testing.assert_close(three, one * 3.0)


def test_temperature_squared_keeps_the_gradient_of_small_logits() -> None:
    """For small logits T^2 KL has nearly the same gradient at every T: that is what the factor is for."""
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 9) * 1e-2, torch.randn(3, 9) * 1e-2
    student.requires_grad_(True)
    at = [torch.autograd.grad(kd_loss(student, teacher, t), student)[0] for t in (2.0, 8.0)]
    assert (at[0] - at[1]).norm() < 0.02 * at[0].norm()


def by_hand_(student: torch.Tensor, teacher: torch.Tensor, counts: torch.Tensor | None, width: int) -> torch.Tensor:
    """What the kernel does, by plain operations."""
    s, t = student[:, :width].float().log_softmax(-1), teacher[:, :width].float().log_softmax(-1)
    weight = torch.ones(len(s)) if counts is None else counts
    student.zero_()[:, :width] = (s.exp() - t.exp()) * weight[:, None]
    return (t.exp() * (t - s)).sum(-1) * weight


@pytest.mark.parametrize("counts", [None, torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])])
def test_the_path_of_the_kernel_on_a_filled_up_vocabulary(
    counts: torch.Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    head, teacher_head = nn.Linear(5, 11), nn.Linear(6, 11)
    student, teacher = torch.randn(7, 5, requires_grad=True), torch.randn(7, 6)
    kept = slice(None) if counts is None else counts.bool()
    plain = kd_loss(head(student[kept]), teacher_head(teacher[kept]), 2.0)
    wanted = torch.autograd.grad(plain, [student, head.weight, head.bias])
    monkeypatch.setitem(sys.modules, "papers.distilbert.kernels", SimpleNamespace(divergence_=by_hand_))
    for has in (False, True):
        monkeypatch.setattr(module, "_has_kernel", lambda device, has=has: has)
        value = soft_targets(student, teacher, head, teacher_head, 2.0, 3, counts)
        torch.testing.assert_close(value, plain, rtol=1e-5, atol=1e-6)
        found = torch.autograd.grad(value, [student, head.weight, head.bias])
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_kernel_is_for_gpus_alone() -> None:
    assert not module._has_kernel("cpu")
