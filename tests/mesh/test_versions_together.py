"""An upgrade without a stop: stores of the version before and of this one on one database and one Kafka.

In the order of docs/deploy.md: a store and a reasoner of the version before; `lares migrate`; a store of this
version beside them, with a reasoner of the version before; then the old ones end. Detections come all the
time; the test makes them in the place of detect_svc.
"""

import asyncio
import json
import os
import re
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx

from mesh.bus import Bus, open_bus
from mesh.topics import ASSESSED, DETECTED
from store_svc.migration import newest
from tests.support.certificates import write_certificate
from tests.support.database_connection import connected
from tests.support.facts import detected
from tests.support.lares import ROOT, Lares, free_ports
from tests.support.parts import running_kafka
from tests.support.waiting import until, until_async
from tests.versions.previous import REVISION, code_of, unpack

# Enough that each of two stores has some, however the partitions are shared.
CAMERAS = [f"camera-{number}" for number in range(12)]
SECONDS = 120.0


async def test_old_and_new_stores_share_the_work_and_agree(tmp_path: Path, empty_postgres_url: str) -> None:
    async with AsyncExitStack() as stack:
        kafka_url = await stack.enter_async_context(running_kafka())
        upgrade = Upgrade(tmp_path, kafka_url, empty_postgres_url)
        stack.push_async_callback(upgrade.close)
        old_store = upgrade.start("old-store", "store", old=True)
        await old_store.until_up()
        upgrade.database = await stack.enter_async_context(connected(empty_postgres_url))
        upgrade.start("old-reasoner", "reason", old=True, store="old-store")
        bus = upgrade.bus = await stack.enter_async_context(open_bus(kafka_url, client_id="test"))
        await detect(bus, 0)
        new_store = upgrade.start("new-store", "store", old=False)
        await upgrade.until_assessed(1)

        needed = f"the schema {REVISION}, and this version needs {newest()}"
        await until(lambda: needed in new_store.tail(), SECONDS, new_store.tail)
        assert (await upgrade.get("/ready")).status_code == 503
        await detect(bus, 1)
        await upgrade.migrate()
        await new_store.until_up()
        await until_async(upgrade.both_read, SECONDS)
        upgrade.start("second-old-reasoner", "reason", old=True, store="new-store")
        await detect(bus, 2)
        await upgrade.until_assessed(3)

        await upgrade.stop("old-reasoner")
        await upgrade.stop("old-store")
        await detect(bus, 3)
        await upgrade.until_assessed(4)
        assert await upgrade.database.fetchval("SELECT count(*) FROM jobs") == 0
        digests = await upgrade.database.fetch("SELECT id, evidence_digest FROM events")
        assert await assessments(bus) == {(str(row["id"]), row["evidence_digest"]): 1 for row in digests}
        for lares in upgrade.processes.values():
            assert errors(lares.log) == []


class Upgrade:
    """The processes, by name, and the database that they share."""

    database: asyncpg.Connection
    bus: Bus

    def __init__(self, folder: Path, kafka_url: str, database_url: str) -> None:
        self._folder = folder
        self._old = unpack(folder / "old")
        certificates = {
            f"LARES_{name.upper()}": str(path) for name, path in write_certificate(folder).items()
        }
        self._settings = {
            **certificates,
            "LARES_BUS_URL": kafka_url,
            "LARES_DATABASE_URL": database_url,
            "LARES_BLOBS_URL": f"file://{folder}/blobs",
            "LARES_EVENT_GAP_SECONDS": "1",
            "LARES_EVENT_SPAN_SECONDS": "3",
        }
        self._metrics, *addresses = (f"127.0.0.1:{port}" for port in free_ports(3))
        self._mesh = dict(zip(("old-store", "new-store"), addresses, strict=True))
        self.processes: dict[str, Lares] = {}

    def start(self, name: str, target: str, *, old: bool, store: str = "") -> Lares:
        """`store` is the one that a reasoner asks. Only a store of this version waits for the schema."""
        settings = self._settings | (code_of(self._old) if old else {"LARES_MIGRATE": "verify"})
        if store:
            settings |= {"LARES_PEERS": f"store={self._mesh[store]}"}
        else:
            settings |= {"LARES_MESH_LISTEN": self._mesh[name]}
        if not old:
            settings |= {"LARES_METRICS_LISTEN": self._metrics}
        tree = self._old if old else ROOT
        lares = self.processes[name] = Lares(self._folder / name, settings, targets=[target], tree=tree)
        lares.start()
        return lares

    async def migrate(self) -> None:
        command = [sys.executable, "-m", "deploy", "migrate"]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=os.environ | self._settings, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        assert output.decode().splitlines()[-1] == f"the database has the schema {newest()}"

    async def until_assessed(self, rounds: int) -> None:
        """Waits until each camera has that many events, and every one is assessed."""
        count = "SELECT count(*) FROM events WHERE assessed_digest = evidence_digest"
        wanted = rounds * len(CAMERAS)

        async def assessed() -> bool:
            return bool(await self.database.fetchval(count) == wanted)

        try:
            await until_async(assessed, SECONDS)
        except AssertionError as error:
            for each in self.processes.values():
                error.add_note(each.tail(20))
            raise

    async def get(self, path: str) -> httpx.Response:
        """The answer of the new store's endpoint for the operator."""
        async with httpx.AsyncClient() as client:
            return await client.get(f"http://{self._metrics}{path}", timeout=30)

    async def both_read(self) -> bool:
        """Whether each store reads the partitions of some cameras."""
        text = (await self.get("/metrics")).text
        lag = rf'lares_consumer_lag_records{{partition="(\d+)",topic="{re.escape(DETECTED.name)}"}}'
        partitions = {int(partition) for partition in re.findall(lag, text)}
        return (
            0 < sum(self.bus.partition(DETECTED, camera) in partitions for camera in CAMERAS) < len(CAMERAS)
        )

    async def stop(self, name: str) -> None:
        await asyncio.to_thread(self.processes[name].stop)

    async def close(self) -> None:
        for lares in self.processes.values():
            await lares.close()


async def detect(bus: Bus, number: int) -> None:
    """One photo of each camera, which is an event of its own."""
    await bus.publish(DETECTED, *(detected(number, number * 1000, camera) for camera in CAMERAS))


async def assessments(bus: Bus) -> dict[tuple[str, str], int]:
    """How often each evidence of each event was assessed, of all that was ever published."""
    async with bus.tail(ASSESSED, start="beginning") as tail:
        return Counter(
            [(each.message.event_id, each.message.evidence_digest) async for each in tail.present()]
        )


def errors(log: Path) -> list[str]:
    """The lines of a log that tell of errors."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if json.loads(line).get("level") == "error"]
