"""How words become sentences: weighted draws, noun phrases, events, and paraphrases that keep the meaning.

Every draw goes through `Draw`, which uses only `Random.random()`: its stream is the same on every Python.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bench.data.synthetic import lexicon as words
from bench.data.synthetic.lexicon import Concept, lexicon, plural, third

T = TypeVar("T")

SLOTS = ("subject", "verb", "target")
"""The parts of an event that make its meaning."""
FLATTEN = 2.0
"""Added to the rank in Zipf's law, so that the first word does not take all."""


class Draw:
    """A stream of choices that is a pure function of its name."""

    def __init__(self, name: str):
        self._random = random.Random(name)  # seeded with a hash of the text itself, not with hash()

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def uniform(self, items: Sequence[T]) -> T:
        return items[int(self._random.random() * len(items))]

    def zipf(self, items: Sequence[T]) -> T:
        """One of the items; the weight of rank r is 1 / (r + FLATTEN)."""
        weights = [1 / (rank + FLATTEN) for rank in range(len(items))]
        mark = self._random.random() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            mark -= weight
            if mark < 0:
                return item
        return items[-1]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return [item for _, item in sorted(((self._random.random(), item) for item in items), key=lambda pair: pair[0])]

    def word(self, concept: Concept) -> str:
        """A word for the concept; the first synonym is somewhat more usual."""
        return concept.words[0] if len(concept.words) == 1 or self.chance(0.55) else concept.words[1]

    def other_word(self, concept: Concept, word: str) -> str:
        """The synonym of the word, or the word itself where it has none."""
        return next((w for w in concept.words if w != word), word)

    def theme(self) -> int:
        return self.zipf(range(words.THEMES))

    def noun(self, theme: int, avoid: Sequence[int] = ()) -> int:
        """The identity of a noun of the theme: a thing, or at times a kind."""
        level = 2 if self.chance(0.8) else 1
        return self.zipf([noun for noun in lexicon().of(theme, level) if noun not in avoid])

    def of_theme(self, concepts: Sequence[Concept], theme: int, avoid: Sequence[Concept] = ()) -> Concept:
        return self.zipf([c for c in concepts if c.theme == theme and c not in avoid])


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase; `word` and `adjective_word` are the synonyms in use."""

    noun: int
    word: str
    many: bool
    determiner: str = "the"
    adjective: Concept | None = None
    adjective_word: str = ""

    def __str__(self) -> str:
        form = plural(self.word) if self.many else self.word
        return " ".join(part for part in (self.determiner, self.adjective_word, form) if part)


@dataclass(frozen=True, slots=True)
class Event:
    """Somebody does something, to somebody or not, in some manner or not."""

    subject: Phrase
    verb: Concept
    verb_word: str
    target: Phrase | None = None
    manner: Concept | None = None
    manner_word: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.subject), self.predicate()) if part)

    def predicate(self) -> str:
        """All but the subject."""
        verb = self.verb_word if self.subject.many else third(self.verb_word)
        return " ".join(part for part in (verb, str(self.target or ""), self.manner_word) if part)

    def swapped(self) -> Event:
        """The same words with the two roles exchanged. Asserts that there are two, of one number."""
        assert self.target is not None and self.target.many == self.subject.many, "only such a swap keeps the words"
        return replace(self, subject=self.target, target=self.subject)


def phrase(draw: Draw, noun: int, many: bool, adjective: Concept | None = None, determiner: str = "the") -> Phrase:
    """A phrase with words drawn for its concepts."""
    word = draw.word(lexicon().nouns[noun])
    return Phrase(noun, word, many, determiner, adjective, draw.word(adjective) if adjective else "")


def event(draw: Draw, theme: int, adjectives: float = 0.3, manner: float = 0.2, same_number: bool = False) -> Event:
    """A transitive event of the theme; `adjectives` and `manner` are the chances of having them."""
    lex = lexicon()
    first = draw.noun(theme)
    second = draw.noun(theme, avoid=(first,))
    many = draw.chance(0.5)
    phrases = []
    for noun in (first, second):
        adjective = draw.of_theme(lex.plain, theme) if draw.chance(adjectives) else None
        phrases.append(phrase(draw, noun, many, adjective))
        many = many if same_number else draw.chance(0.5)
    verb = draw.of_theme(lex.transitive, theme)
    how = draw.zipf(lex.manners) if draw.chance(manner) else None
    return Event(phrases[0], verb, draw.word(verb), phrases[1], how, draw.word(how) if how else "")


def reworded_phrase(draw: Draw, given: Phrase, chance: float) -> Phrase:
    """The phrase with each word replaced by its synonym at that chance."""
    noun = lexicon().nouns[given.noun]
    word = draw.other_word(noun, given.word) if draw.chance(chance) else given.word
    described = given.adjective_word
    if given.adjective is not None and draw.chance(chance):
        described = draw.other_word(given.adjective, described)
    return replace(given, word=word, adjective_word=described)


def reworded(draw: Draw, given: Event, chance: float = 0.6) -> Event:
    """A paraphrase: the same concepts in the same roles, synonyms at that chance."""
    target = reworded_phrase(draw, given.target, chance) if given.target else None
    verb = draw.other_word(given.verb, given.verb_word) if draw.chance(chance) else given.verb_word
    manner = given.manner_word
    if given.manner is not None and draw.chance(chance):
        manner = draw.other_word(given.manner, manner)
    subject = reworded_phrase(draw, given.subject, chance)
    return replace(given, subject=subject, verb_word=verb, target=target, manner_word=manner)


def substituted(draw: Draw, given: Event, slot: str) -> Event:
    """The event with another concept of the same theme in one slot: `subject`, `verb` or `target`."""
    theme = lexicon().nouns[given.subject.noun].theme
    if slot == "verb":
        verb = draw.of_theme(lexicon().transitive, theme, avoid=(given.verb,))
        return replace(given, verb=verb, verb_word=draw.word(verb))
    old: Phrase = getattr(given, slot)
    assert given.target is not None, "an event with two roles"
    noun = draw.noun(theme, avoid=(given.subject.noun, given.target.noun))
    return replace(given, **{slot: replace(old, noun=noun, word=draw.word(lexicon().nouns[noun]))})


def different(draw: Draw, given: Event) -> Event:
    """An event that the given one is not a paraphrase of: roles swapped, a concept changed, or all of it."""
    style = draw.uniform(("swap", "swap", "swap", "one", "one", "all", "theme", "theme", "theme", "theme"))
    if style == "swap":
        return given.swapped()
    if style == "one":
        return substituted(draw, given, draw.uniform(SLOTS))
    theme = lexicon().nouns[given.subject.noun].theme
    if style == "theme":
        theme = draw.zipf([t for t in range(words.THEMES) if t != theme])
    other = given
    while (other.subject.noun, other.verb) == (given.subject.noun, given.verb):
        other = event(draw, theme, adjectives=0.1, manner=0.0, same_number=True)
    return other


def sentence(*parts: object, end: str = ".") -> str:
    """The parts as one sentence, with its full stop or question mark attached."""
    return " ".join(str(part) for part in parts if str(part)) + end
