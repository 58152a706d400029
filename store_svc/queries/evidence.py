"""The evidence of events, as it was frozen and as it follows from their detections."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from cachetools import LRUCache
from sqlalchemy import func, literal_column, select

from lares.reason.v1.evidence_pb2 import Evidence, PastEvent
from lares.scene.v1.scene_pb2 import Track
from mesh.problems import Conflict, NotFound
from mesh.scene.geometry import Box
from store_svc import messages
from store_svc.database import Database
from store_svc.database.statement import Connection, Record, Statement, one_of
from store_svc.database.tables import cameras, detections, event_evidence, events, track_identities
from store_svc.domain.derived_evidence import (
    FoundObject,
    Surroundings,
    light_of,
    past_of,
    standing_boxes,
    stationary_matches,
    track_messages,
)
from store_svc.domain.evidence import digest_v1, digest_v2, load_history
from store_svc.domain.frozen_evidence import FrozenEvidence, past_with_history
from store_svc.domain.track_identity import NamedTrack, name_tracks
from store_svc.ids import parse_uuid
from store_svc.times import stamp

# What happened in an event is remembered as a few hundred bytes. One statement reads the detections of
# PAST_AT_ONCE events, each of which has at most some hundreds.
MAX_REMEMBERED, PAST_AT_ONCE = 20_000, 10

# One statement reads one snapshot. With two, frames could join the event in between.
_detection = detections.alias("detection")
_detections = (
    select(literal_column("detection"))  # the whole row, whose columns have names
    .select_from(_detection)
    .where(_detection.c.event_id == events.c.id)
    .order_by(_detection.c.captured_at, _detection.c.score.desc(), _detection.c.id)
    .scalar_subquery()
)
_named = track_identities.alias("named")
# The column `names` of a statement about events, for `names_of`.
NAMES = func.array(
    select(literal_column("named"))
    .select_from(_named)
    .where(_named.c.event_id == events.c.id)
    .order_by(_named.c.track_id)
    .scalar_subquery()
).label("names")
_EVIDENCE = Statement(
    select(
        events.c.id,
        events.c.camera_id,
        func.coalesce(cameras.c.display_name, events.c.camera_id).label("camera_name"),
        events.c.time_zone,
        events.c.started_at,
        events.c.ended_at,
        events.c.history,
        events.c.evidence_revision,
        events.c.evidence_digest,
        event_evidence.c.scene,
        event_evidence.c.body,
        func.array(_detections).label("detections"),
        NAMES,
    )
    .select_from(
        events.outerjoin(cameras, cameras.c.id == events.c.camera_id).outerjoin(
            event_evidence, event_evidence.c.event_id == events.c.id
        )
    )
    .where(one_of(events.c.id, "event_ids"))
)
# Detections never move, and their numbers never change: those that an event had at some time can be read at
# any later time.
_PAST = Statement(
    select(
        detections.c.event_id,
        func.coalesce(detections.c.number, -1).label("number"),
        detections.c.id,
        detections.c.label,
        detections.c.score,
        detections.c.box,
        detections.c.captured_at,
        detections.c.media_id,
        detections.c.stands,
    ).where(one_of(detections.c.event_id, "event_ids"))
)


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """An event with all that its evidence is made from. `computed_digest` is that of what was read, which the
    event's `digest` should be."""

    row: Record
    frozen: FrozenEvidence | None
    computed_digest: str

    @property
    def digest(self) -> str:
        return str(self.row["evidence_digest"])

    @staticmethod
    def of(row: Record) -> "StoredEvidence":
        ids = [detection["id"] for detection in row["detections"]]
        if row["body"] is None:
            return StoredEvidence(row, None, digest_v1(ids, load_history(row["history"]), row["time_zone"]))
        frozen = FrozenEvidence(row["scene"], row["body"], names_of(row["names"]))
        return StoredEvidence(row, frozen, digest_v2(ids, frozen.digest))

    def found(self) -> list[FoundObject]:
        return list(map(_found, self.row["detections"]))

    def tracks(self) -> list[Track]:
        """Without the names that somebody has given them."""
        assert self.frozen is not None
        surroundings = Surroundings.of(self.frozen.message())
        return track_messages(str(self.row["id"]), self.found(), surroundings)


class _Past(NamedTuple):
    """What happened in an earlier event, as a serialised PastEvent, and where vehicles stood in it."""

    body: bytes
    standing: tuple[Box, ...]


class EvidenceReader:
    """Derives tracks, and what happened in the events of the hour before, when evidence is read: never in the
    transaction that records a frame.

    What happened in an earlier event follows from the detections that it had then and from the scene by which
    the later event is measured, so it is derived once for all later events, and remembered.
    """

    def __init__(self) -> None:
        # By event, number of its detections, and scene.
        self._past: LRUCache[tuple[str, int, bytes], _Past] = LRUCache(MAX_REMEMBERED)

    async def load(self, connection: Connection, event_ids: Collection[UUID]) -> dict[UUID, StoredEvidence]:
        """By id, of the events that exist."""
        rows = await _EVIDENCE.fetch(connection, event_ids=list(event_ids))
        return {row["id"]: StoredEvidence.of(row) for row in rows}

    async def message(self, connection: Connection, stored: StoredEvidence) -> Evidence:
        """The evidence as reasoners get it."""
        row = stored.row
        if stored.frozen is None:
            message = _first_version(row)
        else:
            message = stored.frozen.message()
            await self._derive(connection, message, stored, stored.frozen)
        message.event_id, message.digest = str(row["id"]), row["evidence_digest"]
        message.revision = row["evidence_revision"]
        message.started_at.CopyFrom(stamp(row["started_at"]))
        message.ended_at.CopyFrom(stamp(row["ended_at"]))
        message.detections.extend(map(messages.evidence_detection_message, row["detections"]))
        return message

    async def _derive(
        self, connection: Connection, message: Evidence, stored: StoredEvidence, frozen: FrozenEvidence
    ) -> None:
        found = stored.found()
        tracks = stored.tracks()
        lost = name_tracks(tracks, [each.id for each in found], frozen.names)
        message.tracks.extend(tracks)
        message.lost_identities.extend(name.identity for name in lost)
        message.light = light_of(stored.row["started_at"], message.time_zone)
        message.history.extend(past_with_history(message.past))
        standing = standing_boxes(found, tracks)
        await self._derive_past(connection, message.past, Surroundings.of(message), frozen.scene, standing)

    async def _derive_past(
        self,
        connection: Connection,
        past: Sequence[PastEvent],
        surroundings: Surroundings,
        scene: bytes,
        standing: Sequence[Box],
    ) -> None:
        """`standing` is where the event's stationary vehicles stand."""
        unknown = [each for each in past if _key(each, scene) not in self._past]
        known = {id: found for each in past if (found := self._past.get(id := _key(each, scene)))}
        for start in range(0, len(unknown), PAST_AT_ONCE):
            some = unknown[start : start + PAST_AT_ONCE]
            rows = await _PAST.fetch(connection, event_ids=[parse_uuid(each.event_id) for each in some])
            for each in some:
                then = [
                    _found(row)
                    for row in rows
                    if str(row["event_id"]) == each.event_id and row["number"] < each.detection_count
                ]
                event, boxes = past_of(then, surroundings)
                summary = _Past(event.SerializeToString(), boxes)
                self._past[_key(each, scene)] = known[_key(each, scene)] = summary
                await asyncio.sleep(0)  # an event with hundreds of detections takes milliseconds
        for each in past:
            summary = known[_key(each, scene)]
            each.MergeFromString(summary.body)
            each.stationary_matches = stationary_matches(standing, summary.standing)


async def get_evidence(database: Database, reader: EvidenceReader, event_id: str) -> Evidence:
    """Raises NotFound (EVENT_NOT_FOUND), and Conflict (EVIDENCE_DIFFERS) if it does not have its digest."""
    async with database.connection() as connection:
        stored = (await reader.load(connection, [id := parse_uuid(event_id)])).get(id)
        if stored is None:
            raise NotFound("there is no such event", "EVENT_NOT_FOUND", event_id=event_id)
        if stored.computed_digest != stored.digest:
            sentence = "what is stored of this event's evidence does not have the event's digest"
            raise Conflict(sentence, "EVIDENCE_DIFFERS", event_id=event_id)
        return await reader.message(connection, stored)


def names_of(rows: Sequence[Record]) -> tuple[NamedTrack, ...]:
    """From rows of the table `track_identities`."""
    return tuple(NamedTrack(row["track_id"], tuple(row["detection_ids"]), row["person"]) for row in rows)


def _key(past: PastEvent, scene: bytes) -> tuple[str, int, bytes]:
    return past.event_id, past.detection_count, scene


def _found(row: Record) -> FoundObject:
    return FoundObject(
        row["id"], row["label"], row["score"], row["box"], row["captured_at"], row["media_id"], row["stands"]
    )


def _first_version(row: Record) -> Evidence:
    """Of an event that a version before `event_evidence` has opened."""
    history = load_history(row["history"])
    return Evidence(
        camera_id=row["camera_id"],
        camera_name=row["camera_name"],
        time_zone=row["time_zone"],
        history=[PastEvent(event_id=str(p.event_id), started_at=stamp(p.started_at)) for p in history],
    )
