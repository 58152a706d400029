# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""The root type of subscriptions: the live feed of events."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import strawberry

from gateway.context import Info
from gateway.schema.event import Event
from gateway.schema.message_fields import computed_field, message_field
from gateway.schema.severity import Severity
from lares.store.v1 import events_pb2
from mesh.problems import Invalid

LARGEST_CURSOR = 2**63 - 1
MAX_DIGITS = len(str(LARGEST_CURSOR))


@strawberry.type(description="One change in the feed.")
class EventChange:
    message: strawberry.Private[events_pb2.EventChanged]
    cursor: str = message_field(
        "sequence", str, description="Pass it as `after` for what follows this change."
    )
    deleted: bool = message_field("deleted")
    event_id: strawberry.ID = message_field("event.id")

    event: Event | None = computed_field(
        lambda change: None if change.deleted else change.event,
        of=Event,
        description="The event as this change left it; null if it was deleted.",
    )


@strawberry.type
class Subscription:
    @strawberry.subscription(
        description="Every change after the cursor `after`, then live changes, each once and in order. `0` "
        "starts with the oldest change that is kept; without `after` it starts now. `minSeverity` leaves out "
        "events that are assessed below it or not assessed yet, `zoneIds` those that are in none of these "
        "zones, but never deletions. An empty list matches nothing."
    )
    async def event_changed(
        self,
        info: Info,
        after: str | None = None,
        camera_ids: list[strawberry.ID] | None = None,
        min_severity: Severity | None = None,
        zone_ids: list[strawberry.ID] | None = None,
    ) -> AsyncGenerator[EventChange, None]:
        matches = _filter(
            None if camera_ids is None else set(camera_ids),
            None if zone_ids is None else set(zone_ids),
            min_severity,
        )
        async with aclosing(info.context.feed.watch(_sequence(after))) as changes:
            async for change in changes:
                if matches(change):
                    yield EventChange(message=change)


def _sequence(after: str | None) -> int | None:
    if after is None:
        return None
    # The length is checked first, because parsing a number takes time quadratic in its length.
    if len(after) > MAX_DIGITS or not (after.isascii() and after.isdigit()) or int(after) > LARGEST_CURSOR:
        raise Invalid("after must be a cursor: a decimal number", "BAD_CURSOR")
    return int(after)


def _filter(
    cameras: set[strawberry.ID] | None, zones: set[strawberry.ID] | None, min_severity: Severity | None
) -> Callable[[events_pb2.EventChanged], bool]:
    """Deletions pass whatever `zones` and `min_severity` are, because a client that shows an event must learn
    that it was deleted. No zones at all match nothing."""

    def matches(change: events_pb2.EventChanged) -> bool:
        if cameras is not None and change.event.camera_id not in cameras:
            return False
        if zones is not None and not zones:
            return False
        if change.deleted:
            return True
        if zones is not None and zones.isdisjoint(change.event.zone_ids):
            return False
        return min_severity is None or change.event.assessment.severity >= min_severity.value

    return matches
