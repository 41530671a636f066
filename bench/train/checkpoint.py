"""Checkpoints inside a training stage: everything an exact resume needs, in safetensors, swapped in atomically."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.core.files import sweep, whole_folder

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


@dataclass(slots=True)
class Checkpointer:
    """Writes at most every `every_s` seconds into `folder/step-N`, and keeps the newest only."""

    folder: Path
    every_s: float = 300.0
    _last_s: float = field(default=0.0)

    def due(self, now_s: float) -> bool:
        return now_s - self._last_s >= self.every_s

    def written(self, now_s: float) -> None:
        self._last_s = now_s

    def newest(self) -> Path | None:
        """The newest whole checkpoint, or None."""
        steps = sorted(self.folder.glob("step-*"))
        return steps[-1] if steps else None

    def save(self, accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, at: Position) -> None:
        """Write the state of all processes; a reader sees the whole checkpoint or none of it."""
        random_states = _random_states(accelerator)
        if accelerator.is_main_process:
            sweep(self.folder)
            target = self.folder / f"step-{at.step:09d}"
            with whole_folder(target) as staging:
                save_file(_flat(model, optimizer), staging / "state.safetensors")
                for process, states in enumerate(random_states):
                    save_file(states, staging / f"random-{process}.safetensors")
                (staging / PROGRESS).write_text(json.dumps(asdict(at)))
            for older in self.folder.glob("step-*"):
                if older != target:
                    shutil.rmtree(older, ignore_errors=True)
        accelerator.wait_for_everyone()

    def restore(self, accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
        """Load the newest checkpoint into model, optimizer and random states; a fresh Position when there is none."""
        folder = self.newest()
        if folder is None:
            return Position()
        flat = load_file(folder / "state.safetensors")
        model.load_state_dict({k.removeprefix("model."): v for k, v in flat.items() if k.startswith("model.")})
        for name, parameter in _trained(model):
            start = f"optimizer.{name}|"
            moments = {k.removeprefix(start): v.to(parameter.device) for k, v in flat.items() if k.startswith(start)}
            if moments:
                optimizer.state[parameter] = moments
        _set_random_states(load_file(folder / f"random-{accelerator.process_index}.safetensors"), accelerator.device)
        return Position(**json.loads((folder / PROGRESS).read_text()))

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


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
    states = {"cpu": torch.get_rng_state()}
    if accelerator.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(accelerator.device)
    out: list[dict[str, Tensor]] = [{} for _ in range(accelerator.num_processes)]
    for name, state in states.items():
        gathered = accelerator.gather(state.to(accelerator.device)[None])
        assert isinstance(gathered, Tensor)
        for process, row in enumerate(gathered.cpu()):
            out[process][name] = row.clone()
    return out


def _set_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
