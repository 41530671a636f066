"""The config.json of a checkpoint folder, checked field by field before transformers is given it.

What transformers would read otherwise than the model was trained (relative positions, 8-bit weights, code of its own)
is refused here, and so is every value that it would stumble over later.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.activations import ACT2FN

from bench.core.errors import ModelError

CONFIG = "config.json"

SIZES: Mapping[str, tuple[str, ...]] = {
    "bert": ("num_attention_heads", "num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size",
             "max_position_embeddings", "type_vocab_size"),
    "distilbert": ("n_heads", "n_layers", "dim", "hidden_dim", "vocab_size", "max_position_embeddings"),
}  # fmt: skip
"""Kind of model -> its sizes; the first, the number of heads, cannot be told from the weights and must be there."""
WIDTHS: Mapping[str, str] = {"bert": "hidden_size", "distilbert": "dim"}
"""Kind of model -> the width that its heads share."""
SHARES: Mapping[str, tuple[str, ...]] = {
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    "distilbert": ("dropout", "attention_dropout", "qa_dropout", "seq_classif_dropout"),
}
OTHER_SIZES = ("embedding_size", "true_hidden_size", "intra_bottleneck_size", "num_feedforward_networks")
"""Of further kinds, MobileBERT among them: a size is one, whatever kind of model names it."""
EVERY_SIZE = tuple(dict.fromkeys((*(name for names in SIZES.values() for name in names), *OTHER_SIZES)))
EVERY_SHARE = tuple(dict.fromkeys(name for names in SHARES.values() for name in names))
NONE_ALLOWED = ("classifier_dropout", "pad_token_id")
POSITIVE = ("layer_norm_eps", "initializer_range")
ACTIVATIONS = ("hidden_act", "activation")
SWITCHES = ("is_decoder", "add_cross_attention", "is_encoder_decoder", "tie_word_embeddings", "use_cache")
LARGEST = 10_000_000
"""No size of a BERT comes near; a larger one is a mistake that would take all memory."""


def present(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder, None where there is none.

    Raises ModelError for a link that leads nowhere, and for a name that no file can have.
    """
    path = folder / name
    try:
        os.stat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or error
        raise ModelError("a file of the checkpoint cannot be looked for", where=path, found=found,
                         fix="check the folder, and the index of its weights") from error  # fmt: skip
    if path.is_file():
        return path
    if path.is_symlink() and not path.exists():
        raise ModelError("the link is broken", where=path, found=f"a link to {os.readlink(path)}, which is gone",
                         expected="a file", fix="copy the file itself here, or fetch the checkpoint again")  # fmt: skip
    if path.exists():
        raise ModelError("a file of the checkpoint is no file", where=path, expected="a regular file",
                         fix="check the folder")  # fmt: skip
    return None


def read_config(folder: Path) -> PreTrainedConfig:
    """The config of a checkpoint folder.

    Raises ModelError: none, not JSON, of a kind that transformers does not know, a field of another type or out of
    its range, label names that are not one for each output, and what would not be loaded as it was trained.
    """
    path = present(folder, CONFIG)
    if path is None:
        raise ModelError("the checkpoint has no config", where=folder, expected=CONFIG, fix="check the folder")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError("the config cannot be read", where=path, found=f"{type(error).__name__}: {error}",
                         expected="JSON", fix="copy the file again") from error  # fmt: skip
    if not isinstance(content, dict):
        raise _wrong(path, "the whole file", type(content).__name__, "an object of fields")
    _check_numbers(path, content)
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise _wrong(path, "model_type", kind, 'a kind that transformers knows, for example "bert"')
    _check_what_is_trained(path, content)
    _check_fields(path, content, kind)
    _check_labels(path, content)
    # How outputs are packed is no part of a model: the bench reads them by name, and asks for what it needs.
    plain = {"return_dict": True, "output_attentions": False, "output_hidden_states": False, "torchscript": False}
    try:
        return CONFIG_MAPPING[kind].from_dict({k: v for k, v in content.items() if k not in plain})
    except Exception as error:  # transformers checks types by classes of its own
        raise ModelError("the config cannot be read", where=path, found=f"{type(error).__name__}: {error}",
                         expected="a config that transformers knows", fix="correct the field, or copy the file again",
                         ) from error  # fmt: skip


def _wrong(path: Path, field: str, found: object, expected: str) -> ModelError:
    shown = repr(found) if len(repr(found)) < 80 else f"{repr(found)[:76]} ..."
    return ModelError("a field of the config is wrong", where=f"{path}: {field}", found=shown, expected=expected,
                      fix=f"correct {field} in {CONFIG}, or use another checkpoint")  # fmt: skip


def _check_what_is_trained(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse what transformers would not load as it was trained."""
    kind = content.get("position_embedding_type")
    if kind not in (None, "absolute"):
        raise ModelError("the model has relative positions, which would be read as absolute ones",
                         where=f"{path}: position_embedding_type", found=repr(kind), expected="absolute",
                         fix="use a BERT with absolute positions")  # fmt: skip
    for field in ("quantization_config", "quantization", "compression_config"):
        if content.get(field) is not None:
            raise ModelError("the checkpoint is quantised", where=f"{path}: {field}", found=content[field],
                             expected="weights in floating point",
                             fix="use the checkpoint from before it was quantised")  # fmt: skip
    if content.get("auto_map"):
        raise ModelError("the checkpoint comes with code of its own, which is never run", where=f"{path}: auto_map",
                         found=content["auto_map"], expected="a class of transformers",
                         fix="use a checkpoint of a plain BERT")  # fmt: skip
    for field in ("pruned_heads", "fusion_config", "transformers_weights"):
        if content.get(field):
            raise _wrong(path, field, content[field], "none: it would not be heeded as it was meant")
    for field in ("is_decoder", "add_cross_attention", "is_encoder_decoder"):
        if content.get(field):
            raise _wrong(path, field, content[field], "false: an encoder, which sees the whole text")
    names = content.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)
                                  and len(names) <= 1):  # fmt: skip
        raise _wrong(path, "architectures", names, "a list of one class name")


def _check_numbers(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a NaN and an infinity, which JSON does not have and Python reads, wherever they stand."""
    waiting: list[tuple[str, Any]] = list(content.items())
    while waiting:
        field, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise _wrong(path, field, value, "a finite number")
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [(f"{field}.{name}", part) for name, part in inner]


def _check_fields(path: Path, content: Mapping[str, Any], kind: str) -> None:
    """Refuse a field of another type than it has, or out of its range."""
    for field in SWITCHES:
        if not isinstance(content.get(field, False), bool):
            raise _wrong(path, field, content[field], "true or false")
    chunk = content.get("chunk_size_feed_forward", 0)
    if not _whole(chunk) or chunk:  # chunks need inputs whose length they divide, and change no number
        raise _wrong(path, "chunk_size_feed_forward", chunk, "0")
    for field in ACTIVATIONS:
        if field in content and not (isinstance(content[field], str) and content[field] in ACT2FN):
            raise _wrong(path, field, content[field], "the name of an activation, for example gelu")
    for field in EVERY_SIZE:
        value = content.get(field, 1)
        least = 0 if field == "type_vocab_size" and kind not in SIZES else 1  # some kinds have none
        if not _whole(value) or not least <= value <= LARGEST:
            raise _wrong(path, field, value, f"a whole number from {least} to {LARGEST}")
    for field in EVERY_SHARE:
        value = content.get(field, 0.0)
        if not (value is None and field in NONE_ALLOWED) and not (_number(value) and 0 <= value < 1):
            raise _wrong(path, field, value, "a number from 0 to less than 1")
    for field in POSITIVE if kind in SIZES else POSITIVE[:1]:
        value = content.get(field, 1e-12)
        if not (isinstance(value, float) and math.isfinite(value) and 0 < value < 1):
            raise _wrong(path, field, value, "a number between 0 and 1")
    if kind in SIZES:
        _check_heads(path, content, kind)
        words, padding = content.get("vocab_size", LARGEST), content.get("pad_token_id")
        if padding is not None and not (_whole(padding) and 0 <= padding < words):
            raise _wrong(path, "pad_token_id", padding, f"an id from 0 to {words - 1}")


def _check_heads(path: Path, content: Mapping[str, Any], kind: str) -> None:
    field, width = SIZES[kind][0], content.get(WIDTHS[kind])
    if field not in content:
        raise _wrong(path, field, None, "the number of heads, which the weights do not tell")
    if width is not None and width % content[field]:
        raise _wrong(path, field, content[field], f"a divisor of {WIDTHS[kind]} {width}")


def _check_labels(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse label names that are not one for each output, counted from 0, or that the two tables tell otherwise."""
    names, count = content.get("id2label"), content.get("num_labels")
    if count is not None and not (_whole(count) and 1 <= count <= LARGEST):
        raise _wrong(path, "num_labels", count, "a whole number from 1")
    if names is None:
        return
    wanted = 'label names by id, counted from 0: {"0": ..., "1": ...}'
    if not isinstance(names, dict) or set(names) != {str(i) for i in range(len(names))} or not names:
        raise _wrong(path, "id2label", names, wanted)
    if not all(isinstance(name, str) and name for name in names.values()) or len(set(names.values())) < len(names):
        raise _wrong(path, "id2label", names, f"{wanted}, each another text")
    if count is not None and count != len(names):
        raise _wrong(path, "num_labels", count, f"{len(names)}, the number of label names in id2label")
    ids = content.get("label2id")
    if ids is not None and ids != {name: int(i) for i, name in names.items()}:
        raise _wrong(path, "label2id", ids, "the label names of id2label with their ids")


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf
