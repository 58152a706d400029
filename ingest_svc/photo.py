"""What ingest_svc tells the others: a photo it took, or a file it did not."""

from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cached_property

from ingest_svc.capture import Captured
from ingest_svc.fingerprint import Fingerprint, printable
from ingest_svc.inspection import Header
from ingest_svc.refusal import Refusal
from mesh.identity import media_id, rejection_id

LONGEST_NAME = 200


@dataclass(frozen=True)
class Camera:
    """`name` as the folder or uploader wrote it; `zone` is where its clock hangs."""

    id: str
    name: str
    zone: tzinfo


@dataclass(frozen=True)
class Photo:
    """`file` is absent for uploads. Its blob is durable."""

    camera: Camera
    sha256: str
    size: int
    header: Header
    captured: Captured
    ingested_at: datetime
    file: Fingerprint | None = None

    @cached_property
    def id(self) -> str:
        return media_id(self.camera.id, self.sha256)


@dataclass(frozen=True)
class Rejection:
    """`camera_id` is empty where the file or folder belongs to no camera."""

    camera_id: str
    file: Fingerprint
    refusal: Refusal
    rejected_at: datetime

    @property
    def id(self) -> str:
        return rejection_id(self.camera_id, printable(self.file.path), self.file.size, self.file.mtime_ns)


Fact = Photo | Rejection
