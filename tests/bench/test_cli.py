"""The command line: quick help, JSON alone on stdout, a plan that runs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.main import COMMANDS
from bench.core.errors import SpecError
from bench.report.listing import judged_rows


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"BENCH_HOME": str(cwd / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200, check=False)


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """Which is what keeps it quick: tests/benchmarks/help_speed.py has the seconds."""
    code = (
        "import sys; sys.argv = ['bench', '--help']\n"
        "from bench.cli import main as cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print('HEAVY', [m for m in ('torch', 'transformers', 'pandas', 'matplotlib', 'pydantic') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert all(command in out for command in COMMANDS)
    assert out.splitlines()[-1] == "HEAVY []"


def test_list_names_papers_variants_and_tasks(tmp_path: Path) -> None:
    out = bench("list", "--json", cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    content = json.loads(out.stdout)
    assert {"bert", "distilbert"} <= set(content["papers"]) and content["broken"] == {}
    assert "distilbert-no-cos" in content["papers"]["distilbert"]["variants"] and len(content["tasks"]) >= 11


def test_claims_as_json_have_a_verdict_each(tmp_path: Path) -> None:
    out = bench("claims", "--json", "--paper", "distilbert", cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    rows = json.loads(out.stdout)
    assert len(rows) >= 100 and all(row["verdict"] and row["why"] for row in rows)


def test_claims_filter_by_kind_verdict_and_side_of_the_band() -> None:
    results = Path(__file__).resolve().parents[2] / "results"
    below = judged_rows(results, kind="size", verdict="below")
    assert below and {row["kind"] for row in below} == {"size"}
    assert all(row["high"] < row["band"][0] for row in below)
    reproduced = judged_rows(results, ("qbert",), "size", "reproduced")
    assert len(reproduced) >= 70 and {row["place"] for row in reproduced} == {"inside"}
    with pytest.raises(SpecError, match="unknown --verdict; found wrong; expected one of reproduced"):
        judged_rows(results, verdict="wrong")
    with pytest.raises(SpecError, match="unknown --kind"):
        judged_rows(results, kind="weight")


def test_a_plan_counts_shared_stages_once_and_runs_nothing(tmp_path: Path) -> None:
    out = bench("plan", "smoke", "--paper", "distilbert", "--task", "sst2", "--seeds", "2", "--json", cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    content = json.loads(out.stdout)
    stages = [stage for job in content["jobs"] for stage in job["stages"]]
    assert content["total"]["jobs"] == 4 and not any(stage["cached"] for stage in stages)
    assert sum(stage["name"] == "pretrain" and not stage["shared"] for stage in stages) == 1
    assert not (tmp_path / "results").exists() and not (tmp_path / "home" / "stages").exists()


def test_doctor_names_what_is_missing_and_how_to_mend_it(tmp_path: Path) -> None:
    out = bench("doctor", "--json", cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    rows = json.loads(out.stdout)
    assert len(rows) >= 4 and all(row["ok"] or row["fix"] for row in rows)
