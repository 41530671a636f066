"""All of MobileBERT's choices, and what they are at each scale."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from bench.core.errors import ModelError
from bench.train.recipe import EncoderFacts, Variant
from bench.train.settings import WINDOWS, Budget, Settings, Training, Windowing, unless_none
from papers.mobilebert.student import PAPER, TEACHER, Architecture


class Stream(Settings):
    """What teacher and student share: the stream between layers, and what feeds it (Table 1)."""

    hidden_size: int = Field(default=PAPER.hidden_size, ge=2)
    """Width of the stream."""
    embedding_size: int = Field(default=PAPER.embedding_size, ge=1)
    """Width of the word table."""
    max_position_embeddings: int = Field(default=PAPER.max_position_embeddings, ge=128, le=512)
    """The longest input in tokens."""
    initializer_range: float = Field(default=PAPER.initializer_range, gt=0)
    """Standard deviation of new weights: larger in a narrow model, so that what a layer adds does not vanish (D2)."""


class Body(Settings):
    """The layers of a model; the defaults are the student's (Table 1)."""

    num_hidden_layers: int = Field(default=PAPER.num_hidden_layers, ge=1)
    """K."""
    num_attention_heads: int = Field(default=PAPER.num_attention_heads, ge=1)
    """A."""
    intra_bottleneck_size: int = Field(default=PAPER.intra_bottleneck_size, ge=1)
    """Width inside a layer."""
    num_feedforward_networks: int = Field(default=PAPER.num_feedforward_networks, ge=1)
    """Feed-forward networks in a layer."""
    intermediate_size: int = Field(default=PAPER.intermediate_size, ge=1)
    """Width inside each of them."""
    attention_input: Literal["stream", "shared", "bottleneck"] = PAPER.attention_input
    """What attention reads; `shared` is the released model (D1)."""
    normalization: Literal["none", "layer"] = PAPER.normalization
    """NoNorm or LayerNorm (section 3.3)."""
    hidden_act: Literal["relu", "gelu", "gelu_tanh"] = PAPER.hidden_act
    """ReLU or GELU (section 3.3); `gelu_tanh` is the released code's (D6)."""

    def architecture(self, stream: Stream, vocabulary: int, pad: int, like: Architecture) -> Architecture:
        """The model of this body over a stream; what neither says (dropout, pooler) is as in `like`.

        Raises: ModelError where the heads do not divide the width.
        """
        return replace(like, vocab_size=vocabulary, pad_token_id=pad, **stream.model_dump(), **self.model_dump())


class Corpus(Settings):
    """The text that a model reads before it sees a task: all objectives and schedules read the same (D3)."""

    corpus_tokens: Annotated[int, Budget()] = Field(default=3_300_000_000, ge=1000)
    """Tokens of pairs of sentence runs per pass (Wikipedia and the Toronto books at full scale)."""
    max_length: int = Field(default=512, ge=8, le=512)
    """Tokens of a pair."""
    mask_probability: float = Field(default=0.15, gt=0, lt=1)
    """Share of the words that are masked."""


LAMB = Training(
    epochs=235, batch_size=32, accumulation=64, optimizer="lamb", lr=1.5e-3, eps=1e-6, weight_decay=0.01, warmup=0.02,
    clip=1.0,
)  # fmt: skip
"""2048 pairs a step, 740,000 steps in all, warm-up of 10,000 of the last 500,000 (released README)."""


class Transfer(Settings):
    """Knowledge transfer of feature maps and attention (section 3.5); the weights are the released code's."""

    schedule: Literal["progressive", "joint", "auxiliary", "none"] = "progressive"
    """One layer after another; all layers at once, before the words; all layers at once, beside the words; not at all
    (section 3.6)."""
    share: float = Field(default=240 / 740, gt=0, lt=1)
    """Part of the text that is read before the words are distilled: 240,000 of 740,000 steps."""
    weight_map: float = Field(default=100.0, ge=0)
    """Weight of the feature maps' difference, divided by the number of layers, as all weights here are."""
    weight_mean: float = Field(default=5000.0, ge=0)
    """Weight of the difference of the means."""
    weight_variance: float = Field(default=5.0, ge=0)
    """Weight of the difference of the variances."""
    weight_attention: float = Field(default=1.0, ge=0)
    """Weight of the attention's KL."""
    statistics_of: Literal["layer", "all_layers"] = "layer"
    """Whose means and variances a student layer takes; in the released code those of every teacher layer and of the
    teacher's embeddings, on average (D4)."""
    padding: Literal["left_out", "counted"] = "left_out"
    """Whether padding counts in the losses, as in the released code (D5)."""
    rate: float = Field(default=3.0, gt=0)
    """Share of the learning rate of the layer in training, by the progressive schedule."""
    earlier_rate: float = Field(default=0.3, ge=0)
    """That of the layers before it."""
    training: Training = LAMB.model_copy(update={"warmup": 0.1, "schedule": "root"})
    """How each phase, or the one phase of all layers, is trained."""

    @property
    def of_nothing(self) -> bool:
        """Whether every weight is 0."""
        return not (self.weight_map or self.weight_mean or self.weight_variance or self.weight_attention)

    @property
    def first(self) -> bool:
        """Whether it comes before the words."""
        return self.schedule in ("progressive", "joint")


class Distillation(Settings):
    """Pre-training of the student on words and pairs."""

    hard: float = Field(default=0.5, ge=0, le=1)
    """Part of the masked-LM loss that is against the words themselves; the rest is against the teacher (alpha)."""
    training: Training = LAMB
    """How it is trained."""


class FineTuning(Settings):
    """Fine-tuning on a task; the grid is what its users published: batch {16, 32, 48}, rate {1..10}e-5, epochs 2-10."""

    training: Training = Training(epochs=5, batch_size=32, lr=4e-5, weight_decay=0.01, warmup=0.1, clip=1.0)
    """The first point: the released README's, for SQuAD."""
    tries: Annotated[int, Budget()] = Field(default=10, ge=1, le=270)
    """Points that are tried, this and others of the grid drawn at random; the best on dev is kept (D7)."""


class Hyper(Settings):
    """All of MobileBERT's choices."""

    stream: Stream = Stream()
    """What teacher and student share."""
    teacher: Body = Body(**{name: getattr(TEACHER, name) for name in Body.model_fields})
    """IB-BERT-large."""
    student: Body = Body()
    """MobileBERT."""
    start: Literal["teacher", "random"] = "teacher"
    """Whether embeddings and heads of the student begin as the teacher's."""
    corpus: Corpus = Corpus()
    """What is read before a task."""
    pretrain: Training = LAMB.model_copy(update={"accumulation": 128, "epochs": 318})
    """How the teacher is trained: 500,000 steps of 4096 pairs."""
    guide: float = Field(default=0.0, ge=0)
    """Weight of the given encoder's last states in the teacher's pre-training, whose text then trains its heads alone;
    0 is the paper's, without such a guide (D13)."""
    transfer: Transfer = Transfer()
    """Knowledge transfer."""
    distillation: Distillation = Distillation()
    """Pre-training distillation."""
    released: str = "google/mobilebert-uncased"
    """The authors' checkpoint, a hub id or a folder (variant mobilebert-released only)."""
    max_length: int = Field(default=128, ge=8, le=512)
    """Word pieces per example of the task."""
    windows: Windowing | None = unless_none()
    """Set for SQuAD."""
    fine_tune: FineTuning = FineTuning()
    """Fine-tuning on the task."""


def hyper(variant: Variant, task: str, scale: str, encoder: EncoderFacts | None) -> Hyper:
    """The paper's settings at full scale; its ratios to the encoder at hand, and declared budgets, elsewhere (D2)."""
    length, windows = WINDOWS[scale] if task == "squad" else (64 if scale == "smoke" else 128, None)
    base = Hyper(max_length=length, windows=windows)
    if scale == "small" and encoder is not None:
        base = base.changed(ratios(encoder.layers, encoder.hidden)).changed(SMALL)
    if scale == "smoke":
        base = base.changed(SMOKE)
    return base.changed(variant.changes)


def ratios(layers: int, hidden: int) -> dict[str, Any]:
    """The paper's ratios to a BERT of that many layers and width: IB-BERT-large is to BERT-large as ours is to it.

    Weights begin so much larger as the widths that they sum over are smaller. Raises: ModelError for a width of which
    no eighth part can be shared by four heads.
    """
    if hidden % 32:
        raise ModelError("the encoder's width has no eighth part for four heads", found=hidden,
                         expected="a multiple of 32", fix="give another encoder")  # fmt: skip
    return {
        "stream.hidden_size": hidden // 2, "stream.embedding_size": hidden // 8,
        "stream.initializer_range": round(0.02 * math.sqrt(1024 / hidden), 4),
        "teacher.num_hidden_layers": layers, "teacher.intra_bottleneck_size": hidden,
        "teacher.intermediate_size": 4 * hidden,
        "student.num_hidden_layers": layers, "student.intra_bottleneck_size": hidden // 8,
        "student.intermediate_size": hidden // 2,
    }  # fmt: skip


def _trainings(**changes: Any) -> dict[str, Any]:
    return {f"{part}.{name}": value for part in ("pretrain", "transfer.training", "distillation.training")
            for name, value in changes.items()}  # fmt: skip


def _tuning(**changes: Any) -> dict[str, Any]:
    return {"fine_tune.tries": 1} | {f"fine_tune.training.{name}": value for name, value in changes.items()}


_ADAM = {"epochs": 1, "accumulation": 1, "optimizer": "adamw", "lr": 1e-3, "betas": (0.9, 0.98), "warmup": 0.1}
"""Few and small steps: LAMB is made for batches of thousands (D2)."""
SMALL = {
    "corpus.corpus_tokens": 300_000, "corpus.max_length": 64, "guide": 1.0, **_trainings(**_ADAM, batch_tokens=1024),
    **_tuning(batch_size=16, epochs=5, lr=1e-4),
}  # fmt: skip
"""A rate of 5e-4 leaves IB-BERT near the majority class of SST-2; 1e-4, as of BERT and TinyBERT, and 3e-4 do not."""
SMOKE = {
    "stream.hidden_size": 128, "stream.embedding_size": 64, "stream.max_position_embeddings": 128,
    "stream.initializer_range": 0.04,
    "teacher.num_hidden_layers": 2, "teacher.intra_bottleneck_size": 128, "teacher.intermediate_size": 512,
    "student.num_hidden_layers": 2, "student.intra_bottleneck_size": 32, "student.intermediate_size": 128,
    "corpus.corpus_tokens": 400_000, "corpus.max_length": 32, **_trainings(**_ADAM, batch_size=32),
    **_tuning(batch_size=32, epochs=4, lr=5e-4),
}  # fmt: skip
"""A little pair of models for the made-up language."""


def check_pair(student: Body, teacher: Body) -> None:
    """Refuse a student that cannot copy its teacher layer by layer and head by head. Raises: ModelError."""
    for what, ours, theirs in (
        ("layers", student.num_hidden_layers, teacher.num_hidden_layers),
        ("heads", student.num_attention_heads, teacher.num_attention_heads),
    ):
        if ours != theirs:
            name = "num_hidden_layers" if what == "layers" else "num_attention_heads"
            raise ModelError(f"student and teacher have not the same number of {what}", where=f"student.{name}",
                             found=f"{ours} {what}", expected=f"{theirs}, the teacher's: they are copied one by one",
                             fix=f"set student.{name} and teacher.{name} alike, or transfer.schedule=none",
                             )  # fmt: skip


def student_of(hyper: Hyper, vocabulary: int, pad: int) -> Architecture:
    """The student's architecture."""
    return hyper.student.architecture(hyper.stream, vocabulary, pad, PAPER)


def teacher_of(hyper: Hyper, vocabulary: int, pad: int) -> Architecture:
    """The teacher's architecture."""
    return hyper.teacher.architecture(hyper.stream, vocabulary, pad, TEACHER)
