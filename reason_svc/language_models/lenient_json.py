"""Decodes a JSON object as language models write it.

Beside JSON it takes comments, commas after the last value, line breaks in strings, and what Python prints for
an object. The names of members are lower-cased. A flaw that could mean two things remains an error.
"""

import json
import re
from typing import Any

# Longer objects are not repaired.
MAX_REPAIRED_CHARACTERS = 2**13

# What has no end goes to the end of the text, so that each character is read once.
_STRING = r'"(?:[^"\\]|\\.)*(?:"|\Z)'
_FLAW = re.compile(
    rf"(?P<string>{_STRING})|(?P<quoted>'(?:[^'\\]|\\.)*(?:'|\Z))|\b(?:None|True|False)\b"
    r"|//[^\n]*|\#[^\n]*|/\*.*?(?:\*/|\Z)",
    re.DOTALL,
)
_LAST_COMMA = re.compile(rf"(?P<string>{_STRING})|,(?=\s*[}}\]])", re.DOTALL)
_WORDS = {"None": "null", "True": "true", "False": "false"}


def decode_object(text: str, start: int) -> tuple[dict[str, Any], int]:
    """Returns the object of JSON that begins at `text[start]`, and where it ends; strings may have line
    breaks. Of a member that an object has twice, the value is the list of both. Raises ValueError if there is
    no object."""
    try:
        members, end = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise ValueError("too many braces in each other") from None
    return members, end


def decode_flawed_object(text: str, start: int) -> tuple[dict[str, Any], int]:
    """Like `decode_object`, for an object with flaws, which takes longer."""
    members, length = decode_object(_repaired(text[start : start + MAX_REPAIRED_CHARACTERS]), 0)
    return members, start + length


def _repaired(text: str) -> str:
    """Returns JSON of the same length, if the text has no other flaws than those above."""
    return _LAST_COMMA.sub(lambda found: found["string"] or " ", _FLAW.sub(_repair, text))


def _repair(found: re.Match[str]) -> str:
    if found["string"]:
        return found["string"]
    if found["quoted"]:
        inner = found["quoted"][1:-1].replace("\\'", " '").replace('\\"', " '").replace('"', "'")
        return f'"{inner}"'
    return _WORDS.get(found[0], " " * len(found[0]))


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for given, value in pairs:
        name = given.strip().lower()
        members[name] = [members[name], value] if name in members else value
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_members, strict=False)
