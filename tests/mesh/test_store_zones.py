"""Zones, masks and size filters in the transaction that records media, on a real PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from lares.scene.v1.scene_pb2 import (
    ZONE_KIND_APPROACH,
    ZONE_KIND_ENTRY,
    ZONE_KIND_PRIVATE,
    ZONE_KIND_PUBLIC,
    Line,
    Point,
    Zone,
)
from lares.store.v1 import camera_service_pb2 as pb
from lares.store.v1.camera_pb2 import Camera, Mask, SizeFilter
from lares.store.v1.events_pb2 import CameraConfigured, EventChanged, MediaKept
from mesh.problems import NotFound
from store_svc.api.cameras import CameraServicer
from store_svc.camera_repository import CameraRepository
from store_svc.detectors import Detectors
from store_svc.domain import camera_scene
from store_svc.policy_preview import PolicyPreviews
from store_svc.queries.cameras import stored_camera
from store_svc.recording import media_detected
from store_svc.scene_warnings import SceneWarnings
from tests.support.facts import opened_by
from tests.support.recorded import Recorded, open_recorded
from tests.support.seen import polygon, seen

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
LOWER = ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0))


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


ZONES = [
    Zone(id="path", kind=ZONE_KIND_APPROACH, polygon=polygon(LOWER)),
    Zone(id="door", kind=ZONE_KIND_ENTRY, polygon=polygon(LEFT)),
]


def cameras_of(store: Recorded) -> CameraRepository:
    return CameraRepository(store.database, store.signals, lambda: store.now)


async def zones_of(store: Recorded) -> list[list[str]]:
    """Of each detection, in the order of the findings."""
    return [
        row["zones"] for row in await store.rows("SELECT zones FROM detections ORDER BY captured_at, rank")
    ]


async def test_detections_and_their_event_have_the_zones_of_their_foot_points(store: Recorded) -> None:
    await cameras_of(store).create("front", "Front", "", True, {}, zones=ZONES)
    feet = ((0.25, 0.75), (0.75, 0.75), (0.75, 0.375), (0.25, 0.375))
    await store.detect(seen(1, 0, *feet[1:3]), seen(2, 5, *feet[2:]))
    assert await zones_of(store) == [["path"], [], [], ["door"]]
    event = await store.event(opened_by(1))
    assert event["zones"] == ["door", "path"]
    (change,) = await store.rows("SELECT body FROM feed")
    assert EventChanged.FromString(change["body"]).event.zone_ids == ["door", "path"]
    kept = [MediaKept.FromString(row["body"]) for row in await store.rows("SELECT body FROM kept_outbox")]
    zones = [list(one.zone_ids) for media in kept for one in media.frames[0].detections]
    assert zones == [["path"], [], [], ["door"]]


async def test_an_event_that_grows_gets_more_zones_and_loses_none(store: Recorded) -> None:
    await cameras_of(store).create("front", "Front", "", True, {}, zones=ZONES)
    for n, foot in enumerate([(0.75, 0.75), (0.25, 0.375), (0.75, 0.375)]):
        await store.detect(seen(n, n * 5, foot))
    assert (await store.event(opened_by(0)))["zones"] == ["door", "path"]
    changes = [EventChanged.FromString(r["body"]) for r in await store.rows("SELECT body FROM feed")]
    assert [list(one.event.zone_ids) for one in changes] == [["path"], ["door", "path"], ["door", "path"]]
    store.now += timedelta(minutes=5)
    await store.sweep()
    assert (await store.event(opened_by(0)))["zones"] == ["door", "path"]


async def test_a_change_of_the_zones_applies_from_its_transaction_on(store: Recorded) -> None:
    """Also within one process, which caches policies; what was recorded before keeps its zones."""
    cameras = cameras_of(store)
    await cameras.create("front", "Front", "", True, {})
    for n, zones in enumerate([[], ZONES[:1], ZONES, []]):
        if n:
            await cameras.update("front", {"zones": zones})
        await store.detect(seen(n, n * 1000, (0.25, 0.75)))
    assert await zones_of(store) == [[], ["path"], ["door", "path"], []]
    media = await store.rows("SELECT camera_revision, policy_digest FROM media ORDER BY captured_at")
    assert [row["camera_revision"] for row in media] == [1, 2, 3, 4]
    digests = [row["policy_digest"] for row in media]
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


async def test_what_is_masked_or_has_another_size_does_not_count(store: Recorded) -> None:
    """The aspect is that in pixels: the box is half as wide as high, in a picture of 1920 x 1080."""
    cameras = cameras_of(store)
    await cameras.create("front", "Front", "", True, {})
    aspect = 0.5 * 1920 / 1080
    decided: list[int] = []
    settings: list[dict[str, Any]] = [
        {"masks": [Mask(id="tree", polygon=polygon(LEFT))]},
        {"masks": [], "size_filters": {"person": SizeFilter(max_aspect=aspect - 0.01)}},
        {"size_filters": {"person": SizeFilter(min_aspect=aspect - 0.01, max_aspect=aspect + 0.01)}},
        {"size_filters": {"*": SizeFilter(min_aspect=aspect + 0.01)}},
        {"size_filters": {"*": SizeFilter(min_area=0.0625)}},
        {"size_filters": {"dog": SizeFilter(min_area=0.0625)}},
    ]
    for n, changes in enumerate(settings):
        await cameras.update("front", changes)
        await store.detect(seen(n, n * 1000, (0.25, 0.75), (0.75, 0.75)))
        (row,) = await store.rows(
            "SELECT count(*) FROM media JOIN detections ON media_id = media.id "
            "WHERE media.captured_at = (SELECT max(captured_at) FROM media)"
        )
        decided.append(row["count"])
    assert decided == [1, 0, 2, 0, 0, 2]


async def test_a_scene_is_read_once_per_revision(store: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0

    def counted(thresholds: Any, scene: bytes) -> Any:
        nonlocal reads
        reads += 1
        return camera_scene.camera_watch(thresholds, scene)

    monkeypatch.setattr(media_detected, "camera_watch", counted)
    cameras = cameras_of(store)
    await cameras.create("front", "Front", "", True, {}, zones=ZONES)
    for n in range(4):
        await store.detect(seen(n, n * 1000, (0.25, 0.75)), seen(n + 10, n * 1000 + 5, (0.25, 0.75)))
    assert reads == 1
    await cameras.update("front", {"zones": ZONES[:1]})
    await store.detect(seen(5, 9000, (0.25, 0.75)))
    assert reads == 2


async def test_a_camera_is_announced_with_its_scene(store: Recorded) -> None:
    cameras = cameras_of(store)
    await cameras.create("front", "Front", "", True, {}, zones=ZONES)
    await cameras.update("front", {"masks": [Mask(id="tree", polygon=polygon(LEFT))]})
    rows = await store.rows("SELECT body FROM camera_outbox ORDER BY id")
    announced = [CameraConfigured.FromString(row["body"]) for row in rows]
    assert [(one.revision, len(one.camera.zones), len(one.camera.masks)) for one in announced] == [
        (1, 2, 0),
        (2, 2, 1),
    ]


async def test_a_camera_that_is_created_again_has_the_scene_that_is_given_then(store: Recorded) -> None:
    cameras = cameras_of(store)
    await cameras.create("front", "Front", "", True, {}, zones=ZONES)
    await cameras.delete("front")
    await cameras.create("front", "Front", "", True, {})
    await store.detect(seen(1, 0, (0.25, 0.75)))
    assert await zones_of(store) == [[]]


async def test_events_without_zones_are_not_in_the_index_of_zones(store: Recorded) -> None:
    """It would cost each of them a write."""
    (index,) = await store.rows("SELECT indexdef FROM pg_indexes WHERE indexname = 'events_zones'")
    assert "WHERE (zones <> '{}'::text[])" in index["indexdef"]


def service_of(store: Recorded) -> CameraServicer:
    previews = PolicyPreviews(store.database, store.watch, Detectors(store.database, store.watch))
    return CameraServicer(store.database, cameras_of(store), previews, store.watch.labels, lambda: store.now)


async def test_a_public_zone_and_a_line_that_are_probably_wrong_are_accepted_with_a_warning(
    store: Recorded,
) -> None:
    await cameras_of(store).create("front", "Front", "", True, {})
    tall = seen(0, -500, (0.75, 0.75))
    tall.frames[0].detections[0].bounding_box.y_min = 0.125
    crossing = [seen(n * 2 + m, n * 200 + m, (0.4 + m / 5, 0.45)) for n in range(1, 21) for m in (0, 1)]
    await store.detect(tall, *crossing)
    large = ((0.0, 0.0), (0.7, 0.0), (0.7, 1.0), (0.0, 1.0))
    camera = Camera(
        id="front",
        zones=[
            Zone(id="large", kind=ZONE_KIND_PUBLIC, polygon=polygon(large)),
            Zone(id="close", kind=ZONE_KIND_PUBLIC, polygon=polygon(LOWER)),
            Zone(id="own", kind=ZONE_KIND_PRIVATE, polygon=polygon(large)),
        ],
        lines=[
            Line(id="gate", start=Point(x=0.5, y=0.0), end=Point(x=0.5, y=1.0)),
            Line(id="side", start=Point(x=0.9, y=0.0), end=Point(x=0.9, y=1.0)),
        ],
    )
    servicer, mask = service_of(store), FieldMask(paths=["zones", "lines"])
    request = pb.UpdateCameraRequest(camera=camera, update_mask=mask)
    updated = (await servicer.UpdateCamera(request, None)).camera
    assert [warning.split("'")[1] for warning in updated.warnings] == ["large", "close", "gate"]
    assert "was crossed by 20 of 20 things" in updated.warnings[2]
    assert (await servicer.GetCamera(pb.GetCameraRequest(camera_id="front"), None)).camera == updated
    # Responses about many cameras would cost too much with them.
    (listed,) = (await servicer.ListCameras(pb.ListCamerasRequest(), None)).cameras
    assert (len(listed.zones), list(listed.warnings)) == (3, [])
    mended = Camera(id="front", zones=camera.zones[2:])
    request = pb.UpdateCameraRequest(camera=mended, update_mask=mask)
    assert not (await servicer.UpdateCamera(request, None)).camera.warnings
    (announced, *_) = await store.rows("SELECT body FROM camera_outbox ORDER BY id DESC")
    assert not CameraConfigured.FromString(announced["body"]).camera.warnings


async def test_warnings_look_at_the_newest_day_only(store: Recorded) -> None:
    public = Zone(id="path", kind=ZONE_KIND_PUBLIC, polygon=polygon(LOWER))
    await cameras_of(store).create("front", "Front", "", True, {}, zones=[public])
    tall = seen(0, 0, (0.75, 0.75))
    tall.frames[0].detections[0].bounding_box.y_min = 0.125
    await store.detect(tall)
    warnings = SceneWarnings(store.database).of
    camera = await stored_camera(store.database, "front")
    assert len(await warnings(camera)) == 1
    await store.detect(seen(1, 90_000, (0.75, 0.75)))
    assert await SceneWarnings(store.database).of(camera) == []
    assert len(await warnings(camera)) == 1  # for a moment: it was asked a moment ago


async def test_zones_are_suggested_from_what_the_camera_saw(store: Recorded) -> None:
    await cameras_of(store).create("front", "Front", "", True, {})
    await cameras_of(store).create("back", "Back", "", True, {})
    feet = [((n % 12) / 12 + 0.02, 0.6 + (n % 3) / 50) for n in range(48)]
    await store.detect(*[seen(n, n * 100, foot) for n, foot in enumerate(feet)])
    await store.detect(seen(99, 0, (0.5, 0.5), label="cat"))
    servicer = service_of(store)
    response = await servicer.SuggestZones(pb.SuggestZonesRequest(camera_id="front"), None)
    (street,) = response.suggestions
    assert (street.zone.id, street.zone.kind) == ("street", ZONE_KIND_PUBLIC)
    assert (street.people, street.vehicles, street.events) == (48, 0, 48)
    assert response.detection_count == 48
    camera = Camera(id="front", zones=[street.zone])
    mask = FieldMask(paths=["zones"])
    await servicer.UpdateCamera(pb.UpdateCameraRequest(camera=camera, update_mask=mask), None)
    again = await servicer.SuggestZones(pb.SuggestZonesRequest(camera_id="front"), None)
    assert (list(again.suggestions), again.detection_count) == ([], 48)
    nothing = await servicer.SuggestZones(pb.SuggestZonesRequest(camera_id="back"), None)
    assert nothing == pb.SuggestZonesResponse()
    with pytest.raises(NotFound):
        await servicer.SuggestZones(pb.SuggestZonesRequest(camera_id="nowhere"), None)
