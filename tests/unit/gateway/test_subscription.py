"""The subscription to the feed: which changes it sends, in which form, and how often they are executed."""

import json
from typing import Any

import pytest

from lares.store.v1 import event_pb2
from mesh.problems import Unavailable
from tests.support.waiting import until
from tests.unit.gateway.client import Client, connected
from tests.unit.gateway.conftest import SECRET, Gateway
from tests.unit.gateway.fake_store import uuid

CURSORS = """subscription($after: String, $cameras: [ID!], $zones: [ID!], $least: Severity) {
  eventChanged(after: $after, cameraIds: $cameras, zoneIds: $zones, minSeverity: $least) { cursor } }"""


async def collect(client: Client, count: int) -> list[str]:
    return [(await client.next())["data"]["eventChanged"]["cursor"] for _ in range(count)]


async def test_kept_changes_then_live_ones(served: Gateway) -> None:
    event = served.store.add_event(1)
    for _ in range(3):
        served.store.add_change(event)
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(CURSORS, after="1")
        assert await collect(client, 2) == ["2", "3"]
        served.publish(event)
        assert await collect(client, 1) == ["4"]


async def test_without_a_cursor_it_starts_now(served: Gateway) -> None:
    event = served.store.add_event(1)
    served.store.add_change(event)
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(CURSORS)
        await until(lambda: served.feed.watching == 1)
        served.publish(event)
        assert await collect(client, 1) == ["2"]


async def test_scalars_are_those_of_the_change(served: Gateway) -> None:
    event = served.store.add_event(1)
    served.store.add_change(event)
    served.store.assess(event, 90)
    event.revision, event.closed = 2, True
    served.store.add_change(event)
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(
            """subscription { eventChanged(after: "0") { cursor deleted eventId event {
            id status revision sequence closed assessment { score severity } camera { name } } } }"""
        )
        first, second = [(await client.next())["data"]["eventChanged"] for _ in range(2)]
    assert first == {
        "cursor": "1",
        "deleted": False,
        "eventId": event.id,
        "event": {
            "id": event.id,
            "status": "PENDING",
            "revision": 1,
            "sequence": "1",
            "closed": False,
            "assessment": None,
            "camera": {"name": "Front-Door"},
        },
    }
    assert second["event"]["status"] == "ASSESSED"
    assert second["event"]["assessment"] == {"score": 90, "severity": "CRITICAL"}
    assert (second["event"]["revision"], second["event"]["sequence"], second["event"]["closed"]) == (
        2,
        "2",
        True,
    )


async def test_a_deletion_is_a_change_without_an_event(served: Gateway) -> None:
    event = served.store.add_event(1, score=10)
    served.store.add_change(event, deleted=True)
    query = """subscription { eventChanged(after: "0", minSeverity: CRITICAL) {
      cursor deleted eventId event { id } } }"""
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(query)
        assert (await client.next())["data"]["eventChanged"] == {
            "cursor": "1",
            "deleted": True,
            "eventId": event.id,
            "event": None,
        }


@pytest.mark.parametrize(
    ("variables", "cursors"),
    [
        ({}, ["1", "2", "3", "4", "5"]),
        ({"least": "LOW"}, ["2", "3", "4"]),
        ({"least": "MEDIUM"}, ["3", "4"]),
        ({"least": "CRITICAL"}, ["4"]),
        ({"cameras": ["b"]}, ["2", "5"]),
        ({"cameras": ["a", "b"]}, ["1", "2", "3", "4", "5"]),
        ({"cameras": None}, ["1", "2", "3", "4", "5"]),
        ({"cameras": ["b"], "least": "LOW"}, ["2"]),
        ({"zones": ["path"]}, ["2", "4"]),
        ({"zones": ["path", "steps"]}, ["2", "4", "5"]),
        ({"zones": ["path"], "cameras": ["a"], "least": "LOW"}, ["4"]),
    ],
)
async def test_filters(served: Gateway, variables: dict[str, Any], cursors: list[str]) -> None:
    """The events are not assessed, LOW, MEDIUM, CRITICAL and not assessed."""
    zones: tuple[list[str], ...] = ([], ["path"], [], ["path", "steps"], ["steps"])
    for index, (camera, score) in enumerate([("a", None), ("b", 29), ("a", 30), ("a", 85), ("b", None)]):
        event = served.store.add_event(index, camera=camera, score=score)
        event.zone_ids[:] = zones[index]
        served.store.add_change(event)
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(CURSORS, after="0", **variables)
        assert await collect(client, len(cursors)) == cursors
        # No other message arrives before the next change that matches.
        event = served.store.add_event(9, camera=(variables.get("cameras") or "b")[0], score=99)
        event.zone_ids[:] = ["path"]
        served.publish(event)
        assert await collect(client, 1) == ["6"]


@pytest.mark.parametrize("filter", ["cameras", "zones"])
async def test_an_empty_list_matches_nothing(served: Gateway, filter: str) -> None:
    event = served.store.add_event(1)
    served.publish(event)
    served.publish(event, deleted=True)
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(CURSORS, id="nothing", after="0", **{filter: []})
        await client.subscribe(CURSORS, id="all", after="0", **{filter: None})
        for _ in range(2):
            await client.next("all")
        await until(lambda: served.feed.watching == 2)
        served.publish(event)
        await client.next("all")
        await client.subscribe(CURSORS, id="later", after="0")
        for _ in range(3):
            await client.next("later")  # nothing came before these


@pytest.mark.parametrize(
    ("after", "code", "reason"),
    [
        ("9", "INVALID_ARGUMENT", "CURSOR_BEYOND_HEAD"),
        ("1", "FAILED_PRECONDITION", "CURSOR_EXPIRED"),
        ("-1", "INVALID_ARGUMENT", "BAD_CURSOR"),
        ("", "INVALID_ARGUMENT", "BAD_CURSOR"),
        ("1.5", "INVALID_ARGUMENT", "BAD_CURSOR"),
        ("٣", "INVALID_ARGUMENT", "BAD_CURSOR"),
        ("9223372036854775808", "INVALID_ARGUMENT", "BAD_CURSOR"),
        ("1" * 5000, "INVALID_ARGUMENT", "BAD_CURSOR"),
        ("0" * 20 + "9" * 30, "INVALID_ARGUMENT", "BAD_CURSOR"),
    ],
)
async def test_invalid_cursors(served: Gateway, after: str, code: str, reason: str) -> None:
    event = served.store.add_event(1)
    for _ in range(3):
        served.store.add_change(event)
    served.store.expired_changes = 2
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(CURSORS, after=after)
        message = await client.receive()
        assert (message["id"], message["type"]) == ("1", "error")
        assert message["payload"][0]["extensions"]["code"] == code
        assert message["payload"][0]["extensions"]["reason"] == reason
    assert served.feed.watching == 0


async def test_equal_subscriptions_share_one_execution(served: Gateway) -> None:
    event = served.store.add_event(1)
    query = """subscription { eventChanged { cursor event {
      camera { name } detections { edges { node { id } } } } } }"""
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        for id in range(20):
            await client.subscribe(query, id=str(id))
        await until(lambda: served.feed.watching == 20)
        served.store.clear_calls()
        served.publish(event)
        messages = [await client.receive() for _ in range(20)]
        assert {message["id"] for message in messages} == {str(id) for id in range(20)}
        assert len({json.dumps(message["payload"]) for message in messages}) == 1
        assert messages[0]["payload"]["data"]["eventChanged"]["event"]["camera"] == {"name": "Front-Door"}
        assert served.store.calls == {"BatchGetCameras": 1, "BatchListDetections": 1}


async def test_other_queries_and_other_callers_share_nothing(served: Gateway) -> None:
    event = served.store.add_event(1)
    served.store.secrets["lares_other"] = uuid("other key")
    query = "subscription($c: [ID!]) { eventChanged(cameraIds: $c) { event { camera { name } } } }"
    async with (
        connected(served.url, x_api_key=SECRET) as client,
        connected(served.url, x_api_key="lares_other") as other,
    ):
        await client.init()
        await other.init()
        await client.subscribe(query, id="1")
        await client.subscribe(query, id="2", c=["front-door"])
        await other.subscribe(query, id="1")
        await until(lambda: served.feed.watching == 3)
        served.store.clear_calls()
        served.publish(event)
        for one in (client, client, other):
            assert (await one.receive())["payload"]["data"]["eventChanged"]["event"]["camera"]
        assert served.store.calls == {"BatchGetCameras": 3}
        assert {caller.id for caller in served.store.callers} == {uuid("key"), uuid("other key")}


async def test_the_first_subscriber_may_leave_before_the_response(served: Gateway) -> None:
    event = served.store.add_event(1)
    query = "subscription { eventChanged { cursor event { camera { name } } } }"
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe(query, id="first")
        await until(lambda: served.feed.watching == 1)
        await client.subscribe(query, id="second")
        await until(lambda: served.feed.watching == 2)
        served.store.clear_calls()
        served.publish(event)
        await until(lambda: served.store.calls["BatchGetCameras"])
        await client.send(id="first", type="complete")
        while (message := await client.receive())["id"] != "second":
            pass
        assert message["payload"]["data"]["eventChanged"]["event"]["camera"] == {"name": "Front-Door"}


async def test_an_error_in_one_response_does_not_end_the_subscription(served: Gateway) -> None:
    event = served.store.add_event(1)
    served.store.failing["BatchGetCameras"] = Unavailable("not now", "AWAY")
    served.store.add_change(event)
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe('subscription { eventChanged(after: "0") { cursor event { camera { id } } } }')
        payload = await client.next()
        assert payload["data"] == {"eventChanged": {"cursor": "1", "event": None}}
        assert payload["errors"][0]["extensions"]["reason"] == "AWAY"
        served.store.failing.clear()
        served.publish(event)
        assert (await client.next())["data"]["eventChanged"]["event"]["camera"] == {"id": "front-door"}


async def test_a_change_that_cannot_be_read_whole_asks_other_services_once(served: Gateway) -> None:
    """The generated function fails, graphql-core executes the event, and all sockets share the response."""
    event = served.store.add_event(1)
    event.status = event_pb2.EVENT_STATUS_UNSPECIFIED
    query = """subscription { eventChanged { cursor event { id camera { name } revision
      detections { edges { node { id } } } status } } }"""
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        for id in range(5):
            await client.subscribe(query, id=str(id))
        await until(lambda: served.feed.watching == 5)
        served.store.clear_calls()
        served.publish(event)
        payloads = [(await client.receive())["payload"] for _ in range(5)]
    assert all(payload == payloads[0] for payload in payloads)
    assert [error["path"] for error in payloads[0]["errors"]] == [["eventChanged", "event", "status"]]
    assert payloads[0]["data"]["eventChanged"] == {"cursor": "1", "event": None}
    assert served.store.calls == {"BatchGetCameras": 1, "BatchListDetections": 1}


async def test_a_socket_that_does_not_read_delays_no_other(served: Gateway) -> None:
    event = served.store.add_event(1)
    event.labels[:] = ["x" * 1000] * 100
    query = "subscription { eventChanged { cursor event { labels } } }"
    async with (
        connected(served.url, x_api_key=SECRET) as slow,
        connected(served.url, x_api_key=SECRET) as quick,
    ):
        for client in (slow, quick):
            await client.init()
            await client.subscribe(query)
        await until(lambda: served.feed.watching == 2)
        slow.socket.transport.pause_reading()
        for number in range(1, 101):
            served.publish(event)
            assert (await quick.next())["data"]["eventChanged"]["cursor"] == str(number)
        slow.socket.transport.resume_reading()
        cursors = [(await slow.next())["data"]["eventChanged"]["cursor"] for _ in range(100)]
        assert cursors == [str(number) for number in range(1, 101)]
