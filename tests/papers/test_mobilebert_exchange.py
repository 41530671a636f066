"""MobileBERT to and from transformers: the same weights answer alike, both ways, and what cannot cross is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import scatter
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    MobileBertConfig,
    MobileBertForQuestionAnswering,
    MobileBertForSequenceClassification,
    MobileBertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from bench.core.errors import ModelError
from bench.models import load
from papers.mobilebert import exchange, student
from papers.mobilebert.heads import (
    MobileBertClassifier,
    MobileBertEncoder,
    MobileBertForPreTraining,
    MobileBertForSpans,
)
from papers.mobilebert.student import Architecture, NoNorm

RELEASED = Architecture(vocab_size=60, max_position_embeddings=24, embedding_size=8, hidden_size=24,
                        intra_bottleneck_size=16, num_hidden_layers=2, intermediate_size=40,
                        attention_input="shared")  # fmt: skip
TINY = replace(RELEASED, attention_input="bottleneck", num_feedforward_networks=2)
LAYOUTS = {
    "released": RELEASED,
    "tiny": TINY,
    "LayerNorm and GELU": replace(RELEASED, normalization="layer", hidden_act="gelu"),
    "GELU by tanh": replace(TINY, hidden_act="gelu_tanh"),
    "a pooler": replace(RELEASED, pooler=True),
    "reads the stream, as wide as the layer": replace(RELEASED, attention_input="stream", intra_bottleneck_size=24),
}
OURS: Sequence[type[MobileBertEncoder]] = (
    MobileBertEncoder, MobileBertClassifier, MobileBertForSpans, MobileBertForPreTraining,
)  # fmt: skip


def settled(model: nn.Module) -> nn.Module:
    """Every parameter of its own value, norms around 1, and no word for padding; in eval mode."""
    scatter(model, 3)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, NoNorm | nn.LayerNorm) or name.lower().endswith("norm"):
                module.weight.add_(1)  # pyright: ignore
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0
    return model.eval()


def batch() -> dict[str, Tensor]:
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {
        "input_ids": ids * mask,
        "attention_mask": mask,
        "token_type_ids": (torch.arange(9) > 4).long().expand(3, 9),
    }


@torch.no_grad()
def answers(model: nn.Module) -> list[Tensor]:
    """What a model says, whichever library made it: the tensors of its answer in their order."""
    if type(model) is MobileBertEncoder:
        hidden = model.encoder(**batch())[-1]
        return [hidden, model.first(hidden)]
    said: Any = model(**batch())
    return list(said if isinstance(said, tuple) else said.to_tuple())


def alike(one: nn.Module, other: nn.Module) -> None:
    """In fp64, where only a difference of the models is seen: with random weights states are in the hundreds."""
    ours, theirs = (answers(deepcopy(model).double()) for model in (one, other))
    assert len(ours) == len(theirs) >= 1
    for mine, want in zip(ours, theirs, strict=True):
        assert mine.std() > 1e-2, "an answer that differs from row to row"
        torch.testing.assert_close(mine, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ours_answers_alike_in_transformers_and_back(kind: type[MobileBertEncoder], layout: str) -> None:
    # 1e-5 as transformers has it in two places whatever its config says: 1e-12 is ours, and the released code's.
    config = replace(LAYOUTS[layout], layer_norm_eps=1e-5, num_labels=3, labels=("no", "maybe", "yes"))
    ours = settled(kind(config))
    theirs = exchange.to_transformers(ours)  # pyright: ignore[reportArgumentType]
    alike(ours, theirs)
    back = exchange.from_transformers(theirs)
    if kind is MobileBertForSpans:
        config = replace(config, num_labels=2, labels=())
    assert type(back) is kind and back.config == config and not back.training
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in back.state_dict().items())


@pytest.mark.parametrize(
    "kind",
    [MobileBertModel, MobileBertForSequenceClassification, MobileBertForQuestionAnswering,
     transformers.MobileBertForPreTraining],
)  # fmt: skip
@pytest.mark.parametrize("pooler", [True, False])
def test_theirs_answers_alike_as_ours(kind: Callable[[MobileBertConfig], PreTrainedModel], pooler: bool) -> None:
    config = MobileBertConfig(vocab_size=60, max_position_embeddings=24, embedding_size=8, hidden_size=24,
                              intra_bottleneck_size=16, num_hidden_layers=2, intermediate_size=40,
                              classifier_activation=pooler)  # fmt: skip
    theirs = settled(kind(config))
    assert isinstance(theirs, PreTrainedModel)
    ours = exchange.from_transformers(theirs)
    assert (ours.config.pooler, ours.config.attention_input, ours.config.labels) == (pooler, "shared", ())
    assert ours.config.classifier_dropout == config.hidden_dropout_prob == 0.0, "None is that of the states"
    alike(ours, theirs)


def test_a_saved_model_comes_back_with_its_labels(tmp_path: Path) -> None:
    ours = settled(MobileBertClassifier(replace(RELEASED, num_labels=3, labels=("no", "maybe", "yes"))))
    assert isinstance(ours, MobileBertClassifier)
    exchange.to_transformers(ours).save_pretrained(tmp_path)
    theirs = MobileBertForSequenceClassification.from_pretrained(tmp_path).eval()
    config: Any = theirs.config
    assert config.id2label == {0: "no", 1: "maybe", 2: "yes"} and config.label2id["yes"] == 2
    assert config.classifier_dropout == 0.1 and config.num_labels == 3
    alike(ours, theirs)


def test_pre_training_heads_come_back_from_a_folder(tmp_path: Path) -> None:
    ours = settled(MobileBertForPreTraining(TINY))
    assert isinstance(ours, MobileBertForPreTraining)
    exchange.to_transformers(ours).save_pretrained(tmp_path)
    alike(ours, transformers.MobileBertForPreTraining.from_pretrained(tmp_path).eval())


def test_dropout_crosses_both_ways() -> None:
    config = replace(RELEASED, hidden_dropout=0.2, attention_dropout=0.3, classifier_dropout=0.4)
    theirs: Any = exchange.config_of(config)
    assert (theirs.hidden_dropout_prob, theirs.attention_probs_dropout_prob) == (0.2, 0.3)
    assert exchange.architecture_of(theirs) == config


# Refusals


@pytest.mark.parametrize("config", [student.PAPER, student.NO_OPT, student.TEACHER], ids=["paper", "no-opt", "teacher"])
def test_what_transformers_cannot_be_is_refused(config: Architecture) -> None:
    with pytest.raises(ModelError) as error:
        exchange.config_of(config)
    message = str(error.value)
    assert "\n" not in message and "attention_input" in message and "found stream" in message and "next:" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_bottleneck": False}, ("use_bottleneck", "found False", "expected true")),
        ({"normalization_type": "rms_norm"}, ("normalization_type", "rms_norm", "no_norm or layer_norm")),
        ({"hidden_act": "silu"}, ("hidden_act", "silu", "relu or gelu")),
        ({"use_bottleneck_attention": True, "key_query_shared_bottleneck": True}, ("use_bottleneck_attention", "one")),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_an_unknown_layout_is_refused(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ModelError) as error:
        exchange.architecture_of(MobileBertConfig(**changes), "FOLDER")
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in ("FOLDER", *words, "next:")), message


def checkpoint(model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerFast) -> load.Checkpoint:
    load.save(model, folder, tokenizer)
    return load.check(folder)


def test_another_kind_of_model_is_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    tiny = BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    with pytest.raises(ModelError, match=r"is no MobileBERT.*model_type bert; expected mobilebert"):
        exchange.check(checkpoint(BertModel(tiny), tmp_path, tokenizer))


@pytest.mark.parametrize("heads", [True, False], ids=["with heads", "without"])
def test_a_checkpoint_like_the_released_one_is_taken(
    heads: bool, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    kind = transformers.MobileBertForPreTraining if heads else MobileBertModel
    exchange.check(checkpoint(kind(exchange.config_of(RELEASED)), tmp_path, tokenizer))
