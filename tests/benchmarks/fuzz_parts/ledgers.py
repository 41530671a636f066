"""Ledgers: claims.toml."""

from __future__ import annotations

import copy
import math
import random
import re
import tomllib
from pathlib import Path
from typing import Any

from fuzz_parts.mutations import as_toml, changed_bytes, changed_tree
from fuzz_parts.reader import Reader, all_finite, possible, same

from bench.claims.claim import Claim, Ledger
from bench.claims.ledger import load
from bench.claims.units import UNITS

SHARES = {"accuracy", "f1", "exact_match"}
CORRELATIONS = {"matthews", "pearson", "spearman"}
MEASURED = {"size", "flops", "speed", "cost"}


def _claim(name: str, **more: Any) -> dict[str, Any]:
    return {"id": f"toy.{name}", "table": "T1", "says": f"What is said of {name}.", "variant": "toy"} | more


def _scores(variant: str, sst2: float, rte: float) -> list[dict[str, Any]]:
    one = {"kind": "quality", "metric": "accuracy", "unit": "%", "variant": variant}
    cells = {"sst2": sst2, "rte": rte}
    both = [_claim(f"{variant}.{task}", task=task, value=value, **one) for task, value in cells.items()]
    mean = {"metric": "average", "average": "two", "split": "", "value": (sst2 + rte) / 2}
    return [*both, _claim(f"{variant}.average", **(one | mean))]


GOOD: dict[str, Any] = {
    "paper": {"name": "toy", "title": "A toy", "label": "Toy", "arxiv": "2001.00001v1", "venue": "nowhere",
              "code": "https://example.org/toy", "commit": "abcdef0", "released": {"toy": "toy-released"}},
    "tolerance": {
        "accuracy": {"absolute": 0.01, "why": "a point"}, "average": {"absolute": 0.01, "why": "a point"},
        "accuracy@rte": {"absolute": 0.03, "why": "few rows"}, "retention": {"absolute": 0.02, "why": "two points"},
        "parameters": {"relative": 0.02, "why": "whole millions"}, "speedup": {"relative": 0.1, "why": "a tenth"},
        "difference_to": {"absolute": 0.01, "why": "a point"}, "training_seconds": {"relative": 0.5, "why": "a half"},
        "matthews": {"absolute": 0.02, "why": "noise"},
    },
    "average": {"two": [{"task": "sst2", "metrics": ["accuracy"], "splits": ["validation"]},
                        {"task": "rte", "metrics": ["accuracy"], "splits": ["validation"]}]},
    "table": [{"id": "T1", "split": "validation", "transcription": "seen", "aggregation": "median of 5",
               "source": "Table 1", "teacher": "big"}],
    "claim": [
        *_scores("toy", 90.0, 60.0), *_scores("big", 94.0, 68.0),
        _claim("cola", kind="quality", metric="matthews", unit="x100", task="cola", value=51.3),
        _claim("kept", kind="retention", metric="average", average="two", unit="% of", value=96.0, split="",
               derive="percent_of", reference="toy.big.average"),
        _claim("less", kind="quality", metric="accuracy", task="sst2", unit="points", value=-4.0,
               derive="difference_to", reference="toy.big.sst2"),
        _claim("size", kind="size", metric="parameters", unit="M", value=14.5, split="all", headline=True,
               fine_print="of {toy.toy.sst2}"),
        _claim("speed", kind="speed", metric="speedup", unit="x", value=9.4, split="batch1-length128", device="K80"),
        _claim("cost", kind="cost", metric="training_seconds", unit="hours", value=3.0, split="all", seeds=1),
        _claim("order", kind="ordering", metric="average", average="two", variant="big", order=["toy", "big"],
               aggregation="none", split=""),
    ],
    "system": [{"name": "Toy", "variant": "toy", "size": "toy.size", "speed": "toy.speed", "retention": "toy.kept",
                "cost": "toy.cost", "devices": 8, "needs": "data"}],
}  # fmt: skip


class Ledgers(Reader):
    """`papers/NAME/claims.toml`."""

    name, inputs = "ledger", 15_000

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.file = folder / "toy" / "claims.toml"
        self.file.parent.mkdir()
        self.text = as_toml(GOOD)
        self.file.write_bytes(self.text)
        ledger = load(self.file)
        assert len(ledger.claims) > len(GOOD["claim"]), "shares of the teacher's scores are claims, too"
        _check(ledger)

    def one(self, chance: random.Random) -> None:
        if chance.random() < 0.25:
            self.last = changed_bytes(self.text, chance)
        else:
            self.last = as_toml(changed_tree(copy.deepcopy(GOOD), chance))
        self.file.write_bytes(self.last)
        ledger = load(self.file, "toy")
        _check(ledger)
        again = tomllib.loads(self.last.decode())
        self.file.write_bytes(as_toml(again))
        same(load(self.file, "toy"), ledger, "the ledger")


def _check(ledger: Ledger) -> None:
    """Nothing of a ledger that was taken is impossible."""
    arxiv = ledger.paper.arxiv
    month = re.fullmatch(r"[0-9]{2}([0-9]{2})\.[0-9]{4,5}v[1-9][0-9]*", arxiv)
    possible(not arxiv or (month is not None and 1 <= int(month[1]) <= 12), "an arXiv id", arxiv)
    possible(all_finite(ledger.model_dump()), "a number", "NaN or infinite")
    for name, one in ledger.tolerances.items():
        possible(one.absolute >= 0 and one.relative >= 0, f"a tolerance {name}", one)
    possible(len(ledger.by_id) == len(ledger.claims), "ids", sorted(ledger.by_id))
    for claim in ledger.claims:
        _check_claim(ledger, claim)
    for system in ledger.systems:
        possible(1 <= system.devices <= 10**5, "a number of devices", system.devices)


def _check_claim(ledger: Ledger, claim: Claim) -> None:
    possible(1 <= claim.seeds <= 1000, "a number of seeds", claim.seeds)
    median = re.fullmatch(r"median of ([0-9]{1,4})", claim.aggregation)
    possible(median is not None or not claim.aggregation.startswith("median"), "an aggregation", claim.aggregation)
    possible(re.fullmatch(r"[a-z0-9][a-z0-9._+-]*", claim.id) is not None, "an id", claim.id)
    if claim.kind == "ordering":
        possible(claim.value is None and len(set(claim.order)) == len(claim.order) >= 2, "an ordering", claim.order)
        return
    value = UNITS[claim.unit].to_record(claim.number())
    possible(math.isfinite(value), "a value", claim.value)
    if claim.derive == "none" and claim.metric in SHARES | CORRELATIONS | {"average"}:
        low = 0.0 if claim.metric in SHARES else -1.0
        possible(low <= value <= 1.0, f"a score {claim.metric}", (claim.value, claim.unit))
    if claim.kind in MEASURED:
        possible(value > 0, f"a {claim.kind}", (claim.value, claim.unit))
    if claim.kind == "retention" and claim.derive != "none" and claim.metric in SHARES:
        possible(0 <= value <= 2, "a share", claim.value)
    low, high = ledger.band(claim)
    possible(math.isfinite(low) and math.isfinite(high) and low <= value <= high, "a band", (low, value, high))
    first, last = ledger.printed_band(claim)
    possible(first <= last, "a band as printed", (first, last))
