"""IB-BERT's start from the encoder that was given: its words, its states beside the text, and what is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import WORDS, FakeContext
from torch import Tensor
from transformers import BertConfig, BertModel

from bench.models.outputs import forward, frozen
from bench.train.recipe import EncoderFacts, State
from papers.mobilebert import recipe, settings
from papers.mobilebert.guide import Guided, guided_loss, start_words
from papers.mobilebert.heads import MobileBertForPreTraining
from papers.mobilebert.recipe import RECIPE
from papers.mobilebert.settings import Hyper

FACTS = EncoderFacts(layers=2, hidden=64, heads=4, vocabulary=WORDS)


def chosen(**changes: Any) -> Hyper:
    """The small scale for a little BERT."""
    return settings.hyper(RECIPE.variants["ib-bert-large"], "sst2", "small", FACTS).changed(changes)


@pytest.fixture
def encoder() -> BertModel:
    torch.manual_seed(0)
    return BertModel(BertConfig(vocab_size=WORDS, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                                intermediate_size=128, max_position_embeddings=128))  # fmt: skip


def model_of(hyper: Hyper) -> MobileBertForPreTraining:
    torch.manual_seed(1)
    return MobileBertForPreTraining(settings.teacher_of(hyper, WORDS, 0))


def batch() -> dict[str, Tensor]:
    ids = torch.tensor([[2, 7, 8, 9, 3], [2, 10, 11, 3, 0]])
    labels = torch.full_like(ids, -100)
    labels[0, 1] = 12
    mask = (ids != 0).long()
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids), "labels": labels,
            "follows": torch.tensor([0, 1])}  # fmt: skip


def test_words_begin_as_the_encoders_in_its_first_directions(encoder: BertModel) -> None:
    """What the kept directions say of the table is as much as so many of its singular values do, and no less."""
    hyper = chosen()
    model = model_of(hyper)
    start_words(model, encoder)
    words = model.encoder.embeddings.words.weight.detach()
    table = encoder.get_input_embeddings().weight.detach()
    centred = table - table.mean(0)
    kept = words.shape[1]
    assert words.std().item() == pytest.approx(hyper.stream.initializer_range, rel=1e-4)
    assert torch.allclose(words.mean(0), torch.zeros(kept), atol=1e-5)
    scale = torch.linalg.svdvals(centred)[:kept] / torch.linalg.svdvals(words)
    assert torch.allclose(scale, scale[0].expand(kept), rtol=1e-3)


def test_the_states_cost_nothing_where_they_are_the_encoders(encoder: BertModel) -> None:
    """By hand: 0 of a perfect map; of a map that says the mean of the states everywhere 1, times the weight."""
    hyper = chosen()
    guided = Guided(model_of(hyper), 64).eval()
    still, given = frozen(encoder, torch.device("cpu")), batch()
    theirs = forward(still, given, hidden=True).hidden[-1]
    tokens = given["attention_mask"].bool()
    with torch.no_grad():
        guided.map.weight.zero_()
        guided.map.bias.fill_(theirs[tokens].mean())
    assert guided_loss(still, 3.0)(guided, given)["states"].item() == pytest.approx(3.0, rel=1e-5)

    class Perfect(torch.nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            return theirs.where(tokens[..., None], 99.0)  # padding is far off, and left out

    guided.map = Perfect()  # pyright: ignore[reportAttributeAccessIssue]
    terms = guided_loss(still, 3.0)(guided, given)
    assert terms["states"].item() == 0.0 and terms.keys() == {"words", "follows", "states"}


def test_the_text_trains_the_heads_and_the_states_the_layers(encoder: BertModel) -> None:
    guided = Guided(model_of(chosen()), 64)
    terms = guided_loss(frozen(encoder, torch.device("cpu")), 1.0)(guided, batch())
    (terms["words"] + terms["follows"]).backward()
    layers = [p for name, p in guided.model.named_parameters() if name.startswith("encoder.layers.")]
    assert layers and all(p.grad is None for p in layers) and guided.model.bias.grad is not None
    terms["states"].backward()
    assert all(p.grad is not None for p in layers)


def test_the_encoder_stays_and_the_map_is_left_behind(context: Callable[..., FakeContext], encoder: BertModel) -> None:
    ctx, hyper = context("sst2"), chosen()
    ctx.given = encoder
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    left: Any = recipe.pretrain_guided_teacher(State(), hyper, ctx).model
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    trained: Any = ctx.fitted[0][0]
    assert isinstance(trained, Guided) and left is trained.model and type(left) is MobileBertForPreTraining


def test_only_the_small_scale_has_a_guide() -> None:
    variant = RECIPE.variants["ib-bert-large"]
    by_scale = {scale: settings.hyper(variant, "sst2", scale, FACTS) for scale in ("smoke", "small", "full")}
    names = {scale: [stage.name for stage in variant.stages if stage.when is None or stage.when(hyper)]
             for scale, hyper in by_scale.items()}  # fmt: skip
    assert names == {"smoke": ["pretrain_teacher", "fine_tune"], "small": ["pretrain_guided_teacher", "fine_tune"],
                     "full": ["pretrain_teacher", "fine_tune"]}  # fmt: skip
    assert chosen(guide=0.0).guide == 0 and by_scale["full"].guide == 0
