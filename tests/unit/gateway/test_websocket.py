"""The protocol graphql-transport-ws, with the `websockets` library as the client."""

from contextlib import suppress

import pytest
from websockets import ConnectionClosed

from tests.support.waiting import until
from tests.unit.gateway.client import connected
from tests.unit.gateway.conftest import SECRET, Gateway

CHANGES = "subscription { eventChanged { cursor } }"


async def test_a_query_gets_a_response_and_completes(served: Gateway) -> None:
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe("{ cameras { id } }", id="a")
        assert await client.receive() == {"id": "a", "type": "next", "payload": {"data": {"cameras": []}}}
        assert await client.receive() == {"id": "a", "type": "complete"}
        await client.subscribe("{ __typename }", id="a")  # the id is free again
        assert await client.next("a") == {"data": {"__typename": "Query"}}


async def test_an_invalid_query_ends_only_its_own_operation(served: Gateway) -> None:
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe("{ nothing }")
        message = await client.receive()
        assert (message["id"], message["type"]) == ("1", "error")
        assert message["payload"][0]["message"] == "Cannot query field 'nothing' on type 'Query'."
        await client.subscribe("subscription { eventChanged(after: 5) { cursor } }")
        assert (await client.receive())["type"] == "error"
        await client.subscribe("{ __typename }")
        assert (await client.next())["data"]


async def test_ping_gets_pong_before_and_after_initialisation(served: Gateway) -> None:
    async with connected(served.url, x_api_key=SECRET) as client:
        for _ in range(2):
            await client.send(type="ping", payload={"a": 1})
            assert await client.receive() == {"type": "pong"}
            await client.send(type="pong")
        await client.init()
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}


async def test_complete_ends_a_subscription_at_once(served: Gateway) -> None:
    event = served.store.add_event(1)
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(CHANGES)
        await until(lambda: served.feed.watching == 1)
        await client.send(id="1", type="complete")
        await until(lambda: served.feed.watching == 0)
        served.publish(event)
        await client.subscribe(
            "subscription { eventChanged { cursor deleted } }"
        )  # the same id for another query
        await until(lambda: served.feed.watching == 1)
        served.publish(event)
        assert await client.next() == {"data": {"eventChanged": {"cursor": "2", "deleted": False}}}


async def test_completing_an_unknown_operation_has_no_effect(served: Gateway) -> None:
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.send(id="never", type="complete")
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}


async def test_a_disconnect_ends_all_subscriptions(served: Gateway) -> None:
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        for id in "abc":
            await client.subscribe(CHANGES, id=id)
        await until(lambda: served.feed.watching == 3)
        client.socket.transport.abort()
        await until(lambda: served.feed.watching == 0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no json", 4400),
        ("[]", 4400),
        ("{}", 4400),
        ('{"type": 5}', 4400),
        ('{"type": "start"}', 4400),
        ('{"type": "connection_init"}', 4429),
        ('{"type": "subscribe", "payload": {"query": "{ __typename }"}}', 4400),
        ('{"type": "subscribe", "id": "", "payload": {"query": "{ __typename }"}}', 4400),
        ('{"type": "subscribe", "id": 1, "payload": {"query": "{ __typename }"}}', 4400),
        ('{"type": "subscribe", "id": "1"}', 4400),
        ('{"type": "subscribe", "id": "1", "payload": {"query": 5}}', 4400),
        ('{"type": "subscribe", "id": "1", "payload": {"query": "a", "variables": []}}', 4400),
        ('{"type": "subscribe", "id": "%s", "payload": {"query": "{ __typename }"}}' % ("x" * 129), 4400),
        ('{"type": "complete"}', 4400),
        (b"\x00\x01", 4400),
        ("x" * 300_000, 1009),
    ],
)
async def test_a_protocol_violation_closes_the_socket(served: Gateway, text: str | bytes, code: int) -> None:
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.socket.send(text)
        assert (await client.closed())[0] == code


async def test_an_id_in_use_closes_the_socket(served: Gateway) -> None:
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(CHANGES, id="ä" * 100)
        await client.subscribe(CHANGES, id="ä" * 100)
        code, reason = await client.closed()
        assert code == 4409
        assert reason.startswith("Subscriber for ä")
    await until(lambda: served.feed.watching == 0)


async def test_a_client_that_does_not_initialise_is_closed(
    served: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.websocket.INIT_SECONDS", 0.05)
    async with connected(served.url, x_api_key=SECRET) as client:
        with suppress(ConnectionClosed):
            await client.send(type="ping")  # initialises nothing
        assert await client.closed() == (4408, "Connection initialisation timeout")


@pytest.mark.parametrize("protocol", [None, "graphql-ws"])
async def test_other_protocols_are_refused(served: Gateway, protocol: str | None) -> None:
    async with connected(served.url, protocol, x_api_key=SECRET) as client:
        assert await client.closed() == (4406, "Subprotocol not acceptable")


async def test_an_invalid_initialisation_is_refused(served: Gateway) -> None:
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.send(type="connection_init", payload="hello")
        assert (await client.closed())[0] == 4400


async def test_the_number_of_operations_of_a_socket_is_limited(
    served: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.websocket.MAX_OPERATIONS", 2)
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        for id in "abc":
            await client.subscribe(CHANGES, id=id)
        message = await client.receive()
        assert (message["id"], message["type"]) == ("c", "error")
        assert message["payload"][0]["extensions"]["reason"] == "TOO_MANY_OPERATIONS"
