"""Bearer tokens: when they are fetched, kept and given up."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mesh.bus.address import TokenSource
from mesh.bus.tokens import TokenEndpoint, TokenFile
from mesh.problems import Denied, Invalid, Unavailable
from tests.support.secured_kafka import UnsecuredTokenEndpoint, running_token_endpoint


@pytest.fixture
async def server() -> AsyncIterator[UnsecuredTokenEndpoint]:
    async with running_token_endpoint() as server:
        yield server


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tokens(
    server: UnsecuredTokenEndpoint, clock: Clock | None = None, secret: str = "client-secret"
) -> TokenEndpoint:
    source = TokenSource("", server.url, "lares", secret, "kafka")
    return TokenEndpoint(source, ssl.create_default_context, clock or Clock())


async def test_one_token_serves_all_until_shortly_before_it_expires(
    server: UnsecuredTokenEndpoint, clock: Clock
) -> None:
    source = tokens(server, clock)
    many = await asyncio.gather(*(source.token() for _ in range(20)))
    assert (len(set(many)), server.requests) == (1, 1)
    clock.seconds = 239  # of 300 s, the last 60 are too late
    assert await source.token() == many[0]
    clock.seconds = 241
    await source.token()
    assert server.requests == 2


async def test_a_token_that_cannot_be_renewed_is_used_until_it_expires(
    server: UnsecuredTokenEndpoint, clock: Clock
) -> None:
    source = tokens(server, clock)
    first = await source.token()
    server.fault = 503
    clock.seconds = 290
    assert await source.token() == first
    clock.seconds = 296
    with pytest.raises(Unavailable, match="status 503"):
        await source.token()
    server.fault = 0
    assert await source.token()


async def test_a_token_that_kafka_has_refused_is_not_used_again(server: UnsecuredTokenEndpoint) -> None:
    source = tokens(server)
    await source.token()
    source.refused()
    await source.token()
    assert server.requests == 2


async def test_a_client_that_the_endpoint_refuses_is_told_why(server: UnsecuredTokenEndpoint) -> None:
    with pytest.raises(Denied, match="refuses the client lares: invalid_client") as refused:
        await tokens(server, secret="s3cret").token()
    assert "s3cret" not in refused.value.message


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("", Invalid),
        ("<html>", Invalid),
        ("[" * 100_000, Unavailable),
        ("[" * 60_000, Invalid),
        ('{"access_token": 7}', Invalid),
        ('{"access_token": "a b"}', Invalid),
        ('{"access_token": "a\\nb"}', Invalid),
    ],
)
async def test_what_is_no_token_is_refused(
    server: UnsecuredTokenEndpoint, body: str, kind: type[Exception]
) -> None:
    server.respond = lambda: web.Response(text=body)
    with pytest.raises(kind):
        await tokens(server).token()


@pytest.mark.parametrize("lifetime", [{}, {"expires_in": "soon"}, {"expires_in": -1}, {"expires_in": "300"}])
async def test_a_token_may_have_no_lifetime(
    server: UnsecuredTokenEndpoint, clock: Clock, lifetime: dict[str, Any]
) -> None:
    server.respond = lambda: web.json_response({"access_token": "abc", **lifetime})
    source = tokens(server, clock)
    assert await source.token() == "abc"
    clock.seconds = 59
    assert (await source.token(), server.requests) == ("abc", 1)
    clock.seconds = 400
    assert (await source.token(), server.requests) == ("abc", 2)


async def test_an_endpoint_that_redirects_or_is_not_there(server: UnsecuredTokenEndpoint) -> None:
    """The secret must not go elsewhere."""
    server.respond = lambda: web.Response(status=302, headers={"Location": server.url})
    with pytest.raises(Unavailable, match="status 302"):
        await tokens(server).token()
    assert server.requests == 1
    gone = TokenEndpoint(TokenSource("", "http://localhost:1/t", "c", "s"), ssl.create_default_context)
    with pytest.raises(Unavailable, match="no token for Kafka from http://localhost:1/t"):
        await gone.token()


async def test_a_slow_endpoint_is_given_up(
    server: UnsecuredTokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.bus.tokens.DEADLINE_SECONDS", 0.05)
    server.hangs = True
    with pytest.raises(Unavailable):
        await tokens(server).token()


async def test_a_file_is_read_for_every_connection(tmp_path: Path) -> None:
    path = tmp_path / "token"
    source = TokenFile(path)
    with pytest.raises(Unavailable, match="No such file"):
        await source.token()
    for token in ("eyJ.a.", "eyJ.b."):
        path.write_text(f"{token}\n")
        assert await source.token() == token
    for content in ("two words", "ä"):
        path.write_text(content)
        with pytest.raises(Invalid) as refused:
            await source.token()
        assert refused.value.message == f"{path} holds no bearer token"
    for content in ("", "x" * 70_000, "eyJ.a.\neyJ.b."):  # it may be about to be written
        path.write_text(content)
        with pytest.raises(Unavailable, match=f"no token for Kafka: {path}"):
            await source.token()
