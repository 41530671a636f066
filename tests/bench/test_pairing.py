"""What is paired with what: seeds that guess with their own teachers, entries of an average, devices, folders."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from test_regress import compared, side, verdicts, write
from worked_records import claim, ledger, number, one, ordering, record, runs, speed_claim

from bench.claims.claim import Entry
from bench.core.errors import SpecError
from bench.core.record import Record
from bench.judge.history import Point, history, stepped
from bench.judge.runs import read_each, read_runs, runs_of
from bench.judge.series import SeriesIndex
from bench.report.settle import settle


def guessing(score: float, seed: int, teacher: float, value: float = 0.5) -> Record:
    """A run beside a teacher, on data of which the majority class has half."""
    return record(score, seed, number("majority", "validation", value), taught=teacher)


def test_what_trained_is_shared_by_the_teachers_of_what_trained() -> None:
    """Five seeds keep 90% of their teacher; the teacher of the seed that guesses is a bad one, and is not theirs."""
    kept = claim(kind="retention", derive="percent_of", reference="teacher", value=90.0, unit="% of")
    records = [guessing(0.81 + 0.0001 * seed, seed, 0.9 + 0.0001 * seed) for seed in range(5)]
    judged = one(kept, [*records, guessing(0.5, 5, 0.55)])
    assert judged.measured == pytest.approx(90.0, abs=0.01) and judged.verdict == "reproduced"


def test_a_difference_counts_the_seeds_that_guess_too() -> None:
    gap = claim(value=-1.0, unit="points", derive="difference_to", reference="teacher")
    trained = [guessing(0.89 + 0.0001 * seed, seed, 0.9 + 0.0001 * seed) for seed in range(3)]
    assert one(gap, trained).verdict == "reproduced"
    judged = one(gap, [*trained, *(guessing(0.5, seed, 0.9) for seed in (3, 4, 5))])
    assert judged.verdict == "inconclusive" and "without the 3 that look degenerate" in judged.why


def test_two_splits_of_one_task_are_two_entries_of_an_average() -> None:
    """Of two entries both are guessed: more than half, though they are of one task."""
    splits = [Entry(task="mnli", metrics=("accuracy",), splits=(split,)) for split in ("validation", "mismatched")]
    found = ordering(tasks=tuple(splits), order=("toy-cut", "toy"))
    records = [
        record(None, seed, *(number(name, split, value) for split in ("validation", "mismatched")
                             for name, value in (("accuracy", score), ("majority", 0.354))),
               variant=variant, task="mnli", rows=9000)
        for variant, score in (("toy-cut", 0.32), ("toy", 0.35)) for seed in range(5)
    ]  # fmt: skip
    assert one(found, records).verdict == "inconclusive: at chance"


def test_a_time_is_of_the_device_that_ran() -> None:
    ratio = number("speedup", "batch1-length128", 1.6, [1.6, 1.61, 1.59])
    host = {"machine": "x", "cpu": "Intel(R) Xeon(R) CPU E5-2690 v3", "gpus": ["Tesla K80"]}

    def tier(device: str, claimed: str) -> str:
        timed = record(0.9, 0, ratio, environment=host | {"device": device})
        return one(speed_claim(device=claimed, seeds=3), [timed]).tier

    assert (tier("cpu", "E5-2690 v3"), tier("cuda", "K80")) == ("exact", "exact")
    assert (tier("cuda", "E5-2690 v3"), tier("cpu", "K80")) == ("proxy", "proxy")


def test_a_full_session_of_the_released_model_speaks_before_a_quick_one_of_ours() -> None:
    def timed(variant: str, ratio: float, tier: str) -> Record:
        samples = [ratio, 1.01 * ratio, 0.99 * ratio]
        return record(None, 0, number("speedup", "batch1-length128", ratio, samples), variant=variant, scale="shape",
                      task="shape", tier=tier, environment={"machine": "a"})  # fmt: skip

    both = [timed("toy", 3.0, "reduced"), timed("toy-released", 1.6, "exact")]
    judged = one(speed_claim(), both, released={"toy": "toy-released"})
    assert judged.measured == pytest.approx(60, abs=0.1)


def test_times_are_compared_where_one_code_took_both_sides() -> None:
    """The newest session says which code: one of another code is left out on the new side as on the old one."""

    def by(code: str, one: Record) -> Record:
        return one.model_copy(update={"code": one.code.model_copy(update={"measure_hash": code})})

    ratio = number("speedup", "batch1-length128", 2.0)
    old = [by("B", record(0.9, seed, ratio, environment={"machine": "m"})) for seed in range(5)]
    slow = number("speedup", "batch1-length128", 1.6)
    mixed = [by("A", record(0.9, seed, slow, environment={"machine": "m"})) for seed in range(4)]
    mixed.append(by("B", record(0.9, 4, ratio, environment={"machine": "m"})))
    new = [one.model_copy(update={"id": f"new{place}", "started": f"2026-02-0{place + 1}T00:00:00Z"})
           for place, one in enumerate(mixed)]  # fmt: skip
    assert "suspect" not in verdicts(compared(old, new))
    assert "suspect" in verdicts(compared(old, new, across_code=True))


def test_runs_of_two_folders_make_one_series_and_a_copy_counts_once(tmp_path: Path) -> None:
    records = [one.model_copy(update={"id": f"r{place}"}) for place, one in enumerate(runs(0.9, n=5))]
    write(tmp_path / "a", records[:3])
    write(tmp_path / "b", records[2:])
    found = read_each([tmp_path / "a", tmp_path / "b"])
    assert [[run.seed for run in folder] for folder in found] == [[0, 1, 2], [3, 4]]
    [series] = SeriesIndex(read_runs([tmp_path / "a", tmp_path / "b"])).series(("toy", "toy"), "sst2")
    assert sorted(series.runs) == [0, 1, 2, 3, 4]


def test_a_step_of_less_than_an_example_is_none() -> None:
    """80 and 80, then 81.5, of 100 rows: an example and a half, though the two before it are equal."""
    points = [Point("a", "s", (80.0, 80.0), 2, least=1.0), Point("b", "s", (81.5,), 1, least=1.0)]
    assert [one.step for one in stepped("quality", points)] == [0.0, 0.0]


def test_lines_of_one_name_say_what_tells_them_apart() -> None:
    records = [one for limit in (100, 200) for one in runs(0.9, budget={"limit": limit})]
    names = [line.name for line in history(SeriesIndex(runs_of(records)), ("toy", "toy"))]
    assert sorted(name.partition(" [")[2] for name in names) == ["limit=100]", "limit=200]"]


@pytest.mark.parametrize(("value", "derived"), [(-1.3, 0), (25.0, 0), (9.0, 1)])
def test_a_share_that_is_none_is_not_derived(value: float, derived: int) -> None:
    from bench.claims.retention import retentions

    teacher, student = (claim(id=f"toy.small.{name}.cola", variant=name, task="cola", metric="matthews", unit="x100",
                              table="T", value=number)
                        for name, number in (("big", 10.0), ("toy", value)))  # fmt: skip
    assert len(retentions([teacher, student], {student.id: "big"})) == derived


def test_an_average_in_fractions_is_recomputed_as_closely_as_one_in_percent() -> None:
    from worked_records import RTE, SST2

    from bench.claims.averages import recompute

    def fits(average: float) -> bool:
        cells = [claim(id=f"toy.row.{task}", task=task, value=value, unit="fraction")
                 for task, value in (("sst2", 0.90), ("rte", 0.60))]  # fmt: skip
        whole = claim(id="toy.row.avg", task="", metric="average", tasks=(SST2, RTE), value=average, unit="fraction")
        found = recompute(ledger(*cells, whole), whole)
        assert found is not None
        return found.fits

    assert fits(0.7505) and not fits(0.752) and not fits(0.82)


def test_what_would_settle_a_run_names_its_text_and_no_folder_for_the_hubs_data() -> None:
    def told(source: str, corpus: str) -> str:
        given = {"source": source, "revision": "r", "sha256": "cd" * 32, "rows": {"train": 100}, "partial": False,
                 "corpus": corpus}  # fmt: skip
        before, now = (side(when, score, seeds, 4, scale="small", tier="reduced", data=given)
                       for when, score, seeds in (("before", 0.9, range(9)), ("now", 0.89, range(5))))  # fmt: skip
        todo = settle(compared(before, now).findings[0], "here")
        assert todo is not None
        return " ".join(todo.command)

    assert "--data" not in told("hub", "c" * 64) and "--corpus FILE" in told("hub", "c" * 64)
    assert "--data FOLDER" in told("folder", "") and "--corpus" not in told("folder", "")


def test_what_would_settle_a_run_repeats_what_was_set_of_it_and_of_its_teacher() -> None:
    hyper = {"tune": {"lr": 0.1, "epochs": 10}, "teacher": {"adapt.tokens": "7", "tune.epochs": "3", "tune.lr": "0.1"}}
    before, now = (side(when, score, seeds, 4, scale="small", tier="reduced", hyper=hyper, overrides={"tune.lr": "0.1"})
                   for when, score, seeds in (("before", 0.9, range(9)), ("now", 0.89, range(5))))  # fmt: skip
    todo = settle(compared(before, now).findings[0], "here")
    assert todo is not None
    sets = [part for word, part in pairwise(todo.command) if word == "--set"]
    assert sets == ["tune.lr=0.1", "adapt.tokens=7", "PAPER:tune.epochs=3"], "what both have, the teacher alone"


def test_minutes_without_until_are_refused() -> None:
    from bench.cli.measure import _minutes

    with pytest.raises(SpecError, match=r"--minutes bounds --until, which is not there"):
        _minutes(5.0, "")
    assert _minutes(5.0, "3%") == 5.0
