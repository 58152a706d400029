"""Measures of clusters, with a stub in place of the cluster: which clusters they start, what they announce to
them, and which rows they make of the figures. tests/mesh/test_cluster_measures.py has real ones."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from mesh.blobs import FileBlobs
from mesh.topics import CAMERA_PARTITIONS, DETECTED, INGESTED, M, Topic
from tests.bench import cameras, drain, partitions, replicas, stubbed_service
from tests.bench.cameras import Level
from tests.bench.measure import Row
from tests.bench.spent import Progress, Spent
from tests.bench.stubbed_service import PacedStubDetector
from tests.bench.trees import NOW, Bench

CPU = {"detect": 4.0, "Kafka": 1.0}


class Layout(NamedTuple):
    """Of a cluster that a measure has started."""

    stores: int
    detects: int
    stub_seconds: float | None
    partitions: int


class ClusterStub:
    """Records what is published. Everything counts as recorded at the next look, `seconds` later."""

    def __init__(self, layout: Layout, blobs: FileBlobs, seconds: float) -> None:
        self.layout, self.blobs, self.seconds = layout, blobs, seconds
        self.published: list[tuple[str, Any]] = []
        self.detect_started = False
        self.cluster = SimpleNamespace(of={"detect": [SimpleNamespace(start=self._start)]})
        self._at, self._looks = 0.0, 0

    def _start(self) -> None:
        assert self.published
        self.detect_started = True

    async def publish(self, topic: Topic[M], messages: Iterable[M]) -> None:
        self.published += [(topic.name, message) for message in messages]

    async def recording(self, topic: Topic[M], messages: Sequence[M], warm_up: int) -> Spent:
        await self.publish(topic, messages)
        return Spent(self.seconds, len(messages) - warm_up, CPU)

    async def until_recorded(self, count: int) -> Progress:
        assert self.detect_started
        self._at += self.seconds * (2 if count == len(self.published) else 1)
        return Progress(self._at, count, {"store": self._at / 10})

    async def until_assessed(self) -> Progress:
        return Progress(self._at + 3.0, len(self.published), {})

    def memory(self) -> dict[str, float]:
        self._looks += 1
        return {"store": 100.0 + self._looks}


Clusters = list[ClusterStub]


@pytest.fixture
def clusters(monkeypatch: pytest.MonkeyPatch) -> Clusters:
    """The clusters that are started; two replicas of a service are twice as fast as one, but not on one
    partition."""
    started = Clusters()

    @asynccontextmanager
    async def measured_cluster(
        folder: Path,
        counts: Mapping[str, int],
        stub_seconds: float | None = 0.0,
        partitions: int = CAMERA_PARTITIONS,
        later: Collection[str] = (),
    ) -> AsyncIterator[ClusterStub]:
        folder.mkdir(parents=True)
        blobs = FileBlobs(folder / "blobs")
        await blobs.prepare()
        layout = Layout(counts["store"], counts.get("detect", 0), stub_seconds, partitions)
        replicas = max(layout.stores, layout.detects) if partitions > 1 else 1
        started.append(ClusterStub(layout, blobs, 10.0 / replicas))
        yield started[-1]
        blobs.close()

    for module in (replicas, drain):
        monkeypatch.setattr(module, "measured_cluster", measured_cluster)
    for turns in ("STUB_TURNS", "EMBEDDED_TURNS", "STORE_TURNS"):
        monkeypatch.setattr(replicas, turns, 2)
    monkeypatch.setattr(partitions, "TURNS", 2)
    return started


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, {NOW: tmp_path}, 2 * replicas.PAIRS_FOR_EACH, frozenset(), 3 * drain.CAMERAS)


def titles(rows: Sequence[Row]) -> list[str]:
    return [row.measure for row in rows if not row.measure.startswith(" ")]


async def test_two_replicas_are_measured_beside_one(bench: Bench, clusters: Clusters) -> None:
    rows = await replicas.measure(bench)
    # Every second round is in the opposite order.
    order = (1, 2, 2, 1)
    assert [cluster.layout for cluster in clusters] == [
        *(Layout(1, count, replicas.STUB_SECONDS, 12) for count in order),
        *(Layout(1, count, None, 12) for count in order),
        *(Layout(count, 0, 0.0, 12) for count in order),
    ]
    topics = [{topic for topic, _ in cluster.published} for cluster in clusters]
    assert topics == [{INGESTED.name}] * 8 + [{DETECTED.name}] * 4
    assert {len(cluster.published) for cluster in clusters} == {3 * replicas.CAMERAS}
    assert titles(rows) == [
        "2 detect replicas, stub detector of 25 ms, photos a second",
        "2 detect replicas, embedded detector, photos a second",
        "2 store replicas, photos a second",
    ]
    beside = [(row.value, row.compared_with, row.ratio) for row in rows if "photos a second" in row.measure]
    assert beside == [("4.8", "1 replica 2.4", "2.00x (2.00x-2.00x)")] * 3
    assert [row.limit for row in rows if row.limit] == [f">= {replicas.LEAST}x"]
    assert "    of that Kafka" in [row.measure for row in rows]
    assert list(bench.folder.glob("[12]")) == []


async def test_photos_that_the_embedded_detector_sees_have_people(bench: Bench, clusters: Clusters) -> None:
    await replicas.measure(bench)
    sizes = [next(iter(cluster.published))[1].media.size_bytes for cluster in clusters]
    assert max(sizes[:4] + sizes[8:]) < 1000 < min(sizes[4:8])


async def test_partitions_are_measured_beside_one(bench: Bench, clusters: Clusters) -> None:
    rows = await partitions.measure(bench)
    order = (1, 4, 12, 12, 4, 1)
    assert [cluster.layout for cluster in clusters] == [Layout(2, 2, 0.025, count) for count in order]
    assert titles(rows) == [
        "4 partitions, 2 replicas, stub detector, photos a second",
        "12 partitions, 2 replicas, stub detector, photos a second",
    ]
    four, twelve = (row for row in rows if row.limit)
    for row in (four, twelve):
        assert (row.compared_with, row.ratio, row.met) == ("1 partition 2.4", "2.00x (2.00x-2.00x)", True)


async def test_a_backlog_is_measured_by_tenths(bench: Bench, clusters: Clusters) -> None:
    rows = {row.measure: row for row in await drain.measure(bench)}
    (cluster,) = clusters
    assert cluster.layout == Layout(1, 1, 0.0, 12)
    assert {topic for topic, _ in cluster.published} == {INGESTED.name}
    assert len({message.media.id for _, message in cluster.published}) == 288
    whole = rows["backlog of 288 photos, stub detector, photos a second"]
    # The last of the ten took twice as long as the others, for as many photos.
    assert (whole.value, whole.compared_with, whole.ratio) == ("2.6", "first tenth 2.8", "0.93x")
    last = rows["  last tenth, photos a second"]
    assert (last.ratio, last.limit, last.met) == ("0.52x", ">= 0.8x", False)
    assert rows["  time until recorded"].value == "110.0 s"
    assert rows["  after that, until assessed"].value == "3.0 s"
    memory = rows["  memory of store"]
    assert (memory.value, memory.compared_with) == ("111 MB", "first tenth 102 MB")


@pytest.mark.parametrize(("dearer", "met"), [(1.5, True), (1.6, False)])
async def test_more_cameras_are_measured_beside_ten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, dearer: float, met: bool
) -> None:
    async def level(folder: Path, count: int) -> Level:
        share = dearer if count == 1000 else 1.0
        return Level(Spent(60.0, 1200, {"store": 12.0 * share}), {"store": 0.01 * share}, {"ingest": 60.0})

    monkeypatch.setattr(cameras, "_level", level)
    rows = await cameras.measure(bench)
    hundred, thousand = (row for row in rows if row.limit)
    assert (hundred.measure, hundred.ratio) == (
        "100 cameras, 20 photos/s, stub detector, CPU of a photo",
        "1.00x",
    )
    assert (thousand.ratio, thousand.met) == (f"{dearer:.2f}x", met)
    assert rows[-2].measure == "  idle, store, % of a core"
    assert (rows[-2].value, rows[-2].ratio) == (f"{dearer:.1f}%", f"{dearer:.2f}x")
    assert rows[-1].compared_with == "10 cameras 60 MB"


async def test_the_paced_stub_takes_photos_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))

    monkeypatch.setattr(stubbed_service, "time", SimpleNamespace(monotonic=lambda: 100.0))
    monkeypatch.setattr(stubbed_service, "asyncio", SimpleNamespace(sleep=sleep))
    stub = PacedStubDetector(0.025)
    for _ in range(3):
        await stub.detect(b"photo")
    assert slept == [0.025, 0.05, 0.075]
