"""Lets pytest-grpc, which is synchronous, serve async servicers: grpc.aio runs on a thread of its own."""

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from threading import Thread
from typing import Any, TypeVar

import grpc

T = TypeVar("T")

SECONDS = 90.0


class LoopThread:
    """Runs coroutines for synchronous tests, and keeps context managers open until the block ends."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._stack = AsyncExitStack()

    def __enter__(self) -> "LoopThread":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        return self.run(self._stack.enter_async_context(manager))


class SyncGrpcServer:
    """A grpc.aio server with the synchronous interface that pytest-grpc expects."""

    def __init__(self, thread: LoopThread, interceptors: Iterable[grpc.aio.ServerInterceptor]) -> None:
        self._thread = thread
        self._server = thread.run(_new_server(interceptors))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def start(self) -> None:
        self._thread.run(self._server.start())

    def stop(self, grace: float | None) -> None:
        self._thread.run(self._server.stop(grace))


async def _new_server(interceptors: Iterable[grpc.aio.ServerInterceptor]) -> grpc.aio.Server:
    return grpc.aio.server(interceptors=list(interceptors))
