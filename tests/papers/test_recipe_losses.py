"""Every recipe's losses by 2 and 3 processes are those by 1: means over tokens, batch statistics, draws and all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("recipe_losses.py")
Curves = dict[str, dict[str, list[float]]]


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Curves]:
    """ "PROCESSES-RANK" -> what each process saw."""
    folder = tmp_path_factory.mktemp("curves")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder), "1", "2", "3"], env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*-*.json")}


@pytest.mark.slow
def test_each_step_costs_what_it_costs_one_process(curves: dict[str, Curves]) -> None:
    assert set(curves) == {"1-0", "2-0", "2-1", "3-0", "3-1", "3-2"}
    alone, steps = curves["1-0"], 0
    for name, others in curves.items():
        assert others.keys() == alone.keys()
        for case, fits in alone.items():
            assert others[case].keys() == fits.keys(), (name, case)
            for fit, losses in fits.items():
                if fit.endswith("weights"):
                    continue
                assert len(others[case][fit]) == len(losses) > 0, (name, case, fit)
                assert others[case][fit] == pytest.approx(losses, rel=1e-5, abs=1e-5), (name, case, fit)
                steps += len(losses)
    assert len(alone) >= 27 and steps >= 6 * 130, "every recipe, with all kinds of loss"


@pytest.mark.slow
def test_all_processes_end_with_the_same_weights(curves: dict[str, Curves]) -> None:
    """To the last bit, running statistics and ranges of activations among them."""
    compared = 0
    for name, others in curves.items():
        main = curves[f"{name[0]}-0"]
        for case, fits in others.items():
            for fit, sums in fits.items():
                assert sums == main[case][fit], (name, case, fit)
                compared += 1
    assert compared >= 6 * 27
