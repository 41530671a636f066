"""A trained model as a folder that other tools load: config, safetensors, tokenizer and a model card.

Only known files are copied, so nothing pickled and nothing private to the cache leaves it.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from bench.core.errors import ModelError, SpecError
from bench.core.files import whole_folder
from bench.models import load
from bench.models.checkpoint import tokenizer_files
from bench.models.config import CONFIG


@functools.singledispatch
def as_transformers(model: nn.Module) -> PreTrainedModel | None:
    """The same model in a class of transformers, for a class of a paper's own; None where there is none, or no need.

    A paper says how by `@as_transformers.register`.
    """
    return None


CARD = "README.md"


def export_folder(
    model_folder: Path, target: Path, card: str, extra: Sequence[Path] = (), weights: bool = True
) -> None:
    """Copy a saved model into a new folder, with `card` as its README.md, and `extra` files beside it.

    Without `weights` its config and tokenizer alone: the `extra` files hold the model.

    The target appears whole or not at all: the files are written beside it under a hidden name and moved at the end.
    Raises SpecError when the target is a file, a folder with anything in it, inside the model's own folder, or cannot
    be written; ModelError when the model folder has no config or no safetensors weights.
    """
    goal = check_target(target, model_folder)
    files = [*_files(model_folder, weights), *extra]
    try:
        with whole_folder(goal, taken="raise") as staging:
            for file in files:
                shutil.copyfile(file, staging / file.name)
            (staging / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise SpecError("the model cannot be exported", where=target, found=f"{type(error).__name__}: {error}",
                        expected="a new folder on a disk with room", fix="give another folder") from error  # fmt: skip


def check_target(target: Path, model_folder: Path) -> Path:
    """Where an export goes. Raises SpecError for a file, a folder that is not empty, and one inside the model's own."""
    goal, model_folder = target.expanduser().resolve(), model_folder.resolve()
    if goal.exists() and not goal.is_dir():
        raise SpecError("the export target is a file", where=goal, expected="a new or empty folder",
                        fix="give another folder")  # fmt: skip
    if goal.is_dir() and any(goal.iterdir()):
        raise SpecError("the export target is not empty", where=goal, expected="a new or empty folder",
                        fix="give another folder, or remove what is in it")  # fmt: skip
    if goal.is_relative_to(model_folder):
        raise SpecError("the export target is inside the model's own folder", where=goal,
                        expected=f"a folder outside {model_folder}", fix="give another folder")  # fmt: skip
    return goal


def _files(folder: Path, weights: bool) -> list[Path]:
    if not (folder / CONFIG).is_file():
        raise ModelError("the model folder has no config", where=folder, expected=CONFIG, fix="run the job again")
    held = load.weight_files(folder) if weights else []
    index = [folder / load.INDEX] if weights and (folder / load.INDEX).is_file() else []
    return [folder / CONFIG, *held, *index, *tokenizer_files(folder)]
