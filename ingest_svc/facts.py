"""The facts that ingest_svc announces: a media that it has stored, or a file that it has rejected."""

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import cached_property

from ingest_svc.fingerprint import Fingerprint, printable
from ingest_svc.formats.capture_time import CaptureTime
from ingest_svc.formats.inspection import MediaHeader
from ingest_svc.rejection import RejectionCause
from mesh.identity import media_id, rejection_id


@dataclass(frozen=True)
class SourceCamera:
    """`name` is as the folder or the uploader spells it. `zone` applies to times without an offset. A
    time that is further than `clock_tolerance` from the arrival is not believed."""

    id: str
    name: str
    zone: tzinfo
    clock_tolerance: timedelta | None = None


@dataclass(frozen=True)
class IngestedMedia:
    """A media whose blob is durable. `file` is None for an upload. `may_be_known` is false if its content is
    certainly new. `backlog`: it waited for its turn."""

    camera: SourceCamera
    sha256: str
    size: int
    header: MediaHeader
    captured: CaptureTime
    ingested_at: datetime
    file: Fingerprint | None = None
    may_be_known: bool = True
    backlog: bool = False

    @cached_property
    def id(self) -> str:
        return media_id(self.camera.id, self.sha256)


@dataclass(frozen=True)
class RejectedFile:
    """`camera_id` is empty if the file or folder belongs to no camera."""

    camera_id: str
    file: Fingerprint
    cause: RejectionCause
    rejected_at: datetime

    @property
    def id(self) -> str:
        return rejection_id(self.camera_id, printable(self.file.path), self.file.size, self.file.mtime_ns)


Fact = IngestedMedia | RejectedFile
