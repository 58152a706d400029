"""Announces facts. Those of one camera keep the order of its files; the work for them runs in parallel."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from opentelemetry.trace import Span

from ingest_svc.facts import Fact, IngestedMedia
from mesh.retry import retry
from mesh.telemetry.spans import begin_span, use_span
from mesh.telemetry.trace_context import enter_request

log = structlog.get_logger(__name__)

MAX_BATCH = 100
# While more than FEW facts are pending, those of COLLECT_SECONDS share a request.
FEW, COLLECT_SECONDS = 8, 0.1


@dataclass(eq=False)
class Announcement:
    """`fact` is the result of the work, None if there is nothing to announce. `done` has the same result once
    the fact is durably announced, and `on_announced` is called with it just before. `headers` identify the
    request that the work belongs to. `started` is in monotonic seconds, and `span` lasts from then until the
    announcement."""

    fact: "asyncio.Future[Fact | None]"
    headers: Mapping[str, str]
    started: float
    on_announced: Callable[[Fact | None], None]
    span: Span
    done: "asyncio.Future[Fact | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


Publish = Callable[[list[Fact], list[Span]], Awaitable[None]]


class Announcer:
    """`run` is its loop. `publish` gets facts with the span of each, and returns when all are durable."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._queues: dict[str, deque[Announcement]] = {}
        self._ready = asyncio.Event()
        self.pending = 0

    def submit(
        self,
        order_key: str,
        work: Coroutine[Any, Any, Fact | None],
        *,
        headers: Mapping[str, str] | None = None,
        started: float | None = None,
        on_announced: Callable[[Fact | None], None] = lambda _: None,
    ) -> Announcement:
        """Starts `work`. Its fact is announced after those of all work submitted before with the same key."""
        started = time.monotonic() if started is None else started
        span = begin_span("ingest media", {"lares.camera.id": order_key}, started)
        with use_span(span):
            fact = asyncio.ensure_future(work)
        announcement = Announcement(fact, headers or {}, started, on_announced, span)
        announcement.fact.add_done_callback(lambda _: self._ready.set())
        self._queues.setdefault(order_key, deque()).append(announcement)
        self.pending += 1
        return announcement

    async def run(self) -> None:
        """Runs until it is cancelled. Raises an error of the work or of `publish` that is not
        retryable."""
        batch: list[Announcement] = []
        try:
            while True:
                await self._ready.wait()
                if self.pending > FEW:
                    await asyncio.sleep(COLLECT_SECONDS)
                self._ready.clear()
                while batch := self._next_batch():
                    await self._announce(batch)
        finally:
            await self._abandon(batch)

    def _next_batch(self) -> list[Announcement]:
        """Removes finished announcements from the fronts of all queues, if they have the same headers."""
        batch: list[Announcement] = []
        for order_key, queue in list(self._queues.items()):
            while queue and queue[0].fact.done() and len(batch) < MAX_BATCH:
                if batch and queue[0].headers != batch[0].headers:
                    break
                batch.append(queue.popleft())
            if not queue:
                del self._queues[order_key]
        return batch

    async def _announce(self, batch: list[Announcement]) -> None:
        with_fact = [(fact, entry.span) for entry in batch if (fact := entry.fact.result()) is not None]
        enter_request(batch[0].headers)
        if with_fact:
            facts, spans = [fact for fact, _ in with_fact], [span for _, span in with_fact]
            await retry(lambda: self._publish(facts, spans), "announcing facts")
        for entry in batch:
            if fact := entry.fact.result():
                with use_span(entry.span):
                    _log(fact, time.monotonic() - entry.started, entry.span)
            entry.span.end()
            entry.on_announced(fact)
            self.pending -= 1  # last, so that anything `on_announced` starts is counted by then
            if not entry.done.done():
                entry.done.set_result(fact)

    async def _abandon(self, batch: list[Announcement]) -> None:
        unfinished = [*batch, *(entry for queue in self._queues.values() for entry in queue)]
        for entry in unfinished:
            entry.fact.cancel()
            entry.done.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*(entry.fact for entry in unfinished), return_exceptions=True)


def _log(fact: Fact, seconds: float, span: Span) -> None:
    """Logs the only line of a media or a rejected file. `seconds` from complete to durably announced."""
    if isinstance(fact, IngestedMedia):
        span.set_attribute("lares.media.id", fact.id)
        path = fact.file.path if fact.file else "(upload)"
        ms = round(seconds * 1000)
        log.debug("media ingested", camera=fact.camera.id, path=path, media=fact.id, ms=ms)
    else:
        cause = fact.cause
        span.set_attribute("lares.rejection.reason", cause.reason.value)
        log.warning("file rejected", path=fact.file.path, reason=cause.reason.value, detail=cause.detail)
