"""DistilBERT: the student's shape and start, the triple loss term by term, and what each variant switches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertModel,
)

from bench.core.errors import ModelError
from bench.data.masking import IGNORED
from bench.data.tasks import get_task
from bench.models.outputs import forward
from bench.train.mlm import HeadTraining, with_lm_head
from bench.train.recipe import State, TeacherFacts
from bench.train.tuning import classifier_config
from papers.distilbert import recipe
from papers.distilbert.losses import cosine
from papers.distilbert.recipe import RECIPE, Distillation, Hyper, hyper, triple_loss
from papers.distilbert.student import config, copy_layers, teacher_layers

VOCABULARY = 60
SCALES = ("smoke", "small", "full")
Batch = dict[str, Tensor]


def teacher_config(layers: int = 4) -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY, num_hidden_layers=layers, hidden_size=16, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip


def scatter(model: nn.Module, seed: int) -> None:
    """Give every parameter its own random values, LayerNorms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def pair(layers: int = 4) -> tuple[DistilBertForMaskedLM, BertForMaskedLM]:
    """A student and a teacher with nothing in common; the student in eval mode, so that no dropout falls."""
    teacher = BertForMaskedLM(teacher_config(layers))
    student = DistilBertForMaskedLM(config(teacher.config))
    scatter(teacher, 1)
    scatter(student, 2)
    return student.eval(), teacher.eval()


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


# The student


def on_meta(build: Callable[[], nn.Module]) -> int:
    """Parameters, tied ones once, without allocating them."""
    with torch.device("meta"):
        return sum(p.numel() for p in build().parameters())


def test_parameter_counts_are_the_papers() -> None:
    published = config(BertConfig())
    assert on_meta(lambda: DistilBertModel(published)) == 66_362_880
    assert on_meta(lambda: DistilBertForMaskedLM(published)) == 66_985_530
    two_way: Any = classifier_config(published, get_task("sst2"))
    assert on_meta(lambda: DistilBertForSequenceClassification(two_way)) == 66_955_010
    assert 1 - 66_362_880 / on_meta(lambda: BertModel(BertConfig())) == pytest.approx(0.40, abs=0.01)


def test_the_published_config() -> None:
    published = config(BertConfig())
    assert (published.n_layers, published.dim, published.n_heads, published.hidden_dim) == (6, 768, 12, 3072)
    assert (published.vocab_size, published.max_position_embeddings, published.activation) == (30522, 512, "gelu")
    assert (published.dropout, published.attention_dropout, published.seq_classif_dropout) == (0.1, 0.1, 0.2)
    assert published.pad_token_id == 0 and published.tie_word_embeddings
    assert classifier_config(published, get_task("mnli")).seq_classif_dropout == 0.2


@pytest.mark.parametrize(
    ("layers", "taken"),
    [(12, (0, 2, 4, 7, 9, 11)), (6, (0, 2, 4)), (4, (0, 2)), (2, (0,)), (24, tuple(range(0, 24, 2)))],
)
def test_which_teacher_layers_are_taken(layers: int, taken: tuple[int, ...]) -> None:
    assert teacher_layers(layers) == taken
    assert config(teacher_config(layers)).n_layers == len(taken) == layers // 2


@pytest.mark.parametrize("layers", [0, 1, 3, 5, 11, -2])
def test_layers_that_cannot_be_halved_are_refused(layers: int) -> None:
    with pytest.raises(ModelError) as error:
        teacher_layers(layers)
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in (f"found {layers} layers", "expected an even number", "next:"))


def test_the_student_has_no_token_types_and_no_pooler() -> None:
    student, _ = pair()
    names = [name for name, _ in student.named_modules()]
    assert len(names) > 20 and not [name for name in names if "token_type" in name or "pooler" in name]


def test_hidden_shapes() -> None:
    student, teacher = pair(layers=6)
    batch = masked_batch()
    ours, theirs = forward(student, batch, hidden=True), forward(teacher, batch, hidden=True)
    assert len(ours.hidden) == 3 + 1 and len(theirs.hidden) == 6 + 1
    assert {state.shape for state in (*ours.hidden, *theirs.hidden)} == {(2, 7, 16)}
    assert ours.logits.shape == theirs.logits.shape == (2, 7, VOCABULARY)


# Its start

EMBEDDINGS = ("word_embeddings.weight", "position_embeddings.weight", "LayerNorm.weight", "LayerNorm.bias")
LAYER = (
    ("attention.self.query", "attention.q_lin"), ("attention.self.key", "attention.k_lin"),
    ("attention.self.value", "attention.v_lin"), ("attention.output.dense", "attention.out_lin"),
    ("attention.output.LayerNorm", "sa_layer_norm"), ("intermediate.dense", "ffn.lin1"),
    ("output.dense", "ffn.lin2"), ("output.LayerNorm", "output_layer_norm"),
)  # fmt: skip
TRANSFORM = (("transform.dense", "vocab_transform"), ("transform.LayerNorm", "vocab_layer_norm"))


@pytest.mark.parametrize("layers", [4, 6, 12])
@pytest.mark.parametrize("copy_transform", [True, False])
def test_every_mapped_tensor_is_copied_and_nothing_else(layers: int, copy_transform: bool) -> None:
    student, teacher = pair(layers)
    untouched = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    source = teacher.state_dict()
    before = {name: tensor.clone() for name, tensor in source.items()}
    copy_layers(student, teacher, copy_transform)
    want = {f"distilbert.embeddings.{name}": source[f"bert.embeddings.{name}"] for name in EMBEDDINGS}
    for layer, taken in enumerate(teacher_layers(layers)):
        for theirs, ours in LAYER:
            for kind in ("weight", "bias"):
                want[f"distilbert.transformer.layer.{layer}.{ours}.{kind}"] = source[
                    f"bert.encoder.layer.{taken}.{theirs}.{kind}"
                ]
    want["vocab_projector.weight"] = source["bert.embeddings.word_embeddings.weight"]
    want["vocab_projector.bias"] = source["cls.predictions.bias"]
    for theirs, ours in TRANSFORM:
        for kind in ("weight", "bias"):
            kept = untouched[f"{ours}.{kind}"]
            want[f"{ours}.{kind}"] = source[f"cls.predictions.{theirs}.{kind}"] if copy_transform else kept
    got = student.state_dict()
    assert want.keys() == got.keys() and len(want) == 4 + 16 * (layers // 2) + 2 + 4
    assert not [name for name in want if not torch.equal(got[name], want[name])]
    assert not [name for name in before if not torch.equal(source[name], before[name])], "the teacher changed"
    changed = [name for name in want if not torch.equal(got[name], untouched[name])]
    assert len(changed) == len(want) - (0 if copy_transform else 4)


def test_the_student_shares_no_memory_with_the_teacher_and_stays_tied() -> None:
    student, teacher = pair()
    copy_layers(student, teacher)
    held = {p.data_ptr() for p in teacher.parameters()}
    assert len(held) > 40 and not held & {p.data_ptr() for p in student.parameters()}
    assert student.vocab_projector.weight is student.distilbert.embeddings.word_embeddings.weight


def test_a_student_of_the_working_layers_computes_what_its_teacher_does() -> None:
    """A teacher whose layers 1 and 3 do nothing: half its layers are the whole of it, so the copy must agree."""
    teacher = BertForMaskedLM(teacher_config(4)).eval()
    scatter(teacher, 3)
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
    student = DistilBertForMaskedLM(config(teacher.config)).eval()
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


# The triple loss


def test_cosine_by_hand() -> None:
    student = torch.tensor([[3.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [0.0, 5.0]])
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [4.0, 0.0], [7.0, 0.0]])
    by_hand = ((1 - 1) + (1 - 0.5**0.5) + (1 + 1) + (1 - 0)) / 4
    assert cosine(student, teacher).item() == pytest.approx(by_hand, rel=1e-6)
    assert cosine(student, teacher * 9).item() == pytest.approx(by_hand, rel=1e-6)
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
def test_each_term_against_whole_logits(positions: str) -> None:
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


def test_attended_and_masked_positions_differ() -> None:
    student, teacher = pair()
    batch = masked_batch()
    values = [
        triple_loss(teacher, distillation(positions=where))(student, batch)["ce"].item()
        for where in ("attended", "masked")
    ]
    assert abs(values[0] - values[1]) > 1e-4


@pytest.mark.parametrize("positions", ["attended", "masked"])
def test_padding_changes_nothing(positions: str) -> None:
    student, teacher = pair()
    loss = triple_loss(teacher, distillation(positions=positions))
    narrow, wide = loss(student, masked_batch(7)), loss(student, masked_batch(15))
    for name in WEIGHTS:
        assert wide[name].item() == pytest.approx(narrow[name].item(), rel=1e-5)


@pytest.mark.parametrize("off", [("weight_ce",), ("weight_mlm",), ("weight_cos",), ("weight_ce", "weight_cos")])
def test_a_term_of_weight_zero_is_absent_and_the_others_stay(off: tuple[str, ...]) -> None:
    student, teacher = pair()
    batch = masked_batch()
    full = triple_loss(teacher, distillation())(student, batch)
    some = triple_loss(teacher, distillation(**dict.fromkeys(off, 0.0)))(student, batch)
    assert some.keys() == full.keys() - {name.removeprefix("weight_") for name in off}
    assert all(torch.equal(value, full[name]) for name, value in some.items())


def test_weights_and_temperature_scale_as_they_should() -> None:
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


def test_gradients_reach_the_whole_student_and_never_the_teacher() -> None:
    student, teacher = pair()
    teacher.train().requires_grad_(True)
    loss = triple_loss(teacher, distillation())
    student.train()
    torch.stack(list(loss(student, masked_batch()).values())).sum().backward()
    assert not teacher.training and student.training
    theirs = list(teacher.parameters())
    assert len(theirs) > 40 and all(p.grad is None and not p.requires_grad for p in theirs)
    ours = dict(student.named_parameters())
    assert len(ours) == 4 + 16 * 2 + 1 + 4
    missing = [n for n, p in ours.items() if p.grad is None or not p.grad.any()]
    assert missing == [] or all(name.endswith("k_lin.bias") for name in missing)  # softmax is blind to a key bias


def test_gradients_equal_those_of_the_plain_loss() -> None:
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
def test_a_batch_without_a_masked_position_has_a_finite_loss(positions: str) -> None:
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


# Variants and hyper-parameters


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in content.items():
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


SWITCHES: dict[str, dict[str, Any]] = {
    "distilbert": {},
    "distilbert-no-ce": {"general.weight_ce": 0.0},
    "distilbert-no-cos": {"general.weight_cos": 0.0},
    "distilbert-no-mlm": {"general.weight_mlm": 0.0},
    "distilbert-random-init": {"initialisation": "random"},
    "distilbert-released": {},
}
TEACHERS = [None, TeacherFacts(layers=12, hidden=768, heads=12, vocabulary=30522)]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("variant", SWITCHES)
@pytest.mark.parametrize("teacher", TEACHERS, ids=["own teacher", "given teacher"])
def test_a_variant_differs_in_its_own_switch_only(variant: str, scale: str, teacher: TeacherFacts | None) -> None:
    assert RECIPE.variants.keys() == SWITCHES.keys() and RECIPE.main_variant == "distilbert"
    seen = 0
    for task in RECIPE.tasks:
        main, other = hyper("distilbert", task, scale, teacher), hyper(variant, task, scale, teacher)
        ours, theirs = flat(main.model_dump()), flat(other.model_dump())
        assert {name: theirs[name] for name in ours if ours[name] != theirs[name]} == SWITCHES[variant]
        assert ours.keys() == theirs.keys() and main.budget() == other.budget()
        seen += 1
    assert seen == 10


def test_full_scale_is_the_official_command() -> None:
    full = hyper("distilbert", "sst2", "full", None)
    general, training = full.general, full.general.training
    assert (general.weight_ce, general.weight_mlm, general.weight_cos, general.temperature) == (5.0, 2.0, 1.0, 2.0)
    assert (general.positions, general.mask_probability, general.smoothing) == ("attended", 0.15, 0.7)
    assert (general.max_length, general.min_length, training.epochs) == (512, 12, 3)
    assert (training.batch_size, training.batch_tokens, training.accumulation) == (5, None, 50)
    assert (training.lr, training.betas, training.eps, training.weight_decay) == (5e-4, (0.9, 0.98), 1e-6, 0.0)
    assert (training.warmup, training.schedule, training.clip) == (0.05, "linear", 5.0)
    assert full.copy_transform and full.initialisation == "teacher"
    tune = full.fine_tune
    assert (full.max_length, tune.epochs, tune.batch_size, tune.lr, tune.warmup) == (128, 3, 32, 5e-5, 0.1)
    assert full == Hyper.model_validate({})
    assert hyper("distilbert", "imdb", "full", None).max_length == 256


def test_smaller_scales_are_smaller_everywhere() -> None:
    budgets = [hyper("distilbert", "rte", scale, None).budget() for scale in SCALES]
    assert len(budgets[0]) == 5 and budgets[0].keys() == budgets[1].keys() == budgets[2].keys()
    smoke, small, full = (b["general.corpus_tokens"] * b["general.training.epochs"] for b in budgets)
    assert full == 9_900_000_000 and 0 < 1000 * max(smoke, small) < full, "small is a declared fraction of the paper's"


@pytest.mark.parametrize("variant", SWITCHES)
@pytest.mark.parametrize("teacher", TEACHERS, ids=["own teacher", "given teacher"])
def test_stages(variant: str, teacher: TeacherFacts | None) -> None:
    stages = RECIPE.stages(variant, teacher)
    names = [stage.name for stage in stages]
    used = [name for stage in stages for name in stage.uses]
    assert len(used) == len(set(used)) and set(used) <= set(Hyper.model_fields)
    if variant == "distilbert-released":
        assert names == ["load_released", "fine_tune"]
        assert set(used) == {"released", "max_length", "fine_tune"} and not [s for s in stages if s.teacher]
        assert RECIPE.checkpoints == {"distilbert-released": "released"}
    else:
        assert names == ["prepare_teacher", "initialise_student", "distil_general", "fine_tune"]
        assert set(used) == set(Hyper.model_fields) - {"released"}, "a field that no stage uses does nothing"
        assert [stage.teacher for stage in stages] == ["pretrained", None, None, None]
        assert [stage.needs for stage in stages] == ["corpus", None, "corpus", "task"]
    assert [stage.task_free for stage in stages] == [True] * (len(stages) - 1) + [False]


# Stages on a tiny teacher


def head_settings() -> HeadTraining:
    training = {"epochs": 3, "batch_size": 8, "lr": 3e-3, "weight_decay": 0.0, "precision": "fp32"}
    return HeadTraining.model_validate({"corpus_tokens": 500, "max_length": 16, "training": training})


def test_only_the_head_is_trained(context: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    encoder = BertModel(teacher_config())
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    ctx = context()
    torch.manual_seed(1)
    model = with_lm_head(encoder, head_settings(), ctx)
    assert isinstance(model, BertForMaskedLM) and ctx.asked == [("corpus", 500, 16, 1)] and len(ctx.fitted) == 1
    kept = model.bert.state_dict()
    assert kept.keys() == {name for name in before if not name.startswith("pooler.")} and len(kept) == 5 + 16 * 4
    assert all(torch.equal(tensor, before[name]) for name, tensor in kept.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    head = model.cls.predictions
    assert head.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert head.decoder.bias is head.bias
    trained = ctx.fitted[0][0]
    assert {name for name, p in trained.named_parameters() if p.requires_grad} == {
        "predictions.bias", "predictions.transform.dense.weight", "predictions.transform.dense.bias",
        "predictions.transform.LayerNorm.weight", "predictions.transform.LayerNorm.bias",
    }  # fmt: skip
    torch.manual_seed(1)
    fresh = BertForMaskedLM(encoder.config).cls.predictions.state_dict()
    moved = [name for name, tensor in head.state_dict().items() if not torch.equal(tensor, fresh[name])]
    assert {"bias", "transform.dense.weight", "transform.LayerNorm.weight"} <= set(moved)
    assert ctx.logs[0].last_loss < ctx.logs[0].first_loss


def test_a_teacher_with_a_head_is_left_as_it_is(context: Callable[..., Any]) -> None:
    _, teacher = pair()
    ctx = context(given=teacher)
    assert with_lm_head(teacher, head_settings(), ctx) is teacher
    assert recipe.prepare_teacher(State(), Hyper.model_validate({}), ctx).models["teacher"] is teacher
    assert not ctx.asked and not ctx.fitted


def tiny_hyper(**changes: Any) -> Hyper:
    training = head_settings().training.model_copy(update={"lr": 1e-3})
    general = distillation(corpus_tokens=700, max_length=16, min_length=2, training=training)
    tune = head_settings().training.model_copy(update={"epochs": 1})
    update = {"head": head_settings(), "general": general, "fine_tune": tune, "max_length": 16}
    return Hyper.model_validate({}).model_copy(update=update | changes)


@pytest.mark.parametrize("start", ["teacher", "random"])
def test_the_stages_in_a_row(context: Callable[..., Any], start: str) -> None:
    _, teacher = pair()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    settings, ctx = tiny_hyper(initialisation=start), context(given=teacher)
    state = recipe.prepare_teacher(State(), settings, ctx)
    state = recipe.initialise_student(state, settings, ctx)
    student = state.model
    assert isinstance(student, DistilBertForMaskedLM)
    words = student.distilbert.embeddings.word_embeddings.weight
    assert torch.equal(words, teacher.bert.embeddings.word_embeddings.weight) is (start == "teacher")
    begun = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    state = recipe.distil_general(state, settings, ctx)
    assert state.model is student and "teacher" not in state.models
    assert ctx.asked == [("corpus", 700, 16, 2)]
    assert ctx.logs[0].last_loss < ctx.logs[0].first_loss
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    still = [n for n, t in student.state_dict().items() if torch.equal(t, begun[n])]
    assert not still, "the student learns everywhere"
    masking = ctx.fitted[0][2].transform
    assert masking.weights is not None and masking.mask_id == 4 and masking.probability == 0.15
    assert not masking.weights[list(range(5))].any() and (masking.weights[5:] > 0).all()


@pytest.mark.parametrize(("task", "outputs"), [("rte", 2), ("mnli", 3), ("stsb", 1)])
def test_fine_tuning_starts_from_the_student(context: Callable[..., Any], task: str, outputs: int) -> None:
    student, _ = pair()
    settings, ctx = tiny_hyper(), context(task, trains=False)
    model = recipe.fine_tune(State({"model": student}), settings, ctx).model
    assert isinstance(model, DistilBertForSequenceClassification)
    copied = model.distilbert.state_dict()
    assert len(copied) == 4 + 16 * 2
    assert all(torch.equal(tensor, copied[name]) for name, tensor in student.distilbert.state_dict().items())
    assert model.classifier.out_features == outputs and model.config.seq_classif_dropout == 0.2
    names = get_task(task).labels or ("score",)
    assert model.config.id2label == dict(enumerate(names)) and len(names) == outputs
    assert ctx.asked == [("train_rows", 16)] and ctx.fitted[0][3] == settings.fine_tune
