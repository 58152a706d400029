"""Who calls, for servicers that are called without a server."""

from collections.abc import Iterator
from contextlib import contextmanager

from mesh.security import Caller, caller


@contextmanager
def calling_as(who: Caller) -> Iterator[None]:
    token = caller.set(who)
    try:
        yield
    finally:
        caller.reset(token)
