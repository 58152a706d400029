"""Composes the gateway: GraphQL, media, health and metrics over HTTP, for people and their programs."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.context import Context
from gateway.graphql.engine import Engine
from gateway.http.application import make_application
from gateway.http.authentication import Authenticator
from gateway.http.event_pictures import EventPictureEndpoint
from gateway.http.graphql_endpoint import GraphQLEndpoint
from gateway.http.health import HealthEndpoint
from gateway.http.listener import listening
from gateway.http.media import MediaEndpoint
from gateway.http.metrics import GatewayMetrics
from gateway.http.renditions import RenditionFinder
from gateway.http.sibling_metrics import SiblingMetrics
from gateway.http.thumbnail_cache import ThumbnailCache
from gateway.http.websocket import WebSocketEndpoint
from gateway.loaders import Loaders
from gateway.schema import make_schema
from gateway.siblings import Siblings
from lares.store.v1.event_service_pb2 import GetStoreStatusRequest, ListChangesRequest
from lares.store.v1.events_pb2 import EventChanged
from mesh.config import Config
from mesh.feed import open_feed
from mesh.mesh import Mesh
from mesh.processes.sandbox import Sandbox
from mesh.rpc import call

RENDERER = "gateway.http.thumbnail_renderer:render"
RENDERER_IDLE_SECONDS = 60.0


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Serves until the block ends. `mesh.addresses["gateway"]` is the URL with the port that was bound."""
    siblings = Siblings(mesh.channel, mesh.replicas)
    sibling_metrics = SiblingMetrics(siblings)
    metrics = GatewayMetrics(mesh.metrics)
    authenticator = Authenticator(mesh.keys if config.auth else None)

    async def list_changes(after: int, limit: int) -> tuple[list[EventChanged], int]:
        response = await call(siblings.events.ListChanges, ListChangesRequest(after=after, page_size=limit))
        return list(response.changes), response.head

    async def check_store() -> None:
        await call(siblings.events.GetStoreStatus, GetStoreStatusRequest(), timeout=2.0)

    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(open_feed(mesh.bus, list_changes))
        renderer = Sandbox(RENDERER, idle_seconds=RENDERER_IDLE_SECONDS)
        await stack.enter_async_context(renderer)
        engine = Engine(make_schema(), lambda: Context(siblings, Loaders(siblings), feed, mesh.tls))
        websockets = WebSocketEndpoint(engine, authenticator, metrics)
        thumbnails = ThumbnailCache(mesh.blobs, renderer.run, config.ingest_max_pixels)
        renditions = RenditionFinder(siblings, mesh.blobs)
        mesh.checks["store"] = check_store
        app = make_application(
            GraphQLEndpoint(engine),
            websockets,
            MediaEndpoint(siblings, mesh.blobs, thumbnails, renditions),
            EventPictureEndpoint(mesh.blobs, renditions),
            HealthEndpoint(mesh.readiness, mesh.metrics.text, sibling_metrics.text),
            authenticator,
            metrics,
        )
        await stack.enter_async_context(mesh.running("gateway keys", websockets.keep_rechecking()))
        stack.enter_context(mesh.metrics.sampling(metrics.sample))
        mesh.addresses["gateway"] = await stack.enter_async_context(listening(app, config, mesh.tls))
        yield
