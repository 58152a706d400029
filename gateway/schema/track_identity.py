"""Saying who a track is."""

import strawberry

from gateway.context import Info
from gateway.schema.event import Event
from lares.store.v1 import event_service_pb2
from mesh.rpc import call


@strawberry.input
class IdentifyTrackInput:
    event_id: strawberry.ID
    track_id: strawberry.ID = strawberry.field(description="The id of one of the `evidence { tracks }`.")
    person_id: strawberry.ID | None = strawberry.field(
        default=None, description="Null: you have looked, and do not know the person."
    )


@strawberry.type
class IdentifyTrackPayload:
    event: Event = strawberry.field(description="The event as it is now, before it is assessed again.")


async def identify_track(info: Info, input: IdentifyTrackInput) -> IdentifyTrackPayload:
    request = event_service_pb2.IdentifyTrackRequest(
        event_id=input.event_id, track_id=input.track_id, person_id=input.person_id or ""
    )
    response = await call(info.context.siblings.events.IdentifyTrack, request)
    return IdentifyTrackPayload(event=Event(message=response.event))
