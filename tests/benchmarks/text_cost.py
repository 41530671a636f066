"""How many times as long a token of the corpus takes as one of a task's rows, by the seconds in committed records.

    python tests/benchmarks/text_cost.py [RESULTS]

Compares, within one record, the seconds that a token of general distillation takes in a pass with those of fine-tuning
(its rows counted as ROW_TOKENS each, as the schedule does). Prints the median of each paper, and of all papers last;
`bench.run.pieces.TEXT_COST` stands for it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

from bench.core import store
from bench.core.record import Record, StageEntry
from bench.run.costs import ROW_TOKENS


def text_s(entry: StageEntry, record: Record) -> float:
    """Seconds that a token of text takes in one pass; `corpus_tokens` are those of the first."""
    assert entry.corpus_tokens, "asked only of what read the corpus"
    return entry.seconds / (entry.corpus_tokens * record.hyper["general"]["training"]["epochs"])


def rows_s(entry: StageEntry) -> float:
    """Seconds that a token of a task's rows takes; `examples` are those of all passes."""
    return entry.seconds / (ROW_TOKENS * entry.examples)


def main() -> None:
    found: dict[str, list[float]] = defaultdict(list)
    for record in store.read_records(Path(sys.argv[1] if len(sys.argv) > 1 else "results"), ("small",)):
        trained = {entry.name: entry for entry in record.stages if entry.examples and entry.seconds > 1}
        rows = trained.get("fine_tune") or trained.get("distil_intermediate")
        text = trained.get("distil_general")
        if rows and text and text.corpus_tokens and record.environment.get("device") == "cpu":
            found[record.spec.paper].append(text_s(text, record) / rows_s(rows))
    for paper, ratios in sorted(found.items()):
        print(f"{paper}: {len(ratios)} records, {min(ratios):.1f} to {max(ratios):.1f}, median {median(ratios):.1f}")
    print(f"text_cost: {median(median(ratios) for ratios in found.values()):.1f}")


if __name__ == "__main__":
    main()
