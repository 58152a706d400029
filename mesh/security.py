"""Who calls: a person or program with an API key, or a sibling service."""

import hashlib
import secrets
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from mesh.problems import Denied, Unauthenticated


@dataclass(frozen=True)
class Caller:
    """`sibling` came over the private socket or mutual TLS; `key` showed a valid API key."""

    kind: Literal["anonymous", "key", "sibling"]
    id: str = ""
    name: str = ""


ANONYMOUS = Caller("anonymous")
SIBLING = Caller("sibling")

caller: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)


def require_caller() -> Caller:
    """The current caller; raises Unauthenticated where there is none."""
    current = caller.get()
    if current.kind == "anonymous":
        raise Unauthenticated("an API key is needed: send it as x-api-key", "NO_API_KEY")
    return current


def require_sibling() -> Caller:
    """For calls that only Lares itself may make; raises Denied."""
    current = require_caller()
    if current.kind != "sibling":
        raise Denied("only Lares's own services may call this", "SIBLINGS_ONLY")
    return current


def new_secret() -> str:
    """A fresh API key: 256 random bits, readable as what it is."""
    return f"lares_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> str:
    """What is stored and compared instead: hex SHA-256 (a random key needs no salt)."""
    return hashlib.sha256(secret.encode()).hexdigest()
