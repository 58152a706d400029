"""Which requests and sockets are accepted, and as which caller."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import websockets
from websockets.asyncio.client import connect

from mesh.problems import Unavailable
from mesh.security import Caller
from tests.support.waiting import until
from tests.unit.gateway.client import connected
from tests.unit.gateway.conftest import SECRET, Gateway, open_gateway
from tests.unit.gateway.fake_store import uuid

CLOSED = [
    "/graphql",
    "/media/x",
    "/media/x/thumbnail",
    "/metrics",
    "/nothing",
    "/health/../metrics",
    "/ready/",
]
WITHOUT_KEY = {"x-api-key": ""}


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_every_other_path_needs_a_key(gateway: Gateway, path: str, method: str) -> None:
    request = gateway.client.build_request(method, path)
    del request.headers["x-api-key"]
    response = await gateway.client.send(request)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-content-type-options"] == "nosniff"
    (error,) = response.json()["errors"]
    assert error["extensions"] == {"code": "UNAUTHENTICATED", "reason": "NO_API_KEY"}


async def test_a_request_without_a_path_needs_a_key(served: Gateway) -> None:
    url = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(b"OPTIONS * HTTP/1.1\r\nHost: lares\r\nConnection: close\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_health_and_readiness_need_no_key(gateway: Gateway, path: str) -> None:
    assert (await gateway.client.get(path, headers=WITHOUT_KEY)).status_code == 200
    assert gateway.store.calls["VerifyKey"] == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": SECRET},
        {"Authorization": f"Bearer {SECRET}"},
        {"authorization": f"bearer {SECRET}"},
    ],
)
async def test_a_key_is_accepted_in_either_header(gateway: Gateway, headers: dict[str, str]) -> None:
    response = await gateway.client.post(
        "/graphql", json={"query": "{ __typename }"}, headers=WITHOUT_KEY | headers
    )
    assert response.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": "lares_wrong"},
        {"x-api-key": SECRET[:-1]},
        {"authorization": f"Basic {SECRET}"},
        {"authorization": SECRET},
        {"cookie": f"x-api-key={SECRET}"},
    ],
)
async def test_a_wrong_key_is_refused(gateway: Gateway, headers: dict[str, str]) -> None:
    for path in ("/graphql", "/media/x"):
        response = await gateway.client.post(
            path, json={"query": "{ __typename }"}, headers=WITHOUT_KEY | headers
        )
        assert response.status_code == 401
        assert SECRET not in response.text


async def test_a_key_in_the_query_string_is_refused(gateway: Gateway) -> None:
    response = await gateway.client.get("/metrics", params={"x-api-key": SECRET}, headers=WITHOUT_KEY)
    assert response.status_code == 401


async def test_calls_to_siblings_name_the_caller(gateway: Gateway) -> None:
    await gateway.ask("{ cameras { id } }")
    callers = dict(zip(gateway.store.order, gateway.store.callers, strict=True))
    assert callers["ListCameras"] == Caller.of_key(uuid("key"), "a test")
    assert callers["VerifyKey"].kind == "sibling"


async def test_concurrent_requests_keep_their_own_callers(gateway: Gateway) -> None:
    gateway.store.secrets["lares_other"] = uuid("other key")

    async def ask(secret: str) -> None:
        body = {"query": "{ cameras { id } }"}
        await gateway.client.post("/graphql", json=body, headers={"x-api-key": secret})

    await asyncio.gather(*(ask(secret) for secret in [SECRET, "lares_other"] * 10))
    seen = [caller.id for caller in gateway.store.callers if caller.kind == "key"]
    assert sorted(seen) == sorted([uuid("key"), uuid("other key")] * 10)


async def test_without_the_store_no_key_can_be_checked(gateway: Gateway) -> None:
    gateway.store.failing["VerifyKey"] = Unavailable("not now", "AWAY")
    response = await gateway.client.post("/graphql", json={"query": "{ __typename }"})
    assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (503, "UNAVAILABLE")


async def test_a_socket_takes_its_key_from_the_first_message_or_the_headers(served: Gateway) -> None:
    async with connected(served.url) as client:
        await client.init(**{"x-api-key": SECRET})
    async with connected(served.url) as client:
        await client.init(**{"X-API-Key": SECRET})
    async with connected(served.url) as client:
        await client.init(authorization=f"Bearer {SECRET}")
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
    async with connected(served.url, authorization=f"Bearer {SECRET}") as client:
        await client.send(type="connection_init")
        assert await client.receive() == {"type": "connection_ack"}


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"x-api-key": "lares_wrong"},
        {"x-api-key": 5},
        {"x-api-key": ""},
        {"x-api-key": "ключ"},
        {"ключ": "a"},
    ],
)
async def test_a_socket_without_a_valid_key_is_closed(served: Gateway, payload: dict[str, object]) -> None:
    async with connected(served.url) as client:
        await client.send(type="connection_init", payload=payload)
        assert await client.closed() == (4403, "Forbidden")


async def test_a_socket_runs_nothing_before_it_is_authenticated(served: Gateway) -> None:
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.subscribe("{ cameras { id } }")
        assert await client.closed() == (4401, "Unauthorized")
    assert served.store.calls["ListCameras"] == 0


async def test_a_socket_is_asked_to_try_again_while_no_key_can_be_checked(served: Gateway) -> None:
    served.store.failing["VerifyKey"] = Unavailable("not now", "AWAY")
    async with connected(served.url) as client:
        await client.send(type="connection_init", payload={"x-api-key": SECRET})
        assert await client.closed() == (1013, "Try again later")


async def test_a_revoked_key_closes_its_sockets(served: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.key_verifier.REMEMBERED_SECONDS", 0.0)
    served.store.secrets["lares_other"] = uuid("other key")
    async with connected(served.url) as client, connected(served.url) as other:
        await client.init(**{"x-api-key": SECRET})
        await client.subscribe("subscription { eventChanged { cursor } }")
        await other.init(**{"x-api-key": "lares_other"})
        await until(lambda: served.feed.watching == 1)
        del served.store.secrets[SECRET]
        await served.sockets.recheck()
        assert await client.closed() == (4403, "Forbidden")
        await until(lambda: served.feed.watching == 0)
        await other.send(type="ping")
        assert await other.receive() == {"type": "pong"}
        assert (await served.client.post("/graphql", json={"query": "{ __typename }"})).status_code == 401


async def test_keys_are_rechecked_periodically(served: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.key_verifier.REMEMBERED_SECONDS", 0.0)
    monkeypatch.setattr("gateway.http.websocket.RECHECK_SECONDS", 0.01)
    checking = asyncio.create_task(served.sockets.keep_rechecking())
    async with connected(served.url) as client:
        await client.init(**{"x-api-key": SECRET})
        await until(lambda: served.store.calls["VerifyKey"] >= 3)
        del served.store.secrets[SECRET]
        assert await client.closed() == (4403, "Forbidden")
    checking.cancel()


async def test_no_socket_is_closed_while_no_key_can_be_checked(
    served: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.key_verifier.REMEMBERED_SECONDS", 0.0)
    async with connected(served.url) as client:
        await client.init(**{"x-api-key": SECRET})
        served.store.failing["VerifyKey"] = Unavailable("not now", "AWAY")
        await served.sockets.recheck()
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}


async def test_a_recheck_leaves_sockets_that_are_not_authenticated_yet(served: Gateway) -> None:
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}
        await served.sockets.recheck()
        await client.init()


async def test_no_other_path_accepts_a_websocket(served: Gateway) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with connect(served.url.replace("http", "ws") + "/media/x"):
            pass
    assert refused.value.response.status_code == 403


async def test_without_authentication_only_other_sites_are_refused(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, auth=False) as gateway:
        body = {"query": "{ cameras { id } }"}
        for origin, status in (
            (None, 200),
            ("http://gateway", 200),
            ("https://evil.example", 403),
            ("null", 403),
        ):
            headers = WITHOUT_KEY | ({"origin": origin} if origin else {})
            response = await gateway.client.post("/graphql", json=body, headers=headers)
            assert response.status_code == status, origin
        assert gateway.store.callers[0].kind == "key"
        assert gateway.store.calls["VerifyKey"] == 0
