"""Sentences about number: a subject, something between it and its verb, and pronouns that pick by number.

Each `*_pair` gives (good, bad) or (one reading, the other) made of the same words wherever that can be.
"""

from __future__ import annotations

from bench.data.synthetic import lexicon as words
from bench.data.synthetic.grammar import Draw, event, phrase
from bench.data.synthetic.lexicon import lexicon, third


def _two_nouns(draw: Draw) -> tuple[int, int, int]:
    theme = draw.theme()
    first = draw.noun(theme)
    return theme, first, draw.noun(theme, avoid=(first,))


def _ending(draw: Draw, theme: int, many: bool) -> str:
    """A predicate that agrees with that number: a verb, or `be` and an adjective."""
    if draw.chance(0.6):
        verb = draw.word(draw.of_theme(lexicon().intransitive, theme))
        return verb if many else third(verb)
    return f"{'are' if many else 'is'} {draw.word(draw.of_theme(lexicon().plain, theme))}"


def distractor_pair(draw: Draw) -> tuple[str, str]:
    """`the dog near the cats runs` and `the cats near the dog runs`: the noun next to the verb misleads."""
    theme, first, second = _two_nouns(draw)
    many = draw.chance(0.5)
    head, other = phrase(draw, first, many), phrase(draw, second, not many)
    link, end = draw.uniform(words.PREPOSITIONS), _ending(draw, theme, many)
    return f"{head} {link} {other} {end}", f"{other} {link} {head} {end}"


def relative_pair(draw: Draw) -> tuple[str, str]:
    """`the dog that hates the cats runs` and `the cats that hates the dog runs`: two verbs must agree."""
    theme, first, second = _two_nouns(draw)
    many = draw.chance(0.5)
    head, other = phrase(draw, first, many), phrase(draw, second, not many)
    verb = draw.word(draw.of_theme(lexicon().transitive, theme))
    middle, end = verb if many else third(verb), _ending(draw, theme, many)
    return f"{head} that {middle} {other} {end}", f"{other} that {middle} {head} {end}"


def determiner_pair(draw: Draw) -> tuple[str, str]:
    """`this dog hates those cats` and `those dog hates this cats`."""
    theme, first, second = _two_nouns(draw)
    singular = draw.uniform((*words.SINGULAR_DETERMINERS, *words.UNIVERSAL_ONE))
    several = draw.uniform((*words.PLURAL_DETERMINERS, *words.UNIVERSAL_MANY, *words.EXISTENTIAL))
    one, many = phrase(draw, first, False, determiner=""), phrase(draw, second, True, determiner="")
    verb = draw.word(draw.of_theme(lexicon().transitive, theme))
    if draw.chance(0.5):
        return f"{singular} {one} {third(verb)} {several} {many}", f"{several} {one} {third(verb)} {singular} {many}"
    return f"{several} {many} {verb} {singular} {one}", f"{singular} {many} {verb} {several} {one}"


def order_pair(draw: Draw) -> tuple[str, str]:
    """A sentence, and the same words with two neighbours exchanged that may not be."""
    shown = str(event(draw, draw.theme(), adjectives=0.5, manner=0.0)).split()
    place = draw.uniform([i for i, word in enumerate(shown[:-1]) if word == "the"])
    broken = [*shown]
    broken[place], broken[place + 1] = broken[place + 1], broken[place]
    return " ".join(shown), " ".join(broken)


def grammatical_pair(draw: Draw) -> tuple[str, str]:
    """(acceptable, unacceptable) of any kind, in the same words."""
    kinds = (distractor_pair, distractor_pair, distractor_pair, relative_pair, determiner_pair, order_pair)
    return draw.uniform(kinds)(draw)


def pronoun(draw: Draw) -> tuple[str, str, str]:
    """A sentence with a pronoun that only one of two nouns fits by number, then what holds, then what does not."""
    theme, first, second = _two_nouns(draw)
    many, refers_many = draw.chance(0.5), draw.chance(0.5)
    left, right = phrase(draw, first, many), phrase(draw, second, not many)
    verb, described = draw.word(draw.of_theme(lexicon().transitive, theme)), draw.of_theme(lexicon().plain, theme)
    quality = draw.word(described)
    whole = (f"{left} {verb if many else third(verb)} {right} because "
             f"{'they are' if refers_many else 'it is'} {quality}")  # fmt: skip
    claims = {phrase_.many: f"{phrase_} {'are' if phrase_.many else 'is'} {quality}" for phrase_ in (left, right)}
    return whole, claims[refers_many], claims[not refers_many]
