"""What the embedded Kafka's read-only user, or somebody without a password, may not do to Lares.

The requests are bytes, because no client has all of them, and none sends those that are wrong.
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.embedded.kafka import open_kafka
from mesh.bus import open_bus
from tests.support.parts import CACHE
from tests.support.records import answers
from tests.support.waiting import until_async

TOPIC, GROUP, OWN_GROUP = "ingest.media.v1", "detect_svc:ingest.media.v1", "reader.own"


def int8(number: int) -> bytes:
    return struct.pack(">b", number)


def int16(number: int) -> bytes:
    return struct.pack(">h", number)


def int32(number: int) -> bytes:
    return struct.pack(">i", number)


def int64(number: int) -> bytes:
    return struct.pack(">q", number)


def text(value: str) -> bytes:
    return int16(len(value)) + value.encode()


def compact(value: str) -> bytes:
    """A text in the newer, flexible versions of requests."""
    return bytes([len(value) + 1]) + value.encode()


NULL, NULL_ARRAY, ONE, FALSE, TRUE, NO_THROTTLE = int16(-1), int32(-1), int32(1), int8(0), int8(1), int32(0)
COMPACT_NULL, COMPACT_EMPTY, COMPACT_ONE, NO_TAGS = b"\0", b"\x01", b"\x02", b"\0"
FIRST_PARTITION = ONE + text(TOPIC) + ONE + int32(0)
NO_TOPIC, NO_GROUP, NO_CLUSTER, NO_TRANSACTION, NO_TOKENS = map(int16, (29, 30, 31, 53, 61))
TOO_LONG, OFFSET_OK = int16(12), int16(0)


class Client:
    """Sends requests and returns their responses as bytes. Those of flexible versions have tags in their
    headers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def log_in(self, user: str, password: str) -> None:
        await self.request(17, 1, text("PLAIN"))
        token = f"\0{user}\0{password}".encode()
        response = await self.request(36, 1, int32(len(token)) + token)
        assert response.startswith(int16(0)), response

    async def request(self, key: int, version: int, body: bytes, *, flexible: bool = False) -> bytes:
        head = int16(key) + int16(version) + int32(1) + text("test") + (NO_TAGS if flexible else b"")
        self._writer.write(int32(len(head + body)) + head + body)
        async with asyncio.timeout(90):
            (size,) = struct.unpack(">i", await self._reader.readexactly(4))
            response = await self._reader.readexactly(size)
        return response[4 + flexible :]

    async def announce(self, size: int) -> None:
        """Begins a request of `size` bytes and does not go on."""
        self._writer.write(int32(size))
        await self._writer.drain()

    async def closed(self) -> None:
        """Waits until the broker has closed the connection."""
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(self._reader.read(), 90) == b""

    async def has_a_coordinator(self) -> bool:
        """Kafka makes the topic of offsets when somebody first looks for a coordinator."""
        await self.request(10, 1, text(OWN_GROUP) + int8(0))
        return await self.commit(OWN_GROUP, "") == OFFSET_OK

    async def commit(self, group: str, metadata: str) -> bytes:
        """Commits an offset by hand, as a tool that resets offsets does. Returns Kafka's error code."""
        offset = FIRST_PARTITION + int64(5) + text(metadata)
        response = await self.request(8, 2, text(group) + int32(-1) + text("") + int64(-1) + offset)
        return response.removeprefix(FIRST_PARTITION)


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kafka") / "home"


@pytest.fixture(scope="module")
async def kafka(home: Path) -> AsyncIterator[str]:
    async with open_kafka(home, "127.0.0.1:0", CACHE) as url:
        async with open_bus(url, client_id="test") as bus:
            await bus.create_topics()
        async with connected_as_reader(home, url) as client:
            await until_async(client.has_a_coordinator)
        yield url


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    host, _, port = url.rpartition("@")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def connected_as_reader(home: Path, url: str) -> AsyncIterator[Client]:
    settings = json.loads((home / "kafka" / "client.json").read_text())
    async with connected(url) as client:
        await client.log_in(settings["user"], settings["password"])
        yield client


class Refused(NamedTuple):
    """A request and how its response begins."""

    key: int
    version: int
    body: bytes
    response: bytes
    flexible: bool = False


SETTING = ONE + text("retention.ms")
REFUSED = {
    "create partitions": Refused(
        37, 0, ONE + text(TOPIC) + int32(24) + NULL_ARRAY + int32(1000) + FALSE,
        NO_THROTTLE + ONE + text(TOPIC) + NO_TOPIC,
    ),
    "set a topic's settings": Refused(
        33, 0, ONE + int8(2) + text(TOPIC) + SETTING + text("1") + FALSE, NO_THROTTLE + ONE + NO_TOPIC
    ),
    "change a topic's settings": Refused(
        44, 0, ONE + int8(2) + text(TOPIC) + SETTING + int8(0) + text("1") + FALSE,
        NO_THROTTLE + ONE + NO_TOPIC,
    ),
    "change the broker's settings": Refused(
        44, 0, ONE + int8(4) + text("1") + SETTING + int8(0) + text("1") + FALSE,
        NO_THROTTLE + ONE + NO_CLUSTER,
    ),
    "change a group's settings": Refused(
        44, 0, ONE + int8(32) + text(GROUP) + SETTING + int8(0) + text("1") + FALSE,
        NO_THROTTLE + ONE + NO_GROUP,
    ),
    "delete records": Refused(
        21, 0, FIRST_PARTITION + int64(-1) + int32(1000), NO_THROTTLE + FIRST_PARTITION + int64(-1) + NO_TOPIC
    ),
    "delete a group": Refused(42, 0, ONE + text(GROUP), NO_THROTTLE + ONE + text(GROUP) + NO_GROUP),
    "delete offsets": Refused(47, 0, text(GROUP) + FIRST_PARTITION, NO_GROUP),
    "read a group's offsets": Refused(
        9, 1, text(GROUP) + FIRST_PARTITION, FIRST_PARTITION + int64(-1) + text("") + NO_GROUP
    ),
    "look into a group": Refused(15, 0, ONE + text(GROUP), ONE + NO_GROUP),
    "answer for a member": Refused(12, 0, text(GROUP) + int32(1) + text("member"), NO_GROUP),
    "take an assignment": Refused(14, 0, text(GROUP) + int32(1) + text("member") + int32(0), NO_GROUP),
    "expel a member": Refused(13, 1, text(GROUP) + text("member"), NO_THROTTLE + NO_GROUP),
    "join by the new protocol": Refused(
        68, 0,
        compact(GROUP) + compact("") + int32(0) + 2 * COMPACT_NULL + int32(60000)
        + COMPACT_ONE + compact(TOPIC) + COMPACT_NULL + COMPACT_EMPTY + NO_TAGS,
        NO_THROTTLE + NO_GROUP, flexible=True,
    ),
    "share a group's records": Refused(
        76, 1,
        compact(GROUP) + compact("me") + int32(0) + COMPACT_NULL + COMPACT_ONE + compact(TOPIC) + NO_TAGS,
        NO_THROTTLE + NO_GROUP, flexible=True,
    ),
    "write idempotently": Refused(22, 0, NULL + int32(1000), NO_THROTTLE + NO_CLUSTER),
    "begin transactions": Refused(22, 0, text("lares") + int32(1000), NO_THROTTLE + NO_TRANSACTION),
    "add offsets to a transaction": Refused(
        25, 0, text("lares") + int64(1) + int16(0) + text(GROUP), NO_THROTTLE + NO_TRANSACTION
    ),
    "commit offsets in a transaction": Refused(
        28, 0, text("lares") + text(GROUP) + int64(1) + int16(0) + FIRST_PARTITION + int64(5) + text(""),
        NO_THROTTLE + FIRST_PARTITION + NO_TRANSACTION,
    ),
    "end a transaction": Refused(
        27, 1,
        COMPACT_ONE + int64(1) + int16(0) + FALSE + COMPACT_ONE + compact(TOPIC) + COMPACT_ONE + int32(0)
        + NO_TAGS + int32(0) + 2 * NO_TAGS,
        COMPACT_ONE + int64(1) + COMPACT_ONE + compact(TOPIC) + COMPACT_ONE + int32(0) + NO_CLUSTER,
        flexible=True,
    ),
    "set quotas": Refused(
        49, 0,
        ONE + ONE + text("user") + text("lares") + ONE + text("producer_byte_rate") + struct.pack(">d", 1.0)
        + FALSE + FALSE,
        NO_THROTTLE + ONE + NO_CLUSTER,
    ),
    "give permissions": Refused(
        30, 1, ONE + int8(3) + text("*") + int8(3) + text("User:reader") + text("*") + int8(3) + int8(3),
        NO_THROTTLE + ONE + NO_CLUSTER,
    ),
    "take permissions": Refused(
        31, 1, ONE + int8(3) + NULL + int8(1) + 2 * NULL + int8(1) + int8(1), NO_THROTTLE + ONE + NO_CLUSTER
    ),
    "change a password": Refused(
        51, 0,
        COMPACT_EMPTY + COMPACT_ONE + compact("reader") + int8(1) + int32(4096) + compact("salt")
        + compact("password") + 2 * NO_TAGS,
        NO_THROTTLE + COMPACT_ONE + compact("reader") + NO_CLUSTER, flexible=True,
    ),
    "make a token": Refused(38, 1, int32(0) + int64(-1), NO_TOKENS),
    "elect leaders": Refused(43, 1, int8(0) + FIRST_PARTITION + int32(1000), NO_THROTTLE + NO_CLUSTER),
    "move partitions": Refused(
        45, 0,
        int32(1000) + COMPACT_ONE + compact(TOPIC) + COMPACT_ONE + int32(0) + COMPACT_ONE + int32(1)
        + 3 * NO_TAGS,
        NO_THROTTLE + NO_CLUSTER, flexible=True,
    ),
    "change features": Refused(
        57, 0, int32(1000) + COMPACT_ONE + compact("group.version") + int16(0) + TRUE + 2 * NO_TAGS,
        NO_THROTTLE + NO_CLUSTER, flexible=True,
    ),
    "remove the broker": Refused(64, 0, int32(1) + NO_TAGS, NO_THROTTLE + NO_CLUSTER, flexible=True),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_it_changes_nothing_of_lares(home: Path, kafka: str, name: str) -> None:
    key, version, body, refusal, flexible = REFUSED[name]
    async with connected_as_reader(home, kafka) as client:
        response = await client.request(key, version, body, flexible=flexible)
    assert response[: len(refusal)] == refusal


@pytest.mark.parametrize(
    "group",
    [GROUP, "store_svc:detect.detections.v1", "", "reader", "READER.x", " reader.x", "reader .x",
     "reader\0.x", "x.reader.", "reader:.x", "reader,.x"],
)  # fmt: skip
async def test_it_commits_for_no_group_but_its_own(home: Path, kafka: str, group: str) -> None:
    async with connected_as_reader(home, kafka) as client:
        assert await client.commit(group, "") == NO_GROUP
        assert await client.commit(OWN_GROUP, "") == OFFSET_OK


async def test_it_keeps_no_texts_in_the_brokers_memory(home: Path, kafka: str) -> None:
    """They are loaded at every start: enough of them, and no group could be joined any more."""
    async with connected_as_reader(home, kafka) as client:
        assert await client.commit(OWN_GROUP, "x" * 129) == TOO_LONG
        assert await client.commit(OWN_GROUP, "x" * 128) == OFFSET_OK


@pytest.mark.parametrize("size", [8193, 500_000, 2**31 - 1, -1])
async def test_strangers_get_no_memory(kafka: str, size: int) -> None:
    async with connected(kafka) as client:
        await client.announce(size)
        await client.closed()


@pytest.mark.parametrize("size", [2**25 + 1, 100_000_000, 2**31 - 1, -1])
async def test_large_requests_get_no_memory(home: Path, kafka: str, size: int) -> None:
    async with connected_as_reader(home, kafka) as client:
        await client.announce(size)
        await client.closed()


async def test_a_broker_without_memory_is_started_again(home: Path, kafka: str) -> None:
    """The connections that hold its memory end with it."""
    before, held = (home / "run" / "kafka.pid").read_text(), list[Client]()
    async with open_bus(kafka, client_id="test") as bus, AsyncExitStack() as stack:
        with suppress(OSError, asyncio.IncompleteReadError):  # it has ended
            for _ in range(6):
                client = await stack.enter_async_context(connected_as_reader(home, kafka))
                await client.announce(2**25)
                held.append(client)
        await held[0].closed()
        await until_async(lambda: answers(bus))
    assert (home / "run" / "kafka.pid").read_text() != before
