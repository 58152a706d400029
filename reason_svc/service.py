"""Composes the judge: its reasoner, its servicer, its worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from lares.reason.v1.events_pb2 import EventAssessed
from lares.reason.v1.reason_service_pb2_grpc import add_ReasonServiceServicer_to_server
from mesh.config import Config
from mesh.mesh import Mesh
from mesh.topics import ASSESSED
from reason_svc.api import ReasonServicer
from reason_svc.judging import Judge
from reason_svc.leases import Leases
from reason_svc.reasoners import open_reasoner
from reason_svc.severity import Thresholds
from reason_svc.worker import Worker

GRACE_SECONDS = 5.0


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Serves ReasonService and judges what is due, until the block ends. Raises Invalid BAD_SETTING."""
    thresholds = Thresholds(config.severity_medium, config.severity_high, config.severity_critical)

    async def publish(fact: EventAssessed) -> None:
        await mesh.bus.publish(ASSESSED, fact)

    async with open_reasoner(config, mesh.reasoner_url) as reasoner:
        judge = Judge(reasoner, thresholds, lambda: datetime.now(UTC))
        worker = Worker(
            Leases(mesh.channel("store")),
            judge,
            publish,
            concurrency=config.reason_concurrency,
            lease_seconds=config.lease_seconds,
            # A judge keeps its own deadline; this is for one that does not.
            judge_seconds=config.reason_seconds + GRACE_SECONDS,
        )
        servicer = ReasonServicer(judge, config.event_max_detections, worker.tally)
        mesh.server.add(add_ReasonServiceServicer_to_server, servicer, "lares.reason.v1.ReasonService")
        async with mesh.running("reason", worker.run()):
            yield
