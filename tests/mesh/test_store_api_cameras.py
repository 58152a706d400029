"""CameraService over gRPC, by pytest-grpc, on a real PostgreSQL."""

import json
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from lares.store.v1 import camera_service_pb2 as pb
from lares.store.v1.camera_pb2 import Camera
from lares.store.v1.camera_service_pb2_grpc import (
    CameraServiceStub,
    add_CameraServiceServicer_to_server,
)
from lares.store.v1.events_pb2 import CameraConfigured
from mesh.problems import Conflict, Invalid, NotFound
from store_svc.api.cameras import CameraServicer
from store_svc.camera_repository import CameraRepository
from store_svc.commit_signals import CommitSignals
from store_svc.detectors import Detectors
from store_svc.domain.watch_policy import WatchSettings
from store_svc.policy_preview import PolicyPreviews
from tests.support.loop_thread import LoopThread
from tests.support.store_rows import NOON
from tests.support.sync_database import AS_KEY, SyncDatabase, refused


@pytest.fixture(scope="module")
def stored(loop_thread: LoopThread, postgres_server: str) -> SyncDatabase:
    return SyncDatabase(loop_thread, postgres_server)


@pytest.fixture(scope="module")
def grpc_servicer(stored: SyncDatabase) -> CameraServicer:
    cameras = CameraRepository(stored.database, CommitSignals(), lambda: NOON)
    watch = WatchSettings(["person", "cat", "motorbike"])
    previews = PolicyPreviews(stored.database, watch, Detectors(stored.database, watch))
    return CameraServicer(stored.database, cameras, previews, watch.labels, lambda: NOON)


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Any:
    return add_CameraServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    return CameraServiceStub


@pytest.fixture
def cameras(grpc_stub: CameraServiceStub, stored: SyncDatabase) -> CameraServiceStub:
    stored.clear()
    return grpc_stub


def create(cameras: CameraServiceStub, id: str, **settings: Any) -> Camera:
    return cameras.CreateCamera(
        pb.CreateCameraRequest(camera=Camera(id=id, **settings)), metadata=AS_KEY
    ).camera


def update(cameras: CameraServiceStub, camera: Camera, *paths: str) -> Camera:
    mask = FieldMask(paths=paths) if paths else None
    return cameras.UpdateCamera(pb.UpdateCameraRequest(camera=camera, update_mask=mask)).camera


def get(cameras: CameraServiceStub, id: str) -> Camera:
    return cameras.GetCamera(pb.GetCameraRequest(camera_id=id)).camera


def test_a_camera_is_returned_as_it_was_created(cameras: CameraServiceStub) -> None:
    thresholds = {"person": 0.5, "*": 0.25}
    created = create(
        cameras,
        "front-door",
        display_name="Front Door",
        time_zone="Europe/Berlin",
        enabled=True,
        thresholds=thresholds,
    )
    assert created.created_at.ToDatetime(NOON.tzinfo) == NOON
    assert dict(created.thresholds) == thresholds
    assert (created.display_name, created.time_zone, created.enabled) == ("Front Door", "Europe/Berlin", True)
    assert get(cameras, "front-door") == created


@pytest.mark.parametrize("label", ["motorcycle", "motorbike", "Motorcycle", "motor-bike"])
def test_a_threshold_may_use_any_name_of_a_watched_class(cameras: CameraServiceStub, label: str) -> None:
    assert dict(create(cameras, "drive", thresholds={label: 0.5}).thresholds) == {"motorcycle": 0.5}
    changed = update(cameras, Camera(id="drive", thresholds={label: 0.25}), "thresholds")
    assert dict(changed.thresholds) == {"motorcycle": 0.25}


def test_names_that_an_earlier_version_stored_are_shown_as_labels(
    cameras: CameraServiceStub, stored: SyncDatabase
) -> None:
    create(cameras, "drive")
    names = json.dumps({"Person": 0.5, "motorbike": 0.25, "motorcycle": 0.75})
    stored.execute(f"UPDATE cameras SET thresholds = '{names}'")
    camera = cameras.GetCamera(pb.GetCameraRequest(camera_id="drive")).camera
    assert dict(camera.thresholds) == {"person": 0.5, "motorcycle": 0.75}


def test_a_camera_is_created_once(cameras: CameraServiceStub) -> None:
    create(cameras, "front")
    with refused(Conflict, "CAMERA_EXISTS"):
        create(cameras, "front")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"time_zone": "Mars/Olympus"}, "BAD_TIME_ZONE"),
        ({"time_zone": "../../etc/passwd"}, "BAD_TIME_ZONE"),
        ({"time_zone": "localtime"}, "BAD_TIME_ZONE"),
        ({"time_zone": "Factory"}, "BAD_TIME_ZONE"),
        ({"thresholds": {"persn": 0.5}}, "BAD_LABEL"),
        ({"thresholds": {"": 0.5}}, "BAD_REQUEST"),
        ({"thresholds": {"toaster": 0.5}}, "BAD_LABEL"),
        ({"thresholds": {"motorbike": 0.5, "motorcycle": 0.5}}, "DUPLICATE_LABEL"),
        ({"thresholds": {"Person": 0.5, "person": 0.5}}, "DUPLICATE_LABEL"),
        ({"thresholds": {"*": 0.5, " * ": 0.5}}, "DUPLICATE_LABEL"),
        ({"thresholds": {"person": 1.5}}, "BAD_REQUEST"),
        ({"thresholds": {"person": float("nan")}}, "BAD_REQUEST"),
        ({"display_name": "x" * 201}, "BAD_REQUEST"),
    ],
)
def test_a_bad_setting_is_refused_and_changes_nothing(
    cameras: CameraServiceStub, settings: dict[str, Any], reason: str
) -> None:
    with refused(Invalid, reason):
        create(cameras, "front", **settings)
    before = create(cameras, "back")
    with refused(Invalid, reason):
        update(cameras, Camera(id="back", **settings), "*")
    assert list(cameras.ListCameras(pb.ListCamerasRequest()).cameras) == [before]


@pytest.mark.parametrize("id", ["", "Front", "-front", "front/../back", "x" * 64])
def test_an_id_is_a_slug(cameras: CameraServiceStub, id: str) -> None:
    with refused(Invalid, "BAD_REQUEST"):
        create(cameras, id)


def test_an_update_changes_what_its_mask_names(cameras: CameraServiceStub) -> None:
    create(cameras, "front", display_name="Front", enabled=True, thresholds={"cat": 0.5})
    asked = Camera(id="front", display_name="Porch", time_zone="Asia/Tokyo", thresholds={"person": 0.25})
    updated = update(cameras, asked, "time_zone", "thresholds")
    assert (updated.display_name, updated.time_zone, updated.enabled) == ("Front", "Asia/Tokyo", True)
    assert dict(updated.thresholds) == {"person": 0.25}
    assert get(cameras, "front") == updated


def test_an_update_without_a_mask_changes_the_fields_that_are_set(cameras: CameraServiceStub) -> None:
    create(cameras, "front", display_name="Front", time_zone="UTC", thresholds={"cat": 0.5})
    porch = update(cameras, Camera(id="front", display_name="Porch", enabled=False))
    assert (porch.display_name, porch.time_zone, porch.enabled) == ("Porch", "UTC", False)
    assert dict(porch.thresholds) == {"cat": 0.5}
    empty = update(cameras, Camera(id="front", time_zone="", thresholds={"person": 0.25}))
    assert (empty.display_name, empty.time_zone, empty.enabled) == ("Porch", "", False)
    assert dict(empty.thresholds) == {"cat": 0.5}  # a map changes only when the mask names it


@pytest.mark.parametrize("camera", [Camera(id="front"), Camera(id="front", thresholds={"person": 0.25})])
def test_an_update_that_sets_nothing_is_refused(cameras: CameraServiceStub, camera: Camera) -> None:
    before = create(cameras, "front", thresholds={"cat": 0.5})
    with refused(Invalid, "NOTHING_TO_UPDATE"):
        update(cameras, camera)
    assert get(cameras, "front") == before


def test_a_star_replaces_everything(cameras: CameraServiceStub) -> None:
    create(cameras, "front", display_name="Front", time_zone="UTC", enabled=False, thresholds={"cat": 0.5})
    updated = update(cameras, Camera(id="front", time_zone="Asia/Tokyo"), "*")
    assert (updated.display_name, updated.time_zone, updated.enabled) == ("front", "Asia/Tokyo", True)
    assert dict(updated.thresholds) == {}


def test_a_field_in_the_mask_that_is_not_set_gets_its_default(cameras: CameraServiceStub) -> None:
    create(cameras, "front", display_name="Front", time_zone="UTC", enabled=False, thresholds={"cat": 0.5})
    updated = update(cameras, Camera(id="front"), "display_name", "enabled", "thresholds")
    assert (updated.display_name, updated.time_zone, updated.enabled) == ("front", "UTC", True)
    assert dict(updated.thresholds) == {}


def test_a_camera_is_created_with_defaults(cameras: CameraServiceStub) -> None:
    created = create(cameras, "front")
    assert (created.display_name, created.time_zone, created.enabled) == ("front", "", True)
    assert create(cameras, "back", enabled=False).enabled is False


def test_an_old_client_cannot_erase_a_field_that_it_does_not_know(cameras: CameraServiceStub) -> None:
    """It reads the camera, changes the name and sends the fields that it knows: id (1) and name (2)."""
    create(cameras, "front", display_name="Front", time_zone="UTC", enabled=False, thresholds={"cat": 0.5})
    id, name = b"\x0a\x05front", b"\x12\x05Porch"
    camera = id + name
    request = pb.UpdateCameraRequest.FromString(b"\x0a" + bytes([len(camera)]) + camera)
    updated = cameras.UpdateCamera(request).camera
    assert (updated.display_name, updated.time_zone, updated.enabled) == ("Porch", "UTC", False)
    assert dict(updated.thresholds) == {"cat": 0.5}
    assert get(cameras, "front") == updated


@pytest.mark.parametrize("path", ["id", "created_at", "thresholds.person", "displayName", "*", "nonsense"])
def test_an_update_of_anything_else_is_refused(cameras: CameraServiceStub, path: str) -> None:
    create(cameras, "front")
    mask = FieldMask(paths=["enabled", path])
    with refused(Invalid, "BAD_FIELD_MASK"):
        cameras.UpdateCamera(pb.UpdateCameraRequest(camera=Camera(id="front"), update_mask=mask))


def test_a_deleted_camera_is_not_found_until_it_is_created_again(cameras: CameraServiceStub) -> None:
    create(cameras, "front", display_name="Front")
    create(cameras, "back", display_name="Back")
    cameras.DeleteCamera(pb.DeleteCameraRequest(camera_id="front"))
    for call, request in [
        (cameras.GetCamera, pb.GetCameraRequest(camera_id="front")),
        (cameras.DeleteCamera, pb.DeleteCameraRequest(camera_id="front")),
        (cameras.UpdateCamera, pb.UpdateCameraRequest(camera=Camera(id="front", enabled=True))),
    ]:
        with refused(NotFound, "CAMERA_NOT_FOUND"):
            call(request)  # type: ignore[operator]
    assert [camera.id for camera in cameras.ListCameras(pb.ListCamerasRequest()).cameras] == ["back"]
    batch = cameras.BatchGetCameras(pb.BatchGetCamerasRequest(camera_ids=["front", "back", "none"])).cameras
    assert {camera.id: camera.display_name for camera in batch} == {"front": "Front", "back": "Back"}
    assert create(cameras, "front", display_name="Again").display_name == "Again"
    assert get(cameras, "front").display_name == "Again"


def test_every_change_is_in_the_outbox_once(cameras: CameraServiceStub, stored: SyncDatabase) -> None:
    create(cameras, "front", enabled=True)
    cameras.UpdateCamera(pb.UpdateCameraRequest(camera=Camera(id="front", enabled=False)))
    cameras.DeleteCamera(pb.DeleteCameraRequest(camera_id="front"))
    rows = stored.execute("SELECT body FROM camera_outbox ORDER BY id")
    announced = [CameraConfigured.FromString(row["body"]) for row in rows]
    assert [(one.revision, one.camera.enabled, one.deleted) for one in announced] == [
        (1, True, False),
        (2, False, False),
        (3, False, True),
    ]


def test_pages_of_cameras_are_by_id(cameras: CameraServiceStub) -> None:
    ids = sorted(["a", "a-1", "a_1", "b", "z" * 63, "0"])
    for id in reversed(ids):
        create(cameras, id)
    listed: list[str] = []
    token = ""
    while True:
        page = cameras.ListCameras(pb.ListCamerasRequest(page_size=2, page_token=token))
        assert len(page.cameras) == 2
        listed += [camera.id for camera in page.cameras]
        token = page.next_page_token
        if not token:
            break
    assert listed == ids


def test_a_foreign_page_token_is_refused(cameras: CameraServiceStub) -> None:
    with refused(Invalid, "BAD_PAGE_TOKEN"):
        cameras.ListCameras(pb.ListCamerasRequest(page_token="mine"))
