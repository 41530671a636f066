"""Knowledge transfer from IB-BERT to MobileBERT: what each schedule trains, and the losses over two running models.

Source: Sun et al. 2020, arXiv 2004.02984v2, sections 3.5 and 3.6; rates and weights are the released code's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.core.errors import DataError
from bench.data.batches import Batch, Encoded
from bench.data.masking import IGNORED
from bench.data.positions import positions
from bench.train.losses import masked_lm
from bench.train.processes import mean_over
from bench.train.settings import Group
from bench.train.step import Loss
from papers.mobilebert import losses
from papers.mobilebert.heads import MobileBertForPreTraining
from papers.mobilebert.settings import Transfer

Terms = dict[str, Tensor]


def follows(batch: Batch, _: np.random.Generator) -> Batch:
    """The label of a pair under a name of its own, since masking writes `labels`."""
    return {**batch, "follows": batch["labels"]}


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the transfer: which layers have a loss, what reads which rows, and what learns how fast."""

    layers: tuple[int, ...]
    """From 1."""
    rows: Encoded
    groups: tuple[Group, ...]


def phases(settings: Transfer, layers: int, rows: Encoded) -> Iterator[Phase]:
    """What is trained before the words are distilled, in order (section 3.6).

    By the progressive schedule each layer has a phase and an equal part of the rows: it learns at `rate`, the layers
    before it at `earlier_rate`, and nothing else learns. Raises: DataError for fewer rows than phases.
    """
    parts = 1 if settings.schedule == "joint" else layers
    if len(rows) < parts:
        raise DataError("the text is too short for the transfer", where="corpus.corpus_tokens",
                        found=f"{len(rows)} pairs of texts", expected=f"{parts} or more, one a phase",
                        fix="--set corpus.corpus_tokens to more, or give a larger corpus")  # fmt: skip
    if settings.schedule == "joint":
        # The heads have no loss.
        groups = (Group(match="encoder.*", rate=1.0), Group(match="*", rate=0.0))
        yield Phase(tuple(range(1, layers + 1)), rows, groups)
        return
    cuts = [round(part * len(rows) / layers) for part in range(layers + 1)]
    for number in range(1, layers + 1):
        before = (Group(match=f"encoder.layers.{i}.*", rate=settings.earlier_rate) for i in range(number - 1))
        now = Group(match=f"encoder.layers.{number - 1}.*", rate=settings.rate)
        yield Phase((number,), rows.between(cuts[number - 1], cuts[number]), (now, *before, Group(match="*", rate=0.0)))


def layer_loss(teacher: MobileBertForPreTraining, settings: Transfer, layers: Collection[int]) -> Loss:
    """The transfer of some layers (from 1) as a loss for `fit`: feature maps, statistics and attention of each.

    No layer of either model runs after the last of them, unless `statistics_of=all_layers` asks for all of the
    teacher's. Source: arXiv 2004.02984v2, section 3.5.
    """

    def loss(model: nn.Module, batch: Batch) -> Terms:
        terms, _ = _layers(cast(MobileBertForPreTraining, model), teacher, settings, layers, batch, max(layers))
        return terms

    return loss


def word_loss(teacher: MobileBertForPreTraining | None, hard: float, beside: Transfer | None = None) -> Loss:
    """Masked words from the text and, but for `hard`, from the teacher, and whether the second text follows.

    With `beside` all layers are copied at the same time (auxiliary knowledge transfer). Without a teacher the words are
    learned from the text alone.
    """

    def loss(model: nn.Module, batch: Batch) -> Terms:
        student, terms = cast(MobileBertForPreTraining, model), Terms()
        if beside is not None and teacher is not None:
            every = range(1, len(student.encoder.layers) + 1)
            terms, (hidden, of_teacher) = _layers(student, teacher, beside, every, batch, len(every))
        else:
            hidden = student.last(batch)
            of_teacher = _answers(teacher, batch) if teacher is not None and hard < 1 else None
        if teacher is None or hard == 1:
            return terms | text_loss(student, hidden, batch)
        assert of_teacher is not None
        at = positions(batch, "masked", batch["labels"] != IGNORED)
        with torch.no_grad():
            said = teacher.words(at.of(of_teacher))
        of_words = losses.words(student.words(at.of(hidden)), said, at.of(batch["labels"]), at, hard)
        terms["words"], terms["soft_words"] = (mean_over(term, at.count) for term in of_words)
        terms["follows"] = functional.cross_entropy(student.follow(hidden).float(), batch["follows"])
        return terms

    return loss


def text_loss(model: MobileBertForPreTraining, hidden: Tensor, batch: Batch) -> Terms:
    """Masked words and whether the second text follows, from the text alone; `hidden` are the last states [B, L, H]."""
    follow = functional.cross_entropy(model.follow(hidden).float(), batch["follows"])
    return {"words": masked_lm(hidden, batch, model.words), "follows": follow}


@torch.no_grad()
def _answers(teacher: MobileBertForPreTraining, batch: Batch) -> Tensor:
    return teacher.last(batch)


def _layers(
    student: MobileBertForPreTraining, teacher: MobileBertForPreTraining, settings: Transfer,
    layers: Collection[int], batch: Batch, upto: int,
) -> tuple[Terms, tuple[Tensor, Tensor]]:  # fmt: skip
    """The weighted terms, each summed over the layers, and the last states of student and teacher."""
    mask, watched = batch["attention_mask"], layers if settings.weight_attention else ()
    if settings.padding == "counted":
        mask = torch.ones_like(mask)
    every = settings.statistics_of == "all_layers" and bool(settings.weight_mean or settings.weight_variance)
    with torch.no_grad():
        theirs = list(teacher.encoder.walk(batch, len(teacher.encoder.layers) if every else upto, watched))
        of_all = [teacher.encoder.embedded(batch), *(state for state, _ in theirs)] if every else []
    terms = Terms()
    share = 1 / len(student.encoder.layers)

    def add(name: str, weight: float, value: Tensor) -> None:
        terms[name] = terms.get(name, torch.zeros((), device=value.device)) + share * weight * value

    state = theirs[0][0]
    for number, (state, attended) in enumerate(student.encoder.walk(batch, upto, watched), 1):
        if number not in layers:
            continue
        state_t, attended_t = theirs[number - 1]
        if settings.weight_map:
            add("feature_map", settings.weight_map, losses.feature_map(state, state_t, mask))
        if settings.weight_mean or settings.weight_variance:
            others = of_all or [state_t]
            for other in others:
                mean, variance = losses.statistics(state, other, mask)
                add("mean", settings.weight_mean / len(others), mean)
                add("variance", settings.weight_variance / len(others), variance)
        if attended is not None and attended_t is not None:
            add("attention", settings.weight_attention, losses.attention(attended, attended_t, mask))
    terms = {name: mean_over(term, mask.sum()) for name, term in terms.items()}
    return terms, (state, theirs[upto - 1][0])
