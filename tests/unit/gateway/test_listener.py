"""Listening on the gateway's address, and the end of that."""

import asyncio
import json
import ssl
import sys
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest
from trustme import KeyType

from gateway.http.listener import listening
from lares.reason.v1.reason_service_pb2 import REASONER_STATE_READY
from mesh.config import Config
from mesh.problems import Conflict
from tests.support.certificates import Issuer, old_tls, opened, renew, shown_by, write_certificate
from tests.support.waiting import until, until_async
from tests.unit.gateway.client import connected
from tests.unit.gateway.conftest import SECRET, Gateway

ROOT = Path(__file__).parents[3]


async def test_port_zero_means_any_free_port(gateway: Gateway) -> None:
    config = Config(gateway_listen="127.0.0.1:0")
    async with listening(gateway.app, config) as one, listening(gateway.app, config) as two:
        assert one != two
        for url in (one, two):
            async with httpx.AsyncClient(base_url=url) as client:
                response = await client.get("/health")
                assert response.status_code == 200
                assert "server" not in response.headers


async def test_every_response_has_the_date_of_now(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.http.uvicorn_internals.DATE_SECONDS", 0.01)
    now = 1_000_000_000.0
    monkeypatch.setattr("uvicorn.server.time.time", lambda: now)
    async with (
        listening(gateway.app, Config(gateway_listen="127.0.0.1:0")) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):

        async def is_dated(date: str) -> bool:
            return (await client.get("/health")).headers.get_list("date") == [date]

        assert await is_dated("Sun, 09 Sep 2001 01:46:40 GMT")
        now += 7
        await until_async(lambda: is_dated("Sun, 09 Sep 2001 01:46:47 GMT"))


async def test_a_port_that_stays_in_use_is_refused(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.http.listening.BIND_SECONDS", 0.3)
    async with listening(gateway.app, Config(gateway_listen="127.0.0.1:0")) as url:
        address = url.removeprefix("http://")
        with pytest.raises(Conflict, match="LARES_GATEWAY_LISTEN") as taken:
            async with listening(gateway.app, Config(gateway_listen=address)):
                pass
        assert taken.value.reason == "PORT_TAKEN"
        assert address in taken.value.message


async def test_a_port_that_becomes_free_is_bound(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.http.listening.BIND_SECONDS", 90.0)
    async with listening(gateway.app, Config(gateway_listen="127.0.0.1:0")) as url:
        waiting = asyncio.create_task(_serve_once(gateway, url.removeprefix("http://")))
        await asyncio.sleep(0)
    assert await waiting == url


async def _serve_once(gateway: Gateway, address: str) -> str:
    async with listening(gateway.app, Config(gateway_listen=address)) as url:
        return url


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Path]:
    return write_certificate(tmp_path)


async def test_a_certificate_enables_tls(gateway: Gateway, tls: dict[str, Path]) -> None:
    cert, key = tls["tls_cert"], tls["tls_key"]
    config = Config(gateway_listen="127.0.0.1:0", tls_cert=cert, tls_key=key)
    async with listening(gateway.app, config, opened({"tls_cert": cert, "tls_key": key})) as url:
        assert url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=tls["tls_ca"])
        async with httpx.AsyncClient(base_url=url, verify=context) as client:
            assert (await client.get("/health")).status_code == 200


async def test_new_connections_show_a_renewed_certificate(gateway: Gateway, tmp_path: Path) -> None:
    """Also one with another kind of key, of which OpenSSL keeps one certificate each."""
    issuer = Issuer()
    first = issuer.write(tmp_path, key_type=KeyType.RSA)
    tls = opened({"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"})
    (tmp_path / "ca.pem").write_bytes(issuer.pem)
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    rsa_only = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    rsa_only.maximum_version = ssl.TLSVersion.TLSv1_2
    rsa_only.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    async with (
        listening(gateway.app, Config(gateway_listen="127.0.0.1:0"), tls) as url,
        httpx.AsyncClient(base_url=url, verify=trusting) as open_before,
    ):
        address = url.removeprefix("https://")
        shown = partial(shown_by, address)
        assert (await open_before.get("/health")).status_code == 200
        assert await shown(context=trusting) == await shown(context=rsa_only) == first
        second = issuer.write(tmp_path)
        await renew(tls)
        assert await shown(context=trusting) == second
        with pytest.raises(ssl.SSLError):  # the old certificate is not shown to those who would prefer it
            await shown(context=rsa_only)
        assert (await open_before.get("/health")).status_code == 200


async def test_old_versions_of_tls_are_refused(gateway: Gateway, tls: dict[str, Path]) -> None:
    async with listening(gateway.app, Config(gateway_listen="127.0.0.1:0"), opened(tls)) as url:
        address = url.removeprefix("https://")
        assert await shown_by(address)
        with pytest.raises((ssl.SSLError, OSError)):
            await shown_by(address, context=old_tls())


@pytest.mark.parametrize("secure", [False, True])
async def test_the_example_prints_the_feed(
    gateway: Gateway, tls: dict[str, Path], tmp_path: Path, secure: bool
) -> None:
    event = gateway.store.add_event(1, score=57)
    for _ in range(3):
        gateway.store.add_change(event)
    (tmp_path / "api.key").write_text(SECRET + "\n")
    config = Config(gateway_listen="127.0.0.1:0")
    async with listening(gateway.app, config, opened(tls) if secure else None) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "examples/graphql_subscription.py", "--after", "1", "--count", "2"),
            *("--url", url.replace("http", "ws") + "/graphql", "--key-file", tmp_path / "api.key"),
            *(("--tls-ca", tls["tls_ca"]) if secure else ()),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, err.decode()
    changes = [json.loads(line) for line in out.decode().splitlines()]
    assert [change["cursor"] for change in changes] == ["2", "3"]
    assert changes[0]["event"]["id"] == event.id
    assert changes[0]["event"]["assessment"]["score"] == 57


async def test_shutdown_does_not_wait_for_subscribers(gateway: Gateway) -> None:
    async with listening(gateway.app, Config(gateway_listen="127.0.0.1:0")) as url:
        opening = connected(url, x_api_key=SECRET)
        client = await opening.__aenter__()
        await client.init()
        await client.subscribe("subscription { eventChanged { cursor } }")
        await until(lambda: gateway.feed.watching == 1)
        began = time.monotonic()
    assert time.monotonic() - began < 60
    assert gateway.feed.watching == 0
    assert (await client.closed())[0] == 1012
    await opening.__aexit__(None, None, None)


STATUS = {"query": "{ status { reason { state } } }"}


@pytest.fixture
def slow(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway whose STATUS lasts until what GetReasonStatus waits for is set."""
    monkeypatch.setattr("gateway.schema.reasoner.TIMEOUT_SECONDS", 90.0)
    gateway.store.reason.state = REASONER_STATE_READY
    gateway.store.waiting["GetReasonStatus"] = asyncio.Event()
    return gateway


async def test_a_request_that_runs_when_the_gateway_stops_has_its_answer(
    slow: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.listener.GRACE_SECONDS", 90)
    async with (
        httpx.AsyncClient(headers={"x-api-key": SECRET}, timeout=90) as client,
        AsyncExitStack() as end,
    ):
        url = await end.enter_async_context(listening(slow.app, Config(gateway_listen="127.0.0.1:0")))
        asking = asyncio.create_task(client.post(f"{url}/graphql", json=STATUS))
        await until(lambda: slow.store.calls["GetReasonStatus"])
        ending = asyncio.create_task(end.aclose())

        async def refused() -> bool:
            try:
                _, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
            except ConnectionRefusedError:
                return True
            writer.close()
            return False

        await until_async(refused)
        assert not asking.done()
        slow.store.waiting["GetReasonStatus"].set()
        assert (await asking).json()["data"]["status"]["reason"]
        await ending


async def test_a_request_that_takes_too_long_is_told_that_the_gateway_stops(
    slow: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.listener.GRACE_SECONDS", 0)
    async with httpx.AsyncClient(headers={"x-api-key": SECRET}, timeout=90) as client:
        async with listening(slow.app, Config(gateway_listen="127.0.0.1:0")) as url:
            asking = asyncio.create_task(client.post(f"{url}/graphql", json=STATUS))
            await until(lambda: slow.store.calls["GetReasonStatus"])
        response = await asking
    assert response.status_code == 503
    (error,) = response.json()["errors"]
    assert error["extensions"] == {"code": "UNAVAILABLE", "reason": "STOPPING"}
