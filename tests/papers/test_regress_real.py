"""`bench regress` on real runs of a plug-in paper: a bug and a slower student are found, a change of nothing is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = '''"""A copy of the teacher's encoder, trained on labels."""
import numpy as np
from dataclasses import replace
from transformers import BertForSequenceClassification
from bench.train.losses import supervised
from bench.train.recipe import Recipe, Stage, State, Variant
from bench.train.settings import Settings, Training
from bench.train.tuning import classifier_config, load_encoder
SHIFT = 0
class Hyper(Settings):
    max_length: int = 64
    fine_tune: Training = Training(epochs=12, batch_size=32, lr=3e-3)
def train(state, settings, ctx):
    encoder = ctx.teacher()
    model = BertForSequenceClassification(classifier_config(encoder.config, ctx.task))
    load_encoder(model, encoder)
    rows = ctx.train_rows(settings.max_length)
    rows = replace(rows, labels=np.roll(rows.labels, SHIFT))
    ctx.fit(model, supervised("label"), ctx.batches(rows, settings.fine_tune), settings.fine_tune)
    return State({"model": model})
def hyper(variant, task, scale, encoder): return Hyper()
TRAIN = Stage(train, ("max_length", "fine_tune"), asks=("pretrained",))
RECIPE = Recipe("plugged", {"copied": Variant("a copy", (TRAIN,))}, ("sst2",), hyper, ("sst2",), teachers=("bert",))
'''
SHAPES = '''"""A student that may work more than it must."""
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification
from bench.models.shape import Shape
EXTRA = 0
class Student(BertForSequenceClassification):
    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, **more):
        square = torch.ones(1200, 1200, device=self.device)
        for _ in range(EXTRA):
            square = (square @ square).clamp(max=1.0)
        return super().forward(input_ids, attention_mask, token_type_ids, **more)
def build():
    return Student(BertConfig(num_hidden_layers=2, hidden_size=256, num_attention_heads=4, intermediate_size=1024))
SHAPES = {"copied": Shape("two layers", build)}
'''
Bench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    """The folder of an installed paper."""
    folder, about = tmp_path / "installed" / "plugged", tmp_path / "installed" / "plugged-1.0.dist-info"
    for path in (folder, about):
        path.mkdir(parents=True)
    files = {"__init__.py": "", "recipe.py": RECIPE, "shapes.py": SHAPES, "README.md": "", "claims.toml": ""}
    for name, text in files.items():
        (folder / name).write_text(text)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[bench.papers]\nplugged = plugged\n")
    return folder


@pytest.fixture
def bench(folder: Path, paper: Path) -> Bench:
    """The command line, in a process of its own, so that changed code is read anew."""

    def call(*arguments: str, codes: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join([str(paper.parent), *filter(None, sys.path)])
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-m", "bench", *arguments], env=environment, text=True, check=False,
                              capture_output=True)  # fmt: skip
        assert done.returncode in codes, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return call


def changed(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_shifted_label_is_found_and_other_code_for_the_same_is_not(bench: Bench, folder: Path, paper: Path) -> None:
    run = ("run", "smoke", "--variant", "copied", "--task", "sst2", "--seeds", "5", "--set", "fine_tune.epochs=12",
           "--set", "fine_tune.lr=3e-3", "--teacher", str(folder / "teacher"), "--data", str(folder / "data"),
           )  # fmt: skip
    regress = ("regress", "--baseline", "before", "--scale", "smoke", "--no-confirm")
    bench(*run)
    bench("baseline", "set", "before", "--why", "before the change", "--scale", "smoke")

    changed(paper / "recipe.py", "SHIFT = 0", "SHIFT = 0 + 0")
    bench(*run)
    told = bench(*regress, codes=(3,))
    assert "1 the code changed (--across-code compares them)" in told.stdout
    # The times of runs are compared, too, and on a busy machine may come out in any way: the scores may not.
    told = bench(*regress, "--across-code", "--json", codes=(0, 1, 4))
    scores = [one["verdict"] for one in json.loads(told.stdout)["findings"] if one["kind"] == "quality"]
    assert scores and set(scores) <= {"same", "fine"}

    changed(paper / "recipe.py", "SHIFT = 0 + 0", "SHIFT = 1")
    bench(*run)
    found = bench(*regress, "--across-code", codes=(1,))
    assert "copied" in found.stdout and "accuracy" in found.stdout


@pytest.mark.slow
def test_a_slower_student_is_found_and_the_same_one_is_not(bench: Bench, paper: Path) -> None:
    measure = ("measure", "--variant", "copied", "--batch", "1", "--length", "16", "--threads", "1", "--quick",
               "--copies", "3")  # fmt: skip
    regress = ("regress", "--baseline", "before", "--scale", "shape", "--no-confirm", "--across-code")
    for _ in range(2):
        bench(*measure)
    bench("baseline", "set", "before", "--why", "before the change", "--scale", "shape")
    for _ in range(2):
        bench(*measure)
    bench(*regress, codes=(0, 4))

    changed(paper / "shapes.py", "EXTRA = 0", "EXTRA = 20")
    for _ in range(2):
        bench(*measure)
    bench(*regress, codes=(1,))
