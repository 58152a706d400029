"""The store keeps the same detections as earlier versions, in which detect_svc filtered.

The same photos give the same events, whether they are recorded as earlier versions wrote them or as now.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from detect_svc.detectors.detector import Detector
from detect_svc.detectors.factory import open_detector
from detect_svc.detectors.frame_message import frame_message
from detect_svc.detectors.rtdetr_output import read_findings
from detect_svc.messages import detected, model_of
from lares.detect.v1.detection_pb2 import Frame
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.media_pb2 import Media
from mesh.config import Config, load_config
from mesh.identity import media_id
from mesh.labels import COCO_LABELS
from store_svc.camera_repository import CameraRepository
from store_svc.service import watch_settings
from store_svc.times import stamp
from tests.support.detectors import FakeDetector
from tests.support.facts import at
from tests.support.filtered import filtered
from tests.support.parts import MIGRATED, fresh_database
from tests.support.photos import animals, empty_photo, people, vehicles
from tests.support.recorded import open_recorded

# The columns that do not depend on the time of recording.
EVENTS = """
    SELECT id, camera_id, status, revision, sequence, started_at, ended_at, closed, labels, detection_count,
        media_count, history, evidence_digest, evidence_revision, urgent_done
    FROM events ORDER BY id
"""
JOBS = """
    SELECT kind, subject_id, camera_id, priority, rank_time, input_digest FROM jobs ORDER BY subject_id
"""
DETECTIONS = """
    SELECT id, media_id, event_id, camera_id, frame, label, score, box, captured_at
    FROM detections ORDER BY id
"""
MEDIA = "SELECT id, detection_count FROM media ORDER BY id"
TABLES = {"events": EVENTS, "jobs": JOBS, "detections": DETECTIONS, "media": MEDIA}
CARS = 60


def crowd(detector: Detector) -> Frame:
    """60 cars of decreasing scores, a person, and objects that are not watched or have low scores."""
    cars = [("car", np.float32(0.95 - index * 0.014)) for index in range(CARS)]
    others = [("person", 0.905), ("potted plant", 0.8), ("dog", 0.5), ("cat", 0.1), ("truck", 0.125)]
    ranked = sorted(
        [*cars, *((label, np.float32(score)) for label, score in others)], key=lambda one: -one[1]
    )
    found = [
        (label, float(score), (rank / 100, 0.25, rank / 100 + 0.125, 0.5))
        for rank, (label, score) in enumerate(ranked)
    ]
    return frame_message(1920, 1080, found)


def queries() -> Frame:
    """The output of RT-DETRv2 when all of its 300 queries have scores of at least 0.1."""
    chance = np.random.default_rng(7)
    scores = chance.uniform(0.1, 1, 300).astype(np.float32)
    scores[:8] = [0.1, 0.5, 0.7, 0.9, 0.3, 0.6, 0.8, 0.2]
    kinds = chance.integers(0, 3, 300).astype(np.int32)
    low = chance.uniform(0, 0.5, (300, 2))
    boxes = np.concatenate([low, low + chance.uniform(0.1, 0.5, (300, 2))], axis=1).astype(np.float32)
    return frame_message(1280, 720, read_findings(scores, kinds, boxes, COCO_LABELS))


class RtDetr(FakeDetector):
    """A detector with the thresholds of RT-DETRv2. The 32-bit float nearest to 0.9 is less than 0.9."""

    name, threshold, fast_threshold = "rtdetrv2-r18", 0.5, 0.9


@pytest.fixture(scope="module")
async def photos() -> AsyncIterator[tuple[Detector, list[Frame]]]:
    """The real detector and its findings in the sample photos."""
    async with open_detector(load_config()) as detector:
        paths = [*people(), *animals(), *vehicles(), empty_photo()]
        yield detector, [await detector.detect(path) for path in paths]


def media(n: int, camera: str) -> Media:
    """Media number `n` of a camera. Every five of them are one visit."""
    sha256 = hashlib.sha256(f"{camera} {n}".encode()).hexdigest()
    captured_at = at(n * 7 + n // 5 * 1000)
    return Media(
        id=media_id(camera, sha256),
        camera_id=camera,
        camera_name=camera,
        sha256=sha256,
        captured_at=stamp(captured_at),
        ingested_at=stamp(captured_at),
    )


async def record_all(
    server: str, config: Config, cameras: Mapping[str, Mapping[str, float]], records: Sequence[MediaDetected]
) -> dict[str, Any]:
    """Records these messages in a new store, and returns its tables."""
    async with (
        fresh_database(server, MIGRATED) as url,
        open_recorded(url, watch=watch_settings(config)) as store,
    ):
        stored = CameraRepository(store.database, store.signals, lambda: store.now)
        for id, thresholds in cameras.items():
            await stored.create(id, id, "", True, thresholds)
        for first in range(0, len(records), 4):
            await store.detect(*records[first : first + 4])
        await store.sweep(60)
        assert not store.detections.buried
        return {name: [tuple(row) for row in await store.rows(query)] for name, query in TABLES.items()}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"watch_threshold": 0.1},
        {"watch_threshold": 0.5},
        {"watch_threshold": 0.0},
        {"watch_thresholds": {"car": 0.7, "person": 0.1}, "watch_fast_classes": ["car", "cow"]},
        {"watch_classes": ["motorbike", "umbrella", "horse"], "watch_fast_threshold": 0.7},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["efficientdet", "crowd", "rtdetr"])
async def test_the_events_are_those_of_earlier_versions(
    postgres_server: str,
    photos: tuple[Detector, list[Frame]],
    model: str,
    settings: dict[str, Any],
) -> None:
    config = load_config(**settings)
    detector, frames = photos
    if model == "crowd":
        detector, frames = FakeDetector(), [crowd(detector)] * 3
    elif model == "rtdetr":
        # The last frame is a visit of its own. Its person misses the threshold of the fast path narrowly.
        alone = frame_message(1280, 720, [("person", 0.9, (0.25, 0.25, 0.5, 0.5))])
        detector, frames = RtDetr(), [queries(), *[frame_message(1280, 720, [])] * 4, alone]
    cameras: dict[str, dict[str, float]] = {
        "plain": {},
        "low": {"*": 0.1},
        "lowest": {"person": 0.0, "car": 0.05},
        "strict": {"person": 0.7, "*": 0.9},
    }
    pairs = [(media(n, camera), frame) for n, frame in enumerate(frames) for camera in cameras]
    before = [
        filtered(one, frame, detector, config, as_float32(cameras[one.camera_id])) for one, frame in pairs
    ]
    now = [detected(one, frame, model_of(detector)) for one, frame in pairs]
    was = await record_all(postgres_server, config, cameras, before)
    is_now = await record_all(postgres_server, config, cameras, now)
    for table, rows in was.items():
        assert is_now[table] == rows, table
    assert was["events"] or "umbrella" in config.watch_classes
    if model == "crowd" and settings.get("watch_threshold") == 0.1:
        whole = [row for row in is_now["detections"] if row[3] == "plain" and row[5] == "car"]
        assert len(whole) == CARS * 3


def as_float32(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Returns the thresholds as detect_svc read them from store.cameras.v1."""
    return {label: float(np.float32(score)) for label, score in thresholds.items()}
