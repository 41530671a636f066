"""AdaBERT's search network: what a step computes, what it moves, and what it costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from conftest import FakeContext
from searches import FOUND, answer, force, network, operations, rows, sampled, tables, with_statistics
from torch import Tensor, nn

from bench.data.batches import Batches
from bench.models.outputs import inputs
from bench.train.checkpoint import Checkpointer
from bench.train.fit import fit
from bench.train.settings import Group, Training
from papers.adabert import search as module
from papers.adabert import settings
from papers.adabert.search import SearchNetwork
from papers.adabert.settings import Search
from papers.adabert.structure import Space
from papers.adabert.student import OPERATIONS

# What a step computes and moves


@pytest.mark.parametrize("seed", range(4))
def test_a_step_computes_the_sampled_operations_alone(seed: int) -> None:
    made, calls = network().train(), Counter()
    all_of_them = operations(made)
    assert len(all_of_them) == 4 * 9 * 10
    for place, one in all_of_them.items():
        one.register_forward_hook(lambda *_, place=place: calls.update([place]))
    chosen, cells = sampled(made, seed)
    torch.manual_seed(seed)
    layers, _ = answer(made, rows([9, 4], 9))
    assert len(layers) == cells and all(layer.shape == (2, 2) for layer in layers)
    assert calls == {(c, e, place): 1 for c in range(cells) for e, place in enumerate(chosen)}


@pytest.mark.parametrize("seed", range(4))
def test_what_was_not_sampled_gets_no_gradient(seed: int) -> None:
    made = network().train()
    chosen, cells = sampled(made, seed)
    torch.manual_seed(seed)
    layers, price = answer(made, rows([9, 4, 7], 9))
    torch.stack([*(layer.square().sum() for layer in layers), price]).sum().backward()
    for (c, e, place), one in operations(made).items():
        for parameter in one.parameters():
            assert (parameter.grad is not None) is (c < cells and place == chosen[e])
    for k in range(1, 5):
        own = (made.body.scores[k - 1], *made.body.classifiers[k - 1].parameters())
        assert all((parameter.grad is not None) is (k == cells) for parameter in own)
    assert all((cell.scores.grad is not None) is (c < cells) for c, cell in enumerate(made.body.cells))
    for always in (*made.body.project.parameters(), *made.body.norm.parameters()):
        assert always.grad is not None and always.grad.any()
    assert all(scores.grad is not None and scores.grad.any() for scores in made.structure.parameters())
    probes = made.body.probes.weight.grad
    assert (probes is None and cells == 1) or (probes is not None and not probes[cells - 1 :].any())


def test_the_teachers_tables_are_read_and_never_move() -> None:
    made = network()
    names = {name for name, _ in made.named_parameters()}
    assert not names & {"body.words", "body.positions"} and not {"body.words", "body.positions"} & set(
        made.state_dict()
    )
    assert torch.equal(made.body.words, tables().words)  # pyright: ignore[reportArgumentType]


def test_a_choice_is_moved_by_what_it_does_to_the_loss() -> None:
    """Where the loss falls with the size of an edge's operation, its score rises, and of no other edge's."""
    made = network(Space((((0, ("conv3", "zero")), (1, ("identity",))),) * 3, (1,)), beta=0.0)
    with torch.no_grad():
        for scores in made.structure.edges:
            scores[0] = 5.0
    made.eval()
    torch.manual_seed(0)
    seen: list[Tensor] = []
    operations(made)[0, 0, 0].register_forward_hook(lambda *given: seen.append(given[2]))
    layers, _ = answer(made, rows([9, 4], 9))
    (direction,) = torch.autograd.grad(layers[-1].sum(), seen[0], retain_graph=True)
    (slope,) = torch.autograd.grad(layers[-1].sum(), made.structure.edges[0])
    expected = (direction * seen[0]).sum().item()  # of the loss by the weight of the operation
    assert slope[0].item() * expected > 0 and slope[0].item() == pytest.approx(-slope[1].item())


def test_the_depth_is_moved_by_the_logits_that_it_gives() -> None:
    made = network(beta=0.0).eval()
    layers, _ = answer(made, rows([9, 4], 9))
    wanted = [torch.randn_like(layer) for layer in layers]
    loss = torch.stack([(w * layer).sum() for w, layer in zip(wanted, layers, strict=True)]).sum()
    (slope,) = torch.autograd.grad(loss, made.structure.depth)
    # Every logit is multiplied by a weight of 1, so the loss by that weight is the loss itself.
    place = made.structure.space.cells.index(len(layers))
    assert slope[place].item() * loss.item() > 0 and slope.sum().item() == pytest.approx(0.0, abs=1e-4)
    assert all(other.item() * loss.item() < 0 for other in (*slope[:place], *slope[place + 1 :]))


# Padding, and pairs


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_padding_changes_no_logit(pair: bool, train: bool) -> None:
    found = []
    for width in (9, 10, 20):
        made = network(pair=pair).train(train)
        layers = []
        for seed in range(6):  # of other structures each
            torch.manual_seed(seed)
            layers += answer(made, rows([9, 4, 6], width))[0]
        found.append(torch.stack(layers))
    assert len(found[0]) > 6
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-5)


def test_a_row_does_not_depend_on_the_others_in_evaluation() -> None:
    made = network().eval()
    with_statistics(made)
    whole_batch, alone = rows([9, 4], 9), {name: value[1:, :4] for name, value in rows([9, 4], 9).items()}
    for seed in range(5):
        layers = []
        for batch in (whole_batch, alone):
            torch.manual_seed(seed)
            layers.append(torch.stack(answer(made, batch)[0])[:, -1])
        torch.testing.assert_close(layers[0], layers[1], rtol=1e-4, atol=1e-5)


def test_a_pair_is_embedded_apart() -> None:
    made = network(pair=True).eval()
    batch = rows([9, 6], 9)
    given: list[tuple[Tensor, ...]] = []
    made.body.cells[0].register_forward_hook(lambda _, args, out: given.append(args))
    made(**batch)
    earlier, previous, mask = given[0]
    for row, length in enumerate((9, 6)):
        first, second = batch["input_ids"][row, : length // 2], batch["input_ids"][row, length // 2 : length]
        for state, ids in ((earlier, first), (previous, second)):
            alone = made.body.embed(ids[None], torch.ones(1, len(ids), dtype=torch.bool))[0]
            torch.testing.assert_close(state[row, :, : len(ids)], alone)
            assert not state[row, :, len(ids) :].any(), "padding is zero"
        assert mask[row, 0].tolist() == [True] * (length - length // 2) + [False] * (9 - length + length // 2)
    with pytest.raises(AssertionError, match="token_type_ids"):
        made(batch["input_ids"], batch["attention_mask"])


def test_a_single_text_is_both_inputs_whatever_its_types() -> None:
    made = network().eval()
    given: list[tuple[Tensor, ...]] = []
    made.body.cells[0].register_forward_hook(lambda _, args, out: given.append(args))
    batch = rows([9, 6], 9)
    for types in (batch["token_type_ids"], None):
        torch.manual_seed(0)
        made(batch["input_ids"], batch["attention_mask"], types)
    assert all(torch.equal(earlier, previous) for earlier, previous, _ in given)
    assert torch.equal(given[0][0], given[1][0])


# The price


def test_the_price_by_hand() -> None:
    made = network(costs="released")
    force(made, FOUND)
    _, price = answer(made, rows([5], 5))
    costs = [0.10368, 0.09442, 0.0944, 0.09987, 0.09442, 0.09987, *[0.0944] * 3]  # nine edges, three of zero
    assert price.item() == pytest.approx(3 / 4 * sum(costs) / 9)


@pytest.mark.parametrize("costs", ["computed", "released"])
def test_the_price_favours_cheap_operations_and_few_cells(costs: str) -> None:
    made = network(costs=costs)
    for seed in range(5):
        made.zero_grad()
        torch.manual_seed(seed)
        _, price = answer(made, rows([5], 5))
        price.backward()
        for scores in made.structure.edges:
            slope = dict(zip(OPERATIONS, scores.grad.tolist(), strict=True))  # pyright: ignore
            assert slope["conv7"] > 0 > slope["zero"] and slope["dilated7"] > 0 > slope["identity"]
            assert sum(slope.values()) == pytest.approx(0.0, abs=1e-6)
        assert made.structure.depth.grad is not None
        first, *_, last = made.structure.depth.grad.tolist()
        assert first < 0 < last
    assert all(parameter.grad is None for parameter in made.body.parameters()), "weights have no price"


def test_minimising_the_price_alone_leaves_one_cell() -> None:
    made = network(passes=300)
    optimizer = torch.optim.Adam(made.structure.parameters(), lr=0.1)
    torch.manual_seed(0)
    for _ in range(300):
        optimizer.zero_grad()
        made._price(*made.structure.sample(1.0)).backward()
        optimizer.step()
    edges, depth = made.structure.chances()
    assert depth[0] > 0.9
    assert all(max(OPERATIONS, key=lambda name: edge[OPERATIONS.index(name)])[:4] not in ("conv", "dila")
               for edge in edges)  # fmt: skip


# Steps, and the temperature


def trained(made: SearchNetwork, ctx: FakeContext, watch: Callable[[], None], **given: Any) -> None:
    """Three epochs of two batches; `watch` is called before each step."""
    training = Training(epochs=3, batch_size=6, lr=1e-2, weight_decay=0.1, warmup=0.0, schedule="constant",
                        precision="fp32")  # fmt: skip

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        watch()
        assert isinstance(model, SearchNetwork)
        layers, price = answer(model, inputs(model, batch))
        return {"labels": nn.functional.cross_entropy(layers[-1], batch["labels"]), "efficiency": 4 * price}

    torch.manual_seed(3)
    batches = Batches(ctx.train_rows(16), training.batch_size, 0)
    fit(made, loss, batches, training, Accelerator(cpu=True), groups=[Group(match="structure.*", rate=0.2)], **given)


def moved(made: SearchNetwork, context: Callable[..., FakeContext]) -> list[tuple[bool, bool]]:
    """Whether each step moved weights, and whether it moved the structure."""
    seen: list[tuple[Tensor, Tensor]] = []

    def watch() -> None:
        parts = ([p.detach().flatten() for p in part.parameters()] for part in (made.body, made.structure))
        weights, structure = (torch.cat(part).clone() for part in parts)
        seen.append((weights, structure))

    trained(made, context(), watch)
    watch()
    return [(not torch.equal(a[0], b[0]), not torch.equal(a[1], b[1]))
            for a, b in pairwise(seen)]  # fmt: skip


def test_joint_steps_move_both(context: Callable[..., FakeContext]) -> None:
    assert moved(network(passes=6), context) == [(True, True)] * 6


def test_alternating_steps_move_one_of_the_two(context: Callable[..., FakeContext]) -> None:
    assert moved(network(passes=6, steps="alternating"), context) == [(True, False), (False, True)] * 3


def test_alternating_steps_answer_as_joint_ones_do() -> None:
    both = network(), network(steps="alternating")
    for seed in range(4):
        found = []
        for made in both:
            torch.manual_seed(seed)
            found.append(answer(made, rows([9, 4], 9)))
        assert all(torch.equal(a, b) for a, b in zip(found[0][0], found[1][0], strict=True))
        assert torch.equal(found[0][1], found[1][1])


def test_the_temperature_falls_with_the_passes() -> None:
    search = Search()
    assert settings.temperature(search, 0.0) == 1.0 and settings.temperature(search, 1.0) == pytest.approx(0.2)
    assert settings.temperature(search, 0.5) == pytest.approx(math.sqrt(0.2)), "exponentially"


def test_a_resumed_search_goes_on_where_it_was(
    context: Callable[..., FakeContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []

    def temperature(search: Search, share: float) -> float:
        shares.append(share)
        return settings.temperature(search, share)

    monkeypatch.setattr(module, "settings", type("Settings", (), {"temperature": staticmethod(temperature)}))
    alone = network(passes=6)
    trained(alone, context(), lambda: None)
    assert shares == pytest.approx([k / 6 for k in range(6)])
    shares.clear()

    def stop() -> None:
        if len(shares) == 4:
            raise KeyboardInterrupt

    checkpointer = Checkpointer(tmp_path, 0.0)
    with pytest.raises(KeyboardInterrupt):
        trained(network(passes=6), context(), stop, checkpointer=checkpointer)
    resumed = network(passes=6)
    assert "passed" in resumed.state_dict()
    trained(resumed, context(), lambda: None, checkpointer=checkpointer)
    assert shares == pytest.approx([k / 6 for k in range(6)])
    ours, theirs = resumed.state_dict(), alone.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
