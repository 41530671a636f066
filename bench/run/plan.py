"""Which runs a request means, in what order, and which of their stages are cached already; runs nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers

from bench.core import registry
from bench.core.errors import ModelError, SpecError
from bench.core.spec import Spec, digest
from bench.data.tasks import Task, get_task
from bench.models import load
from bench.models.device import native_bf16
from bench.run.cache import Cache, home
from bench.run.codehash import code_hash, module_hash
from bench.run.inputs import Inputs, Reading, checkpoint_identity, teacher_facts
from bench.run.request import Request
from bench.train.recipe import Recipe, Stage
from bench.train.settings import Settings, unknown_field

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage of a job with the hash of everything that shapes it."""

    stage: Stage
    key: str
    code: str
    seed: int


@dataclass(frozen=True)
class Job:
    """One run to be made: its spec, its settings and its chain of stages."""

    spec: Spec
    task: Task
    recipe: Recipe
    hyper: Settings
    stages: tuple[StagePlan, ...]
    tokenizer_folder: Path
    released: load.Checkpoint | None
    teacher: Job | None

    @property
    def key(self) -> str:
        """The hash of the finished model: that of its last stage."""
        return self.stages[-1].key

    @cached_property
    def hash(self) -> str:
        """spec + hyper + everything that shaped the stages."""
        return digest([self.spec.as_dict(), self.hyper.model_dump(mode="json"), self.key])

    @property
    def pretrained_key(self) -> str:
        """The key of the last task-free stage: the model before it saw a task."""
        return [plan.key for plan in self.stages if plan.stage.task_free][-1]

    @property
    def reading(self) -> Reading:
        """How the model reads the task in evaluation."""
        return Reading(
            self.tokenizer_folder, getattr(self.hyper, "max_length", 128), getattr(self.hyper, "windows", None)
        )


READERS = {"span": "bench.data.spans", "tags": "bench.data.tags"}
"""What turns rows of such tasks into examples, and logits into answers: no stage imports it, all depend on it."""


@dataclass(frozen=True)
class Plan:
    """The jobs in order (a teacher before its students), the inputs they share, and the cache."""

    request: Request
    inputs: Inputs
    jobs: tuple[Job, ...]
    cache: Cache
    checkpoint: load.Checkpoint | None


class Planner:
    """Builds jobs; memoises teachers, because all students of a task and seed share one."""

    def __init__(self, request: Request):
        self.request = request
        self.recipes = self._recipes()
        self.asked = self._asked()
        self.inputs = Inputs(request)
        self.checkpoint = self._checkpoint()
        self.tasks = self._tasks()
        self._jobs: dict[Spec, Job] = {}
        self._warned = False
        self._common = {
            "torch": torch.__version__, "transformers": transformers.__version__,
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "bf16": native_bf16(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        }  # fmt: skip

    def _recipes(self) -> dict[str, Recipe]:
        papers, broken = registry.find()
        with_recipe = [name for name in papers if registry.has_recipe(name)]
        for name in self.request.paper:
            if name in broken:
                raise SpecError("the paper is broken", where=name, found=broken[name], fix="see bench list")
            if name not in with_recipe:
                raise SpecError(
                    "unknown paper", found=name, expected=f"one of {', '.join(with_recipe)}", fix="bench list"
                )
        chosen = {name: registry.load_recipe(name) for name in (self.request.paper or with_recipe)}
        known = {variant for recipe in chosen.values() for variant in recipe.variants}
        for name in self.request.variant:
            if name not in known:
                raise SpecError("unknown variant", found=name, expected=f"one of {', '.join(sorted(known))}")
        return chosen

    def _asked(self) -> list[Task]:
        for name in self.request.task:
            task = get_task(name)
            if not any(task.name in recipe.tasks for recipe in self.recipes.values()):
                raise SpecError("no chosen paper has this task", found=name, fix="see bench list")
        return [get_task(name) for name in self.request.task]

    def _tasks(self) -> list[Task]:
        """The tasks asked for, or all that the papers have and the vocabulary fits."""
        default = {t: None for recipe in self.recipes.values() for t in self._default_tasks(recipe)}
        lowers = load.lowers(self.inputs.tokenizer(self._tokenizer_folder(None)))
        for task in self.asked:
            if task.cased and lowers:
                raise ModelError("the task takes a cased vocabulary", where=task.name,
                                 found="a tokenizer that makes capitals small",
                                 expected="a BERT whose tokenizer keeps them", fix=self._cased_fix())  # fmt: skip
        fitting = [task for task in map(get_task, default) if not (task.cased and (lowers or self._made_up))]
        left = ", ".join(name for name in default if get_task(name) not in fitting)
        if left and not self.asked:
            log.info("left_out=%s reason='takes a cased vocabulary and real names'", left)
        return self.asked or fitting

    @property
    def _made_up(self) -> bool:
        return self.request.source == "synthetic"

    def _cased_fix(self) -> str:
        names = [recipe.cased_teacher[0] for recipe in map(self._teacher_recipe, self.recipes.values())
                 if recipe.cased_teacher]  # fmt: skip
        data = " --data FOLDER" if self._made_up else ""
        return f"add --teacher {names[0]}{data}, and run the task by itself" if names else "choose another --task"

    def _default_tasks(self, recipe: Recipe) -> tuple[str, ...]:
        return recipe.smoke_tasks if self.request.scale == "smoke" else recipe.tasks

    def _checkpoint(self) -> load.Checkpoint | None:
        if self.request.teacher:
            return self.inputs.checkpoint(self.request.teacher)
        if self.request.scale == "smoke":
            return None
        if self.request.scale == "full":
            cased = bool(self.asked) and all(task.cased for task in self.asked)
            for recipe in map(self._teacher_recipe, self.recipes.values()):
                teacher = recipe.cased_teacher if cased else recipe.default_teacher
                if teacher:
                    return self.inputs.checkpoint(*teacher)
        raise SpecError("no teacher is given", where=f"scale {self.request.scale}",
                        fix="add --teacher FOLDER_OR_HUB_ID, a pre-trained BERT of any size")  # fmt: skip

    def _teacher_recipe(self, recipe: Recipe) -> Recipe:
        return registry.load_recipe(recipe.teacher) if recipe.teacher else recipe

    def build(self) -> Plan:
        """All jobs of the request. Verifies every split that they read; raises what is wrong with any of them."""
        jobs: dict[Spec, Job] = {}
        for task in self.tasks:
            for seed in self.request.seed_list:
                for recipe in self.recipes.values():
                    if task.name not in (recipe.tasks if self.request.task else self._default_tasks(recipe)):
                        continue
                    for variant in self._variants(recipe):
                        job = self.job(recipe, variant, task, seed)
                        if job.teacher is not None:
                            jobs.setdefault(job.teacher.spec, job.teacher)
                        jobs.setdefault(job.spec, job)
        if not jobs:
            raise SpecError(
                "nothing to run", found="no chosen paper has a chosen variant and task", fix="see bench list"
            )
        ordered = sorted(jobs.values(), key=lambda job: job.teacher is not None)
        return Plan(self.request, self.inputs, tuple(ordered), Cache(home()), self.checkpoint)

    def _variants(self, recipe: Recipe) -> list[str]:
        asked = [name for name in self.request.variant if name in recipe.variants]
        return asked or ([] if self.request.variant and recipe.teacher else [recipe.main_variant])

    def job(self, recipe: Recipe, variant: str, task: Task, seed: int) -> Job:
        spec = Spec(recipe.name, variant, task.name, self.request.scale, seed)
        if spec in self._jobs:
            return self._jobs[spec]
        facts = teacher_facts(self.checkpoint) if self.checkpoint else None
        hyper = recipe.hyper(variant, task.name, self.request.scale, facts)
        hyper = hyper.override(self._own_changes(recipe, hyper))
        teacher = None
        if recipe.teacher:
            reference = registry.load_recipe(recipe.teacher)
            teacher = self.job(reference, reference.main_variant, task, seed)
        released = None
        if variant in recipe.checkpoints:
            released = self.inputs.checkpoint(getattr(hyper, recipe.checkpoints[variant]))
        if recipe.check:
            recipe.check(variant, hyper, facts, released)
        if released and any(stage.teacher for stage in recipe.stages(variant, facts)):
            self._check_words(released)
        folder = self._tokenizer_folder(released)
        stages = self._chain(recipe, hyper, spec, task, teacher, released, folder)
        self._jobs[spec] = Job(spec, task, recipe, hyper, stages, folder, released, teacher)
        self._jobs[spec].reading.check()
        return self._jobs[spec]

    def _check_words(self, released: load.Checkpoint) -> None:
        """A student that copies its teacher reads the same word pieces: ids are all that they exchange."""
        if self.checkpoint is None:
            return
        ours, theirs = (self.inputs.tokenizer(given.folder) for given in (released, self.checkpoint))
        pieces = ours.get_vocab(), theirs.get_vocab()
        other = sorted(piece for piece in pieces[0].keys() | pieces[1].keys()
                       if pieces[0].get(piece) != pieces[1].get(piece))  # fmt: skip
        if other or load.lowers(ours) != load.lowers(theirs):
            found = f"{len(other)} pieces with another id, the first {other[0]!r}" if other else "another casing"
            raise ModelError("the released student reads other word pieces than the teacher", where=released.folder,
                             found=found, expected=f"the vocabulary of {self.checkpoint.folder}",
                             fix="give the teacher that taught it")  # fmt: skip

    def _own_changes(self, recipe: Recipe, hyper: Settings) -> dict[str, str]:
        """The --set changes that this recipe's settings have; one that neither it nor another of the plan has fails."""
        chosen = [*self.recipes.values(), *map(self._teacher_recipe, self.recipes.values())]
        others = [
            r.hyper(variant, task.name, self.request.scale, None)
            for r in chosen for variant in self._variants(r) for task in self.tasks if task.name in r.tasks
        ]  # fmt: skip
        known = sorted({name for other in [hyper, *others] for name in other.names()})
        for path in self.request.set:
            if path not in known:
                raise unknown_field(path, known)
        return {path: text for path, text in self.request.set.items() if path in hyper.names()}

    def _tokenizer_folder(self, released: load.Checkpoint | None) -> Path:
        given = released or self.checkpoint
        return given.folder if given else self.inputs.synthetic_tokenizer

    def _chain(
        self, recipe: Recipe, hyper: Settings, spec: Spec, task: Task, teacher: Job | None,
        released: load.Checkpoint | None, folder: Path,
    ) -> tuple[StagePlan, ...]:  # fmt: skip
        facts = teacher_facts(self.checkpoint) if self.checkpoint else None
        plans: list[StagePlan] = []
        self._warn_of_a_fine_tuned_teacher(recipe.stages(spec.variant, facts))
        for stage in recipe.stages(spec.variant, facts):
            seed = 0 if stage.task_free else spec.seed
            content = dict(self._common)
            content |= {
                "stage": stage.name, "code": code_hash(stage.run), "seed": seed,
                "hyper": {name: digest(_dump(getattr(hyper, name))) for name in stage.uses},
                "input": plans[-1].key if plans else "", "tokenizer": _tokenizer_identity(folder),
            }  # fmt: skip
            if self.checkpoint and not recipe.teacher:
                content["checkpoint"] = checkpoint_identity(self.checkpoint.folder)
            if released:
                content["released"] = checkpoint_identity(released.folder)
            if stage.teacher and teacher:
                content["teacher"] = teacher.pretrained_key if stage.teacher == "pretrained" else teacher.key
            if stage.needs == "corpus":
                content["corpus"] = self._corpus(spec, stage)
            if not stage.task_free:
                content |= {"task": task.name, "data": self.inputs.data_identity(task)}
                if task.kind in READERS:
                    content["reader"] = module_hash(READERS[task.kind])
            plans.append(StagePlan(stage, digest(content), content["code"], seed))
        return tuple(plans)

    def _warn_of_a_fine_tuned_teacher(self, stages: Sequence[Stage]) -> None:
        copied = [stage.name for stage in stages if stage.teacher == "pretrained"]
        if copied and self.checkpoint and self.checkpoint.kinds and not self._warned:
            log.warning("the given teacher is fine-tuned (%s): it also stands in for the pre-trained one, in %s; next: "
                        "give its pre-trained encoder", self.checkpoint.architecture, ", ".join(copied))  # fmt: skip
            self._warned = True

    def _corpus(self, spec: Spec, stage: Stage) -> str:
        if self.inputs.corpus_identity is None:
            raise SpecError("no corpus is given", where=f"{spec}, stage {stage.name}",
                            fix="add --corpus FILE_OR_FOLDER (.txt or .parquet)")  # fmt: skip
        return digest([self.inputs.corpus_identity, module_hash("bench.data.pairs")])


def _dump(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Settings) else value


def _tokenizer_identity(folder: Path) -> str:
    from bench.models.size import file_sha256

    files = [folder / name for name in ("tokenizer.json", "vocab.txt") if (folder / name).is_file()]
    return digest([file_sha256(file) for file in files])


def make(request: Request) -> Plan:
    """The plan of a request."""
    return Planner(request).build()
