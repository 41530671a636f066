"""Optimisers against steps worked by hand, and the curves of their rate."""

import math

import pytest
import torch
from accelerate import Accelerator
from test_fit import data, fresh, loss
from torch import nn

from bench.core.errors import TrainError
from bench.data.batches import Batches
from bench.train import optimizer
from bench.train.fit import fit
from bench.train.settings import Group, Training

LAMB = Training(optimizer="lamb", lr=0.1, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01)
CPU = torch.device("cpu")


def model(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer


def test_a_step_of_lamb_by_hand() -> None:
    layer = model([[3.0, 4.0]], [2.0])
    found = optimizer.made(layer, LAMB, CPU, {})
    layer.weight.grad, layer.bias.grad = torch.tensor([[0.5, -0.5]]), torch.tensor([0.2])
    found.step()
    # Moments are not corrected: 0.1 g / (sqrt(0.001) |g| + eps) is about 3.1623 sign(g).
    one = [0.1 * g / (math.sqrt(0.001 * g * g) + 1e-6) for g in (0.5, -0.5)]
    update = [one[0] + 0.01 * 3.0, one[1] + 0.01 * 4.0]
    ratio = 5.0 / (math.hypot(*update) + 1e-6)
    wanted = [3.0 - 0.1 * ratio * update[0], 4.0 - 0.1 * ratio * update[1]]
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([wanted]))
    # A vector is not decayed, and its norm plays no part.
    torch.testing.assert_close(layer.bias.detach(), torch.tensor([2.0 - 0.1 * 0.1 * 0.2 / (math.sqrt(4e-5) + 1e-6)]))


def test_lamb_knows_no_largest_norm() -> None:
    small, large = ({"weight": [[3.0 * by, 4.0 * by]], "bias": [0.0]} for by in (1.0, 1000.0))
    moved = []
    for start in (small, large):
        layer = model(**start)
        found = optimizer.made(layer, LAMB.model_copy(update={"weight_decay": 0.0}), CPU, {})
        layer.weight.grad = torch.tensor([[0.5, -0.5]])
        found.step()
        moved.append(layer.weight.detach() - torch.tensor(start["weight"]))
    torch.testing.assert_close(moved[1], 1000.0 * moved[0], rtol=1e-4, atol=0)


def test_lamb_learns_and_heeds_groups() -> None:
    found = fresh()
    before = found.embed.weight.detach().clone()
    training = Training(epochs=6, batch_size=4, lr=2e-2, optimizer="lamb")
    log = fit(found, loss, Batches(data(), 4, 0), training, Accelerator(), groups=[Group(match="embed.*", rate=0.0)])
    assert log.last_loss < log.first_loss and torch.equal(found.embed.weight, before)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(TrainError, match="there is nothing to train"):
        optimizer.made(model([[1.0]], [1.0]).requires_grad_(False), LAMB, CPU, {})


def test_the_rate_falls_as_a_square_root_to_nine_tenths() -> None:
    training = Training(lr=2.0, warmup=0.1, schedule="root")
    rates = [training.lr_at(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([2.0 * (step + 1) / 11 for step in range(10)])
    assert rates[10] == pytest.approx(2.0 * (0.9 + 0.1 * math.sqrt(0.9)))
    assert rates[75] == pytest.approx(2.0 * 0.95) and rates[99] == pytest.approx(2.0 * 0.91)
    assert rates[10:] == sorted(rates[10:], reverse=True)
