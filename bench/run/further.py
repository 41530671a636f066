"""What a run measures of a further file of its model: bytes, and what it answers in each of its forms.

The file that was written is read back first: what is scored and timed here is what lies on the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from torch import nn

from bench.core.record import Measurement
from bench.measure.backends import int8_engine, with_int8_linears
from bench.measure.within import kernel_speed
from bench.run.evaluate import logits, timed
from bench.run.inputs import Reading
from bench.run.plan import Job
from bench.train.recipe import Form, Further


def measure(
    job: Job, further: Further, model: nn.Module, own: Mapping[str, np.ndarray], reference: nn.Module | None,
    folder: Path, reading: Reading, accelerator: Accelerator,
) -> list[Measurement]:  # fmt: skip
    """Write the file into a folder, read it, and say what it weighs and answers.

    `own` are the logits of the model itself on each scored split; times are against the reference.
    """
    sizes = further.write(model, folder) if accelerator.is_main_process else {}
    accelerator.wait_for_everyone()
    out = [
        Measurement(metric="size_bytes", split=split, value=value, unit="bytes", n=1) for split, value in sizes.items()
    ]
    for form in further.forms:
        again = form.read(folder)
        if form.int8:
            if accelerator.device.type != "cpu" or int8_engine() == "none":
                continue  # the kernels are those of processors, and not of every one
            again = with_int8_linears(again)
        out += _answers(job, form, again, own, reading, accelerator)
        if form.int8 and reference is not None and accelerator.is_main_process and timed():
            out += kernel_speed(again.eval(), reference, form.name, accelerator.device)
        accelerator.wait_for_everyone()
    return out


def _answers(
    job: Job, form: Form, again: nn.Module, own: Mapping[str, np.ndarray], reading: Reading, accelerator: Accelerator
) -> list[Measurement]:
    """The primary score, and the largest difference of any logit from the model's."""
    out, inputs = [], job.inputs
    for split, mine in logits(job, again, reading, accelerator).items():
        said, rows = inputs.said(job.task, split, reading, mine), inputs.rows(job.task, split)
        score = inputs.scores(job.task, split, said)[job.task.primary]
        out += [
            Measurement(metric=f"{form.name}_score", split=split, value=score, unit="fraction", n=len(rows)),
            Measurement(metric=f"{form.name}_difference", split=split, value=float(np.abs(mine - own[split]).max()),
                        unit="logit", n=len(mine)),
        ]  # fmt: skip
    return out
