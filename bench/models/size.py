"""How big a model is: parameters, and bytes of its weight files on disk.

A parameter is counted once, however many modules share it; buffers are not parameters.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import BertConfig

from bench.core.errors import ModelError

WEIGHT_ENDINGS = (".safetensors", ".onnx", ".onnx_data", ".onnx.data")
"""Files that hold weights; the last two are where ONNX keeps tensors outside the graph file."""


def parameters(model: nn.Module) -> int:
    """Number of parameters, a tied one counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def parameters_without_embeddings(model: nn.Module) -> int:
    """Number of parameters outside embedding tables (words, positions, token types).

    A table of a class of its own says so by the attribute `is_table`. The LayerNorm and any projection after a table do
    count; a decoder that is tied to a table does not.
    """
    tables = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) or getattr(module, "is_table", False)
        for parameter in module.parameters(recurse=False)
    }
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in tables)


def bert_parts(config: BertConfig) -> tuple[int, int]:
    """Parameters of a BERT's three embedding tables, and of its encoder's layers with their biases and LayerNorms.

    In neither are the embeddings' LayerNorm, the pooler and the task head.
    """
    hidden, ffn = config.hidden_size, config.intermediate_size
    tables = (config.vocab_size + config.max_position_embeddings + config.type_vocab_size) * hidden
    matrices, biases, norms = 4 * hidden**2 + 2 * hidden * ffn, 5 * hidden + ffn, 4 * hidden
    return tables, config.num_hidden_layers * (matrices + biases + norms)


def folder_bytes(folder: Path) -> int:
    """Bytes of the weight files directly in a folder: safetensors and ONNX; config and tokenizer do not count.

    Raises ModelError when the folder holds no weight file: a size of zero is never reported.
    """
    if not folder.is_dir():
        raise ModelError("the model folder does not exist", where=folder, fix="give the folder of a saved model")
    files = [file for file in folder.iterdir() if file.name.endswith(WEIGHT_ENDINGS) and file.is_file()]
    if not files:
        raise ModelError("the model folder has no weights", where=folder, expected="*.safetensors or *.onnx",
                         fix="save the model first")  # fmt: skip
    return sum(file.stat().st_size for file in files)
