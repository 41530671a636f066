"""The costs of a plan. On made-up data they follow from code and machine alone, and are remembered."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import memo
from bench.cli.output import quiet_libraries
from bench.core import environment, registry
from bench.core.steering import steering
from bench.run.plan_summary import Costs, marked
from bench.run.recorded import folders, stamp
from bench.run.shared import opened

if TYPE_CHECKING:
    from bench.run.request import Request

DEVICES = ("ACCELERATE_TORCH_DEVICE", "ACCELERATE_USE_CPU", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
           "WORLD_SIZE")  # fmt: skip
"""Variables that choose what a run trains on, on how many threads and among how many processes."""


def costs(request: Request) -> tuple[Costs, Callable[[str], bool]]:
    """The costs of the plan that a request means, `marked`, and what says whether a stage is cached.

    Raises: whatever is wrong with the request, as making its plan does.
    """
    cache = opened()
    if not _from_code_alone(request):
        return marked(_made(request), Path(request.results)), cache.has
    papers, broken = registry.find()
    machine = [environment.cores(), environment.gpus(), [os.environ.get(name) for name in DEVICES], steering()]
    places = [[paper.name, str(paper.folder)] for paper in papers.values()]
    asked, runs = request.model_dump(mode="json", exclude={"results"}), stamp(folders(request.results))
    key = [asked, machine, places, sorted(broken), runs]
    kept = memo.recall("plan", key)
    if kept is None:
        with _heard() as said:
            kept = {"costs": _made(request), "said": said}
        memo.remember("plan", key, kept)
    else:
        for name, level, text in kept["said"]:
            logging.getLogger(name).log(level, "%s", text)
    return marked(kept["costs"], Path(request.results)), cache.has


def _made(request: Request) -> Costs:
    quiet_libraries()
    from bench.run import forecast, plan

    return forecast.costs(plan.make(request))


def _from_code_alone(request: Request) -> bool:
    """Whether a request reads nothing of the user's: no data, text or checkpoint, by whatever option."""
    given = (request.teacher, request.corpus, request.unlabelled, *request.set)
    return request.source == "synthetic" and request.scale == "smoke" and not any(given)


@contextmanager
def _heard() -> Iterator[list[tuple[str, int, str]]]:
    """What the bench's loggers say inside, as (logger, level, text)."""
    said: list[tuple[str, int, str]] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((record.name, record.levelno, record.getMessage()))

    ear, logger = Ear(), logging.getLogger("bench")
    logger.addHandler(ear)
    try:
        yield said
    finally:
        logger.removeHandler(ear)
