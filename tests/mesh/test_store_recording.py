"""Records MediaDetected, on a real PostgreSQL."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from lares.detect.v1.events_pb2 import MediaDetected
from lares.store.v1.event_pb2 import EVENT_STATUS_PENDING
from lares.store.v1.events_pb2 import CameraConfigured
from mesh.boxes import bounding_box
from store_svc.camera_repository import CameraRepository
from store_svc.domain.evidence import EarlierEvent, digest_v1, dump_history
from store_svc.domain.job import URGENT
from store_svc.ids import file_id
from store_svc.queries.media import get_media
from store_svc.times import SECOND, micros, stamp
from tests.support.facts import NOON, at, detected, fingerprint, found, opened_by, photo, reported
from tests.support.recorded import Recorded, open_recorded

EVERYTHING = ("media", "files", "detections", "events", "feed", "cameras", "camera_outbox")


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


class TestPhoto:
    async def test_with_a_person_is_a_pending_event_in_the_feed(self, store: Recorded) -> None:
        await store.detect(detected(1, 5, labels=["person", "car", "person"]))
        (change,) = await store.feed()
        event = change.event
        assert (change.sequence, event.sequence, event.revision) == (1, 1, 1)
        assert (event.id, event.camera_id, event.camera_name) == (opened_by(1), "front", "Front")
        assert (event.status, event.closed, event.HasField("assessment")) == (
            EVENT_STATUS_PENDING,
            False,
            False,
        )
        assert (event.started_at, event.ended_at) == (stamp(at(5)), stamp(at(5)))
        assert list(event.labels) == ["car", "person"]
        assert (event.detection_count, event.media_count) == (3, 1)
        assert await store.members() == {opened_by(1): sorted(found(1, rank) for rank in range(3))}
        row = await store.event(opened_by(1))
        ids = [found(1, rank) for rank in range(3)]
        assert row["evidence_digest"] == await store.digest(opened_by(1), *ids)
        assert (row["last_recorded_at"], row["labels"]) == (NOON, ["car", "person"])
        assert await store.counts("jobs") == [0]

    async def test_keeps_what_its_camera_claims(self, store: Recorded) -> None:
        message = detected(7, 5)
        message.media.claimed_captured_at.FromSeconds(30)
        await store.detect(message, detected(8, 6))
        claimed, believed = [await get_media(store.database, photo(n)) for n in (7, 8)]
        assert claimed.media.claimed_captured_at.seconds == 30
        assert not believed.media.HasField("claimed_captured_at")

    async def test_is_stored_completely(self, store: Recorded) -> None:
        await store.detect(detected(7, 5))
        (media,) = await store.rows("SELECT * FROM media")
        assert str(media["id"]) == photo(7)
        assert (media["camera_id"], media["camera_name"], media["sha256"]) == ("front", "Front", f"{7:064x}")
        assert (media["size_bytes"], media["width"], media["height"]) == (1007, 1920, 1080)
        assert (media["captured_at"], media["ingested_at"], media["detected_at"]) == (at(5), at(6), at(7))
        assert (media["path"], media["file_size_bytes"], media["mtime_ns"]) == (
            "front/0007.jpg",
            1007,
            7 * 10**9,
        )
        assert (media["ctime_ns"], media["inode"], media["recorded_at"]) == (7 * 10**9 + 1, 7, NOON)
        (detection,) = await store.rows("SELECT * FROM detections")
        assert (detection["label"], detection["score"], detection["box"]) == (
            "person",
            0.75,
            [0.25, 0.25, 0.5, 0.75],
        )
        assert (str(detection["media_id"]), detection["captured_at"]) == (photo(7), at(5))

    async def test_with_a_detection_in_todays_form_is_stored_alike(self, store: Recorded) -> None:
        """Facts that earlier versions wrote have `box`."""
        one, other = detected(1, 5), detected(2, 6)
        assert list(one.detections[0].box) == [0.25, 0.25, 0.5, 0.75]
        other.detections[0].bounding_box.CopyFrom(bounding_box(other.detections[0].box))
        other.detections[0].ClearField("box")
        await store.detect(one, other)
        rows = await store.rows("SELECT box FROM detections")
        assert [row["box"] for row in rows] == [[0.25, 0.25, 0.5, 0.75]] * 2

    async def test_without_detections_is_stored_and_opens_no_event(self, store: Recorded) -> None:
        await store.detect(detected(1, 5, labels=[]))
        assert await store.counts("media", "files", "events", "feed") == [1, 1, 0, 0]

    async def test_of_an_upload_has_no_file(self, store: Recorded) -> None:
        upload = detected(1, 5)
        upload.media.ClearField("file")
        await store.detect(upload)
        assert await store.counts("media", "files") == [1, 0]

    async def test_of_an_unknown_camera_creates_and_announces_it(self, store: Recorded) -> None:
        await store.detect(detected(1, 5), detected(1, 5, camera="back"), detected(2, 6))
        cameras = await store.rows("SELECT id, display_name, enabled, revision FROM cameras ORDER BY id")
        assert [tuple(row) for row in cameras] == [("back", "Back", True, 1), ("front", "Front", True, 1)]
        bodies = await store.rows("SELECT body FROM camera_outbox ORDER BY id")
        announced = [CameraConfigured.FromString(row["body"]) for row in bodies]
        assert [(each.camera.id, each.revision, each.deleted) for each in announced] == [
            ("back", 1, False),
            ("front", 1, False),
        ]

    async def test_of_a_fast_class_makes_its_event_due_immediately_and_once(self, store: Recorded) -> None:
        upcoming = store.signals.due.upcoming()
        await store.detect(detected(1, 5, urgent=True))
        row = await store.job(opened_by(1))
        assert row is not None
        assert (row["due_at"], row["rank_time"], row["priority"]) == (NOON, at(5), URGENT)
        assert (await store.event(opened_by(1)))["urgent_done"]
        assert upcoming.is_set()
        store.now = at(9)
        await store.detect(detected(2, 6, urgent=True))
        assert await store.due_at(opened_by(1)) == NOON


class TestGrowing:
    async def test_is_one_change_for_one_batch(self, store: Recorded) -> None:
        await store.detect(detected(1, 0))
        await store.detect(detected(2, 10), detected(3, 20, labels=["dog", "person"]))
        first, second = await store.feed()
        assert (first.event.revision, second.event.revision) == (1, 2)
        assert (first.event.detection_count, second.event.detection_count) == (1, 4)
        assert (second.event.media_count, list(second.event.labels)) == (3, ["dog", "person"])
        assert second.event.ended_at == stamp(at(20))
        row = await store.event(opened_by(1))
        ids = [found(1), found(2), found(3), found(3, 1)]
        assert row["evidence_digest"] == await store.digest(opened_by(1), *ids)
        assert (row["revision"], row["evidence_revision"], row["sequence"]) == (2, 2, 2)

    async def test_by_a_late_photo_extends_backwards(self, store: Recorded) -> None:
        await store.detect(detected(1, 100))
        await store.detect(detected(2, 75))
        await store.detect(detected(3, 10))
        assert await store.members() == {
            opened_by(1): sorted([found(1), found(2)]),
            opened_by(3): [found(3)],
        }
        assert (await store.event(opened_by(1)))["started_at"] == at(75)

    async def test_reopens_a_closed_event(self, store: Recorded) -> None:
        await store.detect(detected(1, 0))
        await store.sweep(after=30)
        assert (await store.event(opened_by(1)))["closed"]
        await store.detect(detected(2, 30))
        row = await store.event(opened_by(1))
        assert (row["closed"], row["detection_count"]) == (False, 2)

    async def test_the_events_of_the_hour_before_are_frozen_as_the_log_had_them(
        self, store: Recorded
    ) -> None:
        await store.detect(detected(1, 0), detected(2, 100), detected(3, 3700))
        await store.detect(detected(4, 50))  # late: joins neither event, and changes nothing frozen
        await store.detect(detected(6, 110), detected(5, 3650), detected(7, 111))
        assert await past(store, 3) == [(opened_by(2), 100, 100, 1)]
        assert await past(store, 5) == [(opened_by(4), 50, 50, 1), (opened_by(2), 100, 110, 2)]

    async def test_uses_the_cameras_configuration_of_the_transaction_that_opens_it(
        self, store: Recorded
    ) -> None:
        await store.detect(detected(1, 0))
        cameras = CameraRepository(store.database, store.signals, lambda: store.now)
        await cameras.update("front", {"time_zone": "Asia/Tokyo", "display_name": "Street"})
        await store.detect(detected(2, 1), detected(3, 100))
        first, later = await store.event(opened_by(1)), await store.event(opened_by(3))
        assert (first["time_zone"], later["time_zone"]) == ("UTC", "Asia/Tokyo")
        assert first["evidence_digest"] == await store.digest(opened_by(1), found(1), found(2))
        names = [(await store.frozen(opened_by(n))).message().camera_name for n in (1, 3)]
        assert names == ["Front", "Street"]
        rows = await store.rows("SELECT camera_revision FROM event_evidence ORDER BY camera_revision")
        assert [row["camera_revision"] for row in rows] == [1, 2]

    async def test_of_an_earlier_version_keeps_its_kind_of_evidence(self, store: Recorded) -> None:
        """It has the latest time zone, and no row in `event_evidence`."""
        known = (EarlierEvent(UUID(opened_by(9)), micros(at(-100))),)
        await store.detect(detected(1, 0))
        await store.rows("DELETE FROM event_evidence")
        await store.rows("UPDATE detections SET number = NULL")
        old = digest_v1([UUID(found(1))], known, "UTC")
        values = dump_history(known), old
        await store.rows(
            "UPDATE events SET frozen_digest = NULL, history = $1, evidence_digest = $2", *values
        )
        cameras = CameraRepository(store.database, store.signals, lambda: store.now)
        await cameras.update("front", {"time_zone": "Asia/Tokyo"})
        await store.detect(detected(2, 1), detected(3, 100))
        row, ids = await store.event(opened_by(1)), [UUID(found(1)), UUID(found(2))]
        assert row["time_zone"] == "Asia/Tokyo"
        assert row["evidence_digest"] == digest_v1(ids, known, "Asia/Tokyo")
        await store.sweep(after=60)
        old_lease, new_lease = sorted(await store.take(), key=lambda lease: lease.assess.evidence.derivation)
        assert old_lease.assess.evidence.digest == row["evidence_digest"]
        assert [past.event_id for past in old_lease.assess.evidence.history] == [opened_by(9)]
        assert not old_lease.assess.evidence.tracks
        (before,) = new_lease.assess.evidence.past
        assert (before.event_id, before.detection_count, list(before.labels)) == (opened_by(1), 2, ["person"])


async def past(store: Recorded, n: int) -> list[tuple[str, int, int, int]]:
    """Of the event that the nth photo has opened: the events before, with seconds after noon and numbers of
    detections."""
    message, noon = (await store.frozen(opened_by(n))).message(), stamp(NOON).seconds
    return [
        (one.event_id, one.started_at.seconds - noon, one.ended_at.seconds - noon, one.detection_count)
        for one in message.past
    ]


class TestRepetition:
    async def test_of_a_record_changes_nothing(self, store: Recorded) -> None:
        batch = [detected(1, 0, urgent=True), detected(2, 10), detected(3, 200, labels=[])]
        await store.detect(*batch)
        before = await store.counts(*EVERYTHING), await store.feed(), await store.members()
        await store.detect(*batch)
        await store.detect(*reversed(batch))
        assert (await store.counts(*EVERYTHING), await store.feed(), await store.members()) == before

    async def test_in_one_batch_counts_once(self, store: Recorded) -> None:
        await store.detect(detected(1, 0), detected(1, 0), detected(1, 0))
        assert await store.counts("media", "detections", "feed") == [1, 1, 1]

    async def test_in_one_batch_with_other_detections_is_dropped(self, store: Recorded) -> None:
        await store.detect(detected(1, 0), detected(1, 500, labels=["dog", "cat"]))
        assert await store.members() == {opened_by(1): [found(1)]}
        assert [row["captured_at"] for row in await store.rows("SELECT captured_at FROM media")] == [at(0)]

    async def test_with_other_detections_is_dropped(self, store: Recorded) -> None:
        await store.detect(detected(1, 0, labels=["person"]))
        await store.detect(detected(1, 0, labels=["dog", "cat"]), detected(1, 500, labels=[]))
        assert await store.members() == {opened_by(1): [found(1)]}
        assert [row["label"] for row in await store.rows("SELECT label FROM detections")] == ["person"]

    async def test_of_content_remembers_the_file_of_the_copy(self, store: Recorded) -> None:
        copy = detected(1, 0)
        copy.media.file.path = "front/copy.jpg"
        await store.detect(detected(1, 0))
        await store.detect(copy)
        known = {row["id"] for row in await store.rows("SELECT id FROM files")}
        assert known == {file_id(fingerprint(1)), file_id(copy.media.file)}
        assert await store.counts("media") == [1]

    async def test_that_was_not_looked_at_again_is_only_a_file(self, store: Recorded) -> None:
        await store.detect(detected(1, 0), not_looked_at(1, "copy"))
        await store.detect(not_looked_at(1, "another"))
        assert await store.members() == {opened_by(1): [found(1)]}
        assert await store.counts("media", "files", "detections", "kept_outbox") == [1, 3, 1, 1]

    async def test_that_is_not_known_after_all_is_nothing_and_its_file_is_asked_for_again(
        self, store: Recorded
    ) -> None:
        """As after a restore of the database. Nothing found must never stand for not looked at."""
        await store.detect(not_looked_at(1, "copy"))
        assert await store.counts("media", "files", "events", "kept_outbox", "detectors") == [0, 0, 0, 0, 0]
        await store.detect(not_looked_at(1, "copy"), detected(1, 0))
        assert await store.members() == {opened_by(1): [found(1)]}
        assert await store.counts("media", "files") == [1, 2]

    async def test_of_which_something_was_found_is_not_taken_for_known(self, store: Recorded) -> None:
        """A detect_svc that does not know the field looks at everything."""
        message = reported(1, 0, ("person", 0.9))
        message.media.known_content = True
        await store.detect(message)
        assert await store.counts("media", "files", "events") == [1, 1, 1]


def not_looked_at(n: int, name: str) -> MediaDetected:
    """The record of a copy of the nth photo."""
    message = MediaDetected(media=detected(n, 0).media, detected_at=stamp(at(9)))
    message.media.file.path = f"front/{name}.jpg"
    message.media.known_content = True
    return message


class TestTombstones:
    async def test_of_a_camera_drops_its_late_photos_until_it_is_created_again(self, store: Recorded) -> None:
        cameras = CameraRepository(store.database, store.signals, lambda: store.now)
        await store.detect(detected(1, 0))
        await cameras.delete("front")
        await store.detect(detected(2, 10), detected(1, 0, camera="back"))
        assert await store.counts("media", "files", "events") == [2, 2, 2]
        assert await store.next_offsets() == [3]
        await cameras.create("front", "Front", "", True, {})
        await store.detect(detected(3, 20))
        assert await store.members() == {
            opened_by(1): sorted([found(1), found(3)]),
            opened_by(1, "back"): [found(1, 0, "back")],
        }

    async def test_of_a_media_drops_it(self, store: Recorded) -> None:
        await store.rows("INSERT INTO tombstones VALUES ('media', $1, now())", photo(1))
        await store.detect(detected(1, 0), detected(2, 100))
        assert await store.members() == {opened_by(2): [found(2)]}
        assert await store.counts("media", "files") == [1, 2]  # its file is not read again


async def test_events_of_one_second_keep_their_microseconds(store: Recorded) -> None:
    message = detected(1, 0)
    message.media.captured_at.nanos = 999_999_999
    await store.detect(message)
    (change,) = await store.feed()
    assert change.event.started_at.nanos == 999_999_000
    assert (await store.event(opened_by(1)))["started_at"] == at((SECOND - 1) / SECOND)
