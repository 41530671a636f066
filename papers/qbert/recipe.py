"""Q-BERT (Shen et al. 2020, arXiv 1909.05840v2): a fine-tuned model trained on while its weights take a few bits.

    bench run small --paper qbert --variant qbert-mp23 --teacher FOLDER --data FOLDER --task sst2

The layers' bits follow the curvature of the loss. The trained model is also written as a file of packed bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from bench.core.errors import ModelError
from bench.models import load
from bench.models.load import Checkpoint
from bench.train.losses import supervised
from bench.train.recipe import Context, EncoderFacts, Form, Further, Recipe, Stage, State, Variant
from bench.train.tuning import fine_tune_on_task
from papers.qbert import packed, settings
from papers.qbert.hessian import landscape, sensitivity, subset_batches, top_vectors
from papers.qbert.quantize import layers, quantized_weights
from papers.qbert.scheme import FLOAT_BITS, Scheme
from papers.qbert.settings import Hyper
from papers.qbert.student import QuantizedModel, from_float

TASKS = ("sst2", "mnli", "squad", "conll2003", "cola", "mrpc", "stsb", "qqp", "qnli", "rte")
"""SST-2, MNLI, SQuAD and CoNLL-2003 are the paper's; the others cost nothing more to offer."""


def check(variant: Variant, chosen: Hyper, encoder: EncoderFacts | None, released: Checkpoint | None) -> None:
    """Refuse what cannot run; see `papers.qbert.settings`. Raises: SpecError."""
    assert encoder is not None, "the base is known when the plan is made"
    settings.check(variant, chosen, encoder)


def start_from_base(state: State, hyper: Hyper, ctx: Context) -> State:
    """The finished model of another paper: Q-BERT has no student of its own.

    Raises: ModelError for one that is not of this task, or has no parts that can be quantised.
    """
    base, outputs, kind = ctx.base(), ctx.task.outputs, ctx.task.kind
    name = type(base).__name__
    # A paper's own module may have any name; one of transformers says in its name what it answers.
    answers = kind in load.kinds_of(name) or not (load.kinds_of(name) or isinstance(base, PreTrainedModel))
    if not answers or getattr(getattr(base, "config", None), "num_labels", outputs) != outputs:
        raise ModelError("the model to quantise is not fine-tuned on the task", where=ctx.task.name, found=name,
                         expected=f"a model that answers a task of kind {kind} with {outputs} outputs",
                         fix="fine-tune it first")  # fmt: skip
    layers(base)
    return state.having(base)


def measure_sensitivity(state: State, hyper: Hyper, ctx: Context) -> State:
    """How much the loss bends in each layer, over random parts of the training rows.

    Leaves as facts, per layer: its omega, the eigenvalue of each part, and their relative residuals.
    Raises: ModelError and TrainError as `sensitivity` does. Source: arXiv 1909.05840v2, section 3.1; D7 and D10.
    """
    model = state.model.to(ctx.device)
    rows, sensing = ctx.train_rows(hyper.max_length, hyper.windows), hyper.sensing
    loss = supervised(ctx.task.kind)
    found = sensitivity(model, loss, rows, sensing, ctx.seed)
    facts = {
        "sensitivity": {f"layer{i}": [one.omega] for i, one in enumerate(found)},
        "eigenvalue": {f"layer{i}": list(one.values) for i, one in enumerate(found)},
        "residual": {f"layer{i}": list(one.residuals) for i, one in enumerate(found)},
    }
    if sensing.landscape_points:
        top = max(range(len(found)), key=lambda i: found[i].omega)
        batches = subset_batches(rows, sensing, ctx.device, ctx.seed, 0)
        _, directions = top_vectors(model, loss, batches, top, tolerance=sensing.tolerance,
                                    max_steps=sensing.max_steps, seed=ctx.seed)  # fmt: skip
        around = landscape(model, loss, batches, top, directions, radius=sensing.landscape_radius,
                           points=sensing.landscape_points)  # fmt: skip
        facts["landscape"] = {f"layer{top}": [float(f"{value:.5g}") for value in around.loss.flat]}
    return state.having(state.model, **facts)


def train_quantised(state: State, hyper: Hyper, ctx: Context) -> State:
    """Training of the rounded model on the task's own loss, from the fine-tuned weights.

    Raises: SpecError where the bits do not fit the model. Schedules: D11.
    """
    model, count = state.model, len(layers(state.model))
    omega = [state.facts["sensitivity"][f"layer{i}"][0] if hyper.bits.low else 0.0 for i in range(count)]
    bits = settings.assigned(hyper.bits, omega, ctx.seed)
    steps = [bits]
    if hyper.schedule == "progressive":
        # Before each pass one more layer is rounded, and the weights go on from where the last pass left them.
        order = _by_damage(model, state.facts, hyper, bits)
        steps = [tuple(b if i in order[: n + 1] else FLOAT_BITS for i, b in enumerate(bits)) for n in range(count)]
    rows = ctx.train_rows(hyper.max_length, hyper.windows)
    for step in steps:
        model = from_float(model, _scheme(hyper, step))
        fine_tune_on_task(model, rows, hyper.training, ctx)
    return state.having(model, bits={f"layer{i}": [b] for i, b in enumerate(bits)})


def _scheme(hyper: Hyper, bits: tuple[int, ...]) -> Scheme:
    return Scheme(layers=bits, **hyper.quantiser.model_dump())


def _by_damage(model: nn.Module, facts: Mapping[str, Any], hyper: Hyper, bits: tuple[int, ...]) -> list[int]:
    """The layers by |mean eigenvalue| * ||W - Q(W)||^2, largest first: the order of the released code.

    Without eigenvalues (all layers have the same bits) by the distance alone.
    """
    with torch.no_grad():
        moved_by = [
            sum(
                float((rounding(weight) - weight).square().sum())
                for weight, rounding in quantized_weights(layer).values()
            )
            for layer in layers(from_float(model, _scheme(hyper, bits)).model)
        ]
    values = [facts["eigenvalue"][f"layer{i}"] for i in range(len(bits))] if "eigenvalue" in facts else None
    bends = [abs(sum(v) / len(v)) for v in values] if values else [1.0] * len(bits)
    return sorted(range(len(bits)), key=lambda i: -bends[i] * moved_by[i])


def write_packed(model: nn.Module, folder: Path) -> Mapping[str, int]:
    """Write the packed file; what its bytes are, and what the paper's arithmetic says."""
    assert isinstance(model, QuantizedModel)
    size = packed.export(model.model, model.scheme, folder)
    return {"packed-file": size.file, "packed-codes": size.codes, "packed-ranges": size.ranges,
            "packed-floats": size.floats, "packed-formula": size.formula}  # fmt: skip


_START = Stage(start_from_base, uses=(), asks=("base",))
_SENSE = Stage(measure_sensitivity, uses=("sensing", "max_length", "windows"))
_TRAIN = Stage(train_quantised, uses=("bits", "quantiser", "schedule", "training", "max_length", "windows"))


def _uniform(says: str, bits: int, **quantiser: int) -> Variant:
    """The same bits in every layer; `quantiser` names what else is not as usual."""
    changes = {f"quantiser.{name}": value for name, value in quantiser.items()}
    return Variant(says, (_START, _TRAIN), {"bits.high": bits, **changes})


def _mixture(says: str, high: int, low: int, **bits: str) -> Variant:
    """More bits for half of the layers, which takes sensitivities; `bits` names another order."""
    changes = {f"bits.{name}": value for name, value in bits.items()}
    return Variant(says, (_START, _SENSE, _TRAIN), {"bits.high": high, "bits.low": low, **changes})


_ONE_GROUP = {"groups": 1, "embedding_groups": 1}

RECIPE = Recipe(
    name="qbert",
    variants={
        "qbert-mp23": _mixture(
            "3 bits for the half of the layers that is most sensitive, 2 for the rest; 128 groups a matrix", 3, 2
        ),
        "qbert-mp24": _mixture("4 and 2 bits, the same", 4, 2),
        "qbert-w8": _uniform("8 bits in every layer", 8),
        "qbert-w4": _uniform("4 bits in every layer", 4),
        "qbert-w3": _uniform("3 bits in every layer", 3),
        "qbert-w2": _uniform("2 bits in every layer", 2),
        "qbert-mp23-rev": _mixture("3 bits for the least sensitive half (the paper's control)", 3, 2, order="reversed"),
        "qbert-mp23-random": _mixture("3 bits for a half drawn at random (our control)", 3, 2, order="random"),
        "directq-w4": _uniform("4 bits, one group a matrix: the baseline", 4, **_ONE_GROUP),
        "directq-w3": _uniform("3 bits, one group a matrix", 3, **_ONE_GROUP),
        "directq-w2": _uniform("2 bits, one group a matrix", 2, **_ONE_GROUP),
        "qbert-w4-g1": _uniform("4 bits, 1 group a matrix (Table 2)", 4, groups=1),
        "qbert-w4-g12": _uniform("4 bits, 12 groups (Table 2)", 4, groups=12),
        "qbert-w4-g768": _uniform("4 bits, 768 groups (Table 2)", 4, groups=768),
        "qbert-w4-e4": _uniform("4 bits, embeddings at 4 bits too", 4, word=4, position=4, token_type=4),
    },
    tasks=TASKS,
    smoke_tasks=("sst2",),
    hyper=settings.hyper,
    base="bert",
    check=check,
    further=Further(
        write_packed,
        (Form("packed", packed.load), Form("int8", packed.load_plain, int8=True)),
        usage='from pathlib import Path\nfrom papers.qbert import packed\nmodel = packed.load(Path("FOLDER"))',
    ),
)
