"""`lares backup` while photos arrive; `lares restore` into another home, with a new PostgreSQL and Kafka."""

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from deploy.embedded.postgres import programs
from lares.store.v1 import event_service_pb2 as events
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from lares.store.v1.events_pb2 import CameraConfigured
from mesh.topics import CAMERAS
from tests.homes.outcome import Outcome, read_outcome
from tests.support.lares import Lares, running_lares
from tests.support.lares_command import lares_command
from tests.support.photos import person_photo, renumbered
from tests.support.topic_values import topic_values

BEFORE = 4
HOURS = 3600
SETTINGS = {"LARES_EVENT_GAP_SECONDS": "1"}
CREATE = """mutation { createCamera(input: {id: "yard", name: "The yard", timeZone: "Asia/Tokyo"})
  { camera { id } } }"""


def command_settings(home: Path) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LARES_")}
    return kept | {n: os.environ[n] for n in ("LARES_CACHE",) if n in os.environ} | {"LARES_HOME": str(home)}


def take_photo(cameras: Path, number: int) -> None:
    """A photo that is an event of its own: three hours after the one before."""
    folder = cameras / "yard"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{number}.part"
    partial.write_bytes(renumbered(person_photo(), number))
    os.utime(partial, (1_700_000_000 + 3 * HOURS * number,) * 2)
    partial.rename(folder / f"{number:03}.jpg")


async def outcome_of(lares: Lares) -> Outcome:
    await lares.idle()
    return await read_outcome(lares, {"assessments": {}, "published": {}})


async def list_changes(lares: Lares, after: int) -> events.ListChangesResponse:
    async with grpc.aio.insecure_channel(lares.grpc) as channel:
        request = events.ListChangesRequest(after=after)
        return await EventServiceStub(channel).ListChanges(
            request, metadata=(("x-api-key", lares.key),), timeout=30
        )


@dataclass
class Restored:
    """A Lares on the restored home, with what the other one had before the backup and at its end."""

    lares: Lares
    backups: Path
    before: Outcome
    end: Outcome
    head_before: int
    head_at_end: int


@pytest.fixture(scope="module")
async def restored(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Restored]:
    folder = tmp_path_factory.mktemp("backup")
    old, new, backups = folder / "old", folder / "new", folder / "backups"
    async with running_lares(old, SETTINGS) as lares:
        await lares.graphql(CREATE)
        await lares_command(command_settings(old), "keys", "create", "phone")
        for number in range(BEFORE):
            take_photo(lares.cameras, number)
        await lares.until_stored(BEFORE)
        before, head_before = await outcome_of(lares), (await list_changes(lares, 0)).head

        arrived, backed_up = BEFORE, asyncio.Event()

        async def photos_arrive() -> None:
            """Until the backup is done, and then a few more."""
            nonlocal arrived
            more = 3
            while more:
                take_photo(lares.cameras, arrived)
                arrived += 1
                more -= backed_up.is_set()
                await asyncio.sleep(0.25)

        arriving = asyncio.create_task(photos_arrive())
        status, said = await lares_command(command_settings(old), "backup", str(backups))
        assert status == 0, said
        backed_up.set()
        await arriving
        await lares.until_stored(arrived)
        end, head_at_end = await outcome_of(lares), (await list_changes(lares, 0)).head
    # What was recorded before the backup is in the backup alone.
    shutil.copytree(old / "cameras", new / "cameras")
    for number in range(BEFORE):
        (new / "cameras" / "yard" / f"{number:03}.jpg").unlink()
    shutil.rmtree(old)
    status, said = await lares_command(command_settings(new), "restore", str(backups))
    assert status == 0, said
    async with running_lares(new, SETTINGS) as lares:
        await lares.until_stored(arrived)
        yield Restored(lares, backups, before, end, head_before, head_at_end)


async def test_what_was_recorded_before_the_backup_is_as_it_was(restored: Restored) -> None:
    found = await outcome_of(restored.lares)
    assert found["cameras"] == restored.before["cameras"]
    assert ["phone", "valid"] in found["keys"] == restored.before["keys"]
    for kind in ("media", "events", "assessments"):
        assert len(restored.before[kind]) == BEFORE
        assert {id: found[kind].get(id) for id in restored.before[kind]} == restored.before[kind]


async def test_what_came_later_is_taken_from_the_cameras_folder(restored: Restored) -> None:
    found = await outcome_of(restored.lares)
    assert found["media"] == restored.end["media"]
    assert found["events"].keys() == restored.end["events"].keys()
    assert {event["status"] for event in found["events"].values()} == {
        event["status"] for event in restored.before["events"].values()
    }


async def test_every_original_is_there(restored: Restored) -> None:
    for id, media in restored.end["media"].items():
        answer = await restored.lares.get(f"/media/{id}")
        assert hashlib.sha256(answer.content).hexdigest() == media["sha256"]


async def test_the_backup_has_every_original_that_its_database_names(restored: Restored) -> None:
    backup = min(restored.backups.glob("[0-9]*Z"))
    command = [str(programs() / "pg_restore"), "--data-only", "--table=media", "-f", "-"]
    rows = subprocess.run(
        [*command, str(backup / "database.dump")], capture_output=True, text=True, check=True
    )
    named = set(re.findall(r"\b[0-9a-f]{64}\b", rows.stdout)) & {
        media["sha256"] for media in restored.end["media"].values()
    }
    assert len(named) >= BEFORE
    assert named <= {line.split()[0] for line in (backup / "blobs").read_text().splitlines()}


async def test_cameras_are_on_the_new_topic(restored: Restored) -> None:
    bodies = await topic_values(restored.lares, CAMERAS.name)
    (camera,) = {m.camera.id: m.camera for m in map(CameraConfigured.FromString, bodies)}.values()
    assert (camera.id, camera.time_zone) == ("yard", "Asia/Tokyo")


async def test_a_cursor_that_the_backup_has_goes_on(restored: Restored) -> None:
    await restored.lares.idle()
    changes = (await list_changes(restored.lares, restored.head_before)).changes
    later = {change.event.id for change in changes}
    assert later >= restored.end["events"].keys() - restored.before["events"].keys()


async def test_a_cursor_of_a_lost_change_is_refused(restored: Restored) -> None:
    """Also now that the feed has gone on."""
    await restored.lares.idle()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await list_changes(restored.lares, restored.head_at_end)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "is of changes that were lost" in (refused.value.details() or "")


async def test_a_subscriber_from_now_on_sees_what_comes(restored: Restored) -> None:
    await restored.lares.idle()
    head = (await list_changes(restored.lares, 0)).head
    take_photo(restored.lares.cameras, 1000)
    await restored.lares.until_stored(len(restored.end["media"]) + 1)
    await restored.lares.idle()
    sequences = [change.sequence for change in (await list_changes(restored.lares, head)).changes]
    assert sequences == list(range(head + 1, head + 1 + len(sequences)))
    assert sequences


async def test_a_second_backup_copies_only_what_is_new(restored: Restored) -> None:
    first = {path: path.stat().st_ino for path in (restored.backups / "media").rglob("*") if path.is_file()}
    status, said = await lares_command(command_settings(restored.lares.home), "backup", str(restored.backups))
    assert status == 0, said
    assert {path: path.stat().st_ino for path in first} == first
    assert len(list(restored.backups.glob("[0-9]*Z"))) == 2


async def test_a_home_in_use_is_not_overwritten(restored: Restored) -> None:
    settings = command_settings(restored.lares.home)
    status, said = await lares_command(settings, "restore", str(restored.backups))
    assert (status, "is not empty: it has" in said) == (1, True), said
