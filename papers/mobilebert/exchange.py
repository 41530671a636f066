"""MobileBERT to and from the class that transformers has for it.

transformers builds attention that reads the stream for layers as wide as the stream alone: MobileBERT as the paper
counts it, and IB-BERT, have no model there. The released layout, with its shared bottleneck, and MobileBERT_TINY have.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import (
    MobileBertConfig,
    MobileBertForQuestionAnswering,
    MobileBertForSequenceClassification,
    MobileBertModel,
    PreTrainedModel,
)

from bench.core.errors import ModelError
from bench.models import load
from bench.models.export import as_transformers
from bench.models.load import Checkpoint
from papers.mobilebert import heads
from papers.mobilebert.student import Architecture

_NORMS = {"no_norm": "none", "layer_norm": "layer"}
_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
_DROPOUTS = {"hidden_dropout": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob"}
_SAME = tuple(field.name for field in fields(Architecture) if field.name in MobileBertConfig().to_dict()
              and field.name not in ("hidden_act", "num_labels"))  # fmt: skip
"""Fields that both name alike and mean alike."""


def config_of(config: Architecture) -> MobileBertConfig:
    """The config of transformers that describes the same model. Raises: ModelError where none does."""
    stream = config.attention_input == "stream"
    if stream and config.intra_bottleneck_size != config.hidden_size:
        raise ModelError("transformers has no such MobileBERT", where="attention_input", found="stream",
                         expected="shared or bottleneck: its attention cannot read a wider stream",
                         fix="export it as it is, or make one with --set student.attention_input=shared")  # fmt: skip
    found = MobileBertConfig(
        **{name: getattr(config, name) for name in _SAME},
        hidden_act=next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == config.hidden_act),
        normalization_type=next(theirs for theirs, ours in _NORMS.items() if ours == config.normalization),
        use_bottleneck=True,
        use_bottleneck_attention=config.attention_input == "bottleneck",
        key_query_shared_bottleneck=config.attention_input == "shared",
        classifier_activation=config.pooler,
        **{theirs: getattr(config, ours) for ours, theirs in _DROPOUTS.items()},
    )
    found.num_labels = config.num_labels
    if config.labels:
        found.id2label = dict(enumerate(config.labels))
        found.label2id = {label: i for i, label in enumerate(config.labels)}
    return found


def architecture_of(config: MobileBertConfig, where: object = "") -> Architecture:
    """Our description of a model of transformers. Raises: ModelError for a layout that is not built here.

    Where the config names no dropout of the classifier it is that of the states, as in transformers.
    """
    given: Any = config
    norm, activation = _NORMS.get(given.normalization_type), _ACTIVATIONS.get(given.hidden_act)
    both = given.use_bottleneck_attention and given.key_query_shared_bottleneck
    for field, found, fits, expected in (
        ("use_bottleneck", given.use_bottleneck, given.use_bottleneck, "true"),
        ("normalization_type", given.normalization_type, norm, " or ".join(_NORMS)),
        ("hidden_act", given.hidden_act, activation, " or ".join(_ACTIVATIONS)),
        ("key_query_shared_bottleneck", "true beside use_bottleneck_attention", not both, "one of the two"),
    ):
        if not fits:
            raise ModelError("the checkpoint is no MobileBERT that is known here", where=f"{where} {field}".strip(),
                             found=found, expected=expected, fix="give another checkpoint")  # fmt: skip
    reads = "bottleneck" if given.use_bottleneck_attention else (
        "shared" if given.key_query_shared_bottleneck else "stream")  # fmt: skip
    names = tuple(given.id2label[i] for i in range(given.num_labels))
    same: dict[str, Any] = {name: getattr(given, name) for name in _SAME}
    dropouts: dict[str, Any] = {ours: getattr(given, theirs) for ours, theirs in _DROPOUTS.items()}
    if given.classifier_dropout is None:
        same["classifier_dropout"] = given.hidden_dropout_prob
    return Architecture(
        **same, **dropouts, hidden_act=activation, normalization=norm,  # pyright: ignore
        attention_input=reads, pooler=given.classifier_activation, num_labels=given.num_labels,
        labels=() if names == tuple(f"LABEL_{i}" for i in range(len(names))) else names,
    )  # fmt: skip


HEADS = ("cls.",)
"""The pre-training heads, which an encoder goes without."""


def check(given: Checkpoint) -> None:
    """Refuse a released checkpoint that is not MobileBERT, of an unknown layout, or not whole. Raises: ModelError."""
    if not isinstance(given.config, MobileBertConfig):
        raise ModelError("the released checkpoint is no MobileBERT", where=given.folder,
                         found=f"model_type {given.config.model_type}", expected="mobilebert",
                         fix="give google/mobilebert-uncased, or a folder of it")  # fmt: skip
    architecture_of(given.config, given.folder)
    load.check_places(given, MobileBertModel, HEADS)


_EMBEDDINGS = {"words": "word_embeddings", "positions": "position_embeddings", "types": "token_type_embeddings",
               "transform": "embedding_transformation", "norm": "LayerNorm"}  # fmt: skip
_LAYER = {"narrow": "bottleneck.input", "narrow_matched": "bottleneck.attention", "attention": "attention.self",
          "attended": "attention.output", "widen": "output.bottleneck"}  # fmt: skip
_HEADS = {"pooler": "mobilebert.pooler.dense", "classifier": "classifier", "spans": "qa_outputs",
          "transform": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm",
          "follows": "cls.seq_relationship"}  # fmt: skip


def name_of(name: str, networks: int) -> str:
    """The name that transformers gives to a tensor of ours, of a model of so many feed-forward networks a layer."""
    match name.split("."):
        case ["encoder", "embeddings", part, kind]:
            return f"mobilebert.embeddings.{_EMBEDDINGS[part]}.{kind}"
        case ["encoder", "layers", index, "feed_forward", network, *rest, kind]:
            place = f"ffn.{network}." if int(network) < networks - 1 else ""
            part = {("dense",): "intermediate.dense", ("back", "dense"): "output.dense"}.get(tuple(rest))
            return f"mobilebert.encoder.layer.{index}.{place}{part or 'output.LayerNorm'}.{kind}"
        case ["encoder", "layers", index, part, inner, kind]:
            inner = "LayerNorm" if inner == "norm" else inner
            return f"mobilebert.encoder.layer.{index}.{_LAYER[part]}.{inner}.{kind}"
        case ["extra"]:
            return "cls.predictions.dense.weight"
        case ["bias"]:
            return "cls.predictions.bias"
        case [part, kind]:
            return f"{_HEADS[part]}.{kind}"
    raise AssertionError(name)


_CLASSES: dict[type[heads.MobileBertEncoder], type[PreTrainedModel]] = {
    heads.MobileBertEncoder: MobileBertModel,
    heads.MobileBertClassifier: MobileBertForSequenceClassification,
    heads.MobileBertForSpans: MobileBertForQuestionAnswering,
    heads.MobileBertForPreTraining: transformers.MobileBertForPreTraining,
}


def to_transformers(model: heads.MobileBertEncoder) -> PreTrainedModel:
    """The same model in the class of transformers. Raises: ModelError where it has none; see `config_of`."""
    config: Any = config_of(model.config)
    if isinstance(model, heads.MobileBertForSpans):
        config.num_labels = 2  # a start and an end, whatever labels the task has
    found: Any = _CLASSES[type(model)](config)
    ours, names = model.state_dict(), _names(model)
    missing, left = found.load_state_dict({names[name]: _turned(name, ours[name]) for name in ours}, strict=False)
    # The decoder is the word table, and has its bias under a second name.
    assert not left and all(name.startswith("cls.predictions.decoder.") for name in missing), (missing, left)
    found.tie_weights()
    with torch.no_grad():  # ours counts as zero what stands there; theirs reads it beside the last word of a padded row
        found.get_input_embeddings().weight[model.config.pad_token_id].zero_()
    return found.eval()


def from_transformers(model: PreTrainedModel) -> heads.MobileBertEncoder:
    """A model of one of these classes of transformers as ours. Raises: ModelError as `architecture_of` does."""
    kind = next(ours for ours, theirs in _CLASSES.items() if theirs is type(model))
    config: Any = model.config
    found, theirs = kind(architecture_of(config)), model.state_dict()
    found.load_state_dict({name: _turned(name, theirs[other]) for name, other in _names(found).items()})
    return found.eval()


def _names(model: heads.MobileBertEncoder) -> dict[str, str]:
    """Our name of each tensor -> the name in the class of transformers, whose bare encoder has no name of its own."""
    alone, networks = type(model) is heads.MobileBertEncoder, model.config.num_feedforward_networks
    names = {name: name_of(name, networks) for name in model.state_dict()}
    return {ours: theirs.removeprefix("mobilebert.") if alone else theirs for ours, theirs in names.items()}


@as_transformers.register
def _(model: heads.MobileBertEncoder) -> PreTrainedModel | None:
    if type(model) not in _CLASSES:  # in 8 bits
        return None
    try:
        return to_transformers(model)
    except ModelError:  # a layout that transformers does not have stays in our class
        return None


def _turned(name: str, tensor: Tensor) -> Tensor:
    return tensor.T if name == "extra" else tensor
