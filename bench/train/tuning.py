"""Plain fine-tuning of an encoder on a task, as every paper's last stage or its baseline needs it."""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from bench.data.batches import Encoded
from bench.data.tasks import Task
from bench.train.fit import FitLog
from bench.train.losses import supervised
from bench.train.recipe import Context
from bench.train.settings import Training

Config = TypeVar("Config", bound=PreTrainedConfig)


def classifier_config(encoder: Config, task: Task) -> Config:
    """A copy of the encoder's config with one output per label of the task, in the task's order of names."""
    config = type(encoder).from_dict(encoder.to_dict())
    names = task.labels or ("score",)
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    return config


def load_encoder(model: PreTrainedModel, encoder: nn.Module) -> None:
    """Copy an encoder's weights into a model with a task's head; only a pooler may be new, or left over.

    Raises AssertionError when anything else would be missing or left over.
    """
    assert isinstance(encoder, PreTrainedModel), f"{type(encoder).__name__} is no encoder of transformers"
    weights = encoder.base_model.state_dict()
    missing, unexpected = model.base_model.load_state_dict(weights, strict=False)
    assert all(name.startswith("pooler.") for name in (*missing, *unexpected)), (missing, unexpected)


def fine_tune_on_task(model: nn.Module, rows: Encoded, training: Training, ctx: Context) -> FitLog:
    """Train a model with the task's head on rows of the task, with the task's own loss."""
    return ctx.fit(model, supervised(ctx.task.kind), ctx.batches(rows, training), training)
