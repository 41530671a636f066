"""Claims on the pages: headlines first, every verdict explained and counted, what no run can answer in one line."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

from rendered import column, ledgers, made, pages, row
from worked_records import ledger, ordering, runs

from bench.core.record import TeacherLink
from bench.core.stats import counted
from bench.judge.rules import VERDICTS, Judged, measured
from bench.judge.runs import runs_of
from bench.judge.scores import ScoreBook
from bench.judge.series import SeriesIndex
from bench.judge.verdict import judge
from bench.report import browser, formats, markdown, paper, screen
from bench.report.claims import measured_rows, printed
from bench.report.page import Strong, Table
from bench.report.papers import MEANINGS
from bench.report.systems import systems


def test_a_paper_page_has_headlines_first_every_claim_and_the_teacher_beside_each_score() -> None:
    page = pages(made.study())["distilbert.md"]
    claims = ledgers()[1].claims
    assert page.index("## Headlines") < page.index("## Verdicts") < page.index("## Scores")
    found = [claim.id for claim in claims if row(page, claim.id)]
    assert len(found) == 6
    assert column(page, "fine print", "DistilBERT is 60% faster") == "as the score of 91.3% is; a share of 1.5x"
    assert column(page, "printed", "distilbert.speed") == "60 % faster (abstract)"
    assert "distilbert-no-ce &lt; distilbert-no-mlm" in page
    assert column(page, "n", "small", "distilbert", "rte") == "5"
    assert column(page, "teacher, mean", "small", "distilbert", "rte") != "–"
    assert column(page, "fits", "distilbert.t1.score") == "yes"
    assert "../results/small/distilbert/distilbert" in page
    assert "SST-2 \\| with a bar" in page


def test_every_verdict_is_explained() -> None:
    assert tuple(MEANINGS) == VERDICTS
    text = pages([made.record()])["papers.md"]
    assert all(column(text, "means", verdict) for verdict in VERDICTS)


def test_what_no_run_can_answer_is_folded() -> None:
    ledger = ledgers()[1]
    other = ledger.claims[0].model_copy(update={"made_by": "elmo", "variant": "elmo", "table": "T1"})
    server = ledger.claims[1].model_copy(update={"id": "distilbert.t.rte", "split": "test-server", "table": "T1"})
    judged = judge([ledger.model_copy(update={"claims": (other, server, *ledger.claims[2:])})], [])
    found = paper.page(ledger, judged, [], {"bert", "distilbert"}, Path("results"), Path("reports"))
    text = markdown.render(found)
    assert column(text, "claims", "T1", "another's model, which no recipe here builds") == "1"
    assert "a score of the test server" in text and "distilbert.t.rte |" not in text


def test_a_number_on_data_that_no_task_reads_is_out_of_reach() -> None:
    ledger = ledgers()[1]
    there, lacking = (ledger.claims[0].model_copy(update={"id": f"distilbert.t.{task}", "task": task, "metric": "f1"})
                      for task in ("squad", "squad2"))  # fmt: skip
    judged = judge([ledger.model_copy(update={"claims": (there, lacking)})], [])
    found = {entry.claim.task: entry for entry in judged if entry.claim.kind == "quality"}
    assert found["squad"].verdict == "not run"
    assert found["squad2"].verdict == "out of reach" and "the data of squad2" in found["squad2"].why


def test_a_count_has_neither_seeds_nor_an_interval() -> None:
    claim = ledgers()[1].claims[0]
    counted = Judged(claim, "reproduced", 66.5, 66.5, 66.5, "exact", "shape", 1)
    sampled = Judged(claim, "consistent", 66.5, 66.0, 67.0, "reduced", "small", 3, 0.02)
    first, second = measured_rows([counted, sampled])
    assert first["runs"] == "counted, exact" and first["measured"] == "66.5 %"
    assert second["runs"] == "3 seeds, reduced, p 0.02" and second["measured"] == "66.5 % [66.0, 67.0]"


def test_a_ranking_names_the_tasks_that_it_was_measured_on() -> None:
    chain = ordering(order=("toy-random", "toy"))
    records = [one for variant, score in (("toy-random", 0.6), ("toy", 0.9))
               for one in runs(score, n=5, variant=variant, task="rte")]  # fmt: skip
    [row] = measured_rows(judge([ledger(chain)], runs_of(records)))
    assert str(row["runs"]).startswith("5 seeds on rte, ")


def test_the_first_screen_says_how_surely_what_holds_is_known_and_counts_a_number_that_is_printed_twice_once() -> None:
    claim = ledgers()[1].claims[0]
    held = [Judged(claim.model_copy(update={"transcription": known}), "reproduced")
            for known in ("seen", "seen", "second-hand", "recalled")]  # fmt: skip
    assert "4 hold" in screen.sentence(held, SeriesIndex(runs_of(made.study())))
    [told] = screen.details(held, ())
    assert ", 1 different numbers; 2 read at their source, 1 second-hand, 1 recalled from memory." in told
    assert "different" not in screen.details(held[:1], ())[0]


def test_the_first_screen_says_what_is_computed_on_both_sides() -> None:
    claim = ledgers()[1].claims[0].model_copy(update={"metric": "size_bytes", "split": "packed-encoder"})
    [told] = screen.details([Judged(claim, "reproduced")], ())
    assert "; 1 are bytes computed from bits, theirs and ours: no file of that size was written; " in told
    assert measured(claim, counted(415.4e6)).startswith("Computed ")


def test_the_first_screen_names_each_number_that_does_not_hold_once_with_its_ledgers() -> None:
    claim = ledgers()[1].claims[0]
    failed = [Judged(claim.model_copy(update={"value": value}), "not reproduced", measured=67.0)
              for value in (62.2, 62.2, 65.0)]  # fmt: skip
    quoted = replace(failed[2], claim=failed[2].claim.model_copy(update={"printed_by": "a survey"}))
    [told] = screen.details([*failed[:2], quoted], ())
    first, second = (f"{claim.variant} {printed(entry.claim)}, here 67.0" for entry in (failed[0], failed[2]))
    assert f"{first}: printed by {claim.paper} (2 times); {second}: printed by a survey; 3 " in told


def test_what_a_student_of_its_papers_own_teacher_keeps_is_told_of_the_reference() -> None:
    """0.5 beside 0.8 of the BERT that the teacher learnt from; of the teacher's own 0.6 it is told apart."""
    records = [made.record("bert", "bert", score=0.8, teacher=None, speedup=None)]
    for variant, score, teacher in (("big", 0.6, records[0]), ("distilbert", 0.5, None)):
        taught_by = (teacher or records[-1]).id
        records.append(
            made.record(variant=variant, score=score, teacher=None).model_copy(
                update={"teacher": TeacherLink(record=taught_by, score=None)}
            )
        )
    books, book = ledgers(), ScoreBook(SeriesIndex(runs_of(records)))
    [view] = [one for one in systems(books, judge(books, book), book) if one.system.variant == "distilbert"]
    assert view.kept is not None and view.of_own_teacher is not None
    assert (round(view.kept.value, 6), round(view.of_own_teacher.value, 6)) == (0.625, round(0.5 / 0.6, 6))
    page = pages(records)["README.md"]
    assert "62.5 § (sst2)" in page and "of the teacher that its own recipe trained: DistilBERT 83.3%" in page


def test_the_first_screen_has_one_task_on_which_most_systems_can_be_compared() -> None:
    records = made.study(seeds=2, tasks=("sst2", "rte"))
    books, book = ledgers(), ScoreBook(SeriesIndex(runs_of(records)))
    views = systems(books, judge(books, book), book)
    assert screen.common(views) == "sst2" and screen.common(views[:1]) == ""
    [taught] = [view for view in views if view.tasks and not view.reference]
    assert set(taught.tasks) == {"sst2", "rte"} and taught.tasks["rte"].records != taught.tasks["sst2"].records
    kept = taught.tasks["sst2"].kept()
    assert kept is not None
    assert f"{100 * kept.value:.1f}</i> on sst2" in pages(records)["README.md"]


def test_verdict_counts_of_rows_and_papers_agree_with_the_claims() -> None:
    found = pages(made.study())
    judged = judge(ledgers(), runs_of(made.study()))
    assert [column(found["papers.md"], name, "claims") for name in ("BERT", "Distil")] == ["1", "6"]
    [line] = [line for line in csv.DictReader(io.StringIO(found["table.csv"]))
              if (line["variant"], line["scale"]) == ("distilbert", "small")]  # fmt: skip
    told = re.findall(r"(\d+) [a-z]", line["verdicts"])
    assert sum(map(int, told)) == sum(entry.claim.variant == "distilbert" for entry in judged)


def test_claims_and_rows_as_data_say_the_same_in_each_form() -> None:
    found, judged = pages(made.study()), judge(ledgers(), runs_of(made.study()))
    claims = json.loads(found["claims.json"])
    lines = list(csv.DictReader(io.StringIO(found["claims.csv"])))
    assert [one["id"] for one in claims] == [one["id"] for one in lines] == [entry.claim.id for entry in judged]
    assert list(claims[0]) == list(lines[0]) and len(claims) == 7
    for one, line, entry in zip(claims, lines, judged, strict=True):
        assert (one["verdict"], one["source"], one["runs"]) == (entry.verdict, entry.claim.source, list(entry.records))
        assert line["runs"] == str(len(one["runs"])) and line["order"] == " < ".join(one["order"])
        assert [line[name] for name in ("measured", "low", "high", "printed")] == [
            "" if one[name] is None else f"{one[name]}" for name in ("measured", "low", "high", "printed")]  # fmt: skip
    measured = [one for one in claims if one["measured"] is not None]
    assert measured and all(one["runs"] and one["tier"] for one in measured)
    assert found["claims.tex"].count("\\\\") == len(claims) + 1
    table = list(csv.DictReader(io.StringIO(found["table.csv"])))
    assert json.loads(found["table.json"]) == table and len(table) == 4


def test_a_row_as_data_is_whole() -> None:
    table = Table(("a", "b"), (("1", "x, y"), ('"', Strong("z")), ('"', '"')))
    assert formats.csv(table) == 'a,b\n1,"x, y"\n1,z\n1,z\n'
    assert json.loads(formats.as_json(table))[2] == {"a": "1", "b": "z"}


def test_of_all_that_was_not_tested_the_reason_is_known() -> None:
    assert {verdict for verdict in VERDICTS if browser.group(verdict) == "untested"} == set(browser.UNTESTED)
