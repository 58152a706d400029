"""Lares as two processes with mutual TLS between them, on an external Kafka and PostgreSQL."""

import asyncio
import ssl
from pathlib import Path

import grpc
import httpx
import pytest

from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.problems import Unauthenticated
from mesh.rpc import API_KEY, call
from mesh.security import as_itself
from tests.support.certificates import Issuer, shown_by, siblings_refuse, write_certificate
from tests.support.lares import Lares, free_ports
from tests.support.parts import running_kafka
from tests.support.photos import person_photo
from tests.support.waiting import until

FOUND = """{ events(first: 5) { edges { node {
  camera { id } status labels assessment { score } media { url } } } } }"""


async def test_services_in_two_processes_assess_a_photo(tmp_path: Path, postgres_url: str) -> None:
    # Its own broker, without the records of other tests.
    async with running_kafka() as kafka_url:
        await assess_a_photo(tmp_path, kafka_url, postgres_url)


async def assess_a_photo(tmp_path: Path, kafka_url: str, postgres_url: str) -> None:
    certificates = {f"LARES_{name.upper()}": str(path) for name, path in write_certificate(tmp_path).items()}
    here, there = (f"127.0.0.1:{port}" for port in free_ports(2))
    common = {
        **certificates,
        "LARES_BUS_URL": kafka_url,
        "LARES_DATABASE_URL": postgres_url,
        "LARES_BLOBS_URL": f"file://{tmp_path}/blobs",
        "LARES_EVENT_GAP_SECONDS": "1",
        "LARES_EVENT_SPAN_SECONDS": "3",
    }
    front = Lares(
        tmp_path / "front",
        common | {"LARES_MESH_LISTEN": here, "LARES_PEERS": f"ingest={there},detect={there}"},
        targets=["store", "gateway"],
    )
    back = Lares(
        tmp_path / "back",
        common | {"LARES_MESH_LISTEN": there, "LARES_PEERS": f"store={here}"},
        targets=["ingest", "detect", "reason"],
    )
    try:
        front.start()
        back.start()
        await front.ready()
        folder = back.cameras / "yard"
        await back.until_up()
        folder.mkdir()
        (folder / "1.jpg").write_bytes(person_photo().read_bytes())
        await front.until_stored(1)
        await front.idle()
        (edge,) = (await front.graphql(FOUND))["events"]["edges"]
        assert edge["node"]["camera"] == {"id": "yard"}
        assert edge["node"]["status"] == "ASSESSED"
        media = await front.get(edge["node"]["media"][0]["url"])
        assert media.content == person_photo().read_bytes()
        foreign = Issuer()
        foreign.write(tmp_path / "foreign")
        assert await siblings_refuse(here, tmp_path / "foreign", Path(certificates["LARES_TLS_CA"]))
        await certificates_are_replaced(front, back, tmp_path, here, there)
        (folder / "2.jpg").write_bytes(person_photo().read_bytes() + b"\0" * 8)
        await front.until_stored(2)
        await front.idle()
        await siblings_must_name_the_caller(here, certificates, front.key)
        bound = {path.name for path in (front.home / "run").iterdir() if path.is_socket()}
        assert bound == {"clients.sock", "operator.sock"}
        assert {path.name for path in (back.home / "run").iterdir() if path.is_socket()} == {"clients.sock"}
        assert not [*front.children("java"), *front.children("postgres")]
    finally:
        await back.close()
        await front.close()


async def certificates_are_replaced(front: Lares, back: Lares, folder: Path, *doors: str) -> None:
    """Certificates and their CA, while queries go on that need all services: none fails."""
    old, new, stopping, answered = (folder / "ca.pem").read_bytes(), Issuer(), False, 0
    trusting = ssl.create_default_context(cadata=(old + new.pem).decode())

    async def keep_asking() -> None:
        nonlocal answered
        while not stopping:
            async with httpx.AsyncClient(base_url=front.url(), verify=trusting, timeout=90) as client:
                for _ in range(3):  # on the connection that was opened first
                    query, key = {"query": "{ status { idle } }"}, {"x-api-key": front.key}
                    answer = await client.post("/graphql", json=query, headers=key)
                    assert answer.json()["data"]["status"]["idle"] in (True, False), answer.text
                    answered += 1

    asking = [asyncio.create_task(keep_asking()) for _ in range(4)]

    async def go_on(renewals: int) -> None:
        """Until both processes have renewed their certificates so often, and have answered since."""
        for lares in (front, back):
            await lares.until_renewed(renewals)
        now = answered
        await until(lambda: answered > now + 20 or any(one.done() for one in asking))

    (folder / "ca.pem").write_bytes(old + new.pem)
    await go_on(1)
    serial = new.write(folder)
    await go_on(2)
    (folder / "ca.pem").write_bytes(new.pem)
    await go_on(3)
    assert [await shown_by(door, client=folder) for door in doors] == [serial] * len(doors)
    assert await shown_by(front.http) == await shown_by(front.grpc) == serial
    stopping = True
    await asyncio.gather(*asking)
    await front.trust(folder / "ca.pem")


async def siblings_must_name_the_caller(address: str, certificates: dict[str, str], key: str) -> None:
    """Neither the certificate alone nor a client's key names the caller of a sibling's request."""
    files = [Path(certificates[f"LARES_TLS_{name}"]).read_bytes() for name in ("CA", "KEY", "CERT")]
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*files)) as channel:
        list_keys = keys_rpc.KeyServiceStub(channel).ListKeys
        with as_itself():
            await call(list_keys, keys.ListKeysRequest())
        for headers in ((), ((API_KEY, key),)):
            with pytest.raises(Unauthenticated) as refused:
                await call(list_keys, keys.ListKeysRequest(), headers=headers)
            assert refused.value.reason == "CALLER_UNCLEAR"
