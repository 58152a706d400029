"""Composes store_svc: the consumers of the log, the sweep, the outbox and the gRPC services."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

from lares.store.internal.v1.file_service_pb2_grpc import add_FileServiceServicer_to_server
from lares.store.internal.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server
from lares.store.internal.v1.key_check_service_pb2_grpc import add_KeyCheckServiceServicer_to_server
from lares.store.internal.v1.lease_service_pb2_grpc import add_LeaseServiceServicer_to_server
from lares.store.internal.v1.offset_service_pb2_grpc import add_OffsetServiceServicer_to_server
from lares.store.internal.v1.upload_service_pb2_grpc import add_UploadServiceServicer_to_server
from lares.store.v1.camera_service_pb2_grpc import add_CameraServiceServicer_to_server
from lares.store.v1.detection_service_pb2_grpc import add_DetectionServiceServicer_to_server
from lares.store.v1.event_service_pb2_grpc import add_EventServiceServicer_to_server
from lares.store.v1.house_service_pb2_grpc import add_HouseServiceServicer_to_server
from lares.store.v1.key_service_pb2_grpc import add_KeyServiceServicer_to_server
from lares.store.v1.media_service_pb2_grpc import add_MediaServiceServicer_to_server
from lares.store.v1.rendition_service_pb2_grpc import add_RenditionServiceServicer_to_server
from mesh.bus import STATUS_SECONDS
from mesh.config import Config
from mesh.feed import open_feed
from mesh.mesh import Mesh
from mesh.problems import Unavailable
from mesh.topics import ASSESSED, DETECTED, INGESTED, REJECTED, RENDERED
from store_svc.api.cameras import CameraServicer
from store_svc.api.detections import DetectionServicer
from store_svc.api.events import EventServicer, TopicLags
from store_svc.api.files import FileServicer
from store_svc.api.house import HouseServicer
from store_svc.api.jobs import JobServicer
from store_svc.api.key_checks import KeyCheckServicer
from store_svc.api.keys import KeyServicer
from store_svc.api.leases import LeaseServicer
from store_svc.api.media import MediaServicer
from store_svc.api.offsets import OffsetServicer
from store_svc.api.renditions import RenditionServicer
from store_svc.api.uploads import UploadServicer
from store_svc.api_keys import ApiKeys, ensure_admin_key
from store_svc.camera_repository import CameraRepository
from store_svc.commit_signals import CommitSignals
from store_svc.consumer import Consumer
from store_svc.consumer_offsets import ConsumerOffsets
from store_svc.database import Database, measures, open_database
from store_svc.database.connector import Connector
from store_svc.database.session_check import require_sessions
from store_svc.detectors import Detectors
from store_svc.domain.assembly import AssemblyLimits
from store_svc.domain.job import ASSESS, RENDER
from store_svc.domain.watch_policy import WatchSettings
from store_svc.first_offsets import ensure_detect_offsets
from store_svc.house.amendments import EvidenceAmendments
from store_svc.house.contexts import HouseContexts
from store_svc.house.modes import Modes
from store_svc.house.people import People
from store_svc.house.presence import PresenceReports
from store_svc.house.visits import ExpectedVisits
from store_svc.job_leases import JobKind, JobLeases
from store_svc.leases import LeaseTable
from store_svc.migration import migrate, naming_the_cause
from store_svc.offsets import Offsets
from store_svc.outbox import OutboxRelay
from store_svc.policy_preview import PolicyPreviews
from store_svc.queries.assess_inputs import AssessInputs
from store_svc.queries.evidence import EvidenceReader
from store_svc.queries.feed import list_changes
from store_svc.read_progress import ReadProgress
from store_svc.reassessments import Reassessments
from store_svc.recording.event_assessed import EventAssessedRecorder
from store_svc.recording.media_detected import MediaDetectedRecorder
from store_svc.recording.media_record import count_findings
from store_svc.recording.media_rejected import MediaRejectedRecorder
from store_svc.recording.media_rendered import MediaRenderedRecorder
from store_svc.rendition_eviction import RenditionEviction, run_eviction
from store_svc.renditions.render_inputs import RenderInputs
from store_svc.renditions.rendition_requests import RenditionRequests
from store_svc.renditions.unused_blobs import UnusedBlobs
from store_svc.schema import connector_of, until_schema_fits
from store_svc.sweep import Facts, Sweep, run_sweep
from store_svc.times import SECOND, now
from store_svc.track_identities import TrackIdentities
from store_svc.uploads import UploadTable

SERVICE = "store_svc"


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Runs the store until the block ends. Raises Unavailable if the database or the bus does not answer."""
    async with AsyncExitStack() as stack:
        connector = connector_of(config, mesh.database_url, embedded=mesh.owns_database)
        await _prepare_schema(config, mesh, connector)
        database = await stack.enter_async_context(
            open_database(connector, limit=config.database_pool, wait_seconds=config.database_pool_seconds)
        )
        stack.enter_context(mesh.metrics.sampling(partial(measures.sample, database)))
        await ensure_admin_key(database, config.home / "admin.key", alone=mesh.owns_database)
        mesh.checks["postgres"] = database.check
        await ensure_detect_offsets(mesh.bus, database, ConsumerOffsets(database), INGESTED)
        signals = CommitSignals(alone=mesh.owns_database)
        mesh.server.at_stop(signals.end_calls)
        lags, facts = await _start_workers(stack, config, mesh, database, signals)
        await _add_services(stack, config, mesh, database, signals, lags, facts)
        yield


async def _prepare_schema(config: Config, mesh: Mesh, connector: Connector) -> None:
    """Migrates the database, or waits until `lares migrate` has done so."""
    if config.migrate == "auto" or mesh.owns_database:
        if not mesh.owns_database:
            with naming_the_cause():
                await require_sessions(connector)
        await migrate(connector)
        return
    reason = "the schema of the database has not been looked at yet"

    def tell(new: str) -> None:
        nonlocal reason
        reason = new

    async def check() -> None:
        raise Unavailable(reason, "SCHEMA_NOT_READY")

    mesh.checks["schema"] = check
    await until_schema_fits(connector, tell)
    del mesh.checks["schema"]


async def _start_workers(
    stack: AsyncExitStack, config: Config, mesh: Mesh, database: Database, signals: CommitSignals
) -> tuple[TopicLags, Facts]:
    offsets = Offsets(database, SERVICE)
    detected = await stack.enter_async_context(mesh.bus.consume(DETECTED, SERVICE, offsets=offsets))
    rejected = await stack.enter_async_context(mesh.bus.consume(REJECTED, SERVICE, offsets=offsets))
    assessed = await stack.enter_async_context(mesh.bus.consume(ASSESSED, SERVICE, offsets=offsets))
    rendered = await stack.enter_async_context(mesh.bus.consume(RENDERED, SERVICE, offsets=offsets))
    facts = {
        ASSESS: ReadProgress(assessed.ends, assessed.behind, now),
        RENDER: ReadProgress(rendered.ends, rendered.behind, now),
    }
    houses = HouseContexts(timedelta(seconds=config.entry_delay_seconds))
    recorder = MediaDetectedRecorder(
        assembly_limits(config),
        watch_settings(config),
        config.time_zone,
        houses,
        now,
        config.clip_clock_seconds,
    )
    detections = Consumer(database, offsets, signals, recorder, count_findings)
    rejections = Consumer(database, offsets, signals, MediaRejectedRecorder(now))
    assessments = Consumer(database, offsets, signals, EventAssessedRecorder(now))
    renditions = Consumer(database, offsets, signals, MediaRenderedRecorder(mesh.blobs, now))
    unused = UnusedBlobs(database, mesh.blobs)
    eviction = RenditionEviction(database, unused, config.rendition_bytes, now)
    sweep = Sweep(database, config.event_gap_seconds, config.lease_seconds, now)
    for name, work in (
        ("store detections", detections.run(detected)),
        ("store rejections", rejections.run(rejected)),
        ("store assessments", assessments.run(assessed)),
        ("store renditions", renditions.run(rendered)),
        ("store eviction", run_eviction(eviction, signals.rendered)),
        ("store sweep", run_sweep(sweep, detected, signals, facts)),
        ("store outbox", OutboxRelay(database, mesh.bus, signals.feed).run()),
    ):
        await stack.enter_async_context(mesh.running(name, work))
    streams = (detected, rejected, assessed, rendered)
    return TopicLags(*(partial(stream.lag, STATUS_SECONDS) for stream in streams)), facts


async def _add_services(
    stack: AsyncExitStack,
    config: Config,
    mesh: Mesh,
    database: Database,
    signals: CommitSignals,
    lags: TopicLags,
    facts: Facts,
) -> None:
    feed = await stack.enter_async_context(open_feed(mesh.bus, partial(list_changes, database)))
    watch = watch_settings(config)
    detectors = Detectors(database, watch)
    # A watched label that the detector cannot find does not delay the start: the other labels are recorded,
    # and the detector may be replaced.
    mesh.checks["watch_policy"] = detectors.check
    mesh.awaited.add("watch_policy")
    await detectors.warn_of_unusual_labels()
    previews = PolicyPreviews(database, watch, detectors)
    cameras = CameraServicer(
        database, CameraRepository(database, signals, now), previews, config.watch_classes, now
    )
    reassessments = Reassessments(database, signals.due, now)
    evidence = EvidenceReader()
    identities = TrackIdentities(database, evidence, signals, now)
    events = EventServicer(database, feed, reassessments, evidence, identities, lags, now)
    keys = ApiKeys(database, now)
    rolls = (config.clip_pre_roll_seconds, config.clip_post_roll_seconds, config.clip_max_seconds)
    inputs = RenderInputs(*(timedelta(seconds=seconds) for seconds in rolls))
    kinds = {
        ASSESS: JobKind(facts[ASSESS], AssessInputs(evidence).read),
        RENDER: JobKind(facts[RENDER], inputs.read),
    }
    requests = RenditionRequests(database, inputs, mesh.blobs, signals, now)
    jobs = JobServicer(JobLeases(database, kinds, signals.due, config.lease_seconds, now))
    add, package = partial(mesh.server.add, needs=["postgres"]), "lares.store.v1"
    add(add_CameraServiceServicer_to_server, cameras, f"{package}.CameraService")
    add(add_EventServiceServicer_to_server, events, f"{package}.EventService")
    add(add_HouseServiceServicer_to_server, _house(config, database, signals), f"{package}.HouseService")
    add(add_MediaServiceServicer_to_server, MediaServicer(database), f"{package}.MediaService")
    add(add_DetectionServiceServicer_to_server, DetectionServicer(database), f"{package}.DetectionService")
    add(add_RenditionServiceServicer_to_server, RenditionServicer(requests), f"{package}.RenditionService")
    add(add_KeyServiceServicer_to_server, KeyServicer(keys), f"{package}.KeyService", operator=True)
    internal = "lares.store.internal.v1"
    add(add_KeyCheckServiceServicer_to_server, KeyCheckServicer(keys), f"{internal}.KeyCheckService")
    add(add_FileServiceServicer_to_server, FileServicer(database), f"{internal}.FileService")
    add(add_JobServiceServicer_to_server, jobs, f"{internal}.JobService")
    offsets = OffsetServicer(ConsumerOffsets(database))
    add(add_OffsetServiceServicer_to_server, offsets, f"{internal}.OffsetService")
    add(add_LeaseServiceServicer_to_server, LeaseServicer(LeaseTable(database)), f"{internal}.LeaseService")
    add(
        add_UploadServiceServicer_to_server,
        UploadServicer(UploadTable(database)),
        f"{internal}.UploadService",
    )


def _house(config: Config, database: Database, signals: CommitSignals) -> HouseServicer:
    delay, span = (timedelta(seconds=s) for s in (config.entry_delay_seconds, config.event_span_seconds))
    amendments = EvidenceAmendments(HouseContexts(delay), delay, span, signals, now)
    modes = Modes(database, config.time_zone, delay, amendments, now)
    visits = ExpectedVisits(database, config.time_zone, now)
    presence = PresenceReports(database, amendments, now)
    return HouseServicer(database, modes, People(database, now), presence, visits)


def watch_settings(config: Config) -> WatchSettings:
    return WatchSettings(
        labels=config.watch_classes,
        threshold=config.watch_threshold,
        thresholds=config.watch_thresholds,
        fast_labels=config.watch_fast_classes,
        fast_threshold=config.watch_fast_threshold,
    )


def assembly_limits(config: Config) -> AssemblyLimits:
    return AssemblyLimits(
        gap=round(config.event_gap_seconds * SECOND),
        span=round(config.event_span_seconds * SECOND),
        detections=config.event_max_detections,
    )
