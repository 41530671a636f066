"""The GLUE score of a model and its retention, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable

from bench.core.stats import mean
from bench.report.gather import Model, Score
from bench.report.numbers import Interval, half_of_means


def averages(model: Model, keep: Callable[[Score], bool] = lambda score: True) -> tuple[Interval, Interval] | None:
    """(GLUE score, retention) over the model's GLUE tasks; every score kept counts, also of seeds that miss a task.

    The score is the mean over tasks of the mean over seeds. Retention divides it by the same mean of the runs' own
    teachers, and is nan where a run has none. Where all tasks have the same seeds, the intervals are t intervals over
    the seeds' averages; else the tasks count as independent samples, and retention's is linearised (delta method).
    """
    tasks = [[score for score in model.tasks[task].scores if keep(score)] for task in model.glue_tasks()]
    if not tasks or not all(tasks):
        return None
    seeds = {tuple(score.seed for score in scores) for scores in tasks}
    alike = len(seeds) == 1
    own = [[score.counted for score in scores] for scores in tasks]
    value = mean([mean(values) for values in own])
    number = min(len(values) for values in own)
    score = Interval.of(_averages(own)) if alike else _around(value, half_of_means(own), number)
    known = [[score.teacher for score in scores if score.teacher is not None] for scores in tasks]
    if [len(values) for values in known] != [len(values) for values in own]:
        return score, Interval(math.nan, None, None, 0)
    teacher = mean([mean(values) for values in known])
    if teacher <= 0:
        return score, Interval(math.nan, None, None, 0)
    kept = value / teacher
    if alike:
        below = _averages(known)
        ratios = [a / b for a, b in zip(_averages(own), below, strict=True)] if min(below) > 0 else [kept]
        return score, Interval.of(ratios)
    pairs = zip(own, known, strict=True)
    rest = [[(a - kept * b) / teacher for a, b in zip(mine, theirs, strict=True)] for mine, theirs in pairs]
    return score, _around(kept, half_of_means(rest), number)


def _averages(tasks: list[list[float]]) -> list[float]:
    """The average over tasks of each seed."""
    return [mean(values) for values in zip(*tasks, strict=True)]


def _around(value: float, half: float | None, number: int) -> Interval:
    return Interval(value, None if half is None else value - half, None if half is None else value + half, number)
