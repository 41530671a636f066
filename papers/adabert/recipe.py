"""AdaBERT (Chen et al. 2020, arXiv 2001.04246v2): a small convolutional network, searched for each task.

    bench run small --paper adabert --teacher FOLDER --data FOLDER --corpus FOLDER --task sst2 --seeds 5
    bench run small --variant adabert-random --variant adabert-no-kd ...
    bench run smoke --paper adabert

The authors released no code of their experiments; a rewrite by their group in TensorFlow is cited as the released code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bench.core.errors import SpecError
from bench.data.batches import Batch, Batches, Encoded, WithLogits
from bench.models.load import Checkpoint
from bench.models.outputs import inputs
from bench.train.augmentation.augment import check_word_vectors
from bench.train.augmentation.rows import augment_rows, prepare_words, rows
from bench.train.losses import soft_cross_entropy, task_loss
from bench.train.recipe import Context, EncoderFacts, Recipe, Stage, State, Variant
from bench.train.settings import Group, Training
from bench.train.teacher import fine_tuned_bert
from papers.adabert import probes, settings, student
from papers.adabert.losses import probe_knowledge
from papers.adabert.names import LENT, OPERATIONS, TASKS
from papers.adabert.search import SearchNetwork, Tables, Taught, network_of
from papers.adabert.settings import Hyper, Knowledge
from papers.adabert.structure import Space, Structure, at_random, derived, only, read, whole
from papers.adabert.student import AdaBertForSequenceClassification


def check(variant: Variant, chosen: Hyper, encoder: EncoderFacts | None, released: Checkpoint | None) -> None:
    """Refuse, before anything runs, another teacher than a BERT, and files that are not what they are said to be.

    Raises: ModelError for the teacher and for a structure outside the search space; SpecError and DataError for files,
    and for an origin of the structure that is not the variant's.
    """
    if encoder is not None:
        encoder.expect("bert")
    if chosen.augmentation.use:
        check_word_vectors(chosen.augmentation)
    if chosen.search.steps == "alternating" and chosen.search.training.accumulation > 1:
        raise SpecError("weights and structure move in turn, batch by batch", where="search.training.accumulation",
                        found=chosen.search.training.accumulation, expected="1 with search.steps=alternating",
                        fix="--set search.training.accumulation=1, or search.steps=joint")  # fmt: skip
    where, planned = chosen.architecture, variant.changes.get("architecture.origin", "searched")
    if where.origin == "file":
        read(Path(where.file).expanduser(), where.sha256)
    elif where.file or where.sha256:
        raise SpecError("a file of a structure is named and not read", where="architecture.file", found=where.origin,
                        fix="add --set architecture.origin=file")  # fmt: skip
    elif where.origin != planned:
        raise SpecError("the origin of the structure belongs to the variant", where="architecture.origin",
                        found=where.origin, expected=f"{planned}, or file", fix="choose another variant")  # fmt: skip


def train_probes(state: State, hyper: Hyper, ctx: Context) -> State:
    """A softmax classifier on each layer of the fine-tuned teacher, which stays as it is, on the task's own rows.

    Raises: ModelError for a teacher that is not fine-tuned on the task. Source: section 3.2; D2.
    """
    every = ctx.train_rows(hyper.max_length)
    seen = every.between(0, min(len(every), hyper.probes.rows))
    found, right = probes.trained(ctx, seen, hyper.probes.training)
    return State({**state.models, "teacher_probes": found}, {**state.facts, "probe_accuracy": right})


def search(state: State, hyper: Hyper, ctx: Context) -> State:
    """The structure and its weights, found together on the task. Source: sections 3.3 and 3.4.

    Raises: TrainError for a search that collapsed.
    """
    return _trained(state, whole(hyper.student.max_cells), hyper, ctx)


def train_random(state: State, hyper: Hyper, ctx: Context) -> State:
    """A structure drawn at random by the seed, its weights trained by as many steps as a search takes (Table 3)."""
    return _trained(state, only(at_random(ctx.seed, hyper.student.max_cells)), hyper, ctx)


def train_lent(state: State, hyper: Hyper, ctx: Context) -> State:
    """The structure that was searched on another task, new weights trained by as many steps (Table 3)."""
    lent = ctx.lent()
    assert isinstance(lent, AdaBertForSequenceClassification), "it borrows from a run of this paper"
    return _trained(state, only(student.genotype(lent.config)), hyper, ctx)


def train_read(state: State, hyper: Hyper, ctx: Context) -> State:
    """The structure in a file, new weights trained by as many steps. Raises: as `check`."""
    where = hyper.architecture
    return _trained(state, only(read(Path(where.file).expanduser(), where.sha256)), hyper, ctx)


def _trained(state: State, space: Space, hyper: Hyper, ctx: Context) -> State:
    """Train a network over a space; leave the plain network of its likeliest structure, and the probes on its cells."""
    chosen = hyper.search
    batches = _batches(state, rows(state, hyper, ctx), chosen.training, hyper, ctx)
    passes = sum(len(batches.order(epoch)) for epoch in range(chosen.training.epochs))
    network = _network(space, passes, hyper, ctx)
    knowledge = _task_loss(hyper.knowledge)

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        answers, price = model(**inputs(model, batch))
        terms: dict[str, Tensor] = {}
        for answer in answers:
            for name, value in knowledge(answer.logits, batch).items():
                terms[name] = terms.get(name, 0.0) + answer.weight * value
        return terms | ({"efficiency": chosen.beta * price} if chosen.beta else {})

    ctx.fit(network, loss, batches, chosen.training, [Group(match="structure.*", rate=chosen.architecture_rate)])
    genotype, guarded = derived(network.structure)
    found = network_of(network, genotype, ctx.task)
    return State(
        {**_kept(state), "model": found, "student_probes": network.body.probes},
        {**state.facts, **_findings(network.structure, found, guarded)},
    )


def _network(space: Space, passes: int, hyper: Hyper, ctx: Context) -> SearchNetwork:
    tables = Tables.of(fine_tuned_bert(ctx))
    return SearchNetwork(space, tables, len(ctx.task.labels), len(ctx.task.columns) > 1, hyper.student, hyper.search,
                         passes)  # fmt: skip


def _kept(state: State) -> dict[str, nn.Module]:
    return {name: model for name, model in state.models.items() if name != "model"}


def _findings(structure: Structure, found: AdaBertForSequenceClassification, guarded: int) -> dict[str, Any]:
    """The structure as numbers for the record, what it costs at the paper's size, and how sure the search was of it."""
    (edges, depth), genotype = structure.chances(), student.genotype(found.config)
    paper = student.config(genotype, found.config.pair, num_labels=found.config.num_labels)
    names = [(f"node{i + 1}-edge{j + 1}", edge) for i, node in enumerate(genotype.nodes) for j, edge in enumerate(node)]
    unsure = [-sum(p * math.log(p) for p in chances if p > 0) / math.log(len(chances))
              for chances in (*edges, depth) if len(chances) > 1]  # fmt: skip
    return {
        "cells": {"found": [genotype.cells]},
        "edge_source": {name: [edge.source] for name, edge in names},
        "edge_operation": {name: [OPERATIONS.index(edge.operation)] for name, edge in names},
        "guarded_nodes": {"found": [guarded]},
        "searched": {"parameters": [student.parameters(found.config)]},
        "paper_parameters": {"found": [student.parameters(paper)]},
        "paper_flops": {"batch1-length128": [student.flops(paper, 1, 128)]},
    } | ({"entropy": {"structure": unsure}} if unsure else {})


def retrain(state: State, hyper: Hyper, ctx: Context) -> State:
    """The network of the structure, trained on; the probes on its cells are left behind. Source: section 4.1; D7."""
    network, heads = state.model, state.models["student_probes"]
    assert isinstance(network, AdaBertForSequenceClassification) and isinstance(heads, probes.Probes)
    chosen = hyper.retrain
    if chosen.start == "scratch":
        genotype = student.genotype(network.config)
        fresh = _network(only(genotype), 1, hyper, ctx)
        network, heads = network_of(fresh, genotype, ctx.task), fresh.body.probes
    knowledge = _task_loss(hyper.knowledge)

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return knowledge(model(**inputs(model, batch)), batch)

    batches = _batches(state, rows(state, hyper, ctx), chosen.training, hyper, ctx)
    ctx.fit(Taught(network, heads), loss, batches, chosen.training)
    return State({"model": network}, state.facts)


def _batches(state: State, examples: Encoded, training: Training, hyper: Hyper, ctx: Context) -> Batches:
    """Batches with what the teacher says of them, made once for all rows: by its probes, or itself."""
    knowledge = hyper.knowledge
    if not knowledge.gamma:
        return ctx.batches(examples, training)
    if knowledge.source == "logits":
        return ctx.batches(examples, training, WithLogits(ctx.teacher_logits(examples)))
    found = state.models["teacher_probes"]
    assert isinstance(found, probes.Probes)
    return ctx.batches(examples, training, WithLogits(probes.answers(ctx, examples, found)))


def _task_loss(knowledge: Knowledge) -> Callable[[list[Tensor], Batch], dict[str, Tensor]]:
    """(1 - gamma) L_CE + gamma L_KD of the logits of each cell, those of the network last (section 3.4)."""
    gamma, heat = knowledge.gamma, knowledge.temperature

    def loss(layers: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        if gamma < 1:
            terms["labels"] = (1 - gamma) * task_loss(layers[-1], batch["labels"], regression=False)
        if gamma and knowledge.source == "logits":
            terms["knowledge"] = gamma * soft_cross_entropy(layers[-1], batch["teacher_logits"], heat).mean()
        elif gamma:
            said = batch["teacher_logits"].unflatten(1, (-1, layers[-1].shape[1]))
            terms["knowledge"] = gamma * probe_knowledge(layers, said, batch["labels"], heat, knowledge.weights)
        return terms

    return loss


def _probed(hyper: Hyper) -> bool:
    return hyper.knowledge.gamma > 0 and hyper.knowledge.source == "probes"


def _augmented(hyper: Hyper) -> bool:
    return hyper.augmentation.use


_ROWS = ("knowledge", "augmentation", "max_length")
_SEARCH = ("student", "architecture", "search", *_ROWS)


def _when(origin: str) -> Callable[[Hyper], bool]:
    return lambda hyper: hyper.architecture.origin == origin


STAGES = (
    Stage(prepare_words, uses=("head",), task_free=True, needs="lm_head", asks=("pretrained",), when=_augmented),
    Stage(train_probes, uses=("probes", "max_length"), asks=("fine_tuned",), when=_probed, keeps_states=True),
    Stage(augment_rows, uses=("augmentation",), when=_augmented),
    Stage(search, uses=_SEARCH, asks=("fine_tuned",), when=_when("searched")),
    Stage(train_random, uses=_SEARCH, asks=("fine_tuned",), when=_when("random")),
    Stage(train_lent, uses=_SEARCH, asks=("fine_tuned", "lent"), when=_when("lent")),
    Stage(train_read, uses=_SEARCH, asks=("fine_tuned",), when=_when("file")),
    Stage(retrain, uses=("student", "search", "retrain", *_ROWS), asks=("fine_tuned",)),
)
"""The method's table of contents; a run has those of its settings."""

RECIPE = Recipe(
    name="adabert",
    variants={
        "adabert": Variant("searched on its task: labels, knowledge and efficiency, augmented rows", STAGES),
        "adabert-beta-0": Variant("without the price of the structure (Table 5)", STAGES, {"search.beta": 0.0}),
        "adabert-beta-8": Variant("with twice the price of the structure (Table 5)", STAGES, {"search.beta": 8.0}),
        "adabert-base-kd": Variant(
            "the teacher's logits alone: no probes, no labels, no augmentation (Table 4)", STAGES,
            {"knowledge.gamma": 1.0, "knowledge.source": "logits", "augmentation.use": False}),
        "adabert-probe": Variant(
            "knowledge by probes; no labels, no augmentation (Table 4)", STAGES,
            {"knowledge.gamma": 1.0, "augmentation.use": False}),
        "adabert-probe-da": Variant(
            "knowledge by probes on augmented rows; no labels (Table 4)", STAGES, {"knowledge.gamma": 1.0}),
        "adabert-no-kd": Variant(
            "labels and efficiency alone; of the teacher only its tables, and the new rows (ours)", STAGES,
            {"knowledge.gamma": 0.0}),
        "adabert-scratch": Variant(
            "the structure that was searched, with new weights (ours)", STAGES, {"retrain.start": "scratch"}),
        "adabert-random": Variant(
            "a structure drawn at random, trained by as many steps (Table 3)", STAGES,
            {"architecture.origin": "random"}),
        **{name: Variant(
            f"the structure that was searched on {task}, trained anew by as many steps (Table 3)", STAGES,
            {"architecture.origin": "lent"}, borrows=("adabert", task)) for name, task in LENT.items()},
    },
    tasks=TASKS,
    smoke_tasks=("sst2",),
    hyper=settings.hyper,
    check=check,
    teachers=("bert",),
)  # fmt: skip
