"""The loss of the low-resource students."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean, over rows and classes, of the squared difference of raw logits; no temperature, no label.

    Shapes: both [B, C]. Source: the paper as Galke et al. 2022 describe it, appendix B; see D2.
    """
    return F.mse_loss(student.float(), teacher.float())
