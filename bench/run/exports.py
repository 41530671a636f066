"""`bench export`: the model of a run, out of the cache, as a folder that other tools load.

The folder holds the very model that was scored. Where a paper writes a smaller file of it, that file is exported and
not the float weights, which would load as another model; the card says how it is loaded.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.core import markup, registry, sealed, store
from bench.core.errors import RecordError
from bench.core.files import file_sha256
from bench.core.names import JOINT
from bench.core.paths import home
from bench.core.record import Artefact, Record
from bench.core.spec import RECORD_SCALES
from bench.data.tasks import get_task
from bench.models import load
from bench.models.export import as_transformers, check_target, export_folder
from bench.run import recipes
from bench.run.cache import Cache
from bench.run.modelindex import front_matter
from bench.train.recipe import Recipe

log = logging.getLogger(__name__)


def export_run(results: Path, run_id: str, target: Path) -> Path:
    """Write the model of a record to a new folder, in the class that transformers has for it where there is one.

    Raises RecordError when no ok record has that id, or its weights are no longer in this machine's cache.
    """
    record = find_record(results, run_id)
    cache = Cache(home())
    folder = model_folder(cache, record)
    check_target(target, folder)
    further = [_find(cache, one, "further", "*") for one in record.artefacts[1:] if not (folder / one.name).is_file()]
    recipe: Recipe = registry.load_recipe(record.spec.paper)
    smaller = bool(recipe.further) and bool(further)
    recipes.usable()  # a paper's own classes are known once its recipe is imported
    theirs = None if smaller else as_transformers(load.load_saved(folder))
    if theirs is None:
        export_folder(folder, target, card(record, folder, further), further, weights=not smaller)
        return target
    with tempfile.TemporaryDirectory() as name:
        other = Path(name) / "model"
        load.save(theirs, other, load.tokenizer(folder))
        export_folder(other, target, card(record, other, further))
    return target


def find_record(results: Path, run_id: str) -> Record:
    """The ok record of that id, which has a model. Raises RecordError where there is none."""
    records = [r for r in store.read_records(results, RECORD_SCALES) if r.id == run_id]
    if not records:
        raise RecordError("no record has this id", where=results, found=run_id, fix="see the file names under results/")
    record = records[0]
    if record.status != "ok" or not record.artefacts:
        raise RecordError("the run has no model", where=run_id, found=record.reason or record.status)
    return record


def model_folder(cache: Cache, record: Record) -> Path:
    """Where the model of a record lies whole, with its config and tokenizer. Raises RecordError where it does not."""
    return _find(cache, record.artefacts[0], "stages", "*/*/models/model", lambda file: _whole(file.parents[2])).parent


def has_model(cache: Cache, key: str, record: Record, whole: bool = False) -> bool:
    """Whether all files of a record's model still lie in the cache, under the key of its last stage.

    They are told by name and size; with `whole` every byte is read, as an export does.
    """
    if whole and not cache.whole(key):
        return False
    if not cache.is_here(key):
        return cache.has(key)  # where machines share a cache by an URL: there it lies whole, and need not be fetched
    folders = (cache.model_folder(key), cache.further_folder(key))
    return all(any(_is(folder / one.name, one, whole) for folder in folders) for one in record.artefacts)


def _is(file: Path, wanted: Artefact, whole: bool = False) -> bool:
    if not file.is_file() or file.stat().st_size != wanted.bytes:
        return False
    return not whole or file_sha256(file) == wanted.sha256


def _find(
    cache: Cache, wanted: Artefact, under: str, folders: str, also: Callable[[Path], bool] = lambda file: True
) -> Path:
    """The file in the cache with that name and content, for which something else holds, too."""
    for file in sorted((cache.root / under).glob(f"{folders}/{wanted.name}")):
        if _is(file, wanted, whole=True) and also(file):
            return file
    raise RecordError("the model is not in this machine's cache", where=cache.root, found=f"no such {wanted.name}",
                      fix="the bench run that made it, with --again; then export the run that it names")  # fmt: skip


def _whole(entry: Path) -> bool:
    """Whether all that lies beside the weights, their config and tokenizer, is what was written."""
    try:
        sealed.checked(entry)
    except (sealed.Damaged, OSError) as damage:
        log.warning("the cache entry %s is damaged: %s", entry, damage)
        return False
    return True


def card(record: Record, folder: Path, further: list[Path]) -> str:
    """A model card: the score, also as the hub reads it, how to load the folder, and where it comes from."""
    spec, task = record.spec, get_task(record.spec.task)
    scores = [m for m in record.measurements if m.metric == task.primary and m.split in task.scored]
    made = f"Made by the recipe {markup.code(spec.paper)} at scale {markup.code(spec.scale)}, seed {spec.seed}"
    commit = markup.code(record.code.commit or "unknown")
    where = f"run {markup.code(record.id)}, commit {commit}, tier {markup.code(record.tier)}"
    shown = markup.escape
    lines = [*front_matter(record), f"# {shown(spec.variant)} on {shown(spec.task)}", ""]
    lines += [f"Scored: {shown(m.metric)} {m.value:.4f} on {m.n:,} rows of {shown(m.split)}."
              for m in scores if m.value is not None]  # fmt: skip
    lines += ["", *markup.fenced(_loading(record, folder, further), "python"), "", f"{made}; {where}.", ""]
    lines += ["| metric | split | value | rows |", "| --- | --- | --- | --- |"]
    lines += [f"| {shown(m.metric)} | {shown(m.split)} | {m.value:.4f} | {m.n} |" for m in record.measurements
              if m.unit == "fraction" and m.value is not None]  # fmt: skip
    return "\n".join([*lines, ""])


def _loading(record: Record, folder: Path, further: list[Path]) -> list[str]:
    """Lines of Python that load the exported folder as the model that was scored."""
    config = json.loads((folder / "config.json").read_text())
    name = (config.get("architectures") or [""])[0]
    recipe: Recipe = registry.load_recipe(record.spec.paper)
    papers, _ = registry.find()
    below = record.spec.variant.split(JOINT)[:-1]
    # A paper's own classes are found by their name once its recipe is imported.
    imports = [f"import {papers[paper].module}.recipe" for paper, one in recipes.usable().items()
               if any(variant in one.variants for variant in below)]  # fmt: skip
    if recipe.further and further:
        return [*imports, *recipe.further.usage.split("\n")]
    import transformers

    if name.isidentifier() and hasattr(transformers, name):
        return [f"from transformers import AutoTokenizer, {name}", f'model = {name}.from_pretrained("FOLDER")',
                'tokenizer = AutoTokenizer.from_pretrained("FOLDER")']  # fmt: skip
    return ["from pathlib import Path", *imports, f"import {papers[record.spec.paper].module}.recipe",
            "from bench.models.load import load_saved, tokenizer",
            'model, words = load_saved(Path("FOLDER")), tokenizer(Path("FOLDER"))']  # fmt: skip
