"""The student of DistilBERT: a BERT of half the layers without token types and pooler."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from bench.core.errors import ModelError
from bench.models.lm import MaskedLM, parts

TWELVE = (0, 2, 4, 7, 9, 11)
"""The teacher layers that the official extraction script takes from a 12-layer teacher."""


def teacher_layers(layers: int) -> tuple[int, ...]:
    """Which teacher layers (from 0) initialise the student: the official list for 12, else every second.

    Raises: ModelError for a teacher whose layers cannot be halved.
    """
    if layers == 12:
        return TWELVE
    if layers < 2 or layers % 2:
        raise ModelError("the teacher's layers cannot be halved", found=f"{layers} layers", expected="an even number",
                         fix="use another teacher")  # fmt: skip
    return tuple(range(0, layers, 2))


def config(teacher: BertConfig) -> DistilBertConfig:
    """Half the layers, the rest as in the teacher; dropout 0.1, classifier dropout 0.2 as published.

    Raises: ModelError as `teacher_layers` does. Source: Sanh et al. 2019, arXiv 1910.01108v4, section 3.
    """
    return DistilBertConfig(
        vocab_size=teacher.vocab_size,
        max_position_embeddings=teacher.max_position_embeddings,
        n_layers=len(teacher_layers(teacher.num_hidden_layers)),
        n_heads=teacher.num_attention_heads,
        dim=teacher.hidden_size,
        hidden_dim=teacher.intermediate_size,
        activation=teacher.hidden_act,
        dropout=0.1,
        attention_dropout=0.1,
        seq_classif_dropout=0.2,
        initializer_range=0.02,
        pad_token_id=teacher.pad_token_id,
    )


@parts.register
def _(model: DistilBertForMaskedLM) -> MaskedLM:
    def transform(hidden: Tensor) -> Tensor:
        return model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))

    return MaskedLM(model.distilbert, transform, cast(nn.Linear, model.vocab_projector))


_EMBEDDINGS = ("word_embeddings", "position_embeddings", "LayerNorm")
_LAYER = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
"""BERT's name of a module in a layer -> DistilBERT's."""


@torch.no_grad()
def copy_layers(student: DistilBertForMaskedLM, teacher: BertForMaskedLM, copy_transform: bool = True) -> None:
    """Initialise the student from every second teacher layer, the embeddings and the masked-LM head.

    `copy_transform` also copies the head's transform and its LayerNorm (a switch of the official script; D2).
    Raises: ModelError as `teacher_layers` does, RuntimeError for a student of other widths than the teacher.
    """
    for name in _EMBEDDINGS:
        _copy(student.distilbert.embeddings.get_submodule(name), teacher.bert.embeddings.get_submodule(name))
    layers = teacher_layers(teacher.config.num_hidden_layers)
    for layer, source in zip(student.distilbert.transformer.layer, layers, strict=True):
        for theirs, ours in _LAYER.items():
            _copy(layer.get_submodule(ours), teacher.bert.encoder.layer[source].get_submodule(theirs))
    head = teacher.cls.predictions
    _copy(student.vocab_projector, head.decoder)
    if copy_transform:
        _copy(student.vocab_transform, head.transform.dense)
        _copy(student.vocab_layer_norm, head.transform.LayerNorm)


def _copy(target: nn.Module, source: nn.Module) -> None:
    target.load_state_dict(source.state_dict(), strict=True)
