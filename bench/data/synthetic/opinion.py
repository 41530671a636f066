"""Opinions: graded adjectives with intensifiers and negation, and the sign that a reader takes from them."""

from __future__ import annotations

from bench.data.synthetic import lexicon as words
from bench.data.synthetic.grammar import Draw
from bench.data.synthetic.lexicon import lexicon


def adjective(draw: Draw, sign: int) -> str:
    """A sentiment adjective of that sign (1 or -1) and any degree."""
    return draw.zipf(lexicon().sentiment[sign * draw.uniform(words.DEGREES)])


def topic(draw: Draw) -> tuple[str, str]:
    """Something to have an opinion of: its phrase and the form of `be` that agrees."""
    noun = draw.noun(draw.theme())
    word = draw.word(lexicon().nouns[noun])
    return ("the " + words.plural(word), "are") if draw.chance(0.4) else ("the " + word, "is")


def said(draw: Draw) -> str:
    """Whose opinion it is, sometimes."""
    verbs = ("says", "thinks", "knows", "believes")
    return f"{draw.zipf(lexicon().names)} {draw.uniform(verbs)} {'that '}" if draw.chance(0.25) else ""


def plain(draw: Draw, sign: int) -> str:
    """`X is good` or `X is not bad`: a quarter of them negated, so that polarity can be learnt before negation."""
    subject, verb = topic(draw)
    negation = draw.uniform(words.NEGATIONS) if draw.chance(0.25) else ""
    shown = adjective(draw, -sign if negation else sign)
    degree = draw.uniform(words.STRONG) if draw.chance(0.3) else ""
    return said(draw) + " ".join(part for part in (subject, verb, negation, degree, shown) if part)


def moved_negation(draw: Draw) -> tuple[str, str]:
    """(positive, negative) with the same words: `good but not bad` and `not good but bad`."""
    subject, verb = topic(draw)
    good, bad, negation, frame = adjective(draw, 1), adjective(draw, -1), draw.uniform(words.NEGATIONS), said(draw)
    first, second = (good, bad) if draw.chance(0.5) else (bad, good)
    forms = (f"{frame}{subject} {verb} {first} but {negation} {second}",
             f"{frame}{subject} {verb} {negation} {first} but {second}")  # fmt: skip
    return forms if first == good else (forms[1], forms[0])


def moved_intensity(draw: Draw) -> tuple[str, str]:
    """(positive, negative) with the same words: the stronger of two opposite adjectives wins."""
    subject, verb = topic(draw)
    good, bad = adjective(draw, 1), adjective(draw, -1)
    strong, weak, frame = draw.uniform(words.STRONG), draw.uniform(words.WEAK), said(draw)
    first, second = (good, bad) if draw.chance(0.5) else (bad, good)
    forms = (f"{frame}{subject} {verb} {strong} {first} but {weak} {second}",
             f"{frame}{subject} {verb} {weak} {first} but {strong} {second}")  # fmt: skip
    return forms if first == good else (forms[1], forms[0])


def opinions(draw: Draw) -> tuple[str, str]:
    """(positive, negative): one clause of each sign, made alike, without a full stop."""
    kind = draw.uniform(("plain", "plain", "negation", "intensity"))
    if kind == "negation":
        return moved_negation(draw)
    if kind == "intensity":
        return moved_intensity(draw)
    return plain(draw, 1), plain(draw, -1)
