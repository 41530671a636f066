"""The rows that a student is trained on: the one place where augmentation enters."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from bench.data.batches import Encoded
from bench.train.augmentation.augment import Augmentation
from bench.train.augmentation.shards import Augmented, augmented
from bench.train.mlm import HeadTraining, with_lm_head
from bench.train.recipe import Context, State

SEED = 0
"""Of the augmentation: the authors made one set of rows, which all runs share."""


class Augmenting(Protocol):
    """What a paper's settings have where it augments its rows."""

    @property
    def head(self) -> HeadTraining: ...
    @property
    def augmentation(self) -> Augmentation: ...
    @property
    def max_length(self) -> int: ...


def prepare_words(state: State, hyper: Augmenting, ctx: Context) -> State:
    """The pre-trained teacher as a masked LM, which guesses words; a head is trained where it has none."""
    words, facts = with_lm_head(ctx.teacher(), hyper.head, ctx)
    return State({"words": words}, facts)


def augment_rows(state: State, hyper: Augmenting, ctx: Context) -> State:
    """The task's rows with some of their words replaced; kept on disk, shared by all seeds.

    Raises: DataError, SpecError and DeviceError as `bench.train.augmentation.shards.augmented` does.
    """
    if not hyper.augmentation.use:
        return state
    made = _augmented(state, hyper, ctx)
    return replace(state, facts={**state.facts, "rows": made.originals, "augmented_rows": made.rows})


def rows(state: State, hyper: Augmenting, ctx: Context) -> Encoded:
    """The task's rows and those made of them, or the task's own where augmentation is off. Raises as `augment_rows`."""
    if not hyper.augmentation.use:
        return ctx.train_rows(hyper.max_length)
    return ctx.encode(_augmented(state, hyper, ctx).texts(), hyper.max_length)


def _augmented(state: State, hyper: Augmenting, ctx: Context) -> Augmented:
    return augmented(ctx.train_texts(), hyper.augmentation, ctx.tokenizer, state.models["words"], SEED,
                     ctx.kept("augmented"), device=ctx.device)  # fmt: skip
