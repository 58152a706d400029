"""DetectionService on a real PostgreSQL."""

from collections.abc import AsyncIterator
from random import Random
from uuid import UUID, uuid4

import pytest

from lares.detect.v1.detection_pb2 import Detection
from lares.store.v1 import detection_service_pb2 as pb
from mesh.boxes import bounding_box
from mesh.problems import Invalid
from store_svc.api.detections import DetectionServicer
from store_svc.database import Database, tables
from store_svc.times import stamp
from tests.support.store_rows import NOON, Row, at, detection_row, open_store_database, write


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with open_store_database(postgres_url) as database:
        yield database


@pytest.fixture
def detections(database: Database) -> DetectionServicer:
    return DetectionServicer(database)


def some(count: int, **parents: UUID) -> list[Row]:
    """With many equal times and scores, and scores that no binary fraction equals."""
    random = Random(count)
    return [
        detection_row(**parents, captured_at=at(random.randrange(3)), score=random.choice([0.1, 0.3, 0.7]))
        for _ in range(count)
    ]


def in_order(rows: list[Row]) -> list[str]:
    rows = sorted(rows, key=lambda row: (row["captured_at"], -row["score"], row["id"].bytes))
    return [str(row["id"]) for row in rows]


def ids(page: pb.ListDetectionsResponse | pb.DetectionPage) -> list[str]:
    return [found.detection.id for found in page.detections]


async def test_a_detection_is_returned_completely(detections: DetectionServicer, database: Database) -> None:
    row = detection_row(label="cat", score=0.75, frame=2, box=[0.0, 0.125, 0.5, 1.0])
    await write(database, tables.detections, row)
    answer = await detections.ListDetections(pb.ListDetectionsRequest(media_id=str(row["media_id"])), None)
    assert list(answer.detections) == [
        pb.StoredDetection(
            detection=Detection(
                id=str(row["id"]),
                label="cat",
                score=0.75,
                bounding_box=bounding_box([0.0, 0.125, 0.5, 1.0]),
                frame=2,
            ),
            media_id=str(row["media_id"]),
            event_id=str(row["event_id"]),
            camera_id="front",
            captured_at=stamp(NOON),
        )
    ]


@pytest.mark.parametrize("size", [1, 4, 23, 24, 500])
async def test_pages_of_an_event_contain_each_detection_once(
    detections: DetectionServicer, database: Database, size: int
) -> None:
    event_id = uuid4()
    rows = some(24, event_id=event_id)
    await write(database, tables.detections, *rows, detection_row())
    seen: list[str] = []
    request = pb.ListDetectionsRequest(event_id=str(event_id), page_size=size)
    while True:
        page = await detections.ListDetections(request, None)
        assert len(page.detections) == len(page.page_tokens) <= size
        seen += ids(page)
        assert len(seen) <= len(rows)
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert seen == in_order(rows)


async def test_every_detection_has_a_token_for_the_detections_after_it(
    detections: DetectionServicer, database: Database
) -> None:
    media_id = uuid4()
    rows = some(9, media_id=media_id)
    await write(database, tables.detections, *rows)
    whole = await detections.ListDetections(pb.ListDetectionsRequest(media_id=str(media_id)), None)
    for place, token in enumerate(whole.page_tokens, 1):
        request = pb.ListDetectionsRequest(media_id=str(media_id).upper(), page_token=token)
        assert ids(await detections.ListDetections(request, None)) == in_order(rows)[place:]


async def test_a_token_belongs_to_its_parent(detections: DetectionServicer, database: Database) -> None:
    parent = uuid4()
    await write(database, tables.detections, *some(3, event_id=parent, media_id=parent))
    page = await detections.ListDetections(pb.ListDetectionsRequest(event_id=str(parent), page_size=1), None)
    token = page.next_page_token
    for request in (
        pb.ListDetectionsRequest(media_id=str(parent), page_token=token),
        pb.ListDetectionsRequest(event_id=str(uuid4()), page_token=token),
    ):
        with pytest.raises(Invalid) as refused:
            await detections.ListDetections(request, None)
        assert refused.value.reason == "BAD_PAGE_TOKEN"


async def test_an_unknown_parent_has_none(detections: DetectionServicer) -> None:
    answer = await detections.ListDetections(pb.ListDetectionsRequest(event_id=str(uuid4())), None)
    assert answer == pb.ListDetectionsResponse()


async def test_the_first_detections_of_many_parents(
    detections: DetectionServicer, database: Database
) -> None:
    event, other_event, media, empty = uuid4(), uuid4(), uuid4(), uuid4()
    rows = {
        event: some(7, event_id=event),
        other_event: some(2, event_id=other_event),
        media: some(4, media_id=media),
        empty: [],
    }
    await write(database, tables.detections, *[row for found in rows.values() for row in found])
    event_ids, media_ids = [other_event, empty, event, other_event], [media, empty]
    answer = await detections.BatchListDetections(
        pb.BatchListDetectionsRequest(
            event_ids=map(str, event_ids), media_ids=map(str, media_ids), page_size=3
        ),
        None,
    )
    assert [page.parent_id for page in answer.pages] == [str(id) for id in event_ids + media_ids]
    assert [ids(page) for page in answer.pages] == [in_order(rows[id])[:3] for id in event_ids + media_ids]
    for page, parent in zip(answer.pages, ["event_id"] * 4 + ["media_id"] * 2, strict=True):
        whole = in_order(rows[UUID(page.parent_id)])
        assert bool(page.next_page_token) == (len(whole) > 3)
        for place, token in enumerate(page.page_tokens, 1):
            request = pb.ListDetectionsRequest(**{parent: page.parent_id}, page_token=token)  # type: ignore[arg-type]
            assert ids(await detections.ListDetections(request, None)) == whole[place:]
