"""Hidden states and pre-softmax scores of a running encoder: the same model as with eager attention, padding unseen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, MobileBertConfig, MobileBertModel

from bench.core.errors import ModelError
from bench.models.attention import NAME, layers_of, trace, watch


def encoders() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    bert = BertConfig(vocab_size=50, hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=32,
                      initializer_range=0.3)  # fmt: skip
    distil = DistilBertConfig(vocab_size=50, dim=24, n_layers=3, n_heads=3, hidden_dim=32, initializer_range=0.3)
    mobile = MobileBertConfig(vocab_size=50, num_hidden_layers=3, hidden_size=32, embedding_size=16,
                              intra_bottleneck_size=16, num_attention_heads=2, intermediate_size=32)  # fmt: skip
    return {
        "bert": BertModel(bert).eval(), "distil": DistilBertModel(distil).eval(),
        "mobile": MobileBertModel(mobile).eval(),
    }  # fmt: skip


def batch(width: int = 7, fill: int = 0) -> dict[str, Tensor]:
    """Rows of 7 and 4 tokens, padded to `width` with the token `fill`."""
    ids = torch.full((2, width), fill)
    ids[0, :7] = torch.arange(10, 17)
    ids[1, :4] = torch.arange(20, 24)
    real = torch.arange(width)[None, :] < torch.tensor([[7], [4]])
    return {"input_ids": ids, "attention_mask": real.long(), "token_type_ids": torch.zeros_like(ids)}


@pytest.mark.parametrize("name", ["bert", "distil", "mobile"])
def test_states_and_scores_are_those_of_eager_attention(name: str) -> None:
    model: Any = encoders()[name]
    found = trace(model, batch(), range(4))
    assert model.config._attn_implementation != NAME, "the model is left as it was"
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    given = batch()
    if name == "distil":
        del given["token_type_ids"]
    with torch.no_grad():
        out = eager(**given, output_hidden_states=True, output_attentions=True)
    assert len(found.hidden) == len(out.hidden_states) == 4 and len(found.attended) == len(out.attentions) == 3
    real = given["attention_mask"].bool()
    for layer, state in enumerate(out.hidden_states):
        torch.testing.assert_close(found.hidden[layer][real], state[real], rtol=1e-4, atol=1e-4)
    for layer, probabilities in enumerate(out.attentions, 1):
        scores = found.attended[layer].scores()
        assert scores.shape == probabilities.shape
        torch.testing.assert_close(torch.softmax(scores, -1), probabilities, rtol=1e-4, atol=1e-4)
        assert (torch.softmax(scores, -1)[1, :, :, 4:] == 0).all(), "padding is not attended"


def test_padding_changes_nothing() -> None:
    model = encoders()["bert"]
    narrow, wide = trace(model, batch(7), (3,)), trace(model, batch(12, fill=33), (3,))
    torch.testing.assert_close(narrow.hidden[3][0], wide.hidden[3][0, :7], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(narrow.hidden[3][1, :4], wide.hidden[3][1, :4], rtol=1e-4, atol=1e-5)
    scores = wide.attended[3].scores()
    assert (scores[..., 7:] == torch.finfo(torch.float32).min).all() and scores[0, ..., :7].abs().max() < 1e3


def test_layers_are_seen_in_order_and_only_those_asked_for() -> None:
    seen: list[tuple[int, bool]] = []
    watch(encoders()["bert"], batch(), (3, 0, 1), lambda n, hidden, attended: seen.append((n, attended is not None)))
    assert seen == [(0, False), (1, True), (3, True)]


def test_a_model_without_known_layers_and_a_layer_too_many_are_refused() -> None:
    with pytest.raises(ModelError, match="no list of layers"):
        layers_of(nn.Linear(2, 2))
    with pytest.raises(AssertionError, match="of 3 layers"):
        trace(encoders()["bert"], batch(), (4,))


def test_attention_that_does_not_report_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = encoders()["bert"]
    monkeypatch.setattr("bench.models.attention.NAME", "sdpa")
    with pytest.raises(AssertionError, match="another attention function"):
        trace(model, batch(), (1,))
    assert not layers_of(model)[0]._forward_hooks, "no hook is left behind"
