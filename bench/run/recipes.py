"""The recipes of all papers, and which papers are broken: what is broken is said once and stops no other paper."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from bench.core import registry
from bench.data.tasks import TASKS
from bench.train.recipe import Recipe, Stage, Variant

log = logging.getLogger(__name__)


def read() -> tuple[dict[str, Recipe], dict[str, str]]:
    """The recipes by paper, and the reason of each paper that is broken; a paper of claims only is in neither.

    A paper that learns or starts from a broken one is broken, too. Raises SpecError where two papers have one name.
    """
    papers, broken = registry.find()
    recipes: dict[str, Recipe] = {}
    for name in papers:
        if not registry.has_recipe(name):
            continue
        try:
            recipe = registry.load_recipe(name)
        except registry.BrokenPaper as error:
            broken[name] = error.reason
            continue
        if reason := _wrong(recipe):
            broken[name] = f"its RECIPE {reason}"
        else:
            recipes[name] = recipe
    _without_double_variants(recipes, broken, papers)
    _without_orphans(recipes, broken)
    return recipes, broken


def usable() -> dict[str, Recipe]:
    """The recipes that are whole; the others are named in the log."""
    recipes, broken = read()
    for name, reason in broken.items():
        _say(name, reason)
    return recipes


@cache
def _say(name: str, reason: str) -> None:
    log.warning("left out, because broken: %s: %s; next: bench list", name, reason)


def _wrong(recipe: Any) -> str:
    """What is wrong with what a paper offers as its recipe; empty where nothing is."""
    if not isinstance(recipe, Recipe):
        return f"is a {type(recipe).__name__}, expected a bench.train.recipe.Recipe"
    if not recipe.variants or not all(isinstance(one, Variant) for one in recipe.variants.values()):
        return "has no variants, or some that are no Variant"
    for name, one in recipe.variants.items():
        if not one.stages or not all(isinstance(stage, Stage) for stage in one.stages):
            return f"has a variant {name!r} without stages, or with some that are no Stage"
        taught_by = recipe.variants.get(one.taught_by)
        if one.taught_by and (taught_by is None or taught_by.taught_by):
            return f"has a variant {name!r} taught by {one.taught_by!r}, which is no variant of it, or itself taught so"
        if one.borrows is not None and not _lends(recipe, one.borrows):
            return f"has a variant {name!r} that borrows from {one.borrows}, which is no run of it, or itself borrows"
    unknown = [task for task in (*recipe.tasks, *recipe.smoke_tasks) if task not in TASKS]
    return f"names an unknown task {unknown[0]!r}" if unknown else ""


def _lends(recipe: Recipe, borrowed: Any) -> bool:
    """Whether that is a run of the recipe, (variant, task), which itself borrows nothing."""
    if not isinstance(borrowed, tuple) or len(borrowed) != 2 or not all(isinstance(part, str) for part in borrowed):
        return False
    lender = recipe.variants.get(borrowed[0])
    return lender is not None and lender.borrows is None and borrowed[1] in recipe.tasks


def _without_double_variants(
    recipes: dict[str, Recipe], broken: dict[str, str], papers: dict[str, registry.Paper]
) -> None:
    """Of two papers with one variant's name the plug-in is the broken one."""
    owner: dict[str, str] = {}
    for name in sorted(recipes, key=lambda name: (not papers[name].module.startswith("papers."), name)):
        taken = [variant for variant in recipes[name].variants if variant in owner]
        if taken:
            broken[name] = f"its variant {taken[0]!r} is also one of {owner[taken[0]]}"
            del recipes[name]
        else:
            owner |= dict.fromkeys(recipes[name].variants, name)


def _without_orphans(recipes: dict[str, Recipe], broken: dict[str, str]) -> None:
    needs = {name: (*one.teachers, *((one.base,) if one.base else ())) for name, one in recipes.items()}
    while lost := {name: other for name in recipes for other in needs[name] if other not in recipes}:
        for name, other in lost.items():
            broken[name] = f"it needs {other}, which is {'broken, too' if other in broken else 'not there'}"
            del recipes[name]
