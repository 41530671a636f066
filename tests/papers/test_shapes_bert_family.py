"""The paper-sized shapes of BERT, DistilBERT, TinyBERT and MobileBERT: what they weigh, cost and attend to.

Printed counts are written from the papers (table and version beside each), not read from the ledger. Nothing of paper
size is allocated: counts are taken on the meta device, numbers on a tiny configuration with the shape's own class and
switches.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, DistilBertConfig, MobileBertConfig, MobileBertForSequenceClassification

from bench.core.errors import ModelError
from bench.models import flops, outputs, size
from bench.models.shape import Shape
from papers.bert.shapes import SHAPES as BERT
from papers.bert.shapes import SMALL as SMALL_BERTS
from papers.distilbert.shapes import SHAPES as DISTILBERT
from papers.mobilebert import exchange, student
from papers.mobilebert.heads import MobileBertClassifier
from papers.mobilebert.shapes import SHAPES as MOBILEBERT
from papers.mobilebert.student import Architecture, NoNorm
from papers.tinybert.shapes import SHAPES as TINYBERT

FAMILIES = (BERT, DISTILBERT, TINYBERT, MOBILEBERT)
SHAPES: Mapping[str, Shape] = {name: shape for family in FAMILIES for name, shape in family.items()}
VOCABULARY = 60


@functools.cache
def on_meta(name: str) -> nn.Module:
    """The paper-sized model without memory."""
    build = SHAPES[name].build
    assert build is not None
    with torch.device("meta"):
        return build().eval()


def tiny(name: str) -> nn.Module:
    """The shape's class with its switches, a few units wide, every parameter random; the word of padding stays zero."""
    model = on_meta(name)
    config: Any = deepcopy(model.config)
    if isinstance(config, BertConfig):
        small = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    elif isinstance(config, DistilBertConfig):
        small = {"dim": 24, "hidden_dim": 40, "n_layers": 2, "n_heads": 4}
    else:
        inside = 16 if config.intra_bottleneck_size < config.hidden_size else 32
        small = {"hidden_size": 24, "intra_bottleneck_size": inside, "embedding_size": 8, "intermediate_size": 40,
                 "num_hidden_layers": 2}  # fmt: skip
    small |= {"vocab_size": VOCABULARY, "max_position_embeddings": 24}
    if isinstance(config, Architecture):
        config = replace(config, **small)
    else:
        config.update(small)
    return scattered(type(model)(config)).eval()  # pyright: ignore[reportCallIssue]


@torch.no_grad()
def scattered(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx] = 0
        if isinstance(module, NoNorm | nn.LayerNorm):
            module.weight += 1
    return model


def rows(batch: int, length: int, padding: int = 0) -> dict[str, Tensor]:
    """Random ids, then padding; types 0 and 1."""
    ids = torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1))
    types = (torch.arange(length) >= length // 2).long().expand(batch, -1)
    parts = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": types}
    return {name: nn.functional.pad(tensor, (0, padding)) for name, tensor in parts.items()}


def test_every_shape_is_here() -> None:
    assert sum(len(family) for family in FAMILIES) == len(SHAPES) == 17, "a name is taken twice"
    assert set(BERT) == {"bert", "bert-large", *SMALL_BERTS} and set(DISTILBERT) == {"distilbert"}
    assert set(TINYBERT) == {"tinybert-4", "tinybert-4-init-bert", "tinybert-6"} and len(MOBILEBERT) == 7
    assert all(shape.says and shape.build and shape.flops for shape in SHAPES.values())
    assert [name for name, shape in SHAPES.items() if shape.packed] == ["bert"]


# Parameters


@dataclass(frozen=True)
class Printed:
    """A count of parameters as a paper printed it."""

    millions: float
    digit: float
    """One unit of the last digit printed."""
    source: str
    without: tuple[str, ...] = ("classifier",)
    """What of our classifier the paper leaves out of its count, as far as the number says."""


MET = [
    ("bert", Printed(109, 1, "Table 1 of 1909.10351v5, Table 4 of 2004.02984v2")),
    ("bert", Printed(110, 10, "Table 3 of 1910.01108v4, two digits")),
    # 335M with the pooler.
    ("bert-large", Printed(334, 1, "Table 1 of 2004.02984v2", ("classifier", "pooler"))),
    # The encoder alone. TinyBERT's authors print 67.0 for the same student, which is the classifier.
    ("distilbert", Printed(66, 1, "Table 3 of 1910.01108v4", ("classifier", "pre_classifier"))),
    ("distilbert", Printed(67.0, 0.1, "Table 1 of 1909.10351v5", ())),
    ("tinybert-6", Printed(67.0, 0.1, "Table 1 of 1909.10351v5")),
    ("bert-tiny", Printed(4.4, 0.1, "the table of the 24 smaller models")),
]

MISSED = [
    # 14.35M. With the masked-LM head it would be 14.48, with the projection that training needs 14.59; but the 6-layer
    # student meets its 67.0 only without either.
    ("tinybert-4", Printed(14.5, 0.1, "Table 1 of 1909.10351v5"), 14_350_248),
    # The printed 25.3 is of the architecture in which keys and queries read the stream: 25.36, cut off and not rounded.
    ("mobilebert", Printed(25.3, 0.1, "Tables 1 and 4 of 2004.02984v2"), 25_359_104),
    ("mobilebert-no-opt", Printed(25.3, 0.1, "Table 4 of 2004.02984v2"), 25_359_104),
    # The released config narrows what both read: one matrix of 512 x 128 more, and 384 rows fewer in each of the two.
    ("mobilebert-released", Printed(25.3, 0.1, "Tables 1 and 4 of 2004.02984v2"), 24_581_888),
    # The three that are larger than BERT-Tiny meet their numbers with the masked-LM head: 11.27, 29.05 and 41.66.
    ("bert-mini", Printed(11.3, 0.1, "the table of the 24 smaller models"), 11_170_560),
    ("bert-small", Printed(29.1, 0.1, "the table of the 24 smaller models"), 28_763_648),
    ("bert-medium", Printed(41.7, 0.1, "the table of the 24 smaller models"), 41_373_184),
    # From the released configs; the paper does not say what it leaves out.
    ("mobilebert-tiny", Printed(15.1, 0.1, "Tables 1 and 4 of 2004.02984v2"), 15_485_696),
    ("ib-bert-large", Printed(293, 1, "Table 1 of 2004.02984v2"), 294_467_840),
]


def counted(name: str, printed: Printed) -> int:
    """Our parameters without what the paper leaves out."""
    left = [module for part, module in on_meta(name).named_modules() if part.split(".")[-1] in printed.without]
    assert len(left) == len(printed.without)
    return size.parameters(on_meta(name)) - sum(map(size.parameters, left))


@pytest.mark.parametrize(("name", "printed"), MET)
def test_a_printed_count_is_met_to_its_last_digit(name: str, printed: Printed) -> None:
    assert abs(counted(name, printed) / 1e6 - printed.millions) <= printed.digit / 2


@pytest.mark.parametrize(("name", "printed", "ours"), MISSED)
def test_a_printed_count_that_cannot_be_met(name: str, printed: Printed, ours: int) -> None:
    assert counted(name, printed) == ours
    away = abs(ours / 1e6 - printed.millions)
    assert printed.digit / 2 < away < 0.03 * printed.millions


def test_classifiers_to_the_last_parameter() -> None:
    # Tables, layers and pooler worked by hand from the widths; the classifier is C (H + 1).
    counts = {"bert": 109_483_778, "bert-large": 335_143_938, "distilbert": 66_955_010, "tinybert-4": 14_350_874,
              "tinybert-6": 66_956_546}  # fmt: skip
    assert {name: size.parameters(on_meta(name)) for name in counts} == counts
    assert size.parameters(on_meta("tinybert-4-init-bert")) == counts["tinybert-4"]
    for name, layers, width in [("bert-tiny", 2, 128), ("bert-mini", 4, 256), ("bert-small", 4, 512),
                                ("bert-medium", 8, 512)]:  # fmt: skip
        layer = 4 * width * (width + 1) + width * 4 * width * 2 + 5 * width + 4 * width
        tables = (30522 + 512 + 2) * width + 2 * width
        assert size.parameters(on_meta(name)) == tables + layers * layer + width * (width + 1) + 2 * (width + 1)
    table, stream = 30522 * 128 + 512 * 512 + 2 * 512 + 3 * 128 * 512 + 512 + 2 * 512, 512
    for name, inside, matched, valued, narrowings, ffn, ffns in [
        ("mobilebert-released", 128, 128, 512, 2, 512, 4),
        ("mobilebert", 128, 512, 512, 1, 512, 4),
        ("mobilebert-tiny", 128, 128, 128, 1, 512, 2),
        ("ib-bert-large", 1024, 512, 512, 1, 4096, 1),
    ]:
        narrow = narrowings * (stream * inside + 3 * inside)
        attention = (2 * matched + valued + inside) * inside + 4 * inside + 2 * inside
        feed_forward = ffns * (2 * inside * ffn + ffn + 3 * inside)
        layer = narrow + attention + feed_forward + inside * stream + 3 * stream
        pooler = stream * (stream + 1) if name == "ib-bert-large" else 0
        assert size.parameters(on_meta(name)) == table + 24 * layer + pooler + 2 * (stream + 1)


def test_normalisation_and_activation_change_no_count() -> None:
    names = ("mobilebert", "mobilebert-layernorm", "mobilebert-gelu", "mobilebert-no-opt")
    assert len({size.parameters(on_meta(name)) for name in names}) == 1
    kinds = {
        name: ({type(m) for m in on_meta(name).modules()} & {NoNorm, nn.LayerNorm}, on_meta(name).config.hidden_act)
        for name in names
    }
    assert kinds == dict(zip(names, [({NoNorm}, "relu"), ({nn.LayerNorm}, "relu"), ({NoNorm}, "gelu"),
                                     ({nn.LayerNorm}, "gelu")], strict=True))  # fmt: skip


# FLOPs


@pytest.mark.parametrize("name", [name for name in SHAPES if name == "mobilebert-released" or name not in MOBILEBERT])
def test_the_formula_is_the_count(name: str) -> None:
    formula = SHAPES[name].flops
    assert formula is not None
    assert formula(3, 33) == flops.count(on_meta(name), 3, 33) > 0


@pytest.mark.parametrize("name", MOBILEBERT)
def test_the_formula_is_the_count_of_a_tiny_mobilebert(name: str) -> None:
    formula = MOBILEBERT[name].flops
    assert formula is not None and formula(3, 33) == student.flops(on_meta(name).config, 3, 33)
    model = tiny(name)
    config: Any = model.config
    for batch, length in ((1, 24), (2, 5)):
        assert student.flops(config, batch, length) == flops.count(model, batch, length) > 0


@pytest.mark.parametrize(
    ("name", "printed", "share"),
    [("bert", 22.5, 0.01), ("distilbert", 11.3, 0.012), ("tinybert-4", 1.2, 0.04), ("tinybert-6", 11.3, 0.012),
     ("mobilebert-tiny", 3.1, 0.012), ("mobilebert", 5.7, 0.02), ("mobilebert-no-opt", 5.7, 0.02),
     ("mobilebert-released", 5.7, 0.06)],
)  # fmt: skip
def test_printed_flops_are_near_at_length_128(name: str, printed: float, share: float) -> None:
    # Table 1 of 1909.10351v5 and Table 4 of 2004.02984v2, in billions, for a length that is not stated beside them. All
    # but TinyBERT4's (two digits) are a little above the matrix products; the released model's are 5.39.
    formula = SHAPES[name].flops
    assert formula is not None
    assert formula(1, 128) / 1e9 == pytest.approx(printed, rel=share)


def test_mobilebert_flops_by_hand() -> None:
    # H = 4, 2 inside, F = 3, two networks, E = 1 with neighbours, one layer, B = 1, L = 5. Per token: embedding 3 * 4;
    # narrow twice and widen 3 * 8; query and key 2 * 4, value 8, out 4; networks 2 * 12; and 2 * 5 * 2 for the scores.
    config = Architecture(embedding_size=1, hidden_size=4, intra_bottleneck_size=2, num_attention_heads=1,
                          num_hidden_layers=1, intermediate_size=3, num_feedforward_networks=2,
                          attention_input="shared", num_labels=3)  # fmt: skip
    assert student.flops(config, 1, 5) == 2 * (5 * (12 + 24 + 20 + 24 + 20) + 12)
    assert student.flops(replace(config, pooler=True), 1, 5) - student.flops(config, 1, 5) == 2 * 16


# What a model attends to, and what learns


@pytest.mark.parametrize("name", SHAPES)
def test_output_shape(name: str) -> None:
    got = outputs.forward(tiny(name), rows(3, 8), hidden=True)
    assert got.logits.shape == (3, 2) and got.logits.isfinite().all()
    assert len(got.hidden) == 2 + 1 and {state.shape for state in got.hidden} == {(3, 8, 24)}


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_padding_is_not_attended(name: str) -> None:
    model = tiny(name).double()
    alone, padded = (outputs.forward(model, rows(3, 9, padding), hidden=True) for padding in (0, 4))
    torch.testing.assert_close(padded.logits, alone.logits, rtol=1e-9, atol=1e-9)
    assert len(alone.hidden) == len(padded.hidden) == 3
    for state, with_padding in zip(alone.hidden, padded.hidden, strict=True):
        torch.testing.assert_close(with_padding[:, :9], state, rtol=1e-9, atol=1e-9)
    careless = rows(3, 9, 4)
    careless["attention_mask"] = torch.ones_like(careless["attention_mask"])
    assert not torch.allclose(outputs.forward(model, careless).logits, alone.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = tiny(name).double()  # some gradients are so small that a process which flushes denormals has zeros
    outputs.forward(model, rows(3, 9)).logits.square().sum().backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert len(gradients) > 30 and all(gradient is not None for gradient in gradients.values())
    still = {key for key, gradient in gradients.items() if gradient is not None and not gradient.any()}
    # A bias of the keys moves all scores of a query alike, and softmax takes no notice: zero, or rounding.
    assert {key for key in still if not key.endswith(("key.bias", "k_lin.bias"))} == set()


# MobileBERT's own module


def reference(config: Architecture) -> MobileBertForSequenceClassification:
    """The model of transformers with the same configuration."""
    shared = {field.name: getattr(config, field.name) for field in fields(config)
              if field.name in MobileBertConfig().to_dict()}  # fmt: skip
    return MobileBertForSequenceClassification(
        MobileBertConfig(
            **shared,
            use_bottleneck=True,
            use_bottleneck_attention=config.attention_input == "bottleneck",
            key_query_shared_bottleneck=config.attention_input == "shared",
            normalization_type="no_norm" if config.normalization == "none" else "layer_norm",
            classifier_activation=config.pooler,
            hidden_dropout_prob=config.hidden_dropout,
            attention_probs_dropout_prob=config.attention_dropout,
        )
    )


SMALL = Architecture(vocab_size=VOCABULARY, max_position_embeddings=24, embedding_size=8, hidden_size=24,
                     intra_bottleneck_size=16, num_hidden_layers=2, intermediate_size=40, attention_input="shared",
                     layer_norm_eps=1e-5)  # fmt: skip
"""The eps is the one that transformers has fixed in two places; ours is 1e-12 everywhere, as in the released code."""


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, normalization="layer", hidden_act="gelu", num_feedforward_networks=2, pooler=True),
        replace(SMALL, attention_input="bottleneck", num_feedforward_networks=2),
        replace(SMALL, attention_input="bottleneck", normalization="layer", num_feedforward_networks=1),
        replace(SMALL, trigram_input=False, hidden_act="gelu"),
        # transformers builds the teacher's attention for one width only: the stream's and the layer's must be the same.
        replace(SMALL, attention_input="stream", intra_bottleneck_size=24, normalization="layer", hidden_act="gelu",
                num_feedforward_networks=1, pooler=True),
    ],
    ids=["released", "LayerNorm and GELU", "tiny", "tiny with LayerNorm", "no neighbours", "reads the stream"],
)  # fmt: skip
@torch.no_grad()
def test_the_same_weights_give_what_transformers_gives(config: Architecture) -> None:
    ours, other = scattered(MobileBertClassifier(config)).double().eval(), reference(config).double().eval()
    renamed = {
        exchange.name_of(name, config.num_feedforward_networks): tensor for name, tensor in ours.state_dict().items()
    }
    assert renamed.keys() == other.state_dict().keys() and len(renamed) > 40
    other.load_state_dict(renamed, strict=True)
    batch = rows(3, 9, 4)
    batch["attention_mask"][0, 5:] = 0
    mine, want = (outputs.forward(model, batch, hidden=True) for model in (ours, other))
    torch.testing.assert_close(mine.logits, want.logits, rtol=1e-9, atol=1e-9)
    assert len(mine.hidden) == len(want.hidden) == 3
    for state, expected in zip(mine.hidden, want.hidden, strict=True):
        torch.testing.assert_close(state, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["mobilebert-released", "mobilebert-tiny"])
def test_the_released_sizes_are_those_of_transformers(name: str) -> None:
    with torch.device("meta"):
        assert size.parameters(reference(on_meta(name).config)) == size.parameters(on_meta(name))


def test_neighbours_reach_an_embedding_and_padding_does_not() -> None:
    model = scattered(MobileBertClassifier(replace(SMALL, normalization="none")))
    embed = model.encoder.embeddings
    ids = torch.tensor([[7, 8, 9, 10, 11, 0, 0]])
    with torch.no_grad():
        base = embed(ids, None)
        for place in range(5):
            changed = ids.clone()
            changed[0, place] = 40
            moved = (embed(changed, None) != base).any(-1)[0].nonzero().flatten().tolist()
            assert moved == [at for at in (place - 1, place, place + 1) if at >= 0]
        torch.testing.assert_close(embed(ids[:, :5], None), base[:, :5])
        torch.testing.assert_close(embed(ids, torch.zeros_like(ids)), base)
    embed(ids, None).sum().backward()
    gradient = embed.words.weight.grad
    assert gradient is not None and not gradient[0].any() and gradient[7:12].any(-1).all()


def test_no_norm_by_hand() -> None:
    layer = NoNorm(3)
    hidden = torch.tensor([[1.0, -2.0, 4.0]])
    assert torch.equal(layer(hidden), hidden), "it starts as the identity"
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([2.0, 3.0, 0.5]))
        layer.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    assert layer(hidden).tolist() == [[3.0, -6.0, 1.0]]


def test_how_a_model_starts() -> None:
    model = MobileBertClassifier(replace(SMALL, pooler=True))
    matrices = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Embedding)]
    assert len(matrices) > 20 and all(m.weight.abs().max() <= 0.04 for m in matrices)
    assert not any(m.bias.any() for m in matrices if isinstance(m, nn.Linear))
    drawn = torch.cat([m.weight.flatten() for m in matrices])
    assert drawn.std().item() == pytest.approx(0.0176, rel=0.03), "0.02 cut off at two deviations"
    assert not model.encoder.embeddings.words.weight[0].any()


def test_dropout_is_where_the_released_code_has_it() -> None:
    model = MobileBertClassifier(replace(SMALL, hidden_dropout=0.3))
    dropouts = {name for name, m in model.named_modules() if isinstance(m, nn.Dropout) and m.p == 0.3}
    widening = {f"encoder.layers.{layer}.widen.dropout" for layer in range(2)}
    assert dropouts == {"encoder.embeddings.dropout"} | widening
    assert student.TEACHER.hidden_dropout == 0.1 and student.RELEASED.hidden_dropout == 0.0
    attention: Any = model.encoder.layers[0]
    assert attention.attention.dropout == 0.1 and model.dropout.p == 0.1


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ModelError, match="found 5 heads; expected a divisor of 128"):
        Architecture(num_attention_heads=5)
