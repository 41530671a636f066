"""`bench regress`: what is compared with what, what is said of it, and by which exit code."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import bench
from worked_records import number, record

from bench.core import baseline, store
from bench.core.answers import answers_of
from bench.core.errors import RecordError, SpecError
from bench.core.record import BELOW_FLOOR, Artefact, Measurement, Record
from bench.judge.compare import Compared, compare
from bench.judge.pairing import METRICS, copies, halves
from bench.judge.runs import runs_of
from bench.judge.series import SeriesIndex
from bench.report import markdown, regressions

NOISE = [0.001, -0.001, 0.002, -0.002, 0.0, 0.001, -0.001, 0.0, 0.002, -0.002]
"""Fractions, by seed."""
STAMPS = {"before": "2026-01-01T00:00:00Z", "now": "2026-02-01T00:00:00Z"}


def side(
    when: str, score: float | None, seeds: Sequence[int] = range(10), noise: float = 1.0, **given: Any
) -> list[Record]:
    """The runs of a series; its noise comes in another order on the other side."""
    drawn = NOISE if when == "before" else NOISE[3:] + NOISE[:3]
    made = []
    for seed in seeds:
        value = None if score is None else score + noise * drawn[seed % 10]
        found = record(None, seed, number("accuracy", "validation", value), started=STAMPS[when], **given)
        made.append(found.model_copy(update={"id": f"{when}-{found.spec.task}-{found.code.commit}-s{seed}"}))
    return made


def session(when: str, place: int, speed: float, spread: float = 0.01, **given: Any) -> Record:
    """A session of `bench measure`: so many times as fast as the reference; the twin is slower than it by half that."""
    drawn = random.Random(f"{when}{place}{given.get('variant')}")
    logs = [drawn.gauss(0, spread) for _ in range(10)]
    twins = [drawn.gauss(0, spread) for _ in range(10)]

    def timed(metric: str, values: list[float]) -> Measurement:
        samples = [math.exp(value) for value in values]
        return Measurement(metric=metric, split="batch1-length128", value=samples[0], unit="ratio", n=10,
                           samples=samples)  # fmt: skip

    ratios = [math.log(speed) + one + twin / 2 for one, twin in zip(logs, twins, strict=True)]
    month = 1 + (when == "now")
    given = {"hyper": {"effort": {"copies": 10}, "budget": {}}, **given}
    found = record(None, 0, timed("speedup", ratios), timed("aa_ratio", twins), scale="shape", task="shape", rows=place,
                   started=f"2026-0{month}-0{place + 1}T00:00:00Z", **given)  # fmt: skip
    return found.model_copy(update={"id": f"{when}-{place}-{found.spec.variant}", "data": None})


def compared(before: Sequence[Record], now: Sequence[Record], across_code: bool = False) -> Compared:
    index = SeriesIndex(runs_of([*before, *now], METRICS))
    return compare(index, {one.id for one in before}, across_code)


def verdicts(found: Compared) -> list[str]:
    return [one.decision.verdict for one in found.findings]


def test_a_drop_is_worse_and_no_change_is_fine() -> None:
    assert verdicts(compared(side("before", 0.9), side("now", 0.9))) == ["fine"]
    found = compared(side("before", 0.9), side("now", 0.85))
    assert verdicts(found) == ["worse"] and found.exit_code == 1
    assert found.findings[0].decision.effect == pytest.approx(-5, abs=0.2)
    assert found.findings[0].pair.values == pytest.approx((0.9, 0.85))
    assert verdicts(compared(side("before", 0.85), side("now", 0.9))) == ["better"]


def test_the_very_same_scores_are_the_same_even_of_one_seed() -> None:
    before = side("before", 0.9, [0])
    now = [one.model_copy(update={"id": "later", "started": STAMPS["now"]}) for one in before]
    found = compared(before, now)
    assert verdicts(found) == ["same"] and found.exit_code == 0
    assert verdicts(compared(before, side("now", 0.9, [0]))) == ["untold"]


def test_a_screen_is_confirmed_by_the_other_half_of_the_seeds() -> None:
    assert halves(range(10)) == ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])
    assert halves([4, 0, 2]) == ([0, 2, 4], [])
    found = compared(side("before", 0.9, noise=4), side("now", 0.89, range(5), noise=4))
    assert verdicts(found) == ["suspect"] and found.exit_code == 4
    [line] = [line for line in regressions.lines(result(found)) if line.startswith("looks worse")]
    assert "bench run full --paper toy --variant toy --task sst2 --seeds 10" in line and "--results here" in line
    # the other seeds do not say so
    good = compared(
        side("before", 0.9, noise=2), [*side("now", 0.893, range(5), 2), *side("now", 0.902, range(5, 10), 2)]
    )
    assert verdicts(good) == ["fine"] and good.exit_code == 0


def test_undefined_scores_count_as_nothing() -> None:
    found = compared(side("before", 0.9), side("now", None))
    assert verdicts(found) == ["worse"] and found.findings[0].pair.values[1] == 0.0


def test_quality_pools_machines_and_time_does_not() -> None:
    far: dict[str, Any] = {"environment": {"machine": "m2"}}
    assert verdicts(compared(side("before", 0.9), side("now", 0.9, **far))) == ["fine"]
    before = [session("before", place, 3.0) for place in range(4)]
    found = compared(before, [session("now", 0, 3.0, **far)])
    assert not found.findings and found.exit_code == 3
    assert {one.reason for one in found.not_compared} == {"not run again", "not in the baseline"}
    quick = compared(before, [session("now", 0, 3.0, tier="reduced")])
    assert not quick.findings, "a quick session is another protocol"


def test_a_slower_model_is_suspect_and_then_worse() -> None:
    before = [session("before", place, 3.0) for place in range(4)]
    first = compared(before, [session("now", 0, 3.0 / 1.1)])
    assert verdicts(first) == ["suspect"] and first.exit_code == 4
    line = regressions.lines(result(first))[0]
    assert "bench measure --variant toy --batch 1 --length 128 --backend eager --copies 10 --results here" in line
    both = compared(before, [session("now", place, 3.0 / 1.1) for place in range(2)])
    assert verdicts(both) == ["worse"] and both.exit_code == 1
    assert regressions.change(both.findings[0]).endswith("% slower")
    assert float(regressions.change(both.findings[0]).split("%")[0]) == pytest.approx(10, abs=1.5)
    assert verdicts(compared(before, [session("now", place, 3.0) for place in range(2)])) == ["fine"]
    alone = compared(before[:1], [session("now", place, 3.0 / 1.3) for place in range(2)])
    assert verdicts(alone) == ["suspect"] and "one of 4" in regressions.lines(result(alone))[0]


def test_the_speed_of_a_copy_by_hand() -> None:
    def entry(metric: str, value: float, samples: list[float]) -> Measurement:
        return Measurement(metric=metric, split="batch1-length128", value=value, unit="ratio", n=2, samples=samples)

    fresh = {"effort": {"copies": 2}, "budget": {}}
    times = entry("speedup", 4.0, [2.0, 8.0]), entry("aa_ratio", 4.0, [1.0, 4.0])
    # sqrt(reference x twin) / model: 2 and 8 / sqrt(4) where the reference takes 4 times as long as its twin
    [run] = runs_of([record(None, 0, *times, scale="shape", task="shape", hyper=fresh)])
    assert copies(run, "batch1-length128") == pytest.approx([math.log(2), math.log(4)])
    [quick] = runs_of([record(None, 0, *times, scale="shape", task="shape")])
    assert copies(quick, "batch1-length128") == pytest.approx([math.log(2)]), "the samples of one set are rounds"
    [run] = runs_of([record(None, 0, times[0], scale="shape", task="shape", hyper=fresh)])
    assert copies(run, "batch1-length128") == pytest.approx([math.log(2), math.log(8)])


def test_what_spreads_too_widely_is_not_called_fine() -> None:
    found = compared(side("before", 0.9, noise=15), side("now", 0.9, noise=15))
    assert verdicts(found) == ["untold"] and found.exit_code == 4
    assert "seeds on both sides would settle it" in regressions.lines(result(found))[0]
    slow = compared([session("before", place, 3.0, 0.2) for place in range(4)], [session("now", 0, 3.0, 0.2)])
    assert verdicts(slow) == ["untold"] and "copies on both sides" in regressions.lines(result(slow))[0]


def test_short_times_are_compared_and_their_silence_is_not_counted() -> None:
    def timed(when: str, speed: float, spread: float) -> list[Record]:
        made = []
        for one in side(when, 0.9):
            ratio = speed * math.exp(spread * NOISE[(one.spec.seed + 5 * (when == "now")) % 10] / 0.001)
            entry = Measurement(metric="speedup", split="batch1-length128", value=ratio, unit="ratio", n=3, samples=[])
            made.append(one.model_copy(update={"measurements": [*one.measurements, entry]}))
        return made

    wide = compared(timed("before", 2.0, 0.1), timed("now", 2.0, 0.1))
    assert sorted(verdicts(wide)) == ["fine", "untold"] and wide.exit_code == 0
    slow = compared(timed("before", 2.0, 0.002), timed("now", 1.7, 0.002))
    assert sorted(verdicts(slow)) == ["fine", "worse"]
    assert "within runs" in regressions.name_of(slow.findings[0])


def test_changed_code_is_shown_and_compared_where_asked() -> None:
    new: dict[str, Any] = {"code": {"commit": "d", "dirty": False, "stage_hashes": {"fine_tune": "2"}}}
    old: dict[str, Any] = {"code": {"commit": "c", "dirty": False, "stage_hashes": {"fine_tune": "1"}}}
    sides = side("before", 0.9, **old), side("now", 0.85, **new)
    found = compared(*sides)
    assert found.exit_code == 3 and found.not_compared[0].reason == "the code changed: fine_tune"
    assert "--across-code" in regressions.summary(result(found))
    across = compared(*sides, across_code=True)
    assert verdicts(across) == ["worse"] and "across a change of fine_tune" in regressions.lines(result(across))[0]
    # where both are at hand, like is compared with like
    both = compared(
        [*side("before", 0.9, **old), *side("before", 0.85, variant="toy", **new)], side("now", 0.85, **new)
    )
    assert verdicts(both) == ["fine"]


def test_a_baseline_that_is_neither_a_name_nor_a_folder_says_what_could_be_meant(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such baseline or folder; in --baseline; found before; expected a folder"):
        regressions.read(tmp_path, "before")


def test_failed_runs_are_no_regression_and_not_fine() -> None:
    broken = [one.model_copy(update={"status": "failed", "reason": "loss"}) for one in side("now", 0.9, [9])]
    found = compared(side("before", 0.9), [*side("now", 0.9, range(9)), *broken])
    assert found.exit_code == 3 and len(found.failed) == 1
    assert "failed: toy on sst2 (full), seed 9: loss" in regressions.lines(result(found))
    mended = [
        one.model_copy(update={"started": "2026-03-01T00:00:00Z", "id": "mended"}) for one in side("now", 0.9, [9])
    ]
    assert compared(side("before", 0.9), [*side("now", 0.9, range(9)), *broken, *mended]).exit_code == 0
    as_before = [one.model_copy(update={"status": "failed"}) for one in side("before", 0.9, [9])]
    assert not compared([*side("before", 0.9, range(9)), *as_before], [*side("now", 0.9, range(9)), *broken]).failed


def test_a_run_refused_for_its_teacher_counts_only_where_it_was_well_before() -> None:
    reason = f"the fine-tuned teacher {BELOW_FLOOR}; found 0.5"
    refused = [one.model_copy(update={"status": "failed", "reason": reason}) for one in side("now", 0.9, [9])]
    new = compared(side("before", 0.9, range(9)), [*side("now", 0.9, range(9)), *refused])
    assert not new.failed and new.exit_code == 0
    lost = compared(side("before", 0.9, range(10)), [*side("now", 0.9, range(9)), *refused])
    assert len(lost.failed) == 1 and lost.exit_code == 3


def test_the_same_weights_are_judged_by_their_examples() -> None:
    def scored(when: str, wrong: int, weights: str = "a", rows: str = "0" * 64) -> list[Record]:
        answered = {"validation": answers_of(rows, np.arange(1000) >= wrong)}
        return [one.model_copy(update={"artefacts": [Artefact(name="model.safetensors", sha256=weights, bytes=1)],
                                       "answers": answered})
                for one in side(when, 0.9 - wrong / 1000, range(2), noise=0)]  # fmt: skip

    found = compared(scored("before", 0), scored("now", 12))
    assert found.findings[0].pair.comparison.changed == (12, 0) and verdicts(found) == ["worse"]
    assert "12 examples lost, 0 won" in regressions.basis(found.findings[0])
    for other in (scored("now", 12, "b"), scored("now", 12, rows="1" * 64)):
        assert compared(scored("before", 0), other).findings[0].pair.comparison.changed is None


def test_times_by_other_measuring_code_are_not_compared() -> None:
    def by(code: str, sessions: list[Record]) -> list[Record]:
        return [one.model_copy(update={"code": one.code.model_copy(update={"measure_hash": code})}) for one in sessions]

    before, now = [session("before", place, 3.0) for place in range(4)], [session("now", 0, 3.0)]
    found = compared(by("1", before), by("2", now))
    assert found.exit_code == 3 and found.not_compared[0].reason == "the code changed: measuring"
    assert verdicts(compared(by("1", before), by("2", now), across_code=True)) == ["fine"]
    assert verdicts(compared(before, by("2", now))) == ["fine"], "older records do not say"
    scores = by("1", side("before", 0.9)), by("2", side("now", 0.9))
    assert verdicts(compared(*scores)) == ["fine"], "scores are not timed"


def test_the_order_of_records_changes_nothing() -> None:
    before = [*side("before", 0.9), *side("before", 0.8, task="rte"), *(session("before", at, 3.0) for at in range(4))]
    now = [*side("now", 0.88), *side("now", 0.8, task="rte"), *(session("now", at, 2.5) for at in range(2))]
    straight = regressions.as_json(result(compared(before, now)))
    for seed in range(3):
        chance = random.Random(seed)
        mixed = chance.sample(before, len(before)), chance.sample(now, len(now))
        assert regressions.as_json(result(compared(*mixed))) == straight
    back = compared(now, before)
    sign = {(one["task"], one["metric"]): one["effect"] for one in straight["findings"]}
    assert all(sign[one.pair.subject.task, one.pair.subject.metric] * one.decision.effect < 0 for one in back.findings
               if one.decision.verdict in ("worse", "better"))  # fmt: skip


def result(found: Compared) -> regressions.Result:
    return regressions.Result(found, "a baseline", "here")


def test_the_page_shows_text_as_text() -> None:
    found = compared(side("before", 0.9, variant="a|b<script>"), side("now", 0.85, variant="a|b<script>"))
    page = markdown.render(regressions.page(result(found)), regressions.MARK)
    assert page.startswith(regressions.MARK) and "**worse**" in page and "<script>" not in page
    assert "Something is worse" in page


def write(results: Path, records: Sequence[Record]) -> None:
    for one in records:
        store.write_record(results, one)


def test_the_command_says_it_by_its_exit_code(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write(results, side("before", 0.9))
    made = bench("baseline", "set", "first", "--why", "a test", cwd=tmp_path)
    assert made.returncode == 0 and "first is set: 10 records" in made.stdout, made.stderr
    nothing = bench("regress", cwd=tmp_path)
    assert nothing.returncode == 3 and "nothing to compare" in nothing.stdout, nothing.stderr
    write(results, side("now", 0.85))
    out = bench("regress", "--json", "--no-confirm", cwd=tmp_path)
    content = json.loads(out.stdout)
    assert out.returncode == 1 and content["exit_code"] == 1 and content["counts"]["worse"] == 1
    assert content["findings"][0]["unit"] == "points" and len(content["findings"][0]["records"]) == 10
    assert (tmp_path / "reports" / "regressions.md").read_text().startswith(regressions.MARK)


def test_two_folders_are_compared_without_a_baseline(tmp_path: Path) -> None:
    write(tmp_path / "old", side("before", 0.9))
    write(tmp_path / "new", side("now", 0.9))
    found = regressions.judge(regressions.read(tmp_path / "new", str(tmp_path / "old")), "new")
    assert verdicts(found.compared) == ["fine"] and not found.notes
    back = regressions.judge(regressions.read(tmp_path / "old", str(tmp_path / "new")), "old")
    assert "the clock ran backwards" in back.notes[0]
    with pytest.raises(SpecError, match="the two sides are one folder"):
        regressions.read(tmp_path / "new", str(tmp_path / "new"))
    with pytest.raises(RecordError, match="the results are not a folder"):
        regressions.read(tmp_path / "none", str(tmp_path / "new"))
    baseline.set_(tmp_path / "old", "v1", "a file elsewhere")
    named = regressions.read(tmp_path / "new", str(tmp_path / "old" / "baselines" / "v1.json"))
    assert verdicts(regressions.judge(named, "new").compared) == ["fine"]


def test_what_can_be_measured_anew_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.cli import regress

    found = compared(side("before", 0.9, noise=4, scale="smoke"), side("now", 0.89, range(5), 4, scale="smoke"))
    asked: list[Any] = []
    monkeypatch.setattr(regress, "measured", lambda command: asked.append(command) or 0)
    assert regress.confirmed(result(found), False)
    assert asked[0][:4] == ("bench", "run", "smoke", "--paper") and asked[0][-2:] == ("--results", "here")
    full = compared(side("before", 0.9, noise=4), side("now", 0.89, range(5), 4))
    assert not regress.confirmed(result(full), False) and regress.confirmed(result(full), True)
    small = compared(side("before", 0.9, noise=4, scale="small", tier="reduced"),
                     side("now", 0.89, range(5), 4, scale="small", tier="reduced"))  # fmt: skip
    assert not regress.confirmed(result(small), True), "no record says where the teacher lies"
    timed = compared([session("before", at, 3.0) for at in range(4)], [session("now", 0, 2.7)])
    assert verdicts(timed) == ["suspect"] and not regress.confirmed(result(timed), True), "another machine"


@pytest.mark.parametrize("copies_", [0, -1, 10_000])
def test_a_number_of_processes_that_is_none_is_refused(copies_: int) -> None:
    from bench.cli import measure

    with pytest.raises(SpecError, match="--copies is out of range"):
        measure._copies(copies_)
    assert measure._copies(10) == 10
