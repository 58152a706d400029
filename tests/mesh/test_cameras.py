"""The table of the cameras' configurations, on a real broker."""

import asyncio

from lares.store.v1.events_pb2 import CameraConfigured
from mesh.bus import Bus
from mesh.cameras import CameraConfigurations, open_camera_configurations
from mesh.topics import CAMERAS
from tests.support.records import unique
from tests.support.waiting import until


def camera(camera_id: str, name: str, revision: int, deleted: bool = False) -> CameraConfigured:
    configured = CameraConfigured(deleted=deleted, revision=revision)
    configured.camera.id = camera_id
    configured.camera.display_name = name
    return configured


def name_of(cameras: CameraConfigurations, camera_id: str) -> str:
    configured = cameras.get(camera_id)
    return configured.camera.display_name if configured else ""


async def test_the_table_is_complete_when_it_opens_and_follows(bus: Bus) -> None:
    porch, yard, gone = unique("porch"), unique("yard"), unique("gone")
    await bus.publish(CAMERAS, camera(porch, "Porch", 1), camera(gone, "Gone", 1))
    await bus.publish(CAMERAS, camera(porch, "Front porch", 2), camera(gone, "Gone", 2, deleted=True))
    async with open_camera_configurations(bus) as cameras:
        assert name_of(cameras, porch) == "Front porch"
        ids = {configured.camera.id for configured in cameras.all()}
        assert porch in ids
        assert gone not in ids
        deleted = cameras.get(gone)
        assert deleted is not None
        assert deleted.deleted
        assert cameras.get(yard) is None
        changes = cameras.subscribe()
        await bus.publish(CAMERAS, camera(yard, "Yard", 1), camera(porch, "Porch", 3))
        received = [await asyncio.wait_for(anext(changes), 90) for _ in range(2)]
        assert [configured.camera.id for configured in received] == [yard, porch]
        assert name_of(cameras, porch) == "Porch"


async def test_a_redelivered_older_revision_changes_nothing(bus: Bus) -> None:
    porch, last = unique("porch"), unique("last")
    async with open_camera_configurations(bus) as cameras:
        await bus.publish(CAMERAS, camera(porch, "new", 2))
        await bus.publish(CAMERAS, camera(porch, "old", 1), camera(last, "last", 1))
        await until(lambda: cameras.get(last) is not None)
        assert name_of(cameras, porch) == "new"


async def test_a_slow_subscriber_receives_only_the_latest_change_of_each_camera() -> None:
    cameras = CameraConfigurations()
    changes, forgotten = cameras.subscribe(), cameras.subscribe()
    del forgotten
    for revision in range(1, 1000):
        cameras.apply(camera("porch", str(revision), revision))
    cameras.apply(camera("yard", "Yard", 1))
    assert [(await anext(changes)).camera.display_name for _ in range(2)] == ["999", "Yard"]
    cameras.apply(camera("last", "Last", 1))
    assert (await anext(changes)).camera.display_name == "Last"  # and no older change before it
