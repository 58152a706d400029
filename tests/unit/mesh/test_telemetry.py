import asyncio

import structlog

from mesh.security import new_secret
from mesh.telemetry import REQUEST_ID, TRACEPARENT, enter, outgoing, redact


def test_no_secret_reaches_a_log() -> None:
    secret = new_secret()
    event = redact(
        None,
        "",
        {
            "event": f"key {secret} used",
            "password": "hunter2",
            "x-api-key": secret,
            "url": "kafka://lares:hunter2@127.0.0.1:9092",
            "error": f"bad header 'authorization: {secret}'",
            "camera": "front-door",
        },
    )
    assert secret not in str(event)
    assert "hunter2" not in str(event)
    assert (event["camera"], event["url"]) == ("front-door", "kafka://***@127.0.0.1:9092")


async def test_a_request_keeps_its_ids_on_the_way() -> None:
    async def hop(headers: dict[str, str]) -> dict[str, str]:
        enter(headers)
        return outgoing()

    first = await asyncio.create_task(hop({}))
    second = await asyncio.create_task(hop(first))
    other = await asyncio.create_task(hop({}))
    assert first[REQUEST_ID] == second[REQUEST_ID] != other[REQUEST_ID]
    assert first[TRACEPARENT].split("-")[1] == second[TRACEPARENT].split("-")[1]
    assert first[TRACEPARENT].split("-")[1] != other[TRACEPARENT].split("-")[1]
    structlog.contextvars.clear_contextvars()


async def test_a_hostile_request_id_is_cut() -> None:
    async def hop() -> str:
        enter({REQUEST_ID: "x" * 10_000})
        return outgoing()[REQUEST_ID]

    assert await asyncio.create_task(hop()) == "x" * 64
