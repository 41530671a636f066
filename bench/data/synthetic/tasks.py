"""GLUE-shaped tasks in the little language, with GLUE's columns and label ids.

Rows are made in matched groups, each with every label: usually the same words carry both, so counting words does not
tell the label. Groups that repeat a text are dropped; validation rows are never training rows.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from bench.core.errors import DataError
from bench.data.synthetic import agreement, entailment, opinion
from bench.data.synthetic import lexicon as words
from bench.data.synthetic.grammar import SLOTS, Draw, different, event, reworded, sentence, substituted
from bench.data.synthetic.lexicon import lexicon, third

VERSION = "3"
"""Changes whenever a row, a corpus or a tokenizer does."""

SCORES = (5.0, 3.8, 2.6, 1.6, 0.0)
"""Similarity by the number of parts that differ; the last one: the theme as well."""

Row = tuple[tuple[str, ...], int | float | tuple[int, int]]
"""(texts, label); a task of spans has (begin, end) of the answer in its second text, in characters"""


def _cola(draw: Draw) -> list[Row]:
    good, bad = agreement.grammatical_pair(draw)
    return [((sentence(good),), 1), ((sentence(bad),), 0)]


def _sst2(draw: Draw) -> list[Row]:
    good, bad = opinion.opinions(draw)
    return [((sentence(good),), 1), ((sentence(bad),), 0)]


def _paraphrases(draw: Draw) -> tuple[str, str, str]:
    """A sentence, a paraphrase of it, and one that does not mean the same."""
    given = event(draw, draw.theme(), adjectives=0.1, manner=0.0, same_number=True)
    other = different(draw, given)
    same = given
    while same == given:  # a verb always has a synonym
        same = reworded(draw, given)
    return str(given), str(same), str(reworded(draw, other))


def _mrpc(draw: Draw) -> list[Row]:
    first, same, other = _paraphrases(draw)
    return [((sentence(first), sentence(same)), 1), ((sentence(first), sentence(other)), 0)]


def _ask(opening: str, told: str) -> str:
    return sentence(opening, told, end="?")


def _qqp(draw: Draw) -> list[Row]:
    first, same, other = _paraphrases(draw)
    opening = draw.uniform(words.FRAMES)
    return [((_ask(opening, first), _ask(opening, same)), 1),
            ((_ask(opening, first), _ask(opening, other)), 0)]  # fmt: skip


def _stsb(draw: Draw) -> list[Row]:
    """One pair; the score falls with each part of another meaning, and is lowest where the theme differs too."""
    theme = draw.theme()
    given = event(draw, theme, adjectives=0.1, manner=0.0)
    changed = draw.uniform((0, 1, 2, 3, len(SCORES) - 1))
    if changed == len(SCORES) - 1:
        away = draw.zipf([t for t in range(words.THEMES) if t != theme])
        other = event(draw, away, adjectives=0.1, manner=0.0)
    else:
        other = given
        for slot in draw.shuffled(SLOTS)[:changed]:
            other = substituted(draw, other, slot)
    return [((sentence(given), sentence(reworded(draw, other))), SCORES[changed])]


def _nli_row(draw: Draw, pair: tuple[entailment.Statement, entailment.Statement], label: int) -> Row:
    return (sentence(pair[0].render(draw)), sentence(pair[1].render(draw))), label


def _mnli(draw: Draw) -> list[Row]:
    return [_nli_row(draw, entailment.labelled(draw, label), label) for label in (0, 1, 2)]


def _rte(draw: Draw) -> list[Row]:
    entailed, not_entailed = entailment.balanced(draw)
    return [_nli_row(draw, entailed, 0), _nli_row(draw, not_entailed, 1)]


def _qnli(draw: Draw) -> list[Row]:
    """Does the sentence answer the question? By kind (`which mammal runs?`) or by quantifier (`do all dogs run?`)."""
    lex = lexicon()
    if draw.chance(0.4):
        asked, answers = [], []
        for pair in entailment.balanced(draw):
            asked.append(_ask("is it true that", pair[1].render(draw)))
            answers.append(sentence(pair[0].render(draw)))
        return [((asked[0], answers[0]), 0), ((asked[1], answers[1]), 1)]
    theme = draw.theme()
    kind, thing = entailment.related(draw, "down", theme)
    what, adjectival = entailment.predicate(draw, theme)

    def shown() -> str:
        word = draw.word(what)
        return f"is {word}" if adjectival else third(word)

    def told(noun: int) -> str:
        return sentence("the", draw.word(lex.nouns[noun]), shown())

    question = sentence("which", draw.word(lex.nouns[kind]), shown(), end="?")
    other_kind = draw.zipf(lex.kinds(draw.uniform([t for t in range(words.THEMES) if t != theme])))
    return [((question, told(thing)), 0), ((question, told(draw.zipf(lex.things(other_kind)))), 1)]


def _wnli(draw: Draw) -> list[Row]:
    whole, holds, fails = agreement.pronoun(draw)
    return [((sentence(whole), sentence(holds)), 1), ((sentence(whole), sentence(fails)), 0)]


def _review(draw: Draw, sign: int) -> str:
    """Two or three opinions of that sign, sometimes one against it, and something beside the point."""
    signs = [sign] * draw.uniform((2, 3)) + [-sign] * draw.chance(0.3)
    told = [sentence(opinion.opinions(draw)[0 if s == 1 else 1]) for s in signs]
    told.append(sentence(event(draw, draw.theme())))
    return " ".join(draw.shuffled(told))


def _imdb(draw: Draw) -> list[Row]:
    return [((_review(draw, 1),), 1), ((_review(draw, -1),), 0)]


def _squad(draw: Draw) -> list[Row]:
    """A text, and a question whose first words say which kind of word in it is the answer.

    Easy on purpose: a little encoder does not learn in a few hundred steps to look for the question's words.
    """
    lex, theme = lexicon(), draw.theme()
    answers = {
        "who says it": draw.zipf(lex.names),
        "which is it": draw.word(draw.of_theme(lex.plain, theme)),
        "what is it": draw.word(lex.nouns[draw.noun(theme)]),
        "what does it do": third(draw.word(draw.of_theme(lex.intransitive, theme))),
        "when is it so": draw.word(draw.zipf(lex.manners)),
        "why is it so": draw.zipf(lex.sentiment[draw.uniform((-2, -1, 1, 2))]),
    }
    name, plain, noun, verb, manner, judged = answers.values()
    told = [
        sentence(name, "says that the", plain, noun, verb, manner),
        sentence("it is", draw.uniform(words.STRONG), judged),
        sentence(draw.uniform(words.WEAK), "so"),
    ]
    context, question = " ".join(draw.shuffled(told)), draw.uniform(tuple(answers))
    found = re.search(rf"\b{answers[question]}\b", context)
    assert found is not None, "the context is made of the answers"
    return [((sentence(question, end="?"), context), found.span())]


MAKERS: dict[str, Callable[[Draw], list[Row]]] = {
    "cola": _cola, "sst2": _sst2, "mrpc": _mrpc, "stsb": _stsb, "qqp": _qqp, "mnli": _mnli, "qnli": _qnli,
    "rte": _rte, "wnli": _wnli, "ax": _mnli, "imdb": _imdb, "squad": _squad,
}  # fmt: skip
"""Task -> maker of one matched group of rows."""

USUAL = {"validation": 400, "test": 400, "train": 4000}
SIZES: dict[str, dict[str, int]] = {
    **{name: USUAL for name in ("cola", "sst2", "mrpc", "stsb", "qqp", "qnli", "rte")},
    "mnli": {"validation_matched": 402, "validation_mismatched": 402, "test_matched": 402, "test_mismatched": 402,
             "train": 4200},
    "wnli": {"validation": 100, "test": 100, "train": 1000},
    "ax": {"test": 300},
    "imdb": {"test": 400, "unsupervised": 400, "train": 3000},
    "squad": {"validation": 400, "train": 4000},
}  # fmt: skip
"""Rows per split; whole groups each. Splits are made in this order, so a training row never repeats a scored one."""


@functools.lru_cache(maxsize=16)
def _splits(task_name: str) -> dict[str, tuple[Row, ...]]:
    """Every split of a task, no two rows of which are equal. `ax` starts from another stream than mnli."""
    seen: set[tuple[str, ...]] = set()
    splits: dict[str, tuple[Row, ...]] = {}
    for split, size in SIZES[task_name].items():
        draw = Draw(f"{task_name} {split}")
        rows: list[Row] = []
        while len(rows) < size:
            group = MAKERS[task_name](draw)
            texts = [row[0] for row in group]
            if len(set(texts)) == len(texts) and seen.isdisjoint(texts):
                seen.update(texts)
                rows += group
        splits[split] = tuple(draw.shuffled(rows))
    return splits


def rows(task_name: str, split: str) -> tuple[tuple[list[str], ...], list]:
    """(text columns, labels) of a split. Raises DataError for a task or split that is not there."""
    if split not in SIZES.get(task_name, {}):
        known = ", ".join(f"{task}/{name}" for task, sizes in SIZES.items() for name in sizes)
        raise DataError("no such task and split", where="synthetic", found=f"{task_name}/{split}", expected=known)
    chosen = _splits(task_name)[split]
    columns = tuple([row[0][i] for row in chosen] for i in range(len(chosen[0][0])))
    hidden = split == "unsupervised"
    return columns, [-1 if hidden else row[1] for row in chosen]
