"""The report: what its table says, that nothing is dropped silently, and that same inputs give the same bytes."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rendered import FIXTURES, column, ledgers, made, pages, row

from bench.claims.units import TASK_METRICS
from bench.core import store
from bench.core.record import Record
from bench.judge.series import Evidence
from bench.judge.verdict import Judged
from bench.report import build, markdown, numbers, overview, plots
from bench.report.averages import averages
from bench.report.gather import degenerate, gather


def test_the_metrics_of_the_made_up_records_are_those_of_the_tasks() -> None:
    assert len(made.METRICS) == 10
    assert {task: TASK_METRICS[task] for task in made.METRICS} == made.METRICS


def test_table_values_are_those_worked_by_hand() -> None:
    scores = {"sst2": (0.90, 0.92, 0.94), "rte": (0.60, 0.64, 0.62)}
    records = []
    for task, values in scores.items():
        for seed, value in enumerate(values):
            records.append(made.record(task=task, seed=seed, score=value, teacher=0.8, speedup=None))
    page = pages(records)["README.md"]
    # Seed averages 75, 78, 78: mean 77, sample deviation sqrt(3), t(2) = 4.3027, half width 4.3027 * sqrt(3) / sqrt(3).
    assert column(page, "GLUE score", "distilbert", "distilbert", "small") == "77.0 [72.7, 81.3]"
    # Divided by the teacher's 0.8, seed by seed.
    assert column(page, "retention (%)", "distilbert", "distilbert", "small") == "96.2 [90.9, 101.6]"
    assert column(page, "params (M)", "distilbert", "distilbert", "small") == "65.0"
    assert column(page, "MB on disk", "distilbert", "distilbert", "small") == "260.0"
    assert column(page, "GFLOPs", "distilbert", "distilbert", "small") == "22.10"
    assert column(page, "seeds", "distilbert", "distilbert", "small") == "3"
    assert column(page, "training, s per run", "distilbert", "distilbert", "small") == "61.0 (6 runs)"
    assert "sst2 (accuracy, validation), rte (accuracy, validation)" in page


def test_each_task_is_scored_by_its_primary_metric() -> None:
    records = [made.record(task=task, score=0.7) for task in made.METRICS]
    (model,) = gather(records, set())
    assert {task: scores.metric for task, scores in model.tasks.items()} == {t: m[0] for t, m in made.METRICS.items()}
    assert model.tasks["imdb"].split == "test" and "imdb" not in model.glue_tasks()
    assert len(model.glue_tasks()) == 9


def test_tasks_with_other_seeds_count_whole_and_get_a_wider_interval() -> None:
    records = [made.record(task="sst2", seed=seed, score=0.9 + seed / 100, teacher=None) for seed in range(3)]
    records += [made.record(task="rte", seed=seed, score=0.6 + seed / 100, teacher=None) for seed in range(2)]
    (model,) = gather(records, set())
    both = averages(model)
    assert both is not None
    score, retention = both
    assert score.value == pytest.approx((0.91 + 0.605) / 2)
    # Variances of the means 1e-4/3 and 0.5e-4/2; Welch's freedom is 2.85, rounded down to 2: t = 4.3027.
    half = 4.30265 * math.sqrt(1e-4 / 3 + 0.5e-4 / 2) / 2
    assert (score.low, score.high) == (pytest.approx(score.value - half), pytest.approx(score.value + half))
    assert math.isnan(retention.value)


def test_times_of_two_machines_are_never_pooled() -> None:
    records = [made.record(seed=5 * seed, speedup=2.0) for seed in range(3)]
    records += [made.record(seed=5 * seed + 15, speedup=1.25, machine="epyc-64c") for seed in range(3)]
    page = pages(records)["README.md"]
    lines = [line for line in page.splitlines() if line.startswith("| distilbert") and "epyc-64c" in line]
    lines += [line for line in page.splitlines() if line.startswith("| distilbert") and "xeon-2c" in line]
    assert len(lines) == 2
    assert "1.25x" in lines[0] and "2.00x" not in lines[0]
    assert "2.00x" in lines[1] and "1.25x" not in lines[1]
    (model,) = gather(records, set())
    assert model.machines() == ["epyc-64c", "xeon-2c"] and model.speedup("other", "batch1-length128") is None


def test_one_timed_run_has_the_interval_of_its_rounds() -> None:
    (model,) = gather([made.record(speedup=2.0)], set())
    found = model.speedup("xeon-2c", "batch1-length128")
    assert found is not None and found.value == 2.0
    assert found.low is not None and found.high is not None and found.low < 2.0 < found.high
    assert found.high < 2.1


def test_reference_comes_first_and_has_no_retention() -> None:
    page = pages(made.study(seeds=2))["README.md"]
    names = re.findall(r"^\| (\S+) +\| (\S+) +\| small ", page, re.M)
    assert names[:4] == [("bert", "bert")] + [
        ("distilbert", v) for v in ("distilbert", "distilbert-no-ce", "distilbert-no-mlm")
    ]
    assert column(page, "retention (%)", "bert", "bert", "small") == "reference"
    assert column(page, "speed-up, batch 1", "bert", "bert", "small") == "1 (reference)"


def test_degenerate_runs_are_shown_with_and_without() -> None:
    records = [made.record(task="cola", seed=seed, score=0.5, teacher=0.5) for seed in range(4)]
    records.append(made.record(task="cola", seed=4, score=0.0, teacher=0.5))
    page = pages(records)["README.md"]
    assert column(page, "GLUE score", "distilbert", "distilbert", "small").endswith("†")
    assert column(page, "with", "small", "distilbert", "distilbert", "cola matthews, mean").startswith("40.0 [")
    assert column(page, "without", "small", "distilbert", "distilbert", "cola matthews, mean") == "50.0 [50.0, 50.0]"
    assert column(page, "without", "small", "distilbert", "distilbert", "retention (%)") == "100.0 [100.0, 100.0]"
    assert column(page, "runs", "small", "distilbert", "distilbert", "cola matthews, mean") == "5 / 4"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"pearson": None, "spearman": None}, "undefined"),
        ({"matthews": 0.0}, "exactly 0"),
        ({"accuracy": 0.684, "majority": 0.684}, "majority"),
        ({"accuracy": 0.75, "f1": 2 * 0.75 / 1.75}, "positive class only"),
        ({"accuracy": 0.4, "f1": 0.0}, "not one positive"),
        ({"accuracy": 0.9, "f1": 0.92}, ""),
        ({"matthews": 0.01, "accuracy": 0.7}, ""),
        ({"accuracy": 1.0, "f1": 1.0}, ""),
    ],
)
def test_degenerate_says_why(values: dict[str, float | None], why: str) -> None:
    found = degenerate(values)
    assert (why in found) if why else found == ""


def test_an_undefined_score_counts_as_zero_and_is_said() -> None:
    records = [made.record(task="stsb", seed=0, score=0.8), made.record(task="stsb", seed=1, score=None)]
    page = pages(records)["README.md"]
    assert column(page, "GLUE score", "distilbert", "distilbert", "small").startswith("40.0 ")
    assert "pearson and spearman undefined" in page


def test_failed_runs_keep_their_reason_and_score_nothing() -> None:
    reason = "non-finite loss | at step 3\nof <s>"
    records = [made.record(), made.record(seed=1, status="failed", reason=reason, measurements=[], stamp=9)]
    page = pages(records)["README.md"]
    assert r"non-finite loss \| at step 3 of &lt;s>" in page
    assert column(page, "seeds", "distilbert", "distilbert", "small") == "1"


def test_repeated_and_other_settings_are_listed_beside() -> None:
    first = [made.record(seed=seed, score=0.9, stamp=seed) for seed in range(3)]
    again = made.record(seed=0, score=0.8, stamp=50)
    limited = made.record(seed=0, score=0.1, stamp=60, hyper={"epochs": 1, "budget": {"limit": 100}})
    (model,) = gather([*first, again, limited], set())
    assert [score.value for score in model.tasks["sst2"].scores] == [0.8, 0.9, 0.9]
    assert model.repeated == (first[0],) and model.aside == (limited,)
    cut = [made.record(seed=seed, score=0.2, stamp=70, hyper={"epochs": 1, "budget": {"dev_limit": 9}})
           for seed in range(9)]  # fmt: skip
    (model,) = gather([*first, again, limited, *cut], set())
    assert {record.id for record in model.aside} == {record.id for record in (limited, *cut)}, "fewer rows, less weight"
    found = pages([*first, again, limited])
    page = found["README.md"]
    assert column(page, "why not shown", "small", "distilbert", "distilbert", "1").startswith("a newer run")
    assert "another setting of the same task" in page
    other = found["distilbert.md"].split("## Scores under other budgets")[1].split("\n## ")[0]
    assert [line.split("|")[6].split()[0] for line in other.splitlines() if "| sst2" in line] == ["86.7", "10.0"]


def test_students_of_two_teachers_never_share_a_row() -> None:
    records: list[Record] = []
    for size, tasks in ((40e6, ("sst2", "rte")), (440e6, ("sst2",))):
        for task in tasks:
            teacher = made.record("bert", "bert", task, size=size, teacher=None, speedup=None, stamp=len(records))
            link = {"record": teacher.id, "score": 0.9}
            student = made.record(task=task, score=0.8, size=size / 2, stamp=len(records) + 1)
            records += [teacher, Record.model_validate(student.model_dump() | {"teacher": link})]
    models = gather(records, {"bert"})
    assert [(model.label, len(model.tasks)) for model in models] == [
        ("bert #1", 2), ("bert #2", 1), ("distilbert #1", 2), ("distilbert #2", 1),
    ]  # fmt: skip
    assert [model.teacher_parameters for model in models] == [None, None, 10e6, 110e6]


def test_a_wider_classifier_is_no_other_session() -> None:
    records = [made.record(task="sst2", size=260e6), made.record(task="mnli", size=260.01e6)]
    (model,) = gather(records, set())
    assert model.label == "distilbert" and sorted(model.tasks) == ["mnli", "sst2"]


def test_budgets_overrides_and_dev_looks_are_shown() -> None:
    hyper = {"budget": {"limit": 500, "epochs": 1}, "fine_tune": {"lr": 0.01}}
    asked = {"fine_tune.lr": 0.01, "augmentation.use": False}  # the second is another run's
    changed = {"hyper": hyper, "overrides": asked, "dev_looks": 3}
    page = pages([made.record(**changed)])["README.md"]
    row = ("small", "distilbert", "distilbert (fine_tune.lr=0.01)", "epochs 1, limit 500")
    assert column(page, "budget", *row) == "epochs 1, limit 500"
    assert column(page, "overrides", *row) == "fine_tune.lr 0.01"
    assert column(page, "dev looks per run", *row) == "3"
    assert "sst2: train 1,000, validation 100" in page


def test_environment_names_machine_packages_and_commit() -> None:
    page = pages([made.record(), made.record(seed=1, code={"commit": "f" * 40, "dirty": True})])["README.md"]
    assert "cpu Example CPU" in page and "torch 2.13.0" in page and "python 3.11.9" in page
    assert column(page, "uncommitted changes", "ffffffffffff") == "yes"
    assert column(page, "uncommitted changes", "0123456789ab") == "no"


def test_a_report_without_records_is_honest() -> None:
    found = pages([])
    assert set(found) == {"README.md", "bert.md", "distilbert.md"}
    assert "No records yet" in found["README.md"] and "pareto" not in found["README.md"]
    assert column(found["README.md"], "not run", "[bert](bert.md)") == "1"
    assert column(found["bert.md"], "verdict", "bert.sst2.dev") == "**not run**"
    assert "(recalled)" in found["bert.md"]


def test_a_paper_with_sizes_only_says_so() -> None:
    sizes = [made.measurement("parameters", "all", 66e6, "count")]
    page = pages([made.record(scale="shape", measurements=sizes, teacher=None)])["distilbert.md"]
    assert "No scores: the runs at hand" in page and "No records yet" not in page


def test_a_paper_page_has_every_claim_and_the_teacher_beside_each_score() -> None:
    page = pages(made.study())["distilbert.md"]
    claims = ledgers()[1].claims
    shown = [claim.id for claim in claims if row(page, claim.id)]
    assert len(shown) == 5
    assert column(page, "printed", "distilbert.speed") == "60 % faster"
    assert "no-ce &lt; distilbert-no-mlm &lt; distilbert" in column(page, "printed", "distilbert.ablation")
    assert column(page, "n", "small", "distilbert", "rte") == "5"
    assert column(page, "teacher, mean", "small", "distilbert", "rte") != "–"
    assert column(page, "fits", "distilbert.t1.score") == "yes"
    assert "../results/small/distilbert/distilbert" in page
    assert "SST-2 \\| with a bar" in page


def test_verdict_counts_of_rows_and_papers_agree_with_the_claims() -> None:
    records = made.study()
    judged = build.by_paper(ledgers(), build.judge(ledgers(), records))
    assert {paper: len(entries) for paper, entries in judged.items()} == {"bert": 1, "distilbert": 5}
    rows = overview.attribute(gather(records, {"bert"}), judged)
    assert sum(sum(numbers.values()) for numbers in rows.values()) == 6


def test_figure_is_well_formed_and_says_what_it_shows() -> None:
    found = pages(made.study())
    assert "pareto-small.svg" in found and "![pareto-small.svg](pareto-small.svg)" in found["README.md"]
    text = found["pareto-small.svg"]
    assert ET.fromstring(text).tag.endswith("svg")
    for words in ("GLUE retention", "MB on disk", "xeon-2c", "distilbert-no-ce (5 tasks)"):
        assert words in text
    assert "<dc:date>" not in text


def test_the_front_holds_only_what_no_other_beats() -> None:
    def point(label: str, x: float, y: float) -> plots.Point:
        return plots.Point(label, "p", numbers.Interval(x, None, None, 1), numbers.Interval(y, None, None, 1))

    points = [point("big", 400, 100), point("small", 50, 80), point("worse", 60, 79), point("same", 50, 70)]
    assert [p.label for p in plots.front(points, "left")] == ["small", "big"]
    assert [p.label for p in plots.front(points, "right")] == ["big"]
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.draw(plots.Picture((plots.Panel("t", "x", "left", ()),), "y"))


def _fill(folder: Path) -> None:
    for record in made.study(seeds=2):
        store.write_record(folder / "results", record)


def test_write_then_check_then_stale(tmp_path: Path) -> None:
    _fill(tmp_path)
    results, reports = tmp_path / "results", tmp_path / "reports"
    arguments = (results, reports, ledgers(), ("small", "full", "shape"))
    assert len(build.stale_report(*arguments)) == 4 and not reports.exists()
    written = build.write_report(*arguments)
    assert [path.name for path in written] == ["README.md", "bert.md", "distilbert.md", "pareto-small.svg"]
    assert sorted(path.name for path in reports.iterdir()) == [path.name for path in written]
    assert build.stale_report(*arguments) == []
    store.write_record(results, made.record(seed=9, stamp=99))
    (reports / "bert.md").write_text("edited by hand\n")
    (reports / "gone.md").write_text(f"{markdown.MARK}\n\n# A paper that was here\n")
    (reports / "mine.md").write_text("# not generated\n")
    (reports / "pareto-full.svg").write_text("<svg/>\n")
    stale = {path.name for path in build.stale_report(*arguments)}
    assert {"README.md", "bert.md", "distilbert.md", "gone.md", "pareto-full.svg"} <= stale and "mine.md" not in stale
    build.write_report(*arguments)
    assert build.stale_report(*arguments) == []
    assert (reports / "mine.md").exists() and not (reports / "gone.md").exists()


def test_smoke_has_a_report_of_its_own() -> None:
    assert build.place(Path("reports"), "smoke") == (("smoke",), Path("reports/smoke"))
    assert build.place(Path("reports"), "") == (("small", "full", "shape"), Path("reports"))
    assert build.place(Path("reports"), "full") == (("small", "full", "shape"), Path("reports"))


_PROGRAM = """
import sys
from pathlib import Path
from bench.claims.ledger import load
from bench.report import build
folder, fixtures = Path(sys.argv[1]), Path(sys.argv[2])
build.write_report(folder / "results", folder / sys.argv[3], [load(fixtures / n) for n in sys.argv[4:]], ("small",))
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
    assert len(first) == 4 and first == second


def test_the_page_is_the_golden_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pin of the layout, made by this code: after a change that is meant, write it anew and read the difference."""
    records = made.study(seeds=2, tasks=("sst2", "rte"))
    records.append(made.record(task="rte", seed=2, status="failed", reason="out of memory", measurements=[], stamp=70))
    monkeypatch.setattr(build, "judge", lambda ledgers, _: [Judged(c, "not run") for x in ledgers for c in x.claims])
    golden = FIXTURES / "README.golden.md"
    assert pages(records)["README.md"] == golden.read_text(encoding="utf-8")


def test_numbers_are_printed_plainly() -> None:
    assert numbers.show(None) == numbers.show(float("nan")) == "–"
    assert numbers.show(-0.04) == "0.0" and numbers.show(1234.5) == "1,234.5"
    assert numbers.significant(0.0012345) == "0.00123" and numbers.significant(1234.5) == "1,234"
    assert numbers.significant(-96.44) == "-96.4" and numbers.significant(0.0) == "0"


def test_links_never_leave_the_project() -> None:
    assert markdown.link("r", Path("p/results/small"), Path("p/reports/a.md")) == "[r](../results/small)"
    assert markdown.link("r", Path("/elsewhere/results"), Path("/home/someone/p/reports/a.md")) == "r"


def test_the_figure_leaves_what_ran_on_few_tasks_to_the_table() -> None:
    records = made.study(seeds=2, tasks=("cola", "sst2", "rte"))
    few = [made.record("distilbert", "distilbert-no-mlm", task="cola", seed=seed, stamp=90 + seed) for seed in (0, 1)]
    records = [r for r in records if r.spec.variant != "distilbert-no-mlm"] + few
    found = pages(records)
    assert "distilbert-no-mlm" in found["README.md"] and "distilbert-no-mlm" not in found["pareto-small.svg"]
    assert "distilbert-no-ce (3 tasks)" in found["pareto-small.svg"]


def test_students_are_compared_over_their_own_longest_task_list() -> None:
    """A task that only the reference ran makes no student pale."""
    records = made.study(seeds=2, tasks=("cola", "sst2"))
    records += [made.record("bert", "bert", task="mnli", seed=seed, stamp=90 + seed, speedup=None) for seed in (0, 1)]
    drawn = overview.figures(gather(records, {"bert"}))["pareto-small.svg"]
    assert isinstance(drawn, plots.Picture)
    points = drawn.panels[0].points
    assert len(points) > 2 and all(point.comparable for point in points)


def test_one_run_on_all_rows_does_not_displace_several_on_some() -> None:
    some = [made.record(seed=seed, stamp=seed, score=0.8, hyper={"budget": {"limit": 400, "dev_limit": 50}})
            for seed in (0, 1)]  # fmt: skip
    one, two = (made.record(seed=seed, stamp=9 + seed, hyper={"budget": {"limit": 100}}) for seed in (0, 1))

    def shown(records: list[Record]) -> tuple[float | None, int]:
        model = gather(records, set())[0]
        group = Evidence(records).groups(("distilbert", "distilbert"), "sst2")[0]
        assert {run.record.id for run in group.runs.values()} == {record.id for record in model.used}
        return model.tasks["sst2"].scores[0].value, len(model.used)

    assert shown([*some, one]) == (0.8, 2)
    assert shown([*some, one, two]) == (0.9, 2), "all rows, where both have two seeds"
