"""Q-BERT (Shen et al. 2020, arXiv 1909.05840v2): a fine-tuned BERT trained on while its weights take a few bits.

    bench run small --paper qbert --variant qbert-mp23 --teacher FOLDER --data FOLDER --task sst2

The layers' bits follow the curvature of the loss. The trained model is also written as a file of packed bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bench.core.errors import ModelError
from bench.models import load
from bench.models.load import Checkpoint
from bench.models.outputs import moved
from bench.train.losses import supervised
from bench.train.recipe import Context, Packing, Recipe, Stage, State, TeacherFacts
from bench.train.tuning import fine_tune_on_task
from papers.qbert import packed, settings
from papers.qbert.hessian import landscape, sensitivity, subset_batches, top_vectors
from papers.qbert.quantize import FLOAT_BITS, Bert, Scheme, quantized_weights
from papers.qbert.settings import Hyper
from papers.qbert.student import QBert, from_float

TASKS = ("sst2", "mnli", "squad", "conll2003", "cola", "mrpc", "stsb", "qqp", "qnli", "rte")
"""SST-2, MNLI, SQuAD and CoNLL-2003 are the paper's; the others cost nothing more to offer."""


def check(variant: str, chosen: Hyper, teacher: TeacherFacts | None, released: Checkpoint | None) -> None:
    """Refuse what cannot run; see `papers.qbert.settings`. Raises: SpecError."""
    settings.check(variant, chosen, teacher)


def start_from_teacher(state: State, hyper: Hyper, ctx: Context) -> State:
    """The fine-tuned BERT: Q-BERT has no other student. Raises: ModelError for one that is not of this task."""
    teacher, outputs = ctx.fine_tuned_teacher(), ctx.task.outputs
    wanted = load.BERT_HEADS[ctx.task.kind]
    if not isinstance(teacher, wanted) or teacher.config.num_labels != outputs:
        raise ModelError("the model to quantise is not fine-tuned on the task", where=ctx.task.name,
                         found=type(teacher).__name__, expected=f"a {wanted.__name__} of {outputs} outputs",
                         fix="fine-tune it first")  # fmt: skip
    return State({"model": teacher})


def measure_sensitivity(state: State, hyper: Hyper, ctx: Context) -> State:
    """How much the loss bends in each layer, over random parts of the training rows.

    Leaves as facts, per layer: its omega, the eigenvalue of each part, and their relative residuals.
    Raises: ModelError and TrainError as `sensitivity` does. Source: arXiv 1909.05840v2, section 3.1; D7 and D10.
    """
    model = moved(state.model, ctx.device)
    assert isinstance(model, Bert)
    rows, sensing = ctx.train_rows(hyper.max_length, hyper.windows), hyper.sensing
    loss = supervised(ctx.task.kind)
    found = sensitivity(model, loss, rows, ctx.vocabulary.pad, sensing, ctx.seed)
    facts = {
        "sensitivity": {f"layer{i}": [one.omega] for i, one in enumerate(found)},
        "eigenvalue": {f"layer{i}": list(one.values) for i, one in enumerate(found)},
        "residual": {f"layer{i}": list(one.residuals) for i, one in enumerate(found)},
    }
    if sensing.landscape_points:
        top = max(range(len(found)), key=lambda i: found[i].omega)
        batches = subset_batches(rows, ctx.vocabulary.pad, sensing, ctx.device, ctx.seed, 0)
        _, directions = top_vectors(model, loss, batches, top, tolerance=sensing.tolerance,
                                    max_steps=sensing.max_steps, seed=ctx.seed)  # fmt: skip
        around = landscape(model, loss, batches, top, directions, radius=sensing.landscape_radius,
                           points=sensing.landscape_points)  # fmt: skip
        facts["landscape"] = {f"layer{top}": [float(f"{value:.5g}") for value in around.loss.flat]}
    return State(state.models, {**state.facts, **facts})


def train_quantised(state: State, hyper: Hyper, ctx: Context) -> State:
    """Training of the rounded model on the task's own loss, from the fine-tuned weights.

    Raises: SpecError where the bits or groups do not fit the model. Schedules: D11.
    """
    float_model = state.model
    assert isinstance(float_model, Bert)
    layers = len(float_model.bert.encoder.layer)
    omega = [state.facts["sensitivity"][f"layer{i}"][0] if hyper.bits.low else 0.0 for i in range(layers)]
    bits = settings.assigned(hyper.bits, omega, ctx.seed)
    told = {**state.facts, "bits": {f"layer{i}": [b] for i, b in enumerate(bits)}}
    if hyper.schedule == "joint":
        model = from_float(float_model, _scheme(hyper, bits))
        fine_tune_on_task(model, hyper.max_length, hyper.training, ctx, hyper.windows)
        return State({"model": model}, told)
    # Progressive: before each pass one more layer is rounded, and the weights go on from where the last pass left them.
    model = float_model
    done: set[int] = set()
    for layer in _by_damage(float_model, state.facts, hyper, bits):
        done.add(layer)
        so_far = tuple(b if i in done else FLOAT_BITS for i, b in enumerate(bits))
        model = from_float(model, _scheme(hyper, so_far))
        fine_tune_on_task(model, hyper.max_length, hyper.training, ctx, hyper.windows)
    return State({"model": model}, told)


def _scheme(hyper: Hyper, bits: tuple[int, ...]) -> Scheme:
    return Scheme(layers=bits, **hyper.quantiser.model_dump())


def _by_damage(model: Bert, facts: Mapping[str, Any], hyper: Hyper, bits: tuple[int, ...]) -> list[int]:
    """The layers by |mean eigenvalue| * ||W - Q(W)||^2, largest first: the order of the released code.

    Without eigenvalues (all layers have the same bits) by the distance alone.
    """
    with torch.no_grad():
        weights = quantized_weights(from_float(model, _scheme(hyper, bits)))
        moved_by = [0.0] * len(bits)
        for name, (weight, rounding) in weights.items():
            if ".encoder.layer." in name:
                layer = int(name.split(".encoder.layer.")[1].split(".")[0])
                moved_by[layer] += float((rounding(weight) - weight).square().sum())
    values = [facts["eigenvalue"][f"layer{i}"] for i in range(len(bits))] if "eigenvalue" in facts else None
    bends = [abs(sum(v) / len(v)) for v in values] if values else [1.0] * len(bits)
    return sorted(range(len(bits)), key=lambda i: -bends[i] * moved_by[i])


def _pack(model: Any, folder: Any) -> Mapping[str, int]:
    """Write the packed file; what its bytes are, and what the paper's arithmetic says."""
    assert isinstance(model, QBert)
    size = packed.export(model, model.scheme, folder)
    return {"packed-file": size.file, "packed-codes": size.codes, "packed-ranges": size.ranges,
            "packed-floats": size.floats, "packed-formula": size.formula}  # fmt: skip


_SENSE = Stage(measure_sensitivity, uses=("sensing", "max_length", "windows"), teacher="fine_tuned")
_START = Stage(start_from_teacher, uses=(), teacher="fine_tuned")
_TRAIN = Stage(train_quantised, uses=("bits", "quantiser", "schedule", "training", "max_length", "windows"))


def stages(variant: str, teacher: TeacherFacts | None) -> tuple[Stage, ...]:
    """The method's table of contents."""
    return (_START, _SENSE, _TRAIN) if settings.is_mixture(variant) else (_START, _TRAIN)


RECIPE = Recipe(
    name="qbert",
    variants={
        "qbert-mp23": "3 bits for the half of the layers that is most sensitive, 2 for the rest; 128 groups a matrix",
        "qbert-mp24": "4 and 2 bits, the same",
        "qbert-w8": "8 bits in every layer",
        "qbert-w4": "4 bits in every layer",
        "qbert-w3": "3 bits in every layer",
        "qbert-w2": "2 bits in every layer",
        "qbert-mp23-rev": "3 bits for the least sensitive half (the paper's control)",
        "qbert-mp23-random": "3 bits for a half drawn at random (our control)",
        "directq-w4": "4 bits, one group a matrix: the baseline",
        "directq-w3": "3 bits, one group a matrix",
        "directq-w2": "2 bits, one group a matrix",
        "qbert-w4-g1": "4 bits, 1 group a matrix (Table 2)",
        "qbert-w4-g12": "4 bits, 12 groups (Table 2)",
        "qbert-w4-g768": "4 bits, 768 groups (Table 2)",
        "qbert-w4-e4": "4 bits, embeddings at 4 bits too",
    },
    tasks=TASKS,
    smoke_tasks=("sst2",),
    hyper=settings.hyper,
    stages=stages,
    teacher="bert",
    check=check,
    packing=Packing(_pack, packed.load, packed.load_plain),
)
