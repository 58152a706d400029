"""Serves the gateway's WebSockets alone, on uvloop. Each line of standard input publishes one change. The
argument is the port."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from gateway.context import Context
from gateway.graphql.engine import Engine
from gateway.http.authentication import Authenticator
from gateway.http.listener import listening
from gateway.http.metrics import GatewayMetrics
from gateway.http.websocket import WebSocketEndpoint
from gateway.loaders import Loaders
from gateway.schema import make_schema
from gateway.siblings import Siblings
from lares.store.v1.event_pb2 import EVENT_STATUS_PENDING
from lares.store.v1.events_pb2 import EventChanged
from mesh.config import load_config
from mesh.feed import Feed
from mesh.rpc import Channels
from mesh.telemetry.metrics import Metrics


@asynccontextmanager
async def standard_input() -> AsyncIterator[asyncio.StreamReader]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    yield reader


async def main() -> None:
    head = 0

    async def no_earlier_changes(after: int, limit: int) -> tuple[list[EventChanged], int]:
        return [], head

    feed = Feed(no_earlier_changes)
    channels = Channels({}, dict.fromkeys(("store", "ingest", "detect", "reason"), "unix:/nobody"))
    siblings = Siblings(channels.to)
    engine = Engine(make_schema(), lambda: Context(siblings, Loaders(siblings), feed))
    app = WebSocketEndpoint(engine, Authenticator(None), GatewayMetrics(Metrics()))
    config = load_config(gateway_listen=f"127.0.0.1:{sys.argv[1]}")
    async with listening(app, config), standard_input() as lines:
        while await lines.readline():
            head += 1
            feed.put(change(head))


def change(sequence: int) -> EventChanged:
    changed = EventChanged(sequence=sequence)
    event = changed.event
    event.id, event.status = "c12c4c97-7370-5423-8bbe-a655e6d8d585", EVENT_STATUS_PENDING
    event.camera_id, event.camera_name = "front-door", "Front Door"
    event.revision, event.sequence = 3, sequence
    event.started_at.FromSeconds(1_767_614_400)
    event.ended_at.FromSeconds(1_767_614_410)
    event.labels.extend(["cat", "person"])
    return changed


if __name__ == "__main__":
    uvloop.run(main())
