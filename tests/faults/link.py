"""A network link between two parts, which can be cut: a TCP proxy. Each process has links of its own to the
parts that it calls, so that any two parts can be separated."""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal

Address = tuple[str, int] | str  # host and port, or the path of a Unix socket
State = Literal["open", "refusing", "silent"]

PIECE_BYTES = 64 * 1024


class Link:
    """Forwards connections from its own port to one of `targets()`, in turn, as the address of a Kubernetes
    Service does: a connection goes to the first that accepts it.

    `refusing`: connections are reset, and new ones, too, as by a firewall that rejects. `silent`: nothing
    arrives any more on either side, and nobody is told, as when a cable is pulled. What was sent meanwhile
    arrives when the link is open again, as TCP would send it again.
    """

    def __init__(self, name: str, targets: Callable[[], Sequence[Address]], port: int) -> None:
        self.name = name
        self._targets = targets
        self._state: State = "open"
        self._open = asyncio.Event()
        self._open.set()
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._writers = set[asyncio.StreamWriter]()
        # What a cut has stopped: connections that were reset or refused, and bytes and connections that
        # waited.
        self.refused = self.held = 0
        self.port = port

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self, state: Literal["refusing", "silent"]) -> None:
        self._state = state
        self.refused = self.held = 0
        self._open.clear()
        if state == "refusing":
            self.refused += len(self._writers)
            for writer in [*self._writers]:
                _reset(writer)

    def heal(self) -> None:
        self._state = "open"
        self._open.set()

    @property
    def has_fired(self) -> bool:
        """Whether the cut has stopped anything yet."""
        return self.refused + self.held > 0

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in [*self._writers]:
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            await self._admit()
            far_reader, far = await self._connect()
            self._writers.add(far)
            await asyncio.gather(self._forward(reader, far), self._forward(far_reader, writer))
        except (OSError, ConnectionError):
            pass
        finally:
            for each in filter(None, (writer, far)):
                self._writers.discard(each)
                _reset(each)

    async def _admit(self) -> None:
        """Raises ConnectionError while the link refuses; waits while it is silent."""
        if self._state == "refusing":
            self.refused += 1
            raise ConnectionRefusedError(self.name)
        if self._state == "silent":
            self.held += 1
            await self._open.wait()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        targets = self._targets()
        self._turn += 1
        for place in range(len(targets)):
            target = targets[(self._turn + place) % len(targets)]
            with suppress(OSError):
                if isinstance(target, str):
                    return await asyncio.open_unix_connection(target)
                return await asyncio.open_connection(*target)
        raise ConnectionRefusedError(self.name)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE_BYTES):
            await self._hold(len(piece))
            writer.write(piece)
            await writer.drain()
        await self._hold(1)  # the end of a stream does not arrive either
        with suppress(OSError):
            writer.write_eof() if writer.can_write_eof() else writer.close()

    async def _hold(self, size: int) -> None:
        if not self._open.is_set():
            self.held += size
            await self._open.wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes a connection by RST, so that the other side learns of it at once."""
    opened = writer.get_extra_info("socket")
    if opened is not None and opened.family != socket.AF_UNIX:
        with suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
