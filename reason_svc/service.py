"""Composes reason_svc: the reasoner, the servicer and the worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from lares.reason.v1.events_pb2 import EventAssessed
from lares.reason.v1.reason_service_pb2_grpc import add_ReasonServiceServicer_to_server
from lares.store.internal.v1.job_service_pb2 import JOB_KIND_ASSESS
from mesh.config import Config
from mesh.job_client import JobClient
from mesh.mesh import Mesh
from mesh.retry import Backoff
from mesh.topics import ASSESSED
from reason_svc import measures
from reason_svc.api import ReasonServicer
from reason_svc.assessor import Assessor
from reason_svc.reasoner_factory import open_reasoner
from reason_svc.severity import SeverityThresholds
from reason_svc.worker import ReasonWorker

GRACE_SECONDS = 5.0
BACKOFF = Backoff(0.5, 30.0)


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Serves ReasonService and assesses due events until the block ends. Raises Invalid BAD_SETTING."""
    thresholds = SeverityThresholds(config.severity_medium, config.severity_high, config.severity_critical)

    async def publish(fact: EventAssessed) -> None:
        await mesh.bus.publish(ASSESSED, fact)

    async with open_reasoner(config, mesh.reasoner_url) as reasoner:
        assessor = Assessor(reasoner, thresholds, lambda: datetime.now(UTC))
        worker = ReasonWorker(
            JobClient(mesh.channel("store"), JOB_KIND_ASSESS, mesh.metrics),
            assessor,
            publish,
            concurrency=config.reason_concurrency,
            lease_seconds=config.lease_seconds,
            assess_seconds=config.reason_seconds + GRACE_SECONDS,
            backoff=BACKOFF,
        )
        servicer = ReasonServicer(assessor, config.event_max_detections, worker.counts)
        mesh.server.add(add_ReasonServiceServicer_to_server, servicer, "lares.reason.v1.ReasonService")
        with mesh.metrics.sampling(partial(measures.sample, reasoner)):
            async with mesh.running("reason", worker.run()):
                yield
