"""Every printed score is of a run that some recipe makes, or its ledger says what that would take."""

from __future__ import annotations

from bench.claims.ledger import load_all
from bench.claims.units import PRINTED_ONLY
from bench.core import registry
from bench.train.recipe import Recipe


def test_a_score_that_no_recipe_gives_says_what_it_would_take() -> None:
    papers, broken = registry.find()
    recipes: dict[str, Recipe] = {name: registry.load_recipe(name) for name in papers}
    ledgers, unread = load_all()
    assert not broken and not unread
    made = unmade = 0
    for ledger in ledgers:
        for claim in ledger.claims:
            compared = claim.kind in ("retention", "ordering") or (claim.kind == "quality" and not claim.on_test_server)
            if not compared or claim.out_of_reach:
                continue
            recipe = recipes[claim.maker]
            tasks = {claim.task} if claim.task else {entry.task for entry in claim.tasks}
            there = all(one in recipe.variants for one in (claim.variant, *claim.order)) and tasks <= set(recipe.tasks)
            told = any(name in ledger.unmade for name in claim.runs) or tasks & PRINTED_ONLY
            assert there or told, f"{claim.id}: no recipe gives it, and {ledger.file} does not say so in [unmade]"
            assert not (there and told), f"{claim.id}: a recipe gives it"
            made, unmade = made + there, unmade + bool(told)
    assert made > 500 and unmade > 50
