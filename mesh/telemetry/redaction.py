"""Keeps keys, passwords and credentials out of logs and traces."""

import re
from collections.abc import MutableMapping
from typing import Any

_SECRET_NAMES = re.compile(r"secret|password|token|authorization|api.?key", re.IGNORECASE)
_KEYS = re.compile(r"lares_[A-Za-z0-9_-]{20,}")
_URLS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
# Up to the last @, for a password may hold any character; a user is plain up to the first colon.
_CREDENTIALS = re.compile(r"(?<=://)([^:/?#@]*:)?.*(?=@)", re.DOTALL)
_PARAMETERS = re.compile(
    r"([?&][^=&]*(?:pass|pwd|secret|token|key|auth|credential)[^=&]*=)([^&]*)", re.IGNORECASE
)


def redacted_url(url: str) -> str:
    """A URL without its password, and without the values of parameters that are named like secrets. Where it
    is not clear what a part of it is, that part is hidden too."""

    def parameter(found: re.Match[str]) -> str:
        # The @ stays: it may be the one after a password that looks like a parameter.
        return found[1] + ("***@***" if "@" in found[2] else "***")

    return _CREDENTIALS.sub(r"\1***", _PARAMETERS.sub(parameter, url))


def redacted(text: str) -> str:
    """Without API keys, and with the URLs in it as `hidden` shows them."""
    return _URLS.sub(lambda url: redacted_url(url[0]), _KEYS.sub("***", text))


def redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no API key, password or credential in a URL reaches a log."""
    for name, value in event.items():
        if _SECRET_NAMES.search(name):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = redacted(value)
    return event
