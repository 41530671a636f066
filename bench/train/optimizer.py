"""Which optimiser trains which parameters, and at which share of the learning rate."""

from __future__ import annotations

import torch
from torch import nn

from bench.core.errors import TrainError
from bench.train.settings import Group, Training

Groups = dict[nn.Parameter, Group]
"""The group of each parameter that has one; by identity, as parameters hash."""


def made(model: nn.Module, training: Training, device: torch.device, of: Groups) -> torch.optim.AdamW:
    """Fused AdamW; vectors (biases, LayerNorms) are not decayed. `rate` of its groups is the share of the schedule."""
    parts: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            group = of.get(parameter)
            decay = training.weight_decay if group is None or group.weight_decay is None else group.weight_decay
            key = (1.0 if group is None else group.rate, decay if parameter.ndim >= 2 else 0.0)
            parts.setdefault(key, []).append(parameter)
    if not parts:
        raise TrainError("there is nothing to train", found="every parameter is frozen",
                         fix="give a group a rate above 0")  # fmt: skip
    return torch.optim.AdamW(
        [{"params": part, "rate": rate, "weight_decay": decay} for (rate, decay), part in parts.items()],
        lr=training.lr, betas=training.betas, eps=training.eps, fused=device.type in ("cpu", "cuda"),
        capturable=device.type == "cuda",
    )  # fmt: skip
