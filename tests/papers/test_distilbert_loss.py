"""DistilBERT's triple loss, each term against a plain computation from whole logits, and where its gradients go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertForMaskedLM, DistilBertForMaskedLM

from bench.data.batches import Encoded
from bench.data.masking import IGNORED
from bench.models.outputs import frozen
from papers.distilbert.losses import cosine
from papers.distilbert.positions import Attended, smoothed
from papers.distilbert.recipe import Distillation, triple_loss
from papers.distilbert.student import copy_layers

Batch = dict[str, Tensor]
Pair = Callable[..., tuple[DistilBertForMaskedLM, BertForMaskedLM]]


def masked_batch(width: int = 7) -> Batch:
    """Rows of 7 and 4 tokens, padded to `width`; three masked positions; the teacher sees two segments."""
    ids = torch.full((2, width), 0)
    ids[0, :7] = torch.tensor([2, 10, 4, 12, 4, 14, 3])
    ids[1, :4] = torch.tensor([2, 20, 4, 3])
    labels = torch.full((2, width), IGNORED)
    labels[0, 2], labels[0, 4], labels[1, 2] = 11, 13, 21
    segments = torch.zeros_like(ids)
    segments[0, 4:7] = 1
    real = torch.arange(width)[None, :] < torch.tensor([[7], [4]])
    return {"input_ids": ids, "attention_mask": real.long(), "token_type_ids": segments, "labels": labels}


def whole(student: nn.Module, teacher: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits and last hidden states of both models by their own forward, nothing taken apart."""
    shared = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    ours = student(**shared, output_hidden_states=True)
    with torch.no_grad():
        theirs = teacher(**shared, token_type_ids=batch["token_type_ids"], output_hidden_states=True)
    return ours.logits, ours.hidden_states[-1], theirs.logits, theirs.hidden_states[-1]


def test_cosine_by_hand() -> None:
    student = torch.tensor([[3.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [0.0, 5.0]])
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [4.0, 0.0], [7.0, 0.0]])
    by_hand = ((1 - 1) + (1 - 0.5**0.5) + (1 + 1) + (1 - 0)) / 4
    assert cosine(student, teacher).mean().item() == pytest.approx(by_hand, rel=1e-6)
    assert cosine(student, teacher * 9).mean().item() == pytest.approx(by_hand, rel=1e-6)
    assert cosine(student.bfloat16(), student.bfloat16()).dtype == torch.float32


def distillation(**changes: Any) -> Distillation:
    return Distillation.model_validate(changes)


def by_hand(ours: Tensor, hidden: Tensor, theirs: Tensor, teacher_hidden: Tensor, batch: Batch, where: Tensor) -> Batch:
    """The unweighted terms from whole tensors, position by position, in double precision."""
    real = batch["attention_mask"].bool()
    kl, mlm, cos = [], [], []
    for row, column in batch["input_ids"].ge(0).nonzero().tolist():
        s, t = ours[row, column].double(), theirs[row, column].double()
        label = int(batch["labels"][row, column])
        if where[row, column]:
            p, q = torch.softmax(t / 2.0, -1), torch.softmax(s / 2.0, -1)
            kl.append((p * (p.log() - q.log())).sum())
        if label != IGNORED:
            mlm.append(-torch.softmax(s, -1)[label].log())
        if real[row, column]:
            h, g = hidden[row, column].double(), teacher_hidden[row, column].double()
            cos.append(1 - (h @ g) / (h.norm() * g.norm()))
    assert (len(kl), len(mlm), len(cos)) == (int(where.sum()), 3, 11)
    return {"ce": 4.0 * torch.stack(kl).mean(), "mlm": torch.stack(mlm).mean(), "cos": torch.stack(cos).mean()}


WEIGHTS = {"ce": 5.0, "mlm": 2.0, "cos": 1.0}


@pytest.mark.parametrize("positions", ["attended", "masked"])
def test_each_term_against_whole_logits(pair: Pair, positions: str) -> None:
    student, teacher = pair()
    batch = masked_batch()
    settings = distillation(positions=positions)
    assert (settings.weight_ce, settings.weight_mlm, settings.weight_cos, settings.temperature) == (5.0, 2.0, 1.0, 2.0)
    terms = triple_loss(teacher, settings)(student, batch)
    where = batch["attention_mask"].bool() if positions == "attended" else batch["labels"] != IGNORED
    want = by_hand(*whole(student, teacher, batch), batch, where)
    assert terms.keys() == want.keys()
    for name, value in want.items():
        assert value > 0.05, "a term that is nearly zero would show nothing"
        assert terms[name].item() == pytest.approx(WEIGHTS[name] * value.item(), rel=1e-5)


def test_attended_and_masked_positions_differ(pair: Pair) -> None:
    student, teacher = pair()
    batch = masked_batch()
    values = [
        triple_loss(teacher, distillation(positions=where))(student, batch)["ce"].item()
        for where in ("attended", "masked")
    ]
    assert abs(values[0] - values[1]) > 1e-4


@pytest.mark.parametrize("positions", ["attended", "masked"])
def test_padding_changes_nothing(pair: Pair, positions: str) -> None:
    student, teacher = pair()
    loss = triple_loss(teacher, distillation(positions=positions))
    narrow, wide = loss(student, masked_batch(7)), loss(student, masked_batch(15))
    for name in WEIGHTS:
        assert wide[name].item() == pytest.approx(narrow[name].item(), rel=1e-5)


@pytest.mark.parametrize("off", [("weight_ce",), ("weight_mlm",), ("weight_cos",), ("weight_ce", "weight_cos")])
def test_a_term_of_weight_zero_is_absent_and_the_others_stay(pair: Pair, off: tuple[str, ...]) -> None:
    student, teacher = pair()
    batch = masked_batch()
    full = triple_loss(teacher, distillation())(student, batch)
    some = triple_loss(teacher, distillation(**dict.fromkeys(off, 0.0)))(student, batch)
    assert some.keys() == full.keys() - {name.removeprefix("weight_") for name in off}
    assert all(torch.equal(value, full[name]) for name, value in some.items())


def test_weights_and_temperature_scale_as_they_should(pair: Pair) -> None:
    student, teacher = pair()
    batch = masked_batch()
    changed = {"weight_ce": 1.0, "weight_mlm": 4.0, "weight_cos": 0.5, "temperature": 1.0}
    terms = triple_loss(teacher, distillation(**changed))(student, batch)
    base = triple_loss(teacher, distillation())(student, batch)
    assert terms["mlm"].item() == pytest.approx(2 * base["mlm"].item())
    assert terms["cos"].item() == pytest.approx(0.5 * base["cos"].item())
    ours, _, theirs, _ = whole(student, teacher, batch)
    real = batch["attention_mask"].bool()
    log_q, log_p = F.log_softmax(ours[real], -1), F.log_softmax(theirs[real], -1)
    at_one = F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    assert terms["ce"].item() == pytest.approx(at_one.item(), rel=1e-5)


def test_gradients_reach_the_whole_student_and_never_the_teacher(pair: Pair) -> None:
    student, teacher = pair()
    loss = triple_loss(frozen(teacher.train().requires_grad_(True), torch.device("cpu")), distillation())
    student.train()
    torch.stack(list(loss(student, masked_batch()).values())).sum().backward()
    assert not teacher.training and student.training
    theirs = list(teacher.parameters())
    assert len(theirs) > 40 and all(p.grad is None and not p.requires_grad for p in theirs)
    ours = dict(student.named_parameters())
    assert len(ours) == 4 + 16 * 2 + 1 + 4
    missing = [n for n, p in ours.items() if p.grad is None or not p.grad.any()]
    assert missing == [] or all(name.endswith("k_lin.bias") for name in missing)  # softmax is blind to a key bias


def test_gradients_equal_those_of_the_plain_loss(pair: Pair) -> None:
    student, teacher = pair()
    batch = masked_batch()
    names, parameters = zip(*student.named_parameters(), strict=True)
    terms = triple_loss(teacher, distillation())(student, batch)
    got = torch.autograd.grad(torch.stack(list(terms.values())).sum(), parameters)
    plain = by_hand(*whole(student, teacher, batch), batch, batch["attention_mask"].bool())
    total = torch.stack([WEIGHTS[name] * value for name, value in plain.items()]).sum()
    want = torch.autograd.grad(total, parameters)
    assert len(names) == 41
    for name, a, b in zip(names, got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("positions", ["attended", "masked"])
def test_a_batch_without_a_masked_position_has_a_finite_loss(pair: Pair, positions: str) -> None:
    """A process's share of a batch may hold no masked position at all."""
    student, teacher = pair()
    batch = masked_batch()
    batch["labels"] = torch.full_like(batch["labels"], IGNORED)
    loss = triple_loss(teacher, distillation(positions=positions))
    terms = loss(student, batch)
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    assert terms["mlm"].item() == 0.0 and terms["cos"].item() > 0.05
    assert (terms["ce"].item() == 0.0) is (positions == "masked")
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in student.parameters())


def test_a_student_of_the_working_layers_computes_what_its_teacher_does(pair: Pair) -> None:
    """A teacher whose layers 1 and 3 do nothing: half its layers are the whole of it, so the copy must agree."""
    student, teacher = pair(4)
    with torch.no_grad():
        teacher.bert.embeddings.token_type_embeddings.weight.zero_()
        for module in teacher.modules():  # the normalised stay as they are in a second LayerNorm
            if isinstance(module, nn.LayerNorm):
                module.weight.fill_(1.0)
                module.bias.zero_()
        for idle in (1, 3):
            for name in ("attention.output.dense", "output.dense"):
                dense = teacher.bert.encoder.layer[idle].get_submodule(name)
                for parameter in dense.parameters():
                    parameter.zero_()
    batch = masked_batch()
    apart = triple_loss(teacher, distillation())(student, batch)
    assert apart["ce"] > 0.1 and apart["cos"] > 0.1
    copy_layers(student, teacher)
    ours, hidden, theirs, teacher_hidden = whole(student, teacher, batch)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(hidden[real], teacher_hidden[real], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours[real], theirs[real], rtol=1e-4, atol=1e-4)
    together = triple_loss(teacher, distillation())(student, batch)
    assert abs(together["ce"].item()) < 1e-5 and abs(together["cos"].item()) < 1e-5


def test_a_share_of_the_positions_is_drawn_by_step_and_its_mean_is_that_of_all(pair: Pair) -> None:
    student, teacher = pair()
    batch, settings = masked_batch(), distillation(ce_share=0.3)
    assert "ce_share" not in distillation().model_dump() and settings.budget()["ce_share"] == 0.3
    loss = triple_loss(teacher, settings)
    want = triple_loss(teacher, distillation())(student, batch)
    values, counts = [], torch.zeros(14)
    with torch.no_grad():
        for place in range(300):
            drawn = Attended(0.3)(batch, np.random.default_rng([0, 0, 1, place]))
            assert len(drawn["drawn_at"]) == 4 and len(drawn["attended_at"]) == 11  # a third of eleven, rounded up
            counts[drawn["drawn_at"]] += 1
            terms = loss(student, drawn)
            assert terms["cos"].item() == pytest.approx(want["cos"].item(), rel=1e-5), "the others take all"
            values.append(terms["ce"].item())
    again = Attended(0.3)(batch, np.random.default_rng([0, 0, 1, 299]))
    assert torch.equal(again["drawn_at"], drawn["drawn_at"]), "a function of seed, epoch and place"
    assert np.mean(values) == pytest.approx(want["ce"].item(), abs=4 * np.std(values) / len(values) ** 0.5)
    assert int((counts > 0).sum()) == 11 and int(counts[counts > 0].min()) > 60


def test_a_share_of_the_masked_positions() -> None:
    batch = masked_batch() | {"masked_at": torch.tensor([2, 4, 9])}
    drawn = Attended(0.5, masked=True)(batch, np.random.default_rng(0))["drawn_at"]
    assert len(drawn) == 2 and set(drawn.tolist()) <= {2, 4, 9}


def test_smoothing_prefers_rare_tokens() -> None:
    data = Encoded.from_lists([[5] * 1000 + [6] * 10], [[0] * 1010], np.empty(0))
    weights = smoothed(data, 8, {0})
    assert weights[0] == 0 and weights[6] / weights[5] == pytest.approx(100**0.7)
    assert weights[7] == 1.0
