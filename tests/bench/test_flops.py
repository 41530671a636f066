"""FLOPs: the count, the closed formula, and small models worked by hand must agree."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from bench.core.errors import ModelError, SpecError
from bench.models import flops
from bench.models.flops import count, encoder_formula, example_inputs

SHAPES = [(2, 64, 128, 4), (3, 48, 96, 12), (1, 32, 200, 1)]
"""(layers, hidden, ffn, heads)"""


def bert(layers: int, hidden: int, ffn: int, heads: int) -> BertForSequenceClassification:
    return BertForSequenceClassification(
        BertConfig(vocab_size=60, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                   intermediate_size=ffn, max_position_embeddings=64)
    )  # fmt: skip


def distilbert(layers: int, hidden: int, ffn: int, heads: int) -> DistilBertForSequenceClassification:
    return DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=60, dim=hidden, n_layers=layers, n_heads=heads, hidden_dim=ffn,
                         max_position_embeddings=64)
    )  # fmt: skip


def test_the_formula_by_hand() -> None:
    # One layer, H = 4, F = 8, two heads, B = 1, L = 3: per token 4 * 16 + 2 * 32 = 128 products, and 2 * 3 * 3 * 4 = 72
    # for scores and weighted sum; pooler 16 and classifier 2 * 4 on one token.
    assert encoder_formula(1, 4, 8, 2, 1, 3, pooler=False) == 2 * (3 * 128 + 72)
    assert encoder_formula(1, 4, 8, 2, 1, 3, labels=2) == 2 * (3 * 128 + 72 + 16 + 8)
    assert encoder_formula(6, 4, 8, 2, 5, 3, pooler=False) == 30 * encoder_formula(1, 4, 8, 2, 1, 3, pooler=False)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("batch", "length"), [(1, 16), (3, 33)])
def test_the_count_equals_the_formula(shape: tuple[int, int, int, int], batch: int, length: int) -> None:
    formula = encoder_formula(*shape, batch, length, labels=2)
    assert count(bert(*shape), batch, length) == pytest.approx(formula, rel=0.01)
    assert count(distilbert(*shape), batch, length) == pytest.approx(formula, rel=0.01)


@pytest.mark.parametrize(
    ("model_class", "config", "layers"),
    [
        (BertForSequenceClassification, BertConfig(), 12),
        (DistilBertForSequenceClassification, DistilBertConfig(), 6),
    ],
)
def test_paper_size_on_the_meta_device(
    model_class: type[nn.Module], config: BertConfig | DistilBertConfig, layers: int
) -> None:
    with torch.device("meta"):
        model = model_class(config)
    formula = encoder_formula(layers, 768, 3072, 12, 1, 128, labels=2)
    assert count(model, 1, 128) == pytest.approx(formula, rel=0.01)
    # 12 layers at length 128 are the 22.5 GFLOPs that compression papers print for BERT-base.
    assert formula / layers * 12 == pytest.approx(22.35e9, rel=0.01)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_model_stays_as_it_was(attention: str) -> None:
    model = bert(2, 32, 64, 2).train()
    model.set_attn_implementation(attention)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    first = count(model, 2, 8)
    assert first == count(model, 2, 8) > 0
    assert model.config._attn_implementation == attention
    assert model.bert.config._attn_implementation == attention
    assert model.training and all(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert [parameter.data_ptr() for parameter in model.parameters()] == addresses
    assert sum(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()) == len(before) > 30
    assert torch.backends.mkldnn.enabled and torch.backends.mha.get_fastpath_enabled()


def test_of_two_threads_one_waits_until_the_kernels_are_on_again() -> None:
    inside, over = threading.Event(), threading.Event()

    def later() -> None:
        with flops._plain_products():
            inside.set()
            over.wait(30)

    thread = threading.Thread(target=later)
    with flops._plain_products():
        thread.start()
        assert not inside.wait(0.3), "its switches would be put back to off"
    assert inside.wait(30)
    over.set()
    thread.join()
    assert torch.backends.mkldnn.enabled and torch.backends.mha.get_fastpath_enabled()


class Wrapped(nn.Module):
    """A BERT inside a plain module, next to a head."""

    def __init__(self) -> None:
        super().__init__()
        config = BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                            intermediate_size=64, max_position_embeddings=64)  # fmt: skip
        self.inner = BertModel(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask).pooler_output


class Recurrent(nn.Module):
    """Two LSTM directions over embeddings, read through the mask."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(60, 8)
        self.lstm = nn.LSTM(8, 16, batch_first=True, bidirectional=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.lstm(self.table(input_ids))[0] * attention_mask[..., None]


class Convolution(nn.Module):
    """One dilated convolution over embeddings; takes ids only."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(60, 8)
        self.conv = nn.Conv1d(8, 16, 3, padding=2, dilation=2)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.conv(self.table(input_ids).transpose(1, 2))


class Fused(nn.Module):
    """Attention through torch's fused function and torch's own transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(60, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.table(input_ids)[:, None]
        return self.layer(functional.scaled_dot_product_attention(x, x, x)[:, 0])


@pytest.mark.parametrize(
    ("model_class", "expected"),
    [
        (Wrapped, encoder_formula(1, 32, 64, 2, 2, 10)),
        (Recurrent, 2 * (2 * 10) * 2 * 4 * 16 * (8 + 16)),
        (Convolution, 2 * (2 * 10) * 16 * 8 * 3),
        (Fused, encoder_formula(1, 16, 32, 2, 2, 10, pooler=False) + 2 * 2 * (2 * 10 * 10 * 16)),
    ],
)
def test_any_module_that_takes_ids(model_class: type[nn.Module], expected: int) -> None:
    assert count(model_class(), 2, 10) == pytest.approx(expected, rel=0.01)


def test_inputs_are_fixed_full_and_cut_to_the_forward() -> None:
    model = bert(1, 8, 8, 1)
    batch = example_inputs(model, 4, 32, 60, "cpu")
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids"}
    assert all(tensor.shape == (4, 32) for tensor in batch.values())
    assert int(batch["input_ids"].min()) >= 1 and int(batch["input_ids"].max()) <= 59
    assert bool(batch["attention_mask"].all()) and not bool(batch["token_type_ids"].any())
    assert torch.equal(batch["input_ids"], example_inputs(model, 4, 32, 60, "cpu")["input_ids"])
    assert set(example_inputs(Convolution(), 1, 2, 60, "cpu")) == {"input_ids"}


def test_what_cannot_be_counted() -> None:
    with pytest.raises(ModelError, match="without input_ids"):
        count(nn.Linear(2, 2), 1, 4)
    with pytest.raises(SpecError, match="beyond the model's positions"):
        count(bert(1, 8, 8, 1), 1, 65)
    with pytest.raises(SpecError, match="empty"):
        count(bert(1, 8, 8, 1), 0, 4)
    with pytest.raises(SpecError, match="heads that divide"):
        encoder_formula(1, 10, 8, 3, 1, 4)
