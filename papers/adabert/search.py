"""The network that is searched: all candidate operations of all edges, of which a step goes by the sampled ones.

What was not drawn answers, too, where the gradient of the structure is asked for in full (`Search.gradient`): it
changes no result, and its own weights stay as they are.

Over a space of one structure it is that structure's network, trained by the same steps: so are the controls made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
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

    def __init__(self, space: Space, hidden: int, full: bool) -> None:
        super().__init__()
        self.full = full
        self.places = [(node, source) for node, source, _ in space.edges]
        self.edges = nn.ModuleList(
            nn.ModuleList(operation(name, hidden, affine=False) for name in names) for _, _, names in space.edges
        )
        self.scores = nn.Parameter(torch.zeros(len(space.nodes)))

    def forward(self, earlier: Tensor, previous: Tensor, mask: Tensor, chosen: Sequence[Choice]) -> Tensor:
        states = [earlier, previous]
        for (node, source), edge, choice in zip(self.places, self.edges, chosen, strict=True):
            assert isinstance(edge, nn.ModuleList)
            made = self._edge(edge, states[source], mask, choice)
            if len(states) == INPUTS + node:
                states.append(made)
            else:
                states[-1] = states[-1] + made
        return weighted_sum(states[INPUTS:], self.scores)

    def _edge(self, candidates: nn.ModuleList, state: Tensor, mask: Tensor, choice: Choice) -> Tensor:
        """What the drawn candidate makes; the others times 0, for the gradient of their chances."""
        made = candidates[choice.index](state, mask) * choice.weight
        if self.full and self.training:
            for other, candidate in enumerate(candidates):
                if other != choice.index:
                    with torch.no_grad():
                        result = candidate(state, mask)
                    made = made + result * choice.one_hot[other]
        return made


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


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network of one depth answers."""

    weight: Tensor | float
    """Of its loss: 1 for the depth that was drawn, and 0, with the gradient of its chance, for another one."""
    logits: list[Tensor]
    """[B, C] of each cell, those of the network last."""


class Body(nn.Module):
    """All of the network but its structure: what is trained as weights, and inherited."""

    def __init__(self, space: Space, tables: Tables, labels: int, sizes: Student, full: bool) -> None:
        super().__init__()
        self.full = full
        most, hidden = max(space.cells), sizes.hidden
        self.register_buffer("words", tables.words, persistent=False)
        self.register_buffer("positions", tables.positions, persistent=False)
        self.project = nn.Linear(tables.words.shape[1], hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(sizes.dropout)
        self.cells = nn.ModuleList(SearchCell(space, hidden, full) for _ in range(most))
        # One mixture and one classifier for each number of cells, and a probe for each cell that is not the last.
        self.scores = nn.ParameterList(torch.zeros(cells + 1) for cells in space.cells)
        self.classifiers = nn.ModuleList(nn.Linear(hidden, labels) for _ in space.cells)
        self.probes = Probes(most, hidden, labels)

    def embed(self, ids: Tensor, tokens: Tensor) -> Tensor:
        """As the derived network's: the projection is linear, so that it can be folded into the tables."""
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.project(self.words[ids] + self.positions[places]))  # pyright: ignore[reportIndexIssue]
        return (self.dropout(x) * tokens[..., None]).transpose(1, 2)

    def forward(
        self, sentences: student.Sentences, chosen: Sequence[Choice], depth: Choice, depths: Sequence[int]
    ) -> list[Answer]:
        """What the network of the drawn depth answers, or those of all depths; `depths` are the K of the space."""
        drawn = depths[depth.index]
        used = [partial(cell, chosen=chosen) for cell in self.cells]
        if not (self.full and self.training):
            read = read_by(self.embed, used[:drawn], sentences)
            return [Answer(1.0, [one * depth.weight for one in self._logits(read.pooled, depth.index)])]
        read = read_by(self.embed, [*used[:drawn], *map(_still, used[drawn:])], sentences)
        answers = []
        for place, cells in enumerate(depths):
            with nullcontext() if place == depth.index else torch.no_grad():
                logits = self._logits(read.pooled[: cells + 1], place)
            answers.append(Answer(depth.one_hot[place], logits))
        return answers

    def _logits(self, pooled: Sequence[Tensor], depth: int) -> list[Tensor]:
        """The logits [B, C] of each cell but the last by its probe, then those of the whole; pooled K+1 of [B, H]."""
        mixed = weighted_sum(pooled, self.scores[depth]).tanh()
        return [*self.probes.each(pooled[1:-1]), self.classifiers[depth](self.dropout(mixed))]


def _still(cell: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A cell that answers without a gradient."""

    def answer(*states: Tensor) -> Tensor:
        with torch.no_grad():
            return cell(*states)

    return answer


class SearchNetwork(nn.Module):
    """Body and structure. Every forward pass draws a structure; the temperature falls with their number."""

    def __init__(
        self, space: Space, tables: Tables, labels: int, pair: bool, sizes: Student, search: Search, passes: int
    ) -> None:  # fmt: skip
        super().__init__()
        self.pair, self.search, self.passes, self.max_cells = pair, search, passes, sizes.max_cells
        self.body = Body(space, tables, labels, sizes, search.gradient == "all")
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
    ) -> tuple[list[Answer], Tensor]:
        """What the networks answer, that of the drawn structure alone or those of all depths; and L_E of what was
        drawn."""
        assert isinstance(self.passed, Tensor)
        done = int(self.passed)
        self.passed += 1
        chosen, depth = self.structure.sample(settings.temperature(self.search, min(1.0, done / self.passes)))
        price = self._price(chosen, depth)
        body: Callable[..., list[Answer]] = self.body
        if self.search.steps == "alternating":
            if done % 2:  # the structure's turn: the weights stay as they are
                still = {name: value.detach() for name, value in self.body.named_parameters()}
                body = lambda *given: functional_call(self.body, still, given)  # noqa: E731
            else:
                chosen, depth = [_fixed(one) for one in chosen], _fixed(depth)
                price = price.detach()
        sentences = sentences_of(input_ids, attention_mask, token_type_ids, self.pair)
        return body(sentences, chosen, depth, self.structure.space.cells), price

    def _price(self, chosen: Sequence[Choice], depth: Choice) -> Tensor:
        assert isinstance(self.prices, Tensor) and isinstance(self.depths, Tensor)
        cells = (depth.one_hot * self.depths).sum()
        return efficiency([one.one_hot for one in chosen], self.prices.split(self.candidates), cells, self.max_cells)


def _fixed(choice: Choice) -> Choice:
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
