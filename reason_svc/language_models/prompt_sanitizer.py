"""Makes text from outside safe to put into a prompt, so that it stays data.

Tokens of chat templates, switches for reasoning and the markers around the event's data all need characters
that `sanitize` removes.
"""

import re
import unicodedata

from reason_svc.plain_text import plain_text

DATA_BEGIN, DATA_END = "=== EVENT DATA ===", "=== END OF EVENT DATA ==="

# Allowed in addition to letters, marks and digits of any script.
# In particular, none of these: < > | [ ] { } / \ ` = # : ; " * ~ $ % @ ^
ALLOWED = frozenset(" .,'’-_()&+!?")

# Quoted JSON keeps its brackets, to stay readable. Only what could be part of a chat template is removed.
_TEMPLATE = re.compile(r"\[/?[A-Za-z_]+\]|/(?=(no_?)?think)|={3,}|`", re.IGNORECASE)
_ANGLES = str.maketrans({"<": "‹", ">": "›", "|": "¦"})


def sanitize(text: str, max_length: int) -> str:
    """Returns a name or a label as one line of at most `max_length` characters that are all allowed."""
    # Some tokenizers turn compatibility forms, such as a fullwidth bracket, into plain characters.
    normalised = unicodedata.normalize("NFKC", text[: 8 * max_length])
    return plain_text("".join(c if _is_allowed(c) else " " for c in normalised), max_length)


def between_markers(lines: list[str]) -> str:
    return "\n".join((DATA_BEGIN, *lines, DATA_END))


def quote_answer(text: str, max_length: int) -> str:
    """Returns a model's answer, to be shown to it again, as one line of at most `max_length` characters."""
    return plain_text(_TEMPLATE.sub(" ", plain_text(text, max_length).translate(_ANGLES)), max_length)


def _is_allowed(character: str) -> bool:
    return character in ALLOWED or unicodedata.category(character)[0] in "LMN"
