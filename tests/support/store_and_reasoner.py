"""store_svc and reason_svc on a real Kafka and PostgreSQL, with their own topics and an adjustable clock."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

import reason_svc.service
import store_svc.service
from lares.detect.v1.events_pb2 import MediaDetected
from lares.store.v1.event_pb2 import Event
from lares.store.v1.event_service_pb2 import ListEventsRequest, ListEventsResponse
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from mesh import feed
from mesh.bus import Bus, open_bus
from mesh.config import Config, load_config
from mesh.mesh import Mesh
from mesh.rpc import Channels, GrpcServer, call
from mesh.rpc.interceptor import CallInterceptor
from mesh.secret import Secret
from mesh.security import Door, as_itself
from mesh.topics import ASSESSED, CAMERAS, DETECTED, FEED, INGESTED, KEPT, REJECTED, Topic
from store_svc import outbox
from store_svc.recording.event_assessed import EventAssessedRecorder
from store_svc.recording.media_detected import MediaDetectedRecorder
from store_svc.recording.media_rejected import MediaRejectedRecorder
from tests.support.facts import NOON
from tests.support.records import unique

OWNERS: dict[Topic[Any], tuple[tuple[Any, str], ...]] = {
    INGESTED: ((store_svc.service, "INGESTED"),),
    DETECTED: ((store_svc.service, "DETECTED"), (MediaDetectedRecorder, "topic")),
    REJECTED: ((store_svc.service, "REJECTED"), (MediaRejectedRecorder, "topic")),
    ASSESSED: (
        (store_svc.service, "ASSESSED"),
        (EventAssessedRecorder, "topic"),
        (reason_svc.service, "ASSESSED"),
    ),
    FEED: ((outbox, "FEED"), (feed, "FEED")),
    CAMERAS: ((outbox, "CAMERAS"),),
    KEPT: ((outbox, "KEPT"),),
}


@dataclass
class StoreAndReasoner:
    """`now` is the store's clock."""

    bus: Bus
    mesh: Mesh
    detections: Topic[MediaDetected]
    now: datetime = NOON

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    async def publish(self, *photos: MediaDetected) -> None:
        await self.bus.publish(self.detections, *photos)

    async def events(self) -> list[Event]:
        """Returns at most 200 events as a client gets them, newest first."""
        stub = EventServiceStub(self.mesh.channel("store"))
        with as_itself():
            answer = cast(ListEventsResponse, await call(stub.ListEvents, ListEventsRequest(page_size=200)))
        return list(answer.events)


@asynccontextmanager
async def open_store_and_reasoner(
    monkeypatch: pytest.MonkeyPatch, kafka_url: str, database_url: str, home: Path, **settings: Any
) -> AsyncIterator[StoreAndReasoner]:
    """`settings` are fields of Config, among them `reasoner_url`."""
    own = {topic: replace(topic, name=unique(topic.name)) for topic in OWNERS}
    for topic, places in OWNERS.items():
        for owner, name in places:
            monkeypatch.setattr(owner, name, own[topic])
    config: Config = load_config(home=home, **settings)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(kafka_url, client_id="test"))
        await bus.create_topics(list(own.values()))
        socket, server = f"unix:{home / 'mesh.sock'}", GrpcServer(CallInterceptor)
        home.mkdir(exist_ok=True)
        await server.listen(socket, door=Door.SIBLINGS)
        channels = Channels({}, dict.fromkeys(("store", "reason"), socket))
        stack.push_async_callback(channels.close)
        nothing = cast(Any, None)
        mesh = Mesh(
            config,
            bus,
            nothing,
            server,
            channels,
            nothing,
            Secret.of(database_url),
            config.secret("reasoner_url"),
        )
        services = StoreAndReasoner(bus, mesh, own[DETECTED])
        monkeypatch.setattr(store_svc.service, "now", lambda: services.now)
        await stack.enter_async_context(store_svc.service.open(config, mesh))
        await stack.enter_async_context(reason_svc.service.open(config, mesh))
        await server.start()
        stack.push_async_callback(server.stop, 0.1)
        yield services
        assert not mesh.failure.done()
