"""However the log is cut into batches, the same is frozen, and the same follows from it."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lares.detect.v1.events_pb2 import MediaDetected
from lares.reason.v1.evidence_pb2 import Evidence
from lares.scene.v1 import scene_pb2
from store_svc.camera_repository import CameraRepository
from store_svc.queries.evidence import EvidenceReader, get_evidence
from tests.support.loop_thread import LoopThread
from tests.support.recorded import Recorded
from tests.support.seen import polygon, seen
from tests.support.sync_database import SyncDatabase

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
GATE = scene_pb2.Line(id="gate", start=scene_pb2.Point(x=0.5), end=scene_pb2.Point(x=0.5, y=1))
CHANGES: list[dict[str, Any]] = [
    {"zones": [scene_pb2.Zone(id="bed", kind=scene_pb2.ZONE_KIND_PRIVATE, polygon=polygon(LEFT))]},
    {"zones": [], "lines": [GATE]},
    {"ground": scene_pb2.GROUND_DRIVE},
    {"time_zone": "Asia/Tokyo"},
    {"display_name": "Street"},
    {"thresholds": {"dog": 0.9}},
]
Change: TypeAlias = dict[str, Any]
Log: TypeAlias = list[MediaDetected | Change]

FEET = st.sampled_from([(0.2, 0.5), (0.4, 0.5), (0.6, 0.5), (0.8, 0.9)])
PHOTOS = st.tuples(
    st.sampled_from([0, 1, 2, 5, 25, 40, 60, 95, 130, 170, 3590, 3640, 3700]),
    st.lists(FEET, max_size=3),
    st.sampled_from(["person", "person", "dog"]),
    st.sampled_from(["front", "front", "back"]),
)


def as_log(steps: Sequence[Any]) -> Log:
    """Photos with numbers; a change is made between two of them."""
    return [
        step
        if isinstance(step, dict)
        else seen(n, step[0] + n / 1000, *step[1], label=step[2], camera=step[3])
        for n, step in enumerate(steps)
    ]


LOGS = st.lists(st.one_of(PHOTOS, PHOTOS, PHOTOS, PHOTOS, st.sampled_from(CHANGES)), max_size=25).map(as_log)
Found: TypeAlias = tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[Evidence]]


@pytest.fixture(scope="module")
def stored(loop_thread: LoopThread, postgres_server: str) -> SyncDatabase:
    return SyncDatabase(loop_thread, postgres_server)


async def record(store: Recorded, log: Log, cuts: Sequence[int]) -> None:
    """In batches that end at the cuts and before each change of the configuration."""
    cameras = CameraRepository(store.database, store.signals, lambda: store.now)
    for id in ("front", "back"):
        await cameras.create(id, id.title(), "", True, {})
    changes = {n for n, step in enumerate(log) if isinstance(step, dict)}
    borders = sorted({0, len(log), *(cut for cut in cuts if cut < len(log)), *changes})
    for start, end in pairwise(borders):
        step, *rest = log[start:end]
        if isinstance(step, dict):
            await cameras.update("front", step)
        else:
            rest = [step, *rest]
        if photos := [photo for photo in rest if not isinstance(photo, dict)]:
            await store.detect(*photos)


async def outcome(store: Recorded) -> Found:
    frozen = await store.rows(
        "SELECT e.id, frozen_digest, evidence_digest, scene, body, camera_revision"
        " FROM events e LEFT JOIN event_evidence ON event_id = id ORDER BY e.id"
    )
    numbers = await store.rows("SELECT id, event_id, number FROM detections ORDER BY id")
    reader, read = EvidenceReader(), []
    for row in frozen:
        message = await get_evidence(store.database, reader, str(row["id"]))
        message.ClearField("revision")  # counts the batches that changed the event
        read.append(message)
    return [tuple(row) for row in frozen], [tuple(row) for row in numbers], read


@settings(max_examples=25)
@given(log=LOGS, cuts=st.lists(st.integers(1, 24), max_size=6))
def test_batches_do_not_change_the_evidence(
    stored: SyncDatabase, loop_thread: LoopThread, log: Log, cuts: list[int]
) -> None:
    async def result(cuts: Sequence[int]) -> Found:
        store = Recorded(stored.database)
        await record(store, log, cuts)
        return await outcome(store)

    found = []
    for borders in (range(len(log)), [], cuts):
        stored.clear()
        found.append(loop_thread.run(asyncio.wait_for(result(borders), 60)))
    assert found[0] == found[1] == found[2]


def test_the_examples_have_events_before_and_changes(stored: SyncDatabase, loop_thread: LoopThread) -> None:
    """What the test above compares is not empty."""
    steps = [(0, [(0.2, 0.5)], "person", "front"), CHANGES[0], (60, [(0.2, 0.5)], "person", "front")]
    stored.clear()
    store = Recorded(stored.database)
    loop_thread.run(record(store, as_log(steps), []))
    frozen, numbers, (one, other) = loop_thread.run(outcome(store))
    assert (len(frozen), len(numbers), {len(one.past), len(other.past)}) == (2, 2, {0, 1})
    assert {len(one.zones), len(other.zones)} == {0, 1}
