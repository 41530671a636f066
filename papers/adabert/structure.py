"""Structures of a network: all that the search may choose, one that is sampled, the one that is derived, and others.

The parameters of the structure are shared by all cells; there is one set of scores per edge, and one for the depth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.core.errors import ModelError, SpecError, TrainError
from bench.core.files import file_sha256
from bench.train.processes import same
from papers.adabert.names import CONVOLUTIONS, INPUTS, KEPT, MAX_CELLS, NODES, OPERATIONS
from papers.adabert.student import Edge, Genotype


@dataclass(frozen=True, slots=True)
class Space:
    """What may be chosen: for each node its possible edges with their operations, and the numbers of cells."""

    nodes: tuple[tuple[tuple[int, tuple[str, ...]], ...], ...]
    """nodes[i]: (source, candidate operations) of each possible edge into node i"""
    cells: tuple[int, ...]

    @property
    def edges(self) -> list[tuple[int, int, tuple[str, ...]]]:
        """(node, source, candidates) of every edge, in order."""
        return [(i, source, names) for i, node in enumerate(self.nodes) for source, names in node]


def whole(max_cells: int) -> Space:
    """The paper's space: every earlier state into every node, ten operations, 1 to K_max cells."""
    nodes = tuple(tuple((source, OPERATIONS) for source in range(INPUTS + i)) for i in range(NODES))
    return Space(nodes, tuple(range(1, max_cells + 1)))


def only(genotype: Genotype) -> Space:
    """The space that holds one structure: a network over it is that structure's."""
    return Space(
        tuple(tuple((edge.source, (edge.operation,)) for edge in node) for node in genotype.nodes), (genotype.cells,)
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """One candidate, drawn: its place, and a one-hot vector whose gradient is that of the softmax it was drawn from."""

    index: int
    one_hot: Tensor

    @property
    def weight(self) -> Tensor:
        """1, with that gradient: what the chosen candidate's result is multiplied by."""
        return self.one_hot[self.index]


class Structure(nn.Module):
    """Scores of all that a space lets choose, from even chances on."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.edges = nn.ParameterList(torch.zeros(len(names)) for _, _, names in space.edges)
        self.depth = nn.Parameter(torch.zeros(len(space.cells)))

    def sample(self, temperature: float) -> tuple[list[Choice], Choice]:
        """An operation for every edge, and a depth: hard samples of a Gumbel softmax (section 3.3)."""
        return [drawn(scores, temperature) for scores in self.edges], drawn(self.depth, temperature)

    @torch.no_grad()
    def chances(self) -> tuple[list[list[float]], list[float]]:
        """The softmax of the scores of each edge, and of the depth."""
        return [scores.softmax(0).tolist() for scores in self.edges], self.depth.softmax(0).tolist()


def drawn(scores: Tensor, temperature: float) -> Choice:
    """A straight-through Gumbel-softmax sample of scores [O]. Source: Jang et al. 2017, arXiv 1611.01144v5."""
    noise = same(-torch.empty_like(scores).exponential_().log())
    soft = ((scores + noise) / temperature).softmax(0)
    index = int(soft.argmax())
    hard = torch.zeros_like(soft)
    hard[index] = 1.0
    return Choice(index, hard + (soft - soft.detach()))  # in this order it is exactly hard


def derived(structure: Structure) -> tuple[Genotype, int]:
    """The likeliest structure, and how many nodes the guard touched.

    A node keeps its two likeliest edges, each with its likeliest operation; the zero operation counts like any other. A
    node whose edges would all be zero keeps the likeliest other operation on the first of them, if there is one (the
    guard, D8).
    Raises: TrainError for a search that collapsed: every node is zero, or a score is no finite number.
    Source: the released code; arXiv 2001.04246v2, section 3.4.
    """
    if not all(bool(scores.isfinite().all()) for scores in structure.parameters()):
        raise TrainError("the search left scores that are no finite numbers", where="structure",
                         fix="lower search.training.lr or search.architecture_rate")  # fmt: skip
    edges, depth = structure.chances()
    space, nodes, guarded = structure.space, [], 0
    by_node: dict[int, list[tuple[int, tuple[str, ...], list[float]]]] = {i: [] for i in range(NODES)}
    for (node, source, names), chances in zip(space.edges, edges, strict=True):
        by_node[node].append((source, names, chances))
    for found in by_node.values():
        kept = sorted(found, key=lambda edge: -max(edge[2]))[:KEPT]
        best = [names[int(np.argmax(chances))] for _, names, chances in kept]
        if set(best) == {"zero"} and set(kept[0][1]) != {"zero"}:
            guarded += 1
            best[0] = _likeliest_other(*kept[0][1:])
        nodes.append(tuple(Edge(source, name) for (source, _, _), name in zip(kept, best, strict=True)))
    if guarded == NODES:
        raise TrainError("the search collapsed", found="no operation but zero on every edge that is kept",
                         expected="at least one node with another one",
                         fix="lower search.beta, or give more rows or epochs")  # fmt: skip
    return Genotype(tuple(nodes), space.cells[int(np.argmax(depth))]), guarded


def _likeliest_other(names: tuple[str, ...], chances: list[float]) -> str:
    """The likeliest operation but zero."""
    return max((chance, name) for name, chance in zip(names, chances, strict=True) if name != "zero")[1]


def at_random(seed: int, max_cells: int) -> Genotype:
    """A structure drawn evenly from the whole space; a node of two zeros is drawn again (Table 3; D10)."""
    rng = np.random.default_rng([seed, MAX_CELLS])
    nodes = []
    for i in range(NODES):
        sources = sorted(rng.choice(INPUTS + i, KEPT, replace=False).tolist())
        names = ["zero"] * KEPT
        while set(names) == {"zero"}:
            names = [OPERATIONS[place] for place in rng.integers(len(OPERATIONS), size=KEPT)]
        nodes.append(tuple(Edge(source, name) for source, name in zip(sources, names, strict=True)))
    return Genotype(tuple(nodes), int(rng.integers(1, max_cells + 1)))


def read(path: Path, sha256: str) -> Genotype:
    """The structure in a JSON file: `nodes` ([[source, operation], ...] of each node), and `cells` or a config's depth.

    Raises: SpecError for a file that is missing, another one or named without its sha256; ModelError for a structure
    that the search space does not hold, an unknown operation or edge among it.
    """
    if not path.is_file():
        raise SpecError("the file of a structure does not exist", where=path, fix="give an existing file")
    found = file_sha256(path)
    if sha256.lower() != found:
        raise SpecError("the file of a structure is another one, or is named without its sha256", where=path,
                        found=f"sha256 {found}", expected=sha256 or "architecture.sha256",
                        fix=f"if that is the file, --set architecture.sha256={found}")  # fmt: skip
    try:
        return _genotype(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ModelError) as error:
        raise ModelError("the file holds no structure of the search space", where=path, found=error,
                         expected='{"nodes": [[[0, "conv3"], [1, "zero"]], ...], "cells": 3}',
                         fix="give such a file, or the config.json of a searched network") from error  # fmt: skip


def _genotype(content: Mapping[str, Any]) -> Genotype:
    cells = content["cells"] if "cells" in content else content["num_hidden_layers"]
    nodes = tuple(tuple(Edge(_number(source), str(name)) for source, name in node) for node in content["nodes"])
    return Genotype(nodes, _number(cells))


def _number(value: Any) -> int:
    """A whole number as it stands there. Raises: ValueError for anything else: 1.5 is no source, and true is not 1."""
    if type(value) is not int:
        raise ValueError(f"{value!r} in place of a whole number")
    return value


def computed_costs(names: tuple[str, ...], hidden: int = 128, length: int = 128) -> list[float]:
    """What each operation costs: the mean of two softmaxes over the candidates, of millions of parameters and of
    hundreds of millions of multiply-adds at that width and length.

    Source: the released code's formula, applied to the operations themselves; its numbers come out to 2e-5 (D5).
    """
    taps = torch.tensor([CONVOLUTIONS[name][0] if name in CONVOLUTIONS else 0 for name in names]) * hidden**2
    norms = torch.tensor([0 if name in ("identity", "zero") else 2 * hidden for name in names])
    shares = ((taps + norms) / 1e6).softmax(0) + (taps * length / 1e8).softmax(0)
    return (shares / 2).tolist()


RELEASED_COSTS: Mapping[str, float] = {
    "conv3": 0.09987, "conv5": 0.10368, "conv7": 0.10763, "dilated3": 0.09987, "dilated5": 0.10368,
    "dilated7": 0.10763, "average-pool": 0.09442, "max-pool": 0.09442, "identity": 0.09440, "zero": 0.09440,
}  # fmt: skip
"""The same in alibaba/EasyTransfer@d6912e2da306, to five places."""
