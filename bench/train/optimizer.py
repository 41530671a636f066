"""Which optimiser trains which parameters, and at which share of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from bench.core.errors import TrainError
from bench.train.settings import Group, Training

Groups = dict[nn.Parameter, Group]
"""The group of each parameter that has one; by identity, as parameters hash."""


def made(model: nn.Module, training: Training, device: torch.device, of: Groups) -> torch.optim.Optimizer:
    """The optimiser that was asked for; `rate` of its groups is the share of the schedule.

    Vectors (biases, normalisations) are not decayed. Raises TrainError where nothing is left to train.
    """
    parts: dict[tuple[float, bool, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            rate, decay = rate_and_decay(training, of.get(parameter))
            matrix = parameter.ndim >= 2
            key = (rate, matrix, decay if matrix else 0.0)
            parts.setdefault(key, []).append(parameter)
    if not parts:
        raise TrainError("there is nothing to train", found="every parameter is frozen",
                         fix="give a group a rate above 0")  # fmt: skip
    if training.optimizer == "lamb":
        return _lamb(parts, training)
    return torch.optim.AdamW(
        [{"params": part, "rate": rate, "weight_decay": decay} for (rate, _, decay), part in parts.items()],
        lr=training.lr, betas=training.betas, eps=training.eps, fused=device.type in ("cpu", "cuda"),
        capturable=device.type == "cuda",
    )  # fmt: skip


def rate_and_decay(training: Training, group: Group | None) -> tuple[float, float]:
    """The share of the learning rate, and the weight decay, of a matrix of a group, or of none."""
    if group is None:
        return 1.0, training.weight_decay
    return group.rate, training.weight_decay if group.weight_decay is None else group.weight_decay


def _lamb(parts: Mapping[tuple[float, bool, float], list[nn.Parameter]], training: Training) -> torch.optim.Optimizer:
    """LAMB as BERT's authors use it: vectors take plain Adam steps, moments are not corrected for their start.

    Source: You et al. 2020, arXiv 1904.00962v5, algorithm 2, and the optimiser in MobileBERT's released code.
    """
    from pytorch_optimizer.optimizer.lamb import Lamb  # takes a second to import, and few trainings need it

    groups = [{"params": part, "rate": rate, "weight_decay": decay, "adam": not matrix}
              for (rate, matrix, decay), part in parts.items()]  # fmt: skip
    # In this library `weight_decouple` decays outside of the scaled step, and without `adam_debias` the first moment is
    # corrected after all.
    optimizer = Lamb(groups, lr=training.lr, betas=training.betas, eps=training.eps, weight_decouple=False,
                     adam_debias=True)  # fmt: skip
    optimizer.clamp = math.inf  # the library holds the norm of a weight at 10 or less, the paper and its users do not
    return optimizer
