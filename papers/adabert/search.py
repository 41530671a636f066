"""The network that is searched: all candidate operations of all edges, of which a step computes the sampled alone.

Over a space of one structure it is that structure's network, trained by the same steps: so are the controls made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import BertConfig, PreTrainedModel

from bench.data.tasks import Task
from bench.train.tuning import classifier_config
from papers.adabert import settings, student
from papers.adabert.losses import efficiency
from papers.adabert.names import INPUTS, OPERATIONS
from papers.adabert.probes import Probes
from papers.adabert.settings import Search, Student
from papers.adabert.structure import RELEASED_COSTS, Choice, Space, Structure, computed_costs
from papers.adabert.student import (
    AdaBertForSequenceClassification,
    Genotype,
    operation,
    read_by,
    sentences_of,
    weighted_sum,
)


class SearchCell(nn.Module):
    """A cell with all candidates of all edges. Shapes: as a `student.Cell`."""

    def __init__(self, space: Space, hidden: int) -> None:
        super().__init__()
        self.places = [(node, source) for node, source, _ in space.edges]
        self.edges = nn.ModuleList(
            nn.ModuleList(operation(name, hidden, affine=False) for name in names) for _, _, names in space.edges
        )
        self.scores = nn.Parameter(torch.zeros(len(space.nodes)))

    def forward(self, earlier: Tensor, previous: Tensor, mask: Tensor, chosen: Sequence[Choice]) -> Tensor:
        states = [earlier, previous]
        for (node, source), edge, choice in zip(self.places, self.edges, chosen, strict=True):
            assert isinstance(edge, nn.ModuleList)
            made = edge[choice.index](states[source], mask) * choice.weight
            if len(states) == INPUTS + node:
                states.append(made)
            else:
                states[-1] = states[-1] + made
        return weighted_sum(states[INPUTS:], self.scores)


@dataclass(frozen=True, slots=True)
class Tables:
    """The teacher's tables of words [V, H_T] and positions [P, H_T], which are read through a projection."""

    words: Tensor
    positions: Tensor
    pad: int | None

    @classmethod
    def of(cls, teacher: PreTrainedModel) -> Tables:
        """Those of a BERT."""
        assert isinstance(teacher.config, BertConfig)
        embeddings: Any = teacher.base_model.embeddings
        words, positions = (table.weight.detach().cpu().clone() for table in (
            embeddings.word_embeddings, embeddings.position_embeddings))  # fmt: skip
        return cls(words, positions, teacher.config.pad_token_id)


class Body(nn.Module):
    """All of the network but its structure: what is trained as weights, and inherited."""

    def __init__(self, space: Space, tables: Tables, labels: int, sizes: Student) -> None:
        super().__init__()
        most, hidden = max(space.cells), sizes.hidden
        self.register_buffer("words", tables.words, persistent=False)
        self.register_buffer("positions", tables.positions, persistent=False)
        self.project = nn.Linear(tables.words.shape[1], hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(sizes.dropout)
        self.cells = nn.ModuleList(SearchCell(space, hidden) for _ in range(most))
        # One mixture and one classifier for each number of cells, and a probe for each cell that is not the last.
        self.scores = nn.ParameterList(torch.zeros(cells + 1) for cells in space.cells)
        self.classifiers = nn.ModuleList(nn.Linear(hidden, labels) for _ in space.cells)
        self.probes = Probes(most, hidden, labels)

    def embed(self, ids: Tensor, tokens: Tensor) -> Tensor:
        """As the derived network's: the projection is linear, so that it can be folded into the tables."""
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.project(self.words[ids] + self.positions[places]))  # pyright: ignore[reportIndexIssue]
        return (self.dropout(x) * tokens[..., None]).transpose(1, 2)

    def forward(self, sentences: student.Sentences, chosen: Sequence[Choice], depth: int, cells: int) -> list[Tensor]:
        """The logits [B, C] of each cell, by its probe, and of the whole; `depth` is the place of K in the space."""
        used = [partial(cell, chosen=chosen) for cell in list(self.cells)[:cells]]
        read = read_by(self.embed, used, sentences)
        mixed = weighted_sum(read.pooled, self.scores[depth]).tanh()
        last = self.classifiers[depth](self.dropout(mixed))
        return [*self.probes.each(read.pooled[1:cells]), last]


class SearchNetwork(nn.Module):
    """Body and structure. Every forward pass draws a structure; the temperature falls with their number."""

    def __init__(
        self, space: Space, tables: Tables, labels: int, pair: bool, sizes: Student, search: Search, passes: int
    ) -> None:  # fmt: skip
        super().__init__()
        self.pair, self.search, self.passes, self.max_cells = pair, search, passes, sizes.max_cells
        self.body = Body(space, tables, labels, sizes)
        self.structure = Structure(space)
        self.pad = tables.pad
        self.register_buffer("passed", torch.zeros((), dtype=torch.long))
        costs = computed_costs(OPERATIONS) if search.costs == "computed" else [RELEASED_COSTS[o] for o in OPERATIONS]
        price = dict(zip(OPERATIONS, costs, strict=True))
        # What each candidate costs, the edges one after another.
        self.candidates = [len(names) for _, _, names in space.edges]
        prices = torch.tensor([price[name] for _, _, names in space.edges for name in names])
        self.register_buffer("prices", prices, persistent=False)
        self.register_buffer("depths", torch.tensor(space.cells), persistent=False)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """The logits of each cell, those of the network last, and L_E of the structure that was drawn."""
        assert isinstance(self.passed, Tensor)
        done = int(self.passed)
        self.passed += 1
        chosen, depth = self.structure.sample(settings.temperature(self.search, min(1.0, done / self.passes)))
        price = self._price(chosen, depth)
        body: Callable[..., list[Tensor]] = self.body
        if self.search.steps == "alternating":
            if done % 2:  # the structure's turn: the weights stay as they are
                still = {name: value.detach() for name, value in self.body.named_parameters()}
                body = lambda *given: functional_call(self.body, still, given)  # noqa: E731
            else:
                chosen, depth = [_still(one) for one in chosen], _still(depth)
                price = price.detach()
        sentences = sentences_of(input_ids, attention_mask, token_type_ids, self.pair)
        logits = body(sentences, chosen, depth.index, self.structure.space.cells[depth.index])
        return [one * depth.weight for one in logits], price

    def _price(self, chosen: Sequence[Choice], depth: Choice) -> Tensor:
        assert isinstance(self.prices, Tensor) and isinstance(self.depths, Tensor)
        cells = (depth.one_hot * self.depths).sum()
        return efficiency([one.one_hot for one in chosen], self.prices.split(self.candidates), cells, self.max_cells)


def _still(choice: Choice) -> Choice:
    return Choice(choice.index, choice.one_hot.detach())


@torch.no_grad()
def network_of(search: SearchNetwork, genotype: Genotype, task: Task) -> AdaBertForSequenceClassification:
    """The plain network of a structure with the weights that it had in the search.

    The projection is folded into the tables of words and positions, so that both answer alike.
    """
    body, space = search.body, search.structure.space
    assert isinstance(body.words, Tensor) and isinstance(body.positions, Tensor)
    config = student.config(
        genotype, search.pair, vocab_size=len(body.words), max_position_embeddings=len(body.positions),
        hidden_size=body.norm.normalized_shape[0], dropout=body.dropout.p, pad_token_id=search.pad,
    )  # fmt: skip
    network = AdaBertForSequenceClassification(classifier_config(config, task))
    network.word_embeddings.weight.copy_(body.words @ body.project.weight.T)
    network.position_embeddings.weight.copy_(body.positions @ body.project.weight.T + body.project.bias)
    depth = space.cells.index(genotype.cells)
    pairs: list[tuple[nn.Module, nn.Module]] = [(network.norm, body.norm)]
    pairs.append((network.classifier, body.classifiers[depth]))
    network.scores.copy_(body.scores[depth])
    places = {(node, source): edge for edge, (node, source, _) in enumerate(space.edges)}
    for ours, theirs in zip(network.cells, body.cells, strict=False):
        assert isinstance(ours, student.Cell) and isinstance(theirs, SearchCell)
        ours.scores.copy_(theirs.scores)
        for i, node in enumerate(genotype.nodes):
            for j, edge in enumerate(node):
                place = places[i, edge.source]
                names: tuple[str, ...] = space.edges[place][2]
                pairs.append((ours.edges[i][j], theirs.edges[place][names.index(edge.operation)]))  # pyright: ignore
    for ours, theirs in pairs:  # scale and shift of a normalisation begin as 1 and 0: the search had none
        ours.load_state_dict(ours.state_dict() | theirs.state_dict())
    return network


class Taught(nn.Module):
    """A derived network with the probes on its cells, as it is trained; only the network is kept."""

    def __init__(self, network: AdaBertForSequenceClassification, probes: Probes) -> None:
        super().__init__()
        self.network, self.probes = network, probes

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> list[Tensor]:
        """The logits of each cell, those of the network last."""
        read = self.network.read(sentences_of(input_ids, attention_mask, token_type_ids, self.network.config.pair))
        return [*self.probes.each(read.pooled[1:-1]), self.network.classify(read)]
