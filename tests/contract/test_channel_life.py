"""What every channel does about the bounds of messages, a server that starts and stops, and contexts."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from grpc import StatusCode

from mesh.rpc.protocol import MESSAGE_BYTES
from tests.support.channels import KINDS, Wired, begin, failed, said, values, wired
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(60)

# The tag and the length of the one field of a message as large as that.
FRAMING = 5
LARGEST = MESSAGE_BYTES - FRAMING


@pytest.fixture(params=KINDS)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wired]:
    async with wired(request.param, tmp_path) as made:
        yield made


async def echo(request: BytesValue, context: Any) -> BytesValue:
    return request


async def test_the_largest_message_passes_both_ways(harness: Wired) -> None:
    harness.shapes.unary = echo
    largest = said(bytes(LARGEST))
    assert largest.ByteSize() == MESSAGE_BYTES
    assert await harness.unary_unary(largest) == largest


async def test_a_larger_request_is_refused(harness: Wired) -> None:
    harness.shapes.unary = echo
    error = await failed(harness.unary_unary(said(bytes(LARGEST + 1))))
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    sizes = f"({MESSAGE_BYTES + 1} vs. {MESSAGE_BYTES})"
    assert error.details() == f"CLIENT: Sent message larger than max {sizes}"


async def test_a_larger_answer_is_refused(harness: Wired) -> None:
    async def large(request: BytesValue, context: Any) -> BytesValue:
        return said(bytes(LARGEST + 1))

    harness.shapes.unary = large
    error = await failed(harness.unary_unary(said()))
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "SERVER: Sent message larger than max" in (error.details() or "")


async def test_a_larger_message_ends_a_stream_of_responses(harness: Wired) -> None:
    async def grow(request: BytesValue, context: Any) -> AsyncIterator[BytesValue]:
        try:
            yield said("small")
            yield said(bytes(LARGEST + 1))
            harness.shapes.events.append("went on")
        finally:
            harness.shapes.events.append("ended")

    harness.shapes.responses = grow
    under_way = harness.unary_stream(said())
    assert await under_way.read() == said("small")
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await under_way.read()
    assert told.value.code() is StatusCode.RESOURCE_EXHAUSTED
    await until(lambda: harness.shapes.events == ["ended"])


@pytest.mark.parametrize("iterated", [True, False])
async def test_a_larger_message_ends_a_stream_of_requests(harness: Wired, iterated: bool) -> None:
    async def read(requests: AsyncIterator[BytesValue], context: Any) -> BytesValue:
        try:
            async for request in requests:
                harness.shapes.events.append(len(request.value))
            return said("read")
        finally:
            harness.shapes.events.append("ended")

    harness.shapes.requests = read
    if iterated:
        under_way = harness.stream_unary([said("a"), said(bytes(LARGEST + 1))])
    else:
        under_way = harness.stream_unary()
        await under_way.write(said("a"))
        await until(lambda: harness.shapes.events)
        with pytest.raises(grpc.aio.AioRpcError):
            await under_way.write(said(bytes(LARGEST + 1)))
    assert (await failed(under_way)).code() is StatusCode.RESOURCE_EXHAUSTED
    await until(lambda: "ended" in harness.shapes.events)


@pytest.mark.parametrize("kind", KINDS)
async def test_before_the_start_calls_fail_or_wait(kind: str, tmp_path: Path) -> None:
    async with wired(kind, tmp_path, start=False) as made:
        made.shapes.unary = echo
        assert (await failed(made.unary_unary(said()))).code() is StatusCode.UNAVAILABLE
        late = await failed(made.unary_unary(said(), wait_for_ready=True, timeout=0.3))
        assert late.code() is StatusCode.DEADLINE_EXCEEDED
        left = made.unary_unary(said("left"), wait_for_ready=True)
        waiting = made.unary_unary(said("a"), wait_for_ready=True)
        await asyncio.sleep(0)
        assert left.cancel()
        assert not waiting.done()
        await begin(made, tmp_path)
        assert await waiting == said("a")
        await asyncio.wait_for(made.channel.channel_ready(), 20)
        assert made.channel.get_state() is grpc.ChannelConnectivity.READY
        assert await made.unary_unary(said("b")) == said("b")


async def test_no_call_is_taken_while_and_after_it_stops(harness: Wired) -> None:
    go_on = asyncio.Event()

    async def wait(request: BytesValue, context: Any) -> BytesValue:
        harness.shapes.events.append("waits")
        await go_on.wait()
        return request

    harness.shapes.unary = wait
    under_way = asyncio.ensure_future(_awaited(harness.unary_unary(said("a"))))
    await until(lambda: harness.shapes.events)
    stopping = asyncio.create_task(harness.server.stop(20))
    await until(lambda: harness.channel.get_state() is not grpc.ChannelConnectivity.READY)
    assert (await failed(harness.unary_unary(said(), timeout=5))).code() is StatusCode.UNAVAILABLE
    go_on.set()
    assert await under_way == said("a")
    await stopping
    assert (await failed(harness.unary_unary(said(), timeout=5))).code() is StatusCode.UNAVAILABLE
    assert harness.shapes.events == ["waits"]


async def _awaited(call: Any) -> Any:
    return await call


@pytest.mark.parametrize("grace", [None, 0.3])
async def test_what_runs_longer_than_the_grace_is_cancelled(harness: Wired, grace: float | None) -> None:
    async def rest(request: BytesValue, context: Any) -> BytesValue:
        await harness.shapes.rest()
        return request

    async def stream(request: BytesValue, context: Any) -> AsyncIterator[BytesValue]:
        yield request
        await harness.shapes.rest()

    harness.shapes.unary, harness.shapes.responses = rest, stream
    under_way = asyncio.ensure_future(failed(harness.unary_unary(said())))
    streaming = harness.unary_stream(said("a"))
    assert await streaming.read() == said("a")
    await until(lambda: harness.shapes.events == ["rests"] * 2)
    began = asyncio.get_running_loop().time()
    await harness.server.stop(grace)
    assert asyncio.get_running_loop().time() - began >= (grace or 0)
    error = await under_way
    assert (error.code(), error.details()) == (StatusCode.UNAVAILABLE, "Cancelling all calls")
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await streaming.read()
    assert told.value.code() is StatusCode.UNAVAILABLE
    await until(lambda: harness.shapes.events.count("ended") == 2)


async def test_calls_of_a_channel_that_is_closed_are_cancelled(harness: Wired) -> None:
    async def rest(request: BytesValue, context: Any) -> BytesValue:
        await harness.shapes.rest()
        return request

    harness.shapes.unary = rest
    under_way = asyncio.ensure_future(_awaited(harness.unary_unary(said())))
    await until(lambda: harness.shapes.events)
    await harness.channel.close()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    await until(lambda: harness.shapes.events == ["rests", "ended"])
    with pytest.raises(grpc.aio.UsageError):
        await harness.unary_unary(said())
    assert harness.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_a_channel_that_closes_gives_its_calls_grace(harness: Wired) -> None:
    go_on = asyncio.Event()

    async def wait(request: BytesValue, context: Any) -> BytesValue:
        harness.shapes.events.append("waits")
        await go_on.wait()
        return request

    harness.shapes.unary = wait
    under_way = asyncio.ensure_future(_awaited(harness.unary_unary(said("a"))))
    await until(lambda: harness.shapes.events)
    closing = asyncio.create_task(harness.channel.close(20))
    await asyncio.sleep(0)
    go_on.set()
    assert await under_way == said("a")
    await closing


async def test_callbacks_of_both_ends_are_called_once_when_the_call_is_done(harness: Wired) -> None:
    events = harness.shapes.events

    async def tell(request: BytesValue, context: Any) -> BytesValue:
        context.add_done_callback(lambda done: events.append(("handler", done is context, done.done())))
        return request

    harness.shapes.unary = tell
    under_way = harness.unary_unary(said("a"))
    under_way.add_done_callback(lambda done: events.append(("caller", done is under_way, done.done())))
    await under_way
    under_way.add_done_callback(lambda done: events.append("late"))
    await until(lambda: len(events) == 3)
    assert {*events} == {("handler", True, True), ("caller", True, True), "late"}


async def test_a_call_tells_when_its_handler_has_it(harness: Wired) -> None:
    harness.shapes.unary = echo
    under_way = harness.unary_unary(said("a"))
    await under_way.wait_for_connection()
    assert await under_way == said("a")
    assert await values(harness.named("Written", said("a"), stream=True)) == [b"1a", b"2a"]


WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_handler_has_the_context_of_the_start_and_keeps_nothing(kind: str, tmp_path: Path) -> None:
    found: list[str] = []

    async def tell(request: BytesValue, context: Any) -> BytesValue:
        found.append(WHO.get())
        WHO.set("the handler")
        return request

    token = WHO.set("who started")
    try:
        async with wired(kind, tmp_path) as made:
            made.shapes.unary = tell
            WHO.set("who calls")
            await made.unary_unary(said(), wait_for_ready=True)
            await made.unary_unary(said())
            assert WHO.get() == "who calls"
    finally:
        WHO.reset(token)
    assert found == ["who started", "who started"]
