"""`bench show` and `bench choose`: one thing on one screen, what fits, and what is wrong in one line."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from test_cli import bench

from bench.cli.choose import command
from bench.core.errors import SpecError
from bench.judge.rules import VERDICTS
from bench.report.choose import Answer, Bounds, Choice, choose, missed_by, row
from bench.report.listing import judged_rows, read, tally
from bench.report.show import show
from bench.report.systems import systems, timings

RESULTS = Path(__file__).resolve().parents[2] / "results"


def told(name: str) -> dict[str, str]:
    """The first line under each heading."""
    found: dict[str, str] = {}
    for heading, text in show(RESULTS, name):
        found.setdefault(heading, text)
    return found


def test_a_claim_is_shown_with_source_band_verdict_and_runs() -> None:
    found = told("tinybert.headline.smaller")
    assert found["printed"] == "7.5 x smaller" and "abstract" in found["source"]
    assert found["band"].startswith("7.212 to 7.812") and found["verdict"].startswith("reproduced")
    assert "Counted 7.6" in found["why"] and "shape" in found["run"]
    assert found["fine print"].startswith("14.5 M beside 109 M")


def test_a_retention_shows_the_two_numbers_it_is_made_of() -> None:
    lines = [text for heading, text in show(RESULTS, "distilbert.t1.distilbert.sst2.retention") if heading == "made of"]
    assert len(lines) == 2 and lines[0].startswith("distilbert.t1.distilbert.sst2: 91.3 %")


def test_a_printed_average_is_recomputed() -> None:
    assert "does not fit" in told("distilbert.t1.bert.score")["recomputed"]


def test_a_run_and_a_variant_are_shown(tmp_path: Path) -> None:
    run = next(heading_text[1].split()[0] for heading_text in show(RESULTS, "tinybert.headline.smaller")
               if heading_text[0] == "run")  # fmt: skip
    found = told(run)
    assert found["tier"] and found["status"] == "ok" and "claims" in found["judges"]
    variant = told("distilbert")
    assert variant["variant"] == "distilbert of distilbert" and "reproduced" in variant["claims"] and "suite" in variant
    assert "none yet" in dict(show(tmp_path, "adabert-from-mnli"))["runs"]


@pytest.mark.parametrize(
    ("name", "close"), [("disilbert", "distilbert"), ("tinybert.headline.smallr", "headline.smaller")]
)
def test_an_unknown_name_brings_the_closest_ones(name: str, close: str) -> None:
    with pytest.raises(SpecError, match=f"no claim, run or variant.*found {name}.*{close}"):
        show(RESULTS, name)


def test_a_table_is_shown_as_its_claims_a_line_each() -> None:
    found = show(RESULTS, "tinybert.t2")
    assert len(found) > 20 and all(name.startswith("tinybert.t2.") for name, _ in found)
    assert found == show(RESULTS, "tinybert.t2.")
    (told,) = (text for name, text in found if name == "tinybert.t2.order.no-td.full")
    verdict, _, rest = told.partition(": ")
    assert verdict in VERDICTS and rest.startswith("tinybert-4-no-td scores below tinybert-4")


def test_counts_come_first_and_rows_when_filtered(tmp_path: Path) -> None:
    rows = judged_rows(RESULTS)
    counted = tally(rows)
    assert sum(line["claims"] for line in counted) == sum(row["transcription"] != "ours" for row in rows)
    assert {line["paper"] for line in counted} == {row["paper"] for row in rows}
    assert {row["task"] for row in judged_rows(RESULTS, task="cola", kind="retention")} == {"cola"}
    with pytest.raises(SpecError, match="unknown --task; found coal"):
        judged_rows(RESULTS, task="coal")
    out = bench("claims", "--paper", "lowresource", cwd=tmp_path).stdout
    assert "rows with --kind" in out and "lowresource.w1" not in out


def test_choose_puts_first_what_keeps_most_and_says_where_each_number_is_from() -> None:
    answer = choose([RESULTS], Bounds(max_mb=100))
    kept = [(not one.view.guessed, one.retention is not None, not one.of_one_task, round(one.retention or 0, 1),
             one.speedup or 0)
            for one in answer.fitting]  # fmt: skip
    assert kept == sorted(kept, reverse=True) and all((one.megabytes or 0) <= 100 for one in answer.fitting)
    assert any(one.of_one_task for one in answer.fitting)
    assert {one.speedup_by for one in answer.fitting} <= {"measured", "measured of bert", "printed", "by definition"}
    names = [one.view.system.name for one in choose([RESULTS], Bounds()).fitting]
    assert len(names) == len(set(names)) > 5 and names[0] == "BERT-base"


def test_of_a_machine_only_what_was_timed_on_it_has_a_speed() -> None:
    ledgers, book, judged = read(RESULTS)
    timed = {one.machine for view in systems(ledgers, judged, book) for one in timings(view, book.index)}
    without = 0
    for machine in sorted(timed):
        answer = choose([RESULTS], Bounds(machine=machine))
        assert {one.machine for one in answer.fitting if one.speedup and not one.view.reference} == {machine}
        bound = choose([RESULTS], Bounds(machine=machine, min_speedup=1.01))
        left = {one.view.key for one, why in bound.unknown if why == f"not timed on {machine}"}
        assert left == {one.view.key for one in answer.fitting if one.speedup is None}
        without += len(left)
    assert len(timed) > 2 and without, "a machine on which not every system was timed"


def test_a_fast_model_waits_for_its_own_tokeniser() -> None:
    fitting = choose([RESULTS], Bounds()).fitting
    words = next(one for one in fitting if one.view.system.variant == "cbow-ffn")
    assert words.speedup and words.with_text and words.with_text < 0.5 * words.speedup
    assert row(words, "sst2")["speed-up"].endswith(f" ({words.with_text:,.1f}x with its tokeniser)")
    assert all(one.with_text is None for one in fitting if one.view.ledger.paper.name == "tinybert")


def test_a_stand_in_is_one_without_any_record(tmp_path: Path) -> None:
    bare = choose([tmp_path], Bounds())
    assert not bare.task and not any("alone" in name for name in row(bare.fitting[0], bare.task))
    assert bare.printed_only and not choose([RESULTS], Bounds()).printed_only
    for empty in (choose([tmp_path], Bounds()), choose([RESULTS], Bounds())):
        assert {one.view.system.variant for one in empty.fitting if one.view.guessed} == {
            "adabert-largest", "bilstm", "cbow-ffn", "bilstm+qbert-w8"}  # fmt: skip


def test_each_share_on_one_task_is_that_of_its_claim() -> None:
    ledgers, book, judged = read(RESULTS)
    own = [entry for entry in judged if entry.claim.id.startswith("distilbert.t1.distilbert.")]
    shares = {entry.claim.task: entry.measured for entry in own if entry.claim.kind == "retention"}
    view = next(one for one in systems(ledgers, judged, book) if one.system.variant == "distilbert")
    compared = [task for task in ("sst2", "cola", "stsb") if task in view.tasks]
    assert len(compared) >= 3
    for task in compared:
        assert 100 * view.tasks[task].kept().value == pytest.approx(shares[task])


def test_no_system_is_as_small_as_one_form_of_it_and_as_fast_as_another() -> None:
    both, small = choose([RESULTS], Bounds(max_mb=64, min_speedup=3)), choose([RESULTS], Bounds(max_mb=64))
    packed = {one.view.system.name for one in small.fitting if one.two_forms}
    assert len(packed) >= 3 and not packed & {one.view.system.name for one in both.fitting}
    told = {one.view.system.name: what for one, what in both.unknown}
    assert {told[name] for name in packed} == {"small as a packed file, fast in a larger form"}


def test_what_a_bound_leaves_out_is_told_and_smaller_runs_stand_beside() -> None:
    answer = choose([RESULTS], Bounds(min_retention=95))
    assert ("BiLSTM", "no score") in {(one.view.system.name, what) for one, what in answer.unknown}
    tiny = next(one for one in answer.fitting if one.view.system.variant == "tinybert-4")
    small = tiny.smaller(answer.task)
    assert answer.task == "sst2" and small and small.rows and small.rows >= 1000
    assert tiny.as_json("sst2")["smaller_runs"] == {"task": "sst2", "percent": small.percent, "rows": small.rows}
    shown = row(tiny, answer.task)
    assert shown["variant"] == "tinybert-4" and shown["on sst2 alone, smaller runs (rows)"] == str(small)
    assert re.fullmatch(r"\d+\.\d% \(\d+,\d+\)", str(small)) and not answer.fitting[0].smaller(answer.task)
    with pytest.raises(SpecError, match="in percent"):
        choose([RESULTS], Bounds(min_retention=0.95))


def test_what_misses_a_bound_by_little_is_told() -> None:
    bounds = Bounds(max_mb=100, min_speedup=3)
    answer = choose([RESULTS], bounds)
    assert [one.view.system.variant for one in answer.missed] == ["mobilebert"]
    assert missed_by(answer.missed[0], bounds) == "MobileBERT (--max-mb by 2%)"
    assert not choose([RESULTS], Bounds(max_mb=90, min_speedup=3)).missed, "by more than a tenth"


def test_where_only_a_stand_in_fits_that_is_said_first(capsys: pytest.CaptureFixture[str]) -> None:
    command(min_speedup=5, min_retention=97, results=[str(RESULTS)])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("no network that one can get fits") and "AdaBERT (stand-in)" in told[2]


def test_where_nothing_fits_the_nearest_is_told() -> None:
    answer = choose([RESULTS], Bounds(max_mb=55, min_retention=99.9))
    assert not answer.fitting and answer.nearest is not None
    others = [one.misses(Bounds(max_mb=55, min_retention=99.9)) for one in choose([RESULTS], Bounds()).fitting]
    assert answer.nearest.misses(Bounds(max_mb=55, min_retention=99.9)) == min(others)
    assert choose([RESULTS], Bounds(max_mb=1e-9, min_retention=500)).nearest is not None


def test_a_system_without_a_number_misses_every_bound_on_it() -> None:
    answer: Answer = choose([RESULTS], Bounds())
    unknown: Choice = next(one for one in answer.fitting if one.retention is None)
    assert unknown.misses(Bounds(min_retention=1)) == math.inf and row(unknown, "sst2")["score kept"] == "unknown"


@pytest.mark.parametrize("bounds", [Bounds(max_mb=0), Bounds(min_speedup=-1), Bounds(min_retention=math.nan),
                                    Bounds(max_mb=math.inf)])  # fmt: skip
def test_a_bound_that_is_none_is_refused(bounds: Bounds) -> None:
    with pytest.raises(SpecError, match="is no bound"):
        choose([RESULTS], bounds)


@pytest.mark.parametrize(("arguments", "told"), [
    (("choose", "--max-mb", "small"), "max-mb"),
    (("choose", "--max-mb", "-3"), "--max-mb is no bound"),
    (("choose", "--machine", "mine"), "nothing was timed on this machine"),
    (("choose", "--results", "nowhere"), "there is no such folder of records"),
    (("show", "bert", "--results", "nowhere"), "there is no such folder of records"),
    (("show", "distilbrt"), "no claim, run or variant has this name"),
    (("show", "../../etc"), "no claim, run or variant has this name"),
    (("report", "--results", "nowhere"), "the results are not a folder"),
    (("report", "--results", "empty"), "there are no records"),
    (("report", "--scale", "huge"), "unknown --scale"),
    (("report", "--scale", "../x"), "unknown --scale"),
    (("claims", "--paper", "../bert"), "unknown paper"),
    (("claims", "--kind", "weight"), "unknown --kind"),
    (("export", "../x", "out"), "no record has this id"),
    (("schema", "model"), "unknown schema"),
])  # fmt: skip
def test_wrong_input_is_one_line_and_exit_2_and_writes_nothing(
    arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    out = bench(*arguments, cwd=tmp_path)
    assert out.returncode == 2 and out.stdout == ""
    assert out.stderr.count("\n") == 1 and told in out.stderr and "Traceback" not in out.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_outside_a_checkout_the_commands_work_on_what_is_there(tmp_path: Path) -> None:
    assert bench("report", cwd=tmp_path).returncode == 2
    answer = bench("choose", "--json", cwd=tmp_path)
    assert answer.returncode == 0 and json.loads(answer.stdout)["nearest"] is None
    assert json.loads(bench("schema", "record", cwd=tmp_path).stdout)["title"] == "Record"
