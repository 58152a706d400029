"""What the channel inside the process does beyond one to a socket; the rest is in tests/contract."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.wrappers_pb2 import BytesValue
from grpc import StatusCode

from mesh.rpc.in_process_call import WAITING_BYTES, WAITING_MESSAGES
from tests.support.channels import Wired, begin, failed, said, wired
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Wired]:
    async with wired("local", tmp_path) as made:
        yield made


async def test_nothing_is_left_of_a_server_that_has_stopped(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with wired("local", tmp_path, start=False) as made:
        never = asyncio.Event()

        async def rest(request: BytesValue, context: Any) -> BytesValue:
            await never.wait()
            return request

        async def endless(request: Any, context: Any) -> AsyncIterator[BytesValue]:
            while True:
                yield said("a")

        async def requests() -> AsyncIterator[BytesValue]:
            while True:
                yield said("a")

        async def hold(requests: Any, context: Any) -> BytesValue:
            await never.wait()
            return said()

        waiting = made.unary_unary(said(), wait_for_ready=True)
        assert asyncio.all_tasks() == before
        await begin(made, tmp_path)
        made.shapes.unary, made.shapes.responses = rest, endless
        made.shapes.requests, made.shapes.both = hold, endless
        calls = [
            waiting,
            made.unary_unary(said()),
            made.unary_stream(said()),
            made.stream_unary(requests()),
            made.stream_stream(requests()),
            made.stream_stream(),
        ]
        await until(lambda: len(asyncio.all_tasks() - before) == 8)
        await made.server.stop(0.05)
        assert asyncio.all_tasks() == before
        assert {await call.code() for call in calls} == {StatusCode.UNAVAILABLE}


async def test_a_stream_that_is_dropped_ends_its_handler(harness: Wired) -> None:
    async def stream(request: BytesValue, context: Any) -> AsyncIterator[BytesValue]:
        yield request
        await harness.shapes.rest()

    async def both(requests: AsyncIterator[BytesValue], context: Any) -> AsyncIterator[BytesValue]:
        yield said("a")
        await harness.shapes.rest()

    async def endless() -> AsyncIterator[BytesValue]:
        while True:
            yield said("a")

    harness.shapes.responses, harness.shapes.both = stream, both
    makes: tuple[Callable[[], Any], ...] = (
        lambda: harness.unary_stream(said("a")),
        lambda: harness.stream_stream(endless()),
    )
    for make in makes:
        harness.shapes.events.clear()
        async for response in make():
            assert response == said("a")
            await until(lambda: harness.shapes.events == ["rests"])
            break
        await until(lambda: harness.shapes.events == ["rests", "ended"], seconds=10)


async def test_a_stream_may_be_dropped_by_another_thread(harness: Wired) -> None:
    async def rest(request: BytesValue, context: Any) -> AsyncIterator[BytesValue]:
        await harness.shapes.rest()
        yield request

    harness.shapes.responses = rest
    held: list[Any] = [harness.unary_stream(said())]
    held.append(held)  # a cycle, which only a collection finds
    await until(lambda: harness.shapes.events == ["rests"])
    loop = asyncio.get_running_loop()
    before = loop.get_debug()
    loop.set_debug(True)  # which refuses what another thread may not do
    gc.disable()
    try:
        del held
        await asyncio.to_thread(gc.collect)
    finally:
        gc.enable()
        loop.set_debug(before)
    await until(lambda: harness.shapes.events == ["rests", "ended"], seconds=10)


async def test_requests_that_are_cut_off_never_look_complete(harness: Wired) -> None:
    async def read(requests: AsyncIterator[BytesValue], context: Any) -> BytesValue:
        try:
            async for _ in requests:
                harness.shapes.events.append("got one")
        except asyncio.CancelledError:
            # A handler that goes on all the same.
            with pytest.raises(grpc.aio.UsageError):
                await anext(requests)
            with pytest.raises(grpc.aio.UsageError):
                await context.write(said("a"))
            harness.shapes.events.append("cut off")
            raise
        harness.shapes.events.append("complete")
        return said()

    harness.shapes.requests = read
    under_way = harness.stream_unary()
    await under_way.write(said("a"))
    await until(lambda: harness.shapes.events)
    under_way.cancel()
    await until(lambda: harness.shapes.events == ["got one", "cut off"])


async def test_only_a_bounded_amount_waits(harness: Wired) -> None:
    produced = 0

    async def produce(request: BytesValue, context: Any) -> AsyncIterator[BytesValue]:
        nonlocal produced
        while True:
            produced += 1
            yield said(bytes(int(request.value)))

    harness.shapes.responses = produce
    for size, most in ((1, WAITING_MESSAGES), (WAITING_BYTES // 4, 4), (2 * WAITING_BYTES, 1)):
        produced = 0
        under_way = harness.unary_stream(said(str(size)))
        for _ in range(20):
            await asyncio.sleep(0)
        # One more waits for room.
        assert produced == most + 1
        await under_way.read()
        under_way.cancel()


async def test_no_call_waits_for_a_server_that_has_stopped(tmp_path: Path) -> None:
    async with wired("local", tmp_path, start=False) as made:
        waiting = made.unary_unary(said(), wait_for_ready=True)
        await made.server.stop(None)
        assert (await failed(waiting)).code() is StatusCode.UNAVAILABLE
        late = await failed(made.unary_unary(said(), wait_for_ready=True))
        assert (late.code(), late.details()) == (StatusCode.UNAVAILABLE, "the server has stopped")
        assert not await made.server.wait_for_termination(1)
        with pytest.raises(grpc.aio.UsageError):
            await made.server.start()


async def test_a_handler_that_was_never_run_is_a_status_too(harness: Wired) -> None:
    under_way = harness.unary_unary(said())
    await harness.server.stop(None)
    assert (await failed(under_way)).code() is StatusCode.UNAVAILABLE


async def test_a_handler_that_cleans_up_is_waited_for_and_left_in_peace(harness: Wired) -> None:
    async def tidy(request: BytesValue, context: Any) -> BytesValue:
        try:
            await harness.shapes.rest()
        finally:
            await asyncio.sleep(0.2)
            harness.shapes.events.append("tidied")
        return request

    harness.shapes.unary = tidy
    under_way = harness.unary_unary(said())
    await until(lambda: harness.shapes.events)
    under_way.cancel()
    await asyncio.sleep(0)
    await harness.server.stop(None)
    assert harness.shapes.events == ["rests", "ended", "tidied"]


async def test_a_handler_that_does_not_end_is_not_waited_for_for_ever(
    harness: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.rpc.in_process_server.CLEAN_UP_SECONDS", 0.1)
    released = asyncio.Event()

    async def stubborn(request: BytesValue, context: Any) -> BytesValue:
        try:
            await harness.shapes.rest()
        finally:
            await released.wait()
        return request

    harness.shapes.unary = stubborn
    under_way = harness.unary_unary(said())
    await until(lambda: harness.shapes.events)
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(30):
            await harness.server.stop(None)
    assert [(line["event"], line["log_level"]) for line in logs] == [("gRPC handler has not ended", "error")]
    assert (await failed(under_way)).code() is StatusCode.UNAVAILABLE
    released.set()
    assert not await harness.server.wait_for_termination(30)


async def test_whoever_waits_for_the_servers_end(harness: Wired) -> None:
    assert await harness.server.wait_for_termination(0.05)
    waiting = asyncio.create_task(harness.server.wait_for_termination())
    await asyncio.sleep(0)
    await harness.server.stop(None)
    assert not await waiting


async def test_it_has_no_port(harness: Wired) -> None:
    with pytest.raises(grpc.aio.UsageError):
        harness.server.add_insecure_port("127.0.0.1:0")
    with pytest.raises(grpc.aio.UsageError):
        harness.server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
