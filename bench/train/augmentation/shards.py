"""Augmented rows on disk: parquet shards under a key of everything that shaped them; a killed run goes on.

A shard and an entry appear whole or not at all, and never change.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from torch import nn

from bench.core import sealed
from bench.core.errors import DataError
from bench.core.files import file_sha256, locked, move_folder, remove_folder, sweep, whole_file, write_atomic
from bench.data.rows import Texts, content_sha256, joined
from bench.train.augmentation.augment import SHARD_ROWS, Augmentation, augmenter, word_vectors_identity
from bench.train.precision import choose
from bench.train.processes import decided

FORMAT = 3
"""Raised when the procedure or the files change, so that old entries are not taken for new ones."""
FILED = ("architectures", "dtype", "transformers_version", "_name_or_path")
"""Entries of a config that a model has once it was saved and loaded; they change no answer."""
PARTS = ".parts.json"
"""Of an unfinished entry: rows and sha256 of each shard that is whole. Hidden, it is no part of what is sealed."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Augmented:
    """A finished entry."""

    folder: Path
    key: str
    shards: tuple[Path, ...]
    originals: int
    rows: int
    """original rows and variants"""

    def texts(self) -> Texts:
        """The rows; each original row is followed by its variants. Raises: DataError for a damaged shard."""
        return joined([_read(path) for path in self.shards])


def augmented(
    texts: Texts, settings: Augmentation, tokenizer: Any, masked_lm: nn.Module, seed: int, folder: Path, *,
    device: torch.device | None = None, batch_tokens: int | None = None, shard_rows: int = SHARD_ROWS,
    progress: Callable[[int, int], None] | None = None,
) -> Augmented:  # fmt: skip
    """The original rows and up to N variants of each text, from the cache `folder` or made there.

    A run that was killed goes on after its last whole shard; a damaged entry is named and made again. `progress` is
    told original rows done and in all. Processes that train together make them together; the main one writes.
    Raises: DataError for no rows or a bad word-vector file; SpecError for a sha256 without a file;
    DeviceError for a bf16 that the device only emulates.
    """
    if not len(texts):
        raise DataError("nothing to augment", found="0 rows", expected="at least 1")
    used = choose(settings.precision, device or torch.device("cpu")).name
    settings = settings.model_copy(update={"precision": used})  # the key holds what was used, not what was asked for
    key = entry_key(texts, settings, tokenizer, masked_lm, seed, shard_rows)
    entry, staging = folder / key[:2] / key, folder / key[:2] / f".writing-{key}"
    accelerator = Accelerator()
    with locked(folder / "locks" / key) if accelerator.is_main_process else nullcontext():
        content = decided(accelerator, lambda: _whole(entry))
        if content is None:
            parts = decided(accelerator, lambda: _begun(entry, staging))
            wanted = -(-len(texts) // shard_rows)
            if len(parts) < wanted:
                machine = augmenter(settings, tokenizer, masked_lm, seed, device, batch_tokens)
                for number, shard in enumerate(machine.shards(texts, len(parts), shard_rows), start=len(parts)):
                    if not accelerator.is_main_process:
                        continue
                    parts.append(_write(shard, _path(staging, number)))
                    write_atomic(staging / PARTS, json.dumps(parts))
                    done = min(len(parts) * shard_rows, len(texts))
                    logger.info("augmented rows=%d of=%d made=%d", done, len(texts), sum(rows for rows, _ in parts))
                    if progress is not None:
                        progress(done, len(texts))
            made = {"format": FORMAT, "key": key, "originals": len(texts), "shards": [rows for rows, _ in parts]}
            content = decided(accelerator, lambda: _ended(staging, entry, made))
    shards = tuple(_path(entry, number) for number in range(len(content["shards"])))
    return Augmented(entry, key, shards, content["originals"], sum(content["shards"]))


def _begun(entry: Path, staging: Path) -> list[tuple[int, str]]:
    """The shards that an earlier run has finished, in a folder that is ready for the others."""
    remove_folder(entry)
    staging.mkdir(parents=True, exist_ok=True)
    sweep(staging)
    return _whole_shards(staging)


def _ended(staging: Path, entry: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Seal the folder and give it its name."""
    sealed.seal(staging, content)
    move_folder(staging, entry, taken="raise")
    return content


def entry_key(
    texts: Texts,
    settings: Augmentation,
    tokenizer: Any,
    masked_lm: nn.Module,
    seed: int,
    shard_rows: int = SHARD_ROWS,
) -> str:
    """A hash of everything that shapes the rows. Where the word vectors lie does not matter, what they are does.

    Raises: DataError and SpecError as `word_vectors_identity` does.
    """
    digest = hashlib.sha256()
    choices = settings.model_dump(exclude={"use", "word_vectors", "word_vectors_sha256"})
    config = {k: v for k, v in getattr(masked_lm, "config").to_diff_dict().items() if k not in FILED}  # noqa: B009
    for part in (
        FORMAT, seed, shard_rows, json.dumps(choices, sort_keys=True), word_vectors_identity(settings),
        content_sha256(texts.columns, texts.labels),
        _words(tokenizer), type(masked_lm).__name__,
        json.dumps(config, sort_keys=True, default=str),
    ):  # fmt: skip
        raw = str(part).encode()  # its length goes first, so that no two lists of parts give the same bytes
        digest.update(len(raw).to_bytes(8, "little") + raw)
    for name, tensor in sorted(masked_lm.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _words(tokenizer: Any) -> str:
    """What a tokenizer makes of words: all of it but the lengths of its last call, which it keeps, too."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps({key: value for key, value in content.items() if key not in ("truncation", "padding")})


def _path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.parquet"


def _write(shard: Texts, path: Path) -> tuple[int, str]:
    """Its rows, and the sha256 of the file."""
    columns = {f"text{i}": pa.array(column, pa.string()) for i, column in enumerate(shard.columns)}
    with whole_file(path) as staging:
        pq.write_table(pa.table({"label": shard.labels, **columns}), staging, compression="zstd")
    return len(shard), file_sha256(path)


def _read(path: Path) -> Texts:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError("augmented rows cannot be read", where=path, found=type(error).__name__,
                        expected="a shard", fix="delete its folder and run again") from error  # fmt: skip
    columns = tuple(table[name].to_pylist() for name in table.column_names if name.startswith("text"))
    return Texts(columns, table["label"].to_numpy())


def _whole_shards(staging: Path) -> list[tuple[int, str]]:
    """Rows and sha256 of the shards that an earlier run has finished, up to the first that is not as it was written."""
    try:
        told = [(int(rows), str(sha256)) for rows, sha256 in json.loads((staging / PARTS).read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []
    for number, (_, sha256) in enumerate(told):
        path = _path(staging, number)
        if not path.is_file() or file_sha256(path) != sha256:
            logger.warning("the augmented rows in %s are damaged; they are made again from there on", path)
            return told[:number]
    return told


def _whole(entry: Path) -> dict[str, Any] | None:
    """What an entry says of itself; None, and a warning, where it is not as it was written.

    Raises OSError for one that could not be read: that says nothing of it.
    """
    try:
        return sealed.checked(entry)
    except sealed.LOST as damage:
        if entry.exists():
            logger.warning("the augmented rows in %s are damaged: %s; they are made again", entry, damage)
        return None
