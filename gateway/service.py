"""Composes the gateway: GraphQL, media, health and metrics over HTTP, for people and their programs."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.backlog import Backlog
from gateway.context import Context
from gateway.endpoint import GraphQLEndpoint
from gateway.engine import Engine
from gateway.guard import Doorkeeper
from gateway.health import Health
from gateway.http import make_app
from gateway.listener import listening
from gateway.loaders import Loaders
from gateway.media import MediaFiles
from gateway.metrics import Metrics
from gateway.schema import make_schema
from gateway.siblings import Siblings
from gateway.sockets import Sockets
from gateway.thumbnails import Thumbnails
from lares.store.v1.event_service_pb2 import GetStoreStatusRequest, ListChangesRequest
from lares.store.v1.events_pb2 import EventChanged
from mesh.config import Config
from mesh.feed import open_feed
from mesh.mesh import Mesh
from mesh.processes.sandbox import Sandbox
from mesh.rpc import call

DRAWING_IDLE_SECONDS = 60.0


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Serves until the block ends; the address in fact bound is `mesh.addresses["gateway"]`."""
    siblings = Siblings(mesh.channel)
    backlog = Backlog(siblings)
    metrics = Metrics(backlog)
    doorkeeper = Doorkeeper(mesh.keys if config.auth else None)

    async def changes(after: int, limit: int) -> tuple[list[EventChanged], int]:
        answer = await call(siblings.events.ListChanges, ListChangesRequest(after=after, page_size=limit))
        return list(answer.changes), answer.head

    async def ask_store() -> None:
        await call(siblings.events.GetStoreStatus, GetStoreStatusRequest(), timeout=2.0)

    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(open_feed(mesh.bus, changes))
        drawing = Sandbox("gateway.drawing:draw", idle_seconds=DRAWING_IDLE_SECONDS)
        await stack.enter_async_context(drawing)
        engine = Engine(make_schema(), lambda: Context(siblings, Loaders(siblings), feed))
        sockets = Sockets(engine, doorkeeper, metrics)
        thumbnails = Thumbnails(mesh.blobs, drawing.run, config.ingest_max_pixels)
        mesh.checks["store"] = ask_store
        app = make_app(
            GraphQLEndpoint(engine),
            sockets,
            MediaFiles(siblings, mesh.blobs, thumbnails),
            Health(mesh.missing, mesh.checks, metrics, backlog.ask),
            doorkeeper,
            metrics,
        )
        await stack.enter_async_context(mesh.running("gateway keys", sockets.keep_checking()))
        await stack.enter_async_context(mesh.running("gateway lag", metrics.watch_lag()))
        mesh.addresses["gateway"] = await stack.enter_async_context(listening(app, config))
        yield
