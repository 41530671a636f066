"""A corpus of a few documents, of lines that no method finds too short."""

from __future__ import annotations

import random
from pathlib import Path

from rehearsal.rows import NAMES, OTHERS, SIGNS

DOCUMENTS, LINES, WORDS = 20, 8, 24


def write_corpus(path: Path) -> None:
    """Plain text, a sentence a line, a blank line between documents."""
    chance, words = random.Random(0), [*SIGNS, *OTHERS, *NAMES]
    lines = [[" ".join(chance.choice(words) for _ in range(WORDS)) for _ in range(LINES)] for _ in range(DOCUMENTS)]
    path.write_text("\n\n".join("\n".join(document) for document in lines) + "\n")
