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
from bench.measure.latency import inference, interleaved, speedup
from bench.run.inputs import Reading
from bench.run.measure import LENGTH, PROTOCOLS, answers, words_of
from bench.run.plan import Job
from bench.train.recipe import Form, Further

SHAPE = f"batch1-length{LENGTH}"


def measure(
    job: Job, further: Further, model: nn.Module, said: Mapping[str, np.ndarray], reference: nn.Module | None,
    folder: Path, reading: Reading, accelerator: Accelerator,
) -> list[Measurement]:  # fmt: skip
    """Write the file into a folder, read it, and say what it weighs and answers.

    `said` is what the model itself answers on each scored split; times are against the reference.
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
        out += _answers(job, form, again, said, reading, accelerator)
        if form.int8 and reference is not None and accelerator.is_main_process:
            out += _times(form, again, reference, accelerator)
        accelerator.wait_for_everyone()
    return out


def _answers(
    job: Job, form: Form, again: nn.Module, said: Mapping[str, np.ndarray], reading: Reading, accelerator: Accelerator
) -> list[Measurement]:
    """The primary score, and the largest difference of any logit from the model's."""
    out, inputs = [], job.inputs
    for split, mine in answers(job, again, reading, accelerator).items():
        score, rows = inputs.scores(job.task, split, reading, mine)[job.task.primary], inputs.rows(job.task, split)
        out += [
            Measurement(metric=f"{form.name}_score", split=split, value=score, unit="fraction", n=len(rows)),
            Measurement(metric=f"{form.name}_difference", split=split, value=float(np.abs(mine - said[split]).max()),
                        unit="logit", n=len(mine)),
        ]  # fmt: skip
    return out


def _times(form: Form, kernel: nn.Module, reference: nn.Module, accelerator: Accelerator) -> list[Measurement]:
    """Latency of the 8-bit kernels, and their speed-up over the reference in fp32, rounds interleaved."""
    calls = {name: inference(m.eval(), 1, LENGTH, words_of(m), accelerator.device)
             for name, m in (("reference", reference), ("kernel", kernel))}  # fmt: skip
    rounds = interleaved(calls, PROTOCOLS[SHAPE])
    ratio = speedup(rounds["reference"], rounds["kernel"])
    split, count = f"{SHAPE}-{form.name}", len(ratio.samples)
    return [
        Measurement(metric="latency_s", split=split, value=sorted(rounds["kernel"])[count // 2], unit="s", n=count,
                    samples=[float(f"{s:.6g}") for s in rounds["kernel"]]),
        Measurement(metric="speedup", split=split, value=ratio.value, unit="ratio", n=count,
                    samples=[float(f"{s:.6g}") for s in ratio.samples]),
    ]  # fmt: skip
