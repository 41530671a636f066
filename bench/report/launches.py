"""What a GPU's launches hide: passes at batch 1 sent kernel by kernel (eager), beside the same ones as a CUDA graph.

A small model's kernels are done before the next one is sent, so that its time is that of sending them. What compression
gains in arithmetic does not show then; a graph, which is sent at once, has no such time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.core.stats import Estimate
from bench.judge.runs import SHAPE
from bench.judge.series import Key, SeriesIndex, Timing
from bench.judge.sizes import estimate
from bench.report.numbers import DASH, interval, show
from bench.report.page import Cell, Note, Section, Table
from bench.report.rows import ONE

GRAPH = f"{ONE}-cudagraph"


@dataclass(frozen=True, slots=True)
class Launched:
    """One model on one machine at batch 1: seconds of a pass, and how many times faster than the reference it is.

    Both ways of running are compared with the reference run the same way; the reference itself has no speed-ups.
    """

    variant: str
    eager_s: float
    graph_s: float
    eager: Estimate | None
    graph: Estimate | None

    @property
    def hidden(self) -> bool:
        """Whether the graph gains more, beyond both intervals."""
        if self.eager is None or self.graph is None:
            return False
        eager, graph = (
            self.eager.interval() or (self.eager.value,) * 2,
            self.graph.interval() or (self.graph.value,) * 2,
        )
        return graph[0] > eager[1]


def launched(index: SeriesIndex) -> dict[str, list[Launched]]:
    """Machine -> the models that were timed both ways on it, the reference first, then by what the graph gains."""
    found: dict[str, list[Launched]] = {}
    for machine in index.machines:
        both = [one for key in index.keys if (one := _launched(index, key, machine))]
        if both:
            found[machine] = sorted(both, key=lambda one: (one.graph is not None, one.graph and -one.graph.value))
    return found


def _launched(index: SeriesIndex, key: Key, machine: str) -> Launched | None:
    """Both ways in one session: what was timed in two cannot be compared."""
    graph = _timing(index, key, "latency_s", GRAPH, machine)
    eager = graph and _timing(index, key, "latency_s", ONE, machine, graph)
    if graph is None or eager is None:
        return None
    gains = [_timing(index, key, metric, split, machine, graph)
             for metric, split in (("speedup", ONE), ("speedup_same_backend", GRAPH))]  # fmt: skip
    return Launched(key[1], eager.values[0], graph.values[0], *(estimate(one) if one else None for one in gains))


def _timing(
    index: SeriesIndex, key: Key, metric: str, split: str, machine: str, beside: Timing | None = None
) -> Timing | None:
    """The best timing of a shape on a machine; with another one given, of the same session."""
    found = (one for one in index.timings(key, metric, split) if one.machine == machine and one.suite.scale == SHAPE)
    return next((one for one in found if beside is None or one.runs == beside.runs), None)


def sentence(models: list[Launched], machine: str) -> str:
    """What the numbers of one machine say, about the model that the graph gains most for; empty without a pair."""
    compared = [one for one in models if one.eager and one.graph]
    if not compared:
        return ""
    most = max(compared, key=lambda one: one.graph.value if one.graph else 0.0)
    assert most.eager is not None and most.graph is not None, "compared"
    told = (f"On {machine} at batch 1 {most.variant} is {show(most.eager.value, 1)} times as fast as the reference "
            f"kernel by kernel, {show(most.graph.value, 1)} times as one CUDA graph")  # fmt: skip
    hidden = sum(one.hidden for one in compared)
    if not hidden:
        return f"{told}: launches hide nothing of what compression gains."
    return f"{told}: launches hide what compression gains of {hidden} of {len(compared)} models."


def section(index: SeriesIndex) -> Section | None:
    """The section of the table's page; None without a machine that was measured both ways."""
    found = launched(index)
    if not found:
        return None
    rows = [{"machine": machine, "variant": one.variant, **_cells(one)} for machine, models in found.items()
            for one in models]  # fmt: skip
    says = [Note(told) for machine, models in found.items() if (told := sentence(models, machine))]
    return Section("What launches hide, at batch 1", (*says, Table.of(rows, right=("eager, ms", "graph, ms"))))


def _cells(one: Launched) -> Mapping[str, Cell]:
    share = 1 - one.graph_s / one.eager_s
    return {
        "eager, ms": show(one.eager_s * 1e3, 3), "graph, ms": show(one.graph_s * 1e3, 3),
        "launches": f"{100 * share:.0f}%" if share > 0 else DASH,
        "speed-up, eager": interval(one.eager, 2, "x"), "speed-up, graph": interval(one.graph, 2, "x"),
    }  # fmt: skip
