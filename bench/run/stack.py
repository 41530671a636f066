"""Which variants a request names, and which of them may follow each other in a stack: `tinybert-4+qbert-w4`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bench.core import registry
from bench.core.errors import SpecError, one_of
from bench.core.names import JOINT
from bench.run import recipes
from bench.run.request import Request
from bench.train.recipe import Recipe


class Named(NamedTuple):
    """A variant and the recipe that makes it."""

    recipe: Recipe
    variant: str


Stack = tuple[Named, ...]
"""Variants of which each starts from the finished model of the one before; mostly one alone."""


def why_not(below: Recipe, above: Recipe) -> str:
    """Why a variant of one recipe cannot follow one of another; empty where it can."""
    if above.name == below.name:
        return "a stack takes each paper once"
    if above.base is None:
        return f"{above.name} trains a model of its own and starts from no finished one"
    if below.name == above.base:
        return f"{above.name} starts from {below.name} by itself"
    return ""


def chosen_stacks(request: Request) -> tuple[list[Stack], dict[str, Recipe]]:
    """What the request means, each paper's main variant where none is named, and the recipes of the papers chosen.

    Named variants without a --paper choose their own papers alone: a teacher is made on the tasks that they need it on.

    Raises: SpecError for an unknown paper or variant, and for a stack that cannot be.
    """
    chosen = _recipes(request.paper)
    known: dict[str, Recipe] = {}
    for recipe in chosen.values():
        for variant in recipe.variants:
            if variant in known:
                raise SpecError("two papers have a variant of one name", found=variant,
                                where=f"{known[variant].name} and {recipe.name}", fix="name the --paper")  # fmt: skip
            known[variant] = recipe
    asked = [_stack(name, known) for name in request.variant]
    if asked:
        theirs = {one.recipe.name: one.recipe for stack in asked for one in stack}
        if not request.paper:
            return asked, theirs
        # The reference is made, too, where it was chosen beside named variants of others by --paper.
        plain = [recipe for recipe in chosen.values() if recipe.is_reference and recipe.name not in theirs]
        return [*((Named(recipe, recipe.main_variant),) for recipe in plain), *asked], chosen
    return [(Named(recipe, recipe.main_variant),) for recipe in chosen.values()], chosen


def _recipes(asked: Iterable[str]) -> dict[str, Recipe]:
    asked = tuple(asked)
    known, broken = recipes.read()
    for name in asked:
        if name in broken:
            raise registry.BrokenPaper(name, broken[name])
        if name not in known:
            raise SpecError("unknown paper", found=name, expected=f"one of {', '.join(known)}", fix="bench list")
    return {name: known[name] for name in asked} if asked else recipes.usable()


def _stack(name: str, known: dict[str, Recipe]) -> Stack:
    parts = name.split(JOINT)
    for part in parts:
        if part not in known:
            raise SpecError("unknown variant", found=part or name, expected=one_of(part, known), fix="bench list")
    papers = [known[part].name for part in parts]
    for place in range(1, len(parts)):
        reason = why_not(known[parts[place - 1]], known[parts[place]])
        reason = reason or ("a stack takes each paper once" if papers[place] in papers[:place] else "")
        if reason:
            raise SpecError("the variants cannot be stacked", where=name, found=reason,
                            fix="bench list says which pairs combine")  # fmt: skip
    return tuple(Named(known[part], part) for part in parts)
