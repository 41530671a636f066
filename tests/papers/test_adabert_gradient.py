"""The gradient of AdaBERT's structure: in full, where all candidates answer, and by the drawn one alone."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from searches import network, operations, rows, sampled, weight_of
from torch import Tensor

from papers.adabert.search import Answer, SearchNetwork
from papers.adabert.structure import Space

BATCH = rows([9, 4, 7], 9)


def loss_of(answers: list[Answer]) -> Tensor:
    """Of each depth another one, so that their losses differ."""
    each = [one.weight * sum(layer.square().sum() for layer in one.logits) for one in answers]
    return torch.stack([torch.as_tensor(value) for value in each]).sum()


def slopes(made: SearchNetwork, seed: int) -> dict[str, Tensor | None]:
    """The gradient of every parameter for one draw."""
    made.zero_grad()
    torch.manual_seed(seed)
    loss_of(made(**BATCH)[0]).backward()
    return {name: parameter.grad for name, parameter in made.named_parameters()}


@pytest.mark.parametrize("seed", range(4))
def test_what_was_not_drawn_changes_no_answer(seed: int) -> None:
    full, alone = network(gradient="all").train(), network().train()
    _, cells = sampled(alone, seed)
    torch.manual_seed(seed)
    answers, price = full(**BATCH)
    torch.manual_seed(seed)
    (drawn,), same_price = alone(**BATCH)
    assert [len(one.logits) for one in answers] == [1, 2, 3, 4]
    assert [weight_of(one) for one in answers] == [float(k == cells) for k in range(1, 5)]
    assert all(torch.equal(a, b) for a, b in zip(answers[cells - 1].logits, drawn.logits, strict=True))
    assert torch.equal(price, same_price)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_that_of_a_network_that_runs_everything(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, same = network(gradient="all").train(), network(gradient="all").train()
    ours = slopes(made, seed)
    monkeypatch.setattr(torch, "no_grad", nullcontext)
    everything = slopes(same, seed)
    structure = [name for name in ours if name.startswith("structure.")]
    assert len(structure) == 10
    for name, expected in everything.items():
        found = ours[name]
        if found is None:  # no part of what was drawn: its weight is 0 there
            assert name not in structure
            assert expected is None or not expected.any()
        else:
            torch.testing.assert_close(found, expected)
    assert all(ours[name].any() for name in structure)  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("seed", range(4))
def test_what_was_not_drawn_learns_nothing(seed: int) -> None:
    made = network(gradient="all").train()
    chosen, cells = sampled(made, seed)
    slopes(made, seed)
    for (c, e, place), one in operations(made).items():
        for parameter in one.parameters():
            assert (parameter.grad is not None) is (c < cells and place == chosen[e])
    for k in range(1, 5):
        assert all((p.grad is not None) is (k == cells) for p in made.body.classifiers[k - 1].parameters())


def test_candidates_that_do_the_same_are_as_likely_afterwards() -> None:
    """By the drawn one alone a useful result makes what is likely likelier, whatever the others would have done."""
    space = Space((((0, ("identity",) * 3), (1, ("zero",))),) * 3, (1,))
    steps = {}
    for gradient in ("all", "sampled"):
        made = network(space, gradient=gradient).train()
        with torch.no_grad():
            for scores in made.structure.edges:
                scores[0] = 1.0
        steps[gradient] = [slopes(made, seed)["structure.edges.0"] for seed in range(8)]
    assert all(torch.allclose(one, torch.zeros(3), atol=1e-6) for one in steps["all"])
    assert all(one.abs().max() > 1e-3 for one in steps["sampled"])


def test_the_depth_follows_the_losses_of_all_depths() -> None:
    made = network(gradient="all").train()
    found = slopes(made, 0)["structure.depth"]
    torch.manual_seed(0)
    _, depth = made.structure.sample(1.0)
    torch.manual_seed(0)
    with torch.no_grad():
        losses = [sum(layer.square().sum() for layer in one.logits) for one in made(**BATCH)[0]]
    (expected,) = torch.autograd.grad((depth.one_hot * torch.stack(losses)).sum(), made.structure.depth)  # pyright: ignore
    assert found is not None and found.any()
    torch.testing.assert_close(found, expected)


def test_in_evaluation_the_drawn_network_answers_alone() -> None:
    made = network(gradient="all").eval()
    assert len(made(**BATCH)[0]) == 1
