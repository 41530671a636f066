"""AdaBERT's structures: drawn, derived, random, and read from a file."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.core.errors import BenchError, ModelError, SpecError, TrainError
from bench.models import load
from papers.adabert import student
from papers.adabert.structure import Space, Structure, at_random, derived, drawn, only, read, whole
from papers.adabert.student import INPUTS, OPERATIONS, AdaBertForSequenceClassification, Edge, Genotype

FOUND = Genotype(
    ((Edge(1, "conv5"), Edge(0, "zero")), (Edge(2, "identity"), Edge(0, "max-pool")),
     (Edge(3, "dilated7"), Edge(1, "average-pool"))), 4,
)  # fmt: skip
"""Its edges are not in the order of their sources."""
PLAIN = {"nodes": [[[edge.source, edge.operation] for edge in node] for node in FOUND.nodes], "cells": FOUND.cells}


# The space


def test_the_whole_space() -> None:
    found = whole(8)
    assert [(node, source) for node, source, _ in found.edges] == [
        (0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3),
    ]  # fmt: skip
    assert all(names == OPERATIONS and len(names) == 10 for _, _, names in found.edges)
    assert found.cells == (1, 2, 3, 4, 5, 6, 7, 8) and whole(2).cells == (1, 2)


def test_the_space_of_one_structure() -> None:
    found = only(FOUND)
    assert found.edges == [(i, edge.source, (edge.operation,)) for i, node in enumerate(FOUND.nodes) for edge in node]
    assert found.cells == (4,) and len(found.edges) == 6
    structure = Structure(found)
    assert derived(structure) == (FOUND, 0)
    chosen, depth = structure.sample(0.2)
    assert [one.index for one in (*chosen, depth)] == [0] * 7 and depth.weight.item() == 1.0
    sum([one.weight for one in (*chosen, depth)], torch.zeros(())).backward()
    assert all(not p.grad.any() for p in structure.parameters() if p.grad is not None), "there is nothing to choose"


# Samples


def test_a_sample_is_hard_and_its_gradient_is_that_of_the_softmax() -> None:
    scores, values = torch.tensor([0.5, -1.0, 2.0, 0.0], requires_grad=True), torch.tensor([3.0, -2.0, 5.0, 7.0])
    for seed in range(20):
        torch.manual_seed(seed)
        found = drawn(scores, 0.7)
        torch.manual_seed(seed)
        noise = -torch.empty(4).exponential_().log()
        soft = ((scores.detach() + noise) / 0.7).softmax(0)
        assert sorted(found.one_hot.tolist()) == [0.0, 0.0, 0.0, 1.0], "exactly"
        assert found.index == int(soft.argmax()) == int(found.one_hot.argmax()) and found.weight.item() == 1.0
        (gradient,) = torch.autograd.grad(found.one_hot @ values, scores, retain_graph=True)
        # Of the sum of softmax times values by hand: p_i (v_i - mean) / T.
        torch.testing.assert_close(gradient, soft * (values - soft @ values) / 0.7, rtol=1e-4, atol=1e-5)
        (gradient,) = torch.autograd.grad(found.weight, scores)
        chosen = (torch.arange(4) == found.index).float()
        torch.testing.assert_close(gradient, soft[found.index] * (chosen - soft) / 0.7, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.2, 5.0])
def test_how_often_follows_the_scores_whatever_the_temperature(temperature: float) -> None:
    torch.manual_seed(0)
    shares, draws = [0.5, 0.3, 0.15, 0.05], 4000
    scores = torch.tensor(shares).log() + 3.0
    seen = Counter(drawn(scores, temperature).index for _ in range(draws))
    for place, share in enumerate(shares):
        assert abs(seen[place] / draws - share) < 4 * math.sqrt(share * (1 - share) / draws)


def test_a_sample_of_all_choices() -> None:
    structure = Structure(whole(3))
    assert sum(p.numel() for p in structure.parameters()) == 9 * 10 + 3
    edges, depth = structure.chances()
    assert edges == [pytest.approx([0.1] * 10)] * 9 and depth == pytest.approx([1 / 3] * 3), "even to begin with"
    torch.manual_seed(0)
    seen = {tuple(one.index for one in structure.sample(1.0)[0]) for _ in range(20)}
    assert len(seen) == 20 and all(len(set(places)) > 1 for places in seen), "each edge draws for itself"


# Derivation


def scored(scores: Sequence[dict[str, float]], depth: Sequence[float] = (0.0, 1.0, 0.5)) -> Structure:
    """A structure over the whole space: of each of nine edges the scores of some operations, others have 0."""
    structure = Structure(whole(len(depth)))
    with torch.no_grad():
        for parameter, edge in zip(structure.edges, scores, strict=True):
            for name, score in edge.items():
                parameter[OPERATIONS.index(name)] = score
        structure.depth.copy_(torch.tensor(depth))
    return structure


def test_the_two_likeliest_edges_each_with_its_likeliest_operation() -> None:
    found = derived(scored([
        {"conv3": 1.0, "conv5": 0.9}, {"dilated3": 3.0},
        {"max-pool": 2.0}, {"zero": 1.0}, {"conv7": 5.0},
        {"identity": 1.0}, {"conv3": 2.0, "conv5": 2.1, "conv7": 2.0}, {"average-pool": 4.0}, {"zero": 3.0},
    ]))  # fmt: skip
    # The likeliest of the last node's second edge has a score of 2.1, but two others come close: it is less sure.
    assert found == (
        Genotype((
            (Edge(1, "dilated3"), Edge(0, "conv3")), (Edge(2, "conv7"), Edge(0, "max-pool")),
            (Edge(2, "average-pool"), Edge(3, "zero")),
        ), 2), 0,
    )  # fmt: skip


def test_zero_counts_like_any_other_operation() -> None:
    found, guarded = derived(scored([{"zero": 9.0}, {"conv3": 1.0}] + [{"conv5": 1.0}] * 3 + [{"conv5": 1.0}] * 4))
    assert Edge(0, "zero") in found.nodes[0] and guarded == 0


def test_a_node_of_zeros_keeps_the_likeliest_other_operation_on_its_first_edge() -> None:
    edges = [{"zero": 5.0, "conv5": 1.0}, {"zero": 7.0, "dilated5": 2.0, "conv3": 3.0}] + [{"conv7": 1.0}] * 7
    found, guarded = derived(scored(edges))
    assert guarded == 1 and found.nodes[0] == (Edge(1, "conv3"), Edge(0, "zero"))
    assert all(edge.operation == "conv7" for node in found.nodes[1:] for edge in node)


def test_a_search_that_collapsed_is_told() -> None:
    two = [{"zero": 5.0}] * 5 + [{"conv3": 5.0}] * 4
    assert derived(scored(two))[1] == 2
    with pytest.raises(TrainError) as error:
        derived(scored([{"zero": 5.0}] * 9))
    assert error.value.exit_code == 1
    told(error.value, "the search collapsed", "zero", "search.beta", "next:")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["edge", "depth"])
def test_scores_that_are_no_numbers_are_told(value: float, place: str) -> None:
    structure = scored([{"conv3": 1.0}] * 9)
    with torch.no_grad():
        (structure.edges[4] if place == "edge" else structure.depth)[1] = value
    with pytest.raises(TrainError) as error:
        derived(structure)
    told(error.value, "no finite number", "next:")


def test_a_structure_of_zeros_alone_is_what_it_is() -> None:
    """Where nothing else may be chosen, no guard can help, and no search has collapsed."""
    zeros = Genotype(tuple((Edge(0, "zero"), Edge(1, "zero")) for _ in range(3)), 1)
    assert derived(Structure(only(zeros))) == (zeros, 0)
    mixed = Genotype((zeros.nodes[0], *FOUND.nodes[1:]), 2)
    assert derived(Structure(only(mixed))) == (mixed, 0)


def test_what_was_derived_can_be_derived_again() -> None:
    for seed in range(30):
        torch.manual_seed(seed)
        structure = Structure(whole(8))
        with torch.no_grad():
            for parameter in structure.parameters():
                parameter.copy_(torch.randn_like(parameter))
        found, guarded = derived(structure)
        assert derived(Structure(only(found))) == (found, 0) and 0 <= guarded < 3
        assert student.genotype(student.config(found)) == found


# At random


def test_a_random_structure_belongs_to_its_seed() -> None:
    assert at_random(7, 8) == at_random(7, 8)
    found = [at_random(seed, 8) for seed in range(300)]
    assert len(set(found)) == 300
    assert Counter(one.cells for one in found).keys() == set(range(1, 9))
    names = Counter(edge.operation for one in found for node in one.nodes for edge in node)
    assert names.keys() == set(OPERATIONS)
    assert all(0.07 < count / 1800 < 0.13 for count in names.values()), "evenly"
    last = Counter(edge.source for one in found for edge in one.nodes[2])
    assert last.keys() == {0, 1, 2, 3} and all(0.2 < count / 600 < 0.3 for count in last.values())
    assert not any({edge.operation for edge in node} == {"zero"} for one in found for node in one.nodes)


@pytest.mark.parametrize("most", [1, 3])
def test_a_random_structure_is_as_deep_as_it_may_be(most: int) -> None:
    assert {at_random(seed, most).cells for seed in range(40)} == set(range(1, most + 1))


# From a file


def told(error: BenchError, *words: str) -> None:
    message = str(error)
    assert "\n" not in message and len(message) < 600 and all(word in message for word in words), message


def put(folder: Path, content: Any) -> tuple[Path, str]:
    """A file with this text, or this as JSON, and its sha256."""
    path = folder / "structure.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_read(tmp_path: Path) -> None:
    path, sha256 = put(tmp_path, PLAIN)
    assert read(path, sha256) == read(path, sha256.upper()) == FOUND
    assert read(*put(tmp_path, PLAIN | {"about": "other keys are left alone"})) == FOUND


def test_the_config_of_a_saved_network_is_read(tmp_path: Path) -> None:
    network = AdaBertForSequenceClassification(student.config(FOUND, True, vocab_size=20, hidden_size=4))
    load.save(network, tmp_path / "saved")
    path = tmp_path / "saved" / "config.json"
    assert read(path, hashlib.sha256(path.read_bytes()).hexdigest()) == FOUND


def test_a_file_that_is_missing_or_another_one_is_refused(tmp_path: Path) -> None:
    path, sha256 = put(tmp_path, PLAIN)
    for given, wanted, words in (
        (tmp_path / "gone.json", sha256, ("does not exist", "gone.json")),
        (tmp_path, sha256, ("does not exist", str(tmp_path))),
        (path, "", ("named without its sha256", sha256, "architecture.sha256=")),
        (path, "0" * 64, ("another one", sha256, "expected 0000")),
    ):
        with pytest.raises(SpecError) as error:
            read(given, wanted)
        told(error.value, *words, "next:")


def changed(**fields: Any) -> Any:
    return PLAIN | fields


def edges(first: Any) -> Any:
    """The structure with another first edge."""
    return [[first, *PLAIN["nodes"][0][1:]], *PLAIN["nodes"][1:]]  # pyright: ignore[reportIndexIssue]


OUTSIDE: dict[str, tuple[Any, tuple[str, ...]]] = {
    "unknown operation": (changed(nodes=edges([1, "conv9"])), ("unknown operation", "conv9", "conv7")),
    "no operation": (changed(nodes=edges([1, None])), ("None",)),
    "source too high": (changed(nodes=edges([2, "conv3"])), ("node 0", "different states below 2")),
    "source below 0": (changed(nodes=edges([-1, "conv3"])), ("node 0",)),
    "source twice": (changed(nodes=edges([0, "conv3"])), ("node 0",)),
    "half a source": (changed(nodes=edges([1.5, "conv5"])), ("1.5",)),
    "endless source": (json.dumps(changed(nodes=edges([1, "conv5"]))).replace("1", "1e999", 1), ()),
    "no cells": (changed(cells=0), ("1 to 8 cells",)),
    "too many cells": (changed(cells=9), ("1 to 8 cells",)),
    "half a cell": (changed(cells=3.5), ("3.5",)),
    "endless cells": (json.dumps(PLAIN).replace('"cells": 4', '"cells": Infinity'), ()),
    "true cells": (changed(cells=True), ()),
    "cells in words": (changed(cells="four"), ("four",)),
    "two nodes": (changed(nodes=PLAIN["nodes"][:2]), ("2 nodes",)),  # pyright: ignore[reportIndexIssue]
    "one edge": (changed(nodes=[[[0, "conv3"]], *PLAIN["nodes"][1:]]), ("node 0",)),  # pyright: ignore
    "an edge of three": (changed(nodes=edges([0, "conv3", 1])), ()),
    "no nodes": ({"cells": 3}, ("nodes",)),
    "nodes of nothing": (changed(nodes=None), ()),
    "no depth": ({"nodes": PLAIN["nodes"]}, ()),
    "another model": ({"model_type": "bert", "num_hidden_layers": 4}, ("nodes",)),
    "a list": ([1, 2], ()),
    "a number": ("3", ()),
    "a text": ('"cells"', ()),
    "cut off": (json.dumps(PLAIN)[:40], ()),
    "empty": ("", ()),
    "no JSON": ("\x00\x01", ()),
    "deep": ("[" * 100_000, ()),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_what_is_no_structure_is_refused(tmp_path: Path, case: str) -> None:
    content, words = OUTSIDE[case]
    path, sha256 = put(tmp_path, content)
    with pytest.raises(ModelError) as error:
        read(path, sha256)
    assert error.value.exit_code == 2
    told(error.value, "structure.json", *words, "next:")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "structure.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ModelError) as error:
        read(path, hashlib.sha256(path.read_bytes()).hexdigest())
    told(error.value, "structure.json", "next:")


def test_places_of_a_space_are_its_own() -> None:
    """A space may offer fewer operations on an edge than another has."""
    space = Space(tuple(tuple((source, ("conv3", "zero")) for source in range(INPUTS + i)) for i in range(3)), (2, 5))
    structure = Structure(space)
    with torch.no_grad():
        structure.depth[1] = 1.0
        structure.edges[0][1] = 1.0
    found, guarded = derived(structure)
    assert found.cells == 5 and guarded == 0 and Edge(0, "zero") in found.nodes[0]
