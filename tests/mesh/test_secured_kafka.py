"""Logins and certificates, on a real Kafka with the listeners of managed services."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus import Bus, BusSettings, Stream, Tail, open_bus
from mesh.bus.access import KafkaAccess
from mesh.bus.topic_admin import open_topic_admin
from mesh.problems import Denied, Invalid, Unavailable
from mesh.secret import Secret
from mesh.topics import DETECTED, FEED, INGESTED, TOPICS, Topic, used_by
from tests.support.records import StoredOffsets, media, media_topic, no_lag, numbers, receive, unique
from tests.support.secured_kafka import (
    SecuredKafka,
    UnsecuredTokenEndpoint,
    running_secured_kafka,
    running_token_endpoint,
    unsecured_token,
    write_issued,
)
from tests.support.waiting import until, until_async

# Kinds, patterns and operations of permissions.
IN_TOPIC, IN_GROUP = 2, 3
EXACTLY, BEGINNING = 3, 4
READ, WRITE, DESCRIBE = 3, 4, 8

ALICE = ("alice", "al:ice@s3cret/?")
CLIENT = ("lares", "client-secret")
SECRETS = (ALICE[1], "pat-secret", "client-secret", "wrong-secret", "old-secret", "new-secret")


@pytest.fixture(scope="module")
async def kafka() -> AsyncIterator[SecuredKafka]:
    async with running_secured_kafka(["pat", "alice", "bob", "certified", "lares"]) as kafka:
        await kafka.set_password(*ALICE)
        yield kafka


@pytest.fixture
async def endpoint(kafka: SecuredKafka) -> AsyncIterator[UnsecuredTokenEndpoint]:
    async with running_token_endpoint(kafka.issue("localhost")) as endpoint:
        yield endpoint


@pytest.fixture
def settings(kafka: SecuredKafka) -> BusSettings:
    return BusSettings(ca=kafka.ca)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot work fails soon."""
    monkeypatch.setattr("mesh.bus.bus.CONNECT_SECONDS", 20.0)


@pytest.fixture(autouse=True)
def _no_secrets(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Any:
    """No test of this module may log a password or a token."""
    caplog.set_level("DEBUG", "mesh")
    yield
    logged = caplog.text + "".join(capsys.readouterr())
    assert not [secret for secret in SECRETS if secret in logged]
    assert "eyJ" not in logged  # the beginning of every token


def token_url(kafka: SecuredKafka, endpoint: UnsecuredTokenEndpoint, secret: str = CLIENT[1]) -> str:
    options = {"mechanism": "OAUTHBEARER", "token_endpoint": endpoint.url, "scope": endpoint.scope}
    return kafka.url("token", (CLIENT[0], secret), **options)


def way_in(
    name: str, kafka: SecuredKafka, endpoint: UnsecuredTokenEndpoint, settings: BusSettings, folder: Path
) -> tuple[str, BusSettings]:
    """The URL and the settings of one kind of login."""
    if name == "certificate":
        certificate, key = kafka.issue("certified")
        return kafka.url("certificate"), replace(settings, cert=certificate, key=key)
    if name == "token endpoint":
        return token_url(kafka, endpoint), settings
    if name == "token file":
        (folder / "token").write_text(unsecured_token("lares", 300) + "\n")
        return kafka.url("token", mechanism="OAUTHBEARER", token_file=str(folder / "token")), settings
    if name == "PLAIN":
        return kafka.url("secure", ("pat", "pat-secret")), settings
    return kafka.url("secure", ALICE, mechanism=name), settings


@pytest.mark.parametrize(
    "name", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "certificate", "token endpoint", "token file"]
)
async def test_everything_works_with_every_login(
    name: str,
    kafka: SecuredKafka,
    endpoint: UnsecuredTokenEndpoint,
    settings: BusSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, settings = way_in(name, kafka, endpoint, settings, tmp_path)
    async with open_bus(url, client_id="test", settings=settings) as bus:
        topic = await media_topic(bus)
        await bus.publish(topic, *(media("cam", n) for n in range(5)))
        async with bus.consume(topic, unique("group")) as stream, bus.tail(topic, start="beginning") as tail:
            received = await receive(stream, 5)
            assert numbers(received) == list(range(5))
            for delivery in received:
                stream.done(delivery)
            await no_lag(stream)
            assert (await anext(tail)).message == media("cam", 0)
        await bus.check()
        assert sum((await bus.ends(topic)).values()) == 5
    async with open_topic_admin(KafkaAccess(url, settings), [topic], []) as admin:
        assert await admin.plan() == []
    logged = "".join(capsys.readouterr())
    assert not [text for text in (*SECRETS, "did not stop") if text in logged]


@asynccontextmanager
async def refused(kind: type[Exception], reason: str, *words: str) -> AsyncIterator[None]:
    with pytest.raises(kind) as caught:
        yield
    problem: Any = caught.value
    assert problem.reason == reason
    assert all(word in problem.message for word in words), problem.message
    assert not [secret for secret in SECRETS if secret in problem.message]


async def enter(url: str | Secret, settings: BusSettings) -> None:
    async with asyncio.timeout(15), open_bus(url, client_id="test", settings=settings):
        pass


async def test_a_refused_secret_is_read_again_within_the_same_attempt(
    kafka: SecuredKafka, endpoint: UnsecuredTokenEndpoint, settings: BusSettings
) -> None:
    """Of Kafka's user, and of the client of a token endpoint."""
    scram = {"mechanism": "SCRAM-SHA-512"}
    for old, new in (
        (kafka.url("secure", ("alice", "wrong-secret"), **scram), kafka.url("secure", ALICE, **scram)),
        (token_url(kafka, endpoint, "wrong-secret"), token_url(kafka, endpoint)),
    ):
        await enter(Secret(old, partial(str, new)), settings)
        async with refused(Denied, "BUS_LOGIN_DENIED" if "alice" in old else "BUS_TOKEN_DENIED"):
            await enter(Secret(old, partial(str, old)), settings)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_said_at_once(
    kafka: SecuredKafka, settings: BusSettings, mechanism: str
) -> None:
    for user in ("alice", "nobody"):
        url = kafka.url("secure", (user, "wrong-secret"), mechanism=mechanism)
        async with refused(Denied, "BUS_LOGIN_DENIED", "localhost", f"login of {user}"):
            await enter(url, settings)


async def test_a_refused_token_is_said_at_once(
    kafka: SecuredKafka, endpoint: UnsecuredTokenEndpoint, settings: BusSettings, tmp_path: Path
) -> None:
    async with refused(Denied, "BUS_TOKEN_DENIED", endpoint.url, "client lares: invalid_client"):
        await enter(token_url(kafka, endpoint, "wrong-secret"), settings)
    endpoint.fault = 503
    async with refused(Unavailable, "BUS_TOKEN", endpoint.url, "503"):
        await enter_soon(token_url(kafka, endpoint), settings)
    expired = tmp_path / "expired"
    url = kafka.url("token", mechanism="OAUTHBEARER", token_file=str(expired))
    async with refused(Unavailable, "BUS_TOKEN", str(expired)):
        await enter_soon(url, settings)
    expired.write_text(unsecured_token("lares", -60))
    async with refused(Denied, "BUS_LOGIN_DENIED", f"login of the bearer of {expired}"):
        await enter(url, settings)
    expired.write_text("not a token\n")
    async with refused(Invalid, "BUS_TOKEN", str(expired)):
        await enter(url, settings)


async def enter_soon(url: str, settings: BusSettings) -> None:
    """Gives up after a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mesh.bus.bus.CONNECT_SECONDS", 1.0)
        await enter(url, settings)


async def test_a_wrong_certificate_is_said_at_once(
    kafka: SecuredKafka, settings: BusSettings, tmp_path: Path
) -> None:
    url = kafka.url("secure", ("pat", "pat-secret"))
    stranger = trustme.CA()
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    for ca in (None, tmp_path / "stranger.pem"):
        async with refused(Denied, "BUS_UNTRUSTED", "localhost", "LARES_BUS_CA"):
            await enter(url, replace(settings, ca=ca))
    # The certificate is for localhost, not for this address.
    async with refused(Denied, "BUS_UNTRUSTED", "127.0.0.1"):
        await enter(url.replace("localhost", "127.0.0.1"), settings)
    async with refused(Denied, "BUS_DENIED", "LARES_BUS_CERT"):
        await enter(kafka.url("certificate"), settings)
    certificate, key = write_issued(tmp_path, stranger, "certified")
    async with refused(Denied, "BUS_DENIED", "LARES_BUS_CERT"):
        await enter(kafka.url("certificate"), replace(settings, cert=certificate, key=key))


async def test_a_listener_of_another_kind_is_said(kafka: SecuredKafka, settings: BusSettings) -> None:
    async with refused(Denied, "BUS_DENIED", "does not take logins by PLAIN"):
        await enter(kafka.url("token", ("pat", "pat-secret")), settings)
    certificate, key = kafka.issue("certified")
    async with refused(Denied, "BUS_DENIED", "takes no login"):
        with_certificate = replace(settings, cert=certificate, key=key)
        await enter(kafka.url("certificate", ("pat", "pat-secret")), with_certificate)
    plain = f"kafka://pat:pat-secret@localhost:{kafka.ports['secure']}"
    async with refused(Unavailable, "BUS_UNAVAILABLE", "security=tls"):
        await enter_soon(plain, settings)
    async with refused(Unavailable, "BUS_UNAVAILABLE", "one with TLS"):
        await enter_soon(kafka.url("admin", ("pat", "pat-secret")), settings)
    async with refused(Unavailable, "BUS_UNAVAILABLE", "no login"):
        await enter_soon(kafka.url("secure"), settings)


async def follow(tail: Tail[MediaIngested], seen: list[int]) -> None:
    async for delivery in tail:
        seen.append(delivery.message.media.size_bytes)


async def work(stream: Stream[MediaIngested], seen: list[int]) -> None:
    async for batch in stream.batches(10):
        for delivery in batch:
            seen.append(delivery.message.media.size_bytes)
            stream.done(delivery)


async def says_why(bus: Bus, reason: str) -> bool:
    """Whether the bus does not work, and says that it is for this reason."""
    try:
        await bus.check()
    except Unavailable as problem:
        return reason in problem.message and not any(secret in problem.message for secret in SECRETS)
    return False


async def test_a_password_that_changes_is_picked_up(kafka: SecuredKafka, settings: BusSettings) -> None:
    """The old one no longer counts when all connections are made anew. Until the new one is known, everything
    waits and says why."""
    passwords = ["old-secret"]
    await kafka.set_password("bob", passwords[-1])

    def url() -> str:
        return kafka.url("secure", ("bob", passwords[-1]), mechanism="SCRAM-SHA-512")

    secret = Secret(url(), url)
    settings = replace(settings, session_seconds=2.0)
    async with open_bus(secret, client_id="test", settings=settings) as bus:
        topic = await media_topic(bus)
        done, shown = list[int](), list[int]()
        async with bus.consume(topic, unique("group")) as stream, bus.tail(topic) as tail:
            tasks = [asyncio.create_task(work(stream, done)), asyncio.create_task(follow(tail, shown))]
            await bus.publish(topic, media("cam", 1))
            await until(lambda: (done, shown) == ([1], [1]))
            await kafka.set_password("bob", "new-secret")
            os.kill(kafka.pid, signal.SIGKILL)
            publishing = asyncio.create_task(bus.publish(topic, media("cam", 2)))

            await until_async(partial(says_why, bus, "login of bob"))
            assert not publishing.done()
            passwords.append("new-secret")
            await asyncio.wait_for(publishing, 60)
            await bus.check()
            await until(lambda: (set(done), set(shown)) == ({1, 2}, {1, 2}))
            await no_lag(stream)
            for task in tasks:
                task.cancel()


async def test_a_connection_outlives_its_token(
    kafka: SecuredKafka, endpoint: UnsecuredTokenEndpoint, settings: BusSettings
) -> None:
    """The broker closes a connection when the token by which it was made expires."""
    endpoint.seconds = 2.0
    async with open_bus(token_url(kafka, endpoint), client_id="test", settings=settings) as bus:
        topic = await media_topic(bus)
        seen, sent = list[int](), 0
        async with bus.consume(topic, unique("group")) as stream:
            task = asyncio.create_task(work(stream, seen))
            asked = endpoint.requests
            while endpoint.requests < asked + 3:
                await bus.publish(topic, media("cam", sent))
                sent += 1
                await asyncio.sleep(0.05)
            await until(lambda: set(seen) == set(range(sent)))
            # For a while the endpoint issues tokens that Kafka refuses, although they are said to be valid.
            unusable = {"access_token": unsecured_token("lares", -60), "expires_in": 3600}
            endpoint.respond = lambda: web.json_response(unusable)
            await until_async(partial(says_why, bus, "login of lares"))
            endpoint.respond = None
            await bus.publish(topic, media("cam", sent))
            await until(lambda: sent in seen)
            task.cancel()


async def test_certificates_of_kafka_are_replaced(
    kafka: SecuredKafka, settings: BusSettings, tmp_path: Path
) -> None:
    """First the bundle gets the new CA, then Kafka the new certificate, then the bundle loses the old CA."""
    bundle, successor = tmp_path / "bundle.pem", trustme.CA()
    old, new = kafka.ca.read_bytes(), successor.cert_pem.bytes()
    bundle.write_bytes(old)
    url, settings = kafka.url("secure", ("pat", "pat-secret")), replace(settings, ca=bundle)
    async with open_bus(url, client_id="test", settings=settings) as bus:
        topic = await media_topic(bus)
        await bus.publish(topic, media("cam", 1))

        async def first() -> int:
            """Reads with a new connection."""
            async with asyncio.timeout(60), bus.tail(topic, start="beginning") as tail:
                return (await anext(tail)).message.media.size_bytes

        await kafka.show(write_issued(tmp_path, successor, "localhost"))
        try:
            async with refused(Denied, "BUS_UNTRUSTED", "LARES_BUS_CA"):
                await enter(url, settings)
            waiting = asyncio.create_task(first())
            bundle.write_bytes(b"no certificate")  # half a rotation: the earlier ones are kept
            async with refused(Invalid, "BAD_SETTING", "LARES_BUS_CA"):
                await enter(url, settings)
            assert not waiting.done()
            bundle.write_bytes(old + new)
            assert await waiting == 1
            # So does a client that is there from before, when it has to connect again.
            for connection in list(bus._cluster._client._conns.values()):
                connection.close()
            await bus.check()
        finally:
            await kafka.show(kafka.issue("localhost"))
        assert await first() == 1
        bundle.write_bytes(new)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await first()


async def service_user(kafka: SecuredKafka, service: str) -> str:
    """Makes a user with the permissions that docs/deploy.md lists for the service. Returns its
    LARES_BUS_URL."""
    user, password = unique(service), "service-secret"
    await kafka.set_password(user, password)
    reads = [(IN_TOPIC, t.name, EXACTLY, READ) for t in TOPICS if service in t.consumers]
    writes = [(IN_TOPIC, t.name, EXACTLY, WRITE) for t in TOPICS if service in t.producers]
    letters = [(IN_TOPIC, name.replace("_svc", ".dead.v1"), EXACTLY, WRITE) for name in (service,)]
    groups = [(IN_GROUP, f"{service}:", BEGINNING, READ)]
    await kafka.allow(user, *reads, *writes, *letters, *groups)
    return kafka.url("secure", (user, password), mechanism="SCRAM-SHA-256")


async def test_the_documented_permissions_suffice_and_no_others_are_there(
    kafka: SecuredKafka, settings: BusSettings
) -> None:
    url = await service_user(kafka, "detect_svc")
    async with open_bus(url, client_id="detect", settings=settings) as bus:
        async with refused(Denied, "TOPIC_REFUSED", "lares topics apply"):
            await bus.create_topics(*used_by(["detect"]))
        async with open_topic_admin(KafkaAccess(kafka.admin_url)) as admin:
            await admin.apply(lambda _: None)
        await bus.create_topics(*used_by(["detect"]))
        async with open_bus(kafka.admin_url, client_id="ingest") as ingest:
            await ingest.publish(INGESTED, media("cam", 1), media("cam", 2))
        async with bus.consume(INGESTED, "detect_svc", offsets=StoredOffsets({}, keeps=True)) as stream:
            one, two = await receive(stream, 2)
            detected = MediaDetected()
            detected.media.camera_id = "cam"
            stream.done(one, (DETECTED, detected))
            await stream.bury(two, "UNREADABLE")
            await no_lag(stream)
        async with refused(Denied, "BUS_DENIED", f"topic {FEED.name}"):
            async with asyncio.timeout(20):
                await bus.create_topics([FEED], [])
        elsewhere = Topic(FEED.name, MediaIngested, INGESTED.key, "camera id", 1, 3600, (), ())
        async with refused(Denied, "BUS_DENIED", f"topic {FEED.name}"):
            async with asyncio.timeout(20):
                await bus.publish(elsewhere, media("cam", 1))
        async with refused(Denied, "BUS_DENIED", "group store_svc:ingest.media.v1"):
            await first_batch(bus, INGESTED, "store_svc")


async def test_a_session_that_kafka_does_not_allow_is_said(
    kafka: SecuredKafka, settings: BusSettings
) -> None:
    url = kafka.url("secure", ALICE, mechanism="SCRAM-SHA-512")
    too_long = replace(settings, session_seconds=1801.0)
    async with open_bus(url, client_id="test", settings=too_long) as bus:
        topic = await media_topic(bus)
        async with refused(Invalid, "BAD_SETTING", "LARES_BUS_SESSION_SECONDS"):
            await first_batch(bus, topic, unique("group"))


async def first_batch(bus: Bus, topic: Topic[MediaIngested], group: str) -> None:
    async with asyncio.timeout(20), bus.consume(topic, group) as stream:
        await anext(stream.batches(1))
