"""What the gateway relies on in the store's services. The store itself, on a real PostgreSQL, and the fake
that the gateway's tests use pass the same suite."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.siblings import Siblings
from lares.detect.v1.detection_pb2 import BoundingBox, FrameDetection
from lares.ingest.v1 import media_pb2
from lares.reason.v1.assessment_pb2 import (
    SEVERITY_CRITICAL,
    SEVERITY_LOW,
    SEVERITY_MEDIUM,
    SEVERITY_UNSPECIFIED,
)
from lares.reason.v1.evidence_pb2 import (
    RELATION_FRIEND,
    RELATION_RESIDENT,
    RELATION_STAFF,
    RELATION_UNWELCOME,
)
from lares.scene.v1.scene_pb2 import (
    GROUND_DRIVE,
    GROUND_STREET_SIDE,
    ZONE_KIND_APPROACH,
    Line,
    Point,
    Zone,
)
from lares.store.internal.v1.key_check_service_pb2 import (
    DIGEST_ALGORITHM_MD5,
    VerifyDigestRequest,
    VerifyKeyRequest,
    VerifyKeyResponse,
)
from lares.store.internal.v1.key_check_service_pb2_grpc import KeyCheckServiceStub
from lares.store.v1 import camera_service_pb2 as camera_pb
from lares.store.v1 import detection_service_pb2 as detection_pb
from lares.store.v1 import event_service_pb2 as event_pb
from lares.store.v1 import house_service_pb2 as house_pb
from lares.store.v1 import media_service_pb2 as media_pb
from lares.store.v1 import rendition_pb2 as rendition_pb
from lares.store.v1.camera_pb2 import Camera, Mask, SizeFilter
from lares.store.v1.event_pb2 import EVENT_STATUS_ASSESSED, EVENT_STATUS_FAILED, EVENT_STATUS_PENDING, Event
from lares.store.v1.events_pb2 import EventChanged
from lares.store.v1.house_pb2 import (
    MODE_SOURCE_MANUAL,
    WEEKDAY_MONDAY,
    WEEKDAY_SUNDAY,
    ExpectedVisit,
    HouseMode,
    ModeChange,
    ModeSchedule,
    Person,
    PresenceReport,
    ScheduledMode,
    SiteNote,
    SiteNotes,
)
from lares.store.v1.rendition_service_pb2 import RequestRenditionRequest
from mesh.feed import Backlog, Feed
from mesh.http_digest import DigestAlgorithm, user_digest
from mesh.permissions import OF_A_KEY, REPORT_PRESENCE
from mesh.problems import Conflict, Exhausted, Invalid, NotFound, Problem, Unauthenticated
from mesh.rpc import Channels, GrpcServer, call
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Caller, Door, as_itself, digest
from store_svc.database import open_database
from store_svc.queries.feed import list_changes
from tests.support.callers import calling_as
from tests.support.parts import MIGRATED, fresh_database
from tests.support.real_store import add_real_services, copy_store
from tests.support.waiting import until
from tests.unit.gateway.fake_services import add_services
from tests.unit.gateway.fake_store import NOON, FakeStore, uuid

SQUARE = [Point(x=x, y=y) for x, y in ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))]
# What a camera can say about its picture.
SCENE: dict[str, Any] = {
    "zones": [Zone(id="path", name="The path", kind=ZONE_KIND_APPROACH, polygon=SQUARE)],
    "lines": [Line(id="gate", name="Gate", start=Point(x=0.25, y=0.5), end=Point(x=0.75, y=0.5))],
    "masks": [Mask(id="tree", name="Tree", polygon=SQUARE)],
    "size_filters": {"dog": SizeFilter(min_area=0.125, max_aspect=2), "*": SizeFilter(max_area=0.5)},
    "ground": GROUND_STREET_SIDE,
}

SECRET = "lares_the-key-of-the-tests"
PHONE = "lares_a-key-that-may-report-presence"
UNKNOWN = uuid("nothing")


def seed() -> FakeStore:
    """Three cameras, one of them deleted; six events, of which two start at the same time."""
    store = FakeStore(secrets={SECRET: uuid("key"), PHONE: uuid("phone")})
    store.permissions[uuid("phone")] = frozenset({REPORT_PRESENCE})
    store.add_camera("back-yard", display_name="Back Yard", time_zone="Europe/Berlin", enabled=False)
    store.add_camera("front-door", thresholds={"person": 0.5, "*": 0.25}, **SCENE)
    store.add_camera("garage")
    store.deleted_cameras.add("garage")
    scores = [("front-door", 10), ("front-door", 40), ("back-yard", 70), ("back-yard", None), ("garage", 95)]
    for index, (camera, score) in enumerate(scores):
        store.add_event(index, camera=camera, score=score, photos=1 + index % 2)
    store.add_event(5, found=3)
    store.events[4].started_at.CopyFrom(store.events[3].started_at)
    store.events[2].labels[:] = ["cat", "dog"]
    store.events[3].labels[:] = ["cat"]
    store.events[1].zone_ids[:] = ["path", "steps"]
    store.events[4].zone_ids[:] = ["path"]
    for number, stored in enumerate(store.detections):
        stored.zone_ids[:] = (["path"], [], ["path", "steps"])[number % 3]
    _add_failures(store)
    store.assess(store.events[1], 50, model="nano")
    store.raw_answers[store.assess(store.events[1], 45, model="nano").id] = '{"score": 45, "why": "\x00 é"}'
    previewed = store.add_media(9_000, camera="back-yard")
    previewed.policy_digest = "ab" * 32
    store.add_media(9_001).media.captured_at.CopyFrom(previewed.media.captured_at)
    for n, seconds in enumerate((5, 9, 5)):
        rejection = media_pb.Rejection(
            id=uuid("rejection", n),
            camera_id="front-door" if n else "",
            media_id=uuid("media", "rejected") if n == 1 else "",
            path=f"Front Door/{n}.jpg",
            reason=media_pb2.REJECTION_REASON_TRUNCATED,
            detail="The file ends in the middle.",
        )
        rejection.rejected_at.FromDatetime(NOON + timedelta(seconds=seconds))
        store.rejections.append(rejection)
    store.add_clip(9_100, frames=3, found=2)
    store.add_clip(9_200, frames=1)
    store.preview = preview(store)
    for event in (*store.events, store.events[0]):
        store.add_change(event)
    store.add_change(store.events[2], deleted=True)
    del store.events[2]
    store.expired_changes = 2
    return store


def _add_failures(store: FakeStore) -> None:
    for event, request in ((store.events[3], uuid("given up")), (store.events[4], "")):
        event.status = EVENT_STATUS_FAILED if request else event.status
        failure = event_pb.EventFailure(
            event_id=event.id, reason="BAD_ANSWER", detail="no JSON", given_up_request_id=request
        )
        failure.failed_at.FromDatetime(NOON)
        store.failures[event.id] = failure


def preview(store: FakeStore) -> camera_pb.PreviewPolicyResponse:
    """Of the camera back-yard, if it has a threshold of 0.375 for dogs."""
    previewed = next(stored for stored in store.media if stored.media.id == uuid("media", 9_000))
    frame = camera_pb.FramePreview(media_id=previewed.media.id, captured_at=previewed.media.captured_at)
    kept, not_watched = camera_pb.POLICY_DECISION_KEPT, camera_pb.POLICY_DECISION_NOT_WATCHED
    below = camera_pb.POLICY_DECISION_BELOW_THRESHOLD
    for rank, (label, score, recorded, proposed) in enumerate(
        [("person", 0.75, kept, kept), ("kite", 0.5, not_watched, not_watched), ("dog", 0.4, below, kept)]
    ):
        box = BoundingBox(x_min=0.25, y_min=0.25, x_max=0.5, y_max=0.75)
        frame.detections.add(
            detection=FrameDetection(rank=rank, label=label, score=score, bounding_box=box),
            recorded=recorded,
            proposed=proposed,
        )
    return camera_pb.PreviewPolicyResponse(
        frames=[frame], current_policy_digest=previewed.policy_digest, proposed_policy_digest="cd" * 32
    )


@dataclass
class Served:
    """A store behind gRPC, and what was put into it."""

    store: FakeStore
    siblings: Siblings
    key_checks: Any
    list_changes: Backlog


@pytest.fixture(params=["fake", "real"])
async def served(
    request: pytest.FixtureRequest, postgres_server: str, tmp_path: Path
) -> AsyncIterator[Served]:
    """Each store with the same content."""
    server, store = GrpcServer(CallInterceptor), seed()
    backlog: Backlog
    async with AsyncExitStack() as stack:
        if request.param == "fake":
            add_services(store, server)
            backlog = store.list_changes
        else:
            url = await stack.enter_async_context(fresh_database(postgres_server, MIGRATED))
            database = await stack.enter_async_context(open_database(url))
            await copy_store(store, database)
            add_real_services(database, server)
            backlog = partial(list_changes, database)
        address = await server.listen(f"unix:{tmp_path}/grpc.sock", door=Door.SIBLINGS)
        await server.start()
        channels = Channels({}, {"store": address})
        with calling_as(Caller.of_key(uuid("key"), "a test")):
            key_checks = KeyCheckServiceStub(channels.to("store"))
            yield Served(seed(), Siblings(channels.to), key_checks, backlog)
        await channels.close()
        await server.stop(0)


@contextmanager
def refused(kind: type[Problem], reason: str, **metadata: str) -> Iterator[None]:
    """The call in the block fails with this Problem."""
    with pytest.raises(Problem) as failure:
        yield
    problem = failure.value
    assert (type(problem), problem.reason, problem.metadata) == (kind, reason, metadata)


def by_id(messages: Iterable[Any]) -> list[Any]:
    return sorted(messages, key=lambda message: message.id)


def newest_first(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: (event.started_at.ToNanoseconds(), event.id), reverse=True)


async def check_pages(
    list_page: Callable[[int, str], Awaitable[tuple[Sequence[Any], Sequence[str], str]]],
    expected: Sequence[Any],
) -> None:
    """The list has these items, however large its pages are; the token of each item leads to the next."""
    items, tokens, following = await list_page(0, "")
    assert (list(items), following) == (list(expected), "")
    assert len(set(tokens)) == len(expected)
    for number, token in enumerate(tokens, 1):
        items, _, following = await list_page(1, token)
        assert list(items) == list(expected[number : number + 1])
        assert bool(following) == (number + 1 < len(expected))
    seen, token, more = [], "", True
    while more:
        items, tokens, following = await list_page(2, token)
        seen += list(items)
        token, more = following, bool(following)
        assert token in ("", tokens[-1] if tokens else "")
    assert seen == list(expected)


# Cameras


async def test_cameras_are_listed_by_id_without_deleted_ones(served: Served) -> None:
    cameras = served.store.cameras
    expected = [cameras["back-yard"], cameras["front-door"]]
    request = camera_pb.ListCamerasRequest()
    response = await call(served.siblings.cameras.ListCameras, request)
    assert (list(response.cameras), response.next_page_token) == (expected, "")
    request.page_size = 1
    for camera in expected:
        response = await call(served.siblings.cameras.ListCameras, request)
        assert list(response.cameras) == [camera]
        request.page_token = response.next_page_token
    assert request.page_token == ""


async def test_one_camera(served: Served) -> None:
    cameras = served.siblings.cameras
    response = await call(cameras.GetCamera, camera_pb.GetCameraRequest(camera_id="back-yard"))
    assert response.camera == served.store.cameras["back-yard"]
    for id in ("garage", "nothing"):
        with refused(NotFound, "CAMERA_NOT_FOUND", camera_id=id):
            await call(cameras.GetCamera, camera_pb.GetCameraRequest(camera_id=id))


async def test_a_batch_of_cameras_has_deleted_ones_and_leaves_out_unknown_ones(served: Served) -> None:
    request = camera_pb.BatchGetCamerasRequest(camera_ids=["nothing", "garage", "front-door"])
    response = await call(served.siblings.cameras.BatchGetCameras, request)
    assert by_id(response.cameras) == [served.store.cameras[id] for id in ("front-door", "garage")]


@pytest.mark.parametrize("id", ["new", "garage"])
async def test_a_created_camera_has_defaults(served: Served, id: str) -> None:
    """So has a deleted one that is created again."""
    cameras = served.siblings.cameras
    request = camera_pb.CreateCameraRequest(camera=Camera(id=id, thresholds={"dog": 0.5}))
    camera = (await call(cameras.CreateCamera, request)).camera
    noon = Timestamp(seconds=int(NOON.timestamp()))
    assert camera == Camera(
        id=id,
        display_name=id,
        time_zone="",
        enabled=True,
        thresholds={"dog": 0.5},
        created_at=noon,
        updated_at=noon,
    )
    assert (await call(cameras.GetCamera, camera_pb.GetCameraRequest(camera_id=id))).camera == camera
    with refused(Conflict, "CAMERA_EXISTS", camera_id=id):
        await call(cameras.CreateCamera, request)


BAD_SETTINGS = [
    (Camera(thresholds={"burglar": 0.5}), "thresholds", "BAD_LABEL", {"label": "burglar"}),
    (Camera(time_zone="Europe/Atlantis"), "time_zone", "BAD_TIME_ZONE", {"field": "time_zone"}),
    (Camera(size_filters={"burglar": SizeFilter()}), "size_filters", "BAD_LABEL", {"label": "burglar"}),
    (
        Camera(size_filters={"dog": SizeFilter(min_area=1.5)}),
        "size_filters",
        "BAD_SIZE_FILTER",
        {"field": "size_filters", "label": "dog"},
    ),
    (Camera(zones=[Zone(id="path")]), "zones", "BAD_ZONE", {"field": "zones", "id": "path"}),
    (Camera(lines=[Line(id="gate")]), "lines", "BAD_LINE", {"field": "lines", "id": "gate"}),
    (Camera(masks=[Mask(id="tree")]), "masks", "BAD_MASK", {"field": "masks", "id": "tree"}),
]


@pytest.mark.parametrize(("camera", "path", "reason", "metadata"), BAD_SETTINGS)
async def test_bad_settings_are_refused(
    served: Served, camera: Camera, path: str, reason: str, metadata: dict[str, str]
) -> None:
    cameras, mask = served.siblings.cameras, FieldMask(paths=[path])
    with refused(Invalid, reason, **metadata):
        await call(cameras.CreateCamera, camera_pb.CreateCameraRequest(camera=_named("new", camera)))
    camera = _named("front-door", camera)
    with refused(Invalid, reason, **metadata):
        await call(cameras.UpdateCamera, camera_pb.UpdateCameraRequest(camera=camera, update_mask=mask))
    with refused(Invalid, reason, **metadata):
        await call(cameras.PreviewPolicy, camera_pb.PreviewPolicyRequest(camera=camera, update_mask=mask))


def _named(id: str, settings: Camera) -> Camera:
    camera = Camera(id=id)
    camera.MergeFrom(settings)
    return camera


ALL = Camera(display_name="X", time_zone="UTC", enabled=True, thresholds={"cat": 0.5}, **SCENE)


@pytest.mark.parametrize(
    ("given", "paths", "changed"),
    [
        (Camera(display_name="X"), ["display_name"], Camera(display_name="X")),
        (ALL, ["enabled"], Camera(enabled=True)),
        (ALL, ["thresholds", "time_zone"], Camera(thresholds={"cat": 0.5}, time_zone="UTC")),
        (ALL, ["zones", "ground"], Camera(zones=SCENE["zones"], ground=SCENE["ground"])),
        (Camera(masks=SCENE["masks"], ground=GROUND_DRIVE), [], Camera(ground=GROUND_DRIVE)),
        (Camera(), ["lines", "size_filters", "ground"], Camera()),
        (Camera(), ["time_zone"], Camera(time_zone="")),
        (Camera(), ["display_name", "enabled"], Camera(display_name="back-yard", enabled=True)),
        (Camera(enabled=True, thresholds={"cat": 0.5}), [], Camera(enabled=True)),
        (ALL, ["*"], ALL),
        (Camera(), ["*"], Camera(display_name="back-yard", time_zone="", enabled=True)),
    ],
)
async def test_an_update_changes_what_its_mask_names(
    served: Served, given: Camera, paths: list[str], changed: Camera
) -> None:
    """Without a mask: the settings that are given, but no maps."""
    request = camera_pb.UpdateCameraRequest(
        camera=_named("back-yard", given), update_mask=FieldMask(paths=paths) if paths else None
    )
    response = await call(served.siblings.cameras.UpdateCamera, request)
    expected = served.store.cameras["back-yard"]
    for name in ("thresholds", *SCENE):
        if name in paths or "*" in paths:
            expected.ClearField(name)  # type: ignore[arg-type]
    expected.MergeFrom(changed)
    expected.updated_at.FromDatetime(NOON)
    assert response.camera == expected
    listed = await call(served.siblings.cameras.ListCameras, camera_pb.ListCamerasRequest())
    assert listed.cameras[0] == expected


@pytest.mark.parametrize(
    ("paths", "reason"),
    [(["id"], "BAD_FIELD_MASK"), (["*", "enabled"], "BAD_FIELD_MASK"), ([], "NOTHING_TO_UPDATE")],
)
async def test_a_mask_must_name_settings(served: Served, paths: list[str], reason: str) -> None:
    cameras, camera = served.siblings.cameras, Camera(id="front-door", thresholds={"cat": 0.5})
    mask = FieldMask(paths=paths)
    with refused(Invalid, reason):
        await call(cameras.UpdateCamera, camera_pb.UpdateCameraRequest(camera=camera, update_mask=mask))
    with refused(Invalid, reason):
        await call(cameras.PreviewPolicy, camera_pb.PreviewPolicyRequest(camera=camera, update_mask=mask))


async def test_a_deleted_camera_is_found_by_batches_only(served: Served) -> None:
    cameras, id = served.siblings.cameras, "front-door"
    await call(cameras.DeleteCamera, camera_pb.DeleteCameraRequest(camera_id=id))
    listed = await call(cameras.ListCameras, camera_pb.ListCamerasRequest())
    assert [camera.id for camera in listed.cameras] == ["back-yard"]
    batch = await call(cameras.BatchGetCameras, camera_pb.BatchGetCamerasRequest(camera_ids=[id]))
    expected = served.store.cameras[id]
    expected.updated_at.FromDatetime(NOON)
    assert list(batch.cameras) == [expected]


@pytest.mark.parametrize("id", ["garage", "nothing"])
async def test_nothing_is_done_with_a_camera_that_does_not_exist(served: Served, id: str) -> None:
    cameras, camera = served.siblings.cameras, Camera(id=id, enabled=True)
    requests: list[tuple[Any, Any]] = [
        (cameras.UpdateCamera, camera_pb.UpdateCameraRequest(camera=camera)),
        (cameras.DeleteCamera, camera_pb.DeleteCameraRequest(camera_id=id)),
        (cameras.GetWatchPolicy, camera_pb.GetWatchPolicyRequest(camera_id=id)),
        (cameras.SuggestZones, camera_pb.SuggestZonesRequest(camera_id=id)),
        (cameras.PreviewPolicy, camera_pb.PreviewPolicyRequest(camera=camera)),
    ]
    for method, request in requests:
        with refused(NotFound, "CAMERA_NOT_FOUND", camera_id=id):
            await call(method, request)


async def test_a_preview_has_every_finding_of_recent_frames(served: Served) -> None:
    """The fake's is scripted: this shows that the script is one that the store could return."""
    request = camera_pb.PreviewPolicyRequest(
        camera=Camera(id="back-yard", thresholds={"dog": 0.375}),
        update_mask=FieldMask(paths=["thresholds"]),
    )
    response = await call(served.siblings.cameras.PreviewPolicy, request)
    assert list(response.frames) == list(served.store.preview.frames)
    assert response.current_policy_digest == served.store.preview.current_policy_digest
    assert len(response.proposed_policy_digest) == 64


async def test_a_camera_that_has_seen_little_has_no_zones_to_suggest(served: Served) -> None:
    request = camera_pb.SuggestZonesRequest(camera_id="back-yard")
    response = await call(served.siblings.cameras.SuggestZones, request)
    assert list(response.suggestions) == []


# Events


@pytest.mark.parametrize(
    ("filter", "chosen"),
    [
        (event_pb.EventFilter(), {0, 1, 3, 4, 5}),
        (event_pb.EventFilter(camera_ids=["front-door", "nothing"]), {0, 1, 5}),
        (event_pb.EventFilter(labels=["dog", "cat"]), {3}),
        (event_pb.EventFilter(zone_ids=["steps", "nowhere"]), {1}),
        (event_pb.EventFilter(zone_ids=["path"], camera_ids=["garage"]), {4}),
        (event_pb.EventFilter(zone_ids=["nowhere"]), set()),
        (event_pb.EventFilter(severities=[SEVERITY_LOW, SEVERITY_CRITICAL]), {0, 4}),
        (event_pb.EventFilter(severities=[SEVERITY_UNSPECIFIED]), set()),
        (event_pb.EventFilter(statuses=[EVENT_STATUS_PENDING, EVENT_STATUS_FAILED]), {3, 5}),
        (event_pb.EventFilter(statuses=[EVENT_STATUS_ASSESSED], severities=[SEVERITY_MEDIUM]), {1}),
        (event_pb.EventFilter(started_after=Timestamp(seconds=int(NOON.timestamp()) + 1)), {1, 3, 4, 5}),
        (event_pb.EventFilter(started_before=Timestamp(seconds=int(NOON.timestamp()) + 1)), {0}),
        (
            event_pb.EventFilter(
                started_after=Timestamp(seconds=int(NOON.timestamp()), nanos=1),
                started_before=Timestamp(seconds=int(NOON.timestamp()) + 3, nanos=1),
            ),
            {1, 3, 4},
        ),
    ],
)
async def test_events_are_listed_newest_first(
    served: Served, filter: event_pb.EventFilter, chosen: set[int]
) -> None:
    async def list_page(size: int, token: str) -> Any:
        request = event_pb.ListEventsRequest(filter=filter, page_size=size, page_token=token)
        response = await call(served.siblings.events.ListEvents, request)
        return response.events, response.page_tokens, response.next_page_token

    ids = {uuid("event", index) for index in chosen}
    await check_pages(list_page, newest_first(event for event in served.store.events if event.id in ids))


async def test_a_page_token_belongs_to_one_list_and_filter(served: Served) -> None:
    siblings = served.siblings
    events = await call(siblings.events.ListEvents, event_pb.ListEventsRequest())
    media = await call(siblings.media.ListMedia, media_pb.ListMediaRequest())
    event = served.store.events[1]
    of_event = detection_pb.ListDetectionsRequest(event_id=event.id)
    detections = await call(siblings.detections.ListDetections, of_event)
    history = event_pb.ListAssessmentsRequest(event_id=event.id)
    assessments = await call(siblings.events.ListAssessments, history)
    filter, zoned = event_pb.EventFilter(labels=["cat"]), event_pb.EventFilter(zone_ids=["path"])
    other = uuid("event", 0)
    lists: list[tuple[Any, Any, str]] = [
        (siblings.events.ListEvents, event_pb.ListEventsRequest(filter=filter), events.page_tokens[0]),
        (siblings.events.ListEvents, event_pb.ListEventsRequest(filter=zoned), events.page_tokens[0]),
        (siblings.events.ListEvents, event_pb.ListEventsRequest(), media.page_tokens[0]),
        (siblings.media.ListMedia, media_pb.ListMediaRequest(camera_ids=["garage"]), media.page_tokens[0]),
        (siblings.media.ListRejections, media_pb.ListRejectionsRequest(), events.page_tokens[0]),
        (siblings.cameras.ListCameras, camera_pb.ListCamerasRequest(), events.page_tokens[0]),
        (
            siblings.detections.ListDetections,
            detection_pb.ListDetectionsRequest(event_id=other),
            detections.page_tokens[0],
        ),
        (
            siblings.detections.ListDetections,
            detection_pb.ListDetectionsRequest(event_id=event.id, zone_ids=["path"]),
            detections.page_tokens[0],
        ),
        (
            siblings.detections.ListDetections,
            detection_pb.ListDetectionsRequest(media_id=event.id),
            detections.page_tokens[0],
        ),
        (
            siblings.events.ListAssessments,
            event_pb.ListAssessmentsRequest(event_id=other),
            assessments.page_tokens[0],
        ),
    ]
    for method, request, token in lists:
        for wrong in (token, "nonsense", "AAAA"):
            request.page_token = wrong
            with refused(Invalid, "BAD_PAGE_TOKEN"):
                await call(method, request)


async def test_one_event(served: Served) -> None:
    for event in served.store.events:
        response = await call(served.siblings.events.GetEvent, event_pb.GetEventRequest(event_id=event.id))
        assert response.event == event
    with refused(NotFound, "EVENT_NOT_FOUND", event_id=UNKNOWN):
        await call(served.siblings.events.GetEvent, event_pb.GetEventRequest(event_id=UNKNOWN))


async def test_events_have_the_name_that_their_camera_has_now(served: Served) -> None:
    camera = Camera(id="front-door", display_name="New")
    await call(served.siblings.cameras.UpdateCamera, camera_pb.UpdateCameraRequest(camera=camera))
    listed = await call(served.siblings.events.ListEvents, event_pb.ListEventsRequest())
    got = await call(served.siblings.events.GetEvent, event_pb.GetEventRequest(event_id=uuid("event", 0)))
    for event in (*listed.events, got.event):
        assert event.camera_name == ("New" if event.camera_id == "front-door" else _name(served, event))


def _name(served: Served, event: Event) -> str:
    return served.store.cameras[event.camera_id].display_name


async def test_the_same_request_for_a_reassessment_is_one(served: Served) -> None:
    event = next(event for event in served.store.events if event.id == uuid("event", 0))
    request = event_pb.ReassessEventRequest(event_id=event.id, request_id=uuid("request"), model="nano")
    for _ in range(2):
        response = await call(served.siblings.events.ReassessEvent, request)
        assert (response.request_id, response.event) == (uuid("request"), event)


async def test_a_reassessment_gets_an_id_unless_it_has_one(served: Served) -> None:
    request = event_pb.ReassessEventRequest(event_id=uuid("event", 3))
    response = await call(served.siblings.events.ReassessEvent, request)
    assert str(UUID(response.request_id)) == response.request_id
    with refused(NotFound, "EVENT_NOT_FOUND", event_id=UNKNOWN):
        await call(served.siblings.events.ReassessEvent, event_pb.ReassessEventRequest(event_id=UNKNOWN))


@pytest.mark.parametrize("id", [uuid("event", 1), uuid("event", 5), UNKNOWN])
async def test_assessments_are_listed_as_they_were_recorded_the_last_first(served: Served, id: str) -> None:
    async def list_page(size: int, token: str) -> Any:
        request = event_pb.ListAssessmentsRequest(event_id=id, page_size=size, page_token=token)
        response = await call(served.siblings.events.ListAssessments, request)
        return response.assessments, response.page_tokens, response.next_page_token

    await check_pages(list_page, served.store.assessments.get(id, []))


async def test_a_raw_answer_is_empty_if_none_was_kept(served: Served) -> None:
    assessments = served.store.assessments[uuid("event", 1)]
    answers = []
    for assessment in assessments:
        request = event_pb.GetRawAnswerRequest(assessment_id=assessment.id)
        answers.append((await call(served.siblings.events.GetRawAnswer, request)).raw_answer)
    assert answers == [served.store.raw_answers[assessments[0].id], "", ""]
    with refused(NotFound, "ASSESSMENT_NOT_FOUND", assessment_id=UNKNOWN):
        await call(served.siblings.events.GetRawAnswer, event_pb.GetRawAnswerRequest(assessment_id=UNKNOWN))


async def test_failures_of_those_events_that_have_one(served: Served) -> None:
    ids = [uuid("event", 0), *served.store.failures, UNKNOWN]
    request = event_pb.BatchGetFailuresRequest(event_ids=ids)
    response = await call(served.siblings.events.BatchGetFailures, request)
    failures = {failure.event_id: failure for failure in response.failures}
    assert failures == served.store.failures
    assert len(response.failures) == len(failures)


FALSE_ALARM, MISSED = event_pb.FEEDBACK_KIND_FALSE_ALARM, event_pb.FEEDBACK_KIND_MISSED
RIGHT, WRONG = event_pb.FEEDBACK_KIND_RIGHT, event_pb.FEEDBACK_KIND_WRONG_SEVERITY


async def test_feedback_is_kept_for_each_assessment(served: Served) -> None:
    event = served.store.events[1]
    current, *earlier = served.store.assessments[event.id]
    first = event_pb.SetFeedbackRequest(event_id=event.id, kind=RIGHT)
    assert (await call(served.siblings.events.SetFeedback, first)).feedback.assessment_id == current.id
    second = event_pb.SetFeedbackRequest(
        event_id=event.id, assessment_id=current.id, kind=WRONG, severity=SEVERITY_CRITICAL, note="x"
    )
    replaced = (await call(served.siblings.events.SetFeedback, second)).feedback
    other = event_pb.SetFeedbackRequest(event_id=event.id, assessment_id=earlier[-1].id, kind=FALSE_ALARM)
    added = (await call(served.siblings.events.SetFeedback, other)).feedback
    assert (replaced.kind, replaced.severity, replaced.note) == (WRONG, SEVERITY_CRITICAL, "x")
    assert (added.assessment_id, added.severity) == (earlier[-1].id, SEVERITY_LOW)
    batch = event_pb.BatchGetFeedbackRequest(assessment_ids=[current.id, earlier[0].id, UNKNOWN])
    found = (await call(served.siblings.events.BatchGetFeedback, batch)).feedback
    assert list(found) == [replaced]
    seen, token = list[event_pb.Feedback](), ""
    for _ in range(2):
        page = event_pb.ListFeedbackRequest(page_size=1, page_token=token)
        response = await call(served.siblings.events.ListFeedback, page)
        seen += response.feedback
        token = response.next_page_token
    assert by_assessment(seen) == by_assessment([replaced, added])
    assert token == ""


def by_assessment(feedback: Iterable[event_pb.Feedback]) -> dict[str, event_pb.Feedback]:
    return {each.assessment_id: each for each in feedback}


@pytest.mark.parametrize(
    ("index", "kind", "severity"),
    [
        (0, FALSE_ALARM, SEVERITY_UNSPECIFIED),  # is LOW
        (1, MISSED, SEVERITY_UNSPECIFIED),  # is more than LOW
        (0, MISSED, SEVERITY_LOW),
        (0, RIGHT, SEVERITY_MEDIUM),
        (0, WRONG, SEVERITY_UNSPECIFIED),
        (0, WRONG, SEVERITY_LOW),  # is LOW
    ],
)
async def test_feedback_that_contradicts_itself(served: Served, index: int, kind: Any, severity: Any) -> None:
    event = served.store.events[index]
    request = event_pb.SetFeedbackRequest(event_id=event.id, kind=kind, severity=severity)
    with refused(Invalid, "BAD_FEEDBACK"):
        await call(served.siblings.events.SetFeedback, request)


async def test_feedback_on_no_assessment(served: Served) -> None:
    pending, other = served.store.events[2].id, served.store.assessments[served.store.events[1].id][0].id
    for event_id, assessment_id in ((UNKNOWN, ""), (pending, ""), (pending, other)):
        request = event_pb.SetFeedbackRequest(event_id=event_id, assessment_id=assessment_id, kind=RIGHT)
        with refused(NotFound, "ASSESSMENT_NOT_FOUND", event_id=event_id):
            await call(served.siblings.events.SetFeedback, request)


async def test_the_evidence_of_an_event(served: Served) -> None:
    event = served.store.events[0]
    request = event_pb.GetEvidenceRequest(event_id=event.id)
    evidence = (await call(served.siblings.events.GetEvidence, request)).evidence
    assert (evidence.event_id, evidence.camera_id) == (event.id, event.camera_id)
    with refused(NotFound, "EVENT_NOT_FOUND", event_id=UNKNOWN):
        await call(served.siblings.events.GetEvidence, event_pb.GetEvidenceRequest(event_id=UNKNOWN))


async def test_a_track_of_an_event_without_tracks(served: Served) -> None:
    for event_id, kind, reason in (
        (UNKNOWN, NotFound, "EVENT_NOT_FOUND"),
        (served.store.events[0].id, Conflict, "EVIDENCE_TOO_OLD"),
    ):
        request = event_pb.IdentifyTrackRequest(event_id=event_id, track_id=UNKNOWN)
        with refused(kind, reason, event_id=event_id):
            await call(served.siblings.events.IdentifyTrack, request)


async def test_an_idle_store(served: Served) -> None:
    """Which events are due, the fake does not model: its tests script that."""
    response = await call(served.siblings.events.GetStoreStatus, event_pb.GetStoreStatusRequest())
    for field in (
        "detections_lag",
        "rejections_lag",
        "assessments_lag",
        "due_events",
        "leased_events",
        "outbox",
    ):
        assert getattr(response, field) == 0
    assert response.HasField("eta")
    assert response.eta.ToNanoseconds() == 0
    assert not response.HasField("oldest_due_at")


# The feed


async def test_changes_that_are_kept(served: Served) -> None:
    expected, head = served.store.changes[2:], len(served.store.changes)
    for after, size in ((0, 0), (2, 0), (3, 2), (head, 0)):
        request = event_pb.ListChangesRequest(after=after, page_size=size)
        response = await call(served.siblings.events.ListChanges, request)
        following = [change for change in expected if change.sequence > after]
        assert (list(response.changes), response.head) == (following[: size or 200], head)


async def test_cursors_that_are_too_old_or_too_new(served: Served) -> None:
    head = len(served.store.changes)
    with refused(Invalid, "CURSOR_BEYOND_HEAD", head=str(head)):
        await call(served.siblings.events.ListChanges, event_pb.ListChangesRequest(after=head + 1))
    with refused(Conflict, "CURSOR_EXPIRED", oldest="3"):
        await call(served.siblings.events.ListChanges, event_pb.ListChangesRequest(after=1))


async def test_the_feed_goes_on_after_a_cursor_or_from_now(served: Served) -> None:
    feed, head = Feed(served.list_changes), len(served.store.changes)
    live = EventChanged(sequence=head + 1)

    def caught_up() -> bool:
        return bool(feed._subscribers) and not any(one.behind for one in feed._subscribers)

    for after, kept in ((0, served.store.changes[2:]), (4, served.store.changes[4:]), (head, []), (None, [])):
        async with asyncio.timeout(60), aclosing(feed.watch(after)) as changes:
            assert [await anext(changes) for _ in kept] == kept
            following = asyncio.ensure_future(anext(changes))
            await until(caught_up)
            feed.put(live)
            assert await following == live


# Media and detections


@pytest.mark.parametrize("cameras", [[], ["back-yard"], ["garage", "front-door"], ["nothing"]])
async def test_media_are_listed_newest_capture_first(served: Served, cameras: list[str]) -> None:
    async def list_page(size: int, token: str) -> Any:
        request = media_pb.ListMediaRequest(camera_ids=cameras, page_size=size, page_token=token)
        response = await call(served.siblings.media.ListMedia, request)
        return response.media, response.page_tokens, response.next_page_token

    media = [one for one in served.store.media if not cameras or one.media.camera_id in cameras]
    await check_pages(list_page, sorted(media, key=capture, reverse=True))


def capture(stored: media_pb.StoredMedia) -> tuple[int, str]:
    return stored.media.captured_at.ToNanoseconds(), stored.media.id


async def test_one_media_and_a_batch(served: Served) -> None:
    ids = [stored.media.id for stored in served.store.media[:3]]
    one = await call(served.siblings.media.GetMedia, media_pb.GetMediaRequest(media_id=ids[0]))
    assert one.media == served.store.media[0]
    batch = await call(
        served.siblings.media.BatchGetMedia, media_pb.BatchGetMediaRequest(media_ids=[*ids, UNKNOWN])
    )
    found = {stored.media.id: stored for stored in batch.media}
    assert [found[id] for id in ids] == served.store.media[:3]
    assert len(batch.media) == 3
    with refused(NotFound, "MEDIA_NOT_FOUND", media_id=UNKNOWN):
        await call(served.siblings.media.GetMedia, media_pb.GetMediaRequest(media_id=UNKNOWN))


async def test_frames_of_media_in_the_order_of_the_request(served: Served) -> None:
    """A photo is its only frame, whether its findings were filtered by the store or before."""
    clip, short, photo, previewed = (uuid("media", index) for index in (9_100, 9_200, 0, 9_000))
    ids = [photo, clip, UNKNOWN, previewed, short, clip]
    response = await call(
        served.siblings.media.BatchListFrames, media_pb.BatchListFramesRequest(media_ids=ids)
    )
    assert [each.media_id for each in response.media] == ids
    frames = {each.media_id: list(each.frames) for each in response.media}
    assert [frame.index for frame in frames[clip]] == [0, 2000, 4000]
    assert frames == {id: served.store.frames_of(id) for id in ids}
    assert [len(each.frames) for each in response.media] == [1, 3, 0, 1, 1, 3]


async def test_a_clip_keeps_what_its_container_says_and_how_its_frames_were_chosen(served: Served) -> None:
    id = uuid("media", 9_100)
    stored = (await call(served.siblings.media.GetMedia, media_pb.GetMediaRequest(media_id=id))).media
    assert (stored.media.clip.video_codec, stored.media.clip.duration.seconds) == ("h264", 6)
    assert (stored.frame_choice.version, stored.poster_frame) == ("frames/v1", 4000)


async def test_media_of_events_in_the_order_of_the_request(served: Served) -> None:
    ids = [uuid("event", 3), UNKNOWN, uuid("event", 0), uuid("event", 1)]
    request = media_pb.BatchListEventMediaRequest(event_ids=ids)
    response = await call(served.siblings.media.BatchListEventMedia, request)
    assert [event.event_id for event in response.events] == ids
    photos = [[300, 301], [], [0], [100, 101]]
    assert [[stored.media.id for stored in event.media] for event in response.events] == [
        [uuid("media", index) for index in indices] for indices in photos
    ]


async def test_rejections_are_listed_newest_first(served: Served) -> None:
    async def list_page(size: int, token: str) -> Any:
        request = media_pb.ListRejectionsRequest(page_size=size, page_token=token)
        response = await call(served.siblings.media.ListRejections, request)
        return response.rejections, response.page_tokens, response.next_page_token

    def age(rejection: media_pb.Rejection) -> tuple[int, str]:
        return rejection.rejected_at.ToNanoseconds(), rejection.id

    await check_pages(list_page, sorted(served.store.rejections, key=age, reverse=True))


@pytest.mark.parametrize("zones", [[], ["steps"], ["steps", "path"], ["nowhere"]])
@pytest.mark.parametrize(
    "parent",
    [
        {"event_id": uuid("event", 1)},
        {"event_id": uuid("event", 5)},
        {"media_id": uuid("media", 500)},
        {"media_id": UNKNOWN},
    ],
)
async def test_detections_are_listed_by_capture_and_score(
    served: Served, parent: dict[str, str], zones: list[str]
) -> None:
    ((name, id),) = parent.items()

    async def list_page(size: int, token: str) -> Any:
        request = detection_pb.ListDetectionsRequest(page_size=size, page_token=token, zone_ids=zones)
        setattr(request, name, id)
        response = await call(served.siblings.detections.ListDetections, request)
        return response.detections, response.page_tokens, response.next_page_token

    await check_pages(list_page, detections_of(served, name, id, zones))


async def test_detections_of_one_frame(served: Served) -> None:
    event = uuid("event", 1)
    for frame, expected in ((0, detections_of(served, "event_id", event)), (2000, [])):
        request = detection_pb.ListDetectionsRequest(event_id=event, frame=frame)
        response = await call(served.siblings.detections.ListDetections, request)
        assert list(response.detections) == expected


async def test_a_caller_waits_for_one_rendition_at_a_time(served: Served) -> None:
    async def request(kind: rendition_pb.RenditionKind.ValueType, subject: str) -> rendition_pb.Rendition:
        asked = RequestRenditionRequest(kind=kind, subject_id=subject)
        return (await call(served.siblings.renditions.RequestRendition, asked)).rendition

    frames, preview = rendition_pb.RENDITION_KIND_FRAMES, rendition_pb.RENDITION_KIND_EVENT_PREVIEW
    first, second = uuid("event", 0), uuid("event", 1)
    with calling_as(Caller.of_key(uuid("one"), "One")):
        for kind, subject, reason in (
            (frames, UNKNOWN, "MEDIA_NOT_FOUND"),
            (rendition_pb.RENDITION_KIND_PLAYABLE, UNKNOWN, "MEDIA_NOT_FOUND"),
            (preview, UNKNOWN, "EVENT_NOT_FOUND"),
            (rendition_pb.RENDITION_KIND_EVENT_CLIP, UNKNOWN, "EVENT_NOT_FOUND"),
        ):
            of = {reason.partition("_")[0].lower() + "_id": subject}
            with refused(NotFound, reason, **of):
                await request(kind, subject)
        for kind, subject in (
            (frames, uuid("media", 0)),
            (rendition_pb.RENDITION_KIND_PLAYABLE, uuid("media", 0)),
            (rendition_pb.RENDITION_KIND_EVENT_CLIP, first),
        ):
            with refused(Conflict, "NOTHING_TO_RENDER"):
                await request(kind, subject)
        waiting = await request(preview, first)
        assert (waiting.state, waiting.kind) == (rendition_pb.RENDITION_STATE_WAITING, preview)
        assert waiting.subject_id == first
        with refused(Exhausted, "TOO_MANY_RENDITIONS"):
            await request(preview, second)
        assert await request(preview, first) == waiting
    with calling_as(Caller.of_key(uuid("two"), "Two")):
        assert await request(preview, first) == waiting
        other = await request(preview, second)
        assert (other.state, other.id != waiting.id) == (rendition_pb.RENDITION_STATE_WAITING, True)


def detections_of(
    served: Served, parent: str, id: str, zones: Sequence[str] = ()
) -> list[detection_pb.StoredDetection]:
    """Those in any of the zones, if any are named."""
    detections = [
        stored
        for stored in served.store.detections
        if getattr(stored, parent) == id and (not zones or {*zones} & {*stored.zone_ids})
    ]
    return sorted(
        detections,
        key=lambda one: (one.captured_at.ToNanoseconds(), -one.detection.score, one.detection.id),
    )


@pytest.mark.parametrize("zones", [[], ["path"]])
async def test_first_pages_of_detections_of_several_parents(served: Served, zones: list[str]) -> None:
    """Events before media, in the order of the request; a page's token goes on as a list's does."""
    events, media = [uuid("event", 5), UNKNOWN, uuid("event", 0)], [uuid("media", 500), uuid("media", 9_000)]
    request = detection_pb.BatchListDetectionsRequest(
        event_ids=events, media_ids=media, page_size=2, zone_ids=zones
    )
    response = await call(served.siblings.detections.BatchListDetections, request)
    parents = [("event_id", id) for id in events] + [("media_id", id) for id in media]
    assert [page.parent_id for page in response.pages] == [*events, *media]
    for page, (parent, id) in zip(response.pages, parents, strict=True):
        expected = [
            one for one in detections_of(served, parent, id, zones) if one.media_id != uuid("media", 9_000)
        ]
        if id != uuid("media", 9_000):
            assert list(page.detections) == expected[:2]
        if page.next_page_token:
            assert page.next_page_token == page.page_tokens[-1]
            following = detection_pb.ListDetectionsRequest(page_token=page.next_page_token, zone_ids=zones)
            setattr(following, parent, id)
            rest = await call(served.siblings.detections.ListDetections, following)
            assert list(rest.detections) == expected[2:]
        else:
            assert len(expected) <= 2


# The house

ANN = house_pb.CreatePersonRequest(name="Ann", relation=RELATION_RESIDENT)


async def test_a_new_home_has_no_mode_and_a_change_says_who_made_it(served: Served) -> None:
    house = served.siblings.house
    assert await call(house.GetMode, house_pb.GetModeRequest()) == house_pb.GetModeResponse(mode=HouseMode())
    before = Timestamp(seconds=int(NOON.timestamp()) - 120)
    await call(house.SetMode, house_pb.SetModeRequest(mode="away", at=before))
    mode = (await call(house.SetMode, house_pb.SetModeRequest(mode="home"))).mode
    noon = Timestamp(seconds=int(NOON.timestamp()))
    change = ModeChange(at=noon, mode="home", source=MODE_SOURCE_MANUAL, changed_by="a test")
    assert mode == HouseMode(
        mode="home", latest=change, lapses_at=Timestamp(seconds=noon.seconds + 16 * 3600)
    )
    assert (await call(house.GetMode, house_pb.GetModeRequest())).mode == mode
    mode = (await call(house.SetMode, house_pb.SetModeRequest())).mode
    assert (mode.mode, mode.latest.mode, mode.HasField("lapses_at")) == ("", "", False)

    async def list_page(size: int, token: str) -> Any:
        request = house_pb.ListModeChangesRequest(page_size=size, page_token=token)
        response = await call(house.ListModeChanges, request)
        return response.changes, response.page_tokens, response.next_page_token

    earlier = ModeChange(at=before, mode="away", source=MODE_SOURCE_MANUAL, changed_by="a test")
    await check_pages(list_page, [mode.latest, change, earlier])


async def test_a_mode_is_not_set_at_other_times(served: Served) -> None:
    house, noon = served.siblings.house, int(NOON.timestamp())
    for at in (Timestamp(seconds=noon, nanos=1000), Timestamp(seconds=noon - 121)):
        with refused(Invalid, "BAD_MODE_TIME"):
            await call(house.SetMode, house_pb.SetModeRequest(mode="away", at=at))
    with refused(Invalid, "BAD_MODE_TIME"):
        await call(house.GetMode, house_pb.GetModeRequest(at=Timestamp(seconds=noon + 1)))
    await call(house.SetMode, house_pb.SetModeRequest(mode="away"))
    with refused(Conflict, "MODE_CHANGED_LATER", at=NOON.isoformat()):
        request = house_pb.SetModeRequest(mode="away", at=Timestamp(seconds=noon - 1))
        await call(house.SetMode, request)
    for mode in ("Home", "a b", "-x", "x" * 64):
        with pytest.raises(Invalid):
            await call(house.SetMode, house_pb.SetModeRequest(mode=mode))


async def test_a_schedule_is_kept_in_the_order_of_the_week(served: Served) -> None:
    house = served.siblings.house
    empty = await call(house.GetModeSchedule, house_pb.GetModeScheduleRequest())
    assert empty == house_pb.GetModeScheduleResponse(schedule=ModeSchedule(time_zone="UTC"))
    changes = [
        ScheduledMode(weekday=WEEKDAY_SUNDAY, time="08:00", mode="home"),
        ScheduledMode(weekday=WEEKDAY_MONDAY, time="18:00", mode="home"),
        ScheduledMode(weekday=WEEKDAY_MONDAY, time="08:00", mode="away"),
    ]
    schedule = ModeSchedule(changes=changes, time_zone="Europe/Berlin")
    response = await call(house.SetModeSchedule, house_pb.SetModeScheduleRequest(schedule=schedule))
    assert list(response.schedule.changes) == changes[::-1]
    got = await call(house.GetModeSchedule, house_pb.GetModeScheduleRequest())
    assert (got.schedule, got.changed_by) == (response.schedule, "a test")
    assert got.schedule.time_zone == "Europe/Berlin"
    for bad, reason, metadata in (
        (ModeSchedule(changes=[changes[0], changes[0]]), "DUPLICATE_TIME", {"time": "08:00"}),
        (ModeSchedule(time_zone="Europe/Atlantis"), "BAD_TIME_ZONE", {"field": "time_zone"}),
    ):
        with refused(Invalid, reason, **metadata):
            await call(house.SetModeSchedule, house_pb.SetModeScheduleRequest(schedule=bad))
    for time, mode in (("8:00", "home"), ("24:00", "home"), ("08:00", ""), ("08:00", "No")):
        bad = ModeSchedule(changes=[ScheduledMode(weekday=WEEKDAY_MONDAY, time=time, mode=mode)])
        with pytest.raises(Invalid):
            await call(house.SetModeSchedule, house_pb.SetModeScheduleRequest(schedule=bad))
    assert await call(house.GetModeSchedule, house_pb.GetModeScheduleRequest()) == got


async def test_people_are_added_changed_and_removed(served: Served) -> None:
    house, noon = served.siblings.house, Timestamp(seconds=int(NOON.timestamp()))
    zoe = house_pb.CreatePersonRequest(name="Zoë", relation=RELATION_FRIEND)
    second = (await call(house.CreatePerson, zoe)).person
    first = (await call(house.CreatePerson, ANN)).person
    assert first == Person(
        id=first.id, name="Ann", relation=RELATION_RESIDENT, created_at=noon, updated_at=noon
    )
    listed = await call(house.ListPeople, house_pb.ListPeopleRequest())
    assert list(listed.people) == [first, second]
    for given, paths, name, relation in (
        (Person(name="Ann B."), ["name"], "Ann B.", RELATION_RESIDENT),
        (Person(relation=RELATION_STAFF), ["relation"], "Ann B.", RELATION_STAFF),
        (Person(name="Bea", relation=RELATION_FRIEND), [], "Bea", RELATION_FRIEND),
        (Person(name="Cid", relation=RELATION_STAFF), ["*"], "Cid", RELATION_STAFF),
    ):
        given.id = first.id
        request = house_pb.UpdatePersonRequest(person=given, update_mask=FieldMask(paths=paths))
        person = (await call(house.UpdatePerson, request)).person
        assert (person.name, person.relation) == (name, relation)
    await call(house.DeletePerson, house_pb.DeletePersonRequest(person_id=second.id))
    listed = await call(house.ListPeople, house_pb.ListPeopleRequest())
    assert list(listed.people) == [person]


async def test_unknown_people_and_bad_names_are_refused(served: Served) -> None:
    house = served.siblings.house
    ann = (await call(house.CreatePerson, ANN)).person
    for id in (UNKNOWN, "nobody"):
        with refused(NotFound, "PERSON_NOT_FOUND", person_id=id):
            request = house_pb.UpdatePersonRequest(person=Person(id=id, name="A", relation=RELATION_STAFF))
            await call(house.UpdatePerson, request)
        with refused(NotFound, "PERSON_NOT_FOUND", person_id=id):
            await call(house.DeletePerson, house_pb.DeletePersonRequest(person_id=id))
        with refused(NotFound, "PERSON_NOT_FOUND", person_id=id):
            await call(house.ReportPresence, house_pb.ReportPresenceRequest(person_id=id))
    for name in ("a\nb", "a\x00b", " ", "\u202eabc", "a\x1b[2J"):
        with refused(Invalid, "BAD_TEXT", field="name"):
            created = house_pb.CreatePersonRequest(name=name, relation=RELATION_STAFF)
            await call(house.CreatePerson, created)
        with refused(Invalid, "BAD_TEXT", field="name"):
            mask = FieldMask(paths=["name"])
            changed = house_pb.UpdatePersonRequest(person=Person(id=ann.id, name=name), update_mask=mask)
            await call(house.UpdatePerson, changed)
    for paths, reason in ((["id"], "BAD_FIELD_MASK"), (["*", "name"], "BAD_FIELD_MASK"), ([], "BAD_REQUEST")):
        with refused(Invalid, reason):
            mask = FieldMask(paths=paths)
            changed = house_pb.UpdatePersonRequest(person=Person(id=ann.id, name="A"), update_mask=mask)
            await call(house.UpdatePerson, changed)
    for bad in (
        house_pb.CreatePersonRequest(name="Ann"),
        house_pb.CreatePersonRequest(relation=RELATION_STAFF),
        house_pb.CreatePersonRequest(name="x" * 201, relation=RELATION_STAFF),
    ):
        with pytest.raises(Invalid):
            await call(house.CreatePerson, bad)
    listed = await call(house.ListPeople, house_pb.ListPeopleRequest())
    assert list(listed.people) == [ann]


async def test_presence_is_reported_and_listed_with_the_key(served: Served) -> None:
    house, noon = served.siblings.house, Timestamp(seconds=int(NOON.timestamp()))
    people = [
        (await call(house.CreatePerson, house_pb.CreatePersonRequest(name=name, relation=relation))).person.id
        for name, relation in (("Ann", RELATION_RESIDENT), ("Bob", RELATION_FRIEND))
    ]
    reports = []
    for id, present in ((people[0], True), (people[1], True), (people[0], False), (people[0], True)):
        response = await call(
            house.ReportPresence, house_pb.ReportPresenceRequest(person_id=id, present=present)
        )
        assert response.reported_at == noon
        assert response.lapses_at == Timestamp(seconds=noon.seconds + 24 * 3600)
        reports.append(
            PresenceReport(
                person_id=id, present=present, reported_at=noon, key_id=uuid("key"), reported_by="a test"
            )
        )

    async def list_page(size: int, token: str) -> Any:
        request = house_pb.ListPresenceRequest(page_size=size, page_token=token)
        response = await call(house.ListPresence, request)
        latest = {report.person_id: report for report in reports}
        assert list(response.present) == [latest[id] for id in sorted(latest)]
        return response.reports, response.page_tokens, response.next_page_token

    await check_pages(list_page, reports[::-1])
    gone = house_pb.ReportPresenceRequest(person_id=people[0], present=False)
    await call(house.ReportPresence, gone)
    await call(house.DeletePerson, house_pb.DeletePersonRequest(person_id=people[1]))
    listed = await call(house.ListPresence, house_pb.ListPresenceRequest())
    assert (list(listed.present), len(listed.reports)) == ([], 5)


async def test_a_key_may_make_thirty_reports_a_minute(served: Served) -> None:
    house = served.siblings.house
    ann = (await call(house.CreatePerson, ANN)).person
    request = house_pb.ReportPresenceRequest(person_id=ann.id, present=True)
    for _ in range(30):
        await call(house.ReportPresence, request)
    with refused(Exhausted, "TOO_MANY_REPORTS", retry_after_seconds="60.000"):
        await call(house.ReportPresence, request)
    with calling_as(Caller.of_key(uuid("another key"), "another")):
        await call(house.ReportPresence, request)
    assert len((await call(house.ListPresence, house_pb.ListPresenceRequest())).reports) == 31


async def test_nobody_who_is_unwelcome_is_present(served: Served) -> None:
    house = served.siblings.house
    ann = (await call(house.CreatePerson, ANN)).person
    request = house_pb.ReportPresenceRequest(person_id=ann.id, present=True)
    await call(house.ReportPresence, request)
    ann.relation = RELATION_UNWELCOME
    await call(house.UpdatePerson, house_pb.UpdatePersonRequest(person=ann))
    assert not (await call(house.ListPresence, house_pb.ListPresenceRequest())).present
    with refused(Conflict, "PERSON_UNWELCOME"):
        await call(house.ReportPresence, request)


POST = ExpectedVisit(
    name="Post",
    labels=["Person", "motorbike"],
    camera_ids=["front-door"],
    zone_ids=["path"],
    weekdays=[WEEKDAY_MONDAY],
    from_time="22:00",
    to_time="06:00",
    from_date="2026-02-28",
    until_date="2026-02-28",
)


async def test_expected_visits_are_added_changed_and_removed(served: Served) -> None:
    house, noon = served.siblings.house, Timestamp(seconds=int(NOON.timestamp()))
    visit = (await call(house.CreateExpectedVisit, house_pb.CreateExpectedVisitRequest(visit=POST))).visit
    expected = ExpectedVisit(id=visit.id, time_zone="UTC", created_at=noon, updated_at=noon)
    expected.MergeFrom(POST)
    expected.labels[:] = ["person", "motorcycle"]
    assert visit == expected
    request = house_pb.CreateExpectedVisitRequest(visit=ExpectedVisit(name="A", time_zone="Europe/Berlin"))
    other = (await call(house.CreateExpectedVisit, request)).visit
    listed = await call(house.ListExpectedVisits, house_pb.ListExpectedVisitsRequest())
    assert list(listed.visits) == [other, visit]
    for given, paths in (
        (ExpectedVisit(labels=["dog"]), ["labels"]),
        (ExpectedVisit(), ["weekdays", "camera_ids", "from_date"]),
        (ExpectedVisit(from_time="09:00", to_time="10:00", name="Mail"), ["from_time", "to_time", "name"]),
    ):
        given.id = visit.id
        change = house_pb.UpdateExpectedVisitRequest(visit=given, update_mask=FieldMask(paths=paths))
        changed = (await call(house.UpdateExpectedVisit, change)).visit
        FieldMask(paths=paths).MergeMessage(given, expected, True, True)
        assert changed == expected
    whole = house_pb.UpdateExpectedVisitRequest(visit=ExpectedVisit(id=visit.id, name="B"))
    changed = (await call(house.UpdateExpectedVisit, whole)).visit
    assert changed == ExpectedVisit(id=visit.id, name="B", time_zone="UTC", created_at=noon, updated_at=noon)
    await call(house.DeleteExpectedVisit, house_pb.DeleteExpectedVisitRequest(visit_id=other.id))
    listed = await call(house.ListExpectedVisits, house_pb.ListExpectedVisitsRequest())
    assert list(listed.visits) == [changed]
    for id in (other.id, "nothing"):
        with refused(NotFound, "VISIT_NOT_FOUND", visit_id=id):
            await call(house.DeleteExpectedVisit, house_pb.DeleteExpectedVisitRequest(visit_id=id))
        with refused(NotFound, "VISIT_NOT_FOUND", visit_id=id):
            unknown = house_pb.UpdateExpectedVisitRequest(visit=ExpectedVisit(id=id, name="B"))
            await call(house.UpdateExpectedVisit, unknown)


BAD_VISITS: list[tuple[dict[str, Any], type[Problem], str, dict[str, str]]] = [
    ({"name": "a\nb"}, Invalid, "BAD_TEXT", {"field": "name"}),
    ({"name": ""}, Invalid, "BAD_TEXT", {"field": "name"}),
    ({"labels": ["burglar"]}, Invalid, "UNKNOWN_LABEL", {"label": "burglar"}),
    ({"camera_ids": ["front-door", "garage"]}, NotFound, "CAMERA_NOT_FOUND", {"camera_id": "garage"}),
    ({"from_time": "", "to_time": "06:00"}, Invalid, "BAD_VISIT_TIME", {}),
    ({"from_time": "06:00", "to_time": ""}, Invalid, "BAD_VISIT_TIME", {}),
    ({"from_time": "06:00", "to_time": "06:00"}, Invalid, "BAD_VISIT_TIME", {}),
    ({"from_date": "2026-03-01"}, Invalid, "BAD_VISIT_TIME", {}),
    ({"time_zone": "Europe/Atlantis"}, Invalid, "BAD_TIME_ZONE", {"field": "time_zone"}),
]


@pytest.mark.parametrize(("wrong", "kind", "reason", "metadata"), BAD_VISITS)
async def test_bad_visits_are_refused(
    served: Served, wrong: dict[str, Any], kind: type[Problem], reason: str, metadata: dict[str, str]
) -> None:
    house = served.siblings.house
    kept = (await call(house.CreateExpectedVisit, house_pb.CreateExpectedVisitRequest(visit=POST))).visit
    bad = ExpectedVisit()
    bad.CopyFrom(kept)
    FieldMask(paths=wrong).MergeMessage(ExpectedVisit(**wrong), bad, True, True)
    with refused(kind, reason, **metadata):
        await call(house.CreateExpectedVisit, house_pb.CreateExpectedVisitRequest(visit=bad))
    for paths in (["*"], [*wrong]):
        request = house_pb.UpdateExpectedVisitRequest(visit=bad, update_mask=FieldMask(paths=paths))
        with refused(kind, reason, **metadata):
            await call(house.UpdateExpectedVisit, request)
    listed = await call(house.ListExpectedVisits, house_pb.ListExpectedVisitsRequest())
    assert list(listed.visits) == [kept]


async def test_site_notes_are_replaced_as_a_whole(served: Served) -> None:
    house = served.siblings.house
    assert (await call(house.GetSiteNotes, house_pb.GetSiteNotesRequest())).site_notes == SiteNotes()
    notes = SiteNotes(
        notes=[SiteNote(text="We have a dog."), SiteNote(text="x" * 500, camera_id="front-door")]
    )
    response = await call(house.SetSiteNotes, house_pb.SetSiteNotesRequest(site_notes=notes))
    assert response.site_notes == notes
    for text, camera, kind, reason, metadata in (
        ("a\nb", "", Invalid, "BAD_TEXT", {"field": "text"}),
        ("a", "garage", NotFound, "CAMERA_NOT_FOUND", {"camera_id": "garage"}),
    ):
        bad = SiteNotes(notes=[SiteNote(text=text, camera_id=camera)])
        with refused(kind, reason, **metadata):
            await call(house.SetSiteNotes, house_pb.SetSiteNotesRequest(site_notes=bad))
    for many in ([SiteNote(text="a")] * 17, [SiteNote(text="x" * 501)], [SiteNote()]):
        with pytest.raises(Invalid):
            await call(house.SetSiteNotes, house_pb.SetSiteNotesRequest(site_notes=SiteNotes(notes=many)))
    assert (await call(house.GetSiteNotes, house_pb.GetSiteNotesRequest())).site_notes == notes
    await call(house.SetSiteNotes, house_pb.SetSiteNotesRequest(site_notes=SiteNotes()))
    assert (await call(house.GetSiteNotes, house_pb.GetSiteNotesRequest())).site_notes == SiteNotes()


# Keys


async def test_keys_are_known_by_their_digest(served: Served) -> None:
    with as_itself():
        response = await call(served.key_checks.VerifyKey, VerifyKeyRequest(sha256=digest(SECRET)))
        assert response == VerifyKeyResponse(key_id=uuid("key"), name="a test", permissions=sorted(OF_A_KEY))
        response = await call(served.key_checks.VerifyKey, VerifyKeyRequest(sha256=digest(PHONE)))
        assert list(response.permissions) == [REPORT_PRESENCE]
        with refused(Unauthenticated, "BAD_API_KEY"):
            await call(served.key_checks.VerifyKey, VerifyKeyRequest(sha256=digest("another")))
        of_no_camera = user_digest(DigestAlgorithm.MD5, "garage", SECRET)
        request = VerifyDigestRequest(
            camera_id="garage",
            algorithm=DIGEST_ALGORITHM_MD5,
            hashed="a",
            response=DigestAlgorithm.MD5.hex(of_no_camera, "a"),
        )
        with refused(Unauthenticated, "BAD_API_KEY"):
            await call(served.key_checks.VerifyDigest, request)
