"""Calls to other services: where each one is reached, and the client's end of a call."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc

from mesh.problems import Invalid
from mesh.rpc.errors import problem_of
from mesh.rpc.protocol import AS_ITSELF, CALLER_ID, CALLER_NAME, CALLER_PERMISSIONS, CHANNEL_OPTIONS, Metadata
from mesh.security import current_caller
from mesh.telemetry.spans import call_span
from mesh.telemetry.trace_context import outgoing_headers

Response = TypeVar("Response")


class Channels:
    """The way to each service: within this process where it is here, else to its peer address."""

    def __init__(
        self,
        local: Mapping[str, grpc.aio.Channel],
        peers: Mapping[str, str],
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """By service: `local` its channel, `peers` its target. `credentials` for peers (mutual TLS)."""
        self._local, self._peers, self._credentials = local, peers, credentials
        self._open: dict[str, grpc.aio.Channel] = {}

    def to(self, service: str) -> grpc.aio.Channel:
        """Raises Invalid NO_PEER where the settings do not say where the service runs."""
        if service in self._local:
            return self._local[service]
        target = self._peers.get(service)
        if not target:
            raise Invalid(f"LARES_PEERS must say where {service} runs: {service}=host:port", "NO_PEER")
        if target not in self._open:
            self._open[target] = (
                grpc.aio.secure_channel(target, self._credentials, options=CHANNEL_OPTIONS)
                if self._credentials
                else grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
            )
        return self._open[target]

    async def close(self) -> None:
        for channel in {*self._local.values(), *self._open.values()}:
            await channel.close(grace=1.0)


async def call(
    method: Callable[..., Awaitable[Response]],
    request: object,
    *,
    timeout: float = 10.0,
    wait: bool = False,
    headers: Metadata | None = None,
) -> Response:
    """One unary call, with a deadline in seconds; raises the far side's Problem. `wait`: until the deadline
    for a server that is not up yet. `headers`: what a client sends. Without them it is a call to a sibling,
    and raises NoCaller where nobody has said for whom the task works."""
    with call_span(request):
        sent = metadata() if headers is None else headers
        try:
            return await method(request, timeout=timeout, metadata=sent, wait_for_ready=wait)
        except grpc.aio.AioRpcError as error:
            raise problem_of(error) from None


async def stream(
    method: Callable[..., Any],
    request: object,
    *,
    timeout: float | None = None,
    headers: Metadata | None = None,
) -> AsyncIterator[Any]:
    """The answers of one server-streaming call; raises the far side's Problem, cancels when left. `headers`
    as in `call`."""
    under_way = method(request, timeout=timeout, metadata=metadata() if headers is None else headers)
    try:
        async for response in under_way:
            yield response
    except grpc.aio.AioRpcError as error:
        raise problem_of(error) from None
    finally:
        under_way.cancel()


def metadata() -> Metadata:
    """What goes with every call to a sibling: the request's ids, and either the end caller or the word that
    the call is this service's own. Raises NoCaller."""
    who = current_caller()
    if who.kind == "sibling":
        return (*outgoing_headers().items(), (AS_ITSELF, "1"))
    permissions = ",".join(str(permission) for permission in sorted(who.permissions))
    return (
        *outgoing_headers().items(),
        (CALLER_ID, who.id),
        (CALLER_NAME, who.name.encode()),
        (CALLER_PERMISSIONS, permissions),
    )
