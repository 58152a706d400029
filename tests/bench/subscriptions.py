"""200 sockets on eventChanged, CPU per delivery, against raw websockets on uvloop sending the same bytes."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.bench.measure import Row, cpu_seconds
from tests.support.lares import ROOT, free_ports

SOCKETS, CHANGES, WARM = 200, 100, 10
PAUSE_SECONDS = 0.02
QUERY = """subscription { eventChanged { cursor event {
  id status revision sequence startedAt endedAt closed labels } } }"""


async def measure(folder: Path) -> list[Row]:
    ours, message = await _cpu_per_delivery("gateway_sockets", b"change\n", _subscribe)
    theirs, _ = await _cpu_per_delivery("raw_websockets", message.encode() + b"\n", _listen)
    ratio = ours / theirs
    return [
        Row(
            f"subscription, {SOCKETS} sockets, CPU per delivery",
            f"{ours * 1e6:.0f} us",
            f"raw websockets {theirs * 1e6:.0f} us",
            f"{ratio:.1f}x",
            "<= 4x",
            ratio <= 4,
        )
    ]


async def _cpu_per_delivery(server: str, line: bytes, join: object) -> tuple[float, str]:
    """CPU seconds of the server's process for each message that a socket got, and the last message."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.peers.{server}", str(port)], cwd=ROOT, stdin=subprocess.PIPE
    )
    assert process.stdin
    try:
        sockets = [await join(port) for _ in range(SOCKETS)]  # type: ignore[operator]
        await asyncio.sleep(1)
        await _send(process, line, WARM, sockets)
        watched = psutil.Process(process.pid)
        began = cpu_seconds([watched])
        message = await _send(process, line, CHANGES, sockets)
        used = cpu_seconds([watched]) - began
        for socket in sockets:
            await socket.close()
        return used / (CHANGES * SOCKETS), message
    finally:
        process.kill()
        process.wait()


async def _send(
    process: "subprocess.Popen[bytes]", line: bytes, count: int, sockets: list[ClientConnection]
) -> str:
    """Tells the server `count` changes, one by one, and reads all that every socket is sent."""
    assert process.stdin

    async def read(socket: ClientConnection) -> str:
        async with asyncio.timeout(30):
            for _ in range(count):
                message = await socket.recv()
        assert isinstance(message, str)
        return message

    readers = [asyncio.create_task(read(socket)) for socket in sockets]
    for _ in range(count):
        process.stdin.write(line)
        process.stdin.flush()
        await asyncio.sleep(PAUSE_SECONDS)
    messages = await asyncio.gather(*readers)
    assert json.loads(messages[0])["type"] == "next"
    return messages[0]


async def _subscribe(port: int) -> ClientConnection:
    protocol = Subprotocol("graphql-transport-ws")
    socket = await _connect(f"ws://127.0.0.1:{port}/graphql", [protocol])
    await socket.send('{"type": "connection_init"}')
    assert json.loads(await socket.recv())["type"] == "connection_ack"
    await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": QUERY}}))
    return socket


async def _listen(port: int) -> ClientConnection:
    return await _connect(f"ws://127.0.0.1:{port}", None)


async def _connect(url: str, protocols: list[Subprotocol] | None) -> ClientConnection:
    """The server needs a moment to come up."""
    for _ in range(200):
        try:
            return await connect(url, subprotocols=protocols, compression=None)
        except OSError:
            await asyncio.sleep(0.1)
    raise AssertionError(f"nobody at {url}")
