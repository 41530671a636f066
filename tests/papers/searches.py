"""What AdaBERT's tests share: little search networks, rows for them, a structure and its file, a run's stages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from conftest import scatter
from torch import Tensor, nn

from bench.data.tasks import get_task
from bench.train.recipe import Stage
from papers.adabert.recipe import RECIPE
from papers.adabert.search import Answer, SearchCell, SearchNetwork, Tables
from papers.adabert.settings import Hyper, Search, Student
from papers.adabert.structure import Space, whole
from papers.adabert.student import Edge, Genotype

WORDS, WIDE, HIDDEN, LENGTH = 60, 10, 6, 24
FOUND = Genotype(
    ((Edge(1, "conv5"), Edge(0, "max-pool")), (Edge(2, "identity"), Edge(0, "dilated3")),
     (Edge(3, "average-pool"), Edge(1, "conv3"))), 3,
)  # fmt: skip
TASK = get_task("rte")


def tables() -> Tables:
    generator = torch.Generator().manual_seed(5)
    return Tables(torch.randn(WORDS, WIDE, generator=generator), torch.randn(LENGTH, WIDE, generator=generator), 0)


def network(
    space: Space | None = None, pair: bool = False, passes: int = 10, gradient: str = "sampled", **search: Any
) -> SearchNetwork:
    """A little one without dropout whose weights and scores all differ; it answers by what is drawn alone."""
    torch.manual_seed(1)
    made = SearchNetwork(space or whole(4), tables(), 2, pair, Student(hidden=HIDDEN, max_cells=4, dropout=0.0),
                         Search(gradient=gradient, **search), passes)  # fmt: skip  # pyright: ignore
    scatter(made.body, 2)
    return made


def answer(made: SearchNetwork, batch: Mapping[str, Tensor]) -> tuple[list[Tensor], Tensor]:
    """The logits of the network that is drawn, and the price of its structure."""
    answers, price = made(**batch)
    (drawn,) = (one.logits for one in answers if weight_of(one) == 1.0)
    return drawn, price


def weight_of(one: Answer) -> float:
    """What its loss counts."""
    return float(torch.as_tensor(one.weight).detach())


def rows(lengths: list[int], width: int, seed: int = 0) -> dict[str, Tensor]:
    """Rows of so many tokens, of which the second half is a second text; whatever stands at padding is noise."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.arange(width)[None]
    ids, long = torch.randint(5, WORDS, (len(lengths), LENGTH), generator=generator), torch.tensor(lengths)[:, None]
    noise = torch.randint(5, WORDS, (len(lengths), width), generator=torch.Generator().manual_seed(width))
    mask = places < long
    return {"input_ids": torch.where(mask, ids[:, :width], noise), "attention_mask": mask.long(),
            "token_type_ids": (mask & (places >= long // 2)).long()}  # fmt: skip


def force(made: SearchNetwork, genotype: Genotype) -> None:
    """Scores under which every sample is this structure: on edges that it does not have the zero operation."""
    kept = {(i, edge.source): edge.operation for i, node in enumerate(genotype.nodes) for edge in node}
    with torch.no_grad():
        for (node, source, names), scores in zip(made.structure.space.edges, made.structure.edges, strict=True):
            scores.zero_()[names.index(kept.get((node, source), "zero"))] = 1e3
        made.structure.depth.zero_()[made.structure.space.cells.index(genotype.cells)] = 1e3


def with_statistics(made: nn.Module) -> None:
    """Running means and variances that are those of no batch."""
    for name, buffer in made.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)


def sampled(made: SearchNetwork, seed: int = 0) -> tuple[list[int], int]:
    """What a pass draws after `torch.manual_seed(seed)`: the place of each edge's operation, and K."""
    torch.manual_seed(seed)
    chosen, depth = made.structure.sample(1.0)
    return [one.index for one in chosen], made.structure.space.cells[depth.index]


def operations(made: SearchNetwork) -> dict[tuple[int, int, int], nn.Module]:
    """(cell, edge, candidate) -> the module."""
    found = {}
    for c, cell in enumerate(made.body.cells):
        assert isinstance(cell, SearchCell)
        for e, edge in enumerate(cell.edges):
            assert isinstance(edge, nn.ModuleList)
            found |= {(c, e, o): candidate for o, candidate in enumerate(edge)}
    return found


def in_a_file(folder: Path) -> dict[str, str]:
    """The settings that name a file of FOUND, which is written there."""
    nodes = [[[edge.source, edge.operation] for edge in node] for node in FOUND.nodes]
    path = folder / "structure.json"
    path.write_text(json.dumps({"nodes": nodes, "cells": FOUND.cells}))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"architecture.origin": "file", "architecture.file": str(path), "architecture.sha256": sha256}


def present(variant: str, chosen: Hyper) -> list[Stage]:
    """The stages that a run of the variant has with these settings."""
    return [stage for stage in RECIPE.variants[variant].stages if stage.when is None or stage.when(chosen)]
