"""Proxies in front of a real PostgreSQL. Both are fakes: they do at the wire what the real programs do."""

import asyncio
import re
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

SSL_REQUEST = struct.pack("!ll", 8, 80877103)
IDLE = b"I"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def server_socket(url: str) -> Path:
    """The socket of the tests' server, from a LARES_DATABASE_URL."""
    return Path(unquote(url.partition("host=")[2])) / ".s.PGSQL.5432"


def through(url: str, port: int, options: str = "") -> str:
    """The LARES_DATABASE_URL that leads to the same database by a proxy."""
    return re.sub(r"@/(\w+)\?host=.*", rf"@127.0.0.1:{port}/\1{options}", url)


@asynccontextmanager
async def _listening(serve: Serve) -> AsyncIterator[int]:
    tasks = set[asyncio.Task[None]]()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def fake_tls_server(url: str, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """A PostgreSQL with TLS on a port of 127.0.0.1, because the one of the wheel has none. Without `context`
    it is one that does not offer TLS. Yields the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        if first == SSL_REQUEST:
            writer.write(b"S" if context else b"N")
            await writer.drain()
            if context:
                await writer.start_tls(context)
            first = b""
        to_server = await asyncio.open_unix_connection(server_socket(url))
        to_server[1].write(first)
        try:
            pipes = [_pipe(reader, to_server[1]), _pipe(to_server[0], writer)]
            await asyncio.wait(map(asyncio.ensure_future, pipes), return_when=asyncio.FIRST_COMPLETED)
        finally:
            to_server[1].close()

    async with _listening(serve) as port:
        yield port


class SilentWay:
    """Connections to PostgreSQL of which those that are open can be made silent, as by a machine that is gone
    without a word. New ones reach the server."""

    def __init__(self, url: str) -> None:
        self._socket = server_socket(url)
        self._speaking = asyncio.Event()
        self._speaking.set()

    def fall_silent(self) -> None:
        self._speaking.clear()
        self._speaking = asyncio.Event()
        self._speaking.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        async with _listening(self._serve) as port:
            yield port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_unix_connection(self._socket)
        pipes = [self._pipe(reader, to_server[1]), self._pipe(to_server[0], writer)]
        tasks = [asyncio.create_task(pipe) for pipe in pipes]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            to_server[1].close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        speaking = self._speaking
        while data := await reader.read(2**16):
            await speaking.wait()
            writer.write(data)
            await writer.drain()


class _Backend:
    """A session of PostgreSQL after its login."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Returns the kind of the next message, and all its bytes."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!l", head[1:])[0] - 4)


@asynccontextmanager
async def fake_transaction_pooler(url: str, *, last_first: bool) -> AsyncIterator[int]:
    """A pooler that gives each transaction one of the idle sessions: the one that was used last, or the one
    that was used longest ago. Logins are those of the server, and their sessions become part of the pool.
    Yields the port."""
    idle: list[_Backend] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(8) != SSL_REQUEST:
            raise ConnectionError("expected a request for TLS first")
        writer.write(b"N")
        length = await reader.readexactly(4)
        startup = length + await reader.readexactly(struct.unpack("!l", length)[0] - 4)
        backend = _Backend(*await asyncio.open_unix_connection(server_socket(url)))
        backend.writer.write(startup)
        # The login: only an answer with a password or a proof is expected from the client.
        while True:
            kind, data = await _message(backend.reader)
            writer.write(data)
            if kind == b"Z":
                break
            if kind == b"R" and struct.unpack("!l", data[5:9])[0] in (3, 5, 10, 11):
                backend.writer.write((await _message(reader))[1])
        idle.append(backend)
        while True:
            kind, data = await _message(reader)
            if kind == b"X":
                return
            backend = idle.pop(-1 if last_first else 0)
            backend.writer.write(data)
            await _transaction(reader, writer, backend)
            idle.append(backend)

    async def _transaction(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: _Backend
    ) -> None:
        """Passes messages on until the session is idle again."""

        async def to_server() -> None:
            while True:
                backend.writer.write((await _message(reader))[1])

        async def to_client() -> None:
            while True:
                kind, data = await _message(backend.reader)
                writer.write(data)
                if kind == b"Z" and data[5:6] == IDLE:
                    return

        sending = asyncio.ensure_future(to_server())
        try:
            await to_client()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async with _listening(serve) as port:
        try:
            yield port
        finally:
            for backend in idle:
                backend.writer.close()
