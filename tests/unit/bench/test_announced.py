"""The photos that measures announce in place of ingest_svc."""

import itertools
from collections import Counter
from pathlib import Path

from aiokafka.partitioner import murmur2

from mesh.blobs import FileBlobs
from mesh.topics import CAMERA_PARTITIONS, DETECTED, INGESTED
from tests.bench.announced import (
    OF_AN_EVENT,
    PAUSE_SECONDS,
    camera_names,
    contents,
    detected_by_stub,
    ingested,
    keep,
    media,
    tiny_photo,
)


def test_all_partitions_have_as_many_cameras() -> None:
    names = camera_names(3 * CAMERA_PARTITIONS)
    assert len(set(names)) == len(names)
    for partitions in (4, CAMERA_PARTITIONS):
        counts = Counter((murmur2(name.encode()) & 0x7FFFFFFF) % partitions for name in names)
        assert set(counts.values()) == {len(names) // partitions}
        assert len(counts) == partitions


async def test_photos_are_different_and_their_bytes_are_there(tmp_path: Path) -> None:
    turns, names = OF_AN_EVENT + 1, ["porch", "yard"]
    found = contents([tiny_photo(tmp_path)], turns)
    blobs = FileBlobs(tmp_path / "blobs")
    await blobs.prepare()
    kept = await keep(blobs, found)
    photos = list(media(names, kept))
    blobs.close()
    for blob, content in zip(kept, found, strict=True):
        assert (tmp_path / "blobs" / blob.sha256[:2] / blob.sha256).read_bytes() == content
    assert len({blob.sha256 for blob in kept}) == turns
    assert len({photo.id for photo in photos}) == len(names) * turns
    assert [photo.camera_id for photo in photos[:4]] == ["porch", "yard", "porch", "yard"]
    times = [photo.captured_at.seconds for photo in photos if photo.camera_id == "yard"]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert steps == [1] * (OF_AN_EVENT - 1) + [PAUSE_SECONDS - OF_AN_EVENT + 1]
    announced = ingested(photos[0])
    assert (announced.backlog, INGESTED.key(announced)) == (True, "porch")
    recorded = await detected_by_stub(photos[1], found[0])
    assert DETECTED.key(recorded) == "yard"
    assert recorded.media == photos[1]
    assert recorded.frames[0].detections
