"""Recognises texts that only stand for a text: placeholders, descriptions, texts of a prompt's example."""

import re
from collections.abc import Set

_PLACEHOLDER = re.compile(
    r"""
    [.…?_-]{2,} | … | x{3,}
  | <[^<>]*> | \[[^\[\]]*\] | \{+[^{}]*\}+
  | 0 \s* (?: - | – | \.\. | to ) \s* 100
    """,
    re.IGNORECASE | re.VERBOSE,
)
# A text of these words alone describes a text; one of the first must be there.
_NOUNS = frozenset({
    "description", "example", "examples", "explanation", "integer", "list", "lorem", "number", "placeholder",
    "reason", "reasons", "score", "sentence", "sentences", "string", "summary", "tbd", "text", "texts",
    "todo",
})  # fmt: skip
_FILLERS = frozenset({
    "1", "2", "3", "a", "an", "and", "another", "brief", "concise", "first", "for", "goes", "here", "in",
    "insert", "ipsum", "of", "one", "or", "plain", "put", "second", "short", "some", "the", "this", "three",
    "to", "two", "whole", "why", "word", "words", "write", "your",
})  # fmt: skip
_LEAST_REPEATED_WORDS = 2


def is_stand_in(text: str, example: Set[str]) -> bool:
    """Whether it is a placeholder, the description of a text, or the whole or the beginning of a text of
    `example`, which holds plain words."""
    if _PLACEHOLDER.fullmatch(text.strip()):
        return True
    words = plain_words(text)
    named = set(words.split())
    if named & _NOUNS and named <= _NOUNS | _FILLERS:
        return True
    is_long = words.count(" ") + 1 >= _LEAST_REPEATED_WORDS
    return any(
        words == given or words.startswith(f"{given} ") or (is_long and given.startswith(f"{words} "))
        for given in example
    )


def plain_words(text: str) -> str:
    """Returns the words of a text, in lower case and without punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))
