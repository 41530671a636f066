"""Q-BERT's quantiser by hand and by its properties, the model that uses it, and the assignment of bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from bench.core.errors import ModelError, SpecError
from bench.data.batches import Batches, Encoded
from bench.models import load
from bench.train.fit import fit
from bench.train.losses import supervised
from bench.train.settings import Training
from papers.qbert.bits import mixed, uniform
from papers.qbert.quantize import QuantizedEmbedding, QuantizedLinear, quantize, quantized_weights
from papers.qbert.rounding import MovingRange, Rounding, grid, rounded
from papers.qbert.scheme import Scheme
from papers.qbert.student import QuantizedModel, from_float

BITS = st.integers(1, 8)
FLOATS = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
WEIGHTS = arrays(np.float32, (12, 6), elements=FLOATS) | arrays(
    np.float32, (12, 6), elements=st.floats(-1, 1, width=32)
)
ROUNDINGS = st.builds(
    Rounding, bits=BITS, groups=st.sampled_from([1, 2, 3, 6]), axis=st.sampled_from(["output", "input"]),
    zero=st.sampled_from(["exact", "rounded"]), tail=st.sampled_from([None, 10.0]),
)  # fmt: skip
SCHEME = Scheme(layers=(4, 4), groups=4, embedding_groups=4)
IDS = torch.arange(5, 35).view(3, 10)


def bert(**changes: Any) -> BertForSequenceClassification:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 20, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3,
    }  # fmt: skip
    return BertForSequenceClassification(BertConfig(**shape | changes))


# The grid by hand


def test_values_by_hand() -> None:
    values = torch.tensor([[-1.0, -0.4, 0.1, 0.2, 2.0]])
    two = Rounding(bits=2, groups=1, axis="output")
    assert two(values).tolist() == [[-1.0, 0.0, 0.0, 0.0, 2.0]], "steps of 3/3 from -1"
    moved = Rounding(bits=2, groups=1, axis="output", zero="rounded")
    off = torch.tensor([[-0.75, 0.2, 2.25]])
    assert two(off).tolist() == [[-0.75, 0.25, 2.25]]
    assert moved(off).tolist() == [[-1.0, 0.0, 2.0]], "the grid of step 1 moved by a quarter, so that 0 is on it"
    one = Rounding(bits=1, groups=1, axis="output")
    assert one(values).tolist() == [[-1.0, -1.0, -1.0, -1.0, 2.0]]


def test_groups_by_hand() -> None:
    weight = torch.tensor([[0.0, 8.0], [1.0, 3.0], [0.0, 0.4], [0.6, 1.0]])
    by_output = Rounding(bits=1, groups=2, axis="output")(weight)
    assert by_output.tolist() == [[0.0, 8.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
    by_input = Rounding(bits=1, groups=2, axis="input")(weight)
    assert by_input.tolist() == [[0.0, pytest.approx(8.0)], *[[1.0, pytest.approx(0.4)]], [0.0, pytest.approx(0.4)],
                                 [1.0, pytest.approx(0.4)]]  # fmt: skip
    assert torch.equal(Rounding(bits=1, groups=1, axis="input")(weight), Rounding(1, 1, "output")(weight))


def test_a_percentile_cuts_both_tails() -> None:
    values = torch.arange(100.0).view(1, 100)
    found = Rounding(bits=8, groups=1, axis="output", tail=5.0).grid_of(values)
    assert (found.low.item(), found.high.item()) == (5.0, 94.0)
    out = Rounding(bits=8, groups=1, axis="output", tail=5.0)(values)
    assert (out.min().item(), out.max().item()) == pytest.approx((5.0, 94.0))
    none = Rounding(bits=8, groups=1, axis="output", tail=0.5).grid_of(values)
    assert (none.low.item(), none.high.item()) == (0.0, 99.0), "half a value is none"


# Its properties


def spread(rounding: Rounding, weight: Tensor) -> tuple[Tensor, Tensor, Any]:
    """Grouped values before and after, and the grid."""
    out = rounding(weight)
    return rounding.grouped(weight), rounding.grouped(out), rounding.grid_of(weight)


@given(WEIGHTS, ROUNDINGS)
@settings(max_examples=150, deadline=None)
def test_the_error_is_at_most_half_a_step(values: np.ndarray, rounding: Rounding) -> None:
    before, after, to = spread(rounding, torch.from_numpy(values))
    inside = (before >= to.low) & (before <= to.high)
    rounding_noise = 4e-7 * (before.abs() + to.low.abs() + to.high.abs())
    error = (after.double() - before.double()).abs()
    assert bool((error <= to.scale / 2 + rounding_noise)[inside].all())
    if rounding.tail is None:
        assert bool((error <= to.scale / 2 * 1.0001 + rounding_noise).all()), "a moved grid clips by half a step"
    above, below = before > to.high, before < to.low
    wide = to.scale > torch.finfo(torch.float32).tiny  # a grid without width holds one value
    ends = torch.where(wide, to.low + to.scale * to.top, to.low)
    seen_from_outside = torch.finfo(torch.float32).tiny * to.top  # what a grid without width adds to its one value
    torch.testing.assert_close(after[above], ends.expand_as(after)[above], rtol=0, atol=seen_from_outside)
    assert torch.equal(after[below], to.low.expand_as(after)[below])


@given(WEIGHTS, ROUNDINGS)
@settings(max_examples=150, deadline=None)
def test_rounding_twice_changes_nothing(values: np.ndarray, rounding: Rounding) -> None:
    weight = torch.from_numpy(values)
    _, once, to = spread(rounding, weight)
    noise = 4e-7 * (to.low.abs() + to.high.abs())
    assert bool(((rounded(once, to) - once).abs() <= noise).all())
    if rounding.tail is None and rounding.zero == "exact":
        again = rounding.grouped(rounding(rounding(weight)))
        assert bool(((again - once).abs() <= 4 * noise).all()), "ranges measured anew are the same"


@given(WEIGHTS, ROUNDINGS)
@settings(max_examples=150, deadline=None)
def test_order_is_kept_and_values_are_few(values: np.ndarray, rounding: Rounding) -> None:
    before, after, _ = spread(rounding, torch.from_numpy(values))
    if rounding.axis == "input":
        before, after = (one.transpose(0, 1).reshape(rounding.groups, -1) for one in (before, after))
    seen = 0
    for old, new in zip(before, after, strict=True):
        order = old.argsort()
        assert bool((new[order].diff() >= 0).all())
        assert len(new.unique()) <= 2**rounding.bits
        seen += 1
    assert seen == rounding.groups


@given(arrays(np.float32, 6, elements=FLOATS), BITS, st.sampled_from(["exact", "rounded"]))
@settings(deadline=None)
def test_constant_groups_survive(values: np.ndarray, bits: int, zero: Any) -> None:
    weight = torch.from_numpy(values)[:, None].expand(6, 5).contiguous()
    assert torch.equal(Rounding(bits, 6, "output", zero)(weight), weight)
    assert torch.equal(Rounding(bits, 6, "input", zero)(weight.t().contiguous()), weight.t())


@given(WEIGHTS)
@settings(deadline=None)
def test_32_bits_are_the_identity(values: np.ndarray) -> None:
    weight = torch.from_numpy(values)
    assert Rounding(32, 5, "output")(weight) is weight, "whatever the groups"


@given(WEIGHTS, BITS)
@settings(deadline=None)
def test_a_rounded_grid_has_zero_on_it(values: np.ndarray, bits: int) -> None:
    to = Rounding(bits, 3, "output", "rounded").grid_of(torch.from_numpy(values))
    crosses = (to.low < 0) & (to.high > 0)
    zero = rounded(torch.zeros_like(to.low), to)
    assert bool((zero[crosses].abs() <= 1e-6 * to.scale[crosses]).all())


# Gradients


@pytest.mark.parametrize("zero", ["exact", "rounded"])
def test_the_gradient_is_that_of_the_clamped_values(zero: Any) -> None:
    to = grid(torch.tensor(-0.8), torch.tensor(1.1), 4, zero)
    values = torch.linspace(-3, 3, 61)
    values = values[((values - to.low).abs() > 0.02) & ((values - to.high).abs() > 0.02)].requires_grad_()
    rounded(values, to).sum().backward()
    step = 1e-3
    with torch.no_grad():
        up, down = ((values + shift).clamp(to.low, to.high) for shift in (step, -step))
    assert values.grad is not None and len(values) > 50
    assert torch.allclose(values.grad, (up - down) / (2 * step), atol=1e-3)
    assert 0 < int(values.grad.sum()) < len(values)


def test_the_gradient_passes_everywhere_where_asked() -> None:
    to = grid(torch.tensor(-1.0), torch.tensor(1.0), 2)
    values = torch.linspace(-3, 3, 13).requires_grad_()
    (rounded(values, to, clamped=False) * torch.arange(13.0)).sum().backward()
    assert values.grad is not None and torch.equal(values.grad, torch.arange(13.0))


@pytest.mark.parametrize("axis", ["output", "input"])
def test_weights_in_their_own_range_have_the_whole_gradient(axis: Any) -> None:
    weight = torch.randn(8, 4).requires_grad_()
    upstream = torch.randn(8, 4)
    (Rounding(2, 4, axis)(weight) * upstream).sum().backward()
    assert weight.grad is not None and torch.equal(weight.grad, upstream)
    weight.grad = None
    tailed = Rounding(2, 1, axis, tail=10.0)
    (tailed(weight) * upstream).sum().backward()
    cut = weight.flatten().argsort()[[0, 1, 2, -3, -2, -1]]
    assert weight.grad.flatten()[cut].tolist() == [0.0] * 6 and int((weight.grad == 0).sum()) == 6
    weight.grad = None
    (Rounding(2, 1, axis, tail=10.0, identity=True)(weight) * upstream).sum().backward()
    assert torch.equal(weight.grad, upstream)


# Activations


def test_the_moving_range_by_hand() -> None:
    moving = MovingRange(8, momentum=0.9)
    with pytest.raises(ModelError, match="the activations have no range yet"):
        moving.eval()(torch.ones(3))
    moving.train()
    moving(torch.tensor([-1.0, 3.0]))
    assert (moving.low.item(), moving.high.item()) == (-1.0, 3.0)
    moving(torch.tensor([-2.0, 1.0]))
    assert (moving.low.item(), moving.high.item()) == pytest.approx((-1.1, 2.8))
    moving.eval()
    assert moving(torch.tensor([-9.0, 9.0])).tolist() == pytest.approx([-1.1, 2.8])
    assert (moving.low.item(), moving.high.item()) == pytest.approx((-1.1, 2.8)), "answering moves nothing"
    assert moving(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.bfloat16


# The model


def test_only_what_should_be_is_quantised_and_names_stay() -> None:
    plain = bert()
    names = set(plain.state_dict())
    model = quantize(plain, SCHEME)
    linears = [name for name, module in model.named_modules() if isinstance(module, QuantizedLinear)]
    tables = [name for name, module in model.named_modules() if isinstance(module, QuantizedEmbedding)]
    assert len(linears) == 12 and all("encoder.layer" in name for name in linears) and len(tables) == 3
    assert type(model.classifier) is nn.Linear and len(quantized_weights(model)) == 15
    new = set(model.state_dict()) - names
    assert not names - set(model.state_dict()) and len(new) == 2 * 4 * 2
    assert {name.split(".")[-3] for name in new} == {"query", "key", "value", "dense"}
    assert not [name for name in new if ".attention.output." in name]


def test_32_bits_everywhere_is_the_plain_model() -> None:
    plain = bert().eval()
    scheme = Scheme(layers=(32, 32), word=32, position=32, token_type=32, activations=32, groups=7)
    assert torch.equal(from_float(plain, scheme)(IDS).logits, plain(IDS).logits)


def test_each_part_has_its_own_bits() -> None:
    scheme = SCHEME.model_copy(update={"layers": (2, 32), "word": 4, "position": 32, "activations": 32})
    plain = bert().eval()
    model = from_float(plain, scheme)
    found = {name: rounding.bits for name, (_, rounding) in quantized_weights(model.model).items()}
    tables = {name.split(".")[2]: bits for name, bits in found.items() if "embeddings" in name}
    assert tables == {"word_embeddings": 4, "token_type_embeddings": 8}
    assert len(found) == 8 and [bits for name, bits in found.items() if "layer.0" in name] == [2] * 6
    with torch.no_grad():
        for name, (weight, rounding) in quantized_weights(model.model).items():
            plain.get_parameter(name).copy_(rounding(weight))
    assert torch.allclose(model(IDS).logits, plain(IDS).logits, atol=1e-6), "rows are rounded by the table's ranges"


def test_better_bits_are_closer() -> None:
    plain = bert().eval()
    with torch.no_grad():
        want = plain(IDS).logits
        errors = []
        for bits in (2, 4, 8):
            scheme = SCHEME.model_copy(update={"layers": (bits, bits), "activations": 32})
            errors.append(float((from_float(plain, scheme)(IDS).logits - want).abs().mean()))
    assert errors[0] > errors[1] > errors[2] > 0


def test_it_trains_saves_and_loads(tmp_path: Path) -> None:
    model, rng = from_float(bert(), SCHEME), np.random.default_rng(0)
    labels = rng.integers(0, 2, 32)
    rows = [[2, *(rng.integers(5, 25, 6) + 20 * label).tolist(), 3] for label in labels]
    batches = Batches(Encoded.from_lists(rows, [[0] * 8] * 32, labels), 8, 0)
    training = Training(epochs=8, lr=3e-3, precision="fp32")
    log = fit(model, supervised("label"), batches, training, Accelerator(cpu=True))
    assert log.last_loss < log.first_loss / 2
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is not None]
    load.save(model, tmp_path)
    again = load.load_saved(tmp_path)
    assert isinstance(again, QuantizedModel) and again.scheme == SCHEME
    with torch.no_grad():
        assert torch.equal(again.eval()(IDS).logits, model.eval()(IDS).logits)
    assert all(torch.isfinite(t).all() for t in again.state_dict().values())


def test_every_parameter_gets_a_gradient() -> None:
    model = from_float(bert(), SCHEME).train()
    model(IDS, labels=torch.tensor([0, 1, 0])).loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not [name for name in without if "key.bias" not in name], "a key's bias shifts all scores alike"


# Bad input


@pytest.mark.parametrize("bits", [0, -1, 9, 16, 31, 33])
def test_impossible_bits_are_refused(bits: int) -> None:
    for changes in ({"layers": (4, bits)}, {"layers": (4,), "word": bits}, {"layers": (4,), "activations": bits}):
        with pytest.raises(SpecError) as error:
            Scheme.model_validate(changes)
        assert f"found {bits}" in str(error.value) and "expected 1 to 8, or 32" in str(error.value)
    with pytest.raises(SpecError, match="so many bits cannot be quantised to"):
        uniform(bits, 12)
    with pytest.raises(SpecError, match="a scheme has no layers"):
        Scheme(layers=())


def test_a_model_that_does_not_fit_is_refused_and_left_alone() -> None:
    model = bert()
    with pytest.raises(SpecError) as error:
        quantize(model, SCHEME.model_copy(update={"layers": (4, 4, 4)}))
    assert "found bits of 3 layers; expected 2 layers" in str(error.value) and "\n" not in str(error.value)
    assert not quantized_weights(model)
    with pytest.raises(ModelError, match=r"the model cannot be quantised; in bert\.encoder\.layer\.0\.attention"):
        quantize(quantize(bert(), SCHEME), SCHEME)
    with pytest.raises(ModelError, match="the config is not that of a quantised model; found no model, scheme"):
        QuantizedModel.from_saved({})


def test_groups_that_do_not_divide_a_matrix_are_its_greatest_common_divisor_with_them() -> None:
    """No number of groups is impossible for a matrix (D9): 16 outputs, or 32 of the first feed-forward one."""
    for changes, query, inner, table in (
        ({"groups": 5}, 1, 1, 4), ({"groups": 12}, 4, 4, 4), ({"groups": 128}, 16, 32, 4),
        ({"groups": 32, "axis": "input"}, 16, 16, 4), ({"embedding_groups": 3}, 4, 4, 1),
        ({"embedding_groups": 128}, 4, 4, 16),
    ):  # fmt: skip
        found = quantized_weights(quantize(bert(), SCHEME.model_copy(update=changes)))
        groups = {name: rounding.groups for name, (_, rounding) in found.items()}
        layer = "bert.encoder.layer.1"
        assert groups[f"{layer}.attention.self.query.weight"] == query, changes
        assert groups[f"{layer}.intermediate.dense.weight"] == inner, changes
        assert groups["bert.embeddings.word_embeddings.weight"] == table, changes


# Bits of layers


def test_more_bits_go_to_the_layers_that_bend_most() -> None:
    # Eigenvalues that the authors' repository gives for CoLA, and its order of the layers
    cola = (6.67, 9.38, 14.55, 18.26, 18.81, 21.75, 16.43, 15.37, 25.82, 1.71, 0.80, 1.01)
    found = mixed(cola, 3, 2)
    assert [layer for layer in range(12) if found[layer] == 3] == sorted([8, 5, 4, 3, 6, 7])
    assert mixed(cola, 4, 2, more=1) == (2,) * 8 + (4,) + (2,) * 3
    backwards = mixed(cola, 3, 2, order="reversed")
    assert [a + b for a, b in zip(found, backwards, strict=True)] == [5] * 12
    assert mixed(cola, 3, 2, more=12) == (3,) * 12 and mixed(cola, 3, 2, more=0) == (2,) * 12
    assert mixed((1.0, 1.0, 1.0), 4, 2) == (4, 2, 2), "of equal ones the first, and half of three is one"
    assert uniform(4, 3) == (4, 4, 4)


def test_the_random_control_is_drawn_from_its_seed() -> None:
    omega = tuple(float(i) for i in range(12))
    drawn = [mixed(omega, 3, 2, order="random", seed=seed) for seed in range(20)]
    assert drawn[0] == mixed(omega[::-1], 3, 2, order="random", seed=0), "whatever the sensitivities"
    assert all(sum(one) == 30 for one in drawn) and len(set(drawn)) > 15


@pytest.mark.parametrize(("wrong", "part"), [
    ({"omega": (1.0, float("nan"))}, "the sensitivities cannot be ordered"),
    ({"omega": ()}, "the sensitivities cannot be ordered"),
    ({"more": 3}, "found 3; expected 0 to 2"), ({"more": -1}, "found -1"),
    ({"high": 9}, "found 9"), ({"low": 0}, "found 0"), ({"high": 2, "low": 3}, "the more bits are not more"),
])  # fmt: skip
def test_impossible_mixtures_are_refused(wrong: dict[str, Any], part: str) -> None:
    arguments: dict[str, Any] = {"omega": (1.0, 2.0), "high": 4, "low": 2} | wrong
    with pytest.raises(SpecError) as error:
        mixed(**arguments)
    assert part in str(error.value) and "\n" not in str(error.value)
