"""The losses of DistilBERT, one function per term (arXiv 1910.01108v4, section 3).

The soft-target term is `papers.distilbert.soft_targets`, the masked-LM term `bench.train.losses.masked_lm`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos(student, teacher) of each position: directions of the hidden states, not their lengths. [P]

    Shapes: both [P, H], the last hidden states at the P attended positions, over which L_cos is the mean.
    Source: Sanh et al. 2019, arXiv 1910.01108v4, section 3 (L_cos).
    """
    return 1.0 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)) of whole logits, in fp32: a mean over P, a scalar.

    Shapes: both [P, C], of a few classes or of words; `soft_targets` gives the same of words without their logits.
    Source: Hinton et al. 2015, arXiv 1503.02531v1, section 2.
    """
    log_s = F.log_softmax(student.float() / temperature, -1)
    log_t = F.log_softmax(teacher.float() / temperature, -1)
    return F.kl_div(log_s, log_t, log_target=True, reduction="batchmean") * temperature**2


def soft_spans(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)) over the tokens, mean of start and end and of the batch.

    Shapes: both [B, L, 2] in fp32; a token that has no probability in both counts nothing.
    Source: the official code's second distillation, see D8; the paper prints no formula.
    """
    return kd_loss(student.transpose(1, 2).flatten(0, 1), teacher.transpose(1, 2).flatten(0, 1), temperature)
