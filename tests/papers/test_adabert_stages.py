"""AdaBERT's stages on tiny models: what they leave, what they ask for, and the losses that they train by."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import FakeContext
from searches import FOUND, answer, in_a_file, present
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

from bench.core.errors import ModelError, TrainError
from bench.data.tasks import get_task
from bench.models.outputs import inputs
from bench.train.losses import soft_cross_entropy
from bench.train.recipe import State
from bench.train.tuning import classifier_config
from papers.adabert import losses, settings, student
from papers.adabert.probes import Probes
from papers.adabert.recipe import RECIPE
from papers.adabert.search import SearchNetwork, Taught
from papers.adabert.settings import Hyper
from papers.adabert.structure import at_random
from papers.adabert.student import OPERATIONS, AdaBertForSequenceClassification

NOTHING: dict[str, Any] = {}
PLAIN = {"augmentation.use": False}
BORROWER = "adabert-from-sst2"
VARIANTS = [name for name in RECIPE.variants if not name.startswith("adabert-from-")] + [BORROWER]


def tiny(variant: str, changes: Mapping[str, Any] = NOTHING) -> Hyper:
    training = {"epochs": 1, "batch_size": 4, "lr": 1e-3, "precision": "fp32"}
    content: dict[str, Any] = {
        "student.hidden": 6, "student.max_cells": 3, "max_length": 16, "augmentation.augmentation": 2,
        "augmentation.letters_only": False,
    }  # fmt: skip
    for name in ("probes.training", "search.training", "retrain.training"):
        content |= {f"{name}.{field}": value for field, value in training.items()}
    made = settings.hyper(RECIPE.variants[variant], "rte", "smoke", None)
    return made.changed(content | dict(changes))


def bert(task: str = "rte") -> BertForSequenceClassification:
    torch.manual_seed(0)
    shape: Any = classifier_config(BertConfig(
        vocab_size=60, num_hidden_layers=4, hidden_size=8, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=24, initializer_range=0.2), get_task(task))  # fmt: skip
    return BertForSequenceClassification(shape)


def lender(task: str = "sst2") -> AdaBertForSequenceClassification:
    config: Any = student.config(FOUND, len(get_task(task).columns) > 1, vocab_size=60, hidden_size=6)
    return AdaBertForSequenceClassification(classifier_config(config, get_task(task)))


def ran(variant: str, ctx: FakeContext, changes: Mapping[str, Any] = NOTHING, until: str = "") -> State:
    """What the stages of a variant leave, up to one; each sees what it says it uses, and the model that it asks for."""
    chosen, state = tiny(variant, changes), State()
    teacher, words = bert(ctx.task.name), BertForMaskedLM(bert().config)
    for stage in present(variant, chosen):
        ctx.given = words if "pretrained" in stage.asks else teacher if "fine_tuned" in stage.asks else None
        ctx.lender = lender() if "lent" in stage.asks else None
        torch.manual_seed(0)
        state = stage.run(state, chosen.only(*stage.uses), ctx)
        if stage.name == until:
            break
    return state


def logits_asked(ctx: FakeContext) -> int:
    return sum(asked[0] == "teacher_logits" for asked in ctx.asked)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_leaves_a_plain_network(context: Callable[..., FakeContext], variant: str) -> None:
    ctx = context("rte")
    state = ran(variant, ctx)
    model = state.model
    assert set(state.models) == {"model"} and type(model) is AdaBertForSequenceClassification
    assert model.config.pair and model.config.num_labels == 2 and model.config.hidden_size == 6
    probed = variant not in ("adabert-base-kd", "adabert-no-kd")
    assert ("probe_accuracy" in state.facts) is probed
    assert logits_asked(ctx) == {"adabert-no-kd": 0, "adabert-base-kd": 2}.get(variant, 3)
    augmented = variant not in ("adabert-base-kd", "adabert-probe")
    sizes = [len(batches.encoded) for _, _, batches, _ in ctx.fitted]
    # The probes are trained on the task's rows, the network on these and what was made of them.
    assert all((size > 12) is augmented for size in sizes[-2:]) and sizes[:-2] == [12] * probed
    assert ("augmented_rows" in state.facts) is augmented
    if augmented:
        assert sizes[-1] == sizes[-2] == state.facts["augmented_rows"]


def test_probes_are_trained_on_the_first_rows_and_answer_for_all(context: Callable[..., FakeContext]) -> None:
    ctx = context()
    ran("adabert", ctx, PLAIN | {"probes.rows": 5})
    assert [len(batches.encoded) for _, _, batches, _ in ctx.fitted] == [5, 12, 12]
    assert [asked[1] for asked in ctx.asked if asked[0] == "teacher_logits"] == [5, 12, 12]


@pytest.mark.parametrize("task", ["sst2", "mnli"])
def test_the_task_says_labels_and_pairs(context: Callable[..., FakeContext], task: str) -> None:
    ctx = context(task)
    model = ran("adabert-from-rte", ctx, PLAIN).model
    assert isinstance(model, AdaBertForSequenceClassification)
    assert model.config.num_labels == len(get_task(task).labels) and model.config.pair is (task == "mnli")
    assert student.genotype(model.config) == FOUND, "of another task"


def test_facts_say_what_was_found(context: Callable[..., FakeContext]) -> None:
    state = ran("adabert", context("mnli"), PLAIN)
    facts = json.loads(json.dumps(dict(state.facts)))
    found = student.genotype(state.model.config)  # pyright: ignore
    assert facts["cells"] == {"found": [found.cells]} and 1 <= found.cells <= 3
    assert 0 <= facts["guarded_nodes"]["found"][0] < 3
    names = [f"node{i}-edge{j}" for i in (1, 2, 3) for j in (1, 2)]
    edges = [edge for node in found.nodes for edge in node]
    assert facts["edge_source"] == {name: [edge.source] for name, edge in zip(names, edges, strict=True)}
    operations = {name: OPERATIONS[place] for name, [place] in facts["edge_operation"].items()}
    assert operations == {name: edge.operation for name, edge in zip(names, edges, strict=True)}
    paper = AdaBertForSequenceClassification(student.config(found, True, num_labels=3))
    assert facts["paper_parameters"]["found"] == [sum(p.numel() for p in paper.parameters())]
    assert facts["paper_flops"]["batch1-length128"] == [student.flops(paper.config, 1, 128)]
    assert facts["probe_accuracy"].keys() == {f"layer{k}" for k in range(1, 5)}
    entropy = facts["entropy"]["structure"]
    assert len(entropy) == 9 + 1 and all(0.9 < share < 1.0 + 1e-6 for share in entropy), "few steps decide little"


def test_a_given_structure_leaves_nothing_to_be_unsure_of(context: Callable[..., FakeContext]) -> None:
    for variant in ("adabert-random", BORROWER):
        assert "entropy" not in ran(variant, context(), PLAIN).facts


def test_a_random_structure_is_that_of_the_seed(context: Callable[..., FakeContext]) -> None:
    for seed in (3, 4):
        model = ran("adabert-random", context(seed=seed), PLAIN).model
        assert student.genotype(model.config) == at_random(seed, 3)  # pyright: ignore[reportArgumentType]


def test_a_structure_of_a_file_is_trained(context: Callable[..., FakeContext], tmp_path: Path) -> None:
    ctx = context()
    state = ran("adabert", ctx, in_a_file(tmp_path) | PLAIN)
    assert student.genotype(state.model.config) == FOUND  # pyright: ignore[reportArgumentType]
    assert state.facts["guarded_nodes"] == {"found": [0]}


def test_a_lent_structure_takes_as_many_steps_and_no_weights(context: Callable[..., FakeContext]) -> None:
    steps = {}
    for variant in ("adabert", BORROWER, "adabert-random"):
        ctx = context()
        ran(variant, ctx, PLAIN)
        steps[variant] = [log.steps for log in ctx.logs]
    assert len({tuple(found) for found in steps.values()}) == 1 and len(steps["adabert"]) == 3
    ctx = context(trains=False)
    made, theirs = ran(BORROWER, ctx).model.state_dict(), lender().state_dict()
    convolutions = [name for name in made if name.endswith("conv.weight")]
    assert len(convolutions) == 3 * 3
    assert not any(torch.equal(made[name], theirs[name]) for name in convolutions)


# The losses of the stages


@pytest.mark.parametrize(
    ("variant", "terms"),
    [
        ("adabert", {"labels", "knowledge", "efficiency"}), ("adabert-beta-0", {"labels", "knowledge"}),
        ("adabert-base-kd", {"knowledge", "efficiency"}), ("adabert-probe", {"knowledge", "efficiency"}),
        ("adabert-no-kd", {"labels", "efficiency"}),
    ],
)  # fmt: skip
def test_the_loss_of_the_search_by_hand(context: Callable[..., FakeContext], variant: str, terms: set[str]) -> None:
    ctx = context(trains=False)
    ran(variant, ctx, {"search.training.epochs": 3}, until="search")
    network, loss, batches, training = ctx.fitted[-1]
    assert isinstance(network, SearchNetwork) and training.epochs == 3
    assert network.passes == 3 * len(batches.order(0)), "one for each batch of each epoch"
    assert [(group.match, group.rate) for group in ctx.grouped[-1]] == [
        ("structure.*", network.search.architecture_rate)
    ]
    batch = batches.batch(0, 0, batches.order(0)[0])
    network.eval()
    for seed in range(3):
        torch.manual_seed(seed)
        found = loss(network, batch)
        torch.manual_seed(seed)
        layers, price = answer(network, inputs(network, batch))
        gamma, beta = tiny(variant).knowledge.gamma, tiny(variant).search.beta
        labels = (1 - gamma) * F.cross_entropy(layers[-1], batch["labels"])
        if variant == "adabert-base-kd":
            knowledge = soft_cross_entropy(layers[-1], batch["teacher_logits"], 1.0).mean()
        elif variant != "adabert-no-kd":
            said = batch["teacher_logits"].reshape(len(batch["labels"]), 4, 2)
            knowledge = losses.probe_knowledge(layers, said, batch["labels"], 1.0, "batch")
        else:
            knowledge = torch.zeros(())
        expected = {"labels": labels, "knowledge": gamma * knowledge, "efficiency": beta * price}
        assert found.keys() == terms
        assert all(found[name].item() == pytest.approx(expected[name].item(), rel=1e-5) for name in terms)


@pytest.mark.parametrize("start", ["inherited", "scratch"])
def test_what_retraining_begins_with(context: Callable[..., FakeContext], start: str) -> None:
    ctx, variant = context(trains=False), {"inherited": "adabert", "scratch": "adabert-scratch"}[start]
    before = ran(variant, ctx, until="search")
    weights = {name: value.clone() for name, value in before.model.state_dict().items()}
    genotype = student.genotype(before.model.config)  # pyright: ignore[reportArgumentType]
    ctx.given = bert()
    chosen = tiny(variant)
    stage = present(variant, chosen)[-1]
    torch.manual_seed(5)
    after = stage.run(before, chosen.only(*stage.uses), ctx).model
    assert student.genotype(after.config) == genotype  # pyright: ignore[reportArgumentType]
    taught, _, _, training = ctx.fitted[-1]
    assert isinstance(taught, Taught) and taught.network is after and training == chosen.retrain.training
    kept = start == "inherited"
    assert (after is before.model) is kept and (taught.probes is before.models["student_probes"]) is kept
    same = {name for name, value in after.state_dict().items() if torch.equal(value, weights[name])}
    assert (same == weights.keys()) is kept
    if not kept:
        assert not same & {"word_embeddings.weight", "position_embeddings.weight", "classifier.weight"}


def test_retraining_has_no_price_and_keeps_the_knowledge(context: Callable[..., FakeContext]) -> None:
    for variant, terms in (("adabert", {"labels", "knowledge"}), ("adabert-no-kd", {"labels"}),
                           ("adabert-base-kd", {"knowledge"})):  # fmt: skip
        ctx = context(trains=False)
        ran(variant, ctx)
        model, loss, batches, _ = ctx.fitted[-1]
        assert loss(model, batches.batch(0, 0, batches.order(0)[0])).keys() == terms


def test_what_the_search_leaves_goes_on_to_retraining(context: Callable[..., FakeContext]) -> None:
    state = ran("adabert", context(), until="search")
    assert set(state.models) == {"words", "teacher_probes", "student_probes", "model"}
    kept, heads = state.models["teacher_probes"], state.models["student_probes"]
    assert isinstance(kept, Probes) and kept.sizes == {"layers": 4, "hidden": 8, "labels": 2}
    assert isinstance(heads, Probes) and heads.sizes == {"layers": 3, "hidden": 6, "labels": 2}


# What fails


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_raw_teacher_is_refused(context: Callable[..., FakeContext], variant: str) -> None:
    ctx = context(given=BertModel(bert().config), trains=False, lender=lender())
    chosen = tiny(variant, PLAIN)
    first = present(variant, chosen)[0]
    with pytest.raises(ModelError, match="not fine-tuned on the task") as error:
        first.run(State(), chosen.only(*first.uses), ctx)
    assert error.value.exit_code == 2 and not ctx.fitted


@pytest.mark.parametrize(("value", "word"), [(5.0, "collapsed"), (math.nan, "no finite number")])
def test_a_search_that_collapses_is_told(
    context: Callable[..., FakeContext], monkeypatch: pytest.MonkeyPatch, value: float, word: str
) -> None:
    ctx = context()

    def fit(self: FakeContext, model: nn.Module, *_: Any) -> None:
        if isinstance(model, SearchNetwork):
            with torch.no_grad():
                for scores in model.structure.edges:
                    scores[OPERATIONS.index("zero")] = value

    monkeypatch.setattr(type(ctx), "fit", fit)
    with pytest.raises(TrainError, match=word) as error:
        ran("adabert", ctx, PLAIN)
    assert error.value.exit_code == 1 and "\n" not in str(error.value)
