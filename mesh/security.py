"""Callers: who makes a call, through which door, and what the caller may do."""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from mesh import permissions
from mesh.permissions import OF_A_KEY, Permission, short_name
from mesh.problems import Denied

# Letters and digits without 0, 1, I, O, l and o.
TYPED = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz"


class Door(Enum):
    """The set of listeners that accepted a connection. Nothing sent over the connection can change it."""

    CLIENTS = "clients"
    SIBLINGS = "siblings"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Caller:
    """Who makes a call.

    A `key` presented a valid API key, a `sibling` is a service of Lares that calls as itself, and an
    `operator` uses the operator socket. Equal callers have the same permissions, which rechecks and shared
    renderings rely on.
    """

    kind: Literal["key", "sibling", "operator"]
    id: str = ""
    name: str = ""
    permissions: frozenset[Permission] = frozenset()
    # The one camera whose media the owner of this key may upload; empty: of all.
    camera_id: str = ""

    @classmethod
    def of_key(
        cls, id: str, name: str, may: frozenset[Permission] = OF_A_KEY, camera_id: str = ""
    ) -> "Caller":
        return cls("key", id, name, may & OF_A_KEY, camera_id)

    def require(self, permission: Permission) -> None:
        """Raises Denied SIBLINGS_ONLY or NOT_PERMITTED unless the caller has the permission. No caller has
        UNDECLARED."""
        if permission in self.permissions:
            return
        if permission == permissions.SIBLING:
            raise Denied("only Lares's own services may call this", "SIBLINGS_ONLY")
        name = short_name(permission)
        raise Denied(f"this needs the permission {name}", "NOT_PERMITTED", permission=name)

    def require_camera(self, camera_id: str) -> None:
        """Raises Denied OTHER_CAMERA if the caller's key is one of another camera."""
        if self.camera_id not in ("", camera_id):
            raise Denied("this is the key of another camera", "OTHER_CAMERA", camera_id=camera_id)


SIBLING = Caller("sibling", permissions=permissions.EVERY)
OPERATOR = Caller("operator", permissions=frozenset({permissions.MANAGE_KEYS}))
# The caller of every call while LARES_AUTH is off.
EVERYBODY = Caller.of_key("", "authentication is off")

# Without a default, so that a task for which no caller was set has no permissions.
caller: ContextVar[Caller] = ContextVar("caller")


class NoCaller(RuntimeError):
    """The current task has no caller, but needs one. This is a bug in Lares, not a user's mistake."""


def current_caller() -> Caller:
    """The caller of the current task. Raises NoCaller."""
    found = caller.get(None)
    if found is None:
        raise NoCaller("no caller was set for this task")
    return found


@contextmanager
def as_itself() -> Iterator[None]:
    """Within the block, this task and the tasks that it starts call siblings as the service itself.

    Never start a server in it: each of its requests would begin with these permissions.
    """
    token = caller.set(SIBLING)
    try:
        yield
    finally:
        caller.reset(token)


def new_secret() -> str:
    """A new API key of 256 random bits, with a prefix by which secret scanners find it."""
    return f"lares_{secrets.token_urlsafe(32)}"


def new_camera_secret() -> str:
    """A new key of a camera, of 127 random bits: cameras allow 31 characters or so for a password, and people
    type it in, so it has none that look alike."""
    return "lares_" + "".join(secrets.choice(TYPED) for _ in range(22))


def digest(secret: str) -> str:
    """The hex SHA-256 of a key, which is stored in its place. A random key needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()
