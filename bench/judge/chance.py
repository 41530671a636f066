"""What guessing would score: a model that is not better is no evidence, neither for a claim nor against it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bench.claims.units import TASK_METRICS
from bench.core.meaning import CORRELATIONS, SHARES
from bench.judge.runs import Measurements, Run
from bench.judge.series import Series

QUALITY = (*SHARES, *CORRELATIONS)

ONE_SIDED = 1.645
"""Standard errors above chance that 5% of guessing models reach."""


def degenerate_run(run: Run, split: str) -> str:
    """Why the predictions of a run on one split look constant, from its measurements; empty where they do not.

    `majority`, where it was measured, is the accuracy of always predicting the commonest class. Units: fractions.
    """
    values = {name: run.measured[name, split].value for name in (*QUALITY, "majority") if (name, split) in run.measured}
    undefined = sorted(name for name, value in values.items() if value is None and name in QUALITY)
    if undefined:
        return f"{' and '.join(undefined)} undefined: the predictions are constant"
    accuracy, f1, matthews = values.get("accuracy"), values.get("f1"), values.get("matthews")
    if matthews == 0.0:
        return "matthews is exactly 0: no better than constant predictions"
    if f1 == 0.0:
        return "F1 is 0: not one positive found"
    # A model that always says yes has the positives' share a as accuracy and precision, recall 1: F1 = 2a / (1 + a).
    if accuracy and f1 and 0 < accuracy < 1 and abs(f1 - 2 * accuracy / (1 + accuracy)) < 1e-9:
        return "accuracy and F1 are those of predicting the positive class only"
    # By luck a model that learnt has the same share right: so this counts only where no other metric tells.
    if accuracy is not None and accuracy == values.get("majority") and matthews is None and f1 is None:
        return "accuracy is exactly the majority class's share"
    return ""


class Chance:
    """What guessing scores on each split: a fact of the split, so that one run that measured it tells of all."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._majority: dict[tuple[str, str, int], float] = {}
        for run in runs:
            for (metric, split), measured in run.measured.items():
                if metric == "majority" and measured.value is not None:
                    self._majority[run.task, split, measured.n] = measured.value

    def most(self, task: str, split: str, measured: Measurements) -> tuple[str, float] | None:
        """(metric, upper 95% bound of what guessing scores by luck); None where that is not known.

        A correlation (Matthews' too) is 0 by guessing, with a standard error of 1 / sqrt(n); an accuracy is the share
        of the majority class. Units: fractions.
        """
        for metric in TASK_METRICS.get(task, ()):
            entry = measured.get((metric, split))
            if entry is None:
                continue
            if metric in CORRELATIONS:
                return metric, ONE_SIDED / math.sqrt(max(1, entry.n))
            share = self._majority.get((task, split, entry.n))
            if metric == "accuracy" and share is not None:
                return metric, share + ONE_SIDED * math.sqrt(share * (1 - share) / max(1, entry.n))
        return None

    def guesses(self, task: str, split: str, runs: Iterable[Measurements]) -> bool:
        """Whether runs on a split are on average no better than guessing with luck; False where that is not known."""
        scores, limits = [], []
        for measured in runs:
            found = self.most(task, split, measured)
            if found is not None:
                scores.append(measured[found[0], split].value or 0.0)
                limits.append(found[1])
        return bool(scores) and math.fsum(scores) <= math.fsum(limits)

    def at_chance(self, series: Series, split: str, teachers: Iterable[Run]) -> str:
        """Who guesses on a split, `model` or `teacher`, or empty."""
        if self.guesses(series.task, split, [run.measured for run in series.runs.values()]):
            return "model"
        return "teacher" if self.guesses(series.task, split, [run.measured for run in teachers]) else ""
