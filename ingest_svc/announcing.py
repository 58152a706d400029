"""Facts go out in the order in which their files completed, per camera; the work before it is parallel."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from opentelemetry.trace import Span

from ingest_svc.photo import Fact, Photo
from ingest_svc.retry import until_done
from mesh.telemetry.spans import begin_span, use_span
from mesh.telemetry.trace_context import enter_request

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 100
# With so many on their way, what is worked out gathers between two announcements: each costs a request.
BACKLOG, GATHER_SECONDS = 32, 0.2


@dataclass(eq=False)
class Announcement:
    """`fact` is being worked out; `done` gives it once it is durably announced, None where there was none;
    `finished` is called with it just before. `headers` tell the request that it belongs to; `begun` is in
    monotonic seconds; `span` lasts from then until it is announced."""

    fact: "asyncio.Future[Fact | None]"
    headers: Mapping[str, str]
    begun: float
    finished: Callable[[Fact | None], None]
    span: Span
    done: "asyncio.Future[Fact | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


Publish = Callable[[list[Fact], list[Span]], Awaitable[None]]


class Announcer:
    """`run` is its loop. `publish` returns when all is durable; it is given the span of each fact, too."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._lines: dict[str, deque[Announcement]] = {}
        self._ready = asyncio.Event()
        self.pending = 0

    def submit(
        self,
        line: str,
        work: Coroutine[Any, Any, Fact | None],
        *,
        headers: Mapping[str, str] | None = None,
        begun: float | None = None,
        finished: Callable[[Fact | None], None] = lambda _: None,
    ) -> Announcement:
        """Takes the next place of this line at once; `work` may end when it will."""
        begun = time.monotonic() if begun is None else begun
        span = begin_span("ingest media", {"lares.camera.id": line}, begun)
        with use_span(span):
            fact = asyncio.ensure_future(work)
        announcement = Announcement(fact, headers or {}, begun, finished, span)
        announcement.fact.add_done_callback(lambda _: self._ready.set())
        self._lines.setdefault(line, deque()).append(announcement)
        self.pending += 1
        return announcement

    async def run(self) -> None:
        """Until cancelled; ends with the error of a work that failed for good."""
        batch: list[Announcement] = []
        try:
            while True:
                await self._ready.wait()
                self._ready.clear()
                while batch := self._next():
                    await self._announce(batch)
                    if self.pending > BACKLOG:
                        await asyncio.sleep(GATHER_SECONDS)
        finally:
            await self._abandon(batch)

    def _next(self) -> list[Announcement]:
        """The finished heads of all lines, as far as they share their headers."""
        batch: list[Announcement] = []
        for line, waiting in list(self._lines.items()):
            while waiting and waiting[0].fact.done() and len(batch) < MOST_AT_ONCE:
                if batch and waiting[0].headers != batch[0].headers:
                    break
                batch.append(waiting.popleft())
            if not waiting:
                del self._lines[line]
        return batch

    async def _announce(self, batch: list[Announcement]) -> None:
        told = [(fact, entry.span) for entry in batch if (fact := entry.fact.result()) is not None]
        enter_request(batch[0].headers)
        if told:
            facts, spans = [fact for fact, _ in told], [span for _, span in told]
            await until_done(lambda: self._publish(facts, spans), "announcing")
        for entry in batch:
            if fact := entry.fact.result():
                with use_span(entry.span):
                    _tell(fact, time.monotonic() - entry.begun, entry.span)
            entry.span.end()
            entry.finished(fact)
            self.pending -= 1  # after: whatever follows from it counts by then
            if not entry.done.done():
                entry.done.set_result(fact)

    async def _abandon(self, batch: list[Announcement]) -> None:
        left = [*batch, *(entry for waiting in self._lines.values() for entry in waiting)]
        for entry in left:
            entry.fact.cancel()
            entry.done.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*(entry.fact for entry in left), return_exceptions=True)


def _tell(fact: Fact, seconds: float, span: Span) -> None:
    """The one line of a photo. `seconds` from complete to durably announced."""
    if isinstance(fact, Photo):
        span.set_attribute("lares.media.id", fact.id)
        path = fact.file.path if fact.file else "(upload)"
        ms = round(seconds * 1000)
        log.debug("photo ingested", camera=fact.camera.id, path=path, media=fact.id, ms=ms)
    else:
        refusal = fact.refusal
        span.set_attribute("lares.rejection.reason", refusal.reason.value)
        log.warning("file rejected", path=fact.file.path, reason=refusal.reason.value, detail=refusal.detail)
