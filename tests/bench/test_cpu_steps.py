"""Cheaper steps on a CPU: dropout from few random bits and attention by plain products are what they were."""

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from bench.data.batches import Batches, Encoded
from bench.train import cpu
from bench.train.cpu import attention, cheap_attention, cheaper, dropout, rounded_once
from bench.train.fit import fit
from bench.train.settings import Training


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_drops_the_share_it_is_asked_for_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    out = dropout(torch.ones(1000, 1003), p)
    dropped = float((out == 0).float().mean())
    error = 4 * (p * (1 - p) / out.numel()) ** 0.5
    assert abs(dropped - p) < error + 2**-15
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


def heads(dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """Query, key and value [2, 3, 5, 4], and a mask that hides the end of the first row."""
    torch.manual_seed(4)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[0, :, :, 3:] = False
    return [torch.randn(2, 3, 5, 4, dtype=dtype, requires_grad=True) for _ in range(3)], mask


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_and_its_gradients_are_those_of_torch(masked: bool, scale: float | None) -> None:
    parts, mask = heads()
    asked = mask if masked else None
    query, key, value = parts
    ours = attention(query, key, value, asked, scale=scale)
    theirs = functional.scaled_dot_product_attention(query, key, value, attn_mask=asked, scale=scale)
    assert torch.allclose(ours, theirs)
    found = torch.autograd.grad(ours.square().sum(), parts)
    expected = torch.autograd.grad(theirs.square().sum(), parts)
    assert all(torch.allclose(one, other) for one, other in zip(found, expected, strict=True))


def test_attention_drops_probabilities_and_keeps_their_mean() -> None:
    (query, key, _), mask = heads()
    identity = torch.eye(5, dtype=torch.float64).expand(2, 3, 5, 5)  # so that the result is the probabilities
    whole = attention(query, key, identity, mask)
    torch.manual_seed(5)
    drawn = torch.stack([attention(query, key, identity, mask, 0.25) for _ in range(4000)])
    dropped = (drawn == 0) & (whole != 0)
    assert abs(float(dropped.float().sum() / (4000 * int((whole != 0).sum()))) - 0.25) < 0.01
    assert torch.allclose(drawn.mean(0), whole, atol=0.05)


@pytest.mark.parametrize("more", [{"is_causal": True}, {"attn_mask": torch.zeros(5, 5, dtype=torch.float64)}, None])
def test_what_asks_for_no_gradient_or_for_more_gets_torchs_attention(more: dict[str, Any] | None) -> None:
    parts, _ = heads()
    query, key, value = [part.detach() for part in parts] if more is None else parts
    before = functional.scaled_dot_product_attention
    expected = before(query, key, value, **(more or {}))
    with cheap_attention(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "attention", lambda *_: pytest.fail("torch's own was asked for"))
        assert torch.equal(functional.scaled_dot_product_attention(query, key, value, **(more or {})), expected)
    assert functional.scaled_dot_product_attention is before


def test_an_encoder_in_training_attends_by_it() -> None:
    model = BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                                 intermediate_size=8))  # fmt: skip
    batch = {"input_ids": torch.tensor([[1, 2, 0], [3, 4, 5]]), "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}
    asked: list[float] = []

    def seen(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, p: float, scale: float) -> Tensor:
        asked.append(p)
        return attention(query, key, value, mask, p, scale)

    with cheap_attention(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "attention", seen)
        model.train()(**batch)
        model.eval()(**batch)
        with torch.no_grad():
            model.train()(**batch)
    assert asked == [0.1, 0.0]


def dense(trained: bool) -> nn.Linear:
    torch.manual_seed(6)
    return nn.Linear(8, 8).requires_grad_(trained)


def in_bf16(layer: nn.Linear) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return layer(torch.ones(2, 8))


def copies_made(layer: nn.Linear, passes: int) -> int:
    """How many number formats were changed in so many passes."""
    with torch.profiler.profile() as seen:
        for _ in range(passes):
            in_bf16(layer)
    return sum(one.count for one in seen.key_averages() if one.key == "aten::_to_copy")


def test_a_frozen_dense_layer_is_rounded_once_and_answers_as_before() -> None:
    layer = dense(trained=False)
    before, many = in_bf16(layer), copies_made(layer, 4)
    with rounded_once():
        assert torch.equal(in_bf16(layer), before)
        assert copies_made(layer, 4) == 4 == many - 8  # the input's alone, and not the weight's and the bias's
    assert copies_made(layer, 4) == many


def test_a_frozen_layer_that_is_changed_in_place_is_rounded_anew() -> None:
    layer = dense(trained=False)
    with rounded_once():
        before = in_bf16(layer)
        layer.weight.mul_(2)
        assert not torch.equal(in_bf16(layer), before)
        assert torch.equal(in_bf16(layer), in_bf16(layer.requires_grad_(True)))


@pytest.mark.parametrize("precision", [torch.bfloat16, None])
def test_a_layer_that_is_trained_is_left_to_autocast(precision: torch.dtype | None) -> None:
    layer = dense(trained=True)
    with rounded_once(), torch.autocast("cpu", precision, enabled=precision is not None):
        layer(torch.ones(2, 8)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_without_autocast_a_frozen_layer_keeps_its_precision() -> None:
    layer = dense(trained=False)
    before = layer(torch.ones(2, 8))
    with rounded_once():
        assert torch.equal(layer(torch.ones(2, 8)), before)
