"""How often `bench regress` alarms where nothing changed, and how often it finds what did; about four minutes.

    python tests/benchmarks/regress_simulation.py [SUITES]

A suite is 100 comparisons: 60 scores over six tasks, 40 times on one machine. Baselines hold ten seeds, and four
sessions of ten copies; what came after holds five seeds and one session, and suspects are confirmed by five more seeds
or another session, as --confirm does. The statistics are the shipped ones.

Spreads are those of same-seed differences, in points, and of a session's copies. Beside suites of one spread there are
such of mixed ones (0.5 to 1.4 times as wide), of copies with heavy tails (Student's t, 3 degrees of freedom), and of
sessions that have a deviation of 1.5% of their own (else 0.75%). The last line is `alarms: N, slower: N, lost: N`: the
per cent of suites with an alarm where nothing changed, of slow-downs by 10% found at a copy spread of 4%, and of two
points lost found at a same-seed spread of 0.8; in suites of one spread.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.judge.differences import Stage, of_differences, of_sessions  # noqa: E402
from bench.judge.regressions import COPIES, RULES, SEEDS, Comparison, Decision, decide  # noqa: E402

SCORES, TASKS, TIMES = 60, 6, 40
SLOWER, LOST = 0.10, 2.0


@dataclass(frozen=True)
class World:
    """How numbers spread."""

    seeds: float = 0.8
    """Points, of same-seed differences."""
    copies: float = 0.04
    session: float = 0.0075
    mixed: bool = False
    heavy: bool = False


@dataclass(frozen=True)
class Thing:
    """One series: what it loses by the change, and its own spread; stages are drawn when they are measured."""

    kind: str
    place: int
    effect: float
    spread: float

    def stage(self, world: World, generator: np.random.Generator) -> Stage:
        """A stage's worth of new numbers, on both sides."""
        if self.kind == "quality":
            return of_differences(list(generator.normal(-self.effect, self.spread, SEEDS)))

        def session(shift: float = 0.0) -> list[float]:
            drawn = generator.standard_t(3, COPIES) / math.sqrt(3) if world.heavy else generator.normal(size=COPIES)
            return list(shift + world.session * generator.normal() + self.spread * drawn)

        return of_sessions([session(), session()], [session(-self.effect)])


def suite(world: World, generator: np.random.Generator, slower: float = 0.0, lost: float = 0.0) -> list[Decision]:
    """The decisions on a suite after confirmation; the first score has lost points, the last time is slower."""

    def width() -> float:
        return generator.uniform(0.5, 1.4) if world.mixed else 1.0

    things = [Thing("quality", n % TASKS, lost * (n == 0), world.seeds * width()) for n in range(SCORES)]
    things += [Thing("speed", 0, math.log1p(slower) * (n == TIMES - 1), world.copies * width()) for n in range(TIMES)]
    compared = [Comparison(thing.kind, (thing.kind, thing.place), thing.stage(world, generator), None, True)  # pyright: ignore[reportArgumentType]
                for thing in things]  # fmt: skip
    first = decide(compared)
    confirmed = [replace(one, confirm=thing.stage(world, generator)) if said.verdict == "suspect" else one
                 for one, thing, said in zip(compared, things, first, strict=True)]  # fmt: skip
    return decide(confirmed)


def share(suites: int, of: Callable[[], bool]) -> float:
    """Per cent of so many suites."""
    return 100 * sum(of() for _ in range(suites)) / suites


def alarms(world: World, suites: int, generator: np.random.Generator) -> float:
    """Per cent of suites that alarm though nothing changed."""
    return share(suites, lambda: any(one.verdict == "worse" for one in suite(world, generator)))


def found_slower(world: World, suites: int, generator: np.random.Generator) -> float:
    """Per cent of slow-downs that are found."""
    return share(suites, lambda: suite(world, generator, slower=SLOWER)[-1].verdict == "worse")


def found_lost(world: World, suites: int, generator: np.random.Generator) -> float:
    """Per cent of lost points that are found."""
    return share(suites, lambda: suite(world, generator, lost=LOST)[0].verdict == "worse")


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    generator = np.random.default_rng(20261127)
    usual = World()
    worlds = {"one spread": usual, "wider (1.1 points, 5%)": World(1.1, 0.05), "mixed spreads": World(mixed=True),
              "heavy tails": World(heavy=True), "restless sessions": World(session=0.015)}  # fmt: skip
    print(f"{number} suites of {SCORES + TIMES} a rate of alarms, {number // 4} a rate of finds; per cent; widest "
          + ", ".join(f"{kind} {rule.widest:.3g}" for kind, rule in RULES.items()))  # fmt: skip
    calm = {}
    for name, world in worlds.items():
        calm[name] = alarms(world, number, generator)
        print(f"alarms though nothing changed, {name:24}{calm[name]:6.2f}", flush=True)
    slower, lost = {}, {}
    for spread in (0.02, 0.04, 0.05):
        slower[spread] = found_slower(World(copies=spread), number // 4, generator)
        mixed = found_slower(World(copies=spread, mixed=True), number // 4, generator)
        print(f"10% slower found, copies spread {spread:.0%}: {slower[spread]:.1f}, mixed {mixed:.1f}", flush=True)
    for spread in (0.4, 0.8, 1.1):
        lost[spread] = found_lost(World(seeds=spread), number // 4, generator)
        mixed = found_lost(World(seeds=spread, mixed=True), number // 4, generator)
        print(f"two points lost found, seeds spread {spread}: {lost[spread]:.1f}, mixed {mixed:.1f}", flush=True)
    print(f"alarms: {calm['one spread']:.2f}, slower: {slower[0.04]:.1f}, lost: {lost[0.8]:.1f}")


if __name__ == "__main__":
    main()
