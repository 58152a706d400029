"""Every secret of a cluster is replaced while it works, in the order that docs/deploy.md gives: nothing is
lost, nothing fails, and no process restarts."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from mesh.identity import media_id
from tests.kills.outcome import EVENTS, pages
from tests.kills.scenario import START, Drop
from tests.support.certificates import Issuer, shown_by, siblings_refuse
from tests.support.cluster import SERVICES, Cluster, running_cluster
from tests.support.cluster_clients import Client, Subscriber, all_changes
from tests.support.parts import fresh_database
from tests.support.photos import people
from tests.support.rotated_secrets import (
    DatabasePassword,
    KafkaPassword,
    S3Keys,
    database_password,
    kafka_password,
    rotate,
    s3_keys,
)
from tests.support.s3 import S3
from tests.support.secured_kafka import running_secured_kafka
from tests.support.waiting import until, until_async

CAMERAS = ("north", "east")
# Seconds from one photo of a camera to the next: four of them are an event.
STEP, GAP, SPAN, PHOTOS = 3, 4, 10, 4
SETTINGS = {
    "LARES_EVENT_GAP_SECONDS": str(GAP),
    "LARES_EVENT_SPAN_SECONDS": str(SPAN),
}
MEDIA = """query($after: String) { mediaList(first: 200, after: $after) {
  edges { node { id } } pageInfo { hasNextPage endCursor } } }"""
ONE = "query($id: ID!) { media(id: $id) { url detections(first: 1) { edges { node { label } } } } }"
STATUS = {"query": "{ status { idle } }"}


@dataclass
class House:
    """A cluster, its secrets, and the CAs of its certificates: one for clients, one for siblings, each with a
    folder."""

    cluster: Cluster
    database: DatabasePassword
    kafka: KafkaPassword
    blobs: S3Keys
    clients: Path
    siblings: Path
    dropped: list[Drop] = field(default_factory=list)
    is_over: bool = False

    async def photos_arrive(self) -> None:
        """One after the other, until it is over."""
        for number in count():
            if self.is_over:
                return
            taken = START + STEP * (number // len(CAMERAS))
            drop = Drop(CAMERAS[number % len(CAMERAS)], f"{number:04}.jpg", people()[0], taken, number)
            await asyncio.to_thread(drop.put, self.cluster.cameras)
            self.dropped.append(drop)
            await asyncio.sleep(0.4)

    async def works(self) -> None:
        """Waits until a photo that arrives from now on has been stored, read, detected and shown."""
        number = len(self.dropped)
        await until(lambda: len(self.dropped) > number)
        drop, front = self.dropped[number], self.cluster.gateways[0]

        async def url() -> str:
            found = (await front.graphql(ONE, id=id_of(drop)))["media"]
            return str(found["url"]) if found and found["detections"]["edges"] else ""

        await until_async(url)
        assert (await front.get(await url())).content == drop.content()


def id_of(drop: Drop) -> str:
    return media_id(drop.camera, hashlib.sha256(drop.content()).hexdigest())


@pytest.fixture
async def house(tmp_path: Path, postgres_server: str, s3: S3) -> AsyncIterator[House]:
    clients, siblings = tmp_path / "clients", tmp_path / "siblings"
    for folder in (clients, siblings):
        issuer = Issuer()
        issuer.write(folder)
        (folder / "ca.pem").write_bytes(issuer.pem)
    async with (
        running_secured_kafka(["lares"]) as kafka,
        fresh_database(postgres_server) as database,
        database_password(database, tmp_path / "database-password") as password,
    ):
        login, keys = await kafka_password(kafka, "lares", tmp_path), await s3_keys(s3, tmp_path)
        settings = SETTINGS | {
            "LARES_BUS_URL": login.url,
            "LARES_BUS_PASSWORD_FILE": str(login.file),
            "LARES_BUS_CA": str(kafka.ca),
            "LARES_DATABASE_URL": password.url,
            "LARES_DATABASE_PASSWORD_FILE": str(password.file),
            "LARES_BLOBS_URL": keys.url,
            "LARES_BLOBS_KEY_FILE": str(keys.key_file),
            "LARES_BLOBS_SECRET_FILE": str(keys.secret_file),
            "LARES_TLS_CERT": str(clients / "cert.pem"),
            "LARES_TLS_KEY": str(clients / "key.pem"),
            "LARES_MESH_CERT": str(siblings / "cert.pem"),
            "LARES_MESH_KEY": str(siblings / "key.pem"),
            "LARES_TLS_CA": str(siblings / "ca.pem"),
        }
        # Copies that one process keeps must not spare another one the bucket.
        caches = {name: {"LARES_CACHE": str(tmp_path / f"{name}-cache")} for name in ("ingest", "gateway")}
        async with running_cluster(tmp_path, settings, dict.fromkeys(SERVICES, 1), caches) as cluster:
            yield House(cluster, password, login, keys, clients, siblings)


async def ask_on_new_connections(house: House, answers: set[str]) -> None:
    """As clients do who have just come. The answer needs all services."""
    front = house.cluster.gateways[0]
    while True:
        async with front.http_client() as client:
            answer = await client.post("/graphql", json=STATUS, headers={"x-api-key": front.key})
        answers.add(answer.text)
        await asyncio.sleep(0.1)


async def test_every_secret_is_replaced_under_load(house: House) -> None:
    cluster = house.cluster
    (front,) = cluster.gateways
    processes = [replica.process for replica in cluster]
    old, successor = (house.clients / "ca.pem").read_bytes(), Issuer()
    (house.clients / "ca.pem").write_bytes(old + successor.pem)
    await front.trust(house.clients / "ca.pem")
    client, subscriber, newcomers = Client(cluster), Subscriber(cluster), set[str]()
    arriving = asyncio.create_task(house.photos_arrive())
    asking = [asyncio.create_task(client.run()), asyncio.create_task(subscriber.run(0))]
    await house.works()
    for secret in (house.database, house.kafka, house.blobs):
        await rotate(secret, 1)
        await house.works()
    # Only now: while Kafka starts again, the status of services that need it may come too late.
    asking.append(asyncio.create_task(ask_on_new_connections(house, newcomers)))
    await replace_certificate_of_clients(house, successor)
    await replace_ca_of_siblings(house)
    house.is_over = True
    await arriving
    await until_async(lambda: all_stored(house))
    await front.idle()
    feed = await all_changes(cluster, subscriber)
    for task in asking:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert client.errors == []
    assert (client.repeated, subscriber.errors, subscriber.codes) == (0, [], [])
    assert subscriber.seen == feed  # every change once, in order
    assert newcomers
    assert newcomers <= {f'{{"data":{{"status":{{"idle":{idle}}}}}}}' for idle in ("true", "false")}
    assert [replica.process for replica in cluster] == processes
    assert all(process and process.poll() is None for process in processes)
    (house.clients / "ca.pem").write_bytes(successor.pem)
    await front.trust(house.clients / "ca.pem")
    await siblings_meet_again(house)
    await nothing_is_lost_or_twice(house)


async def replace_certificate_of_clients(house: House, successor: Issuer) -> None:
    """By one of another CA, which clients have begun to trust."""
    serial = successor.write(house.clients)
    await renewed(house, 1)
    assert await shown_by(house.cluster.gateways[0].http) == serial


async def renewed(house: House, times: int) -> None:
    """Waits until all processes have renewed their certificates so often, and work."""
    for replica in house.cluster:
        await replica.until_renewed(times)
    await house.works()


async def replace_ca_of_siblings(house: House) -> None:
    """Each step in all processes before the next one."""
    folder, new = house.siblings, Issuer()
    old, authority = folder / "old", folder / "ca.pem"
    shutil.copytree(folder, old)
    authority.write_bytes(authority.read_bytes() + new.pem)
    await renewed(house, 2)
    serial = new.write(folder)
    await renewed(house, 3)
    authority.write_bytes(new.pem)
    await renewed(house, 4)
    for replica in house.cluster:
        if replica.service != "gateway":  # which siblings do not call
            assert await shown_by(replica.mesh, client=folder) == serial
            assert await siblings_refuse(replica.mesh, old, authority)
            assert not await siblings_refuse(replica.mesh, folder, authority)


async def siblings_meet_again(house: House) -> None:
    """Restarts the store, whom all others call: connections made before would hide that somebody still shows
    or trusts what was replaced."""
    (store,), (front,) = house.cluster.of["store"], house.cluster.gateways
    assert await store.terminate() == 0
    store.start()
    for replica in house.cluster:
        await replica.until_ready()
    await front.idle()


async def all_stored(house: House) -> bool:
    found = await pages(house.cluster.gateways[0], MEDIA, "mediaList")
    return len(found) >= len(house.dropped)


async def nothing_is_lost_or_twice(house: House) -> None:
    (front,) = house.cluster.gateways
    media = [node["id"] for node in await pages(front, MEDIA, "mediaList")]
    assert sorted(media) == sorted(map(id_of, house.dropped))
    events = await pages(front, EVENTS, "events")
    assert sorted(sorted(one["id"] for one in event["media"]) for event in events) == sorted(expected(house))
    for event in events:
        assert (event["closed"], event["status"], event["labels"]) == (True, "ASSESSED", ["person"])
        assert event["assessment"]["score"] > 0
        digests = [edge["node"]["evidenceDigest"] for edge in event["assessments"]["edges"]]
        assert len(digests) == len(set(digests))


def expected(house: House) -> Iterator[list[str]]:
    """The media of each event: a camera's photos are STEP apart, and an event has a SPAN at most."""
    for camera in CAMERAS:
        photos = [id_of(drop) for drop in house.dropped if drop.camera == camera]
        for first in range(0, len(photos), PHOTOS):
            yield sorted(photos[first : first + PHOTOS])
