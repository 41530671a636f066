"""MobileBERT's weights in 8 bits: rounding by hand, and a model that is saved small and answers nearly alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.models import load, size
from bench.models.export import as_transformers
from bench.models.outputs import forward
from papers.mobilebert.heads import MobileBertClassifier, MobileBertForSpans
from papers.mobilebert.quantize import Rounded, quantised, rounded
from papers.mobilebert.student import Architecture

TINY = Architecture(vocab_size=300, max_position_embeddings=32, embedding_size=16, num_hidden_layers=2, hidden_size=64,
                    intra_bottleneck_size=16, intermediate_size=64, initializer_range=0.2, num_labels=3)  # fmt: skip


def batch() -> dict[str, torch.Tensor]:
    ids = torch.arange(3 * 9).reshape(3, 9) % 299 + 1
    mask = (torch.arange(9) < torch.tensor([[9], [4], [6]])).long()
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def test_rounding_by_hand() -> None:
    codes, step = rounded(torch.tensor([[1.27, -0.634, 0.006], [0.0, 0.0, 0.0], [-2.54, 2.54, 0.01]]))
    assert codes.dtype is torch.int8
    assert codes.tolist() == [[127, -63, 1], [0, 0, 0], [-127, 127, 0]]  # -63.4, 0.6; 0.5 goes to the even 0
    assert step.min() >= torch.finfo(torch.float32).tiny, "no number so small that a processor may take it for 0"
    torch.testing.assert_close(step[[0, 2], 0], torch.tensor([0.01, 0.02]))


def test_no_weight_moves_by_more_than_half_a_step() -> None:
    torch.manual_seed(0)
    weight = torch.randn(50, 40) * torch.logspace(-6, 3, 50)[:, None]
    codes, step = rounded(weight)
    assert ((codes * step - weight).abs() <= 0.5001 * step).all() and codes.abs().amax(1).eq(127).all()


def test_it_stays_in_our_class_when_exported() -> None:
    inside = replace(TINY, attention_input="bottleneck")
    assert as_transformers(quantised(MobileBertClassifier(inside))) is None
    assert as_transformers(MobileBertClassifier(inside)) is not None


@pytest.mark.parametrize("kind", [MobileBertClassifier, MobileBertForSpans])
@torch.no_grad()
def test_a_model_in_8_bits(kind: type[MobileBertClassifier | MobileBertForSpans], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = kind(TINY).eval()
    small = quantised(model)
    plain, less = (forward(one, batch()).logits for one in (model, small))
    assert 0 < (plain - less).abs().max() < 0.05 * plain.abs().max()
    for count in (size.parameters, size.parameters_without_embeddings):
        assert count(model) == count(small) > 1000
    kept = sum(isinstance(module, Rounded) for module in small.modules())
    matrices = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Embedding)]
    assert kept == len(matrices) > 30
    load.save(model, tmp_path / "plain")
    load.save(small, tmp_path / "small")
    assert size.folder_bytes(tmp_path / "small") < 0.45 * size.folder_bytes(tmp_path / "plain")
    again = load.load_saved(tmp_path / "small")
    assert type(again) is type(small) and torch.equal(forward(again.eval(), batch()).logits, less)
