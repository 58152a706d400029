"""Measures the CPU time of each response to 200 subscribed sockets, and compares it with a plain `websockets`
server on uvloop that sends the same bytes."""

import asyncio
import json
import subprocess
import sys

import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.bench.measure import Row, cpu_seconds
from tests.bench.trees import Bench
from tests.support.lares import ROOT, free_ports

SOCKETS, CHANGES, WARM_UP_CHANGES = 200, 100, 10
PAUSE_SECONDS = 0.02
QUERY = """subscription { eventChanged { cursor event {
  id status revision sequence startedAt endedAt closed labels } } }"""


async def measure(bench: Bench) -> list[Row]:
    gateway, message = await _cpu_per_delivery("gateway_sockets", b"change\n", _subscribe)
    plain, _ = await _cpu_per_delivery("raw_websockets", message.encode() + b"\n", _listen)
    ratio = gateway / plain
    return [
        Row(
            f"subscription, {SOCKETS} sockets, CPU per delivery",
            f"{gateway * 1e6:.0f} us",
            f"raw websockets {plain * 1e6:.0f} us",
            f"{ratio:.1f}x",
            "<= 4x",
            ratio <= 4,
        )
    ]


async def _cpu_per_delivery(server: str, line: bytes, join: object) -> tuple[float, str]:
    """Returns the CPU seconds of the server's process for each message to a socket, and the last message."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.peers.{server}", str(port)], cwd=ROOT, stdin=subprocess.PIPE
    )
    assert process.stdin
    try:
        sockets = [await join(port) for _ in range(SOCKETS)]  # type: ignore[operator]
        await asyncio.sleep(1)
        await _send(process, line, WARM_UP_CHANGES, sockets)
        server_process = psutil.Process(process.pid)
        started = cpu_seconds([server_process])
        message = await _send(process, line, CHANGES, sockets)
        used = cpu_seconds([server_process]) - started
        for socket in sockets:
            await socket.close()
        return used / (CHANGES * SOCKETS), message
    finally:
        process.kill()
        process.wait()


async def _send(
    process: "subprocess.Popen[bytes]", line: bytes, count: int, sockets: list[ClientConnection]
) -> str:
    """Publishes `count` changes one by one; returns when every socket has received all of them."""
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
    """Tries again for 20 s while the server starts."""
    for _ in range(200):
        try:
            return await connect(url, subprotocols=protocols, compression=None)
        except OSError:
            await asyncio.sleep(0.1)
    raise AssertionError(f"no server at {url}")
