"""Text from outside, reduced to one printable line."""

import unicodedata


def plain_text(text: str, max_length: int) -> str:
    """Returns `text` as one line of at most `max_length` characters.

    Control, format and separator characters become spaces, and several spaces become one. A line that had to
    be cut ends with an ellipsis.
    """
    shown = (" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 8 * max_length])
    line = " ".join("".join(shown).split())
    return line if len(line) <= max_length else line[: max_length - 1].rstrip() + "…"
