"""Two sets of runs, a baseline and what came after it, as comparisons series by series.

Quality pools machines and is paired by seed; times stay within machine, device and protocol. Which runs may be set side
by side is said by `bench.judge.series`. Where the code of the stages changed, the two are shown, and compared only
where that is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import get_args

from bench.judge.pairing import Pair, changed_stages, pairs
from bench.judge.regressions import Decision, Verdict, decide
from bench.judge.runs import SHAPE, Run
from bench.judge.series import SeriesIndex, age, stage_code, timed_alike


@dataclass(frozen=True, slots=True)
class NotCompared:
    """A series that is not compared."""

    paper: str
    variant: str
    task: str
    scale: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """A comparison with what is said of it."""

    pair: Pair
    decision: Decision


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """All that two sets of runs say of each other."""

    findings: tuple[Finding, ...]
    """What matters most first."""
    not_compared: tuple[NotCompared, ...]
    failed: tuple[Run, ...]
    """Runs of now that failed, where the baseline's did not; refused ones only where the baseline has them well."""

    def count(self, *verdicts: str) -> int:
        """How many findings have one of these verdicts."""
        return sum(finding.decision.verdict in verdicts for finding in self.findings)

    @property
    def unsettled(self) -> list[Finding]:
        """The findings for which nobody can say more now. Times taken by the way count where they are suspect."""
        return [finding for finding in self.findings if finding.decision.verdict == "suspect"
                or (finding.decision.verdict == "untold" and not finding.pair.subject.short)]  # fmt: skip

    @property
    def exit_code(self) -> int:
        """0 fine, 1 worse, 3 nothing comparable or a run failed, 4 inconclusive."""
        if self.count("worse"):
            return 1
        if self.failed or not self.findings:
            return 3
        return 4 if self.unsettled or not self.count("fine", "same", "better") else 0


ORDER = get_args(Verdict)
"""What matters most first."""


def compare(index: SeriesIndex, before: Collection[str], across_code: bool = False) -> Compared:
    """The runs of an index whose ids are in `before` against all its others."""
    grouped: dict[tuple[object, ...], tuple[list[Run], list[Run]]] = defaultdict(lambda: ([], []))
    for run in index.runs:
        if run.ok:
            grouped[index.comparable(run)][run.id not in before].append(run)
    every: list[Pair] = []
    apart: list[NotCompared] = []
    for sides in grouped.values():
        old, new, reason = _sides(*sides, across_code)
        if reason:
            run = (sides[1] or sides[0])[0]
            apart.append(NotCompared(run.paper, run.variant, run.task, run.scale, reason))
            continue
        found = list(pairs(old, new, across_code))
        every += found
        if not found:
            run = new[0]
            apart.append(NotCompared(run.paper, run.variant, run.task, run.scale, "no seed and no time in common"))
    every.sort(key=_name)
    decisions = decide([pair.comparison for pair in every])
    findings = [Finding(*both) for both in zip(every, decisions, strict=True)]
    findings.sort(key=lambda finding: (ORDER.index(finding.decision.verdict), finding.decision.p))
    apart.sort(key=lambda one: (one.reason, one.paper, one.variant, one.task, one.scale))
    return Compared(tuple(findings), tuple(apart), _failed(index.runs, before))


def _name(pair: Pair) -> tuple[object, ...]:
    """One order for all pairs, whatever order their records were read in."""
    one = pair.subject
    return (one.paper, one.variant, one.task, one.scale, one.metric, one.split, one.machine, one.protocol,
            min(run.id for run in pair.before))  # fmt: skip


def _sides(old: list[Run], new: list[Run], across_code: bool) -> tuple[list[Run], list[Run], str]:
    """The runs of both sides that are compared, by age; or why there are none."""
    if not old:
        return [], [], "not in the baseline"
    if not new:
        return [], [], "not run again"
    newest = max(new, key=age)
    new = [run for run in new if _same_code(run, newest)]
    same = [run for run in old if _same_code(run, newest)]
    if not same:
        last = max(old, key=age)
        if not across_code:
            stages = changed_stages(stage_code(last), stage_code(newest)) or ("measuring",)
            return [], [], f"the code changed: {', '.join(stages)}"
        same = [run for run in old if _same_code(run, last)]
    return sorted(same, key=age), sorted(new, key=age), ""


def _same_code(run: Run, other: Run) -> bool:
    """Whether the same code made two runs; of sessions of `bench measure` that code is what measures, too."""
    return stage_code(run) == stage_code(other) and (run.scale != SHAPE or timed_alike(run, other))


def _failed(runs: Iterable[Run], before: Collection[str]) -> tuple[Run, ...]:
    """The failed runs of now that nothing mended since, and that did not fail in the baseline.

    A run that was refused for its teacher counts only where the baseline's was well: else nothing got worse.
    """

    def job(run: Run) -> tuple[object, ...]:
        return run.paper, run.variant, run.task, run.scale, run.seed, run.environment.machine * (run.scale == SHAPE)

    newest: dict[tuple[object, ...], Run] = {}
    known: set[tuple[object, ...]] = set()
    well: set[tuple[object, ...]] = set()
    for run in runs:
        if run.id in before:
            (well if run.ok else known).add(job(run))
        elif job(run) not in newest or age(run) > age(newest[job(run)]):
            newest[job(run)] = run
    failed = (run for name, run in newest.items()
              if not run.ok and name not in known and (name in well or not run.refused))  # fmt: skip
    return tuple(sorted(failed, key=age))
