"""POST /graphql as ASGI: how its body arrives, and how its response is written."""

import asyncio
import json
from typing import Any

import orjson
import pytest
from starlette.types import Message

from gateway.graphql.json_text import encode
from lares.detect.v1 import detect_service_pb2
from tests.unit.gateway.conftest import SECRET, Gateway

BODY = json.dumps({"query": "{ __typename }"}).encode()
HEADERS = [(b"content-type", b"application/json; charset=utf-8"), (b"x-api-key", SECRET.encode())]


async def post(
    gateway: Gateway, *messages: Message, headers: Any = HEADERS
) -> tuple[int, Any, list[Message]]:
    """Returns the status, the response and what was not read."""
    scope = {"type": "http", "method": "POST", "path": "/graphql", "headers": headers, "query_string": b""}
    left, sent = list(messages), list[Message]()

    async def receive() -> Message:
        return left.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await gateway.app(scope, receive, send)
    start, body = sent
    text = body["body"]
    assert dict(start["headers"])[b"content-length"] == str(len(text)).encode()
    return start["status"], json.loads(text) if text else None, left


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_may_arrive_in_parts(gateway: Gateway) -> None:
    parts = [part(BODY[:5]), part(b""), {"type": "http.request", "more_body": True}, part(BODY[5:], False)]
    assert await post(gateway, *parts) == (200, {"data": {"__typename": "Query"}}, [])


async def test_no_more_is_read_of_a_body_that_is_too_large(gateway: Gateway) -> None:
    large = [part(b"x" * 100_000) for _ in range(4)]
    status, response, left = await post(gateway, *large)
    assert (status, response["errors"][0]["extensions"]["reason"]) == (413, "BODY_TOO_LARGE")
    assert len(left) == 1


async def test_a_client_that_leaves_before_its_body_is_complete_gets_400(gateway: Gateway) -> None:
    assert await post(gateway, part(BODY[:5]), {"type": "http.disconnect"}) == (400, None, [])


async def test_a_body_that_arrives_too_slowly_is_refused(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.graphql_endpoint.BODY_SECONDS", 0.05)
    sent: list[Message] = []
    waiting = asyncio.Event()

    async def never() -> Message:
        await waiting.wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/graphql", "headers": HEADERS, "query_string": b""}
    await gateway.app(scope, never, send)
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["errors"][0]["extensions"]["reason"] == "DEADLINE"


async def test_of_a_repeated_header_the_first_one_counts(gateway: Gateway) -> None:
    headers = [*HEADERS, (b"x-api-key", b"lares_wrong"), (b"content-type", b"text/plain")]
    assert (await post(gateway, part(BODY, False), headers=headers))[0] == 200


async def test_each_response_has_its_headers_once(gateway: Gateway) -> None:
    for path in ("/graphql", "/health", "/nothing"):
        response = await gateway.client.post(path, json={"query": "{ __typename }"})
        for name in ("x-request-id", "x-content-type-options", "content-type", "content-length"):
            assert len(response.headers.get_list(name)) == 1, (path, name)


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        2**64,
        -(2**70),
        "a \ud800 b",
        {"\udfff": 1},
        {1: 2},
        "é \x00 \x7f \u2028 </script> 😀",
        [1.0, -0.0, 1e22, 5e-324, 0.1],
        {"a": (1, [None, True])},
        json.loads("[" * 400 + "]" * 400),
    ],
)
def test_json_has_the_values_that_json_of_python_gives(value: Any) -> None:
    assert json.loads(encode(value)) == json.loads(json.dumps(value))


def test_orjson_writes_what_it_can() -> None:
    value = {"name": "Gärten", "score": 5}
    assert encode(value) == orjson.dumps(value) == '{"name":"Gärten","score":5}'.encode()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_numbers_that_are_not_json_never_reach_it(gateway: Gateway, number: float) -> None:
    sample = detect_service_pb2.GpuSample(temperature_celsius=number)
    gateway.store.gpus.gpus.add(now=sample)
    response = await gateway.post("{ status { gpus { now { temperatureCelsius } } } }")
    assert response["data"]["status"]["gpus"] == [{"now": {"temperatureCelsius": None}}]
    assert len(response["errors"]) == 1
