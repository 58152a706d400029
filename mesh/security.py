"""Who calls, by which door, and what they may do."""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from mesh import permissions
from mesh.permissions import Permission, short_name
from mesh.problems import Denied


class Door(Enum):
    """Where a connection was accepted. Nothing that comes over the connection can change it."""

    CLIENTS = "clients"
    SIBLINGS = "siblings"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Caller:
    """`key` showed a valid API key, `sibling` is a service of Lares that calls as itself, `operator` came
    over the operator socket. Rechecks and shared renderings compare callers whole, so that equal ones may do
    the same."""

    kind: Literal["key", "sibling", "operator"]
    id: str = ""
    name: str = ""
    permissions: frozenset[Permission] = frozenset()

    @classmethod
    def of_key(cls, id: str, name: str) -> "Caller":
        return cls("key", id, name, permissions.OF_A_KEY)

    def require(self, permission: Permission) -> None:
        """Raises Denied: SIBLINGS_ONLY or NOT_PERMITTED. Nobody has UNDECLARED."""
        if permission in self.permissions:
            return
        if permission == permissions.SIBLING:
            raise Denied("only Lares's own services may call this", "SIBLINGS_ONLY")
        name = short_name(permission)
        raise Denied(f"this needs the permission {name}", "NOT_PERMITTED", permission=name)


SIBLING = Caller("sibling", permissions=permissions.EVERY)
OPERATOR = Caller("operator", permissions=frozenset({permissions.MANAGE_KEYS}))
# Whoever calls while LARES_AUTH is off.
EVERYBODY = Caller.of_key("", "authentication is off")

# It has no default: nothing that was forgotten may pass for a caller.
caller: ContextVar[Caller] = ContextVar("caller")


class NoCaller(RuntimeError):
    """Nobody has said for whom this task works, and now it matters. A bug, never a user's mistake."""


def current_caller() -> Caller:
    """For whom this task works. Raises NoCaller."""
    who = caller.get(None)
    if who is None:
        raise NoCaller("nobody has said for whom this task works")
    return who


@contextmanager
def as_itself() -> Iterator[None]:
    """In the block, this task calls siblings as the service itself, and so do the tasks that it begins there.
    Never begin in it what accepts connections: each request would start with these rights."""
    token = caller.set(SIBLING)
    try:
        yield
    finally:
        caller.reset(token)


def new_secret() -> str:
    """A fresh API key: 256 random bits, readable as what it is."""
    return f"lares_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> str:
    """What is stored and compared instead: hex SHA-256 (a random key needs no salt)."""
    return hashlib.sha256(secret.encode()).hexdigest()
