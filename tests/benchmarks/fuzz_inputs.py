"""2,000 damaged teacher folders: each is refused in one line, or is loaded as what it was.

    .venv/bin/python tests/benchmarks/fuzz_inputs.py [EXAMPLES]      about 2 minutes; exit 1 at the first wrong one

What is damaged: a field of config.json (another type, out of range, gone), tensors (renamed, gone, cut, reshaped,
added, of another type, not finite), the index and files beside the weights. Tables are in fuzz_tables.py.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertForSequenceClassification

from bench.core.errors import ModelError
from bench.models import load
from bench.run.inputs import Inputs
from bench.run.request import Request
from bench.run.teachers import encoder_facts
from bench.train.recipe import State
from papers.bert import recipe

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(25))]
SHAPE: dict[str, Any] = {"vocab_size": len(WORDS), "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
                         "intermediate_size": 12, "max_position_embeddings": 16}  # fmt: skip
KINDS = {"mlm": BertForMaskedLM, "both": BertForPreTraining, "tuned": BertForSequenceClassification}
IDS = torch.arange(5, 21)[None] % len(WORDS)

ALL: Any = list(HealthCheck)
"""Checks of how hypothesis is used, which count for tests."""

Damage = Callable[[Path, dict[str, Any], dict[str, Tensor]], None]
"""(folder, config, tensors): changes the two in place, which are written afterwards, or the folder."""


def pristine(root: Path) -> dict[str, Path]:
    """A folder of each kind: a masked LM, one with both heads and a pooler, and a fine-tuned one."""
    words = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, mask_token="[MASK]", **names)
    torch.manual_seed(0)
    for name, kind in KINDS.items():
        load.save(kind(BertConfig(**SHAPE)), root / name, fast)
    return {name: root / name for name in KINDS}


SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "max_position_embeddings",
         "type_vocab_size")  # fmt: skip
SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
OTHERS = ("num_attention_heads", "hidden_act", "layer_norm_eps", "initializer_range", "pad_token_id", "id2label",
          "label2id", "architectures", "model_type", "tie_word_embeddings", "is_decoder", "add_cross_attention",
          "position_embedding_type", "quantization_config", "auto_map", "pruned_heads", "problem_type", "dtype",
          "return_dict", "output_hidden_states", "chunk_size_feed_forward", "use_cache", "num_labels")  # fmt: skip
FIELDS = (*SIZES, *SHARES, *OTHERS)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.sampled_from([10**6, 10**9, 10**30, -(10**12)]),
    st.floats(), st.text(max_size=6), st.sampled_from(["8", "0.1", "gelu", "relu", "absolute", "relative_key", "bert"]),
    st.lists(st.integers(0, 3), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=2),
    st.just({"0": "a", "1": "b"}), st.just(["BertModel"]), st.just(["BertForMaskedLM"]),
)  # fmt: skip


def meant(field: str, value: Any, config: dict[str, Any]) -> bool:
    """Whether a config with this value is one of a model that the weights may be of."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if field in SIZES:
        return type(value) is int and value == config[field]
    if field in SHARES:
        return (number and 0 <= value < 1) or (field == "classifier_dropout" and value is None)
    if field == "num_attention_heads":
        return type(value) is int and value > 0 and config["hidden_size"] % value == 0
    if field in ("layer_norm_eps", "initializer_range"):
        return isinstance(value, float) and 0 < value < 1
    if field == "pad_token_id":
        return value is None or (type(value) is int and 0 <= value < len(WORDS))
    if field == "model_type":
        return value == "bert"
    if field in ("is_decoder", "add_cross_attention", "quantization_config", "auto_map", "pruned_heads"):
        return not value
    if field == "position_embedding_type":
        return value in (None, "absolute")
    return True  # what else is taken is compared by what the model answers


@st.composite
def field_damage(draw: st.DrawFn) -> tuple[str, Damage]:
    field, gone = draw(st.sampled_from(FIELDS)), draw(st.integers(0, 9)) == 0
    value = draw(VALUES)

    def damage(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        if gone:
            config.pop(field, None)
        else:
            config[field] = value

    return f"config {field} {'gone' if gone else repr(value)}", damage


@st.composite
def tensor_damage(draw: st.DrawFn) -> tuple[str, Damage]:
    how = draw(
        st.sampled_from(["renamed", "gone", "cut", "reshaped", "added", "typed", "poisoned", "moved", "swapped"])
    )
    pick, other, text = draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6)), draw(st.text("abc.01", max_size=8))

    def damage(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        names = sorted(tensors)
        if not names:
            return
        name, second = names[pick % len(names)], names[other % len(names)]
        old = tensors[name]
        if how == "renamed":
            tensors[f"{name}{text}" if pick % 2 else f"{text}{name}"] = tensors.pop(name)
        elif how == "gone":
            del tensors[name]
        elif how == "cut":
            tensors[name] = old[: other % max(1, len(old))].clone()
        elif how == "reshaped":
            tensors[name] = [old.flatten(), old[None], old.mT if old.ndim > 1 else old[:, None]][other % 3].clone()
        elif how == "added":
            tensors[text + second.replace("layer.1", "layer.2")] = torch.zeros(1 + other % 4, 8)
        elif how == "typed":
            kinds = [torch.int8, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn]
            tensors[name] = old.to(kinds[other % len(kinds)])
        elif how == "poisoned":
            old.view(-1)[other % max(1, old.numel()) : 1 + other % max(1, old.numel())] = [
                math.nan,
                math.inf,
                -math.inf,
            ][other % 3]
        elif how == "moved":
            for each in names:
                tensors[f"module.{each}"] = tensors.pop(each)
        elif name != second:
            tensors[name], tensors[second] = tensors[second], old

    return f"tensor {how} {pick} {other} {text!r}", damage


@st.composite
def file_damage(draw: st.DrawFn) -> tuple[str, Damage]:
    how = draw(st.sampled_from(["stray", "index", "link", "labels"]))
    content = draw(VALUES)

    def damage(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        if how == "stray":
            save_file({"a": torch.ones(1)}, folder / "model-00001-of-00002.safetensors")
        elif how == "index":
            mapped = content if isinstance(content, dict) else dict.fromkeys(sorted(tensors)[1:], load.WEIGHTS)
            whole = {"weight_map": mapped} if isinstance(content, dict | int) else content
            (folder / load.INDEX).write_text(json.dumps(whole))
        elif how == "link":
            (folder / "special_tokens_map.json").unlink(missing_ok=True)
            (folder / "special_tokens_map.json").symlink_to("../gone")
        else:
            config |= {"id2label": {"1": "a", "2": "b"}}

    return f"file {how} {content!r}", damage


def use(folder: Path) -> State:
    """What a plan checks of a teacher, and then what its first stage loads: only the checks may refuse."""
    checkpoint = Inputs(Request(scale="small", teacher=str(folder), data="synthetic")).checkpoint(str(folder))
    facts = encoder_facts(checkpoint)
    (variant,) = recipe.RECIPE.variants.values()
    chosen = recipe.hyper(variant, "sst2", "small", facts)
    recipe.check(variant, chosen, facts, checkpoint)
    if checkpoint.kinds:
        load.label_order(checkpoint.config, ("label_0", "label_1"))
    context: Any = SimpleNamespace(checkpoint=checkpoint)
    try:
        return recipe.load_checkpoint(State(), chosen, context)
    except ModelError as error:
        raise AssertionError(f"the checks let through what the stage refuses: {error}") from error


def try_one(folder: Path, damages: list[tuple[str, Damage]], scratch: Path) -> str:
    """Damage a copy and use it: "refused", or "taken". Raises AssertionError where something wrong is taken."""
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch)
    before = load_file(folder / load.WEIGHTS)
    config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / load.WEIGHTS)
    original = dict(config)
    for _, damage in damages:
        damage(scratch, config, tensors)
    (scratch / "config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in tensors.items()}, scratch / load.WEIGHTS, metadata={"format": "pt"})
    try:
        state = use(scratch)
    except ModelError as error:
        assert "\n" not in str(error) and len(str(error)) < 1500, str(error)
        return "refused"
    wrong = [field for field in FIELDS if field in config and not meant(field, config[field], original)]
    assert not wrong, f"taken with {wrong[0]} {config[wrong[0]]!r}"
    assert "num_attention_heads" in config, "taken without the number of heads"
    for model in state.models.values():
        _same(model, before, tensors)
    return "taken"


def _same(model: Any, before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    """Every tensor of a model that was taken is the very one that was saved under its name, and it answers."""
    for name, tensor in model.state_dict().items():
        full = name if name in before else f"bert.{name}"
        if full not in before:
            continue  # a tied name, or a pooler that was never saved
        stored = next((after[k] for k in (full, full.removeprefix("bert.")) if k in after), None)
        if "pooler." in full and not [k for k in after if "pooler." in k]:
            continue  # a bare encoder's pooler may be new
        assert stored is not None and torch.equal(tensor, stored.float()), f"{name} is not what was saved"
    with torch.inference_mode():
        answer = model.eval()(IDS[:, : model.config.max_position_embeddings])[0]
    assert bool(torch.isfinite(answer).all()), "the answers are not finite"


def fuzz(examples: int, root: Path) -> Counter[str]:
    """Try so many damaged folders, drawn without chance; how many were refused and taken."""
    folders, outcomes = pristine(root), Counter[str]()
    one = st.one_of(field_damage(), tensor_damage(), file_damage())

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, phases=(Phase.generate,),
              suppress_health_check=ALL)  # fmt: skip
    @given(st.sampled_from(sorted(folders)), st.lists(one, min_size=1, max_size=2))
    def run(kind: str, damages: list[tuple[str, Damage]]) -> None:
        try:
            outcomes[try_one(folders[kind], damages, root / "scratch")] += 1
        except Exception as error:
            raise AssertionError(f"{kind}: {' + '.join(said for said, _ in damages)}: {error!r}") from error

    run()
    return outcomes


def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as folder:
        outcomes = fuzz(examples, Path(folder))
    print(f"{sum(outcomes.values())} folders: " + ", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())))


if __name__ == "__main__":
    main()
