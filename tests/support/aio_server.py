"""pytest-grpc with grpc.aio. Its own server is synchronous and cannot serve `async def`.

A test module uses this one by `from tests.support.aio_server import _grpc_server`.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import grpc
import pytest

T = TypeVar("T")
SECONDS = 90.0


class AioServer:
    """A grpc.aio.Server in an event loop on its own thread, with the methods that pytest-grpc calls."""

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(self._make(interceptors))

    async def _make(self, interceptors: Sequence[grpc.aio.ServerInterceptor]) -> grpc.aio.Server:
        return grpc.aio.server(interceptors=interceptors)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        self._server.add_registered_method_handlers(service, handlers)

    def add_insecure_port(self, address: str) -> int:
        return self._server.add_insecure_port(address)

    def start(self) -> None:
        self._run(self._server.start())

    def stop(self, grace: float | None) -> None:
        self._run(self._server.stop(grace))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()


@pytest.fixture(scope="module")
def _grpc_server(grpc_interceptors: Sequence[grpc.aio.ServerInterceptor] | None) -> Iterator[AioServer]:
    server = AioServer(grpc_interceptors or ())
    yield server
    server.close()
