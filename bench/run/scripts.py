"""A plan as scripts for another scheduler: `bench run` commands, each for the runs of one variant and task.

A script makes its runs of all seeds one after the other, and the stages that later scripts share with it: these wait
for it. All scripts share the cache (BENCH_HOME) and the results folder, so that each finds what the ones before made.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core.errors import SpecError
from bench.core.files import write_atomic
from bench.core.names import JOINT
from bench.core.paths import home, shared_url
from bench.core.steering import honoured
from bench.core.store import Store
from bench.run.plan import Job, Plan
from bench.run.plan_summary import Costs
from bench.run.request import Request
from bench.run.schedule import uncached

START = {"slurm": "submit.sh", "shell": "run.sh"}
"""Scheduler -> the script that starts all others."""
KINDS = tuple(START)
MARK = "# Written by bench plan --jobs; it is replaced by the next one."
"""The second line of each script: what has it may be replaced."""
TIME_MARGIN, TIME_LEAST_S = 2.0, 900.0
"""Of a time limit: times the forecast, and what starting takes."""
MEMORY_MARGIN, MEMORY_LEAST = 1.5, 4 * 2**30
"""Of a memory limit: times the forecast, and bytes of the libraries."""


@dataclass(slots=True)
class Group:
    """The runs of a variant on a task, all seeds; what they cost, and the groups that must be done before."""

    number: int
    name: str
    command: list[str]
    needs: dict[int, None] = field(default_factory=dict)
    """Numbers of groups, all of them smaller."""
    seconds: float = 0.0
    bytes: float = 0.0

    @property
    def script(self) -> str:
        return f"{self.number:03d}-{self.name}.sh"


def groups(parts: Sequence[tuple[Plan, Costs]]) -> list[Group]:
    """The groups of what is left of some plans, each with its forecast; every group after what it needs."""
    found: dict[tuple[int, str, str, str], Group] = {}
    makers: dict[str, Group] = {}
    for part, (plan, costs) in enumerate(parts):
        store = Store(Path(plan.request.results))
        for job, cost in zip(plan.jobs, costs["jobs"], strict=True):
            if store.find(job.spec, job.hash):
                continue
            key = (part, job.spec.paper, job.spec.variant, job.spec.task)
            group = found.setdefault(key, Group(len(found) + 1, _name(job), command(plan.request, job)))
            before = [makers[one.hash] for one in job.needed if one.hash in makers]
            before.append(makers.setdefault(job.hash, group))
            told = {one["key"]: one for one in cost["stages"]}
            for stage in uncached(job, plan.cache.has):
                if stage.key not in makers:  # else another one makes it, or this one for another seed
                    group.seconds += told[stage.key]["seconds"]
                before.append(makers.setdefault(stage.key, group))
                beside = 0.0 if costs["gpu"] else told[stage.key]["device_bytes"]
                group.bytes = max(group.bytes, told[stage.key]["host_bytes"] + beside)
            group.seconds += cost["finish_s"]
            # What a later script makes as well is made by whoever comes first: the cache lets the other wait.
            group.needs |= {one.number: None for one in before if one.number < group.number}
    return list(found.values())


def _name(job: Job) -> str:
    return "-".join([job.spec.paper, job.spec.variant.replace(JOINT, "-on-"), job.spec.task])


def command(request: Request, job: Job) -> list[str]:
    """The words of the `bench run` that makes a job of every seed, and nothing else that is not made yet."""
    papers, at = [job.recipe.name], job.below
    while at is not None:
        papers.append(at.recipe.name)
        at = at.below
    given: list[tuple[str, Any]] = [("--paper", name) for name in papers]
    given += [("--variant", job.spec.variant), ("--task", job.spec.task), ("--seeds", len(request.seed_list))]
    given += [(f"--{name.replace('_', '-')}", value) for name in _OPTIONS if (value := getattr(request, name))]
    known = {name for one in (*job.needed, job) for field in one.hyper.names()  # another field would be refused
             for name in (field, f"{one.recipe.name}:{field}")}  # fmt: skip
    given += [("--set", f"{name}={value}") for name, value in request.set.items() if name in known]
    words = [word for name, value in given for word in (name, str(value))]
    return [sys.executable, "-m", "bench", "run", request.scale, *words, "--results", request.results]


_OPTIONS = ("teacher", "data", "corpus", "limit", "dev_limit", "labels", "unlabelled", "track")
"""Fields of a request that an option of the same name sets."""


def files(kind: str, every: list[Group], gpu: bool) -> dict[str, str]:
    """Name -> content of the scripts: one per group, and the one that starts them all."""
    slurm = kind == "slurm"
    found = {one.script: _script([*(_slurm(one, gpu) if slurm else []), *_body(one)]) for one in every}
    return found | {START[kind]: _script(_submit(every) if slurm else _run(every))}


def write(folder: Path, contents: Mapping[str, str]) -> None:
    """Write scripts into a folder; those of an earlier plan that this one has not are removed.

    Raises SpecError, and touches nothing, where a file is in the way that `bench plan` has not written.
    """
    old = sorted(folder.glob("*.sh"))
    for path in (*old, *(folder / name for name in contents)):
        if path.exists() and not _ours(path):
            raise SpecError("a file is in the way", where=path, expected="a script of bench plan, or none",
                            fix="give another --out FOLDER")  # fmt: skip
    try:
        for name, content in contents.items():
            write_atomic(folder / name, content)
            (folder / name).chmod(0o755)
        for path in old:
            if path.name not in contents:
                path.unlink()
    except OSError as error:
        raise SpecError("the scripts cannot be written", where=folder, found=error.strerror or error,
                        fix="give another --out FOLDER") from error  # fmt: skip


def _ours(path: Path) -> bool:
    try:
        return path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace").splitlines()[:2]
    except OSError:
        return False


def _script(lines: list[str]) -> str:
    return "\n".join(["#!/usr/bin/env bash", MARK, *lines, ""])


def _body(group: Group) -> list[str]:
    return [
        "set -euo pipefail",
        f"cd {shlex.quote(os.getcwd())}",
        f"export BENCH_HOME={shlex.quote(shared_url() or os.path.abspath(home()))}",
        *(f"export {name}={shlex.quote(value)}" for name, value in sorted(honoured().items())),
        f"exec {shlex.join(group.command)}",
    ]


def _slurm(group: Group, gpu: bool) -> list[str]:
    minutes = math.ceil((TIME_LEAST_S + TIME_MARGIN * group.seconds) / 60)
    megabytes = math.ceil((MEMORY_LEAST + MEMORY_MARGIN * group.bytes) / 1e6)
    lines = [f"--job-name=bench-{group.name}", f"--time={minutes}", f"--mem={megabytes}M", "--nodes=1", "--ntasks=1"]
    lines += ["--gres=gpu:1"] if gpu else []
    return [f"#SBATCH {line}" for line in lines]


def _submit(every: list[Group]) -> list[str]:
    """sbatch for each script, after what it needs; what is given to submit.sh is given to each."""
    lines = ["# bash submit.sh [OPTIONS OF SBATCH, as --partition=gpu --account=NAME]", "set -euo pipefail",
             'cd "$(dirname "${BASH_SOURCE[0]}")"']  # fmt: skip
    for one in every:
        after = ":".join(f"${{job_{need}%%;*}}" for need in one.needs)
        wait = f' --dependency="afterok:{after}" --kill-on-invalid-dep=yes' if after else ""
        lines.append(f'job_{one.number}=$(sbatch --parsable{wait} "$@" {shlex.quote(one.script)})')
        lines.append(f'echo "${{job_{one.number}}} "{shlex.quote(one.script)}')
    return lines


_RUN = """
# bash run.sh [SLOT...]   runs the scripts beside it, one at a time on each slot: the number of a GPU here (0), HOST:GPU
# or HOST: by ssh, or cpu. Without slots: all GPUs here, or cpu. Hosts share this folder, the cache and the results.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
slots=("$@")
if [ "${#slots[@]}" = 0 ]; then
  mapfile -t slots < <(nvidia-smi --query-gpu=index --format=csv,noheader 2> /dev/null)
  [ "${#slots[@]}" -gt 0 ] || slots=(cpu)
fi
export SLOTS="${slots[*]}"

one() {  # a script on the slot that is free
  local slots slot command
  read -ra slots <<< "$SLOTS"
  slot=${slots[$SLOT]}
  command="bash $(printf %q "$PWD/$1")"
  case "$slot" in
    cpu) ;;
    *:) ;;
    *) command="CUDA_VISIBLE_DEVICES=$(printf %q "${slot##*:}") $command" ;;
  esac
  echo "$slot $1"
  case "$slot" in
    *:*) ssh -o BatchMode=yes "${slot%%:*}" "$command" < /dev/null ;;
    *) bash -c "$command" < /dev/null ;;
  esac
}
export -f one

failed=0
wave() {  # scripts that need none of each other
  printf '%s\\n' "$@" |
    xargs -P "${#slots[@]}" --process-slot-var=SLOT -I{} bash -c 'one "$1" || exit 1' one {} || failed=1
}
""".strip("\n").split("\n")


def _run(every: list[Group]) -> list[str]:
    """One wave after the other; a script is in the wave after the last one that it needs."""
    wave: dict[int, int] = {}
    for one in every:
        wave[one.number] = 1 + max((wave[need] for need in one.needs), default=0)
    lines = [" ".join(["wave", *(shlex.quote(one.script) for one in every if wave[one.number] == number)])
             for number in sorted(set(wave.values()))]  # fmt: skip
    return [*_RUN, *lines, "exit $failed"]
