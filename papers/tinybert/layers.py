"""The intermediate-layer loss of TinyBERT over two models that run on one batch (arXiv 1909.10351v5, equation 11)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bench.core.errors import SpecError
from bench.data.batches import Batch
from bench.models.attention import Attended, trace, watch
from bench.train.step import Loss
from papers.tinybert import losses
from papers.tinybert.settings import Layers
from papers.tinybert.student import TinyBertForDistillation


def layer_loss(teacher: nn.Module, settings: Layers, layers: tuple[int, ...]) -> Loss:
    """L_attn + L_hidn + L_embd as a loss for `fit`; a term of weight 0 is not computed.

    `layers` are the layers (from 1) of a frozen teacher that the student's copy, in order. The teacher runs first and
    keeps those only; each term is made as soon as its student layer is done, and what it took of the teacher is let go.
    Raises: SpecError where every weight is 0.
    Source: arXiv 1909.10351v5, equation 11; padding see D5, the teacher's dropout D2.
    """
    if not (settings.attention or settings.hidden or settings.embedding):
        raise SpecError("nothing to copy", where="intermediate layers", found="attention, hidden and embedding all 0",
                        fix="give one of them a weight")  # fmt: skip
    teacher.train(settings.teacher_dropout)
    copied = {0: 0} if settings.embedding else {}  # student layer -> teacher layer; 0 is the embedding output
    if settings.attention or settings.hidden:
        copied |= {m: g for m, g in enumerate(layers, 1)}

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        student = cast(TinyBertForDistillation, model)
        with torch.no_grad():
            theirs = trace(teacher, batch, sorted(set(copied.values())))
        terms: dict[str, Tensor] = {}

        # One entry per kind of loss, summed over the layers, so that a log shows three numbers and not one per layer.
        def add(name: str, weight: float, value: Tensor) -> None:
            terms[name] = terms.get(name, 0.0) + weight * value

        # Called while the student still runs: popping frees a teacher layer's states before the next one is compared.
        def see(layer: int, state: Tensor, attended: Attended | None) -> None:
            state_t, attended_t = theirs.hidden.pop(copied[layer]), theirs.attended.pop(copied[layer], None)
            if layer == 0:
                add("embedding", settings.embedding, losses.hidden(state, state_t, student.projected_by(0)))
                return
            assert attended is not None and attended_t is not None
            if settings.attention:
                add("attention", settings.attention, losses.attention(attended, attended_t))
            if settings.hidden:
                add("hidden", settings.hidden, losses.hidden(state, state_t, student.projected_by(layer)))

        watch(student, batch, sorted(copied), see)
        return terms

    return loss
