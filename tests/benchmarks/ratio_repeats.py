"""Whether a speed-up comes out the same again: five sessions of `bench measure` beside five of "time A, then time B".

    python tests/benchmarks/ratio_repeats.py [--threads 1]        about 13 minutes on two cores

The two ways take turns, so that both see the same machine, and spend about the same time on calls. The figure is the
spread of the five ratios to BERT-base, largest over smallest minus one; that of `bench measure` is held to 5%.
"""

from __future__ import annotations

import argparse
import statistics
import time

from bench.measure.session import FULL, Subject, Worker, measure

TRIES = 3
SESSIONS, BATCH, LENGTH = 5, 1, 128
REFERENCE = Subject("bert", "bert")
SUBJECTS = (Subject("distilbert", "distilbert"), Subject("tinybert", "tinybert-4"))

Ratios = dict[str, float]


def interleaved(threads: int) -> tuple[Ratios, float]:
    """The ratios as `bench measure` gives them, and the seconds of calls that each model had.

    A session that says it was noisy is done again, as the command asks of its user.
    """
    for _ in range(TRIES):
        timings = measure(REFERENCE, SUBJECTS, (BATCH,), LENGTH, threads, FULL).timings
        floor = timings[0].floor
        print(f"    A/A {floor.value:.3f} [{floor.low:.3f}, {floor.high:.3f}], {len(timings[0].rounds)} rounds")
        if not timings[0].noisy:
            break
        print("    noisy")
    return {t.subject.variant: t.ratio.value for t in timings if t.ratio}, len(timings[0].rounds) * FULL.turn_s


def one_after_the_other(seconds: float, threads: int) -> Ratios:
    """The usual way: load a model, warm it, time it, go to the next; the ratios of the medians."""
    medians: dict[str, float] = {}
    for subject in (REFERENCE, *SUBJECTS):
        with Worker(subject, threads) as worker:
            worker.load()
            worker.answer()
            worker.order(do="warm", batch=BATCH, length=LENGTH, calls=FULL.warm_calls, at_most_s=FULL.warm_s)
            calls = max(1, round(seconds / worker.answer()["steady_s"]))
            medians[subject.variant] = statistics.median(worker.time(calls))
    reference = medians.pop(REFERENCE.variant)
    return {name: reference / median for name, median in medians.items()}


def told(ratios: Ratios) -> str:
    return ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())


def spread(sessions: list[Ratios]) -> str:
    per_name = {name: [ratios[name] for ratios in sessions] for name in sessions[0]}
    return ", ".join(f"{name} {max(found) / min(found) - 1:.1%}" for name, found in per_name.items())


def row(threads: int, name: str, way: str, sessions: list[Ratios]) -> str:
    """A row of the README's table."""
    found = [ratios[name] for ratios in sessions]
    cells = [str(threads), name, way, *(f"{ratio:.3f}" for ratio in found), f"{max(found) / min(found) - 1:.1%}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="of each call")
    threads = parser.parse_args().threads
    ours: list[Ratios] = []
    usual: list[Ratios] = []
    for session in range(SESSIONS):
        started = time.monotonic()
        ratios, seconds = interleaved(threads)
        ours.append(ratios)
        middle = time.monotonic()
        usual.append(one_after_the_other(seconds, threads))
        print(f"session {session + 1}: interleaved {told(ratios)} in {middle - started:.0f} s; "
              f"A then B {told(usual[-1])} in {time.monotonic() - middle:.0f} s", flush=True)  # fmt: skip
    for name in ours[0]:
        print(row(threads, name, "`bench measure`", ours))
        print(row(threads, name, "time A, then time B", usual))
    print(f"{threads} threads, spread over {SESSIONS} sessions: A then B: {spread(usual)}; interleaved: {spread(ours)}")


if __name__ == "__main__":
    main()
