"""How close the scheduler comes to the shortest possible time: 1,000 simulated jobs on 50 workers, a few seconds.

    python tests/benchmarks/schedule_makespan.py [--jobs 1000] [--workers 50] [--off 2.0] [--plans 20]

A plan as papers make them: a reference, fine-tuned for every task and seed; students that share task-free stages and
wait for the reference of their task and seed; a few that wait for a student. Costs are lognormal around a size that
the task gives, and what the scheduler believes of them is off by a lognormal factor for every method and every task
(`--off` is its geometric standard deviation). No order can beat the total work over the workers, nor the longest
path: the larger is the ideal. The last line is the worst plan's ideal over its makespan; the aim is 0.95.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.run.schedule import Node, Scheduler

TASK_S = {"cola": 90, "sst2": 700, "mrpc": 60, "stsb": 80, "qqp": 3600, "mnli": 4000, "qnli": 1100, "rte": 50,
          "wnli": 30, "imdb": 500, "squad": 2500, "conll2003": 200}  # fmt: skip
"""Seconds of fine-tuning, in the proportions of the tasks' sizes."""
STUDENTS = 8
"""Per task and seed; the first two have one task-free chain together, the next two one each, the rest none."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a plan took, and what it could not take less than; seconds."""

    makespan_s: float
    work_s: float
    path_s: float
    workers: int

    @property
    def ideal_s(self) -> float:
        return max(self.work_s / self.workers, self.path_s)

    @property
    def share(self) -> float:
        return self.ideal_s / self.makespan_s


def plan(jobs: int, chance: random.Random) -> list[Node]:
    """About so many jobs, and the stages that they share, at what they truly cost."""

    def cost(size: float) -> float:
        return size * chance.lognormvariate(0.0, 0.5)

    nodes = [Node("pretrained", cost(300.0))]
    for general in range(3):
        nodes.append(Node(f"corpus-{general}", cost(600.0), frozenset({"pretrained"})))
        nodes.append(Node(f"general-{general}", cost(2400.0), frozenset({f"corpus-{general}"})))
    count, seed = 0, 0
    while count < jobs:
        for task, size in TASK_S.items():
            reference = f"reference/{task}-{seed}"
            nodes.append(Node(reference, cost(size), frozenset({"pretrained"})))
            for student in range(STUDENTS):
                needs = {reference} | ({f"general-{max(0, student - 1)}"} if student < 4 else set())
                if student == STUDENTS - 1:
                    needs = {f"student-0/{task}-{seed}"}
                nodes.append(Node(f"student-{student}/{task}-{seed}", cost(size * (0.3 + 0.2 * student)),
                                  frozenset(needs)))  # fmt: skip
            count += 1 + STUDENTS
        seed += 1
    return nodes


def believed(nodes: Sequence[Node], off: float, chance: random.Random) -> list[Node]:
    """The same with estimates in place of costs.

    An estimate errs by what it does not know of a method (its student's width, its data) and of a task (how long its
    rows are), for all seeds alike; node by node it errs by a tenth.
    """
    each = math.log(off) / math.sqrt(2)
    errors: dict[str, float] = {}

    def error(node: Node) -> float:
        out = chance.lognormvariate(0.0, 0.1)
        method, _, task = node.key.partition("/")
        for part in (method, task.split("-")[0]):
            out *= errors.setdefault(part, chance.lognormvariate(0.0, each))
        return out

    return [replace(node, cost_s=node.cost_s * error(node)) for node in nodes]


def simulate(scheduler: Scheduler, costs: Mapping[str, float], workers: int) -> float:
    """Seconds until the last node has ended, with workers that take the next node as soon as they are free."""
    now, free, running = 0.0, list(range(workers)), list[tuple[float, int, str]]()
    while not scheduler.finished:
        while free and (key := scheduler.take()) is not None:
            heapq.heappush(running, (now + costs[key], free.pop(), key))
        now, worker, key = heapq.heappop(running)
        free.append(worker)
        scheduler.done(key)
    return now


def one(jobs: int, workers: int, off: float, seed: int) -> Simulated:
    """A plan of its own for every seed."""
    chance = random.Random(seed)
    nodes = plan(jobs, chance)
    costs = {node.key: node.cost_s for node in nodes}
    makespan = simulate(Scheduler(believed(nodes, off, chance)), costs, workers)
    return Simulated(makespan, sum(costs.values()), Scheduler(nodes).longest_path_s, workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--off", type=float, default=2.0)
    parser.add_argument("--plans", type=int, default=20)
    asked = parser.parse_args()
    found = [one(asked.jobs, asked.workers, asked.off, seed) for seed in range(asked.plans)]
    bound = sum(each.path_s > each.work_s / each.workers for each in found)
    print(f"{asked.plans} plans of {asked.jobs} jobs, {asked.workers} workers, estimates off by {asked.off}x; "
          f"of {bound} the longest path is the bound")  # fmt: skip
    print(f"median makespan {statistics.median(each.makespan_s for each in found) / 3600:.2f} h, "
          f"ideal {statistics.median(each.ideal_s for each in found) / 3600:.2f} h, "
          f"median share {statistics.median(each.share for each in found):.3f}")  # fmt: skip
    print(f"worst share of the ideal: {min(each.share for each in found):.3f}")


if __name__ == "__main__":
    main()
