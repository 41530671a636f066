"""What a run measures of the packed file of its model: bytes, and what it answers, as floats and by 8-bit kernels.

The file that was written is read back first: what is scored and timed here is what lies on the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from bench.core.record import Measurement
from bench.measure.backends import int8_engine, with_int8_linears
from bench.measure.latency import inference, interleaved, speedup
from bench.run.inputs import Inputs
from bench.run.measure import LENGTH, PROTOCOLS, answers
from bench.run.plan import Job
from bench.train.recipe import Packing

SHAPE = f"batch1-length{LENGTH}"


def measure(
    job: Job, packing: Packing, model: PreTrainedModel, said: Mapping[str, np.ndarray], reference: nn.Module | None,
    folder: Path, inputs: Inputs, accelerator: Accelerator,
) -> list[Measurement]:  # fmt: skip
    """Write the file into a folder, read it, and say what it weighs and answers.

    `said` is what the model itself answers on each scored split; times are against the reference.
    """
    sizes = packing.write(model, folder) if accelerator.is_main_process else {}
    accelerator.wait_for_everyone()
    out = [
        Measurement(metric="size_bytes", split=split, value=value, unit="bytes", n=1) for split, value in sizes.items()
    ]
    out += _answers(job, "packed", packing.read(folder), said, inputs, accelerator)
    if accelerator.device.type != "cpu" or int8_engine() == "none":
        return out  # the kernels are those of processors, and not of every one
    kernel = with_int8_linears(packing.floats(folder))
    out += _answers(job, "int8", kernel, said, inputs, accelerator)
    if reference is not None and accelerator.is_main_process:
        out += _times(kernel, reference, int(model.config.vocab_size), accelerator)
    accelerator.wait_for_everyone()
    return out


def _answers(
    job: Job, name: str, again: nn.Module, said: Mapping[str, np.ndarray], inputs: Inputs, accelerator: Accelerator
) -> list[Measurement]:
    """The primary score, and the largest difference of any logit from the model's."""
    out = []
    for split, mine in answers(job, again, inputs, accelerator).items():
        score, rows = inputs.scores(job.task, split, job.reading, mine)[job.task.primary], inputs.rows(job.task, split)
        out += [
            Measurement(metric=f"{name}_score", split=split, value=score, unit="fraction", n=len(rows)),
            Measurement(metric=f"{name}_difference", split=split, value=float(np.abs(mine - said[split]).max()),
                        unit="logit", n=len(mine)),
        ]  # fmt: skip
    return out


def _times(kernel: nn.Module, reference: nn.Module, vocabulary: int, accelerator: Accelerator) -> list[Measurement]:
    """Latency of the 8-bit kernels, and their speed-up over the teacher in fp32, rounds interleaved."""
    models = {"reference": reference, "int8": kernel}
    calls = {name: inference(m.eval(), 1, LENGTH, vocabulary, accelerator.device) for name, m in models.items()}
    rounds = interleaved(calls, PROTOCOLS[SHAPE])
    ratio = speedup(rounds["reference"], rounds["int8"])
    split, count = f"{SHAPE}-int8", len(ratio.samples)
    return [
        Measurement(metric="latency_s", split=split, value=sorted(rounds["int8"])[count // 2], unit="s", n=count,
                    samples=[float(f"{s:.6g}") for s in rounds["int8"]]),
        Measurement(metric="speedup", split=split, value=ratio.value, unit="ratio", n=count,
                    samples=[float(f"{s:.6g}") for s in ratio.samples]),
    ]  # fmt: skip
