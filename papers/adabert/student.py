"""The network that AdaBERT derives for a task: a few convolutional cells over embeddings of width 128.

Written from the description of the search space (arXiv 2001.04246v2). Where that leaves room, the reading follows the
authors' released code (alibaba/EasyTransfer@d6912e2da306, modeling_adabert.py), but for two things. Its dilated
operations are morphological (a maximum over sums); here they are convolutions with gaps. Its padding takes part in
convolutions, pooling and batch statistics; here it takes part in nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from bench.core.errors import ModelError
from bench.models.load import register
from bench.train.processes import is_spread, total
from papers.adabert.names import CONVOLUTIONS, INPUTS, KEPT, MAX_CELLS, NODES, OPERATIONS

POOL = 3
"""Width of both kinds of pooling."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One operation on one earlier state of the cell: 0 and 1 are the two cells before, 2, 3 the nodes so far."""

    source: int
    operation: str


@dataclass(frozen=True, slots=True)
class Genotype:
    """What the search finds: the edges into each node, the same in every cell, and the number of cells K.

    Raises: ModelError for anything that the search space does not hold.
    """

    nodes: tuple[tuple[Edge, ...], ...]
    cells: int

    def __post_init__(self) -> None:
        if not 1 <= self.cells <= MAX_CELLS or len(self.nodes) != NODES:
            raise ModelError("the genotype is outside AdaBERT's search space", expected=f"1 to {MAX_CELLS} cells of "
                             f"{NODES} nodes", found=f"{self.cells} cells of {len(self.nodes)} nodes")  # fmt: skip
        for i, edges in enumerate(self.nodes):
            sources = {edge.source for edge in edges}
            if len(edges) != KEPT or len(sources) != KEPT or not sources <= set(range(INPUTS + i)):
                raise ModelError("the genotype is outside AdaBERT's search space", where=f"node {i}", found=edges,
                                 expected=f"{KEPT} edges from different states below {INPUTS + i}")  # fmt: skip
            unknown = [edge.operation for edge in edges if edge.operation not in OPERATIONS]
            if unknown:
                raise ModelError("the genotype has an unknown operation", where=f"node {i}", found=unknown[0],
                                 expected=", ".join(OPERATIONS))  # fmt: skip


class AdaBertConfig(PreTrainedConfig):
    """A genotype as plain lists (`nodes[i]` = [[source, operation], ...]) and the sizes around it."""

    model_type = "adabert"

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    hidden_size: int = 128
    num_hidden_layers: int = MAX_CELLS
    nodes: list | None = None
    pair: bool = False
    """Whether a row holds two sentences, which are then embedded apart; a single one is both inputs."""
    dropout: float = 0.1
    pad_token_id: int | None = 0


def config(genotype: Genotype, pair: bool = False, **sizes: Any) -> AdaBertConfig:
    """A genotype in the published sizes, but for those given: BERT's vocabulary and positions, width 128."""
    nodes = [[[edge.source, edge.operation] for edge in edges] for edges in genotype.nodes]
    return AdaBertConfig(nodes=nodes, num_hidden_layers=genotype.cells, pair=pair, **sizes)


def genotype(config: AdaBertConfig) -> Genotype:
    """The genotype that a config holds. Raises: ModelError when it holds none or an impossible one."""
    nodes = tuple(tuple(Edge(int(source), str(name)) for source, name in edges) for edges in config.nodes or ())
    return Genotype(nodes, config.num_hidden_layers)


def flops(config: AdaBertConfig, batch: int, length: int) -> int:
    """FLOPs of one forward pass in closed form, counted as `bench.models.flops` does: convolutions and classifier.

    The embeddings are looked up, and both weighted sums are sums; neither is a matrix product. A multiply-add is two.
    Raises: ModelError as `genotype` does.
    """
    found = genotype(config)
    names = [edge.operation for edges in found.nodes for edge in edges]
    taps = found.cells * sum(CONVOLUTIONS[name][0] for name in names if name in CONVOLUTIONS)
    return 2 * batch * config.hidden_size * (length * taps * config.hidden_size + (config.num_labels or 0))


def parameters(config: AdaBertConfig) -> int:
    """Parameters of the network in closed form, tables included. Raises: ModelError as `genotype` does."""
    found, hidden = genotype(config), config.hidden_size
    names = [edge.operation for edges in found.nodes for edge in edges]
    taps = sum(CONVOLUTIONS[name][0] for name in names if name in CONVOLUTIONS)
    norms = sum(name not in ("identity", "zero") for name in names)
    cell = taps * hidden**2 + norms * 2 * hidden + NODES
    around = (config.vocab_size + config.max_position_embeddings + 2) * hidden + found.cells + 1
    return found.cells * cell + around + (hidden + 1) * (config.num_labels or 0)


class TokenBatchNorm(nn.Module):
    """Batch normalisation whose statistics are those of the tokens alone; padding stays zero.

    Shapes: x [B, H, L], mask [B, 1, L] of booleans; the same shape out.
    """

    def __init__(self, hidden: int, affine: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(hidden, affine=affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if not self.training:
            return self.norm(x) * mask
        tokens = mask[:, 0]
        # The norm sees one row per token, [tokens of the batch, H]; the results go back to their places among zeros.
        seen = x.transpose(1, 2)[tokens]
        normed = _normed(self.norm, seen) if is_spread() else self.norm(seen)
        rows = normed.new_zeros(*tokens.shape, x.shape[1])
        rows[tokens] = normed
        return rows.transpose(1, 2)


def _normed(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """What the norm makes of some tokens [T, H] by the statistics of all tokens of the batch, which it follows too.

    The others are in other processes. As in torch's own, sums are in fp32 whatever the tokens are in.
    """
    given, x = x.dtype, x.float()
    with torch.autocast(x.device.type, enabled=False):
        count = total(x.new_tensor(float(len(x))))
        mean = total(x.sum(0)) / count
        variance = total((x - mean).square().sum(0)) / count
        assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
        with torch.no_grad():
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked += 1
        normed = (x - mean) * (variance + norm.eps).rsqrt()
        normed = normed if norm.weight is None else normed * norm.weight + norm.bias
    return normed.to(given)


class Convolution(nn.Module):
    """ReLU, a full (not depth-wise) convolution over tokens without bias, batch normalisation: the code's order.

    Shapes: as the norm.
    """

    def __init__(self, hidden: int, width: int, dilation: int, affine: bool = True) -> None:
        super().__init__()
        padding = dilation * (width - 1) // 2  # half the reach of the kernel, so that L stays
        self.conv = nn.Conv1d(hidden, hidden, width, padding=padding, dilation=dilation, bias=False)
        self.norm = TokenBatchNorm(hidden, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(x)), mask)


class Pool(nn.Module):
    """Mean or maximum of the tokens among three neighbours, batch normalisation. Shapes: as the norm."""

    def __init__(self, hidden: int, kind: str, affine: bool = True) -> None:
        super().__init__()
        self.pool = {"average-pool": average_pool, "max-pool": max_pool}[kind]
        self.norm = TokenBatchNorm(hidden, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.norm(self.pool(x, mask), mask)


def average_pool(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over those of three neighbours that are tokens. Shapes: as the norm; x is zero outside the mask."""
    # Both divide by three: the quotient is the sum over the tokens divided by their number. Without a token both are 0.
    total = F.avg_pool1d(x, POOL, stride=1, padding=POOL // 2)
    share = F.avg_pool1d(mask.to(x.dtype), POOL, stride=1, padding=POOL // 2)
    return total / share.clamp(min=1 / POOL)


def max_pool(x: Tensor, mask: Tensor) -> Tensor:
    """The maximum over those of three neighbours that are tokens; zero at padding. Shapes: as the norm."""
    highest = F.max_pool1d(x.masked_fill(~mask, -torch.inf), POOL, stride=1, padding=POOL // 2)
    return highest.masked_fill(~mask, 0.0)


class Identity(nn.Module):
    """The state itself. Shapes: as the norm."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x


class Zero(nn.Module):
    """Nothing: the edge is there, and adds zero. Shapes: as the norm."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros_like(x)


def operation(name: str, hidden: int, affine: bool = True) -> nn.Module:
    """A candidate operation by its name in OPERATIONS, with `forward(x, mask)`. Raises: KeyError for another name.

    Without `affine` its normalisation learns no scale and shift, as in a search.
    """
    if name in CONVOLUTIONS:
        return Convolution(hidden, *CONVOLUTIONS[name], affine)
    if name in ("average-pool", "max-pool"):
        return Pool(hidden, name, affine)
    return {"identity": Identity, "zero": Zero}[name]()


def weighted_sum(states: Sequence[Tensor], scores: Tensor) -> Tensor:
    """Sum of equally shaped states, weighted by the softmax of their scores [number of states]."""
    weights = scores.softmax(0)
    return torch.stack([weights[i] * state for i, state in enumerate(states)]).sum(0)


class Cell(nn.Module):
    """Three nodes, each the sum of its edges; the output is a learned mixture of the nodes.

    Shapes: both inputs and the output [B, H, L], mask [B, 1, L] of booleans.
    """

    def __init__(self, nodes: tuple[tuple[Edge, ...], ...], hidden: int) -> None:
        super().__init__()
        self.sources = [[edge.source for edge in edges] for edges in nodes]
        self.edges = nn.ModuleList(
            nn.ModuleList(operation(edge.operation, hidden) for edge in edges) for edges in nodes
        )
        self.scores = nn.Parameter(torch.zeros(len(nodes)))

    def forward(self, earlier: Tensor, previous: Tensor, mask: Tensor) -> Tensor:
        states = [earlier, previous]
        for node, sources in zip(self.edges, self.sources, strict=True):
            assert isinstance(node, nn.ModuleList)
            made = [edge(states[source], mask) for edge, source in zip(node, sources, strict=True)]
            states.append(torch.stack(made).sum(0))
        return weighted_sum(states[INPUTS:], self.scores)


@register
class AdaBertForSequenceClassification(PreTrainedModel):
    """Embeddings, K cells, and a classifier on a learned mixture of the mean states of embeddings and cells.

    The embeddings are tables of width 128: words and positions, into which the search's projection of BERT's tables is
    folded. Special tokens are tokens like any other.
    Raises: ModelError for a config whose genotype is missing or impossible.
    """

    config_class = AdaBertConfig
    config: AdaBertConfig

    def __init__(self, config: AdaBertConfig) -> None:
        super().__init__(config)
        found, hidden = genotype(config), config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, hidden)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.cells = nn.ModuleList(Cell(found.nodes, hidden) for _ in range(found.cells))
        self.scores = nn.Parameter(torch.zeros(found.cells + 1))
        self.classifier = nn.Linear(hidden, config.num_labels or 0)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> SequenceClassifierOutput:
        """The logits of a batch, and the states behind them where asked for.

        Shapes: inputs [B, L]; logits [B, C], hidden_states K+1 tensors [B, L, H], the embeddings first.
        Raises: AssertionError for a pair task without token types.
        """
        read = self.read(sentences_of(input_ids, attention_mask, token_type_ids, self.config.pair))
        hidden = tuple(state.transpose(1, 2) for state in read.states) if output_hidden_states else None
        return SequenceClassifierOutput(logits=self.classify(read), hidden_states=hidden)

    def read(self, sentences: Sentences) -> Read:
        """The states of all cells; see `read_by`."""
        return read_by(self.embed, self.cells, sentences)

    def classify(self, read: Read) -> Tensor:
        """The logits [B, C] of what was read."""
        return self.classifier(self.dropout(weighted_sum(read.pooled, self.scores).tanh()))

    def embed(self, ids: Tensor, tokens: Tensor) -> Tensor:
        """Words and positions of one sentence, zero at padding. Shapes: ids and tokens [B, L]; [B, H, L] out."""
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.word_embeddings(ids) + self.position_embeddings(places)
        return (self.dropout(self.norm(x)) * tokens[..., None]).transpose(1, 2)


Sentences = Sequence[tuple[Tensor, Tensor]]
"""A sentence, or the two of a pair, as (ids, where its tokens are); all [B, L]."""


@dataclass(frozen=True, slots=True)
class Read:
    """What the cells of a network make of a batch: of the embeddings first, then of each cell."""

    states: list[Tensor]
    """K+1 of [B, H, L], zero at padding."""
    pooled: list[Tensor]
    """K+1 of [B, H]: their means over the tokens."""


def sentences_of(
    input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None, pair: bool
) -> Sentences:
    """A row of a batch as the network reads it. Shapes: all [B, L]. Raises: AssertionError for a pair without types."""
    tokens = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    if not pair:
        return [(input_ids, tokens)]
    assert token_type_ids is not None, "a pair task needs token_type_ids"
    return split_pair(input_ids, tokens, token_type_ids.bool())


def read_by(
    embed: Callable[[Tensor, Tensor], Tensor], cells: Iterable[Callable[[Tensor, Tensor, Tensor], Tensor]],
    sentences: Sentences,
) -> Read:  # fmt: skip
    """Embed the sentences, and let one cell after another read the two states before it.

    Shapes: `embed` (ids and tokens [B, L]) -> [B, H, L]; a cell (two states [B, H, L], mask [B, 1, L]) -> [B, H, L].
    """
    embedded = [embed(ids, among) for ids, among in sentences]
    # Sentences begin at the first place, so where either has a token is where the longer one has.
    mask = torch.stack([among for _, among in sentences]).any(0)[:, None]
    means = [mean_over_tokens(state, among[:, None]) for state, (_, among) in zip(embedded, sentences, strict=True)]
    read = Read([torch.stack(embedded).mean(0)], [torch.stack(means).mean(0)])
    # The first cell reads the two sentences of a pair, or a single one twice.
    earlier, previous = embedded[0], embedded[-1]
    for cell in cells:
        earlier, previous = previous, cell(earlier, previous, mask)
        read.states.append(previous)
        read.pooled.append(mean_over_tokens(previous, mask))
    return read


def split_pair(ids: Tensor, tokens: Tensor, second: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Two sentences in one row as (ids, mask) each, both beginning at the first place. Shapes: all [B, L]."""
    # The second sentence moves left by the length of the first; what that pushes round to the end is masked out.
    begins = (tokens & ~second).sum(1, keepdim=True)
    length = ids.shape[1]
    places = (torch.arange(length, device=ids.device) + begins) % length
    return [(ids, tokens & ~second), (ids.gather(1, places), (tokens & second).gather(1, places))]


def mean_over_tokens(x: Tensor, mask: Tensor) -> Tensor:
    """The mean state of a row's tokens. Shapes: x [B, H, L] that is zero outside the mask [B, 1, L]; [B, H] out."""
    return x.sum(2) / mask.sum(2).clamp(min=1)
