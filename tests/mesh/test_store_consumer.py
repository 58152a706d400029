"""Recording batches, invalid records and rejections, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from lares.detect.v1.events_pb2 import MediaDetected
from store_svc.consumer import ATTEMPTS
from store_svc.ids import file_id
from tests.support.facts import at, detected, fingerprint, found, opened_by, rejected
from tests.support.recorded import Recorded, open_recorded, sequences


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


async def next_offset(store: Recorded) -> int:
    ((offset,),) = await store.rows("SELECT next_offset FROM offsets")
    return int(offset)


def no_camera(message: MediaDetected) -> None:
    message.media.camera_id = "No Slug"


def no_media_id(message: MediaDetected) -> None:
    message.media.id = "7"


def no_detection_id(message: MediaDetected) -> None:
    message.detections[0].id = ""


def bad_score(message: MediaDetected) -> None:
    message.detections[0].score = float("nan")


def bad_box(message: MediaDetected) -> None:
    del message.detections[0].box[2:]


def no_box(message: MediaDetected) -> None:
    message.detections[0].ClearField("box")


def bad_bounding_box(message: MediaDetected) -> None:
    message.detections[0].bounding_box.x_max = float("inf")


def no_time(message: MediaDetected) -> None:
    message.media.captured_at.seconds = 10**15


def nul_in_text(message: MediaDetected) -> None:
    message.detections[0].label = "per\0son"


def size_beyond(message: MediaDetected) -> None:
    message.media.type = 2**20  # type: ignore[assignment]


def same_detection_twice(message: MediaDetected) -> None:
    message.detections.append(message.detections[0])


def another_medias_detection(message: MediaDetected) -> None:
    message.detections[0].id = found(1)


class TestInvalidRecord:
    @pytest.mark.parametrize(
        ("breaks", "reason"),
        [
            (no_camera, "BAD_RECORD"),
            (no_media_id, "BAD_RECORD"),
            (no_detection_id, "BAD_RECORD"),
            (bad_score, "BAD_RECORD"),
            (bad_box, "BAD_RECORD"),
            (no_box, "BAD_RECORD"),
            (bad_bounding_box, "BAD_RECORD"),
            (no_time, "BAD_RECORD"),
            (nul_in_text, "BAD_DATA"),
            (size_beyond, "BAD_DATA"),
            (same_detection_twice, "BAD_DATA"),
            (another_medias_detection, "BAD_DATA"),
        ],
    )
    async def test_alone_becomes_a_dead_letter(
        self, store: Recorded, breaks: Callable[[MediaDetected], None], reason: str
    ) -> None:
        broken = detected(2, 100)
        breaks(broken)
        await store.detect(detected(1, 0), broken, detected(3, 200))
        assert store.detections.buried == [(1, reason)]
        assert await store.members() == {opened_by(1): [found(1)], opened_by(3): [found(3)]}
        assert sequences(await store.feed()) == [1, 2]
        assert await next_offset(store) == 3
        assert [delivery.offset for delivery in store.detections.finished] == [0, 2]

    async def test_at_the_end_of_a_batch_is_skipped(self, store: Recorded) -> None:
        broken = detected(1, 0)
        no_camera(broken)
        await store.detect(broken)
        assert await next_offset(store) == 1
        await store.detect(detected(2, 0))
        assert await store.counts("media") == [1]

    async def test_that_causes_an_unexpected_error_becomes_a_dead_letter(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = store.recorder.read

        def failing(delivery: object) -> object:
            if delivery.offset == 1:  # type: ignore[attr-defined]
                attempts.append(1)
                raise ZeroDivisionError("a bug")
            return read(delivery)  # type: ignore[arg-type]

        attempts: list[int] = []
        monkeypatch.setattr(store.recorder, "read", failing)
        await store.detect(detected(1, 0), detected(2, 100))
        assert store.detections.buried == [(1, "INTERNAL")]
        assert await store.counts("media") == [1]
        assert len(attempts) == 1 + ATTEMPTS  # with its batch, then alone

    async def test_that_causes_an_unexpected_error_once_is_stored(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = store.recorder.write
        failures = iter([True, True])

        async def failing(*arguments: object) -> object:
            effect: object = await write(*arguments)  # type: ignore[arg-type]
            if next(failures, False):
                raise ZeroDivisionError("a hiccup")
            return effect

        monkeypatch.setattr(store.recorder, "write", failing)
        await store.detect(detected(1, 0))
        assert store.detections.buried == []
        assert await store.counts("media", "feed") == [1, 1]

    async def test_a_missing_table_stops_the_consumer(self, store: Recorded) -> None:
        """A record that a repaired database would accept must not become a dead letter."""
        await store.rows("ALTER TABLE detections RENAME TO elsewhere")
        with pytest.raises(asyncpg.UndefinedTableError):
            await store.detect(detected(1, 0))
        assert store.detections.buried == []


class TestRejections:
    async def test_are_kept_once_with_their_file(self, store: Recorded) -> None:
        await store.reject(rejected(1), rejected(2), rejected(1))
        await store.reject(rejected(2))
        rows = await store.rows("SELECT * FROM rejections ORDER BY path")
        assert [(row["camera_id"], row["path"], row["reason"], row["rejected_at"]) for row in rows] == [
            ("front", "front/0001.jpg", 2, at(1)),
            ("front", "front/0002.jpg", 2, at(2)),
        ]
        known = {row["id"] for row in await store.rows("SELECT id FROM files")}
        assert known == {file_id(fingerprint(1)), file_id(fingerprint(2))}

    async def test_without_a_camera_are_kept_and_create_none(self, store: Recorded) -> None:
        await store.reject(rejected(1, camera=""))
        assert await store.counts("rejections", "cameras") == [1, 0]

    async def test_of_a_deleted_camera_are_dropped(self, store: Recorded) -> None:
        await store.detect(detected(1, 0))
        await store.rows("UPDATE cameras SET deleted_at = now()")
        await store.reject(rejected(2), rejected(3, camera="back"))
        assert [row["camera_id"] for row in await store.rows("SELECT camera_id FROM rejections")] == ["back"]

    async def test_of_an_upload_that_cannot_be_decoded(self, store: Recorded) -> None:
        upload = rejected(1)
        upload.ClearField("file")
        upload.media_id = detected(1, 0).media.id
        await store.reject(upload)
        ((path, media),) = await store.rows("SELECT path, media_id FROM rejections")
        assert (path, str(media)) == ("", detected(1, 0).media.id)
        assert await store.counts("files") == [0]

    async def test_only_invalid_ones_become_dead_letters(self, store: Recorded) -> None:
        broken = rejected(1)
        broken.rejection_id = "none"
        await store.reject(broken, rejected(2))
        assert store.rejections.buried == [(0, "BAD_RECORD")]
        assert await store.counts("rejections") == [1]
