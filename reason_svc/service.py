"""Composes the judge: its reasoner, its servicer, its worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from lares.reason.v1.events_pb2 import EventAssessed
from lares.reason.v1.reason_service_pb2_grpc import add_ReasonServiceServicer_to_server
from mesh.config import Config
from mesh.mesh import Mesh
from mesh.problems import Invalid
from mesh.topics import ASSESSED
from reason_svc.api import ReasonServicer
from reason_svc.judging import Judge
from reason_svc.leases import Leases
from reason_svc.reasoner import Reasoner
from reason_svc.rules import Rules
from reason_svc.severity import Thresholds
from reason_svc.worker import Worker


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Serves ReasonService and judges what is due, until the block ends. Raises Invalid BAD_SETTING."""
    thresholds = Thresholds(config.severity_medium, config.severity_high, config.severity_critical)
    judge = Judge(reasoner_of(config.reasoner_url), thresholds, lambda: datetime.now(UTC))

    async def publish(fact: EventAssessed) -> None:
        await mesh.bus.publish(ASSESSED, fact)

    worker = Worker(
        Leases(mesh.channel("store")),
        judge,
        publish,
        concurrency=config.reason_concurrency,
        lease_seconds=config.lease_seconds,
        judge_seconds=config.reason_seconds,
    )
    servicer = ReasonServicer(judge, config.event_max_detections)
    mesh.server.add(add_ReasonServiceServicer_to_server, servicer, "lares.reason.v1.ReasonService")
    async with mesh.running("reason", worker.run()):
        yield


def reasoner_of(url: str) -> Reasoner:
    """The judge that LARES_REASONER_URL names; raises Invalid BAD_SETTING."""
    scheme = url.partition(":")[0]
    if url == "rules:":
        return Rules()
    raise Invalid(f"LARES_REASONER_URL: there is no judge {scheme!r}; there is `rules:`", "BAD_SETTING")
