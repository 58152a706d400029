"""Text from outside, for terminals, logs and messages."""

import re

# Controls, unpaired surrogates, line separators, and what changes the direction of the text that follows.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# The second form is what is left of an object whose name has angle brackets itself.
_ADDRESS = re.compile(r"\s*<[^<>]{1,200} at 0x[0-9a-fA-F]+>|\s+at 0x[0-9a-fA-F]{4,}")


def visible(text: str, *, keep_lines: bool = False) -> str:
    """Returns the text with escapes, such as `\\x1b`, in place of characters that a terminal would obey. With
    `keep_lines`, line breaks and tabs stay."""
    return _INVISIBLE.sub(
        lambda found: (
            found[0] if keep_lines and found[0] in "\n\t" else found[0].encode("unicode_escape").decode()
        ),
        text,
    )


def without_addresses(text: str) -> str:
    """Returns the text without the names of Python's objects, such as `<_io.BytesIO object at 0x7f...>`: they
    mean nothing to a reader, and differ each time."""
    return _ADDRESS.sub("", text)
