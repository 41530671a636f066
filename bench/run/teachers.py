"""What a run will ask of its teacher, checked when the plan is made: positions, token types, labels, kind of task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.core.errors import ModelError
from bench.data.tasks import Task
from bench.measure.within import LENGTH
from bench.models import load
from bench.train.recipe import EncoderFacts
from bench.train.settings import Settings

if TYPE_CHECKING:
    from bench.run.plan import Job


FROM_PADDING = frozenset({
    "camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
    "xlm-roberta-xl", "xmod",
})  # fmt: skip
"""Architectures that number the first position one more than the padding's id: so many rows of the table are unread."""


def encoder_facts(checkpoint: load.Checkpoint) -> EncoderFacts:
    """What a recipe may know of a checkpoint. Raises ModelError when its config does not say."""
    config = checkpoint.config
    try:
        positions = config.max_position_embeddings
        if config.model_type in FROM_PADDING:
            positions -= config.pad_token_id + 1
        return EncoderFacts(config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.vocab_size,
                            checkpoint.has_lm_head and not checkpoint.kinds, positions,
                            getattr(config, "type_vocab_size", None), config.model_type)  # fmt: skip
    except AttributeError as error:
        raise ModelError("the teacher is no encoder like BERT", where=checkpoint.folder,
                         found=f"model_type {config.model_type}: {error}", expected="a BERT", fix="give a BERT",
                         ) from error  # fmt: skip


def made_facts(*references: Job | None) -> EncoderFacts | None:
    """What is known of the encoder that the first of these runs goes back to, where a recipe makes it; else None."""
    for job in references:
        while job is not None and job.reference is not None:
            job = job.reference
        if job is not None:
            found = job.recipe.makes(job.hyper) if job.recipe.makes else None
            return found and replace(found, vocabulary=len(job.inputs.tokenizer(job.tokenizer_folder)))
    return None


def check_teacher(job: Job, given: EncoderFacts | None) -> None:
    """Refuse a job whose models could not read what they are given.

    `given` is known of the encoder that the user gave. Raises ModelError: an input beyond the position table, more
    token types than the table has, a fine-tuned teacher of another kind of task or with other labels.
    """
    if job.encoder is not None and job.encoder.kinds:
        check_fine_tuned(job.encoder, job.task)
    facts = given or made_facts(job)
    if job.released is not None:
        config = job.released.config
        positions, types = config.max_position_embeddings, getattr(config, "type_vocab_size", None)
        where, what = str(job.released.folder), "the released model"
    elif facts is not None:
        positions, types, where, what = facts.positions, facts.types, str(job.spec), "the teacher"
    else:
        return
    for name, length in _lengths(job, facts):
        if length > positions:
            # Another setting cannot make a timing shorter; the table of a made encoder is a setting itself.
            fix = f"--set {name}={positions}, or give a BERT with more positions"
            if name.startswith("the timing"):
                fix = f"give a BERT of at least {length} positions"
            raise ModelError(f"{what}'s position table is shorter than the input", where=f"{where}: {name}",
                             found=f"inputs of {length} tokens",
                             expected=f"at most max_position_embeddings {positions}", fix=fix)  # fmt: skip
    needed = _types(job)
    if types is not None and needed > types:
        raise ModelError(f"{what} has too few token types for the task", where=f"{where}: type_vocab_size", found=types,
                         expected=f"at least {needed}: {job.task.name} has {len(job.task.columns)} texts a row",
                         fix="choose a task of single texts, or give a BERT with two token types")  # fmt: skip


def check_fine_tuned(checkpoint: load.Checkpoint, task: Task) -> None:
    """Refuse a teacher that is fine-tuned for another kind of task, or has other labels. Raises ModelError."""
    if task.kind not in checkpoint.kinds:
        raise ModelError("the given teacher is fine-tuned for another kind of task", where=checkpoint.folder,
                         found=checkpoint.architecture, expected=f"one for {task.name}, or an encoder",
                         fix="give its pre-trained encoder, or another --task")  # fmt: skip
    load.label_order(checkpoint.config, task.labels)


def _lengths(job: Job, facts: EncoderFacts | None) -> Iterator[tuple[str, int]]:
    """Every length in tokens that the stages, the evaluation and the timing take, with the setting that says it."""
    for plan in job.stages:
        if plan.stage.needs == "lm_head" and facts is not None and facts.lm_head:
            continue  # the head is there and not trained
        for name in plan.stage.uses:
            value = getattr(job.hyper, name)
            if name == "max_length":
                yield name, value
            elif isinstance(value, Settings) and isinstance(getattr(value, "max_length", None), int):
                yield f"{name}.max_length", getattr(value, "max_length")  # noqa: B009
    yield "max_length", job.reading.max_length
    yield f"the timing at {LENGTH} tokens", LENGTH


def _types(job: Job) -> int:
    """How many token types the tokenizer gives a row of the task."""
    words: Any = job.inputs.tokenizer(job.tokenizer_folder)
    said = words(*(["a"] for _ in job.task.columns[:2]), return_token_type_ids=True)["token_type_ids"]
    return 1 + max((kind for row in said for kind in row), default=0)
