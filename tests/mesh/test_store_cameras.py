"""Cameras in the database and the records of their changes, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from lares.store.v1.events_pb2 import CameraConfigured
from mesh.problems import Conflict, Invalid, NotFound
from store_svc.camera_repository import CameraRepository
from tests.support.facts import NOON, detected
from tests.support.recorded import Recorded, open_recorded


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


@pytest.fixture
def cameras(store: Recorded) -> CameraRepository:
    return CameraRepository(store.database, store.signals, lambda: store.now)


async def published(store: Recorded) -> list[CameraConfigured]:
    rows = await store.rows("SELECT body FROM camera_outbox ORDER BY id")
    return [CameraConfigured.FromString(row["body"]) for row in rows]


async def test_create_is_stored_and_published(store: Recorded, cameras: CameraRepository) -> None:
    upcoming = store.signals.feed.upcoming()
    made = await cameras.create("yard", "The Yard", "Europe/Berlin", True, {"person": 0.5, "*": 0.25})
    assert (made.revision, made.created_at, made.deleted_at) == (1, NOON, None)
    (change,) = await published(store)
    assert (change.camera.id, change.camera.display_name, change.camera.time_zone) == (
        "yard",
        "The Yard",
        "Europe/Berlin",
    )
    assert (dict(change.camera.thresholds), change.revision, change.deleted) == (
        {"person": 0.5, "*": 0.25},
        1,
        False,
    )
    assert upcoming.is_set()


async def test_create_without_a_name_uses_the_id(cameras: CameraRepository) -> None:
    assert (await cameras.create("yard", "", "", True, {})).display_name == "yard"


async def test_create_of_an_existing_one_is_a_conflict(store: Recorded, cameras: CameraRepository) -> None:
    await store.detect(detected(1, 0))
    with pytest.raises(Conflict) as refusal:
        await cameras.create("front", "", "", True, {})
    assert refusal.value.reason == "CAMERA_EXISTS"
    assert len(await published(store)) == 1


async def test_create_by_two_at_once_succeeds_once(store: Recorded, cameras: CameraRepository) -> None:
    made = await asyncio.gather(
        *(cameras.create("yard", f"{n}", "", True, {}) for n in range(5)), return_exceptions=True
    )
    assert sum(isinstance(each, Conflict) for each in made) == 4
    assert [change.revision for change in await published(store)] == [1]


async def test_update_changes_only_the_given_fields(store: Recorded, cameras: CameraRepository) -> None:
    await cameras.create("yard", "Yard", "UTC", True, {"person": 0.5})
    store.now += timedelta(seconds=5)
    changes = {"display_name": "Garden", "time_zone": "Asia/Tokyo", "enabled": False, "thresholds": {}}
    camera = await cameras.update("yard", {"enabled": False})
    assert (camera.display_name, camera.time_zone, camera.enabled) == ("Yard", "UTC", False)
    assert (camera.thresholds, camera.revision) == ({"person": 0.5}, 2)
    assert (camera.created_at, camera.updated_at) == (NOON, store.now)
    camera = await cameras.update("yard", changes)
    assert (camera.display_name, camera.time_zone, camera.thresholds) == ("Garden", "Asia/Tokyo", {})
    assert [change.revision for change in await published(store)] == [1, 2, 3]


async def test_a_time_zone_must_be_known(store: Recorded, cameras: CameraRepository) -> None:
    with pytest.raises(Invalid) as refusal:
        await cameras.create("yard", "", "Mars/Olympus", True, {})
    assert refusal.value.reason == "BAD_TIME_ZONE"
    await cameras.create("yard", "", "", True, {})
    with pytest.raises(Invalid):
        await cameras.update("yard", {"time_zone": "../etc/passwd"})
    assert len(await published(store)) == 1


async def test_delete_leaves_a_tombstone_and_create_restores(
    store: Recorded, cameras: CameraRepository
) -> None:
    await cameras.create("yard", "Yard", "", True, {"person": 0.5})
    await cameras.delete("yard")
    with pytest.raises(NotFound):
        await cameras.update("yard", {"enabled": False})
    with pytest.raises(NotFound):
        await cameras.delete("yard")
    made = await cameras.create("yard", "New", "", True, {})
    assert (made.display_name, made.thresholds, made.deleted_at) == ("New", {}, None)
    assert [(change.revision, change.deleted) for change in await published(store)] == [
        (1, False),
        (2, True),
        (3, False),
    ]


async def test_an_unknown_camera_cannot_be_deleted(cameras: CameraRepository) -> None:
    with pytest.raises(NotFound) as refusal:
        await cameras.delete("nowhere")
    assert refusal.value.reason == "CAMERA_NOT_FOUND"
