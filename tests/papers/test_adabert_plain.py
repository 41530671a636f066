"""The plain network that comes out of AdaBERT's search answers as the search did."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import scatter
from searches import FOUND, HIDDEN, LENGTH, TASK, WORDS, answer, force, network, rows, tables, with_statistics
from torch import Tensor

from bench.models import load
from papers.adabert.probes import Probes
from papers.adabert.search import SearchNetwork, Taught, network_of
from papers.adabert.structure import only
from papers.adabert.student import OPERATIONS, AdaBertForSequenceClassification, Edge, Genotype, parameters


def assert_answers_alike(made: SearchNetwork, genotype: Genotype, batch: dict[str, Tensor]) -> None:
    made.eval()
    with torch.no_grad():
        layers, _ = answer(made, batch)
        plain = network_of(made, genotype, TASK).eval()
        taught = Taught(plain, made.body.probes).eval()(**batch)
        alone = plain(**batch).logits
    assert len(layers) == len(taught) == genotype.cells
    torch.testing.assert_close(alone, layers[-1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.stack(taught), torch.stack(layers), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("cells", [1, 2, 3, 4])
def test_the_plain_network_answers_as_the_search_does(cells: int, pair: bool) -> None:
    made, genotype = network(pair=pair), Genotype(FOUND.nodes, cells)
    with_statistics(made)
    force(made, genotype)
    assert_answers_alike(made, genotype, rows([9, 4, 6], 9))


def test_every_operation_is_inherited() -> None:
    made = network()
    with_statistics(made)
    for name in OPERATIONS:
        genotype = Genotype(tuple((Edge(i + 1, name), Edge(i, "identity")) for i in range(3)), 2)
        force(made, genotype)
        assert_answers_alike(made, genotype, rows([9, 4, 6], 9))


def test_over_a_space_of_one_structure_nothing_is_left_out() -> None:
    made = network(only(FOUND))
    with_statistics(made)
    assert_answers_alike(made, FOUND, rows([9, 4, 6], 9))
    names = {name for name, _ in made.body.cells.named_parameters()}
    found = {name for name, _ in network_of(made, FOUND, TASK).cells.named_parameters()}
    assert len(names) == 3 * (3 + 1), "three convolutions and the mixture in each cell"
    assert len(found) == 3 * (3 + 1 + 2 * 5), "and the norms' scale and shift, which the search had not"
    _, price = made(**rows([5], 5))
    assert not price.requires_grad or not any(
        p.any() for p in torch.autograd.grad(price, list(made.structure.parameters()))
    )


def test_the_projection_is_folded_into_the_tables(tmp_path: Path) -> None:
    made = network()
    plain = network_of(made, FOUND, TASK)
    assert plain.word_embeddings.weight.shape == (WORDS, HIDDEN)
    assert plain.position_embeddings.weight.shape == (LENGTH, HIDDEN)
    by_hand = tables().words[7] @ made.body.project.weight.T + tables().positions[3] @ made.body.project.weight.T
    ours = plain.word_embeddings.weight[7] + plain.position_embeddings.weight[3] - made.body.project.bias
    torch.testing.assert_close(ours, by_hand)
    assert not any("project" in name or "structure" in name for name, _ in plain.named_parameters())
    assert sum(p.numel() for p in plain.parameters()) == parameters(plain.config)
    assert plain.config.id2label == dict(enumerate(TASK.labels)) and not plain.config.pair
    load.save(plain, tmp_path / "saved")
    again = load.load_saved(tmp_path / "saved").eval()
    assert type(again) is AdaBertForSequenceClassification
    batch = rows([9, 4], 9)
    assert torch.equal(again(**batch).logits, plain.eval()(**batch).logits)


def test_the_plain_network_is_a_copy() -> None:
    made = network()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    plain = network_of(made, FOUND, TASK)
    scatter(plain, 9)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_what_was_taught_moves_the_network_and_its_probes() -> None:
    taught = Taught(network_of(network(pair=True), FOUND, TASK), Probes(4, HIDDEN, 2)).train()
    layers = taught(**rows([9, 4], 9))
    assert len(layers) == 3
    torch.stack([layer.square().sum() for layer in layers]).sum().backward()
    still = [name for name, p in taught.network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [name for name in still if "position" not in name], still
    moved = taught.probes.weight.grad
    assert moved is not None and [bool(layer.any()) for layer in moved] == [True, True, False, False]
