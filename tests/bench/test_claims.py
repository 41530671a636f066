"""Ledgers: what is in them, that printed averages recompute, and that each kind of mistake is one clear error."""

from __future__ import annotations

import tomllib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from worked_records import claim as toy_claim
from worked_records import number, one, record, speed_claim

from bench.claims.averages import recompute
from bench.claims.claim import TEACHER, Ledger
from bench.claims.ledger import load
from bench.claims.units import AVERAGE, PRINTED_ONLY, TASK_METRICS, TASK_SPLITS, UNITS
from bench.core.errors import ClaimError
from bench.data.tasks import TASKS

PAPERS = Path(__file__).parents[2] / "papers"

LEDGER = """
[paper]
name = "toy"
title = "A toy"
label = "Toy"
arxiv = "2001.00001v1"
venue = "nowhere"
code = "https://example.org/toy"
commit = "abcdef0"

[tolerance.accuracy]
absolute = 0.01
why = "a point"

[tolerance."accuracy@rte"]
absolute = 0.03
why = "few rows"

[tolerance.average]
absolute = 0.01
why = "a point"

[tolerance.retention]
absolute = 0.02
why = "two points"

[tolerance.parameters]
relative = 0.02
why = "whole millions"

[average]
two = [
    {task = "sst2", metrics = ["accuracy"], splits = ["validation"]},
    {task = "rte", metrics = ["accuracy"], splits = ["validation"]},
]

[[table]]
id = "T1"
split = "validation"
transcription = "seen"
aggregation = "median of 5"
source = "Table 1"

[[claim]]
id = "toy.t1.toy.sst2"
table = "T1"
says = "Toy has 90% on SST-2."
kind = "quality"
variant = "toy"
task = "sst2"
metric = "accuracy"
value = 90.0
unit = "%"

[[claim]]
id = "toy.t1.toy.rte"
table = "T1"
says = "Toy has 60% on RTE."
kind = "quality"
variant = "toy"
task = "rte"
metric = "accuracy"
value = 60.0
unit = "%"

[[claim]]
id = "toy.t1.toy.score"
table = "T1"
says = "Toy averages 75."
kind = "quality"
variant = "toy"
metric = "average"
average = "two"
value = 75.0
unit = "%"

[[claim]]
id = "toy.t1.other.sst2"
table = "T1"
says = "Other has 95% on SST-2."
kind = "quality"
variant = "other"
task = "sst2"
metric = "accuracy"
value = 95.0
unit = "%"

[[claim]]
id = "toy.keeps"
table = "T1"
says = "Toy keeps 95% of other."
kind = "retention"
variant = "toy"
task = "sst2"
metric = "accuracy"
value = 94.7
unit = "% of"
derive = "percent_of"
reference = "toy.t1.other.sst2"

[[claim]]
id = "toy.params"
table = "T1"
says = "Toy has 10M parameters."
kind = "size"
variant = "toy"
split = "all"
metric = "parameters"
value = 10
unit = "M"

[[claim]]
id = "toy.order"
table = "T1"
says = "Bad, then toy."
kind = "ordering"
variant = "toy"
metric = "average"
average = "two"
order = ["bad", "toy"]
"""


def write(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "claims.toml").write_text(text)
    return folder


def test_a_sound_ledger_loads(tmp_path: Path) -> None:
    ledger = load(write(tmp_path, LEDGER))
    assert ledger.paper.name == "toy"
    assert len(ledger.claims) == 7
    sst2 = ledger.by_id["toy.t1.toy.sst2"]
    assert (sst2.split, sst2.source, sst2.transcription, sst2.aggregation) == (
        "validation", "Table 1", "seen", "median of 5")  # fmt: skip
    assert ledger.band(sst2) == pytest.approx((0.89, 0.91))
    assert ledger.printed_band(sst2) == pytest.approx((89.0, 91.0))
    assert ledger.printed_band(ledger.by_id["toy.t1.toy.rte"]) == pytest.approx((57.0, 63.0))
    assert ledger.printed_band(ledger.by_id["toy.keeps"]) == pytest.approx((92.7, 96.7))
    assert ledger.printed_band(ledger.by_id["toy.params"]) == pytest.approx((9.8, 10.2))


MISTAKES = {
    "not toml": ("[paper]", "[paper", "claims.toml"),
    "unknown section": ("[[table]]", "[[tables]]", "tables"),
    "no version": ('"2001.00001v1"', '"2001.00001"', "paper: arxiv"),
    "unknown field": ("value = 95.0", "value = 95.0\nstatus = 'true'", "claim toy.t1.other.sst2: status"),
    "no id": ('id = "toy.params"', "", "claim number 6: id"),
    "unknown kind": ('kind = "size"', 'kind = "weight"', "claim toy.params: kind"),
    "unknown table": ('id = "toy.params"\ntable = "T1"', 'id = "toy.params"\ntable = "T9"', "claim toy.params: table"),
    "double table": ("[average]", '[[table]]\nid = "T1"\n[average]', "table"),
    "unknown shared field": ('source = "Table 1"', 'source = "Table 1"\nsorce = "x"', "table T1; found sorce"),
    "unknown metric": ('metric = "parameters"', 'metric = "weights"', "claim toy.params: metric; found weights"),
    "metric of another task": (
        'metric = "accuracy"\nvalue = 60.0', 'metric = "f1"\nvalue = 60.0', "claim toy.t1.toy.rte: metric; found f1"),
    "unknown task": ('task = "rte"\nmetric', 'task = "rta"\nmetric', "claim toy.t1.toy.rte: task; found rta"),
    "wrong split": ('task = "rte"\nmetric', 'task = "rte"\nsplit = "test"\nmetric', "claim toy.t1.toy.rte: split"),
    "no split": ('split = "all"', 'split = ""', "claim toy.params: split; found nothing"),
    "wrong unit": ('value = 60.0\nunit = "%"', 'value = 60.0\nunit = "M"', "claim toy.t1.toy.rte: unit; found M"),
    "unknown unit": ('value = 10\nunit = "M"', 'value = 10\nunit = "kg"', "claim toy.params: unit; found 'kg'"),
    "percent over 100": ("value = 95.0", "value = 101.0", "claim toy.t1.other.sst2: value; found 101.0"),
    "percent under 0": ("value = 95.0", "value = -1.0", "claim toy.t1.other.sst2: value; found -1.0"),
    "not a number": ("value = 95.0", "value = nan", "claim toy.t1.other.sst2: value"),
    "size of nothing": ("value = 10\n", "value = 0\n", "claim toy.params: value; found 0"),
    "no value": ("value = 10\n", "", "claim toy.params: value; found nothing"),
    "empty source": ('source = "Table 1"', 'source = " "', "source"),
    "no source": ('source = "Table 1"', "", "source; found nothing"),
    "unknown transcription": ('"seen"', '"read"', "transcription"),
    "unknown aggregation": ('"median of 5"', '"median"', "aggregation"),
    "reference to no claim": ('reference = "toy.t1.other.sst2"', 'reference = "toy.t9"', "claim toy.keeps: reference"),
    "reference to itself": (
        'reference = "toy.t1.other.sst2"', 'reference = "toy.keeps"', "reference; found toy.keeps"),
    "reference to another task": (
        'reference = "toy.t1.other.sst2"', 'reference = "toy.t1.toy.rte"', "claim toy.keeps: reference"),
    "reference without derive": ('derive = "percent_of"\n', "", "claim toy.keeps"),
    "derive without reference": ('reference = "toy.t1.other.sst2"\n', "", "claim toy.keeps: reference; found ''"),
    "retention that is a quality": ('kind = "retention"', 'kind = "quality"', "claim toy.keeps: kind"),
    "double id": ('id = "toy.params"', 'id = "toy.keeps"', "claim toy.keeps: id"),
    "id of another paper": ('id = "toy.params"', 'id = "bert.params"', "claim bert.params: id"),
    "ordering of one": ('["bad", "toy"]', '["toy"]', "claim toy.order: order"),
    "ordering of the same": ('["bad", "toy"]', '["toy", "toy"]', "claim toy.order: order"),
    "ordering of another": ('["bad", "toy"]', '["toy", "bad"]', "claim toy.order: variant"),
    "ordering with a value": ("order =", "value = 3.0\norder =", "claim toy.order: value"),
    "ordering without tasks": ('average = "two"\norder', "order", "claim toy.order: average"),
    "order beside a number": ('split = "all"', 'split = "all"\norder = ["a", "b"]', "claim toy.params: order"),
    "average without tasks": ('average = "two"\nvalue', "value", "claim toy.t1.toy.score: average"),
    "unknown task list": ('average = "two"\nvalue', 'average = "ten"\nvalue', "toy.t1.toy.score: average; found ten"),
    "task list without its cells": (
        '{task = "rte", metrics', '{task = "wnli", metrics', "claim toy.t1.toy.score: average; found no cell wnli"),
    "average that does not recompute": ("value = 75.0", "value = 75.2", "claim toy.t1.toy.score: value; found 75.2"),
    "misprint that recomputes": ("value = 75.0", 'value = 75.0\nmisprint = "so"', "claim toy.t1.toy.score: misprint"),
    "task list of an unknown task": ('{task = "rte"', '{task = "rta"', "average two: task; found rta"),
    "task list with a wrong metric": (
        'task = "rte", metrics = ["accuracy"]', 'task = "rte", metrics = ["f1"]', "average two: metrics; found f1"),
    "task counted twice": ('{task = "rte", metrics', '{task = "sst2", metrics', "average two: task"),
    "unmade, but of no claim": ("[average]", '[unmade]\nty = "x"\n[average]', "unmade: ty"),
    "unmade without what it takes": ("[average]", '[unmade]\ntoy = " "\n[average]', "unmade: toy"),
    "no tolerance": ('[tolerance.parameters]\nrelative = 0.02\nwhy = "whole millions"', "", "toy.params: tolerance"),
    "tolerance without why": ('why = "whole millions"', "", "tolerance parameters: why"),
    "negative tolerance": ("relative = 0.02", "relative = -0.02", "tolerance parameters: relative"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_names_file_claim_and_field(name: str, tmp_path: Path) -> None:
    old, new, told = MISTAKES[name]
    assert old in LEDGER, "the mistake has to change something"
    with pytest.raises(ClaimError) as caught:
        load(write(tmp_path, LEDGER.replace(old, new)))
    text = str(caught.value)
    assert told in text
    assert "claims.toml" in text and "\n" not in text
    assert "found" in text


def test_a_missing_ledger(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match=r"does not exist.*claims\.toml"):
        load(tmp_path)


def test_task_words_agree_with_the_task_table() -> None:
    checked = 0
    for name, task in TASKS.items():
        assert TASK_METRICS[name][0] == task.primary
        assert set(TASK_METRICS[name]) == set(task.metrics)
        assert set(task.scored) <= set(TASK_SPLITS[name])
        checked += 1
    assert checked == 13
    assert set(TASK_METRICS) - set(TASKS) == PRINTED_ONLY


def test_units_go_there_and_back() -> None:
    assert UNITS["% fewer"].to_record(40) == pytest.approx(0.6)
    assert UNITS["% faster"].to_record(60) == pytest.approx(1.6)
    assert UNITS["x smaller"].to_record(4) == pytest.approx(0.25)
    assert UNITS["% of time"].to_record(40) == pytest.approx(2.5)
    assert UNITS["hours"].to_record(90) == 324_000
    for unit in UNITS.values():
        assert unit.to_print(unit.to_record(3.5)) == pytest.approx(3.5)
    assert len(UNITS) == 18


@pytest.mark.parametrize(("speedup", "verdict"), [(2.5, "consistent"), (1.5, "not seen"), (3.5, "better")])
def test_a_share_of_the_time_is_a_speedup(speedup: float, verdict: str) -> None:
    found = speed_claim(value=40, unit="% of time")
    assert found.direction == "higher", "in the unit of records"
    rounds = [speedup, speedup * 1.01, speedup / 1.01]
    measured = number("speedup", "batch1-length128", speedup, rounds)
    judged = one(found, [record(0.9, 0, measured, scale="small", tier="reduced")])
    assert judged.verdict == verdict and judged.measured == pytest.approx(100 / speedup)
    assert judged.low is not None and judged.high is not None and judged.low < judged.measured < judged.high


def test_a_number_may_be_relative_to_a_teacher_that_was_not_printed(tmp_path: Path) -> None:
    text = LEDGER.replace('reference = "toy.t1.other.sst2"', 'reference = "teacher"')
    assert load(write(tmp_path, text)).by_id["toy.keeps"].reference == TEACHER
    found = toy_claim(value=-2, unit="points", derive="difference_to", reference="teacher")
    scores = (0.880, 0.881, 0.879)
    judged = one(found, [record(score, seed, taught=0.9) for seed, score in enumerate(scores)])
    assert (judged.verdict, judged.measured) == ("reproduced", pytest.approx(-2))
    judged = one(found, [record(score, seed) for seed, score in enumerate(scores)])
    assert judged.verdict == "not comparable: budget" and "its teacher" in judged.why


def printed(*ledgers: Ledger) -> Counter[str]:
    """How many printed numbers stand in each table."""
    return Counter(claim.table for ledger in ledgers for claim in ledger.claims if not claim.derived_from)


def test_the_ledgers_of_bert_and_distilbert_are_whole() -> None:
    bert, distilbert = load(PAPERS / "bert"), load(PAPERS / "distilbert")
    assert bert.paper.reference and not distilbert.paper.reference
    tables = printed(bert, distilbert)
    assert tables == {
        "R-base-dev-hf-fp32": 13, "R-base-dev-hf-fp16": 13, "R-base-dev-qbert": 13, "R-base-dev-distilbert": 9,
        "R-base-dev-paper": 4, "R-base-test": 10, "R-base-squad": 4, "R-mini": 60, "R-mini-size": 5,
        "D-T1": 30, "D-T1-readme": 40, "D-T1-old": 20, "D-T1-blog": 14, "D-T2": 14, "D-T3": 3, "D-T3-time": 3,
        "D-T4": 9, "D-misc": 9,
    }  # fmt: skip
    assert {claim.kind for claim in distilbert.claims} == {
        "quality", "retention", "size", "speed", "cost", "ordering"}  # fmt: skip


def test_the_ledgers_of_qbert_adabert_and_lowresource_are_whole() -> None:
    qbert, adabert, lowresource = (load(PAPERS / name) for name in ("qbert", "adabert", "lowresource"))
    tables = printed(qbert, adabert, lowresource)
    assert tables == {
        "Q-abs": 4, "Q-T1a": 10, "Q-T1a-size": 20, "Q-T1b": 20, "Q-T1b-size": 20, "Q-T1c": 10, "Q-T1c-size": 20,
        "Q-T1d": 20, "Q-T1d-size": 20, "Q-T1-order": 4, "Q-T2": 20, "Q-T2-order": 4, "Q-notes": 4,
        "Q-repo": 9, "Q-notes-loss": 4, "Q-ours": 2, "A-T1": 52, "A-T1-size": 9, "A-T1-speed": 9, "A-abs": 2,
        "A-size": 3, "A-abl": 8,
        "A-probes-size": 1, "A-order": 4, "A-T3": 42, "A-T4": 16, "A-T5": 12,
        "A-T5-size": 12, "A-text": 3, "A-notes": 2, "A-survey": 1, "W-N5": 4, "W-1": 2, "W-2": 4, "W-ours": 10,
    }  # fmt: skip
    told = Counter(claim.transcription for claim in qbert.claims if claim.table.startswith("Q-T2") and claim.value)
    assert told == {"second-hand": 36}, "all of Table 2 stands in another paper, too, and so do its shares"
    assert {claim.transcription for claim in adabert.claims if claim.table == "A-T1"} == {"seen"}
    again = [found for claim in adabert.claims if (found := recompute(adabert, claim)) is not None]
    assert len(again) == 7 and all(entry.fits for entry in again)


def test_the_ledgers_of_tinybert_and_mobilebert_are_whole() -> None:
    tinybert, mobilebert = (load(PAPERS / name) for name in ("tinybert", "mobilebert"))
    tables = printed(tinybert, mobilebert)
    assert tables == {
        "T-T1": 104, "T-T1-size": 11, "T-T1-flops": 11, "T-T1-speed": 10, "T-headline": 9, "T-T2": 26, "T-T3": 40,
        "T-T4": 19, "T-T5": 42, "T-T6": 30, "T-T7": 26, "T-old": 13, "T-cost": 2, "M-survey": 3,
        "M-T4": 88, "M-T4-size": 9, "M-T4-flops": 8, "M-T4-latency": 4, "M-T5": 26, "M-T5-size": 7, "M-T6": 4,
        "M-T6-flops": 4, "M-T8": 12, "M-T8-order": 4, "M-T9": 28, "M-T9-order": 6, "M-quant": 21, "M-T1": 4, "M-T2": 6,
        "M-headline": 9, "M-rerun": 4,
    }  # fmt: skip
    again = [recompute(tinybert, claim) for claim in tinybert.claims if claim.metric == AVERAGE and claim.value]
    assert [entry.fits for entry in again if entry is not None] == [True] * 26


def test_printed_averages_recompute_but_for_the_mnli_misprint() -> None:
    found = {
        claim.id: again
        for name in ("bert", "distilbert")
        for ledger in [load(PAPERS / name)]
        for claim in ledger.claims
        if (again := recompute(ledger, claim)) is not None
    }
    assert len(found) == 14
    wrong = {name: again for name, again in found.items() if not again.fits}
    assert list(wrong) == ["distilbert.t1.bert.score"]
    assert wrong["distilbert.t1.bert.score"].printed == 79.5
    assert wrong["distilbert.t1.bert.score"].recomputed == pytest.approx(79.72, abs=0.005)
    assert found["bert.r-base-test.bert.average"].recomputed == pytest.approx(79.6)


def test_the_ablation_is_a_chain_and_its_pairs() -> None:
    ledger = load(PAPERS / "distilbert")
    orders = [claim for claim in ledger.claims if claim.kind == "ordering"]
    chain = orders[0].order
    worst_first = ["random-init", "no-ce", "no-cos", "no-mlm"]
    assert chain == (*(f"distilbert-{name}" for name in worst_first), "distilbert")
    assert [claim.order for claim in orders[1:]] == list(pairwise(chain))
    assert all(len(claim.tasks) == 9 for claim in orders)


def test_ledgers_hold_no_verdicts() -> None:
    visited = 0
    for file in sorted(PAPERS.glob("*/claims.toml")):
        content = tomllib.loads(file.read_text())
        for raw in content["claim"]:
            assert not {"status", "verdict", "measured"} & raw.keys()
            visited += 1
    assert visited >= 273
