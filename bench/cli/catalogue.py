"""What there is to run, as data: papers with their variants, the pairs that stack, and what is broken.

All of it is in code and ledgers, so the answer is remembered until one of their files changes.
"""

from __future__ import annotations

from typing import Any

from bench.cli import memo
from bench.cli.output import quiet_libraries
from bench.core import registry
from bench.core.spec import SCALES


def listing() -> dict[str, Any]:
    """Papers, stacks, tasks, scales, and the reason of each paper that is broken.

    Raises: SpecError where two papers have one name.
    """
    papers, broken = registry.find()
    key = [[paper.name, paper.module, str(paper.folder)] for paper in papers.values()] + sorted(broken.items())
    found = memo.recall("list", key)
    if found is None:
        found = _read(papers)
        if not found["broken"]:  # the reason may have gone without any file having changed
            memo.remember("list", key, found, [file for paper in papers.values()
                                                     for file in (paper.folder, *paper.folder.glob("*"))])  # fmt: skip
    return found


def _read(papers: dict[str, registry.Paper]) -> dict[str, Any]:
    quiet_libraries()
    from bench.claims.ledger import load_all
    from bench.data.tasks import TASKS
    from bench.models.shape import all_shapes
    from bench.run import recipes
    from bench.run.stack import why_not

    known, broken = recipes.read()
    broken = load_all()[1] | broken
    listed: dict[str, Any] = {}
    shapes = all_shapes()
    for name in sorted(papers):
        if name in broken:
            continue
        recipe = known.get(name)
        variants = {variant: one.says for variant, one in recipe.variants.items()} if recipe else {}
        measured = [variant for paper, variant in shapes if paper == name and variant not in variants]
        listed[name] = {"variants": variants, "measured_only": measured, "tasks": list(recipe.tasks) if recipe else [],
                        "recipe": recipe is not None}  # fmt: skip
    whole = [name for name in known if name in listed]
    pairs = [{"below": below, "above": above, "why_not": why_not(known[below], known[above])}
             for above in whole for below in whole if above != below]  # fmt: skip
    return {"papers": listed, "stacks": pairs, "tasks": sorted(TASKS), "scales": list(SCALES), "broken": broken}
