"""A channel over a socket that is opened again when the certificates of this process are renewed."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

# Longer than any call between siblings may take.
DRAIN_SECONDS = 600.0

Credentials = Callable[[], grpc.ChannelCredentials]


class RenewedChannel(grpc.aio.Channel):
    """Stubs can keep it. A call is made on the channel of now; one that has begun ends where it began."""

    def __init__(
        self, credentials: Credentials, open_channel: Callable[[grpc.ChannelCredentials], grpc.aio.Channel]
    ) -> None:
        """`credentials` returns another object once they are renewed."""
        self._credentials, self._open_channel = credentials, open_channel
        self._used = credentials()
        self._channel = open_channel(self._used)
        self._draining = set[asyncio.Task[None]]()

    def current(self) -> grpc.aio.Channel:
        credentials = self._credentials()
        if credentials is not self._used:
            old, self._used, self._channel = self._channel, credentials, self._open_channel(credentials)
            draining = asyncio.create_task(old.close(DRAIN_SECONDS), name="draining channel")
            self._draining.add(draining)
            draining.add_done_callback(self._draining.discard)
        return self._channel

    def unary_unary(self, *path: Any, **named: Any) -> Any:
        return _Method(self, "unary_unary", path, named)

    def unary_stream(self, *path: Any, **named: Any) -> Any:
        return _Method(self, "unary_stream", path, named)

    def stream_unary(self, *path: Any, **named: Any) -> Any:
        return _Method(self, "stream_unary", path, named)

    def stream_stream(self, *path: Any, **named: Any) -> Any:
        return _Method(self, "stream_stream", path, named)

    async def close(self, grace: float | None = None) -> None:
        draining = list(self._draining)
        for task in draining:
            task.cancel()
        await asyncio.gather(self._channel.close(grace), *draining, return_exceptions=True)

    async def __aenter__(self) -> "RenewedChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current().channel_ready()


class _Method:
    """A method of a stub: what `unary_unary` and the like return."""

    def __init__(
        self, owner: RenewedChannel, kind: str, path: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        self._owner, self._kind, self._path, self._named = owner, kind, path, named
        self._channel: grpc.aio.Channel | None = None
        self._method: Any = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        channel = self._owner.current()
        if channel is not self._channel:
            self._channel, self._method = channel, getattr(channel, self._kind)(*self._path, **self._named)
        return self._method(*arguments, **named)
