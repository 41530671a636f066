"""A Ray cluster of several nodes on this machine, of which one can be killed.

    python tests/rehearsal/nodes.py COUNT       prints the address, then obeys lines of stdin: kill, end

`kill` waits for a node that makes a piece, and kills it with all that runs there.

Node 0 is the head, which runs nothing; each of the others has one core. In a process of its own, since a driver that
is killed must not take the cluster with it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass
class Nodes:
    """The running cluster."""

    address: str
    process: subprocess.Popen[str]

    def kill(self) -> str:
        """Kill a node that makes a piece; returns its number, when it is dead."""
        return self._say("kill")

    def _say(self, text: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@contextmanager
def nodes(count: int) -> Iterator[Nodes]:
    """So many nodes beside the head."""
    command = [sys.executable, __file__, str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = Nodes(process.stdout.readline().strip(), process)
        try:
            yield found
        finally:
            found._say("end")


def makes(node: Any) -> bool:
    """Whether a node makes a piece of a plan."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return any("ray::make" in " ".join(child.cmdline()) for child in raylet.children(recursive=True))


def main() -> None:
    """The cluster, until it is told to end."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    answers = sys.stdout
    sys.stdout = sys.stderr
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    every = {number: cluster.add_node(num_cpus=1) for number in range(1, int(sys.argv[1]) + 1)}
    print(cluster.address, file=answers, flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            cluster.shutdown()
            print("ended", file=answers, flush=True)
            return
        busy: list[int] = []
        until = time.monotonic() + 120
        while not busy and time.monotonic() < until:
            with suppress(psutil.NoSuchProcess):
                busy = [number for number, node in every.items() if makes(node)]
            time.sleep(0.1)
        if not busy:
            print("nothing is made", file=answers, flush=True)
            continue
        cluster.remove_node(every.pop(busy[0]), allow_graceful=False)
        print(busy[0], file=answers, flush=True)


if __name__ == "__main__":
    main()
