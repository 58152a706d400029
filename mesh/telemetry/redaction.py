"""Keeps keys, passwords and credentials out of logs and traces."""

import re
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

_SECRET_NAMES = re.compile(r"secret|password|token|authorization|api.?key", re.IGNORECASE)
_KEYS = re.compile(r"lares_[A-Za-z0-9_-]{20,}")
_URLS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
# Up to the last @, because a password may contain any character. The user, up to the first colon, is kept.
_CREDENTIALS = re.compile(r"(?<=://)([^:/?#@]*:)?.*(?=@)", re.DOTALL)
_PARAMETERS = re.compile(
    r"([?&][^=&]*(?:pass|pwd|secret|token|key|auth|credential)[^=&]*=)([^&]*)", re.IGNORECASE
)


def redacted_url(url: str) -> str:
    """A URL without its password and without the values of parameters that are named like secrets.

    If it is unclear whether a part is secret, it is hidden, too.
    """

    def parameter(found: re.Match[str]) -> str:
        # Keeps the @, which may be the one after a password that looks like a parameter.
        return found[1] + ("***@***" if "@" in found[2] else "***")

    return _CREDENTIALS.sub(r"\1***", _PARAMETERS.sub(parameter, url))


def redacted(text: str) -> str:
    """The text without API keys, and with its URLs as `redacted_url` returns them."""
    # Neither pattern matches without these, and every text of every log entry comes here.
    if "lares_" not in text and "://" not in text:
        return text
    return _URLS.sub(lambda url: redacted_url(url[0]), _KEYS.sub("***", text))


@lru_cache(1024)  # the names are few, and most of the cost otherwise
def _is_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that removes API keys, passwords and credentials in URLs from an event."""
    for name, value in event.items():
        if _is_secret(name):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = redacted(value)
    return event
