"""Text without labels that a user adds to a task's own: one example a line, the two texts of a pair parted by a tab."""

from __future__ import annotations

from pathlib import Path

from bench.core.errors import DataError
from bench.data.reading import missing, text_chunks


def read_unlabelled(path: Path, columns: int) -> tuple[list[str], ...]:
    """The texts of a UTF-8 file, a list per text column of the task; empty lines are passed over.

    Raises DataError for a file that is missing, empty, of another encoding, or with a line of more or fewer texts.
    """
    if not path.is_file():
        raise DataError("the unlabelled text is not a file", where="--unlabelled", expected="a text file",
                        found=path if path.exists() else missing(path), fix="check the path")  # fmt: skip
    lines = "".join(text_chunks(path)).split("\n")  # no other sign ends a line: a text may hold U+2028
    found: tuple[list[str], ...] = tuple([] for _ in range(columns))
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        texts = [text.strip() for text in line.split("\t")]
        if len(texts) != columns or not all(texts):
            raise DataError("a line does not hold an example", where=f"{path}, line {number}",
                            found=f"{len(texts)} texts", expected=f"{columns}, parted by tabs",
                            fix="write one example a line")  # fmt: skip
        for column, text in zip(found, texts, strict=True):
            column.append(text)
    if not found[0]:
        raise DataError("no text", where=path, found="an empty file", expected="one example a line", fix="fill it")
    return found
