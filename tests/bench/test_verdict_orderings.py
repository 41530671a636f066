"""Verdicts worked by hand on orderings, and on runs with a caveat; see test_verdict for the arithmetic."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from worked_records import CHAIN, claim, field_day, ledger, one, ordering, runs

from bench.core.record import StageEntry
from bench.judge.rules import Judged
from bench.judge.runs import runs_of
from bench.judge.scores import ScoreBook
from bench.judge.series import SeriesIndex
from bench.judge.verdict import judge
from bench.report import headlines
from bench.report.page import plain


def test_an_ordering_is_seen_pair_by_pair() -> None:
    good = {"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}
    judged = one(ordering(), field_day(good, tier="reduced", scale="small"))
    assert (judged.verdict, judged.tier, judged.seeds, len(judged.records)) == ("consistent", "reduced", 5, 30)
    assert judged.measured == pytest.approx(2.0)  # the smallest step, in points
    assert judged.low == pytest.approx(2.0 - 1.241664 * 0.2, abs=1e-4)
    assert one(ordering(), field_day(good)).verdict == "reproduced"


def test_an_ordering_the_other_way_round() -> None:
    bad = {"toy-random": 0.60, "toy-cut": 0.65, "toy": 0.62}
    judged = one(ordering(), field_day(bad, tier="reduced", scale="small"))
    assert judged.verdict == "not seen" and "toy below toy-cut by 3.00" in judged.why
    assert one(ordering(), field_day(bad)).verdict == "not reproduced"
    assert one(ordering(transcription="recalled"), field_day(bad)).verdict == "inconclusive"


def test_an_ordering_within_noise_says_how_many_more_seeds() -> None:
    close = {"toy-random": 0.60, "toy-cut": 0.601, "toy": 0.65}
    judged = one(ordering(), field_day(close))
    assert judged.verdict == "inconclusive" and "Not every gap is seen" in judged.why
    assert re.search(r"About \d+ more seeds would settle it \(80% power\)", judged.why)


def test_variants_that_score_alike_are_said_to() -> None:
    even = {"toy-random": 0.60, "toy-cut": 0.60, "toy": 0.65}
    records = [entry for entry in field_day(even) if entry.spec.task == "sst2"]
    first = {entry.spec.seed: entry.measurements for entry in records if entry.spec.variant == "toy-random"}
    alike = [
        entry.model_copy(update={"measurements": first[entry.spec.seed]}) if entry.spec.variant == "toy-cut" else entry
        for entry in records
    ]
    judged = one(ordering(), alike)
    assert judged.verdict == "inconclusive" and "they scored the same with every seed" in judged.why


def test_variants_that_trained_on_unequal_numbers_of_rows_are_named() -> None:
    good = {"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}

    def judged(**rows: int) -> Judged:
        text = StageEntry(name="corpus", seconds=1, examples=10**6, corpus_tokens=10**7)
        stages = {name: [text, StageEntry(name="tune", seconds=1, examples=count)] for name, count in rows.items()}
        records = [entry.model_copy(update={"stages": stages[entry.spec.variant.replace("-", "_")]})
                   for entry in field_day(good)]  # fmt: skip
        return one(ordering(), records)

    assert not judged(toy_random=1000, toy_cut=1500, toy=1200).unequal, "a corpus is not rows of a task"
    told = judged(toy_random=1000, toy_cut=1501, toy=1200)
    assert told.unequal
    assert told.why.endswith("unequal numbers of rows, each pass counted: toy-random 1,000, toy-cut 1,501, toy 1,200.")
    assert judged(toy_random=0, toy_cut=1, toy=1).unequal, "one that trained on none is told, too"


def test_an_ordering_takes_five_seeds() -> None:
    good = {"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}
    judged = one(ordering(), field_day(good, n=3))
    assert judged.verdict == "inconclusive" and "needs 5, so 2 more" in judged.why
    assert one(ordering(), field_day(good, n=1)).low is None


def test_an_ordering_over_fewer_tasks_is_reduced() -> None:
    good = {"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}
    only = [entry for entry in field_day(good) if entry.spec.task == "sst2"]
    judged = one(ordering(), only)
    assert (judged.verdict, judged.tier) == ("consistent", "reduced") and "over sst2 with" in judged.why


@pytest.mark.parametrize(("sst2", "judged_so"), [((80, 81, 82), "consistent"), ((80, 83, 82), "inconclusive"),
                                                 ((80, 81, None), "consistent")])  # fmt: skip
def test_a_part_of_the_tasks_speaks_only_where_the_paper_has_the_order_there(
    sst2: tuple[float | None, ...], judged_so: str
) -> None:
    order = ordering(id="toy.order", table="T1")
    cells = [claim(id=f"toy.{variant}", variant=variant, table="T1", value=value)
             for variant, value in zip(order.order, sst2, strict=True) if value is not None]  # fmt: skip
    good = field_day({"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65})
    part = SeriesIndex(runs_of([entry for entry in good if entry.spec.task == "sst2"]))
    found = judge([ledger(order, *cells)], ScoreBook(part))[0]
    assert found.verdict == judged_so
    assert ("On sst2 alone the paper's own numbers have another order" in found.why) == (judged_so == "inconclusive")
    assert judge([ledger(order, *cells)], ScoreBook(SeriesIndex(runs_of(good))))[0].verdict == "reproduced"


@pytest.mark.parametrize(("search", "judged_so"), [({"lr": 1.0}, "inconclusive"), (None, "reproduced"),
                                                   ({"gradient": "all"}, "reproduced")])  # fmt: skip
def test_runs_from_before_a_setting_with_a_caveat_settle_nothing(search: dict[str, Any] | None, judged_so: str) -> None:
    book = ledger(ordering()).model_copy(update={"caveats": {"search.gradient": "These were searched otherwise."}})
    made = [entry.model_copy(update={"hyper": entry.hyper | ({"search": search} if search else {})})
            for entry in field_day({"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65})]  # fmt: skip
    found = judge([book], runs_of(made))[0]
    assert found.verdict == judged_so
    assert found.why.endswith(" These were searched otherwise.") == (judged_so == "inconclusive")


def test_where_there_are_sound_runs_those_with_a_caveat_are_left_out() -> None:
    book = ledger(claim()).model_copy(update={"caveats": {"search.gradient": "These were searched otherwise."}})
    made = [entry.model_copy(update={"id": f"{number}-{entry.id}", "hyper": entry.hyper | {"search": search}})
            for number, (score, search) in enumerate(((0.7, {"lr": 1.0}), (0.9, {"lr": 1.0, "gradient": "all"})))
            for entry in runs(score)]  # fmt: skip
    found = judge([book], runs_of(made))[0]
    assert found.verdict == "reproduced" and all(name.startswith("1-") for name in found.records)


def test_an_ordering_needs_one_budget_of_every_variant_and_real_data() -> None:
    good = {"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}
    records = field_day(good)
    judged = one(ordering(), [r for r in records if r.spec.variant != "toy-cut"])
    assert judged.verdict == "not run" and "toy-cut" in judged.why
    less = {"hyper": {"budget": {"limit": 5}}}
    limited = [entry.model_copy(update=less if entry.spec.variant == "toy" else {}) for entry in records]
    assert one(ordering(), limited).verdict == "not comparable: budget"
    fewer = field_day({"toy": 0.65}, rows=50) + field_day({"toy-random": 0.6, "toy-cut": 0.62})
    assert one(ordering(), fewer).verdict == "not comparable: budget"
    smoke = field_day(good, scale="smoke", tier="proxy")
    assert one(ordering(), smoke).verdict == "not comparable: made-up data"


def test_variants_may_differ_in_their_settings_but_not_in_their_budget() -> None:
    records = field_day({"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65})
    tuned = [r.model_copy(update={"hyper": {**r.hyper, "weight_ce": r.spec.variant}}) for r in records]
    assert one(ordering(), tuned).verdict == "reproduced"


def test_the_first_screen_says_which_pairs_of_a_ranking_are_seen() -> None:
    chain = ordering(headline=True, fine_print="", source="Table 4 (losses)")
    pairs = [ordering(id=f"toy.{number}", order=CHAIN[number : number + 2], variant=CHAIN[number + 1])
             for number in range(2)]  # fmt: skip
    whole = ledger(chain, *pairs)
    judged = judge([whole], runs_of(field_day({"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.62}, tier="reduced")))
    assert [entry.verdict for entry in judged] == ["inconclusive", "consistent", "inconclusive"]
    *_, rankings, seen = [plain(line) for line in headlines.lines([whole], judged)]
    assert rankings == "Rankings of ablations: Toy, Table 4 ?."
    assert seen.endswith("five seeds or more: Toy, toy-cut above toy-random by 2.0 (sst2, rte).")
    told = headlines.lines([whole], [replace(entry, unequal=True) for entry in judged])[-1]
    assert "(sst2, rte, unequal rows). Unequal rows: one trained on over 1.5 times as many" in plain(told)
    unseen = [entry for entry in judged if entry.verdict != "consistent"]
    assert plain(headlines.lines([whole], unseen)[-1]) == rankings


def test_an_ordering_says_what_all_its_seeds_share() -> None:
    records = runs_of(field_day({"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}))
    (told,), (usual,) = (judge([ledger(ordering(), made_once=text)], records) for text in ("One start for all.", ""))
    assert told.why == f"{usual.why} One start for all." and told.verdict == usual.verdict
