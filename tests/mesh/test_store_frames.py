"""The watch policy in the transaction that records a detector's raw output, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from lares.detect.v1.detection_pb2 import DetectorModel
from lares.detect.v1.events_pb2 import MediaDetected
from lares.store.v1.dropped_pb2 import DroppedDetections
from lares.store.v1.events_pb2 import MediaKept
from mesh.config import load_config
from mesh.problems import Unavailable
from store_svc.camera_repository import CameraRepository
from store_svc.detectors import Detectors
from store_svc.domain.watch_policy import CameraWatch, Decision, ModelThresholds, WatchPolicy
from store_svc.ids import parse_uuid
from store_svc.queries.media import get_media
from store_svc.service import watch_settings
from tests.support.facts import DETECTOR, MODEL, detected, found, opened_by, photo, reported
from tests.support.recorded import Recorded, open_recorded


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


SEEN = (("person", 0.75), ("kite", 0.7), ("dog", 0.5), ("person", 0.49), ("cat", 0.125))


async def kept_messages(store: Recorded) -> list[MediaKept]:
    return [
        MediaKept.FromString(row["body"])
        for row in await store.rows("SELECT body FROM kept_outbox ORDER BY id")
    ]


async def kept_labels(store: Recorded) -> dict[str, list[str]]:
    """By media, oldest capture first."""
    rows = await store.rows(
        "SELECT m.id, array_remove(array_agg(d.label ORDER BY d.rank), NULL) AS labels"
        " FROM media m LEFT JOIN detections d ON d.media_id = m.id GROUP BY m.id ORDER BY m.captured_at"
    )
    return {str(row["id"]): row["labels"] for row in rows}


def cameras_of(store: Recorded) -> CameraRepository:
    return CameraRepository(store.database, store.signals, lambda: store.now)


async def test_kept_findings_become_rows_and_dropped_ones_are_stored_with_their_frame_and_reason(
    store: Recorded,
) -> None:
    await store.detect(reported(1, 0, *SEEN))
    rows = await store.rows("SELECT * FROM detections ORDER BY rank")
    assert [(row["label"], row["rank"], row["frame"]) for row in rows] == [("person", 0, 0), ("dog", 2, 0)]
    # Their ids depend on the rank in the raw output, where the kite is second.
    assert [str(row["id"]) for row in rows] == [found(1, 0), found(1, 2)]
    assert [row["box"] for row in rows] == [[0.25, 0.25, 0.5, 0.75]] * 2
    (frame,) = await store.rows("SELECT * FROM frames")
    assert (str(frame["media_id"]), frame["index"], frame["width"], frame["height"]) == (
        photo(1),
        0,
        1920,
        1080,
    )
    dropped = DroppedDetections.FromString(frame["dropped"]).detections
    assert [(one.detection.rank, one.detection.label, Decision(one.decision).name) for one in dropped] == [
        (1, "kite", "NOT_WATCHED"),
        (3, "person", "BELOW_THRESHOLD"),
        (4, "cat", "BELOW_THRESHOLD"),
    ]
    assert dropped[2].detection.score == 0.125
    assert dropped[0].detection.bounding_box.y_max == 0.75
    (media,) = await store.rows("SELECT * FROM media")
    policy = WatchPolicy.of(store.watch, CameraWatch(), ModelThresholds(0.5, 0.6))
    assert (media["camera_revision"], media["policy_digest"]) == (1, policy.digest)
    assert media["detection_count"] == 2
    stored = await get_media(store.database, photo(1))
    assert (stored.camera_revision, stored.policy_digest) == (1, policy.digest)
    event = await store.event(opened_by(1))
    assert (event["detection_count"], event["labels"], event["urgent_done"]) == (2, ["dog", "person"], True)


async def test_a_frame_in_which_nothing_counts_opens_no_event(store: Recorded) -> None:
    await store.detect(reported(1, 0, ("kite", 0.9)), reported(2, 1))
    assert await store.counts("media", "frames", "detections", "events") == [2, 2, 0, 0]


async def test_the_policy_decides_about_the_fast_path(store: Recorded) -> None:
    await store.detect(
        reported(1, 0, ("person", 0.59)), reported(2, 1000, ("person", 0.61)), reported(3, 2000, ("dog", 0.9))
    )
    urgent = {str(row["id"]) for row in await store.rows("SELECT id FROM events WHERE urgent_done")}
    assert urgent == {opened_by(2)}


async def test_the_first_record_of_a_media_counts(store: Recorded) -> None:
    """Also over what an earlier version wrote of the same photo, and the other way round."""
    await store.detect(reported(1, 0, ("person", 0.75)), reported(1, 0, ("person", 0.75), ("dog", 0.75)))
    await store.detect(reported(1, 0, *SEEN), detected(1, 0, labels=("person", "dog")))
    await store.detect(detected(2, 1000, labels=("cat",)))
    await store.detect(reported(2, 1000, *SEEN))
    assert await kept_labels(store) == {photo(1): ["person"], photo(2): ["cat"]}
    assert [len(kept.frames[0].detections) for kept in await kept_messages(store)] == [1, 1]
    assert await store.counts("frames", "detections", "events") == [1, 2, 2]


async def test_everything_in_a_record_that_an_earlier_version_filtered_counts(store: Recorded) -> None:
    """Whatever the watched labels and thresholds are now; its flag for the fast path counts, too."""
    old = detected(1, 0, labels=("person", "kite"), urgent=True)
    old.detections[0].score = 0.0625
    await store.detect(old, detected(2, 1000, labels=()))
    assert await kept_labels(store) == {photo(1): ["person", "kite"], photo(2): []}
    for media in await store.rows("SELECT * FROM media"):
        assert (media["camera_revision"], media["policy_digest"]) == (None, None)
    assert (await get_media(store.database, photo(1))).policy_digest == ""
    assert (await store.event(opened_by(1)))["urgent_done"]
    assert await store.counts("frames", "detectors") == [0, 0]
    first, second = await kept_messages(store)
    assert [(one.id, one.label) for one in first.frames[0].detections] == [
        (found(1, 0), "person"),
        (found(1, 1), "kite"),
    ]
    assert (first.camera_revision, first.policy_digest, first.frames[0].dropped_count) == (0, "", 0)
    assert [(frame.index, len(frame.detections), frame.width) for frame in second.frames] == [(0, 0, 1920)]


async def test_a_cameras_threshold_applies_from_its_transaction_on(store: Recorded) -> None:
    """Also within one process, which caches policies. A media that was recorded before does not change."""
    cameras, digests = cameras_of(store), []
    for n, thresholds in enumerate([{}, {"dog": 0.25}, {"*": 0.75}, {"dog": 0.25}], 1):
        if thresholds or n > 1:
            await cameras.update("front", {"thresholds": thresholds})
        await store.detect(reported(n, n * 1000, ("person", 0.5), ("dog", 0.3)))
    assert list((await kept_labels(store)).values()) == [["person"], ["person", "dog"], [], ["person", "dog"]]
    rows = await store.rows("SELECT camera_revision, policy_digest FROM media ORDER BY captured_at")
    assert [row["camera_revision"] for row in rows] == [1, 2, 3, 4]
    digests = [row["policy_digest"] for row in rows]
    assert digests[1] == digests[3]
    assert len(set(digests)) == 3


async def test_a_change_that_was_rolled_back_decides_nothing(store: Recorded) -> None:
    """A camera is created by a record whose transaction fails, and then by a client with thresholds."""
    recorder = store.recorder
    (batch,) = store.batch("detect.detections.v1", [reported(1, 0, ("person", 0.5))], 0, 0)

    async def fails(connection: Any) -> None:
        await recorder.write(connection, [recorder.read(batch)])
        raise RuntimeError("rolled back")

    with pytest.raises(RuntimeError):
        await store.database.transaction(fails)
    await cameras_of(store).create("front", "Front", "", True, {"person": 0.75})
    await store.detect(reported(1, 0, ("person", 0.5)), first=0)
    assert await kept_labels(store) == {photo(1): []}


async def test_another_cameras_configuration_does_not_matter(store: Recorded) -> None:
    await cameras_of(store).create("back", "Back", "", True, {"person": 0.75})
    seen = [("person", 0.5)]
    await store.detect(reported(1, 0, *seen), reported(2, 1000, *seen, camera="back"))
    assert list((await kept_labels(store)).values()) == [["person"], []]


async def test_the_models_own_thresholds_are_those_of_the_record(store: Recorded) -> None:
    strict = DetectorModel(id="other@1", labels=["person"], threshold=0.75, fast_threshold=0.9)
    await store.detect(reported(1, 0, ("person", 0.6)), reported(2, 1000, ("person", 0.6), model=strict))
    assert list((await kept_labels(store)).values()) == [["person"], []]


async def test_a_clip_has_a_time_for_each_frame(store: Recorded) -> None:
    """No clip is announced yet, but the log can contain one: each frame is placed at its own time."""
    clip = reported(1, 0, ("person", 0.75))
    for index, seconds in ((3, 10), (7, 100)):
        frame = clip.frames.add()
        frame.CopyFrom(clip.frames[0])
        frame.index, frame.motion_significance = index, 0.5
        frame.captured_at.seconds += seconds
    await store.detect(clip)
    rows = await store.rows("SELECT frame, event_id, captured_at FROM detections ORDER BY frame")
    assert [row["frame"] for row in rows] == [0, 3, 7]
    assert rows[0]["event_id"] == rows[1]["event_id"] != rows[2]["event_id"]
    assert [(row["captured_at"] - rows[0]["captured_at"]).total_seconds() for row in rows] == [0, 10, 100]
    (kept,) = await kept_messages(store)
    assert [frame.detections[0].event_id for frame in kept.frames] == [str(row["event_id"]) for row in rows]


def without_model(message: MediaDetected) -> None:
    message.ClearField("model")


def other_model(message: MediaDetected) -> None:
    message.model.id = "another"


def rank_twice(message: MediaDetected) -> None:
    message.frames[0].detections[1].rank = 0


def frame_twice(message: MediaDetected) -> None:
    message.frames.add().CopyFrom(message.frames[0])


def without_box(message: MediaDetected) -> None:
    message.frames[0].detections[0].ClearField("bounding_box")


def endless_box(message: MediaDetected) -> None:
    message.frames[0].detections[0].bounding_box.x_max = float("nan")


def high_score(message: MediaDetected) -> None:
    message.frames[0].detections[0].score = 1.5


def without_label(message: MediaDetected) -> None:
    message.frames[0].detections[0].label = ""


def late_frame(message: MediaDetected) -> None:
    message.frames[0].captured_at.seconds = 2**60


def frame_without_time(message: MediaDetected) -> None:
    message.frames[0].ClearField("captured_at")


def odd_threshold(message: MediaDetected) -> None:
    message.model.threshold = float("nan")


@pytest.mark.parametrize(
    "spoil",
    [
        without_model,
        other_model,
        rank_twice,
        frame_twice,
        without_box,
        endless_box,
        high_score,
        without_label,
        late_frame,
        frame_without_time,
        odd_threshold,
    ],
)
async def test_a_bad_record_becomes_a_dead_letter_alone(store: Recorded, spoil: Any) -> None:
    broken = reported(2, 1000, *SEEN)
    spoil(broken)
    await store.detect(reported(1, 0, *SEEN), broken, reported(3, 2000, *SEEN))
    assert store.detections.buried == [(1, "BAD_RECORD")]
    assert list(await kept_labels(store)) == [photo(1), photo(3)]


async def test_kept_media_are_facts_of_their_own(store: Recorded) -> None:
    await store.detect(reported(1, 0, *SEEN), reported(2, 5, ("kite", 0.9)))
    first, second = await kept_messages(store)
    assert first.media == reported(1, 0).media
    assert (first.detector, first.camera_revision) == (DETECTOR, 1)
    assert first.detected_at == reported(1, 0).detected_at
    assert first.recorded_at.ToDatetime(store.now.tzinfo) == store.now
    assert first.policy_digest == (await store.rows("SELECT policy_digest FROM media"))[0][0]
    (frame,) = first.frames
    assert (frame.index, frame.width, frame.height, frame.dropped_count) == (0, 1920, 1080, 3)
    assert [(one.id, one.label, one.event_id) for one in frame.detections] == [
        (found(1, 0), "person", opened_by(1)),
        (found(1, 2), "dog", opened_by(1)),
    ]
    assert frame.detections[0].score == 0.75
    assert frame.detections[0].bounding_box.x_min == 0.25
    assert [(len(frame.detections), frame.dropped_count) for frame in second.frames] == [(0, 1)]


async def test_nothing_of_a_deleted_cameras_media_counts(store: Recorded) -> None:
    await store.detect(reported(1, 0, *SEEN))
    await cameras_of(store).delete("front")
    await store.detect(reported(2, 1000, *SEEN))
    assert await store.counts("media", "frames", "kept_outbox") == [1, 1, 1]


async def test_an_unknown_watched_label_is_a_problem_until_another_detector_reports(
    store: Recorded,
) -> None:
    store.watch = watch_settings(
        load_config(watch_classes=["person", "burglar"], watch_fast_classes=["person", "ghost"])
    )
    store.__post_init__()
    detectors = Detectors(store.database, store.watch)
    await detectors.check()  # nothing has reported yet
    await store.detect(reported(1, 0, ("person", 0.75), ("dog", 0.75)))
    assert await kept_labels(store) == {photo(1): ["person"]}  # what the detector can find counts
    with pytest.raises(Unavailable) as refused:
        await detectors.check()
    assert refused.value.reason == "UNKNOWN_LABEL"
    assert f"LARES_WATCH_CLASSES: {DETECTOR} cannot find burglar" in refused.value.message
    assert f"LARES_WATCH_FAST_CLASSES: {DETECTOR} cannot find ghost" in refused.value.message
    able = DetectorModel(
        id="able@1", labels=["person", "burglar", "ghost"], threshold=0.5, fast_threshold=0.6
    )
    await store.detect(reported(2, 1000, ("burglar", 0.75), model=able))
    await detectors.check()
    assert (await kept_labels(store))[photo(2)] == ["burglar"]
    # And back to the first detector, by another process whose clock is behind.
    other = Recorded(store.database, watch=store.watch)
    other.now = store.now.replace(year=2020)
    await other.detect(reported(3, 2000, ("person", 0.75)), partition=1)
    with pytest.raises(Unavailable, match="burglar"):
        await detectors.check()
    await store.detect(reported(4, 3000, model=able))
    await store.detect(reported(5, 4000, model=able))
    store.now += timedelta(minutes=1)
    await store.detect(reported(6, 5000, model=able))
    await detectors.check()


async def test_a_detector_whose_record_was_rolled_back_is_recorded_later(store: Recorded) -> None:
    recorder = store.recorder

    async def fails(connection: Any) -> None:
        (batch,) = store.batch("detect.detections.v1", [reported(1, 0)], 0, 0)
        await recorder.write(connection, [recorder.read(batch)])
        raise RuntimeError("rolled back")

    with pytest.raises(RuntimeError):
        await store.database.transaction(fails)
    assert await store.counts("detectors") == [0]
    for n in range(1, 4):
        await store.detect(reported(n, n * 1000), first=n - 1)
    (row,) = await store.rows("SELECT * FROM detectors")
    assert (row["id"], row["threshold"], row["fast_threshold"]) == (DETECTOR, 0.5, 0.6)
    assert row["labels"] == list(MODEL.labels)


async def test_two_processes_record_at_once(store: Recorded) -> None:
    """Of two cameras and two detectors: they do not deadlock."""
    other = Recorded(store.database)
    able = DetectorModel(id="able@1", labels=["person"], threshold=0.5, fast_threshold=0.6)
    for n in range(20):
        await asyncio.gather(
            store.detect(reported(n, n * 1000, *SEEN, camera="a")),
            other.detect(reported(n, n * 1000, *SEEN, camera="b", model=able), partition=1),
        )
    assert await store.counts("media", "frames", "kept_outbox", "detectors") == [40, 40, 40, 2]
    assert all(parse_uuid(id) for id in await kept_labels(store))
