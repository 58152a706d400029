"""Every read of the store is one statement, however many rows and parents the request names."""

from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import uuid4

import pytest

from lares.ingest.v1.media_pb2 import FileFingerprint
from lares.reason.v1.assessment_pb2 import SEVERITY_HIGH, SEVERITY_MEDIUM
from lares.store.internal.v1 import file_service_pb2 as files_pb
from lares.store.v1 import camera_service_pb2 as cameras_pb
from lares.store.v1 import detection_service_pb2 as detections_pb
from lares.store.v1 import event_service_pb2 as events_pb
from lares.store.v1 import key_service_pb2 as keys_pb
from lares.store.v1 import media_service_pb2 as media_pb
from store_svc.api.cameras import CameraServicer
from store_svc.api.detections import DetectionServicer
from store_svc.api.events import EventServicer, TopicLags
from store_svc.api.files import FileServicer
from store_svc.api.keys import KeyServicer
from store_svc.api.media import MediaServicer
from store_svc.api_keys import ApiKeys
from store_svc.database import Database, tables
from store_svc.detectors import Detectors
from store_svc.domain.watch_policy import WatchSettings
from store_svc.policy_preview import PolicyPreviews
from store_svc.queries.evidence import EvidenceReader
from tests.support.store_rows import (
    NOON,
    assessed_rows,
    at,
    camera_row,
    detection_row,
    media_row,
    open_store_database,
    write,
    write_assessed,
)

EVENT = uuid4()
MANY = [str(uuid4()) for _ in range(20)] + [str(EVENT)]
WATCH = WatchSettings(["person"])
FILTER = events_pb.EventFilter(
    camera_ids=["front", "back"], labels=["person"], severities=[SEVERITY_MEDIUM, SEVERITY_HIGH]
)

nothing = cast(Any, None)


async def no_lag() -> int:
    return 0


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with open_store_database(postgres_url) as database:
        pairs = [assessed_rows(3, started_at=at(n)) for n in range(30)]
        await write_assessed(database, assessed_rows(2, id=EVENT), *pairs)
        members = [detection_row(event_id=EVENT, captured_at=at(n)) for n in range(20)]
        await write(database, tables.detections, *members)
        await write(database, tables.media, *[media_row(id=row["media_id"]) for row in members])
        await write(database, tables.cameras, *[camera_row(id) for id in ("front", "back")])
        yield database


def asked(database: Database) -> list[tuple[Any, Any]]:
    previews = PolicyPreviews(database, WATCH, Detectors(database, WATCH))
    cameras = CameraServicer(database, nothing, previews, (), lambda: NOON)
    detections = DetectionServicer(database)
    status = TopicLags(no_lag, no_lag, no_lag, no_lag)
    events = EventServicer(database, nothing, nothing, EvidenceReader(), nothing, status, lambda: NOON)
    media, keys = MediaServicer(database), KeyServicer(ApiKeys(database, lambda: NOON))
    files = [FileFingerprint(path=str(n)) for n in range(100)]
    return [
        (events.GetEvent, events_pb.GetEventRequest(event_id=str(EVENT))),
        (events.ListEvents, events_pb.ListEventsRequest()),
        (events.ListEvents, events_pb.ListEventsRequest(filter=FILTER)),
        (events.ListChanges, events_pb.ListChangesRequest()),
        (events.ListAssessments, events_pb.ListAssessmentsRequest(event_id=str(EVENT))),
        (events.BatchGetFailures, events_pb.BatchGetFailuresRequest(event_ids=MANY)),
        (events.GetStoreStatus, events_pb.GetStoreStatusRequest()),
        (detections.ListDetections, detections_pb.ListDetectionsRequest(event_id=str(EVENT))),
        (
            detections.BatchListDetections,
            detections_pb.BatchListDetectionsRequest(event_ids=MANY, media_ids=MANY),
        ),
        (media.ListMedia, media_pb.ListMediaRequest()),
        (media.BatchGetMedia, media_pb.BatchGetMediaRequest(media_ids=MANY)),
        (media.BatchListEventMedia, media_pb.BatchListEventMediaRequest(event_ids=MANY)),
        (media.ListRejections, media_pb.ListRejectionsRequest()),
        (FileServicer(database).ListUnknownFiles, files_pb.ListUnknownFilesRequest(files=files)),
        (FileServicer(database).ListKnownMedia, files_pb.ListKnownMediaRequest(media_ids=MANY)),
        (cameras.GetCamera, cameras_pb.GetCameraRequest(camera_id="front")),
        (cameras.BatchGetCameras, cameras_pb.BatchGetCamerasRequest(camera_ids=["front", "back", "none"])),
        (cameras.ListCameras, cameras_pb.ListCamerasRequest()),
        (cameras.GetWatchPolicy, cameras_pb.GetWatchPolicyRequest()),
        (keys.ListKeys, keys_pb.ListKeysRequest()),
    ]


async def test_one_statement_each(database: Database) -> None:
    statements: list[str] = []
    async with database.connection() as connection:
        # The only connection there is.
        connection.add_query_logger(lambda query: statements.append(query.query))
    for call, request in asked(database):
        await call(request, None)  # at first asyncpg also queries the types
        statements.clear()
        await call(request, None)
        assert len(statements) == 1, (call, statements)
    async with database.connection() as connection:
        opened = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        assert await connection.fetchval(opened) == 1
