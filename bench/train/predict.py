"""Predictions of a model on a whole split: each example exactly once, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from bench.data.batches import Batch, Encoded, in_order
from bench.data.tasks import Task
from bench.models.outputs import forward
from bench.train.feed import AHEAD, ahead, moved, on, pinned

BATCH = 64
"""Examples at a time on a CPU."""
TOKENS_A_GIB = 1024
"""Padded tokens at a time on a GPU, for each GiB of its memory."""


@torch.inference_mode()
def predict(model: nn.Module, encoded: Encoded, accelerator: Accelerator) -> np.ndarray:
    """Logits [N, C] in the order of the split, in fp32 and eval mode.

    Of a model that answers per token [N, C * L]: one token's side by side, L that of the longest example, 0 beyond.
    Each process answers its share of the batches; ids travel with the logits, and every id must come back once.
    """
    was_training = model.training
    model.to(accelerator.device).eval()
    ids: list[Tensor] = []
    logits: list[Tensor] = []
    longest = int(encoded.lengths.max())
    with closing(_batches(encoded, accelerator)) as batches:
        for host in batches:
            batch = moved(host, accelerator.device)
            found = forward(model, batch).logits.float()
            logits.append(found if found.ndim == 2 else _flat(found, batch["attention_mask"], longest))
            ids.append(batch["example_id"])
    model.train(was_training)
    width = torch.tensor([logits[0].shape[1] if logits else 0], device=accelerator.device)
    width = int(_gather(width, accelerator).max())
    mine = torch.cat([torch.empty(0, dtype=torch.long, device=accelerator.device), *ids])
    outputs = torch.cat([torch.empty(0, width, device=accelerator.device), *logits])
    if accelerator.num_processes > 1:
        mine = _gather(_padded(mine, accelerator, -1), accelerator)
        outputs = _gather(_padded(outputs, accelerator, 0), accelerator)
        outputs, mine = outputs[mine >= 0], mine[mine >= 0]
    assert torch.equal(mine.sort().values.cpu(), torch.arange(len(encoded))), (
        f"{len(mine)} predictions came back for {len(encoded)} examples"
    )
    return outputs[mine.argsort()].cpu().numpy()


def _batches(encoded: Encoded, accelerator: Accelerator) -> Generator[Batch, None, None]:
    """This process's batches, on the host; for a GPU large ones, which a thread makes and pins."""
    device, tokens = accelerator.device, None
    if device.type == "cuda":
        tokens = TOKENS_A_GIB * (torch.cuda.get_device_properties(device).total_memory // 2**30)
    mine = (
        pinned(batch, device)
        for number, batch in enumerate(in_order(encoded, BATCH, tokens))
        if number % accelerator.num_processes == accelerator.process_index
    )
    return mine if tokens is None else ahead(mine, AHEAD, on(device))


def _flat(logits: Tensor, attended: Tensor, length: int) -> Tensor:
    """Logits per token [B, L, C] as [B, C * length], 0 where there is padding."""
    return F.pad(logits * attended[..., None], (0, 0, 0, length - logits.shape[1])).flatten(1)


def answers(task: Task, logits: np.ndarray) -> np.ndarray:
    """What the metrics take: the most likely label of each row, or the score itself. [N]"""
    return logits[:, 0] if task.regression else logits.argmax(1)


def _gather(tensor: Tensor, accelerator: Accelerator) -> Tensor:
    gathered = accelerator.gather(tensor)
    assert isinstance(gathered, Tensor)
    return gathered


def _padded(tensor: Tensor, accelerator: Accelerator, value: int) -> Tensor:
    padded = accelerator.pad_across_processes(tensor, pad_index=value)
    assert isinstance(padded, Tensor)
    return padded
