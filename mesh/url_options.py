"""The options of a setting that is a URL: `?name=value&name=value`."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

# Turns the text of one option into its value. Raises ValueError that says what the text must be.
OptionForm = Callable[[str], Any]


def read_options(query: str, forms: Mapping[str, OptionForm]) -> dict[str, Any]:
    """The options that `query` has, each read by its form. Raises ValueError, in words for the person who
    wrote the setting, for an unknown option, one that is there twice, and a value that does not fit."""
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        if name not in forms:
            raise ValueError(f"there is no option {name}; there are {', '.join(forms)}")
        if name in options:
            raise ValueError(f"the option {name} is there twice")
        try:
            options[name] = forms[name](value)
        except ValueError as error:
            raise ValueError(f"{name}={value}: it must be {error}") from None
    return options


def number(least: int, most: int) -> OptionForm:
    def form(value: str) -> int:
        if not (value.isascii() and value.isdecimal() and least <= int(value[:20]) <= most):
            raise ValueError(f"a number from {least} to {most}")
        return int(value)

    return form


def one_of(*words: str) -> OptionForm:
    def form(value: str) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return value

    return form


def text(value: str) -> str:
    if not value:
        raise ValueError("not empty")
    return value
