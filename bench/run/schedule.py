"""Which piece of a plan a free worker makes next: the one that the longest rest of the plan waits for. No torch.

The pieces are the stages that several jobs share, made once each, and the rest of every job. With more than one
worker the order of a list decides how long the others idle at the end: the longest path first keeps within a few
percent of the shortest possible time, also where the costs are only roughly known.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.run.plan import Job, StagePlan


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of a plan: what it costs, roughly, and the nodes that must have ended before."""

    key: str
    cost_s: float
    needs: frozenset[str] = frozenset()


class Scheduler:
    """The state of a plan's nodes while workers make them.

    Needs that are no node are taken as met. A node of which a need has failed is blocked, and so is all that needs it:
    it is not handed out.
    Raises ValueError for nodes that need each other in a circle.
    """

    def __init__(self, nodes: Iterable[Node]):
        self._nodes = {node.key: node for node in nodes}
        self._waits = {key: {need for need in node.needs if need in self._nodes} for key, node in self._nodes.items()}
        self._dependents: dict[str, list[str]] = {key: [] for key in self._nodes}
        for key, needs in self._waits.items():
            for need in needs:
                self._dependents[need].append(key)
        order = self._ordered()
        self._place = {key: place for place, key in enumerate(self._nodes)}
        self._rest: dict[str, float] = {}
        for key in reversed(order):
            after = max((self._rest[one] for one in self._dependents[key]), default=0.0)
            self._rest[key] = self._nodes[key].cost_s + after
        self._queue: list[tuple[float, int, str]] = []
        self.taken: set[str] = set()
        """The nodes that are being made."""
        self._ended: set[str] = set()
        self._blocked: dict[str, None] = {}
        for key in self._nodes:
            self._offer(key)

    def take(self) -> str | None:
        """The next node for a worker that is free, or None while there is nothing that it may make."""
        if not self._queue:
            return None
        key = heapq.heappop(self._queue)[-1]
        self.taken.add(key)
        return key

    def give_back(self, key: str) -> None:
        """A taken node was not made: hand it out again."""
        self.taken.remove(key)
        self._offer(key)

    def done(self, key: str) -> None:
        """A node was made."""
        self.taken.discard(key)
        self._ended.add(key)
        for one in self._dependents[key]:
            self._waits[one].discard(key)
            self._offer(one)

    def failed(self, key: str) -> list[str]:
        """A node could not be made: it is not tried again. Returns what that blocks, what is needed first."""
        self.taken.discard(key)
        self._ended.add(key)
        new: dict[str, None] = {}
        after = list(self._dependents[key])
        while after:
            one = after.pop(0)
            if one not in self._blocked and one not in new:
                new[one] = None
                after += self._dependents[one]
        self._blocked |= new
        return sorted(new, key=self._place.__getitem__)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to hand out or to wait for."""
        return len(self._ended | self._blocked.keys()) == len(self._nodes)

    @property
    def longest_path_s(self) -> float:
        """What the plan takes with any number of workers."""
        return max(self._rest.values(), default=0.0)

    def _offer(self, key: str) -> None:
        if not self._waits[key] and key not in self._ended:
            heapq.heappush(self._queue, (-self._rest[key], self._place[key], key))

    def _ordered(self) -> list[str]:
        """Every node after what it needs."""
        left = {key: len(needs) for key, needs in self._waits.items()}
        order = [key for key, count in left.items() if count == 0]
        for key in order:
            for one in self._dependents[key]:
                left[one] -= 1
                if left[one] == 0:
                    order.append(one)
        if len(order) < len(left):
            raise ValueError(f"{len(left) - len(order)} nodes need each other in a circle")
        return order


@dataclass(frozen=True, slots=True)
class Piece:
    """What a node stands for: a stage that several jobs share, or (`stage` is empty) a job with its other stages."""

    job: int
    """Its place in the plan; of a shared stage, the first job that has it."""
    stage: str = ""
    """The key of the stage."""


@dataclass(frozen=True, slots=True)
class Graph:
    """The nodes of a plan, and what each of them is."""

    nodes: tuple[Node, ...]
    pieces: dict[str, Piece]


def graph(
    jobs: Sequence[Job], made: Collection[str], cached: Callable[[str], bool],
    cost_s: Callable[[Job, StagePlan | None], float],
) -> Graph:  # fmt: skip
    """The pieces of a plan that are still to be made.

    `made` are the hashes of jobs that have their record; `cached` says of a stage's key whether it is in the cache;
    `cost_s` is an estimate for a stage, or, with None, for what comes after a job's last stage.
    """
    chains = _Chains(jobs, made, cached)
    places = {job.hash: place for place, job in enumerate(jobs)}
    nodes: dict[str, Node] = {}
    pieces: dict[str, Piece] = {}
    for job in chains.pending:
        for owner, chain in chains.of(job):
            before = frozenset[str]()
            for stage in chain:
                if stage.key in chains.shared:
                    if stage.key not in nodes:
                        nodes[stage.key] = Node(stage.key, cost_s(owner, stage), before | chains.asked(owner, stage))
                        pieces[stage.key] = Piece(places[owner.hash], stage.key)
                    before = frozenset({stage.key})
    for job in chains.pending:
        own = [stage for stage in chains.left(job) if stage.key not in chains.shared]
        needs = frozenset(stage.key for _, chain in chains.of(job) for stage in chain if stage.key in chains.shared)
        needs |= {other.hash for other in job.direct if other.hash in chains.hashes}
        nodes[job.hash] = Node(job.hash, sum(cost_s(job, stage) for stage in own) + cost_s(job, None), needs)
        pieces[job.hash] = Piece(places[job.hash])
    return Graph(tuple(nodes.values()), pieces)


def uncached(job: Job, cached: Callable[[str], bool]) -> list[StagePlan]:
    """A job's stages after the last one that is cached."""
    last = max((place for place, stage in enumerate(job.stages) if cached(stage.key)), default=-1)
    return list(job.stages[last + 1 :])


class _Chains:
    """Which stages the pending jobs still need, of their own and of the models that they ask for."""

    def __init__(self, jobs: Sequence[Job], made: Collection[str], cached: Callable[[str], bool]):
        self._cached = cached
        self.pending = [job for job in jobs if job.hash not in made]
        self.hashes = {job.hash for job in self.pending}
        uses = Counter(
            key for job in self.pending for key in {stage.key for _, chain in self.of(job) for stage in chain}
        )
        self.shared = {key for key, count in uses.items() if count > 1}

    def left(self, job: Job) -> list[StagePlan]:
        return uncached(job, self._cached)

    def of(self, job: Job) -> Iterator[tuple[Job, list[StagePlan]]]:
        """(owner, stages) that must be there before the job ends, except for what other pending jobs make."""
        for other in job.direct:
            if other.hash not in self.hashes:  # its record is there, and its model may not be
                yield from self.of(other)
            elif _pretrained(other):
                owner, key = _pretrained(other)[-1]
                keys = [stage.key for stage in owner.stages]
                yield owner, [s for s in self.left(owner) if keys.index(s.key) <= keys.index(key)]
        yield job, self.left(job)

    def asked(self, job: Job, stage: StagePlan) -> frozenset[str]:
        """The nodes of other jobs that a shared stage waits for."""
        needs: set[str] = set()
        for other in job.direct:
            if {"base", "fine_tuned", "lent"} & set(stage.stage.asks):
                chain = self.left(other) if other.hash not in self.hashes else []
                needs |= {other.hash} & self.hashes | {one.key for one in chain}
            if "pretrained" in stage.stage.asks:
                needs |= {key for _, key in _pretrained(other)}
        return frozenset(needs & (self.shared | self.hashes))


def _pretrained(job: Job) -> list[tuple[Job, str]]:
    """(owner, key) of the stages that make a job's model before it saw a task; of its base, where it has none."""
    own = [(job, stage.key) for stage in job.stages if stage.stage.task_free]
    return own or (_pretrained(job.base) if job.base else [])
