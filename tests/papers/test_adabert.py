"""AdaBERT: what each variant is, its settings, and its stages on tiny models."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from searches import in_a_file, present

from bench.core.errors import BenchError, ModelError, SpecError
from bench.train.augmentation.augment import Augmentation
from bench.train.recipe import EncoderFacts
from papers.adabert import recipe, settings, student
from papers.adabert.recipe import RECIPE
from papers.adabert.settings import Hyper
from papers.adabert.shapes import uniform
from papers.adabert.structure import at_random
from papers.adabert.student import NODES, AdaBertForSequenceClassification

BASE = EncoderFacts(layers=12, hidden=768, heads=12, vocabulary=30522, kind="bert")
TASKS = ("sst2", "mrpc", "qqp", "mnli", "qnli", "rte")
SWITCHES: dict[str, dict[str, Any]] = {
    "adabert": {},
    "adabert-beta-0": {"search.beta": 0.0},
    "adabert-beta-8": {"search.beta": 8.0},
    "adabert-base-kd": {"knowledge.gamma": 1.0, "knowledge.source": "logits", "augmentation.use": False},
    "adabert-probe": {"knowledge.gamma": 1.0, "augmentation.use": False},
    "adabert-probe-da": {"knowledge.gamma": 1.0},
    "adabert-no-kd": {"knowledge.gamma": 0.0},
    "adabert-scratch": {"retrain.start": "scratch"},
    "adabert-random": {"architecture.origin": "random"},
    **{f"adabert-from-{task}": {"architecture.origin": "lent"} for task in TASKS},
}


def hyper(variant: str, task: str = "rte", scale: str = "full", encoder: EncoderFacts | None = BASE) -> Hyper:
    return settings.hyper(RECIPE.variants[variant], task, scale, encoder)


def check(variant: str, chosen: Hyper, encoder: EncoderFacts | None = BASE) -> None:
    recipe.check(RECIPE.variants[variant], chosen, encoder, None)


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in content.items():
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


# Variants and settings


@pytest.mark.parametrize("scale", ["smoke", "small", "full"])
def test_a_variant_differs_in_its_own_switch_only(scale: str) -> None:
    assert RECIPE.variants.keys() == SWITCHES.keys() and RECIPE.main_variant == "adabert"
    assert RECIPE.tasks == TASKS and len(SWITCHES) == 15
    for task in TASKS:
        main = flat(hyper("adabert", task, scale).model_dump())
        for variant, switches in SWITCHES.items():
            ours = flat(hyper(variant, task, scale).model_dump())
            assert {name: ours[name] for name in main if ours[name] != main[name]} == switches


def test_all_variants_have_one_budget() -> None:
    """The orderings of Tables 3 to 5 compare them with each other."""
    for scale in ("smoke", "small", "full"):
        assert len({json.dumps(hyper(v, "rte", scale).budget(), sort_keys=True) for v in SWITCHES}) == 1


def test_every_row_of_the_ledger_that_is_a_network_of_ours_is_a_variant(root: Path) -> None:
    ledger = tomllib.loads((root / "papers" / "adabert" / "claims.toml").read_text())
    named = {claim.get("variant", "") for claim in ledger["claim"]}
    ends = {"adabert-smallest", "adabert-largest"}
    others = {"adabert-small-bert-kd", "adabert-small-bert-probe-kd"}
    ours = {name for name in named if name.startswith("adabert")} - ends - others
    assert len(ours) == 13 and RECIPE.variants.keys() - ours == {"adabert-no-kd", "adabert-scratch"}


AROUND = ["prepare_words", "train_probes", "augment_rows"]


@pytest.mark.parametrize("variant", SWITCHES)
def test_stages(variant: str) -> None:
    names = [stage.name for stage in present(variant, hyper(variant))]
    middle = {"adabert-random": "train_random"} | {f"adabert-from-{task}": "train_lent" for task in TASKS}
    before = {"adabert-base-kd": [], "adabert-probe": ["train_probes"], "adabert-no-kd": [AROUND[0], AROUND[2]]}
    assert names == [*before.get(variant, AROUND), middle.get(variant, "search"), "retrain"]
    borrowed = ("adabert", variant.rpartition("-")[2]) if variant.startswith("adabert-from-") else None
    assert RECIPE.variants[variant].borrows == borrowed


def test_stages_follow_the_settings() -> None:
    def names(variant: str, changes: dict[str, Any]) -> list[str]:
        return [stage.name for stage in present(variant, hyper(variant).changed(changes))]

    assert names("adabert", {"architecture.origin": "file"}) == [*AROUND, "train_read", "retrain"]
    assert names("adabert-from-rte", {"architecture.origin": "file"}) == [*AROUND, "train_read", "retrain"]
    assert names("adabert", {"knowledge.gamma": 0.0}) == [AROUND[0], AROUND[2], "search", "retrain"]
    assert names("adabert", {"knowledge.source": "logits"}) == [AROUND[0], AROUND[2], "search", "retrain"]
    assert names("adabert", {"augmentation.use": False}) == ["train_probes", "search", "retrain"]


def test_what_each_stage_asks_for() -> None:
    asks = {stage.name: stage.asks for stage in recipe.STAGES}
    assert asks == {
        "prepare_words": ("pretrained",), "train_probes": ("fine_tuned",), "augment_rows": (),
        "search": ("fine_tuned",), "train_random": ("fine_tuned",), "train_lent": ("fine_tuned", "lent"),
        "train_read": ("fine_tuned",), "retrain": ("fine_tuned",),
    }  # fmt: skip
    assert [stage.name for stage in recipe.STAGES if stage.task_free] == ["prepare_words"]


@pytest.mark.parametrize("task", TASKS)
def test_full_scale_is_the_paper(task: str) -> None:
    found = hyper("adabert", task)
    assert (found.knowledge.gamma, found.search.beta, found.knowledge.temperature) == (0.8, 4.0, 1.0)
    assert (found.student.max_cells, NODES, found.student.hidden) == (8, 3, 128)
    assert found.search.training.epochs == 80 and found.search.training.batch_size == 128
    assert found.search.architecture_rate == 0.2
    assert (found.search.steps, found.search.temperature, found.search.costs) == ("joint", (1.0, 0.2), "computed")
    assert (found.knowledge.source, found.knowledge.weights) == ("probes", "batch")
    assert found.augmentation == Augmentation() and found.augmentation.augmentation == 20 and found.augmentation.use
    assert found.retrain.start == "inherited" and found.architecture == settings.Architecture()
    assert found.max_length == (64 if task == "sst2" else 128)
    other = EncoderFacts(6, 384, 6, 30522)
    assert hyper("adabert", task, encoder=other) == hyper("adabert", task, encoder=None) == found, "of any encoder"


@pytest.mark.parametrize(
    ("layers", "hidden", "cells", "width"),
    [(12, 768, 8, 128), (24, 1024, 8, 171), (6, 384, 4, 64), (4, 312, 3, 52), (2, 128, 2, 21), (1, 8, 1, 2)],
)
def test_small_scale_keeps_the_papers_ratios(layers: int, hidden: int, cells: int, width: int) -> None:
    found = hyper("adabert", "rte", "small", EncoderFacts(layers, hidden, 1, 60))
    assert (found.student.max_cells, found.student.hidden) == (cells, width)
    full = hyper("adabert")
    assert found.search.training.epochs < full.search.training.epochs and found.augmentation.augmentation == 1
    assert found.knowledge == full.knowledge and found.search.beta == full.search.beta


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("knowledge.gamma", "1.5"), ("knowledge.gamma", "-0.1"), ("knowledge.gamma", "nan"), ("search.beta", "-1"),
        ("search.beta", "inf"), ("knowledge.temperature", "0"), ("knowledge.source", "both"),
        ("knowledge.weights", "row"), ("search.temperature", "[0, 0.2]"), ("search.temperature", "[1, 0]"),
        ("search.temperature", "[1, -0.2]"), ("search.temperature", "[1]"), ("search.temperature", "0.5"),
        ("search.costs", "free"), ("search.steps", "none"), ("search.architecture_rate", "0"),
        ("student.max_cells", "9"), ("student.max_cells", "0"), ("student.hidden", "1"), ("student.dropout", "1"),
        ("retrain.start", "warm"), ("architecture.origin", "guessed"), ("max_length", "4"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(field: str, value: str) -> None:
    with pytest.raises(SpecError) as error:
        hyper("adabert").override({field: value})
    assert error.value.exit_code == 2
    message = str(error.value)
    assert "\n" not in message and field in message and "expected" in message


# What is refused before anything runs


def test_every_variant_passes_as_it_is() -> None:
    for variant in SWITCHES:
        for scale in ("smoke", "small", "full"):
            check(variant, hyper(variant, "rte", scale))
            check(variant, hyper(variant, "rte", scale), None)


@pytest.mark.parametrize(
    ("variant", "origin"),
    [("adabert", "random"), ("adabert", "lent"), ("adabert-random", "searched"), ("adabert-from-rte", "searched"),
     ("adabert-scratch", "random")],
)  # fmt: skip
def test_the_origin_of_another_variant_is_refused(variant: str, origin: str) -> None:
    refused(variant, SpecError, {"architecture.origin": origin}, "belongs to the variant", f"found {origin}", "file")


def test_steps_in_turn_take_one_batch_each() -> None:
    refused(
        "adabert", SpecError, {"search.steps": "alternating", "search.training.accumulation": 2}, "in turn", "joint"
    )


def refused(variant: str, kind: type[BenchError], changes: dict[str, Any], *words: str) -> None:
    with pytest.raises(kind) as error:
        check(variant, hyper(variant).changed(changes))
    message = str(error.value)
    assert error.value.exit_code == 2 and "\n" not in message and "next:" in message
    assert all(word in message for word in words), message


@pytest.fixture
def structure(tmp_path: Path) -> dict[str, str]:
    return in_a_file(tmp_path)


def test_a_file_of_a_structure_is_checked(structure: dict[str, str]) -> None:
    for variant in ("adabert", "adabert-random", "adabert-from-rte"):
        check(variant, hyper(variant).changed(structure))
    refused("adabert", SpecError, structure | {"architecture.sha256": ""}, "without its sha256", "architecture.sha256=")
    refused("adabert", SpecError, structure | {"architecture.sha256": "0" * 64}, "another one")
    refused("adabert", SpecError, structure | {"architecture.file": "/nowhere.json"}, "does not exist")
    refused("adabert", SpecError, {"architecture.origin": "file"}, "does not exist")
    for name in ("architecture.file", "architecture.sha256"):
        refused("adabert", SpecError, {name: structure[name]}, "named and not read", "architecture.origin=file")


def test_a_file_outside_the_search_space_is_refused(structure: dict[str, str], tmp_path: Path) -> None:
    for old, new, word in (("conv5", "conv9", "conv9"), ("[3, ", "[5, ", "node 2")):
        path = tmp_path / "other.json"
        path.write_text(Path(structure["architecture.file"]).read_text().replace(old, new))
        named = {"architecture.file": str(path), "architecture.sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        refused("adabert", ModelError, structure | named, "other.json", word)


def test_a_teacher_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="of another architecture; found model_type distilbert; expected bert"):
        check("adabert", hyper("adabert"), EncoderFacts(6, 768, 12, 30522, kind="distilbert"))


def test_word_vectors_are_checked_where_they_are_read() -> None:
    missing = {"augmentation.word_vectors": "/nowhere.txt", "augmentation.word_vectors_sha256": "0" * 64}
    with pytest.raises(BenchError, match="word-vector file does not exist"):
        check("adabert", hyper("adabert").changed(missing))
    check("adabert-probe", hyper("adabert-probe").changed(missing))


# Sizes


@pytest.mark.parametrize("seed", range(6))
def test_parameters_in_closed_form(seed: int) -> None:
    others: dict[str, Any] = {"hidden_size": 30, "vocab_size": 100, "max_position_embeddings": 7}
    for sizes in ({}, others):
        config = student.config(at_random(seed, 8), num_labels=2 + seed % 2, **sizes)
        with torch.device("meta"):
            model = AdaBertForSequenceClassification(config)
        assert student.parameters(config) == sum(p.numel() for p in model.parameters())


def test_the_papers_range_of_sizes() -> None:
    ends = [student.parameters(student.config(uniform(name))) for name in ("conv3", "conv7")]
    assert [round(count / 1e6, 2) for count in ends] == [6.34, 9.49]
    for name in ("conv5", "dilated3", "dilated7"):
        config = student.config(uniform(name))
        with torch.device("meta"):
            model = AdaBertForSequenceClassification(config)
        assert student.parameters(config) == sum(p.numel() for p in model.parameters())
        assert ends[0] <= student.parameters(config) <= ends[1]
    # 110 million over these are the printed 11.5 to 17 times, to a tenth.
    assert 109.5e6 / ends[1] == pytest.approx(11.5, abs=0.1) and 109.5e6 / ends[0] == pytest.approx(17.0, abs=0.3)
