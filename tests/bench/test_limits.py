"""The user's limits on rows: of the training split, and of the scored ones."""

from __future__ import annotations

from bench.data.tasks import get_task
from bench.run.inputs import Inputs
from bench.run.request import Request

TASK = get_task("sst2")


def test_a_dev_limit_cuts_what_is_scored_and_says_so() -> None:
    whole, cut = Inputs(Request()), Inputs(Request(dev_limit=50))
    (split,) = TASK.scored
    assert len(whole.rows(TASK, split)) > 50 and not whole.rows(TASK, split).partial
    assert len(cut.rows(TASK, split)) == 50 and cut.rows(TASK, split).partial
    assert set(cut.rows(TASK, split).ids) <= set(whole.rows(TASK, split).ids)
    assert len(cut.used(TASK, "train")) == len(whole.used(TASK, "train")) and not cut.rows(TASK, TASK.train).partial
    assert cut.data_identity(TASK) != whole.data_identity(TASK)
    assert cut.limits(TASK) == {"limit": None, "dev_limit": 50} and whole.limits(TASK) == {"limit": None}
    assert len(cut.whole(TASK, split)) == len(whole.rows(TASK, split)), "floors are those of the whole split"


def test_a_limit_above_the_rows_cuts_nothing() -> None:
    rows = Inputs(Request(limit=10, dev_limit=10**9))
    (split,) = TASK.scored
    assert not rows.rows(TASK, split).partial and rows.limits(TASK) == {"limit": 10}
    assert rows.data_identity(TASK) == Inputs(Request(limit=10)).data_identity(TASK)
    assert len(rows.used(TASK, "train")) == 10
