"""The triple loss of DistilBERT, one function per term (arXiv 1910.01108v4, section 3).

The soft-target term is `bench.train.losses.soft_targets`, the masked-LM term `bench.train.losses.masked_lm`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over positions of 1 - cos(student, teacher): directions of the hidden states, not their lengths.

    Shapes: both [P, H], the last hidden states at the attended positions.
    """
    return (1.0 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)).mean()
