"""The embedded Kafka, for real."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest
from aiokafka.protocol.commit import OffsetCommitRequest

from deploy.embedded.kafka import open_kafka
from mesh import ports
from mesh.bus.acls import grant_read
from mesh.bus.address import KafkaAddress
from mesh.ports import free_port
from mesh.problems import Conflict
from mesh.processes.child_process import start_time
from tests.support.parts import CACHE
from tests.support.waiting import until


def options(url: str, **more: Any) -> dict[str, Any]:
    return KafkaAddress.parse(url).options("test") | {"request_timeout_ms": 90_000} | more


def reader_url(home: Path) -> str:
    client = json.loads((home / "kafka" / "client.json").read_text())
    return f"kafka://{client['user']}:{client['password']}@{client['bootstrap']}"


async def create(url: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(**options(url))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def write(url: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(**options(url, acks="all", enable_idempotence=True))
    await producer.start()
    try:
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def read(url: str, topic: str, count: int, group: str | None = None) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, **options(url, group_id=group, auto_offset_reset="earliest"))
    try:
        await consumer.start()
        async with asyncio.timeout(90):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def until_it_answers(url: str) -> None:
    client = AIOKafkaClient(**options(url))
    async with asyncio.timeout(90):
        while True:
            try:
                await client.bootstrap()
            except KafkaError:
                await asyncio.sleep(0.05)
            else:
                break
    await client.close()


@asynccontextmanager
async def refused(kind: type[KafkaError]) -> AsyncIterator[None]:
    with pytest.raises(kind):
        async with asyncio.timeout(90):
            yield


def broker_pid(home: Path) -> int:
    return int((home / "run" / "kafka.pid").read_text().split()[0])


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kafka") / "home"


@pytest.fixture(scope="module")
async def kafka(home: Path) -> AsyncIterator[str]:
    async with open_kafka(home, "127.0.0.1:0", CACHE) as url:
        yield url


@pytest.fixture
async def topic(kafka: str) -> str:
    name = f"topic-{uuid4().hex[:8]}"
    await create(kafka, name)
    return name


async def test_files_with_passwords_are_for_the_owner(home: Path, kafka: str) -> None:
    folder = home / "kafka"
    for name in ("client.properties", "client.json", "passwords.json", "server.properties"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600, name
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_both_forms_of_the_readers_file_say_the_same(home: Path, kafka: str) -> None:
    client = json.loads((home / "kafka" / "client.json").read_text())
    lines = (home / "kafka" / "client.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    assert properties["bootstrap.servers"] == client["bootstrap"] == kafka.rpartition("@")[2]
    assert client["user"] == "reader"
    assert f'username="reader" password="{client["password"]}"' in properties["sasl.jaas.config"]
    assert client["password"] not in kafka


async def test_the_reader_reads(home: Path, kafka: str, topic: str) -> None:
    await write(kafka, topic, b"hello")
    assert await read(reader_url(home), topic, 1) == [b"hello"]
    assert await read(reader_url(home), topic, 1, group="reader.analytics") == [b"hello"]


LARES_GROUP = "detect_svc:ingest.media.v1"


def reader_group(home: Path) -> str:
    lines = (home / "kafka" / "client.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)["group.id"]


async def test_the_files_name_a_group_that_the_reader_may_join(home: Path, kafka: str, topic: str) -> None:
    await write(kafka, topic, b"hello")
    client = json.loads((home / "kafka" / "client.json").read_text())
    for group in (reader_group(home), client["group_prefix"] + uuid4().hex):
        assert await read(reader_url(home), topic, 1, group=group) == [b"hello"]


@pytest.mark.parametrize(
    "group", [LARES_GROUP, "store_svc:x", "analytics", "reader", "READER.x", "x.reader."]
)
async def test_the_reader_joins_no_other_groups(home: Path, kafka: str, topic: str, group: str) -> None:
    async with refused(GroupAuthorizationFailedError):
        await read(reader_url(home), topic, 1, group=group)


async def test_the_reader_commits_no_offset_of_other_groups(home: Path, kafka: str, topic: str) -> None:
    """By hand, without joining, as a tool that resets offsets does."""
    offset = OffsetCommitRequest(LARES_GROUP, -1, "", -1, [(topic, [(0, 10**6, "")])])
    admin = AIOKafkaAdminClient(**options(reader_url(home)))
    await admin.start()
    try:
        (node,) = (broker.nodeId for broker in admin._client.cluster.brokers())
        ((_, ((_, code),)),) = (await admin._client.send(node, offset)).topics
        assert code == GroupAuthorizationFailedError.errno
    finally:
        await admin.close()


async def test_permissions_of_an_earlier_version_are_taken_back(home: Path, kafka: str, topic: str) -> None:
    await write(kafka, topic, b"hello")
    admin = AIOKafkaAdminClient(**options(kafka))
    await admin.start()
    earlier = [(3, "*", 3, "User:reader", "*", 3, 3), (3, "detect", 4, "User:reader", "127.0.0.1", 3, 3)]
    others = (3, "theirs", 3, "User:somebody", "*", 3, 3)
    try:
        for binding in (*earlier, others):
            (node,) = (broker.nodeId for broker in admin._client.cluster.brokers())
            await admin._client.send(node, CreateAclsRequest(*binding))
        assert await read(reader_url(home), topic, 1, group=LARES_GROUP) == [b"hello"]
        await grant_read(kafka, "reader", "reader.")
        async with refused(GroupAuthorizationFailedError):
            await read(reader_url(home), topic, 1, group=LARES_GROUP)
        assert await read(reader_url(home), topic, 1, group="reader.after") == [b"hello"]
        found = await admin._client.send(node, DescribeAclsRequest(1, None, 1, None, None, 1, 1))
        bindings = {
            (kind, name, pattern, *acl) for kind, name, pattern, acls in found.resources for acl in acls
        }
        assert bindings == {
            others,
            (2, "*", 3, "User:reader", "*", 3, 3),
            (2, "*", 3, "User:reader", "*", 8, 3),
            (3, "reader.", 4, "User:reader", "*", 3, 3),
        }
    finally:
        await admin.close()


async def test_the_reader_does_not_write(home: Path, kafka: str, topic: str) -> None:
    producer = AIOKafkaProducer(**options(reader_url(home), acks=1, enable_idempotence=False))
    await producer.start()
    try:
        async with refused(TopicAuthorizationFailedError):
            await producer.send_and_wait(topic, b"mine")
    finally:
        await producer.stop()


async def test_the_reader_changes_nothing(home: Path, kafka: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(**options(reader_url(home)))
    await admin.start()
    try:
        answer = await admin.delete_topics([topic])
        assert [code for _, code in answer.topic_error_codes] == [TopicAuthorizationFailedError.errno]
        answer = await admin.create_topics([NewTopic("readers-own", num_partitions=1, replication_factor=1)])
        assert all(code for _, code, *_ in answer.topic_errors)
    finally:
        await admin.close()


@pytest.mark.parametrize("login", ["", "lares:guess@", "reader:guess@", "nobody:at-all@"])
async def test_strangers_stay_outside(kafka: str, login: str) -> None:
    stranger = f"kafka://{login}{kafka.rpartition('@')[2]}"
    client = AIOKafkaConsumer(**options(stranger, request_timeout_ms=2000))
    try:
        async with refused(KafkaError):
            await client.start()
    finally:
        await client.stop()


async def test_it_listens_on_loopback_alone(home: Path, kafka: str) -> None:
    def listening(table: str) -> set[str]:
        inodes = set[str]()
        for path in Path(f"/proc/{broker_pid(home)}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed by now
                inodes.add(os.readlink(path))
        rows = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
        return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}

    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    found = listening("tcp") | listening("tcp6")
    assert found
    assert found <= loopback


async def test_it_comes_back_after_kill_9(home: Path, kafka: str, topic: str) -> None:
    await write(kafka, topic, b"acknowledged")
    first = broker_pid(home)
    os.kill(first, signal.SIGKILL)
    await until(lambda: start_time(first) is None)
    await until_it_answers(kafka)
    await write(kafka, topic, b"afterwards")
    assert await read(kafka, topic, 2) == [b"acknowledged", b"afterwards"]
    assert broker_pid(home) != first


async def test_another_port_at_the_next_start(tmp_path: Path) -> None:
    one, other = (f"127.0.0.1:{free_port('127.0.0.1')}" for _ in range(2))
    async with open_kafka(tmp_path, one, CACHE) as url:
        assert url.endswith(one)
        await create(url, "kept")
        await write(url, "kept", b"first")
    assert not (tmp_path / "run" / "kafka.pid").exists()
    async with open_kafka(tmp_path, other, CACHE) as url:
        assert url.endswith(other)
        assert await read(reader_url(tmp_path), "kept", 1, group="reader.analytics") == [b"first"]
        await write(url, "kept", b"second")


async def test_a_taken_port_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "TAKEN_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Conflict) as caught:
            async with open_kafka(tmp_path, listen, CACHE):
                pass
    assert caught.value.reason == "PORT_TAKEN"
    assert not (tmp_path / "kafka").exists()
