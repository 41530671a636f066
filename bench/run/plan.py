"""Which runs a request means, in what order, and which of their stages are cached already; runs nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from bench.core import environment, registry
from bench.core.errors import ModelError, SpecError
from bench.core.files import file_sha256
from bench.core.names import JOINT
from bench.core.spec import Spec, digest
from bench.core.steering import steering
from bench.data.tasks import Task, get_task
from bench.models import load
from bench.models.checkpoint import tokenizer_files
from bench.run.cache import Cache
from bench.run.codehash import code_hash, module_hash
from bench.run.device import Device
from bench.run.inputs import Inputs, Reading, checkpoint_identity
from bench.run.request import Request
from bench.run.shared import opened
from bench.run.stack import Named, Stack, chosen_stacks
from bench.run.teachers import check_teacher, encoder_facts, made_facts
from bench.train import bounds, deterministic, engine
from bench.train.recipe import Asked, EncoderFacts, Recipe, Stage, Variant
from bench.train.settings import Settings, unknown_field

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage of a job with the hash of everything that shapes it."""

    stage: Stage
    key: str
    code: str
    seed: int
    corpus: bool
    """Whether it reads the corpus."""


@dataclass(frozen=True, eq=False)
class Job:
    """One run to be made: all that `run_job` needs to know, and nothing that changes."""

    spec: Spec
    task: Task
    recipe: Recipe
    variant: Variant
    hyper: Settings
    overrides: Mapping[str, str]
    """The --set changes that are of this run's own settings."""
    stages: tuple[StagePlan, ...]
    inputs: Inputs
    encoder: load.Checkpoint | None
    """The encoder that the user gave, for a run of the reference itself."""
    tokenizer_folder: Path
    released: load.Checkpoint | None
    base: Job | None
    """The run whose finished model this one starts from."""
    teachers: tuple[Job, ...]
    lender: Job | None = None
    """The run on another task that it borrows from."""

    @property
    def key(self) -> str:
        """The hash of the finished model: that of its last stage."""
        return self.stages[-1].key

    @cached_property
    def hash(self) -> str:
        """spec + hyper + all that shaped the stages, the model that it is compared with, and what scores both."""
        other = self.reference.key if self.reference else ""
        return digest([self.spec.as_dict(), self.hyper.model_dump(mode="json"), self.key, other,
                       *map(module_hash, SCORERS)])  # fmt: skip

    @property
    def reference(self) -> Job | None:
        """The run that this one is compared with: its first teacher, or where its chain of bases begins."""
        if self.base is not None:
            return self.base.reference or self.base
        return self.teachers[0] if self.teachers else None

    @property
    def direct(self) -> tuple[Job, ...]:
        """The runs whose finished models this one asks for."""
        return (*self.teachers, *(one for one in (self.base, self.lender) if one))

    @property
    def needed(self) -> tuple[Job, ...]:
        """The runs that must be done before, the farthest first."""
        return tuple(dict.fromkeys(job for one in self.direct for job in (*one.needed, one)))

    @property
    def below(self) -> Job | None:
        """The run of a stack under this one; None where the base is what others start from, too."""
        return self.base if self.base is not self.reference else None

    @property
    def pretrained_key(self) -> str:
        """The key of the last task-free stage: the model before it saw a task."""
        return [plan.key for plan in self.stages if plan.stage.task_free][-1]

    @property
    def reading(self) -> Reading:
        """How the model reads the task, unless it has words of its own."""
        return Reading(
            self.tokenizer_folder, getattr(self.hyper, "max_length", 128), getattr(self.hyper, "windows", None)
        )


SCORERS = ("bench.train.predict", "bench.data.metrics")
"""What makes logits, and scores of them: no stage imports it, every run depends on it."""

READERS = {"span": "bench.data.spans", "tags": "bench.data.tags"}
"""What turns rows of such tasks into examples, and logits into answers: no stage imports it, all depend on it."""


@dataclass(frozen=True)
class Plan:
    """The jobs in order (what a job needs before it), the inputs they share, and the cache."""

    request: Request
    inputs: Inputs
    jobs: tuple[Job, ...]
    cache: Cache
    checkpoint: load.Checkpoint | None


class Planner:
    """Builds jobs; memoises them, because all students of a task and seed share one teacher."""

    def __init__(self, request: Request, trains_on: Device | None = None):
        steered = steering()  # before anything that such variables could change
        deterministic.settle()
        self.request, self.cache = request, opened()
        self.stacks, self.recipes = chosen_stacks(request)
        self.asked = self._asked()
        self.inputs = Inputs(request)
        self.checkpoint = self._checkpoint()
        self.facts = encoder_facts(self.checkpoint) if self.checkpoint else None
        self.tasks = self._tasks()
        self._jobs: dict[Spec, Job] = {}
        self._fields: set[str] = set()
        self._warned = False
        device = trains_on or Device.here()
        self._common = {
            "packages": environment.packages(environment.TRAIN), "device": device.type, "bf16": device.bf16,
        } | ({"steering": steered} if steered else {})  # fmt: skip
        processes = Accelerator().num_processes
        if processes > 1:  # each draws its own random numbers, and sums are in another order: another result
            self._common["processes"] = processes

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
        names = [recipe.cased_encoder[0] for recipe in self._references() if recipe.cased_encoder]
        data = " --data FOLDER" if self._made_up else ""
        return f"add --teacher {names[0]}{data}, and run the task by itself" if names else "choose another --task"

    def _references(self) -> list[Recipe]:
        """The recipes of the models that runs start from or learn from, and the chosen ones that need no other."""
        names = {name: None for recipe in self.recipes.values()
                 for name in (*((recipe.base,) if recipe.base else ()), *recipe.teachers)}  # fmt: skip
        alone = [recipe for recipe in self.recipes.values() if recipe.is_reference]
        return [*(registry.load_recipe(name) for name in names), *alone]

    def _default_tasks(self, recipe: Recipe) -> tuple[str, ...]:
        return recipe.smoke_tasks if self.request.scale == "smoke" else recipe.tasks

    def _checkpoint(self) -> load.Checkpoint | None:
        if self.request.teacher:
            return self.inputs.checkpoint(self.request.teacher)
        if self.request.scale == "smoke":
            return None
        if self.request.scale == "full":
            cased = bool(self.asked) and all(task.cased for task in self.asked)
            for recipe in self._references():
                encoder = recipe.cased_encoder if cased else recipe.default_encoder
                if encoder:
                    return self.inputs.checkpoint(*encoder)
        raise SpecError("no teacher is given", where=f"scale {self.request.scale}",
                        fix="add --teacher FOLDER_OR_HUB_ID, a pre-trained BERT of any size")  # fmt: skip

    def build(self) -> Plan:
        """All jobs of the request. Verifies every split that they read; raises what is wrong with any of them."""
        jobs: dict[Spec, Job] = {}
        for task in self.tasks:
            self.inputs.check(task)
            for seed in self.request.seed_list:
                for stack in self.stacks:
                    tasks = (self._default_tasks(one.recipe) if not self.request.task else one.recipe.tasks
                             for one in stack)  # fmt: skip
                    if all(task.name in names for names in tasks):
                        job = self.job(stack, task, seed)
                        jobs |= {one.spec: one for one in (*job.needed, job)}
        if not jobs:
            raise SpecError(
                "nothing to run", found="no chosen paper has a chosen variant and task", fix="see bench list"
            )
        for path in self.request.set:
            if path not in self._fields:
                raise unknown_field(path, sorted(one for one in self._fields if (":" in one) == (":" in path)))
        ordered = sorted(jobs.values(), key=lambda job: len(job.needed))
        return Plan(self.request, self.inputs, tuple(ordered), self.cache, self.checkpoint)

    def job(self, stack: Stack, task: Task, seed: int) -> Job:
        """The job of a stack of variants, of which there is mostly one, on a task."""
        *below, top = stack
        recipe, variant = top.recipe, top.recipe.variants[top.variant]
        spec = Spec(recipe.name, JOINT.join(one.variant for one in stack), task.name, self.request.scale, seed)
        if spec in self._jobs:
            return self._jobs[spec]
        base = self.job(tuple(below), task, seed) if below else self._main(recipe.base, task, seed)
        teachers = self._teachers(recipe, variant, task, seed)
        lender = self._lender(recipe, variant, seed)
        facts = None if below else self.facts  # of a stack's lower model nothing is known before it is made
        hyper, overrides = self._settings(recipe, variant, task, facts, base if below else None)
        engine.check(hyper)
        released = None
        if variant.released:
            released = self.inputs.checkpoint(getattr(hyper, variant.released))
        encoder = self.checkpoint if recipe.is_reference else None
        if recipe.check and not below:
            known = facts or made_facts(*teachers, base)
            recipe.check(variant, hyper, known, released or encoder)
        if released and any(stage.asks for stage in variant.stages):
            self._check_words(released)
        folder = self._tokenizer_folder(released)
        stages = self._chain(top, hyper, spec, task, keys=_keys(base, teachers, lender), encoder=encoder,
                             released=released, folder=folder)  # fmt: skip
        job = Job(spec, task, recipe, variant, hyper, overrides, stages, self.inputs, encoder, folder, released,
                  base, teachers, lender)  # fmt: skip
        job.reading.check()
        check_teacher(job, self.facts)
        self._jobs[spec] = job
        return job

    def _teachers(self, recipe: Recipe, variant: Variant, task: Task, seed: int) -> tuple[Job, ...]:
        if variant.taught_by:
            return (self.job((Named(recipe, variant.taught_by),), task, seed),)
        return tuple(job for name in recipe.teachers if (job := self._main(name, task, seed)))

    def _lender(self, recipe: Recipe, variant: Variant, seed: int) -> Job | None:
        """The job on another task that a variant borrows from; what it reads is verified as all else is."""
        if variant.borrows is None:
            return None
        name, task = variant.borrows
        self.inputs.check(get_task(task))
        return self.job((Named(recipe, name),), get_task(task), seed)

    def _main(self, name: str | None, task: Task, seed: int) -> Job | None:
        """The job of a paper's main model, None for no name."""
        if name is None:
            return None
        recipe = registry.load_recipe(name)
        return self.job((Named(recipe, recipe.main_variant),), task, seed)

    def _settings(
        self, recipe: Recipe, variant: Variant, task: Task, facts: EncoderFacts | None, below: Job | None
    ) -> tuple[Settings, dict[str, str]]:
        """The settings of a run, and what --set changed of them; the one place where a change finds its run."""
        hyper = recipe.hyper(variant, task.name, self.request.scale, facts)
        if below is not None:  # a stack reads a row as the model below it did
            hyper = hyper.changed({name: getattr(below.hyper, name) for name in ("max_length", "windows")
                                   if hasattr(hyper, name) and hasattr(below.hyper, name)})  # fmt: skip
        self._fields |= {one for name in hyper.names() for one in (name, f"{recipe.name}:{name}")}
        own = {path: text for path, text in self.request.changes(recipe.name).items() if path in hyper.names()}
        changed = hyper.override(own)
        bounds.check(changed, environment.memory_bytes())
        return changed, own

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

    def _tokenizer_folder(self, released: load.Checkpoint | None) -> Path:
        given = released or self.checkpoint
        return given.folder if given else self.inputs.synthetic_tokenizer

    def _chain(
        self, named: Named, hyper: Settings, spec: Spec, task: Task, *, keys: Mapping[Asked, str],
        encoder: load.Checkpoint | None, released: load.Checkpoint | None, folder: Path,
    ) -> tuple[StagePlan, ...]:  # fmt: skip
        where = "given" if self.checkpoint else "made"
        stages = [stage for stage in named.recipe.variants[named.variant].stages
                  if stage.encoder in (None, where) and (stage.when is None or stage.when(hyper))]  # fmt: skip
        self._warn_of_a_fine_tuned_teacher(stages)
        plans: list[StagePlan] = []
        for stage in stages:
            seed, code = 0 if stage.task_free else spec.seed, code_hash(stage.run)
            content = self._common | {
                "stage": stage.name, "code": code, "seed": seed,
                "hyper": {name: digest(_dump(getattr(hyper, name))) for name in stage.uses},
                "input": plans[-1].key if plans else "", "tokenizer": _tokenizer_identity(folder),
                "asked": [keys[asked] for asked in stage.asks],
            }  # fmt: skip
            for name, checkpoint in (("checkpoint", encoder), ("released", released)):
                content |= {name: checkpoint_identity(checkpoint.folder)} if checkpoint else {}
            corpus = stage.needs in ("corpus", "pairs") or (
                stage.needs == "lm_head" and not (self.facts and self.facts.lm_head)
            )
            content |= {"corpus": self._corpus(spec, stage, hyper, folder)} if corpus else {}
            if not stage.task_free:
                # What it learns from, what its teacher says of that, and by which score it chooses.
                content |= {"task": task.name, "data": self.inputs.data_identity(task),
                            "scorers": [*map(module_hash, SCORERS)]}  # fmt: skip
                if task.kind in READERS:
                    content["reader"] = module_hash(READERS[task.kind])
            plans.append(StagePlan(stage, digest(content), code, seed, corpus))
        return tuple(plans)

    def _warn_of_a_fine_tuned_teacher(self, stages: Sequence[Stage]) -> None:
        copied = [stage.name for stage in stages if "pretrained" in stage.asks]
        if copied and self.checkpoint and self.checkpoint.kinds and not self._warned:
            log.warning("the given teacher is fine-tuned (%s): it also stands in for the pre-trained one, in %s; next: "
                        "give its pre-trained encoder", self.checkpoint.architecture, ", ".join(copied))  # fmt: skip
            self._warned = True

    def _corpus(self, spec: Spec, stage: Stage, hyper: Settings, folder: Path) -> str:
        """What a stage reads of the corpus, as a hash. Raises what is wrong with the corpus."""
        if self.inputs.corpus_identity is None:
            raise SpecError("no corpus is given", where=f"{spec}, stage {stage.name}",
                            fix="add --corpus FILE_OR_FOLDER (.txt or .parquet)")  # fmt: skip
        for settings in (getattr(hyper, name) for name in stage.uses):
            if hasattr(settings, "corpus_tokens"):
                self.inputs.check_corpus(folder, settings.max_length, getattr(settings, "min_length", 1),
                                         stage.needs == "pairs")  # fmt: skip
        readers = map(module_hash, ("bench.data.sequences", "bench.data.corpus"))
        return digest([self.inputs.corpus_identity, *readers])


def _keys(base: Job | None, teachers: tuple[Job, ...], lender: Job | None) -> dict[Asked, str]:
    """The key of each model that a stage may ask for."""
    found: dict[Asked, str] = {}
    if base:
        found["base"] = base.key
    if teachers:
        found["pretrained"], found["fine_tuned"] = teachers[0].pretrained_key, teachers[0].key
    if lender:
        found["lent"] = lender.key
    return found


def _dump(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Settings) else value


def _tokenizer_identity(folder: Path) -> str:
    return digest([file_sha256(file) for file in tokenizer_files(folder)])


def make(request: Request, trains_on: Device | None = None) -> Plan:
    """The plan of a request, whose runs are made on this process's device or on another one."""
    return Planner(request, trains_on).build()
