"""What a stage of a plan costs: operations, steps, memory and disk, from the sizes of its models and of its data.

Estimates: of a student's size only the ratio to its teacher at paper size is known before it is made, and a stage that
trains nothing (curvatures, new text) counts as one answer of the reference to each row. Recorded runs are counted in
the same way, so that `bench.run.recorded` can say how long such work took.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from bench.core import registry
from bench.core.errors import BenchError
from bench.core.names import JOINT
from bench.measure.within import LENGTH, PROTOCOLS, SHAPES
from bench.models.flops import count, encoder_formula
from bench.models.shape import Shape, all_shapes
from bench.models.size import parameters
from bench.run.plan import Job, Plan, StagePlan
from bench.run.recorded import RecordedStage
from bench.run.teachers import encoder_facts
from bench.train import bounds, checkpoint
from bench.train.recipe import EncoderFacts, Recipe
from bench.train.settings import Settings, training_of

SAVED = 12
"""Bytes that a weight takes in a checkpoint: itself and its two moments."""
FLOAT = 4
ACTIVATIONS = 34
"""Bytes that a token leaves in each layer for each of its hidden numbers (Korthikanti et al. 2022, arXiv 2205.05198v1,
equation 1, without the attention scores); fp32 takes twice as much."""
SCORES = 5
"""The same of the attention, for each head and each other token."""
CHUNK = 256
"""Positions of a soft-target loss that are projected on the vocabulary at a time."""
MASKED = 0.15
"""Share of the tokens that a masked LM projects on the vocabulary."""
ENCODED = 5
"""Bytes of a token of data in memory: its id and its type."""
ROW_TOKENS = 40
"""Of a row of a task that the plan does not read."""
FORWARD = 1 / 3
"""Of a training step, what an answer costs."""
SCORED = 32
"""Rows that are scored at a time, about."""
COUNTED = ("flops", "flops_ratio", "parameters", "parameters_without_embeddings")
"""What a record says of the sizes of its models."""
SAMPLE = 500
"""Rows of a task that are tokenised to know how long its examples are."""


@dataclass(frozen=True, slots=True)
class Size:
    """A model: FLOPs of a token's forward pass, and weights."""

    flops: float
    weights: float


@dataclass(frozen=True, slots=True)
class Cost:
    """A stage: FLOPs, and batches that it trains on; bytes at its peak on the device, and of data in main memory; bytes
    on disk, of what it leaves and of the training that it can resume."""

    flops: float = 0.0
    batches: float = 0.0
    device_bytes: float = 0.0
    host_bytes: float = 0.0
    kept_bytes: float = 0.0
    progress_bytes: float = 0.0


class StageCosts:
    """The costs of a plan's stages."""

    def __init__(self, plan: Plan, narrow: bool):
        self.plan = plan
        self.wide = 1 if narrow else 2
        """Times the bytes of bf16 that an activation has"""
        self._tokens: dict[tuple[str, Any], float] = {}
        self._recipes: dict[str, Recipe | None] = {}

    @cached_property
    def facts(self) -> EncoderFacts:
        """The encoder that is given, or the one that the reference makes."""
        if self.plan.checkpoint:
            return encoder_facts(self.plan.checkpoint)
        made = (job.recipe.makes(job.hyper) for job in self.plan.jobs if job.recipe.makes)
        found = next((facts for facts in made if facts), None)
        if found is None:
            return EncoderFacts(12, 768, 12, 30522)
        inputs = self.plan.inputs
        return replace(found, vocabulary=found.vocabulary or inputs.vocabulary(inputs.synthetic_tokenizer).size)

    @cached_property
    def reference(self) -> Size:
        """The model that everybody starts or learns from."""
        facts = self.facts
        flops = encoder_formula(facts.layers, facts.hidden, 4 * facts.hidden, facts.heads, 1, LENGTH) / LENGTH
        tables = (facts.vocabulary + facts.positions + (facts.types or 0)) * facts.hidden
        return Size(flops, 12 * facts.layers * facts.hidden**2 + tables)

    def size(self, job: Job) -> Size:
        """A job's model: in the ratio that its paper's shape has to the reference's."""
        if job.below is not None:
            return self.size(job.below)
        if job.reference is None or job.base is not None:
            return self.reference
        ratio = self._ratios.get(job.spec.paper, {}).get(self._alike(job), Size(1.0, 1.0))
        return Size(self.reference.flops * ratio.flops, self.reference.weights * ratio.weights)

    def _alike(self, job: Job) -> str:
        """The variant with a shape that this one is, but for changes of its own: the one that shares most changes."""
        known = self._ratios.get(job.spec.paper, {})
        own = dict(job.variant.changes)

        def shared(name: str) -> int:
            changes = job.recipe.variants[name].changes if name in job.recipe.variants else {"": None}
            return len(changes) if changes.items() <= own.items() or name == job.spec.variant else -1

        return max(known, key=shared, default="")

    @cached_property
    def _ratios(self) -> Mapping[str, Mapping[str, Size]]:
        """Paper -> variant -> its size over the reference's, both of them as the papers have them."""
        shapes = all_shapes()
        asked = {job.spec.paper for job in self.plan.jobs}
        main = next((key for key in shapes if key[0] in self._references), None)
        if main is None:
            return {}
        one = _at_paper_size(shapes[main])
        found: dict[str, dict[str, Size]] = {}
        for (paper, variant), shape in shapes.items():
            if paper in asked and shape.build is not None:
                size = _at_paper_size(shape)
                found.setdefault(paper, {})[variant] = Size(size.flops / one.flops, size.weights / one.weights)
        return found

    @property
    def _references(self) -> set[str]:
        return {job.spec.paper for job in self.plan.jobs if job.reference is None}

    def stage(self, job: Job, stage: StagePlan) -> Cost:
        """What making a stage costs, once."""
        student, found = self.size(job), Cost()
        taught = any(plan.stage.asks for plan in job.stages[: job.stages.index(stage) + 1]) and job.base is None
        settings = [getattr(job.hyper, name) for name in stage.stage.uses]
        more = 1 + max((_rounds(one) for one in settings), default=0)
        for one in settings:
            training = training_of(one)
            if training is None:
                continue
            length = getattr(one, "max_length", None) or job.reading.max_length
            tokens, examples = self._data(job, stage, one, length, more)
            each = _of_a_token(student.flops, self.reference.flops, taught)
            if stage.stage.needs == "corpus":
                each += 8 * self.facts.vocabulary * self.facts.hidden  # the head: trained in one, used in the other
            batch = training.batch_tokens or training.batch_size * min(length, tokens / max(1.0, examples))
            found = Cost(
                found.flops + tokens * training.epochs * each,
                found.batches + training.epochs * math.ceil(tokens / max(1.0, batch)),
                max(found.device_bytes, self._peak(student, taught, batch, length, stage)),
                max(found.host_bytes, ENCODED * tokens + (self._corpus_bytes if stage.corpus else 0)),
                progress_bytes=(checkpoint.KEPT + 1) * SAVED * student.weights,
            )
        if not found.batches and stage.stage.needs == "task" and not stage.stage.task_free:
            rows = len(job.inputs.used(job.task, job.task.train))
            found = replace(found, flops=rows * self._mean_length(job) * self.reference.flops)
        kept = FLOAT * student.weights
        if stage.stage.keeps_states:
            kept += FLOAT * len(job.inputs.used(job.task, job.task.train)) * self.facts.layers * self.facts.hidden
        return replace(found, kept_bytes=kept)

    def finish(self, job: Job) -> tuple[float, float]:
        """FLOPs and batches of scoring and timing a finished model, with the one that it is compared with."""
        rows = sum(len(job.inputs.rows(job.task, split)) for split in job.task.scored)
        reference = self.reference.flops if job.reference else None
        return _finish(self.size(job).flops, reference, rows, self._mean_length(job))

    def recorded(self, seen: RecordedStage) -> tuple[float, float]:
        """FLOPs and batches of a recorded stage, counted as those of a plan; none where its recipe is gone."""
        record, entry = seen.record, seen.entry
        values = {one.metric: one.value or 0.0 for one in record.measurements if one.metric in COUNTED}
        student, ratio = values.get("flops", 0.0) / LENGTH, values.get("flops_ratio")
        reference, rows = student / ratio if ratio else student, record.data.rows if record.data else {}
        length = next((self._mean_length(job) for job in self.plan.jobs if job.task.name == seen.task), ROW_TOKENS)
        if entry is None:
            scored = sum(count for split, count in rows.items() if split not in ("train", "unlabelled"))
            return _finish(student, reference if ratio else None, scored, length)
        recipe = self._recipe(seen.paper)
        variant = recipe.variants.get(seen.variant.rpartition(JOINT)[2]) if recipe else None  # of a stack the upper one
        stages = variant.stages if variant else ()
        names = [stage.name for stage in stages]
        if seen.stage not in names:
            return 0.0, 0.0
        stage = stages[names.index(seen.stage)]
        if not entry.steps:
            reads = stage.needs == "task" and not stage.task_free
            return (rows.get("train", 0) * length * reference if reads else 0.0), 0.0
        based = recipe is not None and recipe.base is not None
        taught = any(one.asks for one in stages[: names.index(seen.stage) + 1]) and not based
        each, tokens = _of_a_token(student, reference, taught), entry.examples * length
        epochs, accumulation = next(filter(None, (_trained(record.hyper.get(name)) for name in stage.uses)), (1, 1))
        if entry.corpus_tokens:
            tokens = entry.corpus_tokens * epochs
        if stage.needs == "corpus":
            each += 8 * max(0.0, values.get("parameters", 0.0) - values.get("parameters_without_embeddings", 0.0))
        return tokens * each, entry.steps * accumulation

    def _recipe(self, paper: str) -> Recipe | None:
        """The recipe of a recorded paper; None where it is gone."""
        if paper not in self._recipes:
            try:
                self._recipes[paper] = registry.load_recipe(paper)
            except BenchError:
                self._recipes[paper] = None
        return self._recipes[paper]

    def _data(
        self, job: Job, stage: StagePlan, settings: Settings, length: int, more: int
    ) -> tuple[float, float]:  # fmt: skip
        """Tokens and examples of one pass."""
        if not stage.corpus:
            rows = len(job.inputs.used(job.task, job.task.train)) * more
            return rows * self._mean_length(job), rows
        asked = getattr(settings, "corpus_tokens", 0)
        tokens = min(asked, self._corpus_bytes / 4) if self._corpus_bytes else asked  # 4 letters a word piece, or more
        return tokens, tokens / length

    @cached_property
    def _corpus_bytes(self) -> float:
        return float(self.plan.inputs.corpus_bytes)

    def _mean_length(self, job: Job) -> float:
        """Tokens of an example of the task, of the first rows."""
        key = job.task.name, job.reading
        if key not in self._tokens:
            self._tokens[key] = job.inputs.mean_length(job.task, job.reading, SAMPLE)
        return self._tokens[key]

    def _peak(self, student: Size, taught: bool, batch: float, length: int, stage: StagePlan) -> float:
        """Bytes on the device while a stage trains, a batch of so many tokens at a time."""
        facts = self.facts
        depth = facts.layers * math.sqrt(student.flops / self.reference.flops)  # between fewer layers and narrower ones
        layers = depth * (ACTIVATIONS * facts.hidden + SCORES * facts.heads * min(length, batch))
        found = bounds.BYTES * student.weights + self.wide * batch * layers
        if taught:  # it keeps no activation but the one at hand
            found += FLOAT * self.reference.weights + self.wide * batch * layers / max(1.0, depth)
        if stage.corpus:
            found += facts.vocabulary * FLOAT * (3 * MASKED * batch + 6 * CHUNK)
        return found


def _at_paper_size(shape: Shape) -> Size:
    """FLOPs of a token, and weights, counted on a model without memory."""
    assert shape.build is not None
    with torch.device("meta"):
        model: nn.Module = shape.build().eval()
    flops = shape.flops(1, LENGTH) if shape.flops else count(model, 1, LENGTH)
    return Size(flops / LENGTH, parameters(model))


def _of_a_token(student: float, reference: float, taught: bool) -> float:
    """FLOPs of training on a token: forward and twice backward, and the teacher's answer."""
    return 3 * student + (reference if taught else 0)


def _finish(student: float, reference: float | None, rows: float, length: float) -> tuple[float, float]:
    """FLOPs and batches of scoring so many rows, and of timing the model, its reference and the reference's twin."""
    turns, models = student + 2 * (reference if reference is not None else student / 2), 3 if reference else 2
    calls = [protocol.warmup + protocol.rounds * protocol.calls_per_round for protocol in PROTOCOLS.values()]
    timed = sum(batch * LENGTH * count for batch, count in zip(SHAPES.values(), calls, strict=True))
    return rows * length * student + timed * turns, FORWARD * (rows / SCORED + sum(calls) * models)


def _trained(settings: Any) -> tuple[int, int] | None:
    """Epochs and accumulation of a training among the settings of a record."""
    found = settings if not isinstance(settings, Mapping) or "epochs" in settings else settings.get("training")
    if not isinstance(found, Mapping):
        return None
    epochs, accumulation = found.get("epochs"), found.get("accumulation", 1)
    return (epochs, accumulation) if isinstance(epochs, int) and isinstance(accumulation, int) else None


def _rounds(settings: object) -> int:
    """How many new rows are made of each, as far as the settings say so."""
    if not isinstance(settings, Settings) or not getattr(settings, "use", True):
        return 0
    found = getattr(settings, "augmentation", 0)
    return found if isinstance(found, int) else 0
