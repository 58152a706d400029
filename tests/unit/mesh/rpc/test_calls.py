"""Calls over a real socket: their results, problems and deadlines."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.problems import KINDS, Conflict, Internal, Invalid, NotFound, Problem, Unavailable
from mesh.rpc import Channels, call, metadata, problem_of, stream
from tests.support.rpc_harness import KEY_ID, Harness, wait_forever
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("calling_as_itself")


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind is not Internal])
async def test_every_problem_reaches_the_caller_whole(harness: Harness, kind: type[Problem]) -> None:
    harness.servicer.problem = kind("what happened", "WHY", detail="Ü")
    with pytest.raises(kind) as restored:
        await call(keys_rpc.KeyServiceStub(harness.private).RevokeKey, keys.RevokeKeyRequest(key_id=KEY_ID))
    assert type(restored.value) is kind
    assert (restored.value.message, restored.value.reason) == ("what happened", "WHY")
    assert restored.value.metadata == {"detail": "Ü"}


async def test_the_text_of_a_bug_does_not_reach_the_caller(harness: Harness) -> None:
    harness.servicer.problem = ValueError("SELECT secret FROM api_keys at /srv/lares")
    with pytest.raises(Internal) as masked:
        await call(keys_rpc.KeyServiceStub(harness.private).RevokeKey, keys.RevokeKeyRequest(key_id=KEY_ID))
    assert masked.value.message == "internal error"
    assert "secret" not in str(masked.value.metadata)


async def test_the_rules_of_the_contracts_are_checked(harness: Harness) -> None:
    with pytest.raises(Invalid, match="key_id") as invalid:
        await call(keys_rpc.KeyServiceStub(harness.private).RevokeKey, keys.RevokeKeyRequest(key_id="x"))
    assert invalid.value.reason == "BAD_REQUEST"


async def test_a_stream_yields_its_responses_and_then_its_problem(harness: Harness) -> None:
    seen = []
    with pytest.raises(Conflict) as expired:
        async for response in stream(
            events_rpc.EventServiceStub(harness.private).WatchEvents, events.WatchEventsRequest(after=4)
        ):
            seen.append(response.change.sequence)
    assert seen == [5, 6, 7]
    assert (expired.value.reason, expired.value.metadata) == ("CURSOR_EXPIRED", {"oldest": "7"})


async def test_a_stream_ends_when_its_caller_cancels_it(harness: Harness) -> None:
    harness.watched.rest = wait_forever
    stub = events_rpc.EventServiceStub(harness.public)
    streaming = stub.WatchEvents(events.WatchEventsRequest(), metadata=(("x-api-key", "good"),))
    first: Any = await streaming.read()
    assert first.change.sequence == 1
    assert harness.watched.watching == 1
    streaming.cancel()
    await until(lambda: harness.watched.watching == 0)


async def test_every_call_has_a_deadline(harness: Harness) -> None:
    stub = keys_rpc.KeyServiceStub(harness.private)
    with pytest.raises(Unavailable) as late:
        await call(stub.CreateKey, keys.CreateKeyRequest(name="slow"), timeout=0.1)
    assert late.value.message == "this took too long"


@pytest.mark.parametrize("seconds", [-1, 0, 1e-9, 0.001, 0.01, 0.1, 0.3])
@pytest.mark.parametrize("channel", ["private", "public", "local"])
async def test_a_deadline_of_the_client_has_grpcs_own_code(
    harness: Harness, channel: str, seconds: float
) -> None:
    to = harness.server.channel() if channel == "local" else getattr(harness, channel)
    headers = metadata() if channel != "public" else (("x-api-key", "good"),)
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await keys_rpc.KeyServiceStub(to).CreateKey(
                keys.CreateKeyRequest(name="slow"), timeout=seconds, metadata=headers
            )
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert isinstance(problem_of(late.value), Unavailable)


async def test_the_servers_own_limit_is_not_the_clients_deadline(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.rpc.interceptor.UNARY_SECONDS", 0.01)
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await keys_rpc.KeyServiceStub(harness.private).CreateKey(
            keys.CreateKeyRequest(name="slow"), metadata=metadata()
        )
    assert late.value.code() is grpc.StatusCode.UNAVAILABLE
    assert problem_of(late.value).reason == "DEADLINE"


async def test_a_service_without_an_address_is_reported() -> None:
    with pytest.raises(Invalid, match="LARES_PEERS"):
        Channels({}, {}).to("store")


async def test_a_server_that_cannot_be_reached_is_unavailable(tmp_path: Path) -> None:
    channels = Channels({}, {"store": f"unix:{tmp_path}/nobody"})
    with pytest.raises(Unavailable) as gone:
        await call(keys_rpc.KeyServiceStub(channels.to("store")).ListKeys, keys.ListKeysRequest(), timeout=1)
    await channels.close()
    # A client may see this, and need not know where the socket is.
    assert (gone.value.message, gone.value.reason) == (
        "a part of Lares cannot be reached at present",
        "UNAVAILABLE",
    )


async def test_a_server_may_be_slow_to_accept_a_connection(harness: Harness, tmp_path: Path) -> None:
    """As on a machine that stalls: one that accepts a connection is not given up within moments."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)
        there, back = await asyncio.open_unix_connection(tmp_path / "s")
        await asyncio.gather(relay(reader, back), relay(there, writer))

    async with await asyncio.start_unix_server(accept, tmp_path / "slow.sock"):
        channels = Channels({}, {"store": f"unix:{tmp_path / 'slow.sock'}"})
        stub = keys_rpc.KeyServiceStub(channels.to("store"))
        response = await call(stub.ListKeys, keys.ListKeysRequest())
        await channels.close()
    assert response.keys[0].name == "sibling:"


def test_each_kind_of_problem_has_its_own_code() -> None:
    assert len(KINDS) == 8
    assert KINDS[grpc.StatusCode.NOT_FOUND] is NotFound
