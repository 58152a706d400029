"""A cluster of a measurement's own, on a Kafka, a PostgreSQL and a folder of blobs of its own: how far it has
come, and what each of its parts uses."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil

from mesh.blobs import Blobs, FileBlobs
from mesh.bus import Bus, BusSettings, open_bus
from mesh.topics import CAMERA_PARTITIONS, DETECTED, M, Topic
from tests.bench.measure import cpu_seconds, program, resident_megabytes
from tests.bench.spent import DETECTOR, Progress, Spent
from tests.bench.stubbed_service import PROGRAM, SECONDS
from tests.support.cluster import Cluster, Replica, running_cluster
from tests.support.parts import running_kafka, running_postgres

# An event is over soon, so that the end of a measurement need not be waited for.
SETTINGS = {"LARES_EVENT_GAP_SECONDS": "4", "LARES_EVENT_SPAN_SECONDS": "10"}
POLL_SECONDS = 0.05
# After so long without any change, something is wrong.
STUCK_SECONDS = 120.0
PUBLISHED_AT_ONCE = 1000
# How many records of detect_svc the store has recorded: in the same transactions as what they say.
RECORDED = "SELECT coalesce(sum(next_offset), 0)::bigint FROM offsets WHERE topic = $1"
UNFINISHED = "SELECT (SELECT count(*) FROM events WHERE NOT closed) + (SELECT count(*) FROM jobs)"
SERVERS = {"java": "Kafka", "postgres": "PostgreSQL"}


class MeasuredCluster:
    """Made by `measured_cluster`."""

    def __init__(self, cluster: Cluster, bus: Bus, blobs: Blobs, database: asyncpg.Connection) -> None:
        self.cluster, self.bus, self.blobs = cluster, bus, blobs
        self._database = database

    async def publish(self, topic: Topic[M], messages: Iterable[M]) -> None:
        batch = list[M]()
        for message in messages:
            batch.append(message)
            if len(batch) == PUBLISHED_AT_ONCE:
                await self.bus.publish(topic, *batch)
                batch = []
        await self.bus.publish(topic, *batch)

    async def recording(self, topic: Topic[M], messages: Sequence[M], warm_up: int) -> Spent:
        """Publishes messages of one photo each, and waits until the stores have recorded all. The first ones,
        `warm_up` of them, do not count."""
        await self.publish(topic, messages[:warm_up])
        await self.until_recorded(warm_up)
        began = await self.progress()
        await self.publish(topic, messages[warm_up:])
        return Spent.between(began, await self.until_recorded(len(messages)))

    async def progress(self) -> Progress:
        return Progress(time.monotonic(), await self._recorded(), self._cpu())

    async def until_recorded(self, count: int) -> Progress:
        """Waits until the stores have recorded so many photos. Raises AssertionError if they are stuck."""

        async def left() -> int:
            if (records := count - await self._recorded()) > 0:
                return records
            # A few records may be there twice, as after a partition has moved to another replica.
            media: int = await self._database.fetchval("SELECT count(*) FROM media")
            return max(0, count - media)

        return await self._until_none(left)

    async def until_assessed(self) -> Progress:
        """Waits until no event waits for its end, or for an assessment. Raises AssertionError if that is
        stuck."""

        async def left() -> int:
            count: int = await self._database.fetchval(UNFINISHED)
            return count

        return await self._until_none(left)

    def memory(self) -> dict[str, float]:
        """MB by service, as proportional set size."""
        sizes: dict[str, float] = {}
        for replica in self._running():
            own = resident_megabytes(_process_of(replica))
            sizes[replica.service] = sizes.get(replica.service, 0.0) + sum(own.values())
        return sizes

    async def _until_none(self, left: Callable[[], Awaitable[int]]) -> Progress:
        last, changed_at = -1, time.monotonic()
        while count := await left():
            if count != last:
                last, changed_at = count, time.monotonic()
            stuck = time.monotonic() > changed_at + STUCK_SECONDS
            assert not stuck, "\n".join(f"{one.home.name}: {one.tail(10)}" for one in self._running())
            await asyncio.sleep(POLL_SECONDS)
        return await self.progress()

    async def _recorded(self) -> int:
        count: int = await self._database.fetchval(RECORDED, DETECTED.name)
        return count

    def _running(self) -> list[Replica]:
        return [replica for replica in self.cluster if replica.process]

    def _cpu(self) -> dict[str, float]:
        used: dict[str, float] = {}
        of_services = set[int]()
        for replica in self._running():
            main = _process_of(replica)
            for process in [main, *main.children(recursive=True)]:
                of_services.add(process.pid)
                detects = replica.service == "detect" and _name(process) == DETECTOR
                _add(used, DETECTOR if detects else replica.service, process)
        for process in psutil.Process().children(recursive=True):
            if process.pid not in of_services and (server := SERVERS.get(_name(process))):
                _add(used, server, process)
        return used


def _process_of(replica: Replica) -> psutil.Process:
    assert replica.process
    return psutil.Process(replica.process.pid)


def _name(process: psutil.Process) -> str:
    try:
        return program(process)
    except psutil.NoSuchProcess:
        return ""


def _add(used: dict[str, float], part: str, process: psutil.Process) -> None:
    try:
        used[part] = used.get(part, 0.0) + cpu_seconds([process])
    except psutil.NoSuchProcess:
        return


@asynccontextmanager
async def measured_cluster(
    folder: Path,
    counts: Mapping[str, int],
    stub_seconds: float | None = 0.0,
    partitions: int = CAMERA_PARTITIONS,
    later: Collection[str] = (),
) -> AsyncIterator[MeasuredCluster]:
    """Starts everything, and ends it at the end. `counts` has the replicas of each service that is needed;
    those of the services in `later` are started by the caller.

    `stub_seconds` is the time that the stub in place of the detector takes for a photo; None: there is no
    stub, but the embedded detector."""
    folder.mkdir(parents=True)
    blobs = FileBlobs(folder / "blobs")
    async with running_kafka() as kafka, running_postgres() as postgres:
        settings = SETTINGS | {
            "LARES_BUS_URL": kafka,
            "LARES_DATABASE_URL": postgres,
            "LARES_BLOBS_URL": f"file://{folder}/blobs",
            "LARES_TOPIC_PARTITIONS": str(partitions),
        }
        name = "deploy"
        if stub_seconds is not None:
            settings[SECONDS], name = str(stub_seconds), PROGRAM
        async with (
            running_cluster(folder, settings, counts, program=name, later=later) as cluster,
            open_bus(kafka, client_id="bench", settings=BusSettings(partitions=partitions)) as bus,
        ):
            await blobs.prepare()
            database = await asyncpg.connect(postgres.replace("+asyncpg", ""))
            try:
                yield MeasuredCluster(cluster, bus, blobs, database)
            finally:
                await database.close()
                blobs.close()
