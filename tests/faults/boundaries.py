"""The commit boundaries: the places where a process that ends leaves one half of something done.

The product knows nothing of them. A service process of the harness wraps the function that crosses a boundary
(`wrap_boundaries`), and ends itself there, by SIGKILL, when it is told to. docs/reliability.md has this
table.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mesh.topics import ASSESSED, CAMERAS, DETECTED, FEED, INGESTED, KEPT, REJECTED, RENDERED, Topic
from tests.faults.switches import Switches

# What a round has to do so that the boundary is crossed: any photo does, or one of these.
Stimulus = Literal["photo", "clip", "upload", "large upload", "flawed", "damaged", "new camera", "bad fact"]
# The function's result (None before it has run) and its arguments.
Condition = Callable[..., bool]


@dataclass(frozen=True)
class Boundary:
    """`at` is `module:name` or `module:Class.name`: where the code that is run looks the function up. `when`
    says of which calls the boundary is one; `blobs` of which blob store."""

    name: str
    moment: Literal["before", "after"]
    at: str
    says: str
    stimulus: Stimulus = "photo"
    when: Condition = lambda result, *_, **__: True
    blobs: Literal["any", "s3", "file"] = "any"

    @property
    def service(self) -> str:
        return self.name.partition(".")[0]


def _of(topic: Topic[Any]) -> Condition:
    """Of `Bus.publish`: those on this topic."""
    return lambda result, bus, published, *_, **__: published is topic


def _with_output(result: object, publisher: object, records: Any) -> bool:
    """Of `Publisher.send`: those with a record of detect_svc's stream."""
    return any(record.topic in (DETECTED.name, REJECTED.name) for record in records)


def _found(result: Any, *_: object, **__: object) -> bool:
    return bool(result)


_PUBLISH, _SEND = "mesh.bus.bus:Bus.publish", "mesh.bus.publisher:Publisher.send"
_SPOOLED = "mesh.blobs.spool:SpooledFile"
_RECORDING = "store_svc.recording"

BOUNDARIES = (
    Boundary(
        "ingest.content.checked",
        "before",
        f"{_SPOOLED}.store",
        "a file is copied, hashed and checked; its content is not among the blobs",
    ),
    Boundary(
        "ingest.content.uploaded",
        "after",
        "mesh.blobs.s3:S3Blobs._upload",
        "the content is in the bucket; nobody has looked for a deletion at the same time",
        blobs="s3",
    ),
    Boundary(
        "ingest.content.flushed",
        "after",
        f"{_SPOOLED}.sync",
        "the content is on the disk; the file does not have its final name",
        blobs="file",
    ),
    Boundary(
        "ingest.content.named",
        "after",
        f"{_SPOOLED}.rename",
        "the file has its final name; the folder is not flushed",
        blobs="file",
    ),
    Boundary(
        "ingest.content.stored",
        "after",
        f"{_SPOOLED}.store",
        "the content is durable; the media is not announced",
    ),
    Boundary(
        "ingest.media.announcing",
        "before",
        _PUBLISH,
        "the store was asked what it knows; the media is not announced",
        when=_of(INGESTED),
    ),
    Boundary(
        "ingest.media.announced",
        "after",
        _PUBLISH,
        "Kafka has acknowledged the announcement; ingest_svc has not noted it, and the original is there",
        when=_of(INGESTED),
    ),
    Boundary(
        "ingest.rejection.announced",
        "after",
        _PUBLISH,
        "Kafka has acknowledged a rejection; ingest_svc has not noted it",
        "flawed",
        when=_of(REJECTED),
    ),
    Boundary(
        "ingest.original.set_aside",
        "before",
        "ingest_svc.originals:fingerprint_in_real_folder",
        "an announced file is renamed; it is not removed",
    ),
    Boundary(
        "ingest.original.removed",
        "after",
        "ingest_svc.originals:Originals.announced",
        "the originals of a batch are removed; nobody who waits was told",
    ),
    Boundary(
        "ingest.upload.part_written",
        "after",
        f"{_SPOOLED}.write",
        "a part of an upload is written; the rest has not arrived",
        "upload",
    ),
    Boundary(
        "ingest.upload.part_stored",
        "before",
        "ingest_svc.receiving.upload_records:UploadRecords.add_part",
        "a part of an upload is among the blobs; the store does not know it",
        "large upload",
    ),
    Boundary(
        "ingest.upload.part_recorded",
        "after",
        "ingest_svc.receiving.upload_records:UploadRecords.add_part",
        "the store knows a part of an upload; the rest has not arrived",
        "large upload",
    ),
    Boundary(
        "ingest.upload.stored",
        "after",
        "ingest_svc.receiving.uploads:Uploads._store",
        "an upload is among the blobs; it is not announced",
        "upload",
    ),
    Boundary(
        "ingest.upload.announced",
        "after",
        "ingest_svc.receiving.uploads:Uploads._announce",
        "an upload is announced; its client has no answer",
        "upload",
    ),
    Boundary(
        "detect.outputs.ready",
        "before",
        _SEND,
        "media are detected; nothing is published",
        when=_with_output,
    ),
    Boundary(
        "detect.outputs.published",
        "after",
        _SEND,
        "Kafka has acknowledged the detections; the records that they came from are not done",
        when=_with_output,
    ),
    Boundary(
        "detect.rejection.published",
        "after",
        _SEND,
        "Kafka has acknowledged that a decoder refuses a photo; the record is not done",
        "damaged",
        when=lambda result, publisher, records: any(each.topic == REJECTED.name for each in records),
    ),
    Boundary(
        "detect.offsets.reporting",
        "before",
        "mesh.offset_client:OffsetClient.save",
        "records are done and their outputs durable; the store does not know how far detect_svc is",
    ),
    Boundary(
        "detect.offsets.reported",
        "after",
        "mesh.offset_client:OffsetClient.save",
        "the store has answered how far detect_svc is; detect_svc has not noted it",
    ),
    Boundary(
        "detect.rendition.stored",
        "after",
        f"{_SPOOLED}.store",
        "a rendition is among the blobs; its fact is not published",
        "clip",
    ),
    Boundary(
        "detect.rendition.published",
        "after",
        _PUBLISH,
        "Kafka has acknowledged the fact of a rendition; the lease has not ended",
        "clip",
        when=_of(RENDERED),
    ),
    Boundary(
        "store.offsets.moved",
        "after",
        "store_svc.offsets:Offsets.advance",
        "a transaction has moved the offsets; it has recorded nothing",
    ),
    Boundary(
        "store.detections.recorded",
        "after",
        f"{_RECORDING}.media_detected:MediaDetectedRecorder.write",
        "a transaction has recorded detections, events and feed entries; it is not committed",
    ),
    Boundary(
        "store.rejections.recorded",
        "after",
        f"{_RECORDING}.media_rejected:MediaRejectedRecorder.write",
        "a transaction has recorded rejections; it is not committed",
        "flawed",
    ),
    Boundary(
        "store.assessments.recorded",
        "after",
        f"{_RECORDING}.event_assessed:EventAssessedRecorder.write",
        "a transaction has recorded assessments and closed their jobs; it is not committed",
    ),
    Boundary(
        "store.renditions.recorded",
        "after",
        f"{_RECORDING}.media_rendered:MediaRenderedRecorder.write",
        "a transaction has recorded a rendition and closed its job; it is not committed",
        "clip",
    ),
    Boundary(
        "store.batch.committed",
        "before",
        "store_svc.offsets:Offsets.committed",
        "a batch is committed with its offsets; the process has noted nothing and told nobody",
    ),
    Boundary(
        "store.dead_letter.published",
        "after",
        "mesh.bus.stream:Stream.bury",
        "a dead letter is durable; the offset still points at the record",
        "bad fact",
    ),
    Boundary(
        "store.events.closed",
        "after",
        "store_svc.sweep:Sweep._close",
        "a transaction has closed events and made their jobs due; it is not committed",
        when=_found,
    ),
    Boundary(
        "store.jobs.leased",
        "after",
        "store_svc.job_leases:lease_jobs",
        "a transaction has leased jobs; it is not committed",
        when=_found,
    ),
    Boundary(
        "store.leases.committed",
        "after",
        "store_svc.job_leases:JobLeases._lease_now",
        "leases are committed; no worker knows of them until they expire",
        when=lambda result, *_: result is not None and result[0] > 0,
    ),
    Boundary(
        "store.rendition.requested",
        "after",
        "store_svc.renditions.rendition_requests:RenditionRequests._add",
        "a rendition and its job are committed; who asked has no answer",
        "clip",
    ),
    Boundary(
        "store.feed.publishing",
        "before",
        _PUBLISH,
        "the relay has read feed entries; they are not published",
        when=_of(FEED),
    ),
    Boundary(
        "store.feed.published",
        "after",
        _PUBLISH,
        "Kafka has acknowledged feed entries; they are not marked as published",
        when=_of(FEED),
    ),
    Boundary(
        "store.kept.published",
        "after",
        _PUBLISH,
        "Kafka has acknowledged kept media; they are still in the outbox",
        when=_of(KEPT),
    ),
    Boundary(
        "store.cameras.published",
        "after",
        _PUBLISH,
        "Kafka has acknowledged a camera; it is still in the outbox",
        "new camera",
        when=_of(CAMERAS),
    ),
    Boundary(
        "store.detect_offsets.stored",
        "after",
        "store_svc.consumer_offsets:ConsumerOffsets.advance",
        "the offsets that detect_svc reports are committed; it has no answer",
    ),
    Boundary(
        "reason.job.leased",
        "after",
        "mesh.job_client:JobClient.lease",
        "reason_svc holds leases; it has assessed nothing",
        when=_found,
    ),
    Boundary(
        "reason.event.assessed",
        "after",
        "reason_svc.worker:ReasonWorker._attempt",
        "an event is assessed; nothing is published",
    ),
    Boundary(
        "reason.assessment.published",
        "after",
        _PUBLISH,
        "Kafka has acknowledged an assessment; the lease has not ended",
        when=_of(ASSESSED),
    ),
)


def boundaries_of(services: set[str]) -> list[tuple[int, Boundary]]:
    """Those that a process with these services crosses, with their numbers in the table."""
    return [(number, each) for number, each in enumerate(BOUNDARIES) if each.service in services]


def claim_file(folder: Path, boundary: Boundary) -> Path:
    """Made by the process that ends at this boundary: only one does, and it proves that it was hit."""
    return folder / f"{boundary.name}.hit"


def wrap_boundaries(services: set[str], switches: Switches) -> None:
    """Wraps the functions that cross a boundary of these services. Imports their modules."""
    for number, boundary in boundaries_of(services):
        owner, name = find(boundary)
        cross = functools.partial(switches.cross, number, claim_file(switches.path.parent, boundary))
        setattr(owner, name, _wrapped(getattr(owner, name), boundary, cross))


def find(boundary: Boundary) -> tuple[Any, str]:
    """The module or class that has the function, and its name there. Raises AttributeError if there is none:
    then the product has changed, and the table has to follow."""
    module, _, path = boundary.at.partition(":")
    *classes, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in classes:
        owner = getattr(owner, each)
    getattr(owner, name)
    return owner, name


def _wrapped(
    function: Callable[..., Any], boundary: Boundary, cross: Callable[[], None]
) -> Callable[..., Any]:
    before, when = boundary.moment == "before", boundary.when

    @functools.wraps(function)
    async def crossing(*arguments: Any, **options: Any) -> Any:
        if before and when(None, *arguments, **options):
            cross()
        result = await function(*arguments, **options)
        if not before and when(result, *arguments, **options):
            cross()
        return result

    @functools.wraps(function)
    def crossing_at_once(*arguments: Any, **options: Any) -> Any:
        if before and when(None, *arguments, **options):
            cross()
        result = function(*arguments, **options)
        if not before and when(result, *arguments, **options):
            cross()
        return result

    return crossing if inspect.iscoroutinefunction(function) else crossing_at_once
