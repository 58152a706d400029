"""Calls to other services: where each one is reached, and the client's end of a call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

from mesh.problems import Invalid, Unavailable
from mesh.rpc.errors import problem_of
from mesh.rpc.protocol import (
    AS_ITSELF,
    CALLER_CAMERA,
    CALLER_ID,
    CALLER_NAME,
    CALLER_PERMISSIONS,
    CHANNEL_OPTIONS,
    Metadata,
)
from mesh.rpc.renewed_channel import Credentials, RenewedChannel
from mesh.rpc.service_config import service_config
from mesh.rpc.targets import addresses_of
from mesh.security import current_caller
from mesh.telemetry.spans import call_span
from mesh.telemetry.trace_context import outgoing_headers

Response = TypeVar("Response")

NAME_IN_CERTIFICATE = "grpc.ssl_target_name_override"
# For the addresses behind a name. The system's resolver waits for a name server for longer.
LOOK_UP_SECONDS = 1.0
# How long the calls to a replica that is gone may still take: it may be about to end, and answer.
GONE_SECONDS = 10.0


class Channels:
    """The channel to each service: within this process if there is one, else to its address."""

    def __init__(
        self,
        local: Mapping[str, grpc.aio.Channel],
        peers: Mapping[str, str],
        credentials: Credentials | None = None,
    ) -> None:
        """`local` holds the channels of services in this process, and `peers` the gRPC targets of others, by
        the names of SIBLINGS, which are connected to with what `credentials` returns then (mutual TLS);
        without, there is no TLS."""
        self._local, self._peers, self._credentials = local, peers, credentials
        self._open: dict[str, grpc.aio.Channel] = {}
        # Of single replicas, by service and target.
        self._replicas: dict[str, dict[str, grpc.aio.Channel]] = {}
        # The latest look-up for each service.
        self._look_ups: dict[str, asyncio.Task[dict[str, str]]] = {}
        self._closing = set[asyncio.Task[None]]()

    def to(self, service: str) -> grpc.aio.Channel:
        """The channel to a service. Raises Invalid NO_PEER if the settings have no address of it."""
        if service in self._local:
            return self._local[service]
        if service not in self._open:
            target = self._target(service)
            options = [*CHANNEL_OPTIONS, ("grpc.service_config", service_config(service))]
            if "," in target:  # gRPC looks for one name in the certificates of all these addresses
                options.append((NAME_IN_CERTIFICATE, f"lares-{service}"))
            self._open[service] = self._channel(target, options)
        return self._open[service]

    def _target(self, service: str) -> str:
        target = self._peers.get(service)
        if not target:
            raise Invalid(
                f"LARES_PEERS must contain the address of {service}: {service}=host:port", "NO_PEER"
            )
        return target

    async def replicas(self, service: str) -> list[grpc.aio.Channel]:
        """A channel to each replica of a service, as its name says now or said last, to be used at once:
        those of others are closed, when the calls on them have ended. Raises Invalid NO_PEER."""
        if service in self._local:
            return [self._local[service]]
        target_of_all = self._target(service)
        found = await self._look_up(service, target_of_all)
        known = self._replicas.setdefault(service, {})
        if known and target_of_all in found:  # it cannot be divided, or its name cannot be looked up now
            return list(known.values())
        for target, name in found.items():
            if target not in known:
                options: list[tuple[str, Any]] = [*CHANNEL_OPTIONS]
                if name or len(found) > 1:
                    options.append((NAME_IN_CERTIFICATE, name or f"lares-{service}"))
                known[target] = self._channel(target, options)
        for target in known.keys() - found.keys():
            closing = asyncio.create_task(known.pop(target).close(GONE_SECONDS), name="closing channel")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        return [known[target] for target in found]

    async def _look_up(self, service: str, target: str) -> dict[str, str]:
        """Like `addresses_of`. While a name server does not answer, one thread waits for it, however many
        callers come."""
        look_up = self._look_ups.get(service)
        if look_up is None or look_up.done():
            self._look_ups[service] = look_up = asyncio.create_task(addresses_of(target))
        answered, _ = await asyncio.wait([look_up], timeout=LOOK_UP_SECONDS)
        return look_up.result() if answered else {target: ""}

    def _channel(self, target: str, options: list[tuple[str, Any]]) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=options)
        return RenewedChannel(
            self._credentials, lambda now: grpc.aio.secure_channel(target, now, options=options)
        )

    async def close(self) -> None:
        for task in (*self._look_ups.values(), *self._closing):
            task.cancel()
        single = (channel for known in self._replicas.values() for channel in known.values())
        for channel in {*self._local.values(), *self._open.values(), *single}:
            await channel.close(grace=1.0)


async def call(
    method: Callable[..., Awaitable[Response]],
    request: object,
    *,
    timeout: float = 10.0,
    wait: bool = False,
    headers: Metadata | None = None,
) -> Response:
    """Makes a unary call with a deadline of `timeout` seconds, and raises the Problem that the server raised.

    With `wait` it waits until the deadline for a server that is not reachable yet. `headers` are those of a
    client. Without them the call is one between siblings, and raises NoCaller if the task has no caller.
    """
    with call_span(request):
        sent = metadata() if headers is None else headers
        with _problems():
            return await method(request, timeout=timeout, metadata=sent, wait_for_ready=wait)


async def stream(
    method: Callable[..., Any],
    request: object,
    *,
    timeout: float | None = None,
    headers: Metadata | None = None,
) -> AsyncIterator[Any]:
    """Yields the responses of a server-streaming call, and raises the Problem that the server raised.

    The call is cancelled when the iterator is closed. `headers` are as in `call`.
    """
    streaming = method(request, timeout=timeout, metadata=metadata() if headers is None else headers)
    try:
        with _problems():
            async for response in streaming:
                yield response
    finally:
        streaming.cancel()


@contextmanager
def _problems() -> Iterator[None]:
    """Raises the errors of a call as Problems. When its channel is closed, grpc.aio raises CancelledError, as
    if the task had been cancelled: that would end loops without a word."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise problem_of(error) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable("the channel of this call was closed", "CANCELLED") from None


def metadata() -> Metadata:
    """The headers of a call to a sibling: the ids of the request, and either its end caller or the statement
    that the service calls as itself. Raises NoCaller."""
    caller = current_caller()
    if caller.kind == "sibling":
        return (*outgoing_headers().items(), (AS_ITSELF, "1"))
    permissions = ",".join(str(permission) for permission in sorted(caller.permissions))
    camera = ((CALLER_CAMERA, caller.camera_id),) if caller.camera_id else ()
    return (
        *outgoing_headers().items(),
        (CALLER_ID, caller.id),
        (CALLER_NAME, caller.name.encode()),
        (CALLER_PERMISSIONS, permissions),
        *camera,
    )
