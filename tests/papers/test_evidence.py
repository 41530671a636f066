"""evidence.toml: what it asks for exists, and every variant that can be made at small scale is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core import registry
from bench.run import request
from bench.run.request import Request

PROFILE = str(Path(__file__).resolve().parents[2] / "evidence.toml")


@pytest.fixture(scope="module")
def parts() -> tuple[Request, ...]:
    return request.read(PROFILE, {"teacher": "given"})


def test_every_variant_with_a_recipe_is_in_it(parts: tuple[Request, ...]) -> None:
    papers, broken = registry.find()
    recipes = [registry.load_recipe(name) for name in papers if registry.has_recipe(name)]
    assert not broken
    assert {"distilbert", "tinybert", "qbert", "lowresource"} <= {recipe.name for recipe in recipes}
    variants = {name: variant for recipe in recipes if not recipe.is_reference
                for name, variant in recipe.variants.items() if name != "distilbert-d"}  # fmt: skip
    wanted = {name for name, variant in variants.items() if not variant.released}
    assert wanted == {name for part in parts for name in part.variant if "+" not in name}


def test_each_part_says_what_it_is_for_and_orderings_have_five_seeds(parts: tuple[Request, ...]) -> None:
    assert all(part.says and part.variant and part.task for part in parts)
    assert all(part.scale == "small" and part.teacher == "given" for part in parts)
    assert {part.seeds for part in parts if "ordering" in part.says} == {5}
    assert {part.seeds for part in parts if "ordering" not in part.says} == {3}


def test_students_that_are_distilled_on_text_read_the_declared_tokens(parts: tuple[Request, ...]) -> None:
    read = ("distilbert", "tinybert")
    for part in parts:
        if any(name.startswith(read) for name in part.variant):
            assert part.set["general.corpus_tokens"] == "3000000", part.says
