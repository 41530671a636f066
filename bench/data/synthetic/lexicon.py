"""The words of the little language: made-up stems, English function words, and what the words mean to each other.

A concept is a meaning with one or two words (synonyms). Noun concepts form trees: theme > kind > thing. Verbs and
plain adjectives belong to a theme too, so that words of one theme meet in text. Sentiment adjectives have a degree.
Nothing is drawn at random here: the same words come out on every machine.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

THEMES, KINDS, THINGS = 12, 3, 5
"""Trees; kinds under each theme; things under each kind."""
TRANSITIVE, INTRANSITIVE, PLAIN = 5, 3, 4
"""Verb and adjective concepts per theme."""
DEGREES = (1, 2, 3)
"""Strength of a sentiment adjective: mild, plain, strong."""
SENTIMENT_WORDS = 8
"""Sentiment adjectives per polarity and degree."""
MANNERS, NAMES = 24, 100
NOUN_ENDING, VERB_ENDING = "s", "es"
"""Of a plural noun, and of a verb after a singular subject."""

STRONG = ("very", "extremely", "really", "deeply", "hugely", "terribly", "utterly", "truly")
WEAK = ("slightly", "somewhat", "mildly", "barely", "vaguely", "faintly")
NEGATIONS = ("not", "never")
FRAMES = ("is it true that", "why is it true that", "when is it true that", "who says that", "who knows that")
"""How a question about a whole sentence begins."""
LIKE, DISLIKE = ("loves", "likes", "praises", "enjoys"), ("hates", "dislikes", "blames", "avoids")
UNIVERSAL_ONE, UNIVERSAL_MANY = ("every", "each"), ("all",)
EXISTENTIAL = ("some", "several")
SINGULAR_DETERMINERS, PLURAL_DETERMINERS = ("a", "this", "that"), ("these", "those", "many")
PREPOSITIONS = ("near", "behind", "beside", "with", "above", "under")
CLOSED = (
    "the", "is", "are", "does", "do", "no", "but", "and", "because", "it", "they", "who", "which", "what", "why",
    "when", "so", "in", "other", "words", "same", "as", "kind", "of", "says", "thinks", "knows", "believes",
    "overall", "yes", "true", "perhaps",
    *UNIVERSAL_ONE, *UNIVERSAL_MANY, *EXISTENTIAL, *SINGULAR_DETERMINERS, *PLURAL_DETERMINERS, *PREPOSITIONS,
    *NEGATIONS, *LIKE, *DISLIKE, *STRONG, *WEAK,
)  # fmt: skip
"""The function words."""


@dataclass(frozen=True, slots=True)
class Concept:
    """A meaning and the words that have it; `theme` is its tree, `parent` the index of the noun above it."""

    words: tuple[str, ...]
    theme: int
    level: int = 0
    """Of nouns: 0 theme, 1 kind, 2 thing."""
    parent: int = -1


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Every open word class; indices into `nouns` are noun identities."""

    nouns: tuple[Concept, ...]
    transitive: tuple[Concept, ...]
    intransitive: tuple[Concept, ...]
    plain: tuple[Concept, ...]
    manners: tuple[Concept, ...]
    sentiment: dict[int, tuple[str, ...]]
    """Signed degree (-3 … 3, without 0) -> adjectives."""
    names: tuple[str, ...]

    by_level: dict[tuple[int, int], tuple[int, ...]]
    """(theme, level) -> its nouns."""
    by_parent: dict[int, tuple[int, ...]]
    """Noun -> the nouns right below it."""

    def of(self, theme: int, level: int) -> tuple[int, ...]:
        return self.by_level[theme, level]

    def kinds(self, theme: int) -> tuple[int, ...]:
        return self.by_level[theme, 1]

    def things(self, kind: int) -> tuple[int, ...]:
        return self.by_parent[kind]


def plural(noun: str) -> str:
    """The plural of a noun."""
    return noun + NOUN_ENDING


def third(verb: str) -> str:
    """The form of a verb after a singular subject; the plural form is the stem itself."""
    return verb + VERB_ENDING


def _stems() -> itertools.chain[str]:
    """Pronounceable stems, all different; no stem is another one plus an ending."""
    onsets = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "t", "v", "z", "br", "dr", "gl", "kr", "pl", "tr", "st")
    vowels, middles, codas = "aeiou", "bdgklmnprtvz", "bdgkmnprt"
    one = ["".join(part) for part in itertools.product(onsets, vowels, codas)]
    two = ["".join(part) for part in itertools.product(onsets, vowels, middles, vowels, codas)]
    # Stepping by a number that shares no factor with the length visits all of them, neighbours being unlike.
    return itertools.chain(
        (one[i * 389 % len(one)] for i in range(len(one))), (two[i * 6007 % len(two)] for i in range(len(two)))
    )


def _concepts(stems: itertools.chain[str], themes: int, each: int, ending: str = "") -> tuple[Concept, ...]:
    """`each` concepts with two words for each theme."""
    return tuple(
        Concept((next(stems) + ending, next(stems) + ending), theme) for theme in range(themes) for _ in range(each)
    )


def _nouns(stems: itertools.chain[str]) -> tuple[Concept, ...]:
    """The trees. Every second thing and every kind has a synonym; a theme has one word."""
    nouns = [Concept((next(stems),), theme) for theme in range(THEMES)]
    for theme in range(THEMES):
        for _ in range(KINDS):
            kind = len(nouns)
            nouns.append(Concept((next(stems), next(stems)), theme, 1, theme))
            for i in range(THINGS):
                words = (next(stems), next(stems)) if i % 2 == 0 else (next(stems),)
                nouns.append(Concept(words, theme, 2, kind))
    return tuple(nouns)


@functools.cache
def lexicon() -> Lexicon:
    """The lexicon; frequent classes come first, so they have the shorter words."""
    stems = itertools.chain(stem for stem in _stems() if stem not in CLOSED)
    degrees = [sign * degree for degree in DEGREES for sign in (1, -1)]
    sentiment = {degree: tuple(next(stems) + "y" for _ in range(SENTIMENT_WORDS)) for degree in degrees}
    nouns = _nouns(stems)
    by_level: dict[tuple[int, int], tuple[int, ...]] = {}
    by_parent: dict[int, tuple[int, ...]] = {}
    for i, noun in enumerate(nouns):
        by_level[noun.theme, noun.level] = (*by_level.get((noun.theme, noun.level), ()), i)
        by_parent[noun.parent] = (*by_parent.get(noun.parent, ()), i)
    return Lexicon(
        nouns=nouns,
        by_level=by_level,
        by_parent=by_parent,
        transitive=_concepts(stems, THEMES, TRANSITIVE),
        intransitive=_concepts(stems, THEMES, INTRANSITIVE),
        plain=_concepts(stems, THEMES, PLAIN, "ish"),
        manners=_concepts(stems, 1, MANNERS, "ly"),
        sentiment=sentiment,
        names=tuple(next(stems) + "a" for _ in range(NAMES)),
    )


def inflected() -> dict[str, str]:
    """Every inflected noun and verb -> its stem."""
    words = lexicon()
    stems = {plural(word): word for noun in words.nouns for word in noun.words}
    return stems | {third(word): word for verb in (*words.transitive, *words.intransitive) for word in verb.words}


def vocabulary() -> list[str]:
    """Every word form of the language once, function words first."""
    words = lexicon()
    forms: list[str] = list(CLOSED)
    forms += [form for noun in words.nouns for word in noun.words for form in (word, plural(word))]
    forms += [form for verb in (*words.transitive, *words.intransitive) for w in verb.words for form in (w, third(w))]
    forms += [word for concept in (*words.plain, *words.manners) for word in concept.words]
    forms += [word for degree in sorted(words.sentiment) for word in words.sentiment[degree]]
    forms += words.names
    return forms
