"""The nodes of a Ray cluster as the driver sees them: how many pieces they take at once, and what becomes of each.

Everything that is asked of Ray stands here. Ray is an extra: it is imported only when a cluster is asked for.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from bench.core import environment
from bench.core.errors import SpecError
from bench.core.hub import OFFLINE
from bench.core.paths import home, shared_url
from bench.core.steering import honoured
from bench.run.cache import WORKERS
from bench.run.device import Device
from bench.run.workers import THREADS

LOCAL = "local"
SAVE_S = 6.0
"""How long tasks may take to save a checkpoint before they are ended."""
ANSWER_S = 5.0
"""How long a cluster may take to answer at all."""
JOIN_S = 60.0
"""How long joining it may take: Ray itself goes on trying where something else listens."""
FORWARDED = (*OFFLINE, "ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE")
"""Variables that tasks have as the driver has them, beside those that steer kernels and the cache's place."""
_ADDRESS = re.compile(r"(?:ray://)?(\[[0-9a-fA-F:]+\]|[\w.-]+):(\d{1,5})")


class Lost(Exception):
    """A task that will not answer: its node or its process is gone."""


class Nodes(Protocol):
    """What the driver asks of a cluster; a task is whatever `start` returns."""

    device: Device
    threads: int
    """Of a task."""

    def slots(self) -> int:
        """How many tasks run at once, now."""
        ...

    def start(self, order: dict[str, Any]) -> Any: ...

    def wait(self, tasks: list[Any], timeout_s: float) -> list[Any]:
        """Those of the tasks that have ended, as soon as one has."""
        ...

    def answer(self, task: Any) -> dict[str, Any]:
        """What an ended task says. Raises Lost; SpecError where a node cannot run the bench."""
        ...

    def stop(self, tasks: list[Any], at_once: Callable[[], bool]) -> None:
        """End tasks, with a checkpoint if there is time, or `at_once`."""
        ...


class RayNodes:
    """Nodes of Ray; a task takes a GPU where any node has one, and its share of that node's cores."""

    def __init__(self, ray: Any):
        self._ray = ray
        alive = self._alive()
        self._gpus = int(any(node.get("GPU", 0) >= 1 for node in alive))
        self.threads = _threads(alive, self._gpus)
        if not self.slots():
            raise SpecError("no node of the cluster can take a run", where="--cluster",
                            found=f"{len(alive)} nodes with {sum(int(node.get('CPU', 0)) for node in alive)} cores",
                            expected=f"a node with {self.threads} free for bench",
                            fix="start nodes with more, or give fewer OMP_NUM_THREADS")  # fmt: skip
        most = max(self._takes(node) for node in alive)
        self._options = {
            "num_cpus": self.threads, "num_gpus": self._gpus, "max_retries": 0,
            "runtime_env": {"env_vars": _variables(self.threads, most)},
        }  # fmt: skip
        # max_calls=0: a process makes one piece after the other, also on a GPU, and plans only once.
        self._make, device = (
            ray.remote(max_calls=0, max_retries=0)(_task(name)).options(**self._options) for name in ("make", "device")
        )
        self.device = Device(**self._value(device.remote()))

    def slots(self) -> int:
        return sum(map(self._takes, self._alive()))

    def start(self, order: dict[str, Any]) -> Any:
        return self._make.remote(json.dumps(order))

    def wait(self, tasks: list[Any], timeout_s: float) -> list[Any]:
        return self._ray.wait(tasks, num_returns=1, timeout=timeout_s)[0]

    def answer(self, task: Any) -> dict[str, Any]:
        return self._value(task)

    def stop(self, tasks: list[Any], at_once: Callable[[], bool]) -> None:
        for task in tasks:
            self._cancel(task, force=False)
        ends, left = time.monotonic() + SAVE_S, tasks
        while left and time.monotonic() < ends and not at_once():
            left = self._ray.wait(left, num_returns=len(left), timeout=0.2)[1]
        for task in left:
            self._cancel(task, force=True)

    def _cancel(self, task: Any, force: bool) -> None:
        with suppress(self._ray.exceptions.RayError, ValueError, RuntimeError):  # it has ended meanwhile
            self._ray.cancel(task, force=force)

    def _value(self, task: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return json.loads(self._ray.get(task))
        except errors.RayTaskError as error:
            raise SpecError("a node cannot run the bench", where="--cluster", found=_last_line(error),
                            expected="the same installation on each node",
                            fix="install this bench there, or start Ray in its environment") from None  # fmt: skip
        except errors.RayError as error:
            raise Lost(type(error).__name__) from None

    def _alive(self) -> list[Mapping[str, float]]:
        """What each living node has."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _takes(self, node: Mapping[str, float]) -> int:
        room = int(node.get("CPU", 0)) // self.threads
        return min(room, int(node.get("GPU", 0))) if self._gpus else room


@contextmanager
def connected(address: str) -> Iterator[RayNodes]:
    """The nodes of the cluster at an address, or of one on this machine that ends with this process.

    Raises SpecError where Ray is not installed, the address means nothing, nobody answers, or no node takes a run.
    """
    ray = _ray()
    _check(address)
    own = {"num_cpus": environment.cores(), "include_dashboard": False} if address == LOCAL else {}
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _ending_after(JOIN_S, address):
            ray.init(address=address, logging_level="ERROR", log_to_driver=False, **own)
    except Exception as error:  # of many kinds: connection, version of Ray or of Python, a wrong password
        raise SpecError("the Ray cluster cannot be used", where=f"--cluster {address}", found=_last_line(error),
                        expected=f"a cluster of Ray {ray.__version__}",
                        fix="ray status there; docs/scaling.md says how to start one") from error  # fmt: skip
    finally:
        for number, handler in before.items():  # Ray sets its own
            signal.signal(number, handler)
    try:
        yield RayNodes(ray)
    finally:
        ray.shutdown()


@contextmanager
def _ending_after(seconds: float, address: str) -> Iterator[None]:
    """Ends the process, as a wrong address does, where what is inside takes longer; no exception would interrupt it."""

    def end() -> None:
        error = SpecError("no Ray cluster answers", where=f"--cluster {address}", found=f"no answer in {seconds:g} s",
                          expected="the address that ray start printed", fix="ray status there")  # fmt: skip
        sys.stderr.write(f"bench: {error}\n")
        sys.stderr.flush()
        os._exit(error.exit_code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _ray() -> Any:
    """Ray, quiet. Raises SpecError where it is not installed."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
             "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "3"}  # fmt: skip
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise SpecError("Ray is not installed", where="--cluster", found=error,
                        fix="pip install -e '.[cluster]', here and on each node") from error  # fmt: skip


def _check(address: str) -> None:
    """Raises SpecError for an address that means nothing, or where nobody listens: Ray itself would wait a minute."""
    if address == LOCAL:
        return
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65536:
        raise SpecError("the address is none of a Ray cluster", where="--cluster", found=address,
                        expected="local, HOST:PORT or ray://HOST:PORT", fix="see what ray start printed")  # fmt: skip
    try:
        socket.create_connection((found[1].strip("[]"), int(found[2])), timeout=ANSWER_S).close()
    except OSError as error:
        raise SpecError("no Ray cluster answers", where=f"--cluster {address}", found=error.strerror or error,
                        fix="ray start --head on one node, and give the address that it prints") from error  # fmt: skip


def _threads(nodes: list[Mapping[str, float]], gpus: int) -> int:
    """CPU threads of a task: OMP_NUM_THREADS, else a GPU's share of its node, or the whole of the smallest node."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    shares = [int(node.get("CPU", 0)) // (int(node.get("GPU", 0)) if gpus else 1)
              for node in nodes if not gpus or node.get("GPU", 0) >= 1]  # fmt: skip
    return max(1, min((share for share in shares if share), default=1))


def _variables(threads: int, beside: int) -> dict[str, str]:
    """The environment of a task's process from its first moment; `beside`: how many share a node."""
    same = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    place = {"BENCH_HOME": shared_url() or os.path.abspath(home())}
    return dict.fromkeys(THREADS, str(threads)) | honoured() | same | place | {WORKERS: str(beside)}


def _task(name: str) -> Callable[..., str]:
    from bench.run import task

    return getattr(task, name)


def _last_line(error: BaseException) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
