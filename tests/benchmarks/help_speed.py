"""Processor time of `bench --help` beside that of an empty Python; at most 0.3 s.

    python tests/benchmarks/help_speed.py                     a few seconds

The two take turns. The last line is `help_s: N`, the best of the rounds.
"""

from __future__ import annotations

import os
import subprocess
import sys

ROUNDS = 7


def seconds(*arguments: str) -> float:
    """Processor time of one child, user's and system's."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    rounds = [(seconds("-m", "bench", "--help"), seconds("-c", "")) for _ in range(ROUNDS)]
    ours, empty = (min(column) for column in zip(*rounds, strict=True))
    print(f"empty Python: {empty:.3f} s; ratio {ours / empty:.1f}")
    print(f"help_s: {ours:.3f}")


if __name__ == "__main__":
    main()
