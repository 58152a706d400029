"""A gateway in this process, over a FakeStore behind real gRPC, and clients for it."""

import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.types import ASGIApp, Receive, Scope, Send

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
from lares.store.v1.event_pb2 import Event
from mesh.blobs import Blobs, FileBlobs
from mesh.config import Config
from mesh.feed import Feed
from mesh.key_verifier import KeyVerifier
from mesh.processes.sandbox import Sandbox
from mesh.readiness import Readiness
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door
from mesh.telemetry.metrics import Metrics
from mesh.tls.tls import Tls
from tests.support.blobs import keep_blob
from tests.unit.gateway.fake_services import add_services
from tests.unit.gateway.fake_store import FakeStore, uuid

SECRET = "lares_the-key-of-the-tests"


class CountedFeed(Feed):
    @property
    def watching(self) -> int:
        """How many subscribers there are."""
        return len(self._subscribers)


@dataclass
class Gateway:
    """A gateway, and what it is made of."""

    app: ASGIApp
    store: FakeStore
    feed: CountedFeed
    blobs: Blobs
    siblings: Siblings
    engine: Engine
    sockets: WebSocketEndpoint
    client: httpx.AsyncClient
    url: str = ""
    missing: dict[str, str] = field(default_factory=dict)

    def publish(self, event: Event, *, deleted: bool = False) -> None:
        """Adds a change of this event to the store and to the live feed."""
        self.feed.put(self.store.add_change(event, deleted=deleted))

    async def post(self, query: str, **variables: Any) -> Any:
        """Returns the whole response."""
        response = await self.client.post("/graphql", json={"query": query, "variables": variables})
        assert response.status_code == 200, response.text
        return response.json()

    async def ask(self, query: str, **variables: Any) -> Any:
        """Returns the data of a response without errors."""
        response = await self.post(query, **variables)
        assert "errors" not in response, response["errors"]
        return response["data"]

    async def error(self, query: str, **variables: Any) -> Any:
        """Returns the only error of a response."""
        (error,) = (await self.post(query, **variables))["errors"]
        return error


@asynccontextmanager
async def open_gateway(
    folder: Path, *, auth: bool = True, without: str = "", tls: Tls | None = None
) -> AsyncIterator[Gateway]:
    """`without` names a service whose address is not configured."""
    store = FakeStore(secrets={SECRET: uuid("key")})
    server = GrpcServer(CallInterceptor)
    add_services(store, server)
    address = await server.listen(f"unix:{folder}/grpc.sock", door=Door.SIBLINGS)
    await server.start()
    known = {"store", "ingest", "detect", "reason"} - {without}
    channels = Channels({}, dict.fromkeys(known, address))
    siblings, feed = Siblings(channels.to), CountedFeed(store.list_changes)
    of_siblings, of_process, readiness = SiblingMetrics(siblings), Metrics(), Readiness()
    metrics = GatewayMetrics(of_process)
    blobs = FileBlobs(folder)
    authenticator = Authenticator(KeyVerifier(channels.to("store")) if auth else None)
    engine = Engine(make_schema(), lambda: Context(siblings, Loaders(siblings), feed, tls))
    sockets = WebSocketEndpoint(engine, authenticator, metrics)
    missing: dict[str, str] = {}
    renditions = RenditionFinder(siblings, blobs)

    async def ask_missing() -> dict[str, str]:
        return dict(missing)

    readiness.follow(ask_missing, ["kafka", "store"])
    readiness.started = True
    async with (
        AsyncExitStack() as stack,
        Sandbox("gateway.http.thumbnail_renderer:render", idle_seconds=60) as drawing,
    ):
        for sample in (metrics.sample, readiness.sample):
            stack.enter_context(of_process.sampling(sample))
        app = make_application(
            GraphQLEndpoint(engine),
            sockets,
            MediaEndpoint(siblings, blobs, ThumbnailCache(blobs, drawing.run, 10_000_000), renditions),
            EventPictureEndpoint(blobs, renditions),
            HealthEndpoint(readiness, of_process.text, of_siblings.text),
            authenticator,
            metrics,
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://gateway", headers={"x-api-key": SECRET}
        ) as client:
            yield Gateway(app, store, feed, blobs, siblings, engine, sockets, client, missing=missing)
    await channels.close()
    await server.stop(0)
    blobs.close()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path) as opened:
        yield opened


class SharedApplication:
    """Serves the application of the running test. All tests share one server, because ending a server takes
    long."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
async def switch() -> AsyncIterator[SharedApplication]:
    switch = SharedApplication()
    async with listening(switch, Config(gateway_listen="127.0.0.1:0")) as switch.url:
        yield switch


@pytest.fixture
async def served(gateway: Gateway, switch: SharedApplication) -> Gateway:
    """The same gateway behind a real socket."""
    switch.app, gateway.url = gateway.app, switch.url
    return gateway


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A JPEG of 1600x1200, grey."""
    written = io.BytesIO()
    Image.new("RGB", (1600, 1200), (128, 128, 128)).save(written, "JPEG")
    return written.getvalue()


async def keep(gateway: Gateway, content: bytes, **media: Any) -> str:
    """Adds a photo to the blobs and to the store; returns its media id."""
    name = await keep_blob(gateway.blobs, content)
    return gateway.store.add_media(0, sha256=name, **media).media.id
