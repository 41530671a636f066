"""TinyBERT (Jiao et al. 2020, arXiv 1909.10351v5): a narrow BERT taught layer by layer, twice.

    bench run small --paper tinybert --teacher FOLDER --data FOLDER --corpus FOLDER --task sst2
    bench run full  --paper tinybert --variant tinybert-4-released --set released=FOLDER --task sst2

General distillation took the authors days on 8 V100; the small scale is a declared fraction of it.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel, PreTrainedModel

from bench.core.errors import ModelError
from bench.data.batches import Batch, Encoded, WithLogits
from bench.data.tasks import GLUE
from bench.models import load
from bench.models.load import Checkpoint
from bench.models.outputs import forward, frozen
from bench.train.augmentation.augment import check_word_vectors
from bench.train.augmentation.rows import augment_rows, prepare_words, rows
from bench.train.mlm import train_masked_lm
from bench.train.recipe import Context, EncoderFacts, Recipe, Stage, State, Variant
from bench.train.settings import Training
from bench.train.teacher import fine_tuned_bert
from bench.train.tuning import classifier_config, fine_tune_on_task, load_encoder
from papers.tinybert import losses, settings
from papers.tinybert.layers import layer_loss
from papers.tinybert.settings import SIX, Hyper, Layers, copying
from papers.tinybert.student import (
    TinyBertForDistillation,
    TinyBertForSequenceClassification,
    check_fit,
    check_layers,
    mapped,
    student_config,
    with_projections,
)

PROJECTIONS = ("fit_dense.", "fit_denses.")
"""The authors' projections, which are no part of their student and which ours are new in place of (D13)."""


def check(variant: Variant, chosen: Hyper, teacher: EncoderFacts | None, released: Checkpoint | None) -> None:
    """Refuse, before anything runs, bad word vectors, and a teacher that the student cannot copy.

    Raises: DataError and SpecError as `check_word_vectors` does, ModelError for the teacher.
    """
    if chosen.augmentation.use:
        check_word_vectors(chosen.augmentation)
    if released is not None:
        load.check_places(released, BertModel, PROJECTIONS)
    if teacher is None:
        return
    teacher.expect("bert")
    if (teacher.types or 1) < 2 and any(stage.run is distil_general for stage in variant.stages):
        raise ModelError("the teacher has one token type, and general distillation reads pairs of sentences",
                         where="type_vocab_size", found=teacher.types, expected=2,
                         fix="give a BERT with two token types")  # fmt: skip
    if released is None:
        check_layers(teacher.layers, chosen.student.every)
        return
    assert isinstance(released.config, BertConfig), "it is one of TinyBERT"
    check_fit(released.config, teacher, max(teacher.hidden, released.config.hidden_size))


def _pretrained(ctx: Context) -> PreTrainedModel:
    found = ctx.teacher()
    assert isinstance(found, PreTrainedModel), "the reference starts from an encoder of transformers"
    return found


def initialise_student(state: State, hyper: Hyper, ctx: Context) -> State:
    """The student with random weights, in the paper's ratios to the teacher.

    Raises: ModelError where the teacher's layers do not divide. Source: arXiv 1909.10351v5, Table 1; D9 and D10.
    """
    teacher = _pretrained(ctx).config
    assert isinstance(teacher, BertConfig), "the reference leaves a BERT"
    shape = hyper.student
    config = student_config(teacher, shape.every, shape.hidden, shape.ffn)
    return state.having(_projected(config, teacher, hyper))


def load_released(state: State, hyper: Hyper, ctx: Context) -> State:
    """The authors' general student instead of our own general distillation; its projections are new (D13).

    Raises: ModelError when its weights do not fit its config.
    """
    assert ctx.released is not None, "planned for a released checkpoint"
    teacher = _pretrained(ctx).config
    encoder = load.load(ctx.released, BertModel, PROJECTIONS)
    assert isinstance(teacher, BertConfig) and isinstance(encoder.config, BertConfig)
    student = _projected(encoder.config, teacher, hyper)
    load_encoder(student, encoder)
    return state.having(student)


def _projected(config: BertConfig, teacher: BertConfig, hyper: Hyper) -> TinyBertForDistillation:
    count = 2 if hyper.student.projection == "separate" else 1
    return with_projections(config, teacher.hidden_size, count, hyper.student.projection_bias)


def distil_general(state: State, hyper: Hyper, ctx: Context) -> State:
    """The layers of the pre-trained teacher, on plain text; no masked words, no prediction loss; task-free.

    Raises: ModelError for a teacher that cannot teach this student.
    Source: arXiv 1909.10351v5, section 4.2 for the settings; D4 and D8.
    """
    general = hyper.general
    pairs = ctx.sentence_pairs(general.corpus_tokens, general.max_length, general.short_probability)
    _copy_layers(state.model, _pretrained(ctx), general.losses, pairs, _clipped(general.training, hyper), ctx)
    return state


def pretrain_student(state: State, hyper: Hyper, ctx: Context) -> State:
    """BERT_TINY (Table 7): the student pre-trained by masked LM, without a teacher; task-free. Ours, see D11."""
    chosen, student = hyper.pretrain, state.model
    assert isinstance(student, TinyBertForDistillation)
    model = BertForMaskedLM(BertConfig.from_dict(student.config.to_dict()))
    train_masked_lm(model, ctx.corpus(chosen.corpus_tokens, chosen.max_length), chosen.training, ctx)
    load_encoder(student, model)
    return state.having(student)


def distil_intermediate(state: State, hyper: Hyper, ctx: Context) -> State:
    """Task distillation, first phase: the layers of the fine-tuned teacher.

    Raises: ModelError for a teacher that is not fine-tuned on the task, or cannot teach this student.
    Source: arXiv 1909.10351v5, equation 11; D15.
    """
    chosen, teacher = hyper.intermediate, fine_tuned_bert(ctx)
    training = _clipped(chosen.training, hyper)
    _copy_layers(state.model, teacher, chosen.losses, rows(state, hyper, ctx), training, ctx)
    return state


def _copy_layers(
    student: nn.Module, teacher: PreTrainedModel, chosen: Layers, examples: Encoded, training: Training, ctx: Context
) -> None:
    assert isinstance(student, TinyBertForDistillation)
    ours, theirs = student.config, teacher.config
    assert isinstance(theirs, BertConfig)
    facts = EncoderFacts(theirs.num_hidden_layers, theirs.hidden_size, theirs.num_attention_heads, theirs.vocab_size)
    check_fit(ours, facts, ours.projected_size)
    layers = mapped(ours.num_hidden_layers, theirs.num_hidden_layers, chosen.mapping)
    loss = layer_loss(frozen(teacher, ctx.device), chosen, layers)
    ctx.fit(student, loss, ctx.batches(examples, training), training)


def _clipped(training: Training, hyper: Hyper) -> Training:
    return training.model_copy(update={"clip_each": True}) if hyper.clip_per_tensor else training


def _classifier(student: nn.Module, head: str, ctx: Context) -> BertForSequenceClassification:
    """A plain BERT classifier around the student's encoder: the projections are left behind."""
    assert isinstance(student, TinyBertForDistillation)
    config = classifier_config(student.config, ctx.task)
    for name in ("projected_size", "projections", "projection_bias"):
        delattr(config, name)
    model = (TinyBertForSequenceClassification if head == "relu" else BertForSequenceClassification)(config)
    assert isinstance(model, BertForSequenceClassification)
    load_encoder(model, student)
    return model


def distil_prediction(state: State, hyper: Hyper, ctx: Context) -> State:
    """Task distillation, second phase: the teacher's predictions, made once per example.

    Raises: ModelError for a teacher that is not fine-tuned on the task.
    Source: arXiv 1909.10351v5, equation 10; D3 and D7.
    """
    chosen, training = hyper.prediction, _clipped(hyper.prediction.training, hyper)
    model = _classifier(state.model, chosen.head, ctx)
    if chosen.loss == "hard":
        fine_tune_on_task(model, ctx.train_rows(hyper.max_length), training, ctx)
        return state.having(model)
    examples = rows(state, hyper, ctx)
    fine_tuned_bert(ctx)  # for its check alone: the logits may come from the cache
    batches = ctx.batches(examples, training, WithLogits(ctx.teacher_logits(examples)))

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        value = losses.prediction(
            forward(model, batch).logits, batch, regression=ctx.task.regression, target=chosen.regression_target,
            temperature=chosen.temperature, mean_over_classes=chosen.mean_over_classes,
        )  # fmt: skip
        return {"prediction": value}

    ctx.fit(model, loss, batches, training)
    return state.having(model)


def fine_tune(state: State, hyper: Hyper, ctx: Context) -> State:
    """Plain fine-tuning, for the rows without task distillation (settings: D12)."""
    model = _classifier(state.model, "bert", ctx)
    fine_tune_on_task(model, rows(state, hyper, ctx), _clipped(hyper.fine_tune, hyper), ctx)
    return state.having(model)


_TASK = ("augmentation", "max_length", "clip_per_tensor")
_WORDS = Stage(prepare_words, uses=("head",), task_free=True, needs="lm_head", asks=("pretrained",))
"""First in every chain, so that general distillation is shared by variants with augmentation and without."""
_INITIALISE = Stage(initialise_student, uses=("student",), task_free=True, needs=None, asks=("pretrained",))
_GENERAL = Stage(distil_general, uses=("general", "clip_per_tensor"), task_free=True, needs="pairs",
                 asks=("pretrained",))  # fmt: skip
_PRETRAIN = Stage(pretrain_student, uses=("pretrain",), task_free=True, needs="corpus")
_RELEASED = Stage(load_released, uses=("released", "student"), task_free=True, needs=None, asks=("pretrained",))
_AUGMENT = Stage(augment_rows, uses=("augmentation",))
_DISTIL = (
    Stage(distil_intermediate, uses=("intermediate", *_TASK), asks=("fine_tuned",)),
    Stage(distil_prediction, uses=("prediction", *_TASK), asks=("fine_tuned",)),
)
_FINE_TUNE = Stage(fine_tune, uses=("fine_tune", *_TASK))

_START, _BERT = (_WORDS, _INITIALISE, _GENERAL), (_WORDS, _INITIALISE, _PRETRAIN)
STAGES = (*_START, _AUGMENT, *_DISTIL)
"""The method's table of contents."""
_FROM_RELEASED = (_WORDS, _RELEASED, _AUGMENT, *_DISTIL)
_PLAIN = {"augmentation.use": False}
"""Table 7 is made without augmentation; its last row is Table 2's without DA."""


RECIPE = Recipe(
    name="tinybert",
    variants={
        "tinybert-4": Variant(
            "4 layers of 312: general distillation, then task distillation on augmented rows", STAGES),
        "tinybert-6": Variant("6 layers of 768, the same", STAGES, SIX),
        "tinybert-4-no-gd": Variant(
            "without general distillation: from random weights (Table 2)", (_WORDS, _INITIALISE, _AUGMENT, *_DISTIL)),
        "tinybert-4-no-td": Variant(
            "without task distillation: fine-tuned on augmented rows (Table 2)", (*_START, _AUGMENT, _FINE_TUNE)),
        "tinybert-4-no-da": Variant("without data augmentation (Tables 2 and 7)", (*_START, *_DISTIL), _PLAIN),
        "tinybert-4-no-embd": Variant(
            "without the embedding's loss (Table 3)", STAGES, copying(embedding=0.0)),
        "tinybert-4-no-pred": Variant(
            "labels of the original rows in place of the prediction loss (Table 3)", STAGES,
            {"prediction.loss": "hard"}),
        "tinybert-4-no-trm": Variant(
            "without the losses of the Transformer layers (Table 3)", STAGES, copying(attention=0.0, hidden=0.0)),
        "tinybert-4-no-attn": Variant("without the attention loss (Table 3)", STAGES, copying(attention=0.0)),
        "tinybert-4-no-hidn": Variant("without the loss of hidden states (Table 3)", STAGES, copying(hidden=0.0)),
        "tinybert-4-map-top": Variant(
            "each layer copies one of the last teacher layers (Table 4)", STAGES, copying(mapping="top")),
        "tinybert-4-map-bottom": Variant(
            "each layer copies one of the first teacher layers (Table 4)", STAGES, copying(mapping="bottom")),
        "tinybert-4-init-bert": Variant(
            "BERT_TINY: pre-trained by masked LM, fine-tuned, no distillation (Table 7)", (*_BERT, _FINE_TUNE), _PLAIN),
        "tinybert-4-init-bert-td": Variant(
            "BERT_TINY with task distillation (Table 7)", (*_BERT, *_DISTIL), _PLAIN),
        "tinybert-4-init-gd": Variant(
            "general distillation only, fine-tuned (Table 7)", (*_START, _FINE_TUNE), _PLAIN),
        "tinybert-4-released": Variant(
            "the authors' general student of 4 layers, task distillation by us", _FROM_RELEASED, released="released"),
        "tinybert-6-released": Variant(
            "the authors' general student of 6 layers, task distillation by us", _FROM_RELEASED, SIX, "released"),
    },
    tasks=tuple(task for task in GLUE if task != "wnli"),  # the paper leaves WNLI out
    smoke_tasks=("sst2",),  # the main job has five minutes on two cores
    hyper=settings.hyper,
    teachers=("bert",),
    check=check,
)  # fmt: skip
