"""Vehicles that stand before a camera, in the transaction that records media, on a real PostgreSQL."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from lares.detect.v1.events_pb2 import MediaDetected
from lares.store.v1.events_pb2 import MediaKept
from store_svc.camera_repository import CameraRepository
from store_svc.queries.detections import list_detections
from tests.support.facts import at, found, opened_by, reported
from tests.support.parts import MIGRATED, fresh_database
from tests.support.recorded import Recorded, open_recorded

MINUTE = 60.0


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


CAR, PERSON = ("car", 0.75), ("person", 0.75)


async def see(store: Recorded, *frames: tuple[int, float, Sequence[tuple[str, float]]]) -> None:
    """One batch each: the nth photo, at that minute, with these findings. All have the same box."""
    for n, minute, findings in frames:
        await store.detect(reported(n, minute * MINUTE, *findings))


async def park(store: Recorded) -> None:
    """In photos 1 to 3, by the minute 10."""
    await see(store, (1, 0, [CAR]), (2, 5, [CAR]), (3, 10, [CAR]))


async def event_of(store: Recorded, detection: str) -> str | None:
    ((event,),) = await store.rows("SELECT event_id FROM detections WHERE id = $1", detection)
    return None if event is None else str(event)


async def test_what_stands_there_opens_no_event_and_is_counted(store: Recorded) -> None:
    await park(store)
    assert await store.counts("events") == [3]
    head = len(await store.feed())
    await see(store, (4, 15, [CAR]), (5, 10.1, [CAR]), (6, 600, [CAR]))
    assert await store.counts("events", "detections", "media") == [3, 6, 6]
    assert len(await store.feed()) == head
    rows = await store.rows("SELECT event_id, stands FROM detections ORDER BY captured_at")
    assert [(row["event_id"] is None, row["stands"]) for row in rows] == [(False, False)] * 3 + [
        (True, True)
    ] * 3
    assert [row["detection_count"] for row in await store.rows("SELECT detection_count FROM media")] == [
        1
    ] * 6
    page = await list_detections(store.database, "media_id", (await _media(store))[-1], (), 10, "")
    assert [(one.detection.id, one.event_id) for one in page.detections] == [(found(6), "")]


async def _media(store: Recorded) -> list[str]:
    return [str(row["id"]) for row in await store.rows("SELECT id FROM media ORDER BY captured_at")]


async def test_what_counts_of_such_a_photo_is_published_without_an_event(store: Recorded) -> None:
    await park(store)
    await see(store, (4, 15, [CAR]))
    kept = [MediaKept.FromString(row["body"]) for row in await store.rows("SELECT body FROM kept_outbox")]
    detections = [one for media in kept for one in media.frames[0].detections]
    assert [one.event_id for one in detections] == [opened_by(1), opened_by(2), opened_by(3), ""]


async def test_what_else_is_there_opens_an_event_with_it(store: Recorded) -> None:
    await park(store)
    await see(store, (4, 15, [CAR, PERSON]))
    assert await event_of(store, found(4)) == await event_of(store, found(4, 1)) == opened_by(4)
    event = await store.event(opened_by(4))
    assert (event["detection_count"], event["labels"]) == (2, ["car", "person"])
    rows = await store.rows("SELECT stands FROM detections WHERE event_id = $1 ORDER BY rank", opened_by(4))
    assert [row["stands"] for row in rows] == [True, False]


async def test_it_neither_extends_an_event_nor_keeps_it_open(store: Recorded) -> None:
    await park(store)
    await see(store, (4, 15, [CAR, PERSON]))
    await see(store, *((n, 15 + n / 60, [CAR]) for n in range(5, 20)))
    event = await store.event(opened_by(4))
    assert (event["detection_count"], event["revision"], event["started_at"]) == (2, 1, event["ended_at"])


async def test_photos_in_which_nothing_counts_tell_that_it_has_left(store: Recorded) -> None:
    await park(store)
    await see(store, (4, 20, []), (5, 20.1, [("car", 0.11)]), (6, 20.2, []))
    assert await store.counts("vehicles", "events") == [0, 4]
    await see(store, (7, 25, [CAR]))
    assert await event_of(store, found(7)) == opened_by(7)


async def test_in_the_dark_it_leaves_only_if_it_is_seen_to_drive_off(store: Recorded) -> None:
    """Batch by batch: the night, the next morning, and the next night."""
    await park(store)
    night, morning, next_night = 8 * 60, 22 * 60, 34 * 60
    await see(store, *((10 + n, night + n, []) for n in range(9)))
    await see(store, *((20 + n, morning + n / 10, [CAR, PERSON]) for n in range(4)))
    assert await store.counts("vehicles", "events") == [1, 4]
    rows = await store.rows(
        "SELECT stands FROM detections WHERE event_id = $1 AND label = 'car'", opened_by(20)
    )
    assert {row["stands"] for row in rows} == {True}
    await see(store, (30, next_night, [CAR]))
    drives_off = reported(31, (next_night + 0.1) * MINUTE, CAR)
    box = drives_off.frames[0].detections[0].bounding_box
    box.x_min, box.x_max = box.x_min + 0.15, box.x_max + 0.15
    await store.detect(drives_off)
    await see(store, *((32 + n, next_night + 0.2 + n / 10, []) for n in range(3)))
    events = await store.rows(
        "SELECT labels, detection_count, started_at FROM events ORDER BY started_at, id"
    )
    assert sorted(row["detection_count"] for row in events[-2:]) == [0, 1]
    assert {row["started_at"] for row in events[-2:]} == {at((next_night + 0.1) * MINUTE)}


async def test_a_covered_camera_does_not_say_that_it_has_left(store: Recorded) -> None:
    tree = ("potted plant", 0.12)
    await see(store, *((n, n * 4, [CAR, tree]) for n in range(1, 5)))
    await see(store, *((n, n * 4, []) for n in range(10, 20)))
    assert await store.counts("vehicles", "events") == [1, 4]
    await see(store, *((n, n * 4, [tree]) for n in range(20, 23)))
    assert await store.counts("vehicles", "events") == [0, 5]


async def test_it_is_seen_by_findings_that_do_not_count(store: Recorded) -> None:
    await park(store)
    await see(store, *((n, 20 + n, [("truck", 0.2)]) for n in range(4, 10)))
    await see(store, (10, 40, [CAR]))
    assert await event_of(store, found(10)) is None


async def test_a_vehicle_remembers_the_event_in_which_it_came(store: Recorded) -> None:
    await store.detect(reported(1, 0, PERSON), reported(2, 5, PERSON, CAR))
    (row,) = await store.rows("SELECT id, event_id, label FROM vehicles")
    assert (str(row["id"]), str(row["event_id"]), row["label"]) == (found(2, 1), opened_by(1), "car")


@pytest.mark.parametrize("together", [True, False])
async def test_a_late_photo_brings_no_vehicle(store: Recorded, together: bool) -> None:
    photos = [reported(1, 20 * MINUTE), reported(2, 10 * MINUTE, CAR)]
    for batch in [photos] if together else [[one] for one in photos]:
        await store.detect(*batch)
    assert await store.counts("vehicles", "events") == [0, 1]


async def test_a_deleted_camera_forgets(store: Recorded) -> None:
    await park(store)
    await CameraRepository(store.database, store.signals, lambda: store.now).delete("front")
    assert await store.counts("vehicles") == [0]


async def test_a_repetition_changes_nothing(store: Recorded) -> None:
    await park(store)
    before = await store.rows("SELECT * FROM vehicles")
    await store.detect(reported(3, 10 * MINUTE, CAR), reported(3, 10 * MINUTE, CAR))
    assert await store.rows("SELECT * FROM vehicles") == before


async def test_batches_change_neither_memory_nor_events(postgres_server: str) -> None:
    """Live, as a backlog, and in batches; of two cameras, with late photos."""
    log = _log()
    queries = (
        "SELECT * FROM vehicles ORDER BY id",
        "SELECT id, started_at, ended_at, labels, evidence_digest FROM events ORDER BY id",
        "SELECT id, event_id, stands FROM detections ORDER BY id",
    )
    results = []
    for sizes in ([1], [len(log)], [7, 1, 13, 2]):
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(fresh_database(postgres_server, MIGRATED))
            store = await stack.enter_async_context(open_recorded(url))
            first, turn = 0, 0
            while first < len(log):
                size = sizes[turn % len(sizes)]
                await store.detect(*log[first : first + size])
                first, turn = first + size, turn + 1
            results.append([[tuple(row) for row in await store.rows(query)] for query in queries])
    assert results[0] == results[1] == results[2]
    vehicles, events, detections = results[0]
    standing = sum(bool(row[2]) for row in detections)
    assert (len(vehicles) > 3, len(events) > 10, standing > 50) == (True, True, True)


def _log() -> list[MediaDetected]:
    """Cars that come, stand, are seen badly, and leave, beside people."""
    chance = random.Random(7)
    log = []
    spots = [(0.1, 0.5), (0.4, 0.5), (0.7, 0.6)]
    for camera in ("front", "back"):
        for n in range(200):
            minute = n * 1.5 if n % 9 else n * 1.5 - 20
            there = [spot for place, spot in enumerate(spots) if place == n // 40 % 3 or place == 2]
            findings = [("car", chance.choice([0.8, 0.8, 0.3])) for _ in there]
            message = reported(n, minute * MINUTE, *findings, *[PERSON] * (n % 11 == 0), camera=camera)
            for detection, (x, y) in zip(message.frames[0].detections, there, strict=False):
                shift = chance.uniform(-0.01, 0.01)
                box = detection.bounding_box
                box.x_min, box.y_min, box.x_max, box.y_max = x + shift, y, x + 0.2 + shift, y + 0.2
            log.append((n, message))
    return [message for _, message in sorted(log, key=lambda pair: pair[0])]


async def test_cameras_without_vehicles_pay_a_lookup(
    store: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    async with store.database.connection() as connection:
        pooled = type(connection)
    fetch = pooled.fetch

    async def counted(self: Any, query: str, *arguments: Any) -> Any:
        statements.append(query)
        return await fetch(self, query, *arguments)

    monkeypatch.setattr(pooled, "fetch", counted)
    await store.detect(reported(1, 0, PERSON), reported(2, 5), reported(3, 10, PERSON, camera="back"))
    assert sum("vehicles" in query for query in statements) == 1
    assert not any("max(media.captured_at)" in query for query in statements)
