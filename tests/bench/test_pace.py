"""How fast a machine trains: timed on one thread, whatever else runs on it."""

import pytest
import torch

from bench.run import pace
from bench.train.recipe import EncoderFacts

FACTS = EncoderFacts(6, 32, 2, 100)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_thread_is_timed_and_the_others_share_its_arithmetic(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def step_s(model: torch.nn.Module, rows: int, length: int) -> float:
        used.append(torch.get_num_threads())
        return 0.5 if rows == pace.ROWS else 0.1

    monkeypatch.setattr(pace, "_step_s", step_s)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = pace.measured(FACTS, torch.device("cpu"))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert used == [1, 1]
    assert found.batch_s == pytest.approx(0.1 * 6 / pace.LAYERS)
    one = 3 * pace.encoder_formula(pace.LAYERS, 32, 128, 2, pace.ROWS, pace.LENGTH) / 0.4
    assert found.flops_per_s == pytest.approx(threads * one)


def test_real_steps_take_time() -> None:
    found = pace.measured(FACTS, torch.device("cpu"))
    assert found.batch_s > 0 and found.flops_per_s > 0
