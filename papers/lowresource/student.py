"""The students of low-resource distillation: a BiLSTM, an average of word vectors, and a convolutional network.

No text of the paper (Wasserblat, Pereg and Izsak, SustaiNLP 2020, pages 35-40) was at hand. What kinds of student there
are is known from others who describe it, a few sizes from the first author's blog series of 2021; every other size is
ours, and its field says so. The vocabulary is the student's own, small one; padding stands to the right of a row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from bench.models.load import register


class BiLstmConfig(PreTrainedConfig):
    """Sizes of the BiLSTM: ours, chosen so that all parameters together are the 0.66 million that the blog prints."""

    model_type = "lowresource-bilstm"

    vocab_size: int = 5000
    """As the blog's MLP has it; of the BiLSTM it is not said."""
    embedding_size: int = 80
    hidden_size: int = 80
    """Of one direction."""
    num_hidden_layers: int = 2
    dropout: float = 0.1
    pad_token_id: int | None = 0


class CbowFfnConfig(PreTrainedConfig):
    """Sizes of the average of word vectors with a feed-forward layer: the blog's MLP, of about 80 thousand."""

    model_type = "lowresource-cbow-ffn"

    vocab_size: int = 5000
    embedding_size: int = 16
    hidden_size: int = 16
    """Ours: as wide as the embeddings. There is one hidden layer."""
    dropout: float = 0.1
    pad_token_id: int | None = 0


class CnnConfig(PreTrainedConfig):
    """Sizes of the convolutional network: widths and filters of Kim (arXiv 1408.5882v2, section 3.1), the rest ours."""

    model_type = "lowresource-cnn"

    vocab_size: int = 5000
    embedding_size: int = 80
    """As in the BiLSTM."""
    widths: tuple[int, ...] | list[int] = (3, 4, 5)
    filters: int = 100
    """Of each width."""
    dropout: float = 0.5
    pad_token_id: int | None = 0


def token_mask(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Where tokens are, as booleans [B, L]; everywhere when no mask is given."""
    return torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()


@register
class BiLstmForSequenceClassification(PreTrainedModel):
    """Embeddings, a BiLSTM, its maximum over the tokens, a classifier."""

    config_class = BiLstmConfig
    config: BiLstmConfig
    _input_embed_layer = "word_embeddings"

    def __init__(self, config: BiLstmConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        layers = config.num_hidden_layers
        self.lstm = nn.LSTM(config.embedding_size, config.hidden_size, layers, batch_first=True, bidirectional=True,
                            dropout=config.dropout if layers > 1 else 0.0)  # fmt: skip
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels or 0)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> SequenceClassifierOutput:
        """The logits of a batch. Shapes: inputs [B, L], every row with a token at its beginning; logits [B, C].

        Raises: RuntimeError for a row without a token.
        """
        x = self.dropout(self.word_embeddings(input_ids))
        if attention_mask is None or bool(attention_mask.all()):
            states = self.lstm(x)[0]
        elif x.device.type == "cpu" and type(self.lstm) is nn.LSTM:
            states = self.read_by_direction(x, attention_mask)
        else:
            states = self.read_packed(x, attention_mask)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(states.amax(1))))

    def read_packed(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """The states of every token, -inf at padding.

        Shapes: `x` [B, L, E], `attention_mask` [B, L], states [B, longest row, 2 H]. Packed, so that the backward
        direction starts at a row's last token. Raises: RuntimeError for a row without a token.
        """
        lengths = attention_mask.sum(1).cpu()
        packed = self.lstm(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[0]
        return pad_packed_sequence(packed, batch_first=True, padding_value=-torch.inf)[0]

    def read_by_direction(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """The same states, [B, L, 2 H]: faster on a processor, which has no kernel for packed rows of several lengths.

        Each row is turned around within its own length, so the backward direction is a forward one that reads the
        last token first. What comes after a row's end changes no state before it. Raises: as `read_packed`.
        """
        lengths, places = attention_mask.sum(1, keepdim=True), torch.arange(x.shape[1], device=x.device)
        if bool((lengths == 0).any()):
            raise RuntimeError("a row without a token")
        turned = torch.where(places < lengths, lengths - 1 - places, places)[..., None]
        for layer in range(self.lstm.num_layers):
            if layer:
                x = F.dropout(x, self.lstm.dropout, self.training)
            forth = self._one_direction(x, f"l{layer}")
            back = self._one_direction(x.gather(1, turned.expand_as(x)), f"l{layer}_reverse")
            x = torch.cat((forth, back.gather(1, turned.expand_as(back))), -1)
        return x.masked_fill(attention_mask[..., None] == 0, -torch.inf)

    def _one_direction(self, x: Tensor, name: str) -> Tensor:
        """The states [B, L, H] of one layer in one direction, from the weights of that name in `lstm`."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(self.lstm, f"{kind}_{name}") for kind in names]
        start = x.new_zeros(1, x.shape[0], self.lstm.hidden_size)
        return torch.lstm(x, (start, start), weights, True, 1, 0.0, self.training, False, True)[0]


@register
class CbowFfnForSequenceClassification(PreTrainedModel):
    """The mean of the tokens' embeddings, one hidden layer with ReLU, a classifier: word order is lost."""

    config_class = CbowFfnConfig
    config: CbowFfnConfig
    _input_embed_layer = "word_embeddings"

    def __init__(self, config: CbowFfnConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.ffn = nn.Linear(config.embedding_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 0)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> SequenceClassifierOutput:
        """The logits of a batch. Shapes: inputs [B, L]; logits [B, C]."""
        mask = token_mask(input_ids, attention_mask)[..., None]
        mean = (self.word_embeddings(input_ids) * mask).sum(1) / mask.sum(1).clamp(min=1)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(F.relu(self.ffn(mean)))))


@register
class CnnForSequenceClassification(PreTrainedModel):
    """Convolutions of several widths over embeddings, ReLU, the maximum over places, a classifier.

    A filter sees every window with at least one token, so a sentence shorter than the filter has windows, too.
    """

    config_class = CnnConfig
    config: CnnConfig
    _input_embed_layer = "word_embeddings"

    def __init__(self, config: CnnConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.embedding_size, config.filters, width, padding=width - 1) for width in config.widths
        )
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.filters * len(config.widths), config.num_labels or 0)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> SequenceClassifierOutput:
        """The logits of a batch. Shapes: inputs [B, L]; logits [B, C]."""
        mask = token_mask(input_ids, attention_mask)[:, None]
        x = self.word_embeddings(input_ids).transpose(1, 2) * mask
        highest = []
        for convolution, width in zip(self.convolutions, self.config.widths, strict=True):
            # [B, 1, L + width - 1]: 1 where the window of that place holds a token. After ReLU a 0 hides the others.
            inside = F.max_pool1d(F.pad(mask.to(x.dtype), (width - 1, width - 1)), width, stride=1)
            highest.append((F.relu(convolution(x)) * inside).amax(2))
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(torch.cat(highest, 1))))


# FLOPs of one forward pass in closed form, counted as `bench.models.flops` does; lookups and maxima are no products.


def bilstm_flops(config: BiLstmConfig, batch: int, length: int) -> int:
    """FLOPs of the BiLSTM: a layer has two directions of four gates, each fed by the input and by its own state."""
    hidden, taken, products = config.hidden_size, config.embedding_size, 0
    for _ in range(config.num_hidden_layers):
        products += 2 * 4 * hidden * (taken + hidden)
        taken = 2 * hidden
    return 2 * batch * (length * products + taken * (config.num_labels or 0))


def cbow_ffn_flops(config: CbowFfnConfig, batch: int, length: int) -> int:
    """FLOPs of the average with its layer: two small products per row; the length does not matter."""
    return 2 * batch * config.hidden_size * (config.embedding_size + (config.num_labels or 0))


def cnn_flops(config: CnnConfig, batch: int, length: int) -> int:
    """FLOPs of the convolutional network: a filter of width k sees L + k - 1 windows."""
    windows = sum((length + width - 1) * width for width in config.widths)
    labels = len(config.widths) * (config.num_labels or 0)
    return 2 * batch * config.filters * (windows * config.embedding_size + labels)
