"""A user's folder beside a little hub: bench commands run in it as that user would, and what they said."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rehearsal.hub import Hub

COMMAND = Path(__file__).with_name("command.py")
SLEEP_S = "0.01"
"""The longest that anything waits before it asks the hub again."""

Told = subprocess.CompletedProcess[str]


@dataclass
class Place:
    """A hub, and a user's folder with a cache that was empty at first."""

    hub: Hub
    folder: Path

    def bench(self, *words: str, timeout: float | None = 300, **variables: str) -> Told:
        """Commands parted by `--`, in one process."""
        own = {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.folder / "hf"), "OMP_NUM_THREADS": "1",
               "BENCH_HOME": str(self.folder / "home"), "PYTHONPATH": str(COMMAND.parents[2])}  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.endswith("OFFLINE")}
        return subprocess.run([sys.executable, str(COMMAND), SLEEP_S, *words], env=kept | own | variables, text=True,
                              cwd=self.folder, capture_output=True, timeout=timeout, check=False)  # fmt: skip


def codes(told: Told) -> list[int]:
    """How each of the commands ended."""
    return [int(line.removeprefix("exit ")) for line in told.stdout.splitlines() if line.startswith("exit ")]
