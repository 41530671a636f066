"""How often verdicts err on claims whose truth is known; about ten minutes, on made-up runs.

    python tests/benchmarks/verdict_simulation.py [CLAIMS_PER_CELL]

A cell is a kind of claim, a distribution of seeds (normal; Student's t with 3 degrees of freedom; normal with 10% of
the seeds at the majority class) and a number of seeds. The truth is the score of a seed that trains. Each seed has a
teacher of its own, a worse one where it guesses; shares and differences are about what stands beside that. False
verdicts are counted where they are likeliest: the truth a hair outside the band for `reproduced`, a hair inside for the
others. The last line is `worst: ...`: the largest rate of each error and the least coverage over all cells, in percent.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.claims.claim import Claim, Entry, Ledger, Paper, Tolerance  # noqa: E402
from bench.core.record import Code, Data  # noqa: E402
from bench.judge.rules import Judged  # noqa: E402
from bench.judge.runs import Environment, Measured, Run, Settings  # noqa: E402
from bench.judge.verdict import judge  # noqa: E402

DISTRIBUTIONS = ("normal", "t3", "degenerate")
SEEDS = (3, 5, 10)
KINDS = ("quality", "average", "retention", "difference", "speed")
BAND = 0.01
"""Half the width of the band: one point, and one percent of a ratio."""
ROWS = 20_000
MAJORITY, TEACHER, CENTRE = 0.5, 0.92, 0.88
SST2, QNLI = (Entry(task=task, metrics=("accuracy",), splits=("validation",)) for task in ("sst2", "qnli"))

_SETTINGS = Settings({"budget": {}}, {})
_MACHINE = Environment({"machine": "m", "cpu": "the machine", "device": "cpu"}, "m")
_CODE = Code(commit="c", dirty=False)
_DATA = Data(source="hub", revision="r", sha256="cd" * 32, rows={"train": 1000}, partial=False)
_TOLERANCES = {
    name: Tolerance(absolute=BAND, why="a point") for name in ("accuracy", "average", "retention", "difference_to")
} | {"speedup": Tolerance(relative=BAND, why="a percent")}


@dataclass(frozen=True)
class Cell:
    """One corner of the simulation."""

    kind: str
    distribution: str
    seeds: int


def deviations(cell: Cell, generator: np.random.Generator, number: int) -> np.ndarray:
    """[number, tasks, seeds] draws of deviation 1, and nan where a seed is degenerate."""
    shape = number, 2 if cell.kind == "average" else 1, cell.seeds
    if cell.distribution == "t3":
        return generator.standard_t(3, shape) / np.sqrt(3)
    drawn = generator.standard_normal(shape)
    if cell.distribution == "degenerate" and cell.kind != "speed":
        drawn[generator.random(shape) < 0.1] = np.nan
    return drawn


def run(
    variant: str, seed: int, task: str, score: float, *, paper: str, scale: str = "full", teacher: float = TEACHER,
    **measured: float,
) -> Run:  # fmt: skip
    """A run with an accuracy, beside its teacher's; nan is a seed that guesses."""
    value = MAJORITY if np.isnan(score) else float(score)
    found = {("accuracy", "validation"): Measured(value, ROWS, ()),
             ("majority", "validation"): Measured(MAJORITY, ROWS, ())}  # fmt: skip
    found |= {(name, "batch1-length128"): Measured(float(value), 1, ()) for name, value in measured.items()}
    return Run(f"{paper}-{variant}-{task}-{seed}", True, "", paper, variant, task, scale, seed, "exact",
               "2026-01-01T00:00:00Z", 0, _SETTINGS, _MACHINE, _DATA, _CODE, "", teacher, (), found)  # fmt: skip


def claim(paper: str, kind: str, printed: float, variant: str = "v") -> Claim:
    """The claim of a kind whose printed number is `printed` in the unit of records."""
    fields = {"id": f"{paper}.{variant}", "says": "made up", "variant": variant, "source": "a table", "seeds": 3,
              "transcription": "seen", "aggregation": "mean", "split": "validation"}  # fmt: skip
    own = {
        "quality": {"kind": "quality", "task": "sst2", "metric": "accuracy", "unit": "fraction", "value": printed},
        "average": {"kind": "quality", "metric": "average", "tasks": (SST2, QNLI), "unit": "fraction",
                    "value": printed},
        "retention": {"kind": "retention", "task": "sst2", "metric": "accuracy", "derive": "ratio_to", "unit": "x",
                      "reference": "teacher", "value": printed},
        "difference": {"kind": "quality", "task": "sst2", "metric": "accuracy", "derive": "difference_to",
                       "reference": "teacher", "unit": "points", "value": 100 * printed},
        "speed": {"kind": "speed", "metric": "speedup", "split": "batch1-length128", "unit": "x", "value": printed,
                  "device": "machine"},
    }  # fmt: skip
    return Claim.model_validate(fields | own[kind])


TRUTHS: dict[str, Callable[[float], float]] = {
    "quality": lambda score: score, "average": lambda score: score, "retention": lambda score: score / TEACHER,
    "difference": lambda score: score - TEACHER, "speed": lambda score: 2 * score / CENTRE,
}  # fmt: skip
"""Kind -> what it is about, as a function of the score of a seed that trains."""


def runs(cell: Cell, paper: str, drawn: np.ndarray, spread: float, variant: str = "v", first: int = 0) -> list[Run]:
    """The runs behind one claim: deviations [tasks, seeds] around the centre, or a speed-up of 2 around it."""
    found = []
    for task, row in zip(("sst2", "qnli"), drawn, strict=False):
        for place, score in enumerate(CENTRE + spread * row):
            ratio = {"speedup": 2 * score / CENTRE} if cell.kind == "speed" else {}
            teacher = _teacher(first + place, guesses=bool(np.isnan(score)))
            if cell.kind == "retention":
                score *= teacher / TEACHER
            elif cell.kind == "difference":
                score += teacher - TEACHER
            found.append(run(variant, first + place, task, score, paper=paper, teacher=teacher, **ratio))
    return found


def _teacher(seed: int, guesses: bool) -> float:
    """A teacher between 90 and 94%; one of 72% is nearly as bad as its student."""
    return 0.72 if guesses else TEACHER + 0.02 * ((7 * seed) % 11 - 5) / 5


def ledger(paper: str, claims: Sequence[Claim]) -> Ledger:
    about = Paper(name=paper, title="made up", label="made up", arxiv="", venue="nowhere", code="", commit="")
    return Ledger(paper=about, tolerances=_TOLERANCES, averages={}, claims=tuple(claims), file="claims.toml")


def judged(cell: Cell, number: int, offset: float, generator: np.random.Generator) -> list[tuple[Judged, float]]:
    """Verdicts of so many claims, each a paper of its own, printed `offset` bands beside the truth; and the truths."""
    drawn = deviations(cell, generator, number)
    spreads = BAND * generator.uniform(0.1, 1.5, number) * (CENTRE / 2 if cell.kind == "speed" else 1)
    true = TRUTHS[cell.kind](CENTRE)
    ledgers, every = [], []
    for place in range(number):
        paper = f"p{place}"
        width = BAND * true / (1 + offset * BAND) if cell.kind == "speed" else BAND
        ledgers.append(ledger(paper, [claim(paper, cell.kind, true - offset * width)]))
        every += runs(cell, paper, drawn[place], spreads[place])
    return [(found, true) for found in judge(ledgers, every)]


def share(found: Sequence[bool]) -> float:
    return 100 * sum(found) / max(1, len(found))


def covered(entry: Judged, true: float) -> bool:
    """Whether the interval holds the truth."""
    scale = 100 if entry.claim.unit == "points" else 1
    assert entry.low is not None and entry.high is not None
    return entry.low <= scale * true <= entry.high


def errors(cell: Cell, number: int, generator: np.random.Generator) -> dict[str, float]:
    """Rates in percent: intervals that hold the truth, false verdicts at the edges, true ones in the middle."""
    middle = judged(cell, number, 0.0, generator)
    outside = [entry.verdict for side in (-1.001, 1.001) for entry, _ in judged(cell, number // 2, side, generator)]
    inside = [entry.verdict for side in (-0.999, 0.999) for entry, _ in judged(cell, number // 2, side, generator)]
    return {
        "coverage": share([covered(entry, true) for entry, true in middle if entry.low is not None]),
        "false reproduced": share([verdict == "reproduced" for verdict in outside]),
        "false not reproduced": share([verdict == "not reproduced" for verdict in inside]),
        "false exceeded": share([verdict == "exceeded" for verdict in inside]),
        "reproduced where true": share([entry.verdict == "reproduced" for entry, _ in middle]),
    }


def families(cell: Cell, number: int, generator: np.random.Generator, size: int = 60) -> float:
    """How many of so many papers with 60 true claims, at the edges of their bands, show a false `not reproduced`."""
    found = []
    for _ in range(number):
        drawn, true = deviations(cell, generator, size), TRUTHS[cell.kind](CENTRE)
        claims = [claim("p", cell.kind, true + 0.999 * BAND, f"v{place}") for place in range(size)]
        every = [one for place in range(size)
                 for one in runs(cell, "p", drawn[place], BAND * generator.uniform(0.1, 1.5), f"v{place}")]  # fmt: skip
        found.append(any(entry.verdict == "not reproduced" for entry in judge([ledger("p", claims)], every)))
    return share(found)


def ordered(cell: Cell, number: int, generator: np.random.Generator, variants: int = 5) -> float:
    """How many of so many families of equal variants are called ordered, as claimed or the other way round.

    A family is the chain of all variants and each of its pairs, as ledgers print them.
    """
    names = tuple(f"v{place}" for place in range(variants))
    fields = {"says": "made up", "kind": "ordering", "metric": "average", "source": "a table", "transcription": "seen",
              "aggregation": "mean", "tasks": (SST2,), "seeds": 5}  # fmt: skip
    found = []
    for place in range(number):
        paper = f"p{place}"
        chains = [names, *pairwise(names)]
        claims = [Claim.model_validate(fields | {"id": f"{paper}.o{i}", "order": chain, "variant": chain[-1]})
                  for i, chain in enumerate(chains)]  # fmt: skip
        shared = generator.standard_normal(cell.seeds)
        every = [one for name in names for one in runs(
            cell, paper, shared + deviations(cell, generator, 1)[0], BAND, name)]  # fmt: skip
        verdicts = [entry.verdict for entry in judge([ledger(paper, claims)], every)]
        found.append(any(verdict in ("reproduced", "not reproduced") for verdict in verdicts))
    return share(found)


AGREEING = np.array([[-1.0, 0.0, 1.0]])
FAMILY = 10
"""Claims of one kind in a paper, of which one gets advice."""


def advised(cell: Cell, number: int, generator: np.random.Generator) -> tuple[float, int]:
    """Of inconclusive claims with advice, how many are settled by following it; and how many there were.

    Beside each stand claims that agree: what sets it apart has to stand after Holm's correction over all of them.
    """
    settled = []
    names = [f"v{place}" for place in range(1, FAMILY)]
    for offset in (0.0, 0.5, 1.5, 2.0, 3.0):
        drawn = deviations(cell, generator, number)
        true = TRUTHS[cell.kind](CENTRE)
        for place in range(number):
            spread = BAND * generator.uniform(0.2, 2.0)
            found = [
                claim("p", cell.kind, true - offset * BAND),
                *(claim("p", cell.kind, true, name) for name in names),
            ]
            beside = [one for name in names for one in runs(cell, "p", AGREEING, BAND / 10, name)]
            first = [*runs(cell, "p", drawn[place], spread), *beside]
            told = re.search(r"About (\d+) more", judge([ledger("p", found)], first)[0].why)
            if told is None:
                continue
            more = deviations(Cell(cell.kind, cell.distribution, int(told[1])), generator, 1)[0]
            again = judge([ledger("p", found)], [*first, *runs(cell, "p", more, spread, first=cell.seeds)])[0]
            settled.append(again.verdict != "inconclusive")
    return share(settled), len(settled)


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    generator = np.random.default_rng(20261126)
    worst: dict[str, float] = {}

    def note(name: str, value: float, least: bool = False) -> None:
        worst[name] = (min if least else max)(worst.get(name, value), value)

    print(f"{'kind':12}{'seeds drawn':14}{'n':>3}   {number} claims a rate, percent")
    for kind in KINDS:
        for distribution in DISTRIBUTIONS[: 2 if kind == "speed" else 3]:
            for seeds in SEEDS:
                found = errors(Cell(kind, distribution, seeds), number, generator)
                print(f"{kind:12}{distribution:14}{seeds:3}   "
                      + ", ".join(f"{name} {value:.1f}" for name, value in found.items()), flush=True)  # fmt: skip
                for name in ("false reproduced", "false not reproduced", "false exceeded"):
                    note(name, found[name])
                note(f"coverage ({distribution})", found["coverage"], least=True)
    for distribution in DISTRIBUTIONS:
        cell = Cell("quality", distribution, 5)
        false, equal = families(cell, number // 10, generator), ordered(cell, number, generator)
        print(f"{distribution:14}60 true claims with a false 'not reproduced': {false:.1f}; five equal variants called "
              f"ordered: {equal:.1f}", flush=True)  # fmt: skip
        note("family of 60", false)
        note("equal ordered", equal)
        for seeds in SEEDS:
            rate, cases = advised(Cell("quality", distribution, seeds), max(20, number // 20), generator)
            print(f"{distribution:14}{seeds:3}   advice settles {rate:.1f} of {cases}", flush=True)
            note("advice settles", rate, least=True)
    print("worst: " + ", ".join(f"{name} {value:.1f}" for name, value in worst.items()))


if __name__ == "__main__":
    main()
