"""MediaService on a real PostgreSQL."""

from collections.abc import AsyncIterator
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from lares.ingest.v1.media_pb2 import (
    CAPTURED_AT_SOURCE_MTIME,
    MEDIA_TYPE_JPEG,
    REJECTION_REASON_TRUNCATED,
    FileFingerprint,
    Media,
)
from lares.store.internal.v1 import file_service_pb2
from lares.store.v1 import media_service_pb2 as pb
from mesh.problems import Invalid, NotFound
from store_svc.api.files import FileServicer
from store_svc.api.media import MediaServicer
from store_svc.database import Database, tables
from store_svc.ids import file_id
from store_svc.times import stamp
from tests.support.store_rows import (
    NOON,
    Row,
    at,
    detection_row,
    media_row,
    open_store_database,
    rejection_row,
    write,
)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with open_store_database(postgres_url) as database:
        yield database


@pytest.fixture
def media(database: Database) -> MediaServicer:
    return MediaServicer(database)


def ids(rows: list[Row]) -> list[str]:
    return [str(row["id"]) for row in rows]


async def test_a_media_is_returned_completely(media: MediaServicer, database: Database) -> None:
    row = media_row(
        path="front/a.jpg", file_size_bytes=1000, mtime_ns=5, ctime_ns=6, inode=7, detection_count=2
    )
    await write(database, tables.media, row, media_row())
    answer = await media.GetMedia(pb.GetMediaRequest(media_id=str(row["id"])), None)
    assert answer.media == pb.StoredMedia(
        media=Media(
            id=str(row["id"]),
            camera_id="front",
            camera_name="Front",
            sha256="ab" * 32,
            size_bytes=1000,
            type=MEDIA_TYPE_JPEG,
            width=1920,
            height=1080,
            captured_at=stamp(NOON),
            captured_at_source=CAPTURED_AT_SOURCE_MTIME,
            ingested_at=stamp(at(1)),
            file=FileFingerprint(path="front/a.jpg", size_bytes=1000, mtime_ns=5, ctime_ns=6, inode=7),
        ),
        detected_at=stamp(at(2)),
        detector="test@0",
        detection_count=2,
    )


async def test_an_upload_has_no_file(media: MediaServicer, database: Database) -> None:
    row = media_row()
    await write(database, tables.media, row)
    answer = await media.GetMedia(pb.GetMediaRequest(media_id=str(row["id"])), None)
    assert not answer.media.media.HasField("file")


async def test_an_unknown_media_is_not_found(media: MediaServicer) -> None:
    with pytest.raises(NotFound) as missing:
        await media.GetMedia(pb.GetMediaRequest(media_id=str(uuid4())), None)
    assert missing.value.reason == "MEDIA_NOT_FOUND"


async def test_many_media_at_once(media: MediaServicer, database: Database) -> None:
    rows = [media_row() for _ in range(5)]
    await write(database, tables.media, *rows)
    asked = [*ids(rows[:3]), str(uuid4()), ids(rows)[0]]
    answer = await media.BatchGetMedia(pb.BatchGetMediaRequest(media_ids=asked), None)
    assert sorted(found.media.id for found in answer.media) == sorted(ids(rows[:3]))


async def test_media_are_listed_newest_capture_first(media: MediaServicer, database: Database) -> None:
    rows = [media_row(captured_at=at(n // 3), camera_id=("front", "back")[n % 2]) for n in range(12)]
    Random(3).shuffle(rows)
    await write(database, tables.media, *rows)
    order = sorted(rows, key=lambda row: (row["captured_at"], row["id"].bytes), reverse=True)
    assert await walk(media.ListMedia, pb.ListMediaRequest(page_size=5)) == ids(order)
    back = [row for row in order if row["camera_id"] == "back"]
    assert await walk(media.ListMedia, pb.ListMediaRequest(page_size=2, camera_ids=["back"])) == ids(back)
    assert await walk(media.ListMedia, pb.ListMediaRequest(camera_ids=["none"])) == []


async def test_a_page_of_media_belongs_to_its_cameras(media: MediaServicer, database: Database) -> None:
    await write(database, tables.media, *[media_row(captured_at=at(n)) for n in range(3)])
    page = await media.ListMedia(pb.ListMediaRequest(page_size=1, camera_ids=["front"]), None)
    for cameras in ([], ["back"], ["front", "back"]):
        with pytest.raises(Invalid) as refused:
            await media.ListMedia(
                pb.ListMediaRequest(page_token=page.next_page_token, camera_ids=cameras), None
            )
        assert refused.value.reason == "BAD_PAGE_TOKEN"


async def test_the_media_of_events(media: MediaServicer, database: Database) -> None:
    rows = [media_row(captured_at=at(-n)) for n in range(4)]
    first, second, empty = uuid4(), uuid4(), uuid4()
    members = [(first, 0), (first, 1), (first, 1), (second, 1), (second, 2)]
    await write(database, tables.media, *rows)
    await write(
        database,
        tables.detections,
        *[detection_row(event_id=event, media_id=rows[n]["id"]) for event, n in members],
    )
    asked = [str(second), str(empty), str(first), str(second)]
    answer = await media.BatchListEventMedia(pb.BatchListEventMediaRequest(event_ids=asked), None)
    assert [event.event_id for event in answer.events] == asked
    assert [[found.media.id for found in event.media] for event in answer.events] == [
        [ids(rows)[2], ids(rows)[1]],
        [],
        [ids(rows)[1], ids(rows)[0]],
        [ids(rows)[2], ids(rows)[1]],
    ]


async def test_rejections_are_listed_newest_first(media: MediaServicer, database: Database) -> None:
    rows = [rejection_row(rejected_at=at(n // 2), path=f"front/{n}.jpg") for n in range(8)]
    rows.append(rejection_row(rejected_at=at(4), path="", media_id=uuid4()))  # an upload
    await write(database, tables.rejections, *rows)
    order = sorted(rows, key=lambda row: (row["rejected_at"], row["id"].bytes), reverse=True)
    answer = await media.ListRejections(pb.ListRejectionsRequest(), None)
    assert [rejection.path for rejection in answer.rejections] == [row["path"] for row in order]
    assert answer.rejections[0] == pb.Rejection(
        id=str(order[0]["id"]),
        camera_id="front",
        path=order[0]["path"],
        reason=REJECTION_REASON_TRUNCATED,
        detail="The file ends in the middle.",
        rejected_at=stamp(at(4)),
        media_id=str(rows[-1]["media_id"]),
    )
    assert not answer.rejections[1].media_id
    assert await walk(media.ListRejections, pb.ListRejectionsRequest(page_size=4)) == ids(order)


async def test_rejections_of_files_that_were_taken_later_are_left_out(
    media: MediaServicer, database: Database
) -> None:
    def rejected(path: str, **changes: Any) -> dict[str, Any]:
        return rejection_row(path=path, rejected_at=at(5), **changes)

    def taken(path: str | None, **changes: Any) -> dict[str, Any]:
        return media_row(**({"id": uuid4(), "path": path, "ingested_at": at(6)} | changes))

    long = "front/" + "/".join(["é" * 120] * 16)
    listed = [
        rejected("front/never.jpg"),
        rejected("front/before.jpg"),
        rejected("front/of-another-camera.jpg"),
        rejected("front/Later.jpg"),
        rejected(""),  # an upload
    ]
    left_out = [rejected("front/later.jpg"), rejected("front/later.jpg", reason=1), rejected(long)]
    await write(database, tables.rejections, *listed, *left_out)
    await write(
        database,
        tables.media,
        taken("front/before.jpg", ingested_at=at(4)),
        taken("front/of-another-camera.jpg", camera_id="yard"),
        taken("front/later.jpg"),
        taken(long),
        taken(None),
    )
    answer = await media.ListRejections(pb.ListRejectionsRequest(), None)
    assert {rejection.id for rejection in answer.rejections} == set(ids(listed))
    request = pb.ListRejectionsRequest(page_size=2)
    assert set(await walk(media.ListRejections, request)) == set(ids(listed))


async def test_only_files_never_recorded_in_this_state_are_unknown(
    database: Database,
) -> None:
    files = FileServicer(database)
    known = FileFingerprint(path="front/a.jpg", size_bytes=1, mtime_ns=2, ctime_ns=3, inode=4)
    await write(database, tables.files, {"id": file_id(known), "path": known.path})
    others = []
    for field, value in (("path", "front/b.jpg"), ("size_bytes", 9), ("mtime_ns", 9), ("ctime_ns", 9)):
        other = FileFingerprint()
        other.CopyFrom(known)
        setattr(other, field, value)
        others.append(other)
    asked = [known, *others, known, others[0]]
    answer = await files.ListUnknownFiles(file_service_pb2.ListUnknownFilesRequest(files=asked), None)
    assert list(answer.unknown) == [1, 2, 3, 4, 6]
    nothing = await files.ListUnknownFiles(file_service_pb2.ListUnknownFilesRequest(), None)
    assert list(nothing.unknown) == []


async def test_media_that_were_recorded_or_deleted_are_known(database: Database) -> None:
    recorded, deleted, never, event = (str(uuid4()) for _ in range(4))
    await write(database, tables.media, {**media_row(), "id": UUID(recorded)})
    for kind, id in (("media", deleted), ("event", event)):
        await write(database, tables.tombstones, {"kind": kind, "id": UUID(id), "deleted_at": at(0)})
    request = file_service_pb2.ListKnownMediaRequest(media_ids=[recorded, deleted, never, event, recorded])
    answer = await FileServicer(database).ListKnownMedia(request, None)
    assert sorted(answer.media_ids) == sorted([recorded, deleted])


async def walk(call: Any, request: Any) -> list[str]:
    """The ids of all pages."""
    seen: list[str] = []
    while True:
        page = await call(request, None)
        rows = page.media if hasattr(page, "media") else page.rejections
        assert len(page.page_tokens) == len(rows)
        seen += [row.media.id if hasattr(row, "media") else row.id for row in rows]
        request.page_token = page.next_page_token
        if not request.page_token:
            return seen
