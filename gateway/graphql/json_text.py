"""JSON, as requests carry it."""

import json
from typing import Any, NoReturn

import orjson

from mesh.problems import Invalid

_encode_anything = json.JSONEncoder(separators=(",", ":")).encode


def encode(value: Any) -> bytes:
    """Returns JSON in UTF-8.

    orjson is ten times as fast as json, which writes what orjson refuses: integers of more than 64 bits, and
    unpaired surrogates, which JSON can only hold escaped."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return _encode_anything(value).encode()


def encode_text(value: Any) -> str:
    return encode(value).decode()


def read_json(text: str | bytes) -> Any:
    """Parses strict JSON, and only what can also be written as JSON again: no NaN and no unpaired surrogate.
    Raises Invalid BAD_JSON."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        if (b"\\ud" if isinstance(text, bytes) else "\\ud") in text.lower():  # type: ignore[operator]
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Invalid("this is not valid JSON", "BAD_JSON") from None
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
