"""Checkpoints inside a training stage: everything an exact resume needs, in safetensors, swapped in atomically."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.core import sealed
from bench.core.files import remove_folder, sweep, whole_folder
from bench.core.trouble import system_number
from bench.train.processes import decided

log = logging.getLogger(__name__)

PROGRESS = "progress.json"


@dataclass(slots=True)
class Position:
    """Where training stands: `position` batches of `epoch` are done, `step` optimiser steps in all."""

    epoch: int = 0
    position: int = 0
    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    first_loss: float | None = None
    last_loss: float | None = None


KEPT = 2
"""Checkpoints that are kept: should the newest be damaged, there is the one before."""


@dataclass(slots=True)
class Checkpointer:
    """Writes at most every `every_s` seconds into `folder/step-N`, and keeps the newest two."""

    folder: Path
    every_s: float = 300.0
    _last_s: float = field(default=0.0)

    def due(self, now_s: float) -> bool:
        return now_s - self._last_s >= self.every_s

    def written(self, now_s: float) -> None:
        self._last_s = now_s

    def newest(self, processes: int = 1) -> Path | None:
        """The newest checkpoint that is whole and of so many processes, or None; others are named and removed.

        Raises OSError for one that could not be read: that says nothing of it.
        """
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                found = sealed.checked(folder)
                if found["processes"] == processes:
                    return folder
                damage = f"it is of {found['processes']} processes, not {processes}"
            except (*sealed.LOST, KeyError) as error:
                missing = isinstance(error, OSError)
                damage = f"{sealed.MANIFEST} is missing" if missing else f"it is damaged: {error}"
            log.warning("the checkpoint %s is not used: %s; training goes on from the one before, or from its start",
                        folder, damage)  # fmt: skip
            _removed(folder)
        return None

    def save(self, accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, at: Position) -> bool:
        """Write the state of all processes; a reader sees the whole checkpoint or none of it.

        False, with a warning, where the disk does not take it: the training goes on without.
        """
        random_states = _random_states(accelerator)
        written = decided(accelerator, lambda: self._write(_flat(model, optimizer), random_states, at))
        accelerator.wait_for_everyone()
        return written

    def _write(self, flat: dict[str, Tensor], random_states: list[dict[str, Tensor]], at: Position) -> bool:
        target = self.folder / f"step-{at.step:09d}"
        try:
            sweep(self.folder)
            with whole_folder(target) as staging:
                save_file(flat, staging / "state.safetensors")
                for process, states in enumerate(random_states):
                    save_file(states, staging / f"random-{process}.safetensors")
                (staging / PROGRESS).write_text(json.dumps(asdict(at)))
                sealed.seal(staging, {"processes": len(random_states)})
        except (OSError, SafetensorError) as error:
            number = system_number(error)
            if number is None:
                raise
            log.warning("no checkpoint could be written in %s (%s); training goes on without; next: free space there",
                        self.folder, os.strerror(number))  # fmt: skip
            return False
        for older in sorted(self.folder.glob("step-*"))[:-KEPT]:
            _removed(older)
        return True

    def restore(self, accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
        """Load the newest checkpoint into model, optimizer and random states; a fresh Position when there is none."""
        folder = decided(accelerator, lambda: self.newest(accelerator.num_processes))
        if folder is None:
            return Position()
        flat = load_file(folder / "state.safetensors")
        model.load_state_dict({k.removeprefix("model."): v for k, v in flat.items() if k.startswith("model.")})
        for name, parameter in _trained(model):
            start = f"optimizer.{name}|"
            moments = {k.removeprefix(start): v.to(parameter.device) for k, v in flat.items() if k.startswith(start)}
            if moments:
                optimizer.state[parameter] = moments
        set_random_states(load_file(folder / f"random-{accelerator.process_index}.safetensors"), accelerator.device)
        return Position(**json.loads((folder / PROGRESS).read_text()))


def _removed(folder: Path) -> None:
    """Remove a checkpoint at once, so that a kill leaves no part of one; one that stays does no harm."""
    with suppress(OSError):
        remove_folder(folder)


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _flat(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every tensor under one name; clones, because tied tensors share memory and safetensors refuses that."""
    flat = {f"model.{name}": tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    for name, parameter in _trained(model):
        for key, value in optimizer.state.get(parameter, {}).items():
            flat[f"optimizer.{name}|{key}"] = value.detach().clone().contiguous()
    return flat


def _random_states(accelerator: Accelerator) -> list[dict[str, Tensor]]:
    """The state of each random generator, process by process."""
    states = random_states(accelerator.device)
    out: list[dict[str, Tensor]] = [{} for _ in range(accelerator.num_processes)]
    for name, state in states.items():
        gathered = accelerator.gather(state.to(accelerator.device)[None])
        assert isinstance(gathered, Tensor)
        for process, row in enumerate(gathered.cpu()):
            out[process][name] = row.clone()
    return out


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The state of each random generator of this process."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Put back what `random_states` gave."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
