"""Cheaper steps on a CPU: dropout from few random bits, which is dropout all the same."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from bench.data.batches import Batches, Encoded
from bench.train.cpu import cheaper, dropout
from bench.train.fit import fit
from bench.train.settings import Training


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_drops_the_share_it_is_asked_for_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    out = dropout(torch.ones(1000, 1003), p)
    dropped = float((out == 0).float().mean())
    error = 4 * (p * (1 - p) / out.numel()) ** 0.5
    assert abs(dropped - p) < error + 2**-16
    assert abs(float(out.mean()) - 1) < error / (1 - p)


@pytest.mark.parametrize("place", range(4))
def test_every_place_of_a_random_word_is_as_likely(place: int) -> None:
    torch.manual_seed(1)
    out = dropout(torch.ones(400_000), 0.5)[place::4]
    assert abs(float((out == 0).float().mean()) - 0.5) < 4 * (0.25 / out.numel()) ** 0.5


@pytest.mark.parametrize("p", [1e-9, 1 - 1e-9])
def test_a_share_next_to_none_or_all_stays_finite(p: float) -> None:
    assert torch.isfinite(dropout(torch.ones(100), p)).all()


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(2)
    x = torch.randn(50, 7, dtype=torch.float64, requires_grad=True)
    out = dropout(x, 0.3)
    out.sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad * x, out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_shape_and_number_format(dtype: torch.dtype) -> None:
    out = dropout(torch.ones(3, 5, 7, dtype=dtype), 0.1)
    assert (out.shape, out.dtype) == ((3, 5, 7), dtype)


def test_modules_are_what_they_were_afterwards_and_in_eval_mode_drop_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Dropout(0.5, inplace=True))
    with cheaper(model):
        kinds = [type(module) for module in model]
        torch.manual_seed(3)
        first = model(torch.ones(2, 4))
        torch.manual_seed(3)
        again = model(torch.ones(2, 4))
        evaluated = model.eval()(torch.ones(2, 4))
    assert kinds[1] is not nn.Dropout
    assert kinds[2] is nn.Dropout
    assert torch.equal(first, again)
    assert torch.equal(evaluated, model[0](torch.ones(2, 4)))
    assert [type(module) for module in model] == [nn.Linear, nn.Dropout, nn.Dropout]


def test_a_training_that_fails_leaves_the_modules_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    seen: list[type] = []

    def loss(_: nn.Module, batch: object) -> dict[str, torch.Tensor]:
        seen.append(type(model[1]))
        raise ValueError("the loss is wrong")

    rows = Encoded.from_lists([[1, 2], [3, 4]], [[0, 0]] * 2, np.array([0, 1]))
    with pytest.raises(ValueError, match="the loss is wrong"):
        fit(model, loss, Batches(rows, 2, 0), Training(epochs=1, batch_size=2), Accelerator(cpu=True))
    assert seen
    assert seen[0] is not nn.Dropout
    assert type(model[1]) is nn.Dropout
