"""Losses of a training for TensorBoard, Weights & Biases or MLflow, through the classes that Accelerate has for them.

Nobody waits for a tracker: a thread of its own makes its calls, and one that fails or hangs costs a warning, no run.
`fit` knows nothing of it. Its code is part of every stage's key, and whether somebody watches changes no result; what
it says to its checkpointer and to its progress bar is enough to know where it stands.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from queue import SimpleQueue

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from filelock import FileLock
from torch import nn

from bench.core.errors import SpecError
from bench.core.redact import cleaned, cleaned_settings
from bench.train.checkpoint import Checkpointer, Position
from bench.train.progress import Advance, Progress
from bench.train.settings import Settings

log = logging.getLogger(__name__)

TRACKERS = ("tensorboard", "wandb", "mlflow")
PROJECT = "bench"
"""What the tracker files all runs under."""
EVERY_S = 1.0
"""Seconds between two losses that are told, at least."""
WAIT_S = 20.0
"""How long the end of a training waits for the tracker."""

Plain = str | int | float | bool
Make = Callable[[str], GeneralTracker]
"""The name of a run -> its tracker, started."""


def check(name: str) -> None:
    """Raises SpecError for a tracker that nobody knows, or whose package is not installed."""
    if name not in TRACKERS:
        raise SpecError("unknown tracker", where="--track", found=name, expected=f"one of {', '.join(TRACKERS)}",
                        fix=f"leave it out, or pip install {TRACKERS[0]} and --track {TRACKERS[0]}")  # fmt: skip
    if name not in map(str, get_available_trackers()):
        raise SpecError("the tracker is not installed", where="--track", found=name, fix=f"pip install {name}")


class Tracking:
    """The tracker of a plan, whose runs are told to it until one of them fails."""

    def __init__(self, name: str, make: Make):
        self.name, self.make, self.failed = name, make, False

    @classmethod
    def by(cls, name: str, folder: Path) -> Tracking:
        """One of TRACKERS, which writes under `folder` what it keeps on this machine. Raises SpecError as `check`."""
        check(name)
        own = folder.absolute() / name
        return cls(name, lambda run: _started(name, run, own))

    def run(self, name: str, settings: Mapping[str, object]) -> Run | None:
        """A run of the tracker; None once it has failed in this process."""
        return None if self.failed else Run(self, name, plain_settings(settings))

    def gave_up(self, run: str, reason: str) -> None:
        """Say once that it is used no more."""
        if not self.failed:
            self.failed = True
            told = " ".join(cleaned(reason).split())
            log.warning("tracker=%s run=%s state=failed reason=%r; runs go on without it", self.name, run, told)


class Run:
    """One run of a tracker, as a context; all calls are made by one thread, some trackers need that."""

    def __init__(self, tracking: Tracking, name: str, settings: dict[str, Plain]):
        self._tracking, self._name, self._settings = tracking, name, settings
        self._said: SimpleQueue[tuple[dict[str, float], int] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._tell, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Hand over values, and go on."""
        if not self._tracking.failed:
            self._said.put((dict(values), step))

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._said.put(None)
        self._thread.join(WAIT_S)
        if self._thread.is_alive():
            self._tracking.gave_up(self._name, f"no answer for {WAIT_S:g} s")

    def _tell(self) -> None:
        try:
            tracker = self._tracking.make(self._name)
            tracker.store_init_configuration(self._settings)
            while (said := self._said.get()) is not None:
                values, step = said
                tracker.log(values, step=step)
            tracker.finish()
        except (Exception, SystemExit) as error:  # somebody else's code
            self._tracking.gave_up(self._name, f"{type(error).__name__}: {error}")


class Watched(Checkpointer):
    """A checkpointer that tells a run the losses of the training that it belongs to.

    A loss is told where the training has looked at it anyhow: at most one in EVERY_S, and the last one.
    """

    def __init__(self, folder: Path, every_s: float, run: Run, clock: Callable[[], float] = time.monotonic):
        super().__init__(folder, every_s)
        self._run, self._clock = run, clock
        self._at = Position()
        self._seen: float | None = None
        """The loss of the last look; another one tells that there was a new look."""
        self._step, self._told_s = 0, -math.inf

    def restore(self, accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
        """As a checkpointer does; the position is the training's own, which it keeps up to date."""
        self._at = super().restore(accelerator, model, optimizer)
        self._seen, self._step = self._at.last_loss, self._at.step
        return self._at

    def save(self, accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, at: Position) -> bool:
        """As a checkpointer does; the look before it is no news at the next step."""
        self._look()
        return super().save(accelerator, model, optimizer, at)

    def progress(self, inner: Progress) -> Progress:
        """The same bar; each of its steps sees whether there was a look, and its end tells the last loss."""

        @contextmanager
        def shown(total: int, done: int) -> Iterator[Advance]:
            with inner(total, done) as advance:

                def step(steps: int, text: str) -> None:
                    advance(steps, text)
                    self._look()

                yield step
            if self._at.step > self._step:
                self._tell()

        return shown

    def _look(self) -> None:
        if self._at.last_loss == self._seen:
            return
        self._seen = self._at.last_loss
        if self._clock() - self._told_s >= EVERY_S:
            self._tell()

    def _tell(self) -> None:
        if self._at.last_loss is not None:
            self._run.log({"loss": self._at.last_loss}, self._at.step)
            self._step, self._told_s = self._at.step, self._clock()


@contextmanager
def watched(run: Run | None, checkpointer: Checkpointer, progress: Progress) -> Iterator[tuple[Checkpointer, Progress]]:
    """What `fit` is given so that a run hears of its losses; without a run, what was given."""
    with run or nullcontext():
        if run is None:
            yield checkpointer, progress
            return
        seen = Watched(checkpointer.folder, checkpointer.every_s, run)
        yield seen, seen.progress(progress)


def plain_settings(settings: Mapping[str, object], before: str = "") -> dict[str, Plain]:
    """Settings by dotted name as trackers take them: no lists, nothing unset, no path or secret of this machine."""
    found: dict[str, Plain] = {}
    for key, value in settings.items():
        value = value.model_dump(mode="json") if isinstance(value, Settings) else value
        if isinstance(value, Mapping):
            found |= plain_settings(value, f"{before}{key}.")
        elif isinstance(value, bool | int | float):
            found[before + key] = value
        elif value is not None:
            found[before + key] = str(cleaned_settings(value))
    return found


def _started(name: str, run: str, folder: Path) -> GeneralTracker:
    """Accelerate's tracker of that name, with one start at a time: the first one makes the database of all."""
    folder.mkdir(parents=True, exist_ok=True)
    tracker = _made(name, run, folder)
    with FileLock(folder / "start.lock"):
        tracker.start()
    return tracker


def _made(name: str, run: str, folder: Path) -> GeneralTracker:
    made = LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":
        return made(run, folder)
    if name == "wandb":
        return made(PROJECT, name=run, dir=folder)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    # It writes there where to look at a run; stdout is the command's.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    return made(PROJECT, logging_dir=(folder / "artifacts").as_uri(), run_name=run)
