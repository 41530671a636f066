"""What a step of AdaBERT's search costs, over a step of a fixed network of the same depth.

    python tests/benchmarks/adabert_speed.py     about 2 minutes on one core; --quick for a rehearsal

At the paper's size (width 128, 8 cells) and at the small scale's for a BERT of 6 layers of 384, batches of 32 x 32 with
padding; forward, backward and optimiser. The fixed networks are drawn at random, a new one each round, and so is what
the search samples. Aims at 2.5 or less. Beside it stands the time of a pass through all ten operations of every edge
over that of a sampled one. Rounds are interleaved; the last line has the figures.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.batches import Batch
from papers.adabert.search import SearchCell, SearchNetwork, Tables
from papers.adabert.settings import Search, Student
from papers.adabert.structure import Choice, at_random, only, whole

WORDS, POSITIONS = 30522, 512
BATCH, LENGTH = 32, 32


def batch_of() -> Batch:
    mask = torch.ones(BATCH, LENGTH, dtype=torch.long)
    mask[::2, LENGTH // 2 :] = 0
    return {"input_ids": torch.randint(1000, WORDS, (BATCH, LENGTH)) * mask, "attention_mask": mask}


def stepper(network: SearchNetwork, batch: Batch) -> Callable[[], None]:
    """One optimiser step on made-up labels."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    labels = torch.randint(0, 2, (BATCH,))

    def step() -> None:
        (answer,), price = network(**batch)
        (F.cross_entropy(answer.logits[-1], labels) + price).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def step_ratio(sizes: Student, width: int, rounds: int) -> float:
    """Time of a step of the search over that of a fixed network, both with all cells."""
    tables = Tables(torch.randn(WORDS, width), torch.randn(POSITIONS, width), 0)
    space, batch, found = replace(whole(sizes.max_cells), cells=(sizes.max_cells,)), batch_of(), []
    chosen = Search(gradient="sampled")
    search = stepper(SearchNetwork(space, tables, 2, False, sizes, chosen, 10**6).train(), batch)
    for number in range(rounds + 3):
        genotype = replace(at_random(number, sizes.max_cells), cells=sizes.max_cells)
        fixed = stepper(SearchNetwork(only(genotype), tables, 2, False, sizes, chosen, 10**6).train(), batch)
        fixed()  # warms up: its gradients and moments are made
        pair = (search, fixed) if number % 2 else (fixed, search)
        times = [statistics.median(timed(call) for _ in range(3)) for call in pair]
        one, other = times if number % 2 else reversed(times)
        found.append(one / other)
    return statistics.median(found[3:])


def all_ratio(sizes: Student, rounds: int) -> float:
    """Time of a cell that runs all candidates of all edges over that of one that runs a sample."""
    space = whole(1)
    cell, found = SearchCell(space, sizes.hidden, full=False), []
    x, mask = torch.randn(BATCH, sizes.hidden, LENGTH), torch.ones(BATCH, 1, LENGTH, dtype=torch.bool)

    def run(places: list[int]) -> Tensor:
        return cell(x, x, mask, [Choice(place, torch.ones(10)) for place in places])

    def every() -> None:
        for place in range(10):
            run([place] * len(space.edges))

    for _ in range(rounds + 1):
        sample = torch.randint(0, 10, (len(space.edges),)).tolist()
        with torch.no_grad():
            found.append(timed(every) / timed(lambda sample=sample: run(sample)))
    return statistics.median(found[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    torch.manual_seed(0)
    paper, small = Student(), Student(hidden=64, max_cells=4)
    rounds = 3 if quick else 40
    figures = {
        "step at the paper's size": step_ratio(paper, 768, rounds),
        "step at small scale": step_ratio(small, 384, rounds),
        "all operations": all_ratio(paper, rounds),
    }
    print(", ".join(f"{name} {value:.2f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
