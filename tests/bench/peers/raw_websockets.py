"""Serves WebSockets with `websockets` on uvloop. Sends each line of standard input to every socket. The
argument is the port."""

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main() -> None:
    sockets: set[ServerConnection] = set()

    async def keep(socket: ServerConnection) -> None:
        sockets.add(socket)
        await socket.wait_closed()

    async with serve(keep, "127.0.0.1", int(sys.argv[1]), compression=None):
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := await reader.readline():
            broadcast(sockets, line.decode())


if __name__ == "__main__":
    uvloop.run(main())
