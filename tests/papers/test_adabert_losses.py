"""AdaBERT's losses: values worked by hand, where gradients go, and what an operation costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.train.losses import soft_cross_entropy
from papers.adabert import losses
from papers.adabert.losses import efficiency, layer_weights, mapped, probe_knowledge
from papers.adabert.structure import RELEASED_COSTS, computed_costs
from papers.adabert.student import CONVOLUTIONS, OPERATIONS


def logits(*shares: Sequence[float]) -> Tensor:
    """Logits of these probabilities: their logarithms, moved by a number of each row's own. [len(shares), C]"""
    return torch.tensor(shares).log() + torch.arange(float(len(shares)))[:, None]


# Which layer is copied


@pytest.mark.parametrize(
    ("layers", "teacher", "expected"),
    [
        (1, 12, (12,)), (2, 12, (6, 12)), (3, 12, (4, 8, 12)), (8, 12, (2, 3, 5, 6, 8, 9, 11, 12)),
        (5, 12, (3, 5, 8, 10, 12)), (3, 2, (1, 2, 2)), (4, 4, (1, 2, 3, 4)),
    ],
)  # fmt: skip
def test_layers_are_copied_evenly(layers: int, teacher: int, expected: tuple[int, ...]) -> None:
    assert mapped(layers, teacher) == expected


def test_the_last_layer_always_copies_the_last_and_none_goes_back() -> None:
    for layers in range(1, 9):
        for teacher in range(1, 25):
            found = mapped(layers, teacher)
            assert len(found) == layers and found[-1] == teacher and found[0] >= 1 and list(found) == sorted(found)


# mu


def of_two_layers() -> tuple[Tensor, Tensor]:
    """Two rows of labels 0 and 1, two layers; the cross-entropies are -log of 0.5, 0.8 and of 0.4, 0.1."""
    probes = torch.stack([logits([0.5, 0.5], [0.8, 0.2]), logits([0.6, 0.4], [0.9, 0.1])])
    return probes, torch.tensor([0, 1])


def test_weights_by_hand() -> None:
    probes, labels = of_two_layers()
    # softmax(-CE) of a row is the probabilities of its label, over their sum: 0.5 and 0.8, then 0.4 and 0.1.
    torch.testing.assert_close(
        layer_weights(probes, labels, "example"), torch.tensor([[0.5 / 1.3, 0.8 / 1.3], [0.8, 0.2]])
    )
    # ... and of the means of a batch the geometric means of those.
    first, second = math.sqrt(0.5 * 0.4), math.sqrt(0.8 * 0.1)
    torch.testing.assert_close(
        layer_weights(probes, labels, "batch"), torch.tensor([[first, second]]) / (first + second)
    )
    assert layer_weights(probes, labels, "even").tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("weighing", ["batch", "example", "even"])
def test_weights_add_up_to_one_and_a_layer_that_knows_more_weighs_more(weighing: losses.Weighing) -> None:
    torch.manual_seed(0)
    probes, labels = torch.randn(6, 4, 3) * 3, torch.arange(6) % 3
    probes[:, 2] = F.one_hot(labels, 3) * 25.0
    found = layer_weights(probes, labels, weighing)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    if weighing != "even":
        assert (found.argmax(1) == 2).all()
        assert found.shape == ((6, 4) if weighing == "example" else (1, 4))
        other = layer_weights(probes.flip(1), labels, weighing)
        torch.testing.assert_close(other, found.flip(1))
    if weighing == "example":  # of one row the two are the same
        alone = layer_weights(probes[:1], labels[:1], "example")
        torch.testing.assert_close(alone, layer_weights(probes[:1], labels[:1], "batch"))


# L_KD


def test_knowledge_by_hand() -> None:
    """Two cells copy layers 2 and 4 of four; layers 1 and 3, which are nonsense, change nothing."""
    probes, labels = of_two_layers()
    student = [logits([0.5, 0.5], [0.25, 0.75]), logits([0.1, 0.9], [0.5, 0.5])]
    wrong = torch.full((2, 2), 1e4)
    teacher = torch.stack([wrong, probes[:, 0], -wrong, probes[:, 1]], 1)

    def entropy(p: float, q: float) -> float:
        """Of targets (p, 1 - p) under (q, 1 - q)."""
        return -p * math.log(q) - (1 - p) * math.log(1 - q)

    each = [[entropy(0.5, 0.5), entropy(0.8, 0.1)], [entropy(0.6, 0.25), entropy(0.9, 0.5)]]
    first, second = math.sqrt(0.5 * 0.4), math.sqrt(0.8 * 0.1)
    weights = {
        "even": [[0.5, 0.5]] * 2, "example": [[0.5 / 1.3, 0.8 / 1.3], [0.8, 0.2]],
        "batch": [[first / (first + second), second / (first + second)]] * 2,
    }  # fmt: skip
    for weighing, mu in weights.items():
        expected = sum(m * e for rows in zip(mu, each, strict=True) for m, e in zip(*rows, strict=True)) / 2
        found = probe_knowledge(student, teacher, labels, 1.0, weighing)  # pyright: ignore[reportArgumentType]
        assert found.item() == pytest.approx(expected), weighing


def test_a_network_of_one_cell_copies_the_last_layer() -> None:
    torch.manual_seed(0)
    teacher, student, labels = torch.randn(3, 5, 2), torch.randn(3, 2), torch.tensor([0, 1, 1])
    found = probe_knowledge([student], teacher, labels, 1.0, "batch")
    torch.testing.assert_close(found, soft_cross_entropy(student, teacher[:, 4], 1.0).mean())


def test_knowledge_moves_every_cell_and_not_the_teacher() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(3, 4, 2)
    student = [torch.randn(3, 2, requires_grad=True) for _ in range(3)]
    probe_knowledge(student, teacher, torch.tensor([0, 1, 0]), 1.0, "example").backward()
    for layer in student:
        assert layer.grad is not None and bool(layer.grad.abs().sum(1).gt(0).all())
        torch.testing.assert_close(layer.grad.sum(1), torch.zeros(3), atol=1e-6, rtol=0)


# L_E


def one_hot(place: int, of: int = 3) -> Tensor:
    return F.one_hot(torch.tensor(place), of).float().requires_grad_()


def test_efficiency_by_hand() -> None:
    costs = [torch.tensor([1.0, 2.0, 4.0]), torch.tensor([3.0, 5.0, 7.0])]
    edges, depth = [one_hot(2), one_hot(1)], torch.tensor(3.0, requires_grad=True)
    found = efficiency(edges, costs, depth, 8)
    assert found.item() == pytest.approx(3 / 8 * (4 + 5) / 2)
    found.backward()
    assert depth.grad is not None and depth.grad.item() == pytest.approx((4 + 5) / 2 / 8)
    for edge, cost in zip(edges, costs, strict=True):
        torch.testing.assert_close(edge.grad, 3 / 8 * cost / 2)  # of every candidate, drawn or not


def test_efficiency_grows_with_depth_and_with_dearer_operations() -> None:
    costs = torch.tensor(computed_costs(OPERATIONS))
    edges = [one_hot(OPERATIONS.index(name), 10) for name in ("conv5", "zero", "max-pool")]
    by_depth = [efficiency(edges, [costs] * 3, torch.tensor(float(k)), 8).item() for k in range(1, 9)]
    assert by_depth == pytest.approx([k * by_depth[0] for k in range(1, 9)])
    dearer = [one_hot(OPERATIONS.index("conv7"), 10), *edges[1:]]
    assert efficiency(dearer, [costs] * 3, torch.tensor(1.0), 8).item() > by_depth[0]


def test_efficiency_is_no_coarser_in_low_precision() -> None:
    """The prices of operations differ in the fifth place, which bf16 does not have."""
    costs = torch.tensor(computed_costs(OPERATIONS))
    edges = [one_hot(OPERATIONS.index(name), 10) for name in ("conv3", "conv7", "identity")]
    depth = torch.tensor(5.0)
    exact = efficiency(edges, [costs] * 3, depth, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = efficiency(edges, [costs] * 3, depth, 8)
    found.backward()
    torch.testing.assert_close(found, exact)
    torch.testing.assert_close(edges[0].grad, 5 / 8 * costs / 3)


# Costs


def test_costs_are_those_of_the_released_code() -> None:
    found = dict(zip(OPERATIONS, computed_costs(OPERATIONS), strict=True))
    assert found.keys() == RELEASED_COSTS.keys() and len(found) == 10
    assert max(abs(found[name] - RELEASED_COSTS[name]) for name in found) < 2e-5
    assert sum(found.values()) == pytest.approx(1.0)


def test_costs_by_hand() -> None:
    """Width 1000, length 100: 1000 * 1000 * 3 = 3e6 weights and 3e8 multiply-adds; a norm has 2000 parameters."""
    found = computed_costs(("conv3", "max-pool", "zero"), hidden=1000, length=100)
    sizes = [math.exp(3.002), math.exp(0.002), 1.0]
    works = [math.exp(3.0), 1.0, 1.0]
    expected = [(size / sum(sizes) + work / sum(works)) / 2 for size, work in zip(sizes, works, strict=True)]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("costs", [dict(zip(OPERATIONS, computed_costs(OPERATIONS), strict=True)), RELEASED_COSTS])
def test_what_computes_more_costs_more(costs: dict[str, float]) -> None:
    for name, (width, _) in CONVOLUTIONS.items():
        assert costs[name] == costs[f"conv{width}"], "gaps cost nothing"
    assert costs["conv7"] > costs["conv5"] > costs["conv3"] > costs["max-pool"] == costs["average-pool"]
    assert costs["max-pool"] > costs["identity"] == costs["zero"]
