"""Quantified statements over the noun trees, and what follows from what.

Every noun has instances, so `all X are A` entails `some X are A`.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.synthetic import lexicon as words
from bench.data.synthetic.grammar import Draw
from bench.data.synthetic.lexicon import Concept, lexicon, plural

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2
QUANTIFIERS = ("all", "some", "no")
RELATIONS = ("same", "down", "up", "other")
"""What the hypothesis is about, seen from the premise: the same noun, one below it, one above it, one elsewhere."""

RULES: dict[tuple[str, str], dict[str, int]] = {
    ("all", "all"): {"same": 0, "down": 0, "up": 1, "other": 1},
    ("all", "some"): {"same": 0, "down": 0, "up": 0, "other": 1},
    ("all", "no"): {"same": 2, "down": 2, "up": 2, "other": 1},
    ("some", "some"): {"same": 0, "down": 1, "up": 0, "other": 1},
    ("some", "all"): {"same": 1, "down": 1, "up": 1, "other": 1},
    ("some", "no"): {"same": 2, "down": 1, "up": 2, "other": 1},
    ("no", "no"): {"same": 0, "down": 0, "up": 1, "other": 1},
    ("no", "all"): {"same": 2, "down": 2, "up": 2, "other": 1},
    ("no", "some"): {"same": 2, "down": 2, "up": 1, "other": 1},
}
"""(premise's quantifier, hypothesis's quantifier) -> relation of the nouns -> label."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`quantifier noun predicate`; the predicate is a verb or an adjective."""

    quantifier: str
    noun: int
    predicate: Concept
    adjectival: bool

    def render(self, draw: Draw) -> str:
        """The statement in words, synonyms and kinds of quantifier drawn; without a full stop."""
        word, predicate = draw.word(lexicon().nouns[self.noun]), draw.word(self.predicate)
        if self.quantifier == "all" and draw.chance(0.4):
            shown = f"is {predicate}" if self.adjectival else words.third(predicate)
            return f"{draw.uniform(words.UNIVERSAL_ONE)} {word} {shown}"
        quantifier = draw.uniform(words.EXISTENTIAL) if self.quantifier == "some" else self.quantifier
        return f"{quantifier} {plural(word)} {'are ' if self.adjectival else ''}{predicate}"


def related(draw: Draw, relation: str, theme: int) -> tuple[int, int]:
    """Two nouns (premise's, hypothesis's) that stand in that relation."""
    kind = draw.zipf(lexicon().kinds(theme))
    thing = draw.zipf(lexicon().things(kind))
    if relation == "same":
        noun = draw.uniform((kind, thing))
        return noun, noun
    if relation in ("down", "up"):
        return (kind, thing) if relation == "down" else (thing, kind)
    away = [t for t in range(words.THEMES) if t != theme]
    other_kind = draw.zipf(lexicon().kinds(draw.zipf(away)))
    other = draw.zipf(lexicon().things(other_kind))
    return draw.uniform(((kind, other), (thing, other_kind), (thing, other), (kind, other_kind)))


def predicate(draw: Draw, theme: int, avoid: tuple[Concept, ...] = ()) -> tuple[Concept, bool]:
    """A predicate of the theme, and whether it is an adjective."""
    adjectival = draw.chance(0.5)
    concepts = lexicon().plain if adjectival else lexicon().intransitive
    return draw.of_theme(concepts, theme, avoid), adjectival


def pair(
    draw: Draw, first: str, second: str, relation: str, same_predicate: bool = True
) -> tuple[Statement, Statement]:
    """Premise and hypothesis with those quantifiers, over nouns in that relation."""
    theme = draw.theme()
    upper, lower = related(draw, relation, theme)
    what, adjectival = predicate(draw, theme)
    asked, asked_adjectival = (what, adjectival) if same_predicate else predicate(draw, theme, (what,))
    return Statement(first, upper, what, adjectival), Statement(second, lower, asked, asked_adjectival)


def labelled(draw: Draw, label: int) -> tuple[Statement, Statement]:
    """A pair with that label (0 entailment, 1 neutral, 2 contradiction), from the rules that give it."""
    if label == NEUTRAL and draw.chance(0.25):
        return pair(draw, draw.uniform(QUANTIFIERS), draw.uniform(QUANTIFIERS), draw.uniform(("same", "down")), False)
    first = draw.uniform(QUANTIFIERS)
    choices = [(second, relation) for second in QUANTIFIERS for relation in RELATIONS]
    second, relation = draw.uniform([choice for choice in choices if RULES[first, choice[0]][choice[1]] == label])
    return pair(draw, first, second, relation)


def balanced(draw: Draw) -> tuple[tuple[Statement, Statement], tuple[Statement, Statement]]:
    """(entailed, not entailed), one quantifier in both: no single word tells which is which."""
    quantifier = draw.uniform(("all", "some", "some", "no"))
    style = draw.uniform(("direction", "direction", "predicate", "noun"))
    if style == "direction":
        good, bad = ("up", "down") if quantifier == "some" else ("down", "up")
        return pair(draw, quantifier, quantifier, good), pair(draw, quantifier, quantifier, bad)
    yes = pair(draw, quantifier, quantifier, "same")
    if style == "predicate":
        return yes, pair(draw, quantifier, quantifier, "same", same_predicate=False)
    return yes, pair(draw, quantifier, quantifier, "other")
