"""Q-BERT's sensitivity: eigenvalues against exact dense blocks and another library, omega, and the landscape."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from bench.core.errors import DataError, ModelError, SpecError, TrainError
from bench.data.batches import Batch, Encoded, pad
from bench.models.outputs import forward
from bench.train.losses import supervised
from papers.qbert.hessian import (
    BlockProducts,
    Sensing,
    Sensitivity,
    TopEigenvalue,
    landscape,
    sensitivity,
    subset,
    top_eigenvalues,
    top_vectors,
)

LOSS = supervised("label")


def bert(hidden: int = 8, layers: int = 3, seed: int = 0, spread: float = 0.4) -> BertForSequenceClassification:
    """A tiny BERT whose weights are large enough for curvature of both signs."""
    torch.manual_seed(seed)
    shape = BertConfig(
        vocab_size=40, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=2 * hidden, max_position_embeddings=16, initializer_range=spread,
    )  # fmt: skip
    return BertForSequenceClassification(shape).train()


def batch(rows: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 40, (rows, 7), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids),
            "labels": torch.randint(0, 2, (rows,), generator=generator)}  # fmt: skip


def exact(model: BertForSequenceClassification, rows: Batch, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors of a layer's whole block in double precision, by falling magnitude."""
    copy = BertForSequenceClassification(model.config).double().eval()
    copy.load_state_dict(model.state_dict())
    copy.set_attn_implementation("eager")
    parameters = dict(copy.bert.encoder.layer[layer].named_parameters())
    sizes = [p.numel() for p in parameters.values()]

    def value(flat: Tensor) -> Tensor:
        parts = {
            f"bert.encoder.layer.{layer}.{name}": part.view_as(p)
            for (name, p), part in zip(parameters.items(), flat.split(sizes), strict=True)
        }
        ids = {name: tensor for name, tensor in rows.items() if name != "labels"}
        logits = torch.func.functional_call(copy, parts, kwargs=ids).logits
        return nn.functional.cross_entropy(logits, rows["labels"])

    start = torch.cat([p.detach().reshape(-1) for p in parameters.values()])
    dense = torch.func.jacrev(torch.func.grad(value))(start)
    assert dense.shape == (len(start),) * 2 and torch.allclose(dense, dense.T, atol=1e-10)
    values, vectors = np.linalg.eigh(dense.detach().numpy())
    order = np.argsort(-np.abs(values))
    return values[order], vectors[:, order].T


def joined(*batches: Batch) -> Batch:
    return {name: torch.cat([one[name] for one in batches]) for name in batches[0]}


@pytest.mark.parametrize("seed", [0, 1])
def test_every_block_against_the_dense_hessian(seed: int) -> None:
    model, rows = bert(seed=seed), batch(6, seed)
    found = top_eigenvalues(model, LOSS, [rows], tolerance=1e-5, max_steps=200)
    assert list(found) == [0, 1, 2]
    for layer, one in found.items():
        want = exact(model, rows, layer)[0][0]
        assert one.converged and one.value == pytest.approx(want, rel=1e-3), layer
        assert one.residual <= 0.02 * abs(want)


def test_the_default_tolerance_is_kept() -> None:
    seen = 0
    for seed in range(3):
        model, rows = bert(seed=seed), batch(5, seed)
        for layer, one in top_eigenvalues(model, LOSS, [rows]).items():
            assert one.converged and one.value == pytest.approx(exact(model, rows, layer)[0][0], rel=0.01)
            seen += 1
    assert seen == 9


def test_batches_of_different_sizes_are_one_mean() -> None:
    model, parts = bert(), [batch(2, 1), batch(5, 2), batch(1, 3)]
    split = top_eigenvalues(model, LOSS, parts, tolerance=1e-5, max_steps=200)
    whole = top_eigenvalues(model, LOSS, [joined(*parts)], tolerance=1e-5, max_steps=200)
    for layer in range(3):
        assert split[layer].value == pytest.approx(whole[layer].value, rel=1e-4)
        assert split[layer].value == pytest.approx(exact(model, joined(*parts), layer)[0][0], rel=1e-3)


def test_the_sign_is_kept_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def flipped(model: nn.Module, rows: Batch) -> dict[str, Tensor]:
        return {"task": -LOSS(model, rows)["task"]}

    model, rows = bert(), batch(6)
    up = top_eigenvalues(model, LOSS, [rows], tolerance=1e-4, max_steps=100)
    down = top_eigenvalues(model, flipped, [rows], tolerance=1e-4, max_steps=100)
    assert [round(down[i].value + up[i].value, 5) for i in range(3)] == [0, 0, 0]
    with caplog.at_level(logging.INFO, logger="papers.qbert.hessian"):
        result = sensitivity(model, flipped, encoded(12), Sensing(share=0.5, repeats=2))
    lines = [r.getMessage() for r in caplog.records if "sign=" in r.getMessage()]
    assert len(lines) == 6 and sum("sign=-" in line for line in lines) == sum(one.negative for one in result)
    assert all("residual=" in line for line in lines)


def test_a_search_that_ends_early_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model, rows = bert(), encoded(12)
    found = sensitivity(model, LOSS, rows, Sensing(share=0.5, repeats=1, max_steps=2, tolerance=1e-6))
    warned = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warned) == 1 and "3 of 3 eigenvalues" in warned[0] and "next: raise sensing.max_steps" in warned[0]
    assert all(one.residuals[0] == pytest.approx(one.found[0].residual / abs(one.values[0])) for one in found)
    assert min(one.residuals[0] for one in found) > 1e-3
    caplog.clear()
    top_vectors(model, LOSS, [batch(6)], 1, tolerance=1e-6, max_steps=3)
    assert ["eigenvectors are not within" in r.getMessage() for r in caplog.records] == [True]
    caplog.clear()
    sensitivity(model, LOSS, rows, Sensing(share=0.5, repeats=1, max_steps=200))
    assert not caplog.records


def in_double(model: nn.Module, rows: Batch) -> dict[str, Tensor]:
    """The same loss without the rounding to fp32 that the shared one does."""
    return {"task": nn.functional.cross_entropy(forward(model, rows).logits, rows["labels"])}


def products(model: BertForSequenceClassification, rows: Batch, layer: int) -> tuple[dict[str, Tensor], Tensor]:
    """A random unit vector of a layer's block by parameter name, and the block's product with it, flat."""
    block = dict(model.bert.encoder.layer[layer].named_parameters())
    vector = torch.randn(sum(p.numel() for p in block.values()), generator=torch.Generator().manual_seed(3)).double()
    vector = vector / vector.norm()
    product = BlockProducts(model, in_double, [rows], {layer: list(block.values())})({layer: vector})[layer]
    sizes = [p.numel() for p in block.values()]
    return dict(zip(block, vector.split(sizes), strict=True)), product


def test_products_against_differences_of_gradients() -> None:
    model, rows = bert().double().eval(), batch(4)
    model.set_attn_implementation("eager")
    for layer in range(3):
        block = dict(model.bert.encoder.layer[layer].named_parameters())
        vector, product = products(model, rows, layer)
        sides = []
        for way in (1e-5, -2e-5):
            with torch.no_grad():
                for name, part in vector.items():
                    block[name].add_(way * part.view_as(block[name]))
            grads = torch.autograd.grad(in_double(model, rows)["task"], list(block.values()))
            sides.append(torch.cat([g.reshape(-1) for g in grads]))
        assert torch.allclose((sides[0] - sides[1]) / 2e-5, product, rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's forward mode has it
def test_against_another_library() -> None:
    """Its derivatives by the LayerNorms' weights are off: differences of gradients agree with ours, not with them."""
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops is not installed (make install does)")
    model, rows = bert(hidden=32, layers=2, spread=0.1).double().eval(), batch(4)
    model.set_attn_implementation("eager")

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, ids: Tensor) -> Tensor:
            return self.inner(input_ids=ids, attention_mask=rows["attention_mask"]).logits

    wrapped, data, seen = Logits(), [(rows["input_ids"], rows["labels"])], 0
    for layer in range(2):
        parameters = list(model.bert.encoder.layer[layer].parameters())
        theirs: Any = curvlinops.HessianLinearOperator(wrapped, nn.CrossEntropyLoss(), parameters, data)
        vector, ours = products(model, rows, layer)
        want = theirs @ torch.cat(list(vector.values()))
        sizes = [len(part) for part in vector.values()]
        for name, got, other in zip(vector, ours.split(sizes), want.split(sizes), strict=True):
            if name.endswith("LayerNorm.weight"):
                continue
            assert torch.allclose(got, other, rtol=1e-4, atol=1e-7 * float(ours.abs().max())), name
            seen += 1
        (top,) = eigsh(theirs.to_scipy(), k=1, which="LM", return_eigenvectors=False)
        found = top_eigenvalues(model, in_double, [rows], tolerance=1e-5, max_steps=99, layers=[layer])[layer]
        assert found.value == pytest.approx(float(top), rel=0.01)
    assert seen == 2 * 14


# What is left as it was, and what is refused


def test_the_model_is_left_as_it_was() -> None:
    model = bert()
    model.bert.embeddings.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    needed = {name: p.requires_grad for name, p in model.named_parameters()}
    attention = model.config._attn_implementation
    top_eigenvalues(model, LOSS, [batch(3)], max_steps=2)
    with pytest.raises(DataError, match="no rows to measure curvature on"):
        top_eigenvalues(model, LOSS, [])
    assert model.training and model.config._attn_implementation == attention
    assert {name: p.requires_grad for name, p in model.named_parameters()} == needed
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not [name for name, p in model.named_parameters() if p.grad is not None]


def test_dropout_and_chance_change_nothing() -> None:
    model, rows = bert(), batch(6)
    first, second = (top_eigenvalues(model, LOSS, [rows], tolerance=1e-4, max_steps=99, seed=s) for s in (0, 7))
    assert first == top_eigenvalues(model, LOSS, [rows], tolerance=1e-4, max_steps=99, seed=0)
    assert [first[i].value for i in range(3)] == pytest.approx([second[i].value for i in range(3)], rel=1e-3)


def test_a_search_cut_short_says_so() -> None:
    found = top_eigenvalues(bert(), LOSS, [batch(6)], tolerance=1e-6, max_steps=2)
    assert [(one.converged, one.steps) for one in found.values()] == [(False, 2)] * 3


def test_bad_input_is_one_clear_line() -> None:
    model, rows = bert(), batch(3)
    with pytest.raises(SpecError, match="there is no such layer; found \\[3\\]; expected some of 0 to 2"):
        top_eigenvalues(model, LOSS, [rows], layers=[3])
    with torch.no_grad():
        model.classifier.weight.fill_(torch.nan)
    with pytest.raises(TrainError, match="the loss is not finite where its curvature is measured"):
        top_eigenvalues(model, LOSS, [rows])
    with pytest.raises(ModelError, match=r"curvature needs fp32 weights; found torch\.bfloat16"):
        top_eigenvalues(bert().to(torch.bfloat16), LOSS, [rows])  # pyright: ignore


# Omega


def encoded(rows: int) -> Encoded:
    rng = np.random.default_rng(0)
    lists = [[2, *rng.integers(5, 40, 2 + i % 9).tolist(), 3] for i in range(rows)]
    return Encoded.from_lists(lists, [[0] * len(one) for one in lists], rng.integers(0, 2, rows))


def test_omega_by_hand() -> None:
    def layer(*values: float) -> Sensitivity:
        return Sensitivity(tuple(TopEigenvalue(value, 0.0, 1, True) for value in values))

    assert layer(3.0, 5.0).omega == pytest.approx(4 + 1)
    swinging = layer(-4.0, 2.0)
    assert (swinging.mean, swinging.std, swinging.omega, swinging.negative) == (-1.0, 3.0, 4.0, 1)
    assert layer(-2.0).omega == 2.0


def test_sensitivity_is_the_eigenvalues_of_its_subsets() -> None:
    model, rows, sensing = bert(), encoded(20), Sensing(share=0.4, repeats=3, batch_size=3, tolerance=1e-4)
    found = sensitivity(model, LOSS, rows, sensing, seed=5)
    assert len(found) == 3 and [len(one.values) for one in found] == [3, 3, 3]
    for repeat in range(3):
        chosen = subset(rows, sensing, 5, repeat)
        assert [len(part) for part in chosen] == [3, 3, 2]
        whole = pad(rows, np.concatenate(chosen))
        for layer in range(3):
            assert found[layer].values[repeat] == pytest.approx(exact(model, whole, layer)[0][0], rel=2e-3)


def test_subsets_are_random_parts_without_repetition() -> None:
    rows = encoded(50)
    drawn = [np.concatenate(subset(rows, Sensing(share=0.2, batch_size=4), 0, repeat)) for repeat in range(4)]
    assert all(len(set(one.tolist())) == 10 for one in drawn)
    assert len({tuple(sorted(one.tolist())) for one in drawn}) == 4
    assert len(np.concatenate(subset(rows, Sensing(share=0.2, most_rows=7), 0, 0))) == 7
    assert len(np.concatenate(subset(rows, Sensing(share=0.001), 0, 0))) == 1


# Eigenvectors and the landscape


def test_top_vectors_against_the_dense_hessian() -> None:
    model, rows = bert(), batch(6)
    values, vectors = top_vectors(model, LOSS, [rows], 1, tolerance=1e-6, max_steps=150)
    want, directions = exact(model, rows, 1)
    assert values == pytest.approx(want[:2], rel=1e-3)
    for vector, direction in zip(vectors, directions, strict=False):
        assert abs(float(vector.double() @ torch.as_tensor(direction))) == pytest.approx(1, abs=1e-3)
    assert float(vectors[0] @ vectors[1]) == pytest.approx(0, abs=1e-4)


def test_the_landscape_bends_as_the_eigenvalues_say() -> None:
    model, rows = bert(), batch(6)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    values, vectors = top_vectors(model, LOSS, [rows], 1, tolerance=1e-6, max_steps=150)
    seen = landscape(model, LOSS, [rows], 1, vectors, radius=0.05, points=5)
    assert seen.loss.shape == (5, 5) and seen.steps == pytest.approx([-0.05, -0.025, 0, 0.025, 0.05])
    model.eval()
    assert seen.loss[2, 2] == pytest.approx(LOSS(model, rows)["task"].item())
    for value, line in zip(values, (seen.loss[:, 2], seen.loss[2, :]), strict=True):
        assert (line[3] - 2 * line[2] + line[1]) / 0.025**2 == pytest.approx(value, rel=0.05)
    parts = [batch(2, 1), batch(4, 2)]
    split = landscape(model, LOSS, parts, 1, vectors, radius=0.05, points=3)
    assert split.loss == pytest.approx(landscape(model, LOSS, [joined(*parts)], 1, vectors, radius=0.05, points=3).loss)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("wrong", [{"points": 1}, {"radius": 0.0}, {"radius": float("nan")}])
def test_an_impossible_landscape_is_refused(wrong: dict[str, Any]) -> None:
    model = bert()
    size = sum(p.numel() for p in model.bert.encoder.layer[0].parameters())
    with pytest.raises(SpecError, match="no landscape can be drawn"):
        landscape(model, LOSS, [batch(2)], 0, torch.zeros(2, size), **wrong)
    with pytest.raises(SpecError, match="expected 2 points or more, and directions"):
        landscape(model, LOSS, [batch(2)], 0, torch.zeros(2, 3))
