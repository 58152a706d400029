"""Opens clips in a child process, and accepts or rejects them by what is found there."""

import math
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any, Protocol

import structlog

from ingest_svc.formats.capture_time import ClipTimes
from ingest_svc.formats.clip_container import ClipContainer
from ingest_svc.formats.inspection import ClipProperties, MediaHeader, MediaLimits
from ingest_svc.rejection import RejectionCause, RejectReason
from mesh.problems import Internal, Invalid, Unavailable
from mesh.processes.sandbox import Crashed, Hung, Sandbox
from mesh.telemetry.spans import span

log = structlog.get_logger(__name__)

TARGET = "ingest_svc.formats.clip_probe:probe"
# Of one child, which reads one clip after another, and is there only while there are clips. All imports and
# uploads that there can be may wait for it.
MEMORY_BYTES, SECONDS, IDLE_SECONDS, MAX_WAITING = 512 * 2**20, 30.0, 60.0, 256
# A clip that takes too long may have met a busy machine: it is tried so often before it is rejected.
ATTEMPTS = 2

CODEC = re.compile(r"[a-z0-9_]{1,32}")
MAX_FRAME_RATE, MAX_SIDE = 1000.0, 65_535
LATEST_YEAR = 2200


class ClipSandbox(Protocol):
    """The part of mesh.processes.sandbox.Sandbox that this module uses."""

    async def run(self, *args: object) -> Any: ...


def clips_are_installed() -> bool:
    """Whether the packages are there that read clips: the extra `lares[clips]`."""
    return find_spec("av") is not None


def probing_sandbox() -> Sandbox:
    return Sandbox(
        TARGET,
        waiting=MAX_WAITING,
        seconds=SECONDS,
        memory_bytes=MEMORY_BYTES,
        idle_seconds=IDLE_SECONDS,
    )


class ClipProbe:
    def __init__(self, sandbox: ClipSandbox, limits: MediaLimits) -> None:
        self._sandbox, self._limits = sandbox, limits

    async def inspect(self, path: str, container: ClipContainer) -> MediaHeader | RejectionCause:
        """Opens the clip at `path`. Raises Unavailable if that cannot be done now."""
        with span("probe clip"):
            answer = await self._ask(path)
        if isinstance(answer, RejectionCause):
            return answer
        try:
            header = _header(answer, container)
        except (KeyError, TypeError, ValueError, OverflowError):
            # The child may be under foreign control.
            log.warning("a clip's header makes no sense", answer=str(answer)[:300])
            return RejectionCause(RejectReason.CORRUPT, "the clip's header makes no sense")
        return self._checked(header)

    async def _ask(self, path: str) -> dict[str, Any] | RejectionCause:
        for _ in range(ATTEMPTS):
            try:
                answer: dict[str, Any] = await self._sandbox.run(path, self._limits.pixels)
                return answer
            except Hung:
                log.warning("reading a clip's header takes long", seconds=SECONDS)
            except Crashed:
                return RejectionCause(RejectReason.CORRUPT, "the clip crashes the program that reads it")
            except Invalid as refused:
                with suppress(ValueError):
                    return RejectionCause(RejectReason(refused.reason), refused.message)
                raise Unavailable(refused.message, "CLIP_NOT_READ") from None  # somebody removed the copy
            except Internal as failed:
                log.warning("a clip's header cannot be read", error=failed.message)
                return RejectionCause(RejectReason.CORRUPT, "the clip's header cannot be read")
        detail = f"the clip's header cannot be read within {SECONDS:g} s"
        return RejectionCause(RejectReason.CORRUPT, detail)

    def _checked(self, header: MediaHeader) -> MediaHeader | RejectionCause:
        if header.width * header.height > self._limits.pixels:
            detail = f"{header.width} x {header.height} pixels; {self._limits.pixels} are allowed"
            return RejectionCause(RejectReason.TOO_MANY_PIXELS, detail)
        length, most = header.clip.length if header.clip else None, self._limits.clip_length
        if length is not None and length > most:
            detail = f"{length.total_seconds():.0f} s long; {most.total_seconds():.0f} s are allowed"
            return RejectionCause(RejectReason.TOO_LONG, detail)
        return header


def clip_times(header: MediaHeader) -> ClipTimes | None:
    """None for photos."""
    clip = header.clip
    return None if clip is None else ClipTimes(clip.length or timedelta(0), clip.created)


def _header(answer: dict[str, Any], container: ClipContainer) -> MediaHeader:
    """Raises KeyError, TypeError, ValueError or OverflowError if the answer is not what a child answers."""
    width, height = int(answer["width"]), int(answer["height"])
    rotation, codec = int(answer["rotation"]), str(answer["codec"])
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or rotation not in (0, 90, 180, 270):
        raise ValueError("not the size of a picture")
    if not CODEC.fullmatch(codec):
        raise ValueError("not the name of a codec")
    rate, length_ms = float(answer["frame_rate"]), answer["length_ms"]
    clip = ClipProperties(
        length=None if length_ms is None else _length(int(length_ms)),
        codec=codec,
        frame_rate=rate if math.isfinite(rate) and 0 < rate <= MAX_FRAME_RATE else 0.0,
        rotation=rotation,
        has_audio=bool(answer["has_audio"]),
        created=_created(answer["created"]),
    )
    return MediaHeader(container, width, height, clip)


def _length(milliseconds: int) -> timedelta:
    try:
        return timedelta(milliseconds=max(0, milliseconds))
    except OverflowError:
        return timedelta.max


def _created(text: object) -> datetime | None:
    try:
        created = datetime.fromisoformat(str(text))
        created = created.replace(tzinfo=UTC) if created.tzinfo is None else created.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return created if created.year <= LATEST_YEAR else None
