"""`bench export`: the model of a run, out of the cache, as a folder that other tools load."""

from __future__ import annotations

from pathlib import Path

from bench.core import store
from bench.core.errors import RecordError
from bench.core.record import Artefact, Record
from bench.core.spec import RECORD_SCALES
from bench.models.export import export_folder
from bench.models.size import file_sha256
from bench.run.cache import Cache, home


def export_run(results: Path, run_id: str, target: Path) -> Path:
    """Write the model of a record to a new folder.

    Raises RecordError when no ok record has that id, or its weights are no longer in this machine's cache.
    """
    records = [r for r in store.read_records(results, RECORD_SCALES) if r.id == run_id]
    if not records:
        raise RecordError("no record has this id", where=results, found=run_id, fix="see the file names under results/")
    record = records[0]
    if record.status != "ok" or not record.artefacts:
        raise RecordError("the run has no model", where=run_id, found=record.reason or record.status)
    cache = Cache(home())
    first, *others = record.artefacts
    folder = _find(cache, first, "stages", "*/*/models/model").parent
    packed = [_find(cache, one, "packed", "*") for one in others if not (folder / one.name).is_file()]
    export_folder(folder, target, card(record), packed)
    return target


def _find(cache: Cache, wanted: Artefact, under: str, folders: str) -> Path:
    """The file in the cache with that name and content."""
    for file in sorted((cache.root / under).glob(f"{folders}/{wanted.name}")):
        if file.stat().st_size == wanted.bytes and file_sha256(file) == wanted.sha256:
            return file
    raise RecordError("the model is not in this machine's cache", where=cache.root, found=f"no such {wanted.name}",
                      fix="run the same bench run again, then export")  # fmt: skip


def card(record: Record) -> str:
    """A model card from the record alone."""
    spec = record.spec
    made = f"Made by the recipe `{spec.paper}` at scale `{spec.scale}`, seed {spec.seed}"
    where = f"run `{record.id}`, commit `{record.code.commit}`, tier `{record.tier}`"
    lines = [f"# {spec.variant} on {spec.task}", "", f"{made}; {where}.", ""]
    lines += ["| metric | split | value |", "| --- | --- | --- |"]
    lines += [f"| {m.metric} | {m.split} | {m.value:.4f} |" for m in record.measurements
              if m.unit == "fraction" and m.value is not None]  # fmt: skip
    return "\n".join([*lines, ""])
