"""The report: what its pages say, that nothing is dropped silently, and that same inputs give the same bytes."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rendered import FIXTURES, column, ledgers, made, pages, request, shown

from bench.claims.units import TASK_METRICS
from bench.core import store
from bench.core.errors import RecordError, SpecError
from bench.core.record import Measurement, Record
from bench.judge.runs import runs_of
from bench.judge.series import SeriesIndex
from bench.report import build, markdown


def test_the_metrics_of_the_made_up_records_are_those_of_the_tasks() -> None:
    assert len(made.METRICS) == 10
    assert {task: TASK_METRICS[task] for task in made.METRICS} == made.METRICS


def test_table_values_are_those_worked_by_hand() -> None:
    scores = {"sst2": (0.90, 0.92, 0.94), "rte": (0.60, 0.64, 0.62)}
    records = []
    for task, values in scores.items():
        for seed, value in enumerate(values):
            records.append(made.record(task=task, seed=seed, score=value, teacher=0.8, speedup=None))
    page = pages(records)["table.md"]
    where = ("distilbert", "distilbert")
    # Seed averages 75, 78, 78: mean 77, sample deviation sqrt(3), t(2) = 4.3027, half width 4.3027 * sqrt(3) / sqrt(3).
    assert column(page, "GLUE score", *where) == "77.0 [72.7, 81.3]"
    # Divided by the teacher's 0.8, seed by seed; the geometric mean, its interval taken on the logs.
    logs = [math.log(value / 80) for value in (75, 78, 78)]
    centre = sum(logs) / 3
    half = 4.302653 * math.sqrt(sum((one - centre) ** 2 for one in logs) / 2 / 3)
    low, middle, high = (100 * math.exp(centre + side * half) for side in (-1, 0, 1))
    assert column(page, "retention (%)", *where) == f"{middle:.1f} [{low:.1f}, {high:.1f}]"
    assert column(page, "params (M)", *where) == "65.0"
    assert column(page, "MB on disk", *where) == "260.0"
    assert column(page, "GFLOPs", *where) == "22.10"
    assert column(page, "seeds", *where) == "3"
    assert column(page, "training, s per run", *where) == "61.0 (6 runs)"
    assert "sst2 (accuracy, validation), rte (accuracy, validation)" in page


def test_each_task_is_scored_by_its_primary_metric() -> None:
    (found,) = shown([made.record(task=task, score=0.7) for task in made.METRICS])
    assert found.glue is not None and len(found.glue.entries) == 9
    assert {e.task: e.metrics for e in found.glue.entries} == {
        task: metrics[:1] for task, metrics in made.METRICS.items() if task != "imdb"}  # fmt: skip
    imdb = found.book.primary(found.suite, ("imdb",))
    assert imdb is not None and imdb.entries[0].splits == ("test",)


def test_tasks_with_other_seeds_count_whole_and_get_a_wider_interval() -> None:
    records = [made.record(task="sst2", seed=seed, score=0.9 + seed / 100, teacher=None) for seed in range(3)]
    records += [made.record(task="rte", seed=seed, score=0.6 + seed / 100, teacher=None) for seed in range(2)]
    (found,) = shown(records)
    assert found.glue is not None
    score = found.glue.average().estimate
    assert score is not None and score.value == pytest.approx((0.91 + 0.605) / 2)
    # Variances of the means 1e-4/3 and 0.5e-4/2; Welch's freedom is 2.8492: t = 3.2755.
    half = 3.2755 * math.sqrt(1e-4 / 3 + 0.5e-4 / 2) / 2
    assert score.interval() == (
        pytest.approx(score.value - half, abs=1e-4),
        pytest.approx(score.value + half, abs=1e-4),
    )
    assert found.glue is not None and found.glue.kept() is None


def test_times_of_two_machines_are_never_pooled() -> None:
    records = [made.record(seed=5 * seed, speedup=2.0) for seed in range(3)]
    records += [made.record(seed=5 * seed + 15, speedup=1.25, machine="epyc-64c") for seed in range(3)]
    page = pages(records)["table.md"]
    lines = [line for line in page[: page.index("## Scores")].splitlines() if "| distilbert |" in line]
    assert [("epyc-64c" in line, "1.25x" in line, "2.00x" in line) for line in lines] == [
        (True, True, False), (False, False, True)]  # fmt: skip
    (found,) = shown(records)
    assert found.suite.machines() == ["epyc-64c", "xeon-2c"] and found.speedup("other", "batch1-length128") is None


def test_one_timed_run_has_the_interval_of_its_rounds() -> None:
    (found,) = shown([made.record(speedup=2.0)])
    ratio = found.speedup("xeon-2c", "batch1-length128")
    assert ratio is not None and ratio.value == pytest.approx(2.0, abs=1e-3)
    low, high = ratio.interval() or (0, 0)
    assert 1.9 < low < 2.0 < high < 2.1


def test_reference_comes_first_and_has_no_retention() -> None:
    page = pages(made.study(seeds=2))["table.md"]
    names = re.findall(r"^\| (\S+) \| (\S+) \| \d", page, re.M)
    assert names[:4] == [("bert", "bert")] + [
        ("distilbert", v) for v in ("distilbert", "distilbert-no-ce", "distilbert-no-mlm")
    ]
    assert column(page, "retention (%)", "bert", "bert") == "reference"
    assert column(page, "speed-up, batch 1", "bert", "bert") == "1 (reference)"


def test_degenerate_runs_are_shown_with_and_without() -> None:
    records = [made.record(task="cola", seed=seed, score=0.5, teacher=0.5) for seed in range(4)]
    records.append(made.record(task="cola", seed=4, score=0.0, teacher=0.5))
    found = pages(records)
    assert column(found["table.md"], "GLUE score", "distilbert", "distilbert").startswith("50.0 [")
    assert column(found["table.md"], "GLUE score", "distilbert", "distilbert").endswith("†")
    page = found["budgets.md"]
    assert column(page, "with", "small", "distilbert", "distilbert", "cola matthews").startswith("50.0 [")
    assert column(page, "without", "small", "distilbert", "distilbert", "cola matthews").startswith("50.0 [")
    assert column(page, "runs", "small", "distilbert", "distilbert", "cola matthews") == "4 / 5"
    assert column(page, "why it is suspect", "small", "distilbert", "distilbert", "cola").startswith(
        "matthews is exactly"
    )


def test_failed_runs_keep_their_reason_and_score_nothing() -> None:
    reason = "non-finite loss | at step 3\nof <s>"
    records = [made.record(), made.record(seed=1, status="failed", reason=reason, measurements=[], stamp=9)]
    found = pages(records)
    assert r"non-finite loss \| at step 3 of &lt;s>" in found["budgets.md"]
    assert column(found["table.md"], "seeds", "distilbert", "distilbert") == "1"


def test_repeated_and_smaller_budgets_are_listed_beside() -> None:
    first = [made.record(seed=seed, score=0.9, stamp=seed) for seed in range(3)]
    again = made.record(seed=0, score=0.8, stamp=50)
    limited = [made.record(seed=seed, score=0.1, stamp=60 + seed, hyper={"epochs": 1, "budget": {"limit": 100}})
               for seed in (0, 1)]  # fmt: skip
    found = pages([*first, again, *limited])
    page = found["budgets.md"]
    assert column(page, "why", "small", "distilbert", "distilbert", "1").startswith("a newer run")
    assert "there is a series with a larger budget" in column(page, "why", "small", "distilbert", "distilbert", "2")
    scores = found["distilbert.md"].split("\n## Scores")[1].split("\n## ")[0]
    lines = [line.split("|")[7].split()[0] for line in scores.splitlines() if "| sst2 |" in line]
    assert lines == ["86.7", "10.0"], "the larger budget first"


def test_students_of_two_teachers_never_share_a_row() -> None:
    records: list[Record] = []
    for size, tasks in ((40e6, ("sst2", "rte")), (440e6, ("sst2",))):
        for task in tasks:
            teacher = made.record("bert", "bert", task, size=size, teacher=None, speedup=None, stamp=len(records))
            link = {"record": teacher.id, "score": 0.9}
            student = made.record(task=task, score=0.8, size=size / 2, stamp=len(records) + 1)
            records += [teacher, Record.model_validate(student.model_dump() | {"teacher": link})]
    found = shown(records, {"bert"})
    assert [(one.label, len(one.suite.series)) for one in found] == [
        ("bert (parameters=10M)", 2), ("bert (parameters=110M)", 1),
        ("distilbert (parameters=5M, teacher=10M)", 2), ("distilbert (parameters=55M, teacher=110M)", 1),
    ]  # fmt: skip
    assert [one.teacher_size for one in found] == [None, None, 10e6, 110e6]


def test_a_wider_classifier_is_no_other_suite() -> None:
    (found,) = shown([made.record(task="sst2", size=260e6), made.record(task="mnli", size=260.01e6)])
    assert found.label == "distilbert" and sorted(found.suite.series) == ["mnli", "sst2"]


def test_budgets_overrides_and_dev_looks_are_shown() -> None:
    hyper = {"budget": {"limit": 500, "epochs": 1}, "fine_tune": {"lr": 0.01}}
    asked = {"fine_tune.lr": 0.01, "augmentation.use": False}  # the second is another run's
    page = pages([made.record(hyper=hyper, overrides=asked, dev_looks=3)])["budgets.md"]
    where = ("small", "distilbert", "distilbert (fine_tune.lr=0.01)", "epochs 1, limit 500")
    assert column(page, "budget", *where) == "epochs 1, limit 500"
    assert column(page, "overrides", *where) == "fine_tune.lr 0.01"
    assert column(page, "dev looks per run", *where) == "3"
    assert "sst2: train 1,000, validation 100" in page


def test_rows_of_one_variant_say_what_tells_them_apart() -> None:
    records = [made.record(stamp=tokens, hyper={"budget": {"general.corpus_tokens": tokens, "limit": 9}})
               for tokens in (1000, 2000)]  # fmt: skip
    assert [one.label for one in shown(records)] == [
        "distilbert (general.corpus_tokens=2,000)", "distilbert (general.corpus_tokens=1,000)"]  # fmt: skip


def test_environment_names_machine_packages_and_commit() -> None:
    records = [made.record(), made.record(seed=1, code={"commit": "f" * 40, "dirty": True})]
    page = pages(records)["environments.md"]
    assert "cpu Example CPU" in page and "torch 2.13.0" in page and "python 3.11.9" in page
    assert column(page, "uncommitted changes", "ffffffffffff") == "yes"
    assert column(page, "uncommitted changes", "0123456789ab") == "no"


def test_a_paper_with_sizes_only_says_so() -> None:
    sizes = [made.measurement("parameters", "all", 66e6, "count")]
    page = pages([made.record(scale="shape", measurements=sizes, teacher=None)])["distilbert.md"]
    assert "No scores: the runs at hand" in page and "No records yet" not in page
    assert "Table 1, recalled)" in pages([made.record()])["bert.md"]


def test_a_share_of_a_guess_is_not_shown() -> None:
    told = {"majority": made.measurement("majority", "validation", 0.5, "fraction")}
    records = [made.record(task=task, seed=seed, score=score, teacher=0.9)
               for task, score in (("sst2", 0.81), ("rte", 0.5)) for seed in range(3)]  # fmt: skip
    records = [one.model_copy(update={"measurements": [*one.measurements, Measurement(**told["majority"])]})
               for one in records]  # fmt: skip
    (found,) = shown(records)
    assert found.glue and len(found.glue.entries) == 2 and found.telling and len(found.telling.entries) == 1
    page = pages(records)
    assert column(page["table.md"], "retention (%)", "distilbert", "distilbert").endswith("(1)")
    shares = [column(page["distilbert.md"], "kept (%)", "small", "distilbert", task) for task in ("sst2", "rte †")]
    assert shares == ["90.0 [90.0, 90.0]", "at chance"]


def test_figure_is_well_formed_and_says_what_it_shows() -> None:
    found = pages(made.study())
    assert "tradeoff.svg" in found and "](tradeoff.svg)" in found["README.md"]
    text = found["tradeoff.svg"]
    assert ET.fromstring(text).tag.endswith("svg")
    for words in ("hollow: printed; solid: measured on ", "BERT-base"):
        assert words in text
    assert "<dc:date>" not in text


def _fill(folder: Path) -> None:
    for record in made.study(seeds=2):
        store.write_record(folder / "results", record)


NAMES = ["README.md", "bert.md", "budgets.md", "claims.csv", "claims.json", "claims.tex", "distilbert.md",
         "environments.md", "index.html", "no-free-lunch.csv", "no-free-lunch.json", "no-free-lunch.tex", "papers.md",
         "table.csv", "table.json", "table.md", "table.tex", "tradeoff.svg"]  # fmt: skip


def test_write_then_check_then_stale(tmp_path: Path) -> None:
    _fill(tmp_path)
    reports, asked = tmp_path / "reports", request(tmp_path)
    assert len(build.stale(asked)) == len(NAMES) and not reports.exists()
    assert sorted(path.name for path in build.write(asked).files) == NAMES
    assert sorted(path.name for path in reports.iterdir()) == NAMES
    assert build.stale(asked) == []
    store.write_record(tmp_path / "results", made.record(seed=9, stamp=99))
    (reports / "bert.md").write_text("edited by hand\n")
    (reports / "gone.md").write_text(f"{markdown.MARK}\n\n# A paper that was here\n")
    (reports / "mine.md").write_text("# not generated\n")
    (reports / "gone.svg").write_text("<svg><title>bench report</title></svg>\n")
    (reports / "mine.svg").write_text("<svg/>\n")
    stale = {path.name for path in build.stale(asked)}
    assert {"README.md", "bert.md", "distilbert.md", "gone.md", "gone.svg"} <= stale
    assert not {"mine.md", "mine.svg"} & stale
    build.write(asked)
    assert build.stale(asked) == []
    assert (reports / "mine.md").exists() and not (reports / "gone.md").exists()


def test_smoke_has_a_report_of_its_own_and_unknown_scales_none() -> None:
    results = [Path("results")]
    assert build.request(results, Path("r"), "smoke").reports == Path("r/smoke")
    assert build.request(results, Path("r"), "smoke").scales == ("smoke",)
    for scale in ("", "full", "shape"):
        found = build.request(results, Path("r"), scale)
        assert (found.reports, found.scales) == (Path("r"), ("small", "full", "shape"))
    for scale in ("big", "../smoke", "smoke/.."):
        with pytest.raises(SpecError, match="unknown --scale"):
            build.request(results, Path("r"), scale)


def test_a_folder_without_records_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="the results are not a folder"):
        build.write(request(tmp_path))
    (tmp_path / "results").mkdir()
    with pytest.raises(RecordError, match="there are no records"):
        build.write(request(tmp_path))
    assert not (tmp_path / "reports").exists()


def test_a_second_folder_puts_its_machines_beside(tmp_path: Path) -> None:
    def shape(machine: str, ratio: float, stamp: int, **changed: object) -> Record:
        entries = [made.measurement("speedup", "batch1-length128", ratio, "ratio", (ratio, ratio * 1.01)),
                   made.measurement("latency_s", "batch1-length128", 0.01, "s", (0.01, 0.01))]  # fmt: skip
        spec = {"paper": "distilbert", "variant": "distilbert", "task": "shape", "scale": "shape", "seed": 0}
        return made.record(scale="shape", spec=spec, stamp=stamp, machine=machine, data=None, teacher=None,
                           measurements=entries, **changed)  # fmt: skip

    store.write_record(tmp_path / "results", shape("theirs", 2.0, 0))
    store.write_record(tmp_path / "mine", shape("mine", 3.0, 5, tier="reduced"))
    asked = build.Request((tmp_path / "results", tmp_path / "mine"), tmp_path / "reports", tuple(ledgers()))
    files = {path.name: text for path, text in build.make(asked).files.items()}
    assert "on theirs, in brackets on mine" in files["README.md"]
    assert "2.0x" in files["README.md"] and "(3.0x)" in files["README.md"]


_PROGRAM = """
import sys
from pathlib import Path
from bench.claims.ledger import load
from bench.report import build
folder, fixtures = Path(sys.argv[1]), Path(sys.argv[2])
ledgers = tuple(load(fixtures / name) for name in sys.argv[4:])
build.write(build.Request((folder / "results",), folder / sys.argv[3], ledgers, ("small",)))
assert "torch" not in sys.modules and "matplotlib.pyplot" not in sys.modules
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Other hash seeds, another order of ledgers, another time zone and locale: nothing may show."""
    _fill(tmp_path)
    settings = (
        ("a", "0", "UTC", ("bert.toml", "distilbert.toml")),
        ("b", "4321", "Asia/Tokyo", ("distilbert.toml", "bert.toml")),
    )
    root = FIXTURES.parents[2]
    for name, seed, zone, files in settings:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(tmp_path), str(FIXTURES), name, *files],
            env=os.environ | {"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(root)},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "ab")
    assert len(first) == len(NAMES) and first == second


def test_the_pages_are_the_golden_ones() -> None:
    """A pin of the layout, made by this code: after a change that is meant, write it anew and read the difference."""
    records = made.study(seeds=2, tasks=("sst2", "rte"))
    records.append(made.record(task="rte", seed=2, status="failed", reason="out of memory", measurements=[], stamp=70))
    found = pages(records)
    for name in ("README", "table"):
        golden = FIXTURES / f"{name}.golden.md"
        if os.environ.get("WRITE_GOLDEN"):
            golden.write_text(found[f"{name}.md"], encoding="utf-8")
        assert found[f"{name}.md"] == golden.read_text(encoding="utf-8")


def test_the_hash_over_the_bands_changes_with_any_band() -> None:
    books = ledgers()
    before = build.tolerance_digest(books)
    tolerances = dict(books[0].tolerances)
    name = next(iter(tolerances))
    tolerances[name] = tolerances[name].model_copy(update={"absolute": tolerances[name].absolute + 0.001})
    moved = [books[0].model_copy(update={"tolerances": tolerances}), books[1]]
    assert build.tolerance_digest(moved) != before == build.tolerance_digest(ledgers())
    found = pages([made.record()])
    assert all(before in text for name, text in found.items() if name.endswith(".md"))


def test_the_index_knows_which_runs_speak(tmp_path: Path) -> None:
    """One run on all rows does not displace several on some, and a larger budget goes before more seeds."""
    some = [made.record(seed=seed, stamp=seed, score=0.8, hyper={"budget": {"limit": 400}}) for seed in (0, 1, 2)]
    one, two = (made.record(seed=seed, stamp=9 + seed, hyper={"budget": {"limit": 800}}) for seed in (0, 1))

    def speaking(records: list[Record]) -> set[str]:
        return {
            run.id
            for run in SeriesIndex(runs_of(records)).series(("distilbert", "distilbert"), "sst2")[0].runs.values()
        }

    assert speaking([*some, one]) == {record.id for record in some}
    assert speaking([*some, one, two]) == {one.id, two.id}
