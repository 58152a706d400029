"""How a process is: live, started, ready. One answer for HTTP, gRPC's health service and metrics.

- *Live*: its event loop answers. This depends on nothing outside the process: whoever restarts processes that
  are not live must not restart all of them because Kafka or PostgreSQL is down.
- *Started*: every part has been ready once. This stays true.
- *Ready*: every part is ready now, and the process is not stopping. Calls are better sent to another replica
  while it is not.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

import structlog
from prometheus_client.core import Metric

from mesh.telemetry.metrics import Instrument

log = structlog.get_logger(__name__)

# Everybody may ask, so answers are kept for a moment.
FRESH_SECONDS = 0.5
# What is missing besides parts.
START, STOP = "start", "stop"
STARTED = Instrument("lares_started", "gauge", "1 once every dependency of the process has been ready.")
STOPPING = Instrument(
    "lares_stopping", "gauge", "1 while the process stops: it is not ready, and still answers."
)
DEPENDENCY_READY = Instrument(
    "lares_dependency_ready", "gauge", "1 if a dependency of the process is ready, else 0.", ("dependency",)
)
INSTRUMENTS = (STARTED, STOPPING, DEPENDENCY_READY)

# Returns the parts that are not ready, with the reasons.
Check = Callable[[], Awaitable[dict[str, str]]]


class Readiness:
    """Until `follow` says how to check the parts, the process is not ready."""

    def __init__(self) -> None:
        self._check: Check | None = None
        self._parts: Collection[str] = ()
        self.started = self.stopping = False
        # What everybody who asks may know besides.
        self.details: list[Callable[[], dict[str, object]]] = []
        self._known: dict[str, str] = {}
        self._fresh_until = 0.0
        self._checking = asyncio.Lock()

    def follow(self, check: Check, parts: Collection[str]) -> None:
        """From now on `check` says which of `parts`, which may grow, are not ready."""
        self._check, self._parts = check, parts

    @property
    def parts(self) -> list[str]:
        return sorted(self._parts)

    async def missing(self) -> dict[str, str]:
        """What keeps the process from being ready, with the reasons. Changes are logged. Of one that stops
        the parts are not looked at any more; what was known last stays."""
        if self.stopping:
            return self._known | {STOP: "the process is stopping"}
        async with self._checking:
            if time.monotonic() >= self._fresh_until:
                missing = await self._check() if self._check else {}
                if self.started and missing != self._known:
                    log.info("readiness changed", missing=missing)
                self._known, self._fresh_until = missing, time.monotonic() + FRESH_SECONDS
        return self._known if self.started else self._known | {START: "the process is starting"}

    async def report(self, without: Collection[str] = ()) -> dict[str, object]:
        """Whether the process is ready, if the parts in `without` do not count, and which parts are, without
        reasons, which may name addresses; and the details."""
        missing = await self.missing()
        report: dict[str, object] = {
            "ready": not missing.keys() - set(without).intersection(self._parts),
            "checks": {part: part not in missing for part in self.parts},
        }
        for detail in self.details:
            report |= detail()
        return report

    async def sample(self) -> list[Metric]:
        missing = await self.missing()
        return [
            STARTED.family({(): self.started}),
            STOPPING.family({(): self.stopping}),
            DEPENDENCY_READY.family({(part,): part not in missing for part in self.parts}),
        ]
