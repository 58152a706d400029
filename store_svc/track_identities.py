"""What somebody says of who a track is. It is part of the event's evidence, which is assessed again."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, insert

from lares.store.v1.event_pb2 import Event
from mesh.problems import Conflict, NotFound
from store_svc.commit_signals import CommitSignals
from store_svc.database import Database
from store_svc.database.statement import Connection, Statement, equals, one_of, parameter
from store_svc.database.tables import track_identities
from store_svc.domain.frozen_evidence import person_message
from store_svc.domain.house import KnownPerson
from store_svc.domain.track_identity import NamedTrack
from store_svc.event_repository import (
    load_queued,
    lock_cameras,
    stored_event_message,
    write_events,
    write_queue,
)
from store_svc.house.people import find_person
from store_svc.ids import parse_uuid
from store_svc.queries.evidence import EvidenceReader

_named = track_identities.c
_REPLACE = Statement(
    delete(track_identities).where(equals(_named.event_id, "event_id"), one_of(_named.track_id, "track_ids"))
)
_ADD = Statement(
    insert(track_identities).values(
        {column.name: parameter(column.name, column) for column in track_identities.columns}
    )
)


class TrackIdentities:
    def __init__(
        self,
        database: Database,
        evidence: EvidenceReader,
        signals: CommitSignals,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._evidence = evidence
        self._signals = signals
        self._clock = clock

    async def identify(self, event_id: UUID, track_id: str, person_id: str) -> Event:
        """An empty `person_id` means that somebody has looked and does not know the person. What was said
        before of this track is replaced; the same again changes nothing.

        Raises NotFound (EVENT_NOT_FOUND, TRACK_NOT_FOUND, PERSON_NOT_FOUND), and Conflict (EVIDENCE_TOO_OLD)
        if an earlier version has opened the event.
        """
        event = await self._database.transaction(
            lambda connection: self._identify(connection, event_id, track_id, person_id)
        )
        self._signals.notify(feed=True, due=True)
        return event

    async def _identify(self, connection: Connection, event_id: UUID, track_id: str, person_id: str) -> Event:
        names = await lock_cameras(connection, [event_id])
        queued = (await load_queued(connection, [event_id])).get(event_id)
        if queued is None or queued.event.camera_id not in names:
            raise NotFound("there is no such event", "EVENT_NOT_FOUND", event_id=str(event_id))
        stored = (await self._evidence.load(connection, [event_id]))[event_id]
        if stored.frozen is None:
            sentence = "an earlier version has opened this event, and its evidence has no tracks"
            raise Conflict(sentence, "EVIDENCE_TOO_OLD", event_id=str(event_id))
        tracks, ids = stored.tracks(), [row["id"] for row in stored.row["detections"]]
        track = next((one for one in tracks if one.id == track_id.lower()), None)
        if track is None:
            raise NotFound("the event has no such track", "TRACK_NOT_FOUND", track_id=track_id)
        person = b""
        if person_id:
            row = await find_person(connection, person_id)
            known = KnownPerson(row["id"], row["name"], row["relation"])
            person = person_message(known).SerializeToString(deterministic=True)
        named = NamedTrack(
            parse_uuid(track.id), tuple(sorted(ids[index] for index in track.detection_indexes)), person
        )
        # Also names that were given to other tracks, which are parts of this one now.
        replaced = [one for one in stored.frozen.names if one.is_held_by(named.detection_ids)]
        kept = [one for one in stored.frozen.names if one not in replaced and one.track_id != named.track_id]
        frozen = stored.frozen.with_names([*kept, named])
        if frozen.digest != stored.frozen.digest:
            now = self._clock()
            await _REPLACE.execute(
                connection, event_id=event_id, track_ids=[named.track_id, *(one.track_id for one in replaced)]
            )
            await _ADD.execute(
                connection,
                event_id=event_id,
                track_id=named.track_id,
                detection_ids=list(named.detection_ids),
                person=person,
                identified_at=now,
            )
            queued.amend(frozen.digest, ids, now)
            await write_queue(connection, [queued])
            await write_events(connection, [], [queued.event], names, now)
        return stored_event_message(queued.event, names[queued.event.camera_id])
