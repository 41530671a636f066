"""MobileBERT and its teacher as one configurable encoder.

A stream of 512 runs through all layers; each layer narrows it, attends, passes feed-forward networks and widens the
result again. Source: Sun et al. 2020, arXiv 2004.02984v2, section 3 and Table 1; where the released configs differ from
the paper, both are here. Padding is not attended at all; the released code only lowers its scores by 6.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.core.errors import ModelError


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a model is made of; a default is that of MobileBERT in Table 1, with both operational optimisations.

    Raises: ModelError where the heads do not divide the width inside a layer.
    """

    vocab_size: int = 30522
    """V, rows of the word table."""
    max_position_embeddings: int = 512
    """Rows of the position table: the longest input in tokens."""
    type_vocab_size: int = 2
    """Rows of the token-type table."""
    pad_token_id: int = 0
    """The id whose word vector counts as zero, whatever stands there."""
    embedding_size: int = 128
    """Width of the word table, before it is brought to the stream's width."""
    trigram_input: bool = True
    """A token's embedding also sees its two neighbours: a convolution of kernel size 3 (section 3.4)."""
    num_hidden_layers: int = 24
    """K."""
    hidden_size: int = 512
    """H, width of the stream between layers (inter-block)."""
    intra_bottleneck_size: int = 128
    """Width inside a layer (intra-block)."""
    num_attention_heads: int = 4
    """A; they share the width inside a layer."""
    num_feedforward_networks: int = 4
    """Feed-forward networks stacked in a layer (section 3.2)."""
    intermediate_size: int = 512
    """F, width inside each of them."""
    attention_input: Literal["stream", "shared", "bottleneck"] = "stream"
    """What attention reads: the 512-wide stream (the paper); the stream for values, but for keys and queries a
    bottleneck that they share (the released model); or the layer's input bottleneck for all three (MobileBERT_TINY)."""
    normalization: Literal["none", "layer"] = "none"
    """NoNorm or LayerNorm (section 3.3)."""
    hidden_act: Literal["relu", "gelu", "gelu_tanh"] = "relu"
    """Activation inside the feed-forward networks (section 3.3); `gelu_tanh` is the released code's GELU (D6)."""
    pooler: bool = False
    """A dense layer and tanh on the first token, as in BERT; without it the classifier reads the token as it is."""
    num_labels: int = 2
    """C."""
    labels: tuple[str, ...] = ()
    """Names of the outputs, where they have any."""
    hidden_dropout: float = 0.0
    """On the embeddings and where a layer widens."""
    attention_dropout: float = 0.1
    """On the attention probabilities."""
    classifier_dropout: float = 0.1
    """Before the classifier."""
    layer_norm_eps: float = 1e-12
    """Added to the variance in LayerNorm."""
    initializer_range: float = 0.02
    """Standard deviation of the weights at the start."""

    def __post_init__(self) -> None:
        if self.intra_bottleneck_size % self.num_attention_heads:
            raise ModelError("the heads do not divide the width inside a layer", fix="change one of the two",
                             expected=f"a divisor of {self.intra_bottleneck_size}",
                             found=f"{self.num_attention_heads} heads")  # fmt: skip


PAPER = Architecture()
"""MobileBERT as Table 1 prints it."""
RELEASED = replace(PAPER, attention_input="shared")
"""The released model, uncased_L-24_H-128_B-512_A-4_F-4_OPT."""
TINY = replace(PAPER, attention_input="bottleneck", num_feedforward_networks=2)
"""MobileBERT_TINY, from its released config."""
LAYER_NORM = replace(PAPER, normalization="layer")
GELU = replace(PAPER, hidden_act="gelu")
NO_OPT = replace(LAYER_NORM, hidden_act="gelu")
"""MobileBERT w/o OPT; the two above are half-way to it."""
TEACHER = replace(
    NO_OPT,
    intra_bottleneck_size=1024,
    num_feedforward_networks=1,
    intermediate_size=4096,
    hidden_dropout=0.1,
    pooler=True,
)
"""IB-BERT-large: a BERT-large with the student's stream."""


class NoNorm(nn.Module):
    """An elementwise scale and shift in the place of LayerNorm (section 3.3), in one kernel.

    Shapes: [..., width] in and out.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.addcmul(self.bias, hidden, self.weight)


def norm(config: Architecture, width: int) -> nn.Module:
    """The normalisation that the config asks for, over the last dimension (section 3.3)."""
    return NoNorm(width) if config.normalization == "none" else nn.LayerNorm(width, config.layer_norm_eps)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu_,  # in place: only on what a dense layer has just made
    "gelu": functional.gelu,
    "gelu_tanh": functools.partial(functional.gelu, approximate="tanh"),
}  # fmt: skip


class Projection(nn.Module):
    """A dense layer and a normalisation, with a residual between the two where one is given.

    Shapes: [B, L, inputs] -> [B, L, outputs], residual [B, L, outputs].
    """

    def __init__(self, config: Architecture, inputs: int, outputs: int, dropout: float = 0.0):
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)
        self.dropout = nn.Dropout(dropout)
        self.norm = norm(config, outputs)

    def forward(self, hidden: Tensor, residual: Tensor | None = None) -> Tensor:
        projected = self.dropout(self.dense(hidden))
        return self.norm(projected if residual is None else projected + residual)


class Embeddings(nn.Module):
    """Narrow word vectors, brought to the stream's width together with their neighbours, plus positions and types.

    The word vector of padding is zero, so that a token before padding sees what the last token sees: nothing.
    Shapes: ids [B, L] -> [B, L, H]. Source: section 3.4.
    """

    def __init__(self, config: Architecture):
        super().__init__()
        self.trigram, self.pad = config.trigram_input, config.pad_token_id
        width = config.hidden_size
        self.words = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.positions = nn.Embedding(config.max_position_embeddings, width)
        self.types = nn.Embedding(config.type_vocab_size, width)
        self.transform = nn.Linear(config.embedding_size * (3 if self.trigram else 1), width)
        self.norm = norm(config, width)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        words = self.words(input_ids) * (input_ids != self.pad)[..., None]
        if self.trigram:  # next, current, previous: the order in which the released weights stand
            framed = functional.pad(words, (0, 0, 1, 1))
            words = torch.cat((framed[:, 2:], words, framed[:, :-2]), dim=-1)
        # The tables are called, and not read: a quantised one rounds the rows that it gives.
        types = self.types(input_ids.new_zeros(1) if token_type_ids is None else token_type_ids)
        positions = self.positions(torch.arange(input_ids.shape[1], device=input_ids.device))
        return self.dropout(self.norm(self.transform(words) + positions + types))


PADDED = -1e4
"""The score of padding where probabilities are looked at: exp of it is 0, and its difference to itself no NaN."""


class Attention(nn.Module):
    """Multi-head attention whose keys and queries may be read from another tensor than its values.

    Shapes: [B, L, width of the input] -> [B, L, width inside a layer]; mask [B, 1, 1, L], true where a token is.
    """

    def __init__(self, config: Architecture):
        super().__init__()
        inside, stream = config.intra_bottleneck_size, config.hidden_size
        self.heads = config.num_attention_heads
        self.dropout = config.attention_dropout
        matched = stream if config.attention_input == "stream" else inside
        self.query = nn.Linear(matched, inside)
        self.key = nn.Linear(matched, inside)
        self.value = nn.Linear(inside if config.attention_input == "bottleneck" else stream, inside)

    def forward(self, matched: Tensor, valued: Tensor, mask: Tensor | None, seen: list[Tensor] | None = None) -> Tensor:
        """Into `seen`, where it is given, go the logarithms of the attention probabilities [B, A, L, L], in fp32."""
        parts = self.query(matched), self.key(matched), self.value(valued)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        dropout = self.dropout if self.training else 0.0
        if seen is None:
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        else:
            scores = (query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5
            if mask is not None:
                scores = scores.masked_fill(~mask, PADDED)
            seen.append(scores.log_softmax(-1))
            mixed = functional.dropout(seen[-1].exp().to(value.dtype), dropout) @ value
        return mixed.transpose(1, 2).flatten(-2)


class FeedForward(nn.Module):
    """One of the stacked feed-forward networks (section 3.2), with its residual.

    Shapes: [B, L, width inside a layer] in and out.
    """

    def __init__(self, config: Architecture):
        super().__init__()
        self.dense = nn.Linear(config.intra_bottleneck_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.back = Projection(config, config.intermediate_size, config.intra_bottleneck_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.back(self.activation(self.dense(hidden)), hidden)


class Layer(nn.Module):
    """Narrow, attend, the feed-forward networks, widen and add to the stream (section 3.1, Figure 1c).

    Shapes: stream [B, L, H] in and out; mask [B, 1, 1, L], true where a token is.
    """

    def __init__(self, config: Architecture):
        super().__init__()
        inside, stream = config.intra_bottleneck_size, config.hidden_size
        self.attention_input = config.attention_input
        self.narrow = Projection(config, stream, inside)
        self.narrow_matched = Projection(config, stream, inside) if config.attention_input == "shared" else None
        self.attention = Attention(config)
        self.attended = Projection(config, inside, inside)
        self.feed_forward = nn.Sequential(*(FeedForward(config) for _ in range(config.num_feedforward_networks)))
        self.widen = Projection(config, inside, stream, config.hidden_dropout)

    def forward(self, stream: Tensor, mask: Tensor | None, seen: list[Tensor] | None = None) -> Tensor:
        narrow = self.narrow(stream)
        # Keys and queries read what values read, but in the released model, where they share a bottleneck of their own.
        valued = narrow if self.attention_input == "bottleneck" else stream
        matched = valued if self.narrow_matched is None else self.narrow_matched(stream)
        hidden = self.attended(self.attention(matched, valued, mask, seen), narrow)
        return self.widen(self.feed_forward(hidden), stream)


class MobileBert(nn.Module):
    """The encoder.

    Shapes: ids, mask and types [B, L] -> K+1 hidden states [B, L, H], the embeddings' output first.
    """

    def __init__(self, config: Architecture):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        initialise(self, config.initializer_range)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        states = [self.embeddings(input_ids, token_type_ids)]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return tuple(states)

    def embedded(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The embeddings' output for a batch, the state before the first layer. [B, L, H]"""
        return self.embeddings(batch["input_ids"], batch.get("token_type_ids"))

    def walk(
        self, batch: Mapping[str, Tensor], upto: int, watched: Container[int] = ()
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The states [B, L, H] of the layers from 1 up to `upto`, one by one as they are made; later ones never run.

        Beside a state stand the log-probabilities [B, A, L, L] of its attention where the layer is `watched`.
        """
        mask = batch["attention_mask"][:, None, None, :].bool()
        state = self.embedded(batch)
        for number, layer in enumerate(self.layers[:upto], 1):
            seen: list[Tensor] | None = [] if number in watched else None
            state = layer(state, mask, seen)
            yield state, seen[0] if seen else None


@torch.no_grad()
def initialise(model: nn.Module, deviation: float) -> None:
    """BERT's start: normal with that deviation, cut off at two of them; biases and the word of padding zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()


def flops(config: Architecture, batch: int, length: int) -> int:
    """FLOPs of the classifier on a batch [B, L] in closed form, two per multiply-add, matrix products only."""
    stream, inside = config.hidden_size, config.intra_bottleneck_size
    matched = stream if config.attention_input == "stream" else inside
    valued = inside if config.attention_input == "bottleneck" else stream
    narrowings = 2 if config.attention_input == "shared" else 1
    embedding = config.embedding_size * (3 if config.trigram_input else 1) * stream
    bottlenecks = (narrowings + 1) * stream * inside  # narrow and widen
    # Per token: query and key, value, output; then its scores with L keys, and the mixture of L values.
    attention = (2 * matched + valued + inside) * inside + 2 * length * inside
    feed_forward = config.num_feedforward_networks * 2 * inside * config.intermediate_size
    layers = config.num_hidden_layers * (bottlenecks + attention + feed_forward)
    head = stream * (stream * config.pooler + config.num_labels)
    return 2 * batch * (length * (embedding + layers) + head)
