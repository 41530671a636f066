"""tests/benchmarks/gpu.py in its small form on a CPU; its checks of graphs, in a test that needs a GPU."""

from __future__ import annotations

import json

import gpu
import pytest
import torch


def test_the_script_runs_in_its_small_form(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(work: object) -> dict[str, float]:
        raise RuntimeError("a section that breaks")

    monkeypatch.setitem(gpu.SECTIONS, "measure", (broken, 10))
    monkeypatch.setattr("sys.argv", ["gpu.py", "--tiny"])
    gpu.main()
    out = capsys.readouterr().out
    figures = json.loads(out.splitlines()[-1])
    if not torch.cuda.is_available():
        assert figures["resume_fine_tune_fp32"] == figures["resume_distil_fp32"] == 0.0
    speeds = {"matmul_tflops", "base_eager_steps", "small_eager_steps", "distil_eager_64", "teacher_logits_per_s",
              "evaluation_per_s", "small_stock_steps", "base_stock_steps"}  # fmt: skip
    assert all(figures[name] > 0 for name in speeds)
    assert "a section that breaks" in out and [name for name in figures if "failed" in name] == ["measure_failed"]


@pytest.mark.gpu
def test_graphs_train_as_single_operations_do() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    work = gpu.Work(gpu.FULL)
    figures = gpu.run(work, ["equal", "resume", "recover"], minutes=4)
    assert figures["equal_fine_tune"] <= 1e-5 and figures["equal_distil"] <= 1e-5
    assert [name for name, value in figures.items() if name.startswith("resume") and value != 0.0] == []
    assert figures["recover_waits"] == figures["recover_breaks"] == 1.0
