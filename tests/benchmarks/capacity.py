"""The capacity table of docs/scaling.md: device-hours of each paper at full scale, from measured step times; seconds.

    python tests/benchmarks/capacity.py [--check]      writes the table into the page; --check exits 1 where it is stale

What is measured is how many tokens a second of BERT-base, 32 x 128, a GPU trains on (gpu-h100.json, gpu-h200.json, by
gpu.py). What is counted is what the recipes ask for at full scale: each paper's main variant on its tasks, five seeds,
task-free stages once; rows are those of the task table, of as many tokens as are read of each at most, a student costs
what its shape's FLOPs are beside BERT-base's, a teacher that it learns from one forward pass. What stages do beside
training (new rows, curvature, a search's other candidates), and scoring and timing, counts as nothing; so does the
teacher's own training, which stands in the row of the reference, or in one of its own. What was published stands in
the ledgers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from bench.claims.ledger import load  # noqa: E402
from bench.core import registry  # noqa: E402
from bench.core.spec import digest  # noqa: E402
from bench.data.tasks import get_task  # noqa: E402
from bench.models.flops import count, encoder_formula  # noqa: E402
from bench.models.shape import Shape, all_shapes  # noqa: E402
from bench.run import recipes  # noqa: E402
from bench.run.request import SEEDS  # noqa: E402
from bench.train.recipe import EncoderFacts, Recipe, Stage, Variant  # noqa: E402
from bench.train.settings import Training  # noqa: E402

PAGE = ROOT / "docs" / "scaling.md"
BEGINS, ENDS = "<!-- capacity table: python tests/benchmarks/capacity.py writes it -->", "<!-- end of the table -->"
CARDS = {"H100": "gpu-h100.json", "H200": "gpu-h200.json"}
BATCH, LENGTH = 32, 128
"""Of the step that was measured."""
FACTS = EncoderFacts(12, 768, 12, 30522, True, 512, 2, "bert")
"""BERT-base."""
MANY = (8, 80)
"""One node of eight GPUs, and ten of them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stage of a run: its cost in tokens of fine-tuning BERT-base."""

    key: str
    chain: str
    tokens: float


def base_flops() -> float:
    """Of one token's forward pass through BERT-base."""
    sizes = FACTS.layers, FACTS.hidden, 4 * FACTS.hidden, FACTS.heads
    return encoder_formula(*sizes, 1, LENGTH) / LENGTH


def ratio(paper: str, variant: str) -> float:
    """FLOPs of a token through a variant's model over BERT-base's; of one that is searched, the paper's largest."""
    known = {name: shape for (one, name), shape in all_shapes().items() if one == paper and shape.build}
    chosen = [known[variant]] if variant in known else list(known.values())
    return max((_flops(shape) for shape in chosen), default=base_flops()) / base_flops()


def _flops(shape: Shape) -> float:
    if shape.flops is not None:
        return shape.flops(1, LENGTH) / LENGTH
    assert shape.build is not None
    with torch.device("meta"):
        return count(shape.build().eval(), 1, LENGTH) / LENGTH


def pieces(recipe: Recipe, variant: Variant, name: str) -> Iterator[Piece]:
    """All that the five seeds of a variant train at full scale."""
    student = ratio(recipe.name, name)
    teacher = ratio(recipe.name, variant.taught_by) if variant.taught_by else 1.0
    for task in (get_task(one) for one in recipe.tasks):
        if task.cased:
            continue
        hyper = recipe.hyper(variant, task.name, "full", FACTS)
        stages = [one for one in variant.stages if one.encoder in (None, "given") and (not one.when or one.when(hyper))]
        for seed in range(SEEDS["full"]):
            taught = False
            for stage in stages:
                taught = taught or bool(stage.asks)
                own = {name: getattr(hyper, name) for name in stage.uses}
                tokens = trained(stage, hyper, own, task.splits[task.train])
                if tokens:
                    each = 3 * student + (teacher if taught and recipe.base is None else 0.0)
                    each += 8 * FACTS.vocabulary * FACTS.hidden / base_flops() if stage.needs == "corpus" else 0.0
                    where = [] if stage.task_free else [task.name, seed]
                    yield Piece(digest([stage.name, *where, _dumped(own)]), f"{task.name} {seed}", tokens * each / 3)


def trained(stage: Stage, hyper: Any, own: Mapping[str, Any], rows: int) -> float:
    """Tokens that a stage trains on: by the last training that it names, since it names before what led to it."""
    by = [one for one in own.values() if isinstance(training_of(one), Training)]
    if not by or stage.needs == "lm_head":  # a head alone costs next to nothing
        return 0.0
    setting, shares = by[-1], [one.share for one in by if hasattr(one, "share")]
    part = 1.0
    if shares:  # two stages divide one budget
        part = setting.share if hasattr(setting, "share") else 1.0 - shares[0]
    epochs = training_of(setting).epochs * part * getattr(setting, "tries", 1)
    if stage.needs in ("corpus", "pairs"):
        return max(getattr(one, "corpus_tokens", 0) for one in own.values()) * epochs
    more = 1 + max((_rounds(one) for one in own.values()), default=0)
    return rows * more * epochs * min(LENGTH, getattr(hyper, "max_length", LENGTH))


def training_of(setting: Any) -> Any:
    """How a setting says that something is trained; None where it says nothing of that."""
    return setting if isinstance(setting, Training) else getattr(setting, "training", None)


def _dumped(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one.model_dump(mode="json") if hasattr(one, "model_dump") else one for name, one in settings.items()}


def _rounds(setting: Any) -> int:
    found = getattr(setting, "augmentation", 0) if getattr(setting, "use", True) else 0
    return found if isinstance(found, int) else 0


def hours(found: list[Piece], rate: float, devices: int = 1) -> float:
    """Hours on so many devices at best: all work shared evenly, but no run's chain of stages cut."""
    once = {piece.key: piece for piece in found}
    chains: dict[str, dict[str, float]] = {}
    for piece in found:
        chains.setdefault(piece.chain, {})[piece.key] = piece.tokens
    longest = max((sum(chain.values()) for chain in chains.values()), default=0.0)
    return max(sum(piece.tokens for piece in once.values()) / devices, longest) / rate / 3600


def published(folder: Path) -> str:
    """What a paper's ledger says that training costs."""
    claims = [claim for claim in load(folder / "claims.toml").claims if claim.metric == "training_seconds"]
    return "; ".join(f"{claim.says.rstrip('.')} ({claim.source})" for claim in claims) or "none in the ledger"


def table() -> str:
    """The table, as Markdown."""
    figures = {card: json.loads((Path(__file__).parent / name).read_text()) for card, name in CARDS.items()}
    rates = {card: found["base_graph_steps"] * BATCH * LENGTH for card, found in figures.items()}
    papers: Mapping[str, Any] = registry.find()[0]
    lines = ["| paper, its main variant | " + " | ".join(f"{card} hours" for card in CARDS) +
             "".join(f" | {number} H100 by workers, at best" for number in MANY) + " | published |",
             "| --- |" + " ---: |" * (len(CARDS) + len(MANY)) + " --- |"]  # fmt: skip
    for name, recipe in sorted(recipes.usable().items()):
        own_teacher = recipe.variants[recipe.main_variant].taught_by
        for variant in filter(None, (recipe.main_variant, own_teacher)):
            found = list(pieces(recipe, recipe.variants[variant], variant))
            told = f"{name}, {variant}" + (", its teacher" if variant == own_teacher else "")
            cells = [told, *(shown(hours(found, rate)) for rate in rates.values())]
            cells += [shown(hours(found, rates["H100"], number)) for number in MANY]
            lines.append("| " + " | ".join([*cells, published(papers[name].folder)]) + " |")
    told = ", ".join(f"{rate:,.0f} on an {card}" for card, rate in rates.items())
    return "\n".join([*lines, "", f"Measured tokens a second of BERT-base, {BATCH} x {LENGTH}, in training: {told}."])


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"


def page(text: str) -> str:
    """The page with the table in its place."""
    before, _, rest = text.partition(BEGINS)
    _, end, after = rest.partition(ENDS)
    assert end, f"{PAGE} has no lines {BEGINS} and {ENDS}"
    return f"{before}{BEGINS}\n\n{table()}\n\n{ENDS}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    new = page(text)
    if asked.check:
        print("fresh" if new == text else f"stale: {PAGE}; next: python tests/benchmarks/capacity.py")
        sys.exit(int(new != text))
    PAGE.write_text(new, encoding="utf-8")
    print(table())


if __name__ == "__main__":
    main()
