"""Claims on the pages: headlines first, every verdict explained and counted, what no run can answer in one line."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from rendered import column, ledgers, made, pages, row

from bench.judge.rules import VERDICTS
from bench.judge.runs import runs_of
from bench.judge.verdict import judge
from bench.report import markdown, paper
from bench.report.papers import MEANINGS


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


def test_verdict_counts_of_rows_and_papers_agree_with_the_claims() -> None:
    found = pages(made.study())
    judged = judge(ledgers(), runs_of(made.study()))
    assert [column(found["papers.md"], name, "claims") for name in ("BERT", "Distil")] == ["1", "6"]
    [line] = [line for line in csv.DictReader(io.StringIO(found["table.csv"]))
              if (line["variant"], line["scale"]) == ("distilbert", "small")]  # fmt: skip
    told = re.findall(r"(\d+) [a-z]", line["verdicts"])
    assert sum(map(int, told)) == sum(entry.claim.variant == "distilbert" for entry in judged)
