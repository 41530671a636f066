"""How many times as long a token of the corpus takes as one of a task's rows, by the seconds in committed records.

    python tests/benchmarks/text_cost.py [RESULTS]

Compares, within one record, the seconds a token of general distillation with those of fine-tuning (its rows counted as
ROW_TOKENS each, as the schedule does). Prints the median last; `bench.run.pieces.TEXT_COST` stands for it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

from bench.core import store
from bench.core.record import StageEntry
from bench.run.costs import ROW_TOKENS


def seconds_a_token(entry: StageEntry) -> float:
    """Of a stage that trained: by its tokens of text, or else by its rows."""
    return entry.seconds / (entry.corpus_tokens or ROW_TOKENS * entry.examples)


def main() -> None:
    found: list[float] = []
    for record in store.read_records(Path(sys.argv[1] if len(sys.argv) > 1 else "results"), ("small",)):
        trained = {entry.name: entry for entry in record.stages if entry.examples and entry.seconds > 1}
        rows = trained.get("fine_tune") or trained.get("distil_intermediate")
        text = trained.get("distil_general")
        if rows and text and text.corpus_tokens and record.environment.get("device") == "cpu":
            found.append(seconds_a_token(text) / seconds_a_token(rows))
    print(f"records: {len(found)}, from {min(found):.1f} to {max(found):.1f}")
    print(f"text_cost: {median(found):.1f}")


if __name__ == "__main__":
    main()
