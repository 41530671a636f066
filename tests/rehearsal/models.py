"""Tiny models in the layout, and with the tensor names, of the real ones on the hub; weights are set, not trained.

The first layer hands every place the mean of the sentence, the others pass on what they get, and word vectors say what
a word means. So a head learns a task of `rows` in the few steps that the papers' settings give it on a few rows.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from torch import Tensor
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    MobileBertConfig,
    MobileBertForPreTraining,
    PreTrainedConfig,
)

from rehearsal.hub import Repository
from rehearsal.rows import NAMES, OTHERS, SIGNS

LAYERS, HIDDEN, HEADS, INNER, POSITIONS = 12, 32, 4, 64, 512
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CALM: Any = {"initializer_range": 1e-6, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
"""No chance in training: a head begins at nothing, and every seed learns the same."""
MEAN = 3.0
"""How much of the sentence's mean the first layer adds to every place."""

BERT, CASED = "google-bert/bert-base-uncased", "google-bert/bert-base-cased"
DISTILBERT, MOBILEBERT = "distilbert/distilbert-base-uncased", "google/mobilebert-uncased"
TINY_4, TINY_6 = "huawei-noah/TinyBERT_General_4L_312D", "huawei-noah/TinyBERT_General_6L_768D"
REVISIONS = {BERT: "86b5e0934494bd15c9632b12f734a8a67f723594", CASED: "cd5ef92a9fb2f889e972770a36d4ed042daf221e"}
"""Of the others none is pinned: any will do."""
SOME = "0123456789abcdef0123456789abcdef01234567"


def vocabulary(cased: bool) -> list[str]:
    """Words of the rows, letters, and their continuations."""
    letters = string.ascii_letters if cased else string.ascii_lowercase
    words = [*SIGNS, *OTHERS, *(NAMES if cased else map(str.lower, NAMES))]
    pieces = [*letters, *(f"##{letter}" for letter in letters), *string.digits, *string.punctuation]
    return list(dict.fromkeys((*SPECIAL, *words, *pieces)))


def words_of(cased: bool) -> dict[str, bytes]:
    """The tokenizer's files."""
    pieces = vocabulary(cased)
    ids = {piece: i for i, piece in enumerate(pieces)}
    raw = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    raw.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    raw.add_special_tokens(list(SPECIAL))
    said = {"do_lower_case": not cased, "model_max_length": POSITIONS, "tokenizer_class": "BertTokenizer"}
    return {"vocab.txt": "".join(f"{piece}\n" for piece in pieces).encode(), "tokenizer.json": raw.to_str().encode(),
            "tokenizer_config.json": json.dumps(said).encode()}  # fmt: skip


def word_vectors(words: list[str], width: int) -> Tensor:
    """A vector a word, of mean 0: signs along one direction, names each along its own, the others near nothing."""
    random = torch.Generator().manual_seed(0)
    table = torch.randn(len(words), width, generator=random) * 0.2
    sign = torch.zeros(width)
    sign[: width // 4] = torch.tensor([1.0, -1.0]).repeat(width // 8)
    for i, word in enumerate(words):
        if word in SIGNS:
            table[i] = SIGNS[word] * sign
        elif word.capitalize() in NAMES:
            table[i, width // 4 :] = torch.randn(width - width // 4, generator=random)
            table[i, : width // 4] = 0
        else:
            table[i, : width // 4] = 0
    return table - table.mean(1, keepdim=True)


def _tensors(model: torch.nn.Module, words: list[str], width: int, is_mean: Callable[[str], str]) -> dict[str, Tensor]:
    """Small random weights but for the word vectors, the mean of the first layer, and a pooler that shows all."""
    random = torch.Generator().manual_seed(1)
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        norm = "LayerNorm" in name or "layer_norm" in name
        fresh = torch.randn(tensor.shape, generator=random) * 0.02
        found[name] = torch.ones_like(tensor) if norm and name.endswith("weight") else fresh
        if name.endswith("bias"):
            found[name] = torch.zeros_like(tensor)
        elif name.endswith("word_embeddings.weight"):
            found[name] = word_vectors(words, width)
        elif (role := is_mean(name)) == "value":
            found[name] = torch.eye(width)
        elif role == "output":
            found[name] = MEAN * torch.eye(width)
        elif role == "even":  # no query likes one key much better than another
            found[name] = fresh * 0.05
        elif role == "pooler":
            found[name] = 0.5 * torch.eye(width)
    return found


def _bert_role(name: str) -> str:
    first = "encoder.layer.0.attention."
    roles = {f"{first}self.value.weight": "value", f"{first}output.dense.weight": "output", "pooler.dense.weight":
             "pooler", f"{first}self.query.weight": "even", f"{first}self.key.weight": "even"}  # fmt: skip
    return next((role for ending, role in roles.items() if name.endswith(ending)), "")


def _distilbert_role(name: str) -> str:
    first = "transformer.layer.0.attention."
    roles = {f"{first}v_lin.weight": "value", f"{first}out_lin.weight": "output", f"{first}q_lin.weight": "even",
             f"{first}k_lin.weight": "even"}  # fmt: skip
    return next((role for ending, role in roles.items() if name.endswith(ending)), "")


def bert(cased: bool = False) -> Repository:
    """The reference: with masked-LM and next-sentence heads, and the first BERT's names of a LayerNorm's parts."""
    words = vocabulary(cased)
    config = BertConfig(
        vocab_size=len(words), hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=INNER, max_position_embeddings=POSITIONS, **CALM,
    )  # fmt: skip
    model = BertForPreTraining(config)
    tensors = _tensors(model, words, HIDDEN, _bert_role)
    tensors.pop("cls.predictions.decoder.weight")  # tied: the real file has it once
    tensors.pop("cls.predictions.decoder.bias")
    tensors = {_old(name): tensor.contiguous() for name, tensor in tensors.items()}
    name = CASED if cased else BERT
    config.architectures = ["BertForMaskedLM"]
    extra = {"pytorch_model.bin": b"never opened", "README.md": b"---\nlicense: apache-2.0\n---\n",
             "coreml/fill-mask/float32_model.mlpackage/Data/weights/weight.bin": b"of another library"}  # fmt: skip
    return _repository(name, config, tensors, words_of(cased) | extra)


def _old(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def distilbert() -> Repository:
    """The student that DistilBERT's authors released: a masked LM whose projection is its word vectors."""
    words = vocabulary(False)
    config = DistilBertConfig(vocab_size=len(words), dim=HIDDEN, n_layers=LAYERS // 2, n_heads=HEADS, hidden_dim=INNER,
                              max_position_embeddings=POSITIONS, initializer_range=1e-6)  # fmt: skip
    config.architectures = ["DistilBertForMaskedLM"]
    tensors = _tensors(DistilBertForMaskedLM(config), words, HIDDEN, _distilbert_role)
    tensors.pop("vocab_projector.weight")
    return _repository(DISTILBERT, config, tensors, words_of(False) | {"pytorch_model.bin": b"never opened"})


def tinybert(name: str, pickled: bool = False) -> Repository:
    """A general student of TinyBERT's authors, with the projection that they left in it, and no tokenizer.json.

    `pickled` is how the authors uploaded it: nothing here may open it.
    """
    words = vocabulary(False)
    layers, width = (4, 16) if name == TINY_4 else (6, HIDDEN)
    config = BertConfig(vocab_size=len(words), hidden_size=width, num_hidden_layers=layers, num_attention_heads=HEADS,
                        intermediate_size=INNER, max_position_embeddings=POSITIONS)  # fmt: skip
    model = BertModel(config)
    tensors = {f"bert.{key}": value for key, value in _tensors(model, words, width, _bert_role).items()}
    tensors |= {"fit_dense.weight": torch.zeros(HIDDEN, width), "fit_dense.bias": torch.zeros(HIDDEN)}
    files = {key: raw for key, raw in words_of(False).items() if key == "vocab.txt"}
    if pickled:
        content = {"model_type": "bert"} | json.loads(config.to_json_string(use_diff=False))
        return Repository("model", name, SOME, files | {"config.json": json.dumps(content).encode(),
                                                        "pytorch_model.bin": b"never opened"})  # fmt: skip
    return _repository(name, config, tensors, files)


def mobilebert() -> Repository:
    """The student that MobileBERT's authors released, with its pre-training heads; its weights say nothing."""
    words = vocabulary(False)
    config = MobileBertConfig(
        vocab_size=len(words), embedding_size=HIDDEN // 4, hidden_size=HIDDEN, intra_bottleneck_size=HIDDEN // 4,
        num_hidden_layers=LAYERS // 4, num_attention_heads=HEADS, intermediate_size=HIDDEN,
        max_position_embeddings=POSITIONS, classifier_activation=False,
    )  # fmt: skip
    config.architectures = ["MobileBertForPreTraining"]
    tensors = _tensors(MobileBertForPreTraining(config), words, HIDDEN // 4, lambda name: "")
    for twice in ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias"):
        tensors.pop(twice)
    return _repository(MOBILEBERT, config, tensors, words_of(False) | {"pytorch_model.bin": b"never opened"})


def _repository(
    name: str, config: PreTrainedConfig, tensors: Mapping[str, Tensor], files: Mapping[str, bytes]
) -> Repository:
    content = json.loads(config.to_json_string(use_diff=False))
    content.pop("_name_or_path", None)
    weights = save({key: tensor.contiguous() for key, tensor in tensors.items()}, metadata={"format": "pt"})
    return Repository("model", name, REVISIONS.get(name, SOME),
                      {"config.json": json.dumps(content).encode(), "model.safetensors": weights, **files})  # fmt: skip


def models(pickled: bool = False) -> list[Repository]:
    """All of them; `pickled` has the students of TinyBERT as their authors uploaded them."""
    return [bert(), bert(cased=True), distilbert(), mobilebert(), tinybert(TINY_4, pickled), tinybert(TINY_6, pickled)]
