import asyncio

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as some

from mesh.security import new_secret
from mesh.telemetry import redaction
from mesh.telemetry.redaction import redact, redacted, redacted_url
from mesh.telemetry.trace_context import REQUEST_ID, TRACEPARENT, enter_request, outgoing_headers


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
    assert (event["camera"], event["url"]) == ("front-door", "kafka://lares:***@127.0.0.1:9092")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("kafka://me:hun/ter2@h:9", "kafka://me:***@h:9"),
        ("kafka://me:hunter2@h:9,i:9", "kafka://me:***@h:9,i:9"),
        ("postgresql+asyncpg://lares:pa/ss@host/db", "postgresql+asyncpg://lares:***@host/db"),
        ("postgresql+asyncpg://lares:p@ss:w?r#d&@host/db", "postgresql+asyncpg://lares:***@host/db"),
        ("postgresql+asyncpg://lares:two words@host/db", "postgresql+asyncpg://lares:***@host/db"),
        (
            "postgresql+asyncpg://host/db?user=me&password=hunter2&ssl=require",
            "postgresql+asyncpg://host/db?user=me&password=***&ssl=require",
        ),
        ("openai+https://:sk/abc@h/v1?model=m", "openai+https://:***@h/v1?model=m"),
        ("openai+https://h/v1?model=m&api_key=sk/abc", "openai+https://h/v1?model=m&api_key=***"),
        ("triton://:tok/en@h:8001,i:8001/m?tls=true", "triton://:***@h:8001,i:8001/m?tls=true"),
        ("s3://key:se/cret@bucket/p?endpoint=http://h:1", "s3://key:***@bucket/p?endpoint=http://h:1"),
        ("https://token@h", "https://***@h"),
        ("https://to/ken@h", "https://***@h"),
        # A password that looks like a parameter, and a parameter that looks like credentials.
        ("kafka://me:a?token=b@h:9", "kafka://me:***@***"),
        ("postgresql+asyncpg://host/db?Password=p@ss", "postgresql+asyncpg://***@***"),
        ("kafka://h:9,i:9", "kafka://h:9,i:9"),
        ("litert:efficientdet-lite0?threads=2", "litert:efficientdet-lite0?threads=2"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redacted_url(url) == shown
    if " " not in url:
        assert (
            redact(None, "", {"event": f"no answer from {url} yet"})["event"] == f"no answer from {shown} yet"
        )


async def test_a_request_keeps_its_ids_on_the_way() -> None:
    async def hop(headers: dict[str, str]) -> dict[str, str]:
        enter_request(headers)
        return outgoing_headers()

    first = await asyncio.create_task(hop({}))
    second = await asyncio.create_task(hop(first))
    other = await asyncio.create_task(hop({}))
    assert first[REQUEST_ID] == second[REQUEST_ID] != other[REQUEST_ID]
    assert first[TRACEPARENT].split("-")[1] == second[TRACEPARENT].split("-")[1]
    assert first[TRACEPARENT].split("-")[1] != other[TRACEPARENT].split("-")[1]
    structlog.contextvars.clear_contextvars()


async def test_a_hostile_request_id_is_cut() -> None:
    async def hop() -> str:
        enter_request({REQUEST_ID: "x" * 10_000})
        return outgoing_headers()[REQUEST_ID]

    assert await asyncio.create_task(hop()) == "x" * 64


texts = some.lists(
    some.sampled_from(["lares_", "://", "a", "Z9", "-_" * 12, "@", ":", "/", "?key=", "&", " ", "\n", "ſ"])
    | some.text(max_size=3)
).map("".join)


@given(texts)
def test_texts_that_are_not_searched_hold_nothing_to_hide(text: str) -> None:
    searched = redaction._URLS.sub(lambda url: redacted_url(url[0]), redaction._KEYS.sub("***", text))
    assert redacted(text) == searched


@given(texts | some.sampled_from(["api-key", "API key", "my_Token", "pass"]), texts)
def test_a_field_is_hidden_by_its_name_each_time(name: str, text: str) -> None:
    expected = "***" if redaction._SECRET_NAMES.search(name) else redacted(text)
    assert [redact(None, "", {name: text})[name] for _ in range(2)] == [expected, expected]
