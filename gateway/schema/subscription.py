# mypy: disable-error-code="untyped-decorator"
# (Strawberry types its decorators as Any where they are given a description.)
"""The live feed of events."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import strawberry

from gateway.context import Info
from gateway.schema.assessment import Severity
from gateway.schema.event import Event
from gateway.schema.reading import read
from lares.store.v1 import events_pb2
from mesh.problems import Invalid

LARGEST_CURSOR = 2**63 - 1
DIGITS = len(str(LARGEST_CURSOR))


@strawberry.type(description="One entry of the feed.")
class EventChange:
    message: strawberry.Private[events_pb2.EventChanged]
    cursor: str = read("sequence", str, description="As `after`: what follows this entry.")
    deleted: bool = read("deleted")
    event_id: strawberry.ID = read("event.id")

    @strawberry.field(description="As it was when this entry was written; null where it was deleted.")
    def event(self) -> Event | None:
        return None if self.message.deleted else Event(message=self.message.event)


@strawberry.type
class Subscription:
    @strawberry.subscription(
        description="Every change after the cursor `after`, then live, each once and in order. `0` is the "
        "oldest kept; without `after` it starts now. `minSeverity` withholds what is judged below it, or not "
        "judged yet; deletions always come."
    )
    async def event_changed(
        self,
        info: Info,
        after: str | None = None,
        camera_ids: list[strawberry.ID] | None = None,
        min_severity: Severity | None = None,
    ) -> AsyncGenerator[EventChange, None]:
        wanted = _filter(set(camera_ids or ()), min_severity)
        async with aclosing(info.context.feed.watch(_sequence(after))) as changes:
            async for change in changes:
                if wanted(change):
                    yield EventChange(message=change)


def _sequence(after: str | None) -> int | None:
    if after is None:
        return None
    # The length first: reading a number takes the square of it.
    if len(after) > DIGITS or not (after.isascii() and after.isdigit()) or int(after) > LARGEST_CURSOR:
        raise Invalid("after must be a cursor: a decimal number", "BAD_CURSOR")
    return int(after)


def _filter(cameras: set[strawberry.ID], least: Severity | None) -> Callable[[events_pb2.EventChanged], bool]:
    """Deletions pass `least`: whoever shows an event must hear that it is gone."""

    def wanted(change: events_pb2.EventChanged) -> bool:
        if cameras and change.event.camera_id not in cameras:
            return False
        return least is None or change.deleted or change.event.assessment.severity >= least.value

    return wanted
