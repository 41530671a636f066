"""A Q-BERT as one file of packed bits: what its size would be if it were stored, where the paper only computes it.

One safetensors file holds, for each rounded matrix and table, its codes (k bits each, one stream per tensor) and a
scale and a zero point (the value of code 0, the paper's q_0) per group; biases, LayerNorms, pooler and head as fp32;
the ranges of activations; and, as metadata, architecture, config, scheme and a sha256 of it all. It loads back into
the plain class of the model, which its module must have registered where it is a paper's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.core.errors import BenchError, ModelError, SpecError
from bench.core.files import whole_file
from bench.models.load import described, made
from papers.qbert.quantize import RANGES, quantize, quantized_weights
from papers.qbert.rounding import Grid, Rounding
from papers.qbert.scheme import FLOAT_BITS, TABLES, Scheme, check_bits
from papers.qbert.sizes import module_bytes

FORMAT = "qbert-packed-2"
FILE = "packed.safetensors"
CODES, SCALE, ZERO = ".codes", ".scale", ".zero"

Description = dict[str, Any]
"""Architecture and config of a plain model, as `bench.models.load` describes it."""


@dataclass(frozen=True, slots=True)
class PackedSize:
    """Bytes of a packed file by what they hold, and what the paper's formula says."""

    file: int
    codes: int
    ranges: int
    """Scales and zero points of the groups, and the ranges of activations."""
    floats: int
    """Biases, LayerNorms, pooler, head, and what has 32 bits."""
    formula: int
    """Parameters times bits of the layers (biases and LayerNorms at their layer's bits too) and the tables."""


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes (uint8, below 2^bits) as a stream of `bits` each, highest bit first; the last byte is filled with zeros.

    Shapes: any in, [bytes] out. Raises: SpecError for impossible bits.
    """
    _check_packable(bits)
    spread = np.unpackbits(codes.reshape(-1, 1), axis=1)[:, 8 - bits :]  # [codes, bits] of 0 and 1
    return np.packbits(spread)


def unpack(stream: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The `count` codes of a stream, as uint8 [count].

    Raises: ModelError when the stream is not as long as they take, SpecError for impossible bits.
    """
    _check_packable(bits)
    if stream.dtype != np.uint8 or stream.shape != (stream_bytes(count, bits),):
        raise ModelError("packed codes have a wrong size", found=f"{stream.dtype} {list(stream.shape)}",
                         expected=f"{stream_bytes(count, bits)} bytes for {count} codes of {bits} bits",
                         fix="export the model again")  # fmt: skip
    spread = np.unpackbits(stream, count=count * bits).reshape(count, bits)
    return np.packbits(np.pad(spread, ((0, 0), (8 - bits, 0))), axis=1).reshape(-1)


def _check_packable(bits: int) -> None:
    if check_bits(bits, "packed codes") == FLOAT_BITS:
        raise SpecError("floats are not packed", where="packed codes", found=bits, expected="1 to 8 bits")


def stream_bytes(count: int, bits: int) -> int:
    """Bytes of so many codes."""
    return -(-count * bits // 8)


def export(model: nn.Module, scheme: Scheme, folder: Path) -> PackedSize:
    """Write a quantised model, rounded as `scheme` says, as `packed.safetensors` in a folder, whole or not at all.

    Raises: ModelError when the model is not quantised as the scheme says, has weights that are not finite, or
    activations without a range; SpecError when the scheme does not fit the model, or the file cannot be written.
    """
    weights = quantized_weights(model)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError("the weights are not finite", where=name, found="NaN or infinity", fix="train again")
        if name not in weights:
            tensors[name] = tensor.detach().float().cpu().contiguous()
    low_high = [(tensors[name], tensors[f"{name[:-4]}.high"]) for name in tensors if name.endswith(".output.low")]
    if any(not (bool(low) or bool(high)) for low, high in low_high):
        raise ModelError("the activations have no range yet", expected="a model that was trained or calibrated",
                         fix="run it on data in training mode first")  # fmt: skip
    for name, (weight, rounding) in weights.items():
        # Codes lie in the order of the matrix's own values, whatever the groups; one scale and zero point per group.
        to = rounding.grid_of(weight)
        codes = to.codes(rounding.grouped(weight.detach().flatten(1))).to(torch.uint8).cpu().numpy()
        tensors[name + CODES] = torch.from_numpy(pack(codes, rounding.bits))
        tensors[name + SCALE] = to.scale.float().cpu().reshape(-1).contiguous()
        tensors[name + ZERO] = to.low.float().cpu().reshape(-1).contiguous()
    description = described(model)
    expected = _expected(description, scheme)
    if _shapes(tensors) != expected:
        raise ModelError("the model is not quantised as the scheme says", found=_difference(_shapes(tensors), expected),
                         fix="export it with the scheme that it was quantised with")  # fmt: skip
    metadata = {"format": FORMAT, "architecture": type(model).__name__,
                "config": json.dumps(description, sort_keys=True), "scheme": scheme.model_dump_json()}  # fmt: skip
    metadata["sha256"] = checksum(tensors, metadata)
    _write(tensors, metadata, folder)
    return size(folder)


def _write(tensors: dict[str, Tensor], metadata: dict[str, str], folder: Path) -> None:
    try:
        with whole_file(folder / FILE) as staging:
            save_file(tensors, staging, metadata=metadata)
            _order(staging)
    except (OSError, SafetensorError) as error:
        raise SpecError("the packed model cannot be written", where=folder, found=f"{type(error).__name__}: {error}",
                        expected="a folder on a disk with room", fix="give another folder") from error  # fmt: skip


def _order(file: Path) -> None:
    """Put a safetensors file's metadata in order, which is a random one, so that equal models give equal files."""
    with file.open("r+b") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, "the same words, without more spaces"
        handle.seek(8)
        handle.write(text.ljust(length))


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """sha256 over metadata (without itself), names, types, shapes and bytes."""
    seen = hashlib.sha256(json.dumps({k: v for k, v in metadata.items() if k != "sha256"}, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        seen.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        seen.update(tensor.numpy().tobytes())
    return seen.hexdigest()


def _read(folder: Path) -> tuple[dict[str, Tensor], Description, Scheme]:
    """What a packed file holds, after every check. Raises: ModelError for the first thing that is wrong."""
    path = folder / FILE
    if not path.is_file():
        raise ModelError("there is no packed model", where=folder, expected=FILE, fix="give the folder of an export")
    again = "export the model again, or copy the file again"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelError("the packed file cannot be read", where=path, found=f"{type(error).__name__}: {error}",
                         expected="a whole safetensors file", fix=again) from error  # fmt: skip
    if metadata.get("format") != FORMAT:
        raise ModelError("the file is not a packed Q-BERT", where=path, found=metadata.get("format", "no format"),
                         expected=FORMAT, fix=again)  # fmt: skip
    try:
        scheme = Scheme.model_validate_json(metadata["scheme"])
        description = json.loads(metadata["config"]) | {"architectures": [metadata["architecture"]]}
        expected = _expected(description, scheme)
    except BenchError:
        raise
    except Exception as error:  # transformers and torch refuse a changed config in ways of their own
        raise ModelError("the packed file says nothing readable of its model", where=path, found=type(error).__name__,
                         expected="architecture, config and scheme in its metadata", fix=again) from error  # fmt: skip
    if _shapes(tensors) != expected:
        raise ModelError("the packed file does not fit its config", where=path,
                         found=_difference(_shapes(tensors), expected), fix=again)  # fmt: skip
    if metadata.get("sha256") != checksum(tensors, metadata):
        raise ModelError("the packed file was changed after it was written", where=path,
                         found=f"sha256 {checksum(tensors, metadata)[:12]}",
                         expected=str(metadata.get("sha256"))[:12], fix=again)  # fmt: skip
    return tensors, description, scheme


def _empty(description: Description, scheme: Scheme) -> nn.Module:
    """The quantised model that a description and a scheme give, without values."""
    with torch.device("meta"):
        return quantize(made(description), scheme)


Shapes = dict[str, tuple[str, tuple[int, ...]]]


def _expected(description: Description, scheme: Scheme) -> Shapes:
    """Name -> type and shape of every tensor that a packed file of this model and scheme holds."""
    model = _empty(description, scheme)
    weights = quantized_weights(model)
    out: Shapes = {n: ("torch.float32", tuple(t.shape)) for n, t in model.state_dict().items() if n not in weights}
    for name, (weight, rounding) in weights.items():
        out[name + CODES] = ("torch.uint8", (stream_bytes(weight.numel(), rounding.bits),))
        out[name + SCALE] = out[name + ZERO] = ("torch.float32", (rounding.groups,))
    return out


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}


def _difference(found: Shapes, expected: Shapes) -> str:
    """The first difference, by name, in words."""
    name = min(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
    if name not in found:
        return f"no {name}"
    given = f"{name} as {found[name][0]} {list(found[name][1])}"
    return given if name not in expected else f"{given} in place of {expected[name][0]} {list(expected[name][1])}"


def load(folder: Path) -> nn.Module:
    """The plain class in eval mode with the values of a packed file as fp32: it answers as the quantised model does.

    Where the scheme rounds activations, the modules whose outputs it rounds do so; all else is the plain class.
    Raises: ModelError, in one line, for anything that is missing, of another shape, or changed, and for a paper's class
    that was not imported; SpecError where its scheme is impossible or does not fit its config.
    """
    tensors, description, scheme = _read(folder)
    model = made(description)
    state = _values(model, tensors, description, scheme)
    if scheme.activations != FLOAT_BITS:
        floats = {"layers": (FLOAT_BITS,) * len(scheme.layers)} | dict.fromkeys(TABLES, FLOAT_BITS)
        quantize(model, scheme.model_copy(update=floats))
    model.load_state_dict(state)
    return model.eval()


def load_plain(folder: Path) -> nn.Module:
    """The same weights in the plain class throughout: activations are floats, for a kernel that rounds its own.

    Raises: ModelError and SpecError as `load` does.
    """
    tensors, description, scheme = _read(folder)
    model = made(description)
    state = _values(model, tensors, description, scheme)
    model.load_state_dict({name: tensor for name, tensor in state.items() if not name.endswith(RANGES)})
    return model.eval()


def _values(
    model: nn.Module, tensors: Mapping[str, Tensor], description: Description, scheme: Scheme
) -> dict[str, Tensor]:
    """Every tensor of the model by name, the packed ones as floats, and the ranges of activations."""
    weights = {name: rounding for name, (_, rounding) in quantized_weights(_empty(description, scheme)).items()}
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    plain = {name: tensor for name, tensor in tensors.items() if not name.endswith((CODES, SCALE, ZERO))}
    return plain | {name: _weight(tensors, name, rounding, shapes[name]) for name, rounding in weights.items()}


def _weight(tensors: Mapping[str, Tensor], name: str, rounding: Rounding, shape: torch.Size) -> Tensor:
    """The values of one matrix or table, bit for bit those that the quantiser computes."""
    codes = torch.from_numpy(unpack(tensors[name + CODES].numpy(), rounding.bits, shape.numel()))
    broadcast = (-1, 1) if rounding.axis == "output" else (1, -1, 1)
    low, scale = tensors[name + ZERO].view(broadcast), tensors[name + SCALE].view(broadcast)
    to = Grid(low, low, scale, 2**rounding.bits - 1)
    matrix = codes.view(shape).flatten(1).float()
    return to.values(rounding.grouped(matrix).clone()).reshape(shape)


def size(folder: Path) -> PackedSize:
    """The bytes of a packed file. Raises: ModelError and SpecError as `load` does."""
    tensors, description, scheme = _read(folder)
    parts = {"codes": 0, "ranges": 0, "floats": 0}
    for name, tensor in tensors.items():
        kind = "codes" if name.endswith(CODES) else "floats"
        if name.endswith((SCALE, ZERO, *RANGES)):
            kind = "ranges"
        parts[kind] += tensor.nbytes
    with torch.device("meta"):
        formula = module_bytes(made(description), scheme)
    return PackedSize((folder / FILE).stat().st_size, **parts, formula=formula)
