"""The shared losses against values worked by hand and against their plain forms."""

import math

import pytest
import torch
from torch import nn

from bench.data.masking import IGNORED
from bench.train.losses import masked_lm, soft_cross_entropy, task_loss


def test_masked_lm_ignores_unmasked_positions() -> None:
    hidden = torch.randn(2, 3, 4)
    labels = torch.full((2, 3), IGNORED)
    labels[0, 1] = 2
    head = nn.Linear(4, 5)
    want = nn.functional.cross_entropy(head(hidden[0, 1]), torch.tensor(2))
    torch.testing.assert_close(masked_lm(hidden, {"labels": labels}, head), want)
    changed = hidden.clone()
    changed[1] = 99.0
    torch.testing.assert_close(masked_lm(changed, {"labels": labels}, head), want)


def test_masked_lm_without_a_masked_position_costs_nothing_and_still_has_a_gradient() -> None:
    hidden = torch.randn(1, 2, 4, requires_grad=True)
    value = masked_lm(hidden, {"labels": torch.full((1, 2), IGNORED)}, nn.Linear(4, 5))
    value.backward()
    assert value.item() == 0.0 and hidden.grad is not None and not hidden.grad.any()


def test_task_loss_by_hand() -> None:
    assert task_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0]), True).item() == pytest.approx(2.5)
    assert task_loss(torch.zeros(1, 2), torch.tensor([1]), False).item() == pytest.approx(math.log(2))


def test_soft_cross_entropy_by_hand() -> None:
    student, teacher = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.5, 0.5]]).log()
    expected = -0.5 * math.log(0.25) - 0.5 * math.log(0.75)
    assert soft_cross_entropy(student, teacher, 1.0).tolist() == pytest.approx([expected])
    # At T = 2 probabilities become their roots: 1 : sqrt(3) of the student, still even of the teacher.
    share = 1 / (1 + math.sqrt(3))
    expected = -0.5 * math.log(share) - 0.5 * math.log(1 - share)
    assert soft_cross_entropy(student, teacher, 2.0).tolist() == pytest.approx([expected])


def test_soft_cross_entropy_is_least_where_both_agree_and_then_has_no_gradient() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(4, 2, 3)
    student = (teacher.clone() + 7.0).requires_grad_()
    least = soft_cross_entropy(student, teacher, 1.5)
    assert least.shape == (4, 2)
    entropy = torch.distributions.Categorical(logits=teacher / 1.5).entropy()
    torch.testing.assert_close(least, entropy)
    least.sum().backward()
    assert student.grad is not None and student.grad.abs().max() < 1e-5
    assert (soft_cross_entropy(torch.randn(4, 2, 3), teacher, 1.5) > entropy - 1e-6).all()
