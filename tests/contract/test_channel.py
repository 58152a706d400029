"""What every channel to a service does, over a socket and inside the process: statuses, metadata, deadlines,
bounds, start and stop. Streams: test_channel_streams.py."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc_status import rpc_status

from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.problems import Conflict, Invalid
from mesh.rpc import DETAILS, call, status_of
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door
from tests.support.channels import KINDS, Wired, begin, failed, said, values, wired
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(60)

HEADERS = (("x-plain", "a"), ("x-plain", "b"), ("x-raw-bin", b"\x00\xff"), ("x-bytes", b"c"))


@pytest.fixture(params=KINDS)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wired]:
    async with wired(request.param, tmp_path) as made:
        yield made


async def echo(request: BytesValue, context: Any) -> BytesValue:
    return request


async def test_a_message_arrives_and_no_object_is_shared(harness: Wired) -> None:
    seen: list[BytesValue] = []

    async def keep(request: BytesValue, context: Any) -> BytesValue:
        seen.append(request)
        request.value += b"!"
        seen.append(answer := said(b"answer"))
        return answer

    harness.shapes.unary = keep
    sent = said("hällo")
    answer = await harness.unary_unary(sent)
    assert seen[0].value == "hällo!".encode()
    assert sent.value == "hällo".encode()
    assert answer == seen[1]
    assert answer is not seen[1]


async def test_an_empty_message_is_a_message(harness: Wired) -> None:
    harness.shapes.unary = echo
    assert await harness.unary_unary(said()) == said()


async def test_an_answer_can_be_awaited_again(harness: Wired) -> None:
    harness.shapes.unary = echo
    under_way = harness.unary_unary(said("a"))
    assert await under_way == await under_way
    assert await under_way.code() is StatusCode.OK
    assert await under_way.details() == ""
    assert under_way.done()
    assert not under_way.cancelled()
    assert not under_way.cancel()


@pytest.mark.usefixtures("calling_as_itself")
@pytest.mark.parametrize("kind", KINDS)
async def test_generated_servicers_and_problems_pass_the_boundary(kind: str, tmp_path: Path) -> None:
    class Keys(keys_rpc.KeyServiceServicer):
        async def RevokeKey(self, request: keys.RevokeKeyRequest, context: Any) -> keys.RevokeKeyResponse:
            raise Conflict("it is gone alreädy", "GONE", key=request.key_id)

    async with wired(kind, tmp_path, [CallInterceptor(Door.SIBLINGS)], start=False) as made:
        keys_rpc.add_KeyServiceServicer_to_server(Keys(), made.server)  # type: ignore[abstract]
        await begin(made, tmp_path)
        stub = keys_rpc.KeyServiceStub(made.channel)
        known = "6f0f5a55-3f0e-5c61-9a52-7d1c6a9a0b11"
        with pytest.raises(Conflict, match="alreädy") as told:
            await call(stub.RevokeKey, keys.RevokeKeyRequest(key_id=known), wait=True)
        assert (told.value.reason, told.value.metadata) == ("GONE", {"key": known})
        with pytest.raises(Invalid, match="key_id"):
            await call(stub.RevokeKey, keys.RevokeKeyRequest(key_id="no id"))


class Noting(grpc.aio.ServerInterceptor):
    def __init__(self, name: str, calls: list[tuple[str, str, object]]) -> None:
        self._name, self._calls = name, calls

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        headers = {entry.key: entry.value for entry in handler_call_details.invocation_metadata}
        self._calls.append((self._name, handler_call_details.method, headers["x-who"]))
        if headers["x-who"] == "nobody" and self._name == "inner":
            return None
        return await continuation(handler_call_details)


@pytest.mark.parametrize("kind", KINDS)
async def test_interceptors_run_in_order_for_each_call_and_may_refuse(kind: str, tmp_path: Path) -> None:
    calls: list[tuple[str, str, object]] = []
    async with wired(kind, tmp_path, [Noting("outer", calls), Noting("inner", calls)]) as made:
        made.shapes.unary = echo
        await made.unary_unary(said(), metadata=(("x-who", "me"),), wait_for_ready=True)
        refused = await failed(made.unary_unary(said(), metadata=(("x-who", "nobody"),)))
    method = "/test.Shapes/UnaryUnary"
    assert calls == [(name, method, who) for who in ("me", "nobody") for name in ("outer", "inner")]
    assert refused.code() is StatusCode.UNIMPLEMENTED


async def test_abort(harness: Wired) -> None:
    async def refuse(request: BytesValue, context: Any) -> BytesValue:
        await context.send_initial_metadata((("x-first", "1"),))
        await context.abort(StatusCode.ABORTED, "nö", (("x-why", "so"), ("x-raw-bin", b"\x00\xff")))
        raise AssertionError("abort returned")

    harness.shapes.unary = refuse
    under_way = harness.unary_unary(said())
    error = await failed(under_way)
    assert (error.code(), error.details()) == (StatusCode.ABORTED, "nö")
    assert tuple(error.initial_metadata()) == (("x-first", "1"),)
    assert tuple(error.trailing_metadata()) == (("x-why", "so"), ("x-raw-bin", b"\x00\xff"))
    assert await under_way.code() is StatusCode.ABORTED
    assert await under_way.details() == "nö"
    assert tuple(await under_way.trailing_metadata()) == tuple(error.trailing_metadata())
    assert (await failed(under_way)).code() is StatusCode.ABORTED


async def test_an_abort_that_the_handler_swallows_is_one(harness: Wired) -> None:
    async def swallow(request: BytesValue, context: Any) -> BytesValue:
        with suppress(grpc.aio.AbortError):
            await context.abort(StatusCode.ABORTED, "no")
        return request

    harness.shapes.unary = swallow
    assert (await failed(harness.unary_unary(said()))).code() is StatusCode.ABORTED


async def test_abort_with_status_carries_details(harness: Wired) -> None:
    status = status_of(Conflict("gone", "GONE"))

    async def refuse(request: BytesValue, context: Any) -> BytesValue:
        await context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort returned")

    harness.shapes.unary = refuse
    error = await failed(harness.unary_unary(said()))
    assert error.code().value[0] == status.code
    assert Status.FromString(dict(error.trailing_metadata())[DETAILS]) == status


async def test_a_status_that_was_set_goes_before_the_answer(harness: Wired) -> None:
    async def settle(request: BytesValue, context: Any) -> BytesValue:
        context.set_code(StatusCode.NOT_FOUND)
        context.set_details("nowhere")
        context.set_trailing_metadata((("x-why", "so"),))
        assert (context.code(), context.details()) == (StatusCode.NOT_FOUND, "nowhere")
        assert tuple(context.trailing_metadata()) == (("x-why", "so"),)
        return request

    harness.shapes.unary = settle
    error = await failed(harness.unary_unary(said()))
    assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "nowhere")
    assert tuple(error.trailing_metadata()) == (("x-why", "so"),)


@pytest.mark.parametrize("code", [None, StatusCode.DATA_LOSS])
async def test_an_exception_is_a_status(harness: Wired, code: StatusCode | None) -> None:
    async def fail(request: BytesValue, context: Any) -> BytesValue:
        if code:
            context.set_code(code)
        context.set_trailing_metadata((("x-why", "so"),))
        raise ValueError("a büg")

    harness.shapes.unary = fail
    error = await failed(harness.unary_unary(said()))
    assert error.code() is (code or StatusCode.UNKNOWN)
    assert error.details() == "Unexpected <class 'ValueError'>: a büg"
    assert tuple(error.trailing_metadata()) == (("x-why", "so"),)


async def test_an_answer_of_the_wrong_type_is_a_status(harness: Wired) -> None:
    async def nothing(request: BytesValue, context: Any) -> None:
        return None

    harness.shapes.unary = nothing
    assert (await failed(harness.unary_unary(said()))).code() is StatusCode.UNKNOWN


async def test_bytes_that_are_no_message_are_a_status(harness: Wired) -> None:
    method: Any = harness.channel.unary_unary("/test.Shapes/UnaryUnary", None, BytesValue.FromString)
    assert (await failed(method(b"\xff\xff"))).code() is StatusCode.UNKNOWN


async def test_without_serializers_bytes_go_and_come(harness: Wired) -> None:
    harness.shapes.unary = echo
    method: Any = harness.channel.unary_unary("/test.Shapes/UnaryUnary")
    assert await method(said("a").SerializeToString()) == said("a").SerializeToString()


async def test_an_unknown_method(harness: Wired) -> None:
    error = await failed(harness.named("Nothing", said()))
    assert (error.code(), error.details()) == (StatusCode.UNIMPLEMENTED, "Method not found!")
    assert (await failed(harness.named("Nothing", said(), stream=True))).code() is StatusCode.UNIMPLEMENTED


async def test_metadata_arrives_in_order(harness: Wired) -> None:
    async def tell(request: BytesValue, context: Any) -> BytesValue:
        mine = [(e.key, e.value) for e in context.invocation_metadata() if e.key.startswith("x-")]
        harness.shapes.events.extend(mine)
        return request

    harness.shapes.unary = tell
    await harness.unary_unary(said(), metadata=HEADERS)
    await harness.unary_unary(said(), metadata=grpc.aio.Metadata(("x-other", " spaces , ")))
    assert harness.shapes.events == [*HEADERS[:3], ("x-bytes", "c"), ("x-other", " spaces , ")]


@pytest.mark.parametrize(
    "entry", [("Upper", "a"), ("x y", "a"), ("", "a"), (":x", "a"), ("x", "ü"), ("x", "a\nb"), ("x", b"\xff")]
)
async def test_metadata_that_cannot_be_sent(harness: Wired, entry: tuple[str, str]) -> None:
    harness.shapes.unary = echo
    with pytest.raises(grpc.aio.InternalError):
        await harness.unary_unary(said(), metadata=(entry,))


@pytest.mark.parametrize("entry", [("x-bin", "text"), ("x", 1)])
async def test_metadata_of_the_wrong_type(harness: Wired, entry: tuple[str, Any]) -> None:
    harness.shapes.unary = echo
    with pytest.raises(TypeError):
        await harness.unary_unary(said(), metadata=(entry,))


@pytest.mark.parametrize("aborts", [True, False])
async def test_trailing_metadata_that_cannot_be_sent(harness: Wired, aborts: bool) -> None:
    async def tell(request: BytesValue, context: Any) -> BytesValue:
        if aborts:
            await context.abort(StatusCode.ABORTED, "no", (("Upper", "a"),))
        context.set_trailing_metadata((("Upper", "a"),))
        return request

    harness.shapes.unary = tell
    error = await failed(harness.unary_unary(said()))
    assert (error.code(), error.details()) == (StatusCode.INTERNAL, "Invalid metadata")


async def test_initial_metadata_comes_before_the_first_response_and_once(harness: Wired) -> None:
    go_on = asyncio.Event()

    async def tell(request: BytesValue, context: Any) -> AsyncIterator[BytesValue]:
        await context.send_initial_metadata((("x-first", "1"),))
        await go_on.wait()
        with pytest.raises(grpc.aio.UsageError):
            await context.send_initial_metadata((("x-first", "2"),))
        yield request

    async def answer(request: BytesValue, context: Any) -> BytesValue:
        await context.send_initial_metadata((("x-first", "1"),))
        return request

    harness.shapes.responses, harness.shapes.unary = tell, answer
    under_way = harness.unary_stream(said("a"))
    assert tuple(await under_way.initial_metadata()) == (("x-first", "1"),)
    go_on.set()
    assert await values(under_way) == [b"a"]
    under_way = harness.unary_unary(said("a"))
    assert await under_way == said("a")
    assert tuple(await under_way.initial_metadata()) == (("x-first", "1"),)
    assert tuple(await under_way.trailing_metadata()) == ()


async def test_a_deadline_is_known_and_ends_both_sides(harness: Wired) -> None:
    async def rest(request: BytesValue, context: Any) -> BytesValue:
        harness.shapes.events.append(0 < context.time_remaining() <= 0.5)
        await harness.shapes.rest()
        return request

    harness.shapes.unary = rest
    under_way = harness.unary_unary(said(), timeout=0.5)
    assert 0 < under_way.time_remaining() <= 0.5
    error = await failed(under_way)
    assert (error.code(), error.details()) == (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    await until(lambda: harness.shapes.events == [True, "rests", "ended"])
    assert not under_way.cancelled()


async def test_a_deadline_that_has_passed(harness: Wired) -> None:
    async def rest(request: BytesValue, context: Any) -> BytesValue:
        await harness.shapes.rest()
        return request

    harness.shapes.unary = rest
    for timeout in (0, -1):
        error = await failed(harness.unary_unary(said(), timeout=timeout))
        assert error.code() is StatusCode.DEADLINE_EXCEEDED


async def test_no_deadline(harness: Wired) -> None:
    async def tell(request: BytesValue, context: Any) -> BytesValue:
        assert context.time_remaining() is None
        return request

    harness.shapes.unary = tell
    under_way = harness.unary_unary(said("a"))
    assert under_way.time_remaining() is None
    assert await under_way == said("a")


async def test_a_caller_that_is_cancelled_ends_the_handler(harness: Wired) -> None:
    async def rest(request: BytesValue, context: Any) -> BytesValue:
        await harness.shapes.rest()
        return request

    async def ask() -> None:
        await harness.unary_unary(said())

    harness.shapes.unary = rest
    asking = asyncio.create_task(ask())
    await until(lambda: harness.shapes.events)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: harness.shapes.events == ["rests", "ended"])


async def test_a_call_that_its_caller_cancels(harness: Wired) -> None:
    async def rest(request: BytesValue, context: Any) -> BytesValue:
        await harness.shapes.rest()
        return request

    harness.shapes.unary = rest
    under_way = harness.unary_unary(said())
    await until(lambda: harness.shapes.events)
    assert under_way.cancel()
    assert not under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert under_way.cancelled()
    assert await under_way.code() is StatusCode.CANCELLED
    assert await under_way.details() == "Locally cancelled by application!"
    await until(lambda: harness.shapes.events == ["rests", "ended"])


async def test_whoever_asks_for_the_code_may_be_cancelled_without_the_call(harness: Wired) -> None:
    go_on = asyncio.Event()

    async def wait(request: BytesValue, context: Any) -> BytesValue:
        await go_on.wait()
        return request

    harness.shapes.unary = wait
    under_way = harness.unary_unary(said("a"))
    asking = asyncio.create_task(under_way.code())
    await asyncio.sleep(0)
    asking.cancel()
    go_on.set()
    assert await under_way == said("a")


async def test_a_handler_that_is_cancelled_is_a_status_for_its_caller(harness: Wired) -> None:
    async def end(request: BytesValue, context: Any) -> BytesValue:
        task = asyncio.current_task()
        assert task
        task.cancel()
        await harness.shapes.rest()
        return request

    harness.shapes.unary = end
    error = await failed(harness.unary_unary(said(), timeout=1))
    # A socket leaves the caller without an answer.
    assert error.code() is (StatusCode.CANCELLED if harness.local else StatusCode.DEADLINE_EXCEEDED)
    task = asyncio.current_task()
    assert task
    assert not task.cancelling()
