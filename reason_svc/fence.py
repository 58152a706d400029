"""What others wrote, on its way into a prompt: it stays data.

No token that a chat template, a reasoning switch or our own fence is made of survives: they all need
characters that are not in the list of those that pass.
"""

import re
import unicodedata

from reason_svc.evidence import plain_text

OPEN, CLOSE = "=== EVENT DATA ===", "=== END OF EVENT DATA ==="

# Beside letters, marks and digits of any script. No < > | [ ] { } / \ ` = # : ; " * ~ $ % @ ^
PASSING = frozenset(" .,'’-_()&+!?")

# What must stay readable as JSON cannot lose its brackets; it loses what a template could be made of.
_TEMPLATE = re.compile(r"\[/?[A-Za-z_]+\]|/(?=(no_?)?think)|={3,}|`", re.IGNORECASE)
_ANGLES = str.maketrans({"<": "‹", ">": "›", "|": "¦"})


def harmless(text: str, most: int) -> str:
    """A name or a label as one line of at most `most` characters that nothing can be told with but words."""
    # Compatible forms first: some tokenizers fold a fullwidth bracket into a plain one.
    folded = unicodedata.normalize("NFKC", text[: 8 * most])
    return plain_text("".join(c if _passes(c) else " " for c in folded), most)


def fenced(lines: list[str]) -> str:
    return "\n".join((OPEN, *lines, CLOSE))


def quoted(text: str, most: int) -> str:
    """A model's own words, to be shown to it again: one line of at most `most` characters."""
    return plain_text(_TEMPLATE.sub(" ", plain_text(text, most).translate(_ANGLES)), most)


def _passes(character: str) -> bool:
    return character in PASSING or unicodedata.category(character)[0] in "LMN"
