"""Ports for servers that are killed and start again on the same one: below those that the system gives to
connections, one of which could take it meanwhile."""

import random

from mesh.ports import port_is_free

# Those that are higher by TWIN are left to S3's server.
FIRST, LAST, TWIN = 11_000, 20_999, 10_000


class Ports:
    """Gives out ports that are free now, none of them twice."""

    def __init__(self) -> None:
        # Runs at the same time begin at different ones.
        self._next = random.SystemRandom().randint(FIRST, LAST)

    def one(self) -> int:
        (port,) = self.take(1)
        return port

    def take(self, count: int) -> list[int]:
        found: list[int] = []
        while len(found) < count:
            self._next = self._next + 1 if self._next < LAST else FIRST
            if all(port_is_free("127.0.0.1", port) for port in (self._next, self._next + TWIN)):
                found.append(self._next)
        return found
