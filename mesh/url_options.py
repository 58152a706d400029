"""The options of a setting that is a URL: `?name=value&name=value`."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

# Turns the text of one option into its value. Raises ValueError that says what the text must be.
OptionForm = Callable[[str], Any]


def read_options(query: str, forms: Mapping[str, OptionForm], *, quote: bool = True) -> dict[str, Any]:
    """Returns the options in `query`, each read by its form.

    Raises ValueError, with a message for the person who wrote the setting, for a malformed query, an unknown
    or repeated option, and a value that does not fit. `quote=False` keeps the text of the query out of the
    message, for URLs that may contain a secret.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise ValueError(str(error) if quote else "its options are not of the form name=value") from None
    options: dict[str, Any] = {}
    for name, value in pairs:
        if name not in forms:
            unknown = f"there is no option {name}" if quote else "an option is unknown"
            raise ValueError(f"{unknown}; there are {', '.join(forms)}")
        if name in options:
            raise ValueError(f"the option {name} is there twice")
        try:
            options[name] = forms[name](value)
        except ValueError as error:
            raise ValueError(f"{name}={value if quote else ''}: it must be {error}") from None
    return options


def number(least: int, most: int) -> OptionForm:
    def form(value: str) -> int:
        if not (value.isascii() and value.isdecimal() and len(value) <= 20 and least <= int(value) <= most):
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
