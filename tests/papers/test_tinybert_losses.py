"""TinyBERT's losses: values worked by hand, the fused forms against plain ones, and where gradients go."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification, BertModel

from bench.core.errors import SpecError
from bench.models.attention import Attended, trace
from bench.models.outputs import frozen
from papers.tinybert import losses
from papers.tinybert.layers import layer_loss
from papers.tinybert.settings import Layers
from papers.tinybert.student import TinyBertForDistillation, mapped, student_config, with_projections

WORDS = 40


def attended(query: list, key: list, keep: Tensor | None = None, scaling: float = 1.0) -> Attended:
    """One example and one head: `query` and `key` are [L, D]."""
    return Attended(torch.tensor([[query]]), torch.tensor([[key]]), keep, scaling)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    ids = torch.randint(5, WORDS, (3, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def bert(layers: int = 4, hidden: int = 24) -> BertConfig:
    return BertConfig(vocab_size=WORDS, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=3,
                      intermediate_size=32, max_position_embeddings=16, initializer_range=0.3)  # fmt: skip


@pytest.fixture
def models() -> Callable[..., tuple[TinyBertForDistillation, BertModel]]:
    """A student of 2 narrow layers and a teacher of 4, both in eval mode; scores differ by whole units."""

    def make(projections: int = 2, bias: bool = False) -> tuple[TinyBertForDistillation, BertModel]:
        torch.manual_seed(0)
        teacher = BertModel(bert()).eval()
        student = with_projections(bert(2, 12), 24, projections, bias).eval()
        return student, teacher

    return make


# Values


def test_attention_by_hand() -> None:
    student = attended([[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [3.0, 0.0]])  # scores [[1, 3], [2, 0]]
    teacher = attended([[2.0], [4.0]], [[1.0], [2.0]], scaling=0.5)  # scores [[1, 2], [2, 4]]
    assert losses.attention(student, teacher).item() == pytest.approx((0 + 1 + 0 + 16) / 4)
    keep = torch.tensor([[[[True, False]]]])  # the second key is padding: counts as 0, stays in the denominator
    masked = attended([[1.0, 0.0], [0.0, 2.0]], [[2.0, 1.0], [3.0, 0.0]], keep)  # [[2, -], [2, -]]
    assert losses.attention(masked, teacher).item() == pytest.approx((1 + 0 + 0 + 0) / 4)
    assert losses.attention(student, student).item() == 0.0


def test_hidden_by_hand() -> None:
    projection = nn.Linear(1, 2)
    with torch.no_grad():
        projection.weight.copy_(torch.tensor([[1.0], [2.0]]))
        projection.bias.copy_(torch.tensor([0.0, 1.0]))
    student, teacher = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 5.0]]])
    assert losses.hidden(student, teacher, projection).item() == pytest.approx((0 + 9 + 4 + 0) / 4)


def test_soft_labels_by_hand() -> None:
    student, batch = torch.tensor([[0.0, math.log(3.0)]]), {"teacher_logits": torch.tensor([[math.log(4.0), 0.0]])}
    by_hand = -(0.8 * math.log(0.25) + 0.2 * math.log(0.75))

    def value(scores: Tensor, temperature: float, mean_over_classes: bool = False) -> float:
        return losses.prediction(scores, batch, regression=False, target="teacher", temperature=temperature,
                                 mean_over_classes=mean_over_classes).item()  # fmt: skip

    assert value(student, 1.0) == pytest.approx(by_hand)
    assert value(student, 1.0, True) == pytest.approx(by_hand / 2)
    batch["teacher_logits"] *= 2
    assert value(2 * student, 2.0) == pytest.approx(by_hand), "no factor T^2"


@pytest.mark.parametrize(("target", "value"), [("teacher", (4 + 0) / 2), ("gold", (0 + 1) / 2)])
def test_a_score_is_regressed_on_the_teachers_or_on_gold(target: str, value: float) -> None:
    batch = {"teacher_logits": torch.tensor([[3.0], [2.0]]), "labels": torch.tensor([1.0, 3.0])}
    found = losses.prediction(torch.tensor([[1.0], [2.0]]), batch, regression=True, target=target, temperature=1.0,
                              mean_over_classes=False)  # fmt: skip
    assert found.item() == pytest.approx(value)


# Fused against plain


def attention_plain(student: Attended, teacher: Attended) -> Tensor:
    """`losses.attention` from whole score matrices [B, A, L, L]; without what is masked."""

    def finite(side: Attended) -> Tensor:
        scores = side.scores()
        return scores if side.keep is None else torch.where(side.keep, scores, torch.zeros_like(scores))

    return F.mse_loss(finite(student), finite(teacher))


def hidden_plain(student: Tensor, teacher: Tensor, projection: nn.Linear) -> Tensor:
    """`losses.hidden` by plain operations."""
    return F.mse_loss(projection(student).float(), teacher.float())


@pytest.mark.parametrize("chunk", [1, 2**20])
def test_fused_attention_is_the_plain_one(
    models: Callable, batch: dict[str, Tensor], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(losses.CHUNK, "cpu", chunk)
    found = []
    for loss in (losses.attention, attention_plain):
        student, teacher = models()
        with torch.no_grad():
            theirs = trace(teacher, batch, (4,)).attended[4]
        value = 3.0 * loss(trace(student, batch, (2,)).attended[2], theirs)
        value.backward()
        found.append([value.detach(), *(p.grad for p in student.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) > 10 and found[0][0] > 0.01
    for fused, plain in zip(*found, strict=True):
        assert torch.isfinite(fused).all()
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_fused_hidden_is_the_plain_one(models: Callable, batch: dict[str, Tensor], bias: bool) -> None:
    found = []
    for loss in (losses.hidden, hidden_plain):
        student, teacher = models(bias=bias)
        with torch.no_grad():
            theirs = trace(teacher, batch, (4,)).hidden[4]
        value = 3.0 * loss(trace(student, batch, (2,)).hidden[2], theirs, student.projected_by(2))
        value.backward()
        found.append([value.detach(), *(p.grad for p in student.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) > 10
    for fused, plain in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-6)


def test_fused_losses_under_bf16_stay_close(models: Callable, batch: dict[str, Tensor]) -> None:
    student, teacher = models()
    loss = layer_loss(teacher, Layers(), (2, 4))
    full = loss(student, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = loss(student, batch)
    for name, value in full.items():
        assert low[name].item() == pytest.approx(value.item(), rel=0.05)
    sum(low.values()).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())


# The sum over layers


def test_the_layer_loss_is_the_sum_of_its_terms(models: Callable, batch: dict[str, Tensor]) -> None:
    student, teacher = models()
    terms = layer_loss(teacher, Layers(attention=2.0), (2, 4))(student, batch)
    with torch.no_grad():
        ours, theirs = trace(student, batch, (0, 1, 2)), trace(teacher, batch, (0, 2, 4))
        want = {
            "embedding": hidden_plain(ours.hidden[0], theirs.hidden[0], student.projected_by(0)),
            "attention": 2.0 * sum(attention_plain(ours.attended[m], theirs.attended[2 * m]) for m in (1, 2)),
            "hidden": sum(hidden_plain(ours.hidden[m], theirs.hidden[2 * m], student.projected_by(m)) for m in (1, 2)),
        }
    assert terms.keys() == want.keys()
    for name, value in want.items():
        assert terms[name].item() == pytest.approx(float(value), rel=1e-4)


@pytest.mark.parametrize(
    ("off", "left"),
    [
        (("attention",), {"hidden", "embedding"}), (("hidden",), {"attention", "embedding"}),
        (("embedding",), {"attention", "hidden"}), (("attention", "hidden"), {"embedding"}),
    ],
)  # fmt: skip
def test_a_term_of_weight_zero_is_absent_and_the_others_stay(
    models: Callable, batch: dict[str, Tensor], off: tuple[str, ...], left: set[str]
) -> None:
    student, teacher = models()
    full = layer_loss(teacher, Layers(), (2, 4))(student, batch)
    some = layer_loss(teacher, Layers().model_copy(update=dict.fromkeys(off, 0.0)), (2, 4))(student, batch)
    assert some.keys() == left
    assert all(torch.equal(value, full[name]) for name, value in some.items())


def test_nothing_to_copy_is_refused(models: Callable) -> None:
    with pytest.raises(SpecError, match="nothing to copy"):
        layer_loss(models()[1], Layers(attention=0, hidden=0, embedding=0), (2, 4))


def gradients(term: Tensor, student: nn.Module) -> set[str]:
    student.zero_grad()
    term.backward(retain_graph=True)
    return {name for name, p in student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


@pytest.mark.parametrize("projections", [1, 2])
def test_gradients_go_where_they_should(models: Callable, batch: dict[str, Tensor], projections: int) -> None:
    student, teacher = models(projections)
    terms = layer_loss(frozen(teacher, torch.device("cpu")), Layers(), (2, 4))(student, batch)
    embedding = gradients(terms["embedding"], student)
    assert "projections.0.weight" in embedding and "bert.embeddings.word_embeddings.weight" in embedding
    assert not [name for name in embedding if ".layer." in name or name == "projections.1.weight"]
    attention = gradients(terms["attention"], student)
    assert not [name for name in attention if "projections" in name]
    last = "bert.encoder.layer.1."
    assert {name for name in attention if name.startswith(last)} <= {
        f"{last}attention.self.{side}.{kind}" for side in ("query", "key") for kind in ("weight", "bias")
    }
    hidden = gradients(terms["hidden"], student)
    assert f"projections.{projections - 1}.weight" in hidden and f"{last}output.dense.weight" in hidden
    assert ("projections.0.weight" in hidden) is (projections == 1)
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


@pytest.mark.parametrize("active", [False, True])
def test_the_teachers_dropout_is_off_unless_asked_for(models: Callable, batch: dict[str, Tensor], active: bool) -> None:
    student, teacher = models()
    loss = layer_loss(teacher, Layers(teacher_dropout=active), (2, 4))
    assert teacher.training is active
    torch.manual_seed(0)
    first, second = (sum(loss(student, batch).values()).item() for _ in range(2))
    assert (first != second) is active


def test_which_layers_are_copied() -> None:
    assert mapped(4, 12, "uniform") == (3, 6, 9, 12) and mapped(6, 12, "uniform") == (2, 4, 6, 8, 10, 12)
    assert mapped(4, 12, "top") == (9, 10, 11, 12) and mapped(4, 12, "bottom") == (1, 2, 3, 4)


def test_a_classifier_teaches_its_encoder(batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    teacher = BertForSequenceClassification(bert())
    student = with_projections(student_config(teacher.config, 2, 312, 1200), 24, 2, False)
    assert set(layer_loss(teacher, Layers(), (2, 4))(student, batch)) == {"attention", "hidden", "embedding"}
