"""What would settle a comparison that nobody can judge yet: in words, and as the command that measures it anew."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.core.conditions import condition
from bench.judge.compare import Finding
from bench.judge.pairing import TWO_STAGES, Pair
from bench.judge.regressions import COPIES, SEEDS
from bench.judge.runs import SHAPE, Run

SESSIONS = 4
"""What a baseline should hold of each timing: two sessions for the screen, two for a confirmation."""

OPTIONS = {"limit": "--limit", "dev_limit": "--dev-limit", "labels": "--labels"}
"""Parts of a run's budget that are options of `bench run`."""


@dataclass(frozen=True, slots=True)
class Settling:
    """What to do."""

    says: str
    command: tuple[str, ...] = ()
    """What measures it anew; empty where that alone would not do."""
    complete: bool = False
    """Whether the command can be run as it stands; else it has a word in capitals for what no record holds."""

    @property
    def text(self) -> str:
        """Words, and the command as it is typed."""
        return f"{self.says}: {shlex.join(self.command)}" if self.command else self.says


def settle(finding: Finding, results: str) -> Settling | None:
    """What would settle a finding; None for one that is settled."""
    pair, verdict = finding.pair, finding.decision.verdict
    if verdict == "suspect":
        return _confirmation(pair, results)
    if verdict != "untold":
        return None
    return _more(finding)


def _confirmation(pair: Pair, results: str) -> Settling:
    """How to get the second stage of a suspect."""
    run = pair.now[-1]
    if run.scale == SHAPE:
        if not pair.comparison.two_stages:
            return Settling(f"the baseline holds one session; one of {SESSIONS} would allow a confirmation")
        return Settling("a new session confirms it or not", _measure(pair, results), True)
    if not pair.later:
        return Settling(f"a baseline of {TWO_STAGES} seeds or more would allow a confirmation")
    command, complete = _run(run, max(pair.later) + 1, results)
    return Settling(f"seeds up to {max(pair.later)} confirm it or not", command, complete)


def _more(finding: Finding) -> Settling:
    """How many values both sides need."""
    pair, decision = finding.pair, finding.decision
    one = pair.comparison
    n = sum(stage.n for stage in one.stages)
    if decision.error is None:
        if one.kind == "quality":
            return Settling(f"a seed alone tells nothing of the spread; {2 * SEEDS} on both sides would settle it")
        return Settling(f"nothing tells how processes spread; sessions of {COPIES} copies would settle it")
    factor = (decision.error / decision.widest) ** 2
    if one.kind == "quality":
        whole = n if one.confirm is not None or not one.two_stages else n + len(pair.later)
        return Settling(f"seeds spread {_spread(finding):.1f} points; about {math.ceil(whole * factor)} seeds on both "
                        "sides would settle it")  # fmt: skip
    copies = math.ceil(one.screen.n * factor)
    return Settling(f"processes spread {_spread(finding):.0%}; sessions of about {copies} copies on both sides, "
                    f"{SESSIONS} in the baseline, would settle it")  # fmt: skip


def _spread(finding: Finding) -> float:
    """The deviation of one value that the error of a comparison came from: points, or a share."""
    one, error = finding.pair.comparison, finding.decision.error or 0.0
    return error / math.sqrt(1 / sum(1 / stage.weight for stage in one.stages))


def _measure(pair: Pair, results: str) -> tuple[str, ...]:
    """`bench measure` for the one model and condition of a pair."""
    found = condition(pair.subject.split)
    assert found is not None, "conditions of bench measure have this form"
    threads = pair.now[-1].environment.facts.get("threads")
    quick = pair.subject.protocol == "quick"
    return (
        "bench", "measure", "--variant", pair.subject.variant, "--batch", str(found.batch),
        "--length", str(found.length), "--backend", found.backend or "eager",
        *(("--threads", str(threads)) if threads else ()),
        *(("--quick",) if quick else ("--copies", str(COPIES))), "--results", results,
    )  # fmt: skip


def _run(run: Run, seeds: int, results: str) -> tuple[tuple[str, ...], bool]:
    """`bench run` for more seeds of a series, and whether a record holds all that it needs."""
    budget, source = run.settings.budget, run.data.source if run.data else ""
    limits = [part for name, option in OPTIONS.items() if budget.get(name) for part in (option, str(budget[name]))]
    sets = [part for change in _changes(run) for part in ("--set", change)]
    complete = run.scale == "smoke" and source.startswith("synthetic")
    inputs: tuple[str, ...] = ()
    if run.scale in ("small", "full"):
        inputs = ("--teacher", "FOLDER") if run.scale == "small" else ()
        inputs += ("--data", "FOLDER") if source.startswith("folder") else ()
        inputs += ("--corpus", "FILE") if run.data and run.data.corpus else ()
        complete = not inputs
    return (
        "bench", "run", run.scale, "--paper", run.paper, "--variant", run.variant, "--task", run.task, "--seeds",
        str(seeds), *inputs, *limits, *sets, "--results", results,
    ), complete and not any("PAPER:" in change for change in sets)  # fmt: skip


def _changes(run: Run) -> list[str]:
    """What --set changed of a run and of its teacher. A field that both have and only the teacher changed takes the
    name of the teacher's paper, which no record holds."""
    own, theirs = run.settings.changes, run.settings.hyper.get("teacher") or {}
    fields = set(_fields(run.settings.hyper))
    every = {name: value for name, value in theirs.items() if name not in own}
    return [f"{name}={value}" for name, value in sorted(own.items())] + [
        f"{'PAPER:' if name in fields else ''}{name}={value}" for name, value in sorted(every.items())]  # fmt: skip


def _fields(settings: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The dotted names of all settings."""
    for name, value in settings.items():
        yield f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _fields(value, f"{above}{name}.")
