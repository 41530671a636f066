"""Every choice of TinyBERT as frozen data; values are those of the paper (arXiv 1909.10351v5) unless said."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bench.train.augmentation.augment import Augmentation
from bench.train.mlm import HEADS, HeadTraining
from bench.train.recipe import EncoderFacts, Variant
from bench.train.settings import Budget, Settings, Training
from papers.tinybert.student import LayerMapping


class Student(Settings):
    """The student's shape as ratios to its teacher; from BERT-base the published students come out (Table 1)."""

    every: int = Field(default=3, ge=1, le=1_000)
    """Teacher layers per student layer: 12 to 4, or 12 to 6."""
    hidden: int = Field(default=312, ge=1, le=100_000)
    """Width per 768 of the teacher's, rounded to a multiple of the heads."""
    ffn: int = Field(default=1200, ge=1, le=1_000_000)
    """Inner width per 768 of the teacher's width."""
    projection: Literal["separate", "shared"] = "separate"
    """W_e of the embedding and W_h of the layers, or one matrix for both as in the released code."""
    projection_bias: bool = False
    """A bias in the projections, as in the released code; the paper's equations 8 and 9 have none."""


class Layers(Settings):
    """The intermediate-layer loss (equation 11); weights of the paper."""

    attention: float = Field(default=1.0, ge=0)
    """Weight of L_attn, scores before the softmax."""
    hidden: float = Field(default=1.0, ge=0)
    """Weight of L_hidn, the layers' outputs."""
    embedding: float = Field(default=1.0, ge=0)
    """Weight of L_embd, the embedding output."""
    mapping: LayerMapping = "uniform"
    """Which teacher layers are copied (Table 4)."""
    teacher_dropout: bool = False
    """Whether the teacher's dropout is active: the released code never switches it off."""


class General(Settings):
    """General distillation; "other settings as in BERT pre-training" (section 4.2)."""

    losses: Layers = Layers()
    """What is copied of the pre-trained teacher."""
    corpus_tokens: Annotated[int, Budget()] = Field(default=3_300_000_000, ge=100)
    """Tokens of sentence pairs per pass: English Wikipedia, 2,500M words, in word pieces."""
    max_length: int = Field(default=128, ge=8, le=512)
    """Tokens per pair."""
    short_probability: float = Field(default=0.1, ge=0, le=1)
    """Share of pairs gathered up to a shorter, random length."""
    training: Training = Training(epochs=3, batch_size=256, lr=1e-4, eps=1e-6, warmup=0.01)
    """BERT's batch and rate; the released script takes 5e-5 and warms up for a tenth."""


class Pretraining(Settings):
    """BERT_TINY: the same student pre-trained by masked LM instead (Table 7)."""

    corpus_tokens: Annotated[int, Budget()] = Field(default=3_300_000_000, ge=100)
    """Tokens of corpus per pass."""
    max_length: int = Field(default=128, ge=8, le=512)
    """Tokens per piece."""
    training: Training = General().training
    """As general distillation, so that the two starts have one budget."""


class Intermediate(Settings):
    """Task distillation, first phase: the layers, from the fine-tuned teacher."""

    losses: Layers = Layers()
    """What is copied."""
    training: Training = Training(epochs=20, batch_size=32, lr=5e-5, eps=1e-6, warmup=0.0, schedule="constant")
    """20 epochs, 10 of MNLI, QQP and QNLI, 50 of CoLA; the rate stays (released code)."""


class Prediction(Settings):
    """Task distillation, second phase: the prediction layer."""

    loss: Literal["soft", "hard"] = "soft"
    """The teacher's probabilities, or the labels of the original rows (Table 3, without Pred)."""
    temperature: float = Field(default=1.0, gt=0)
    """t of equation 10."""
    mean_over_classes: bool = False
    """Whether the soft cross-entropy is also divided by the number of classes, as in the released code."""
    regression_target: Literal["teacher", "gold"] = "teacher"
    """What a score (STS-B) is regressed on; the released code takes gold, which its authors call a bug."""
    head: Literal["bert", "relu"] = "bert"
    """BERT's head (dropout, linear), or the released code's (relu, linear)."""
    training: Training = Training(epochs=3, batch_size=32, lr=3e-5, eps=1e-6, warmup=0.1)
    """Batch {16, 32} and rate {1, 2, 3}e-5 were chosen on dev; these are the released script's (D7)."""


class Hyper(Settings):
    """All of TinyBERT's choices."""

    student: Student = Student()
    """The student's shape."""
    general: General = General()
    """General distillation."""
    pretrain: Pretraining = Pretraining()
    """Masked-LM pre-training (variants tinybert-4-init-bert and -td only)."""
    released: str = "huawei-noah/TinyBERT_General_4L_312D"
    """The authors' general student, a hub id or a folder (variants -released only)."""
    head: HeadTraining = HeadTraining()
    """For a teacher without a masked-LM head, which has to guess words (D18)."""
    augmentation: Augmentation = Augmentation()
    """New rows made of the task's."""
    intermediate: Intermediate = Intermediate()
    """Task distillation, the layers."""
    prediction: Prediction = Prediction()
    """Task distillation, the prediction layer."""
    fine_tune: Training = Training(epochs=3, batch_size=32, lr=3e-5, eps=1e-6, warmup=0.1)
    """Plain fine-tuning where a row has no task distillation; the paper gives no settings."""
    max_length: int = Field(default=128, ge=8, le=512)
    """Word pieces per example: 64 of a single sentence, 128 of a pair."""
    clip_per_tensor: bool = False
    """Clip each tensor's gradient to norm 1 on its own, as the released optimiser does, not the whole."""


SINGLE = ("cola", "sst2")
LARGE = ("mnli", "qqp", "qnli")


def copying(**changes: Any) -> dict[str, Any]:
    """A change of the layer loss, in both distillations (Tables 3 and 4; D4)."""
    return {f"{part}.losses.{name}": value for part in ("general", "intermediate") for name, value in changes.items()}


SIX = {"student.every": 2, "student.hidden": 768, "student.ffn": 3072,
       "released": "huawei-noah/TinyBERT_General_6L_768D"}  # fmt: skip
"""TinyBERT6: half the layers, as wide as the teacher."""


def hyper(variant: Variant, task: str, scale: str, encoder: EncoderFacts | None) -> Hyper:
    """The paper's settings at full scale, declared fractions of them elsewhere (README, D9), and what a variant
    changes of them."""
    every = 2 if encoder is None else 3  # the little teacher of smoke scale has 4 layers
    epochs = 50 if task == "cola" else 10 if task in LARGE else 20
    base = Hyper()
    general, pretrain = base.general, base.pretrain
    intermediate = base.intermediate.training.model_copy(update={"epochs": epochs})
    prediction, tune = base.prediction.training, base.fine_tune
    if scale != "full":
        few = {"epochs": 2, "batch_size": 32, "lr": 1e-3} if scale == "smoke" else _SMALL
        corpus = {"corpus_tokens": 100_000, "max_length": 64}
        first = {"epochs": 1, "batch_size": 32, "lr": 1e-3, "warmup": 0.05}
        training = general.training.model_copy(update=first if scale == "smoke" else _PLAIN_TEXT)
        general = general.model_copy(update=corpus | {"training": training})
        words = training if scale == "smoke" else training.model_copy(update={"lr": 5e-4})
        pretrain = pretrain.model_copy(update=corpus | {"training": words})
        intermediate = intermediate.model_copy(update=few | ({"epochs": 1} if scale == "smoke" else {}))
        prediction = prediction.model_copy(update=few | ({"lr": 5e-4} if scale == "smoke" else {}))
        tune = prediction
    return Hyper(
        student=Student(every=every),
        general=general,
        pretrain=pretrain,
        head=HEADS[scale],
        augmentation=Augmentation(augmentation=_ROUNDS.get(scale, 20)),
        intermediate=Intermediate(training=intermediate),
        prediction=Prediction(training=prediction),
        fine_tune=tune,
        max_length=64 if scale == "smoke" or task in SINGLE else 128,
    ).changed(variant.changes)


_ROUNDS = {"smoke": 1, "small": 1}
"""Of augmentation."""
_SMALL = {"epochs": 10, "batch_size": 16, "lr": 1e-4}
"""Two cores, and a student of two or three layers: smaller batches, larger steps; rates and epochs of the search in
tests/benchmarks/small_scale_search.json."""
_PLAIN_TEXT = {"epochs": 3, "batch_size": 16, "lr": 3e-3, "warmup": 0.05}
"""What is read before a task, at the rate of tests/benchmarks/text_rate.json; masked LM takes 5e-4 (not searched)."""
