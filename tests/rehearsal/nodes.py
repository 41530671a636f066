"""A Ray cluster of several nodes on this machine, of which one can be killed.

    python tests/rehearsal/nodes.py COUNT       prints the address, then obeys lines of stdin: kill NUMBER, end

Node 0 is the head, which runs nothing; each of the others has one core. In a process of its own, since a driver that
is killed must not take the cluster with it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Nodes:
    """The running cluster."""

    address: str
    process: subprocess.Popen[str]

    def kill(self, number: int) -> None:
        """Kill a node with all that runs on it; returns when it is dead."""
        self._say(f"kill {number}")

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


def main() -> None:
    """The cluster, until it is told to end."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    answers = sys.stdout
    sys.stdout = sys.stderr
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    every = [cluster.head_node, *(cluster.add_node(num_cpus=1) for _ in range(int(sys.argv[1])))]
    print(cluster.address, file=answers, flush=True)
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == "kill":
            cluster.remove_node(every[int(number)], allow_graceful=False)
        else:
            cluster.shutdown()
        print("done", file=answers, flush=True)
        if word != "kill":
            return


if __name__ == "__main__":
    main()
