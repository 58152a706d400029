"""A small clip of each kind that cameras and recorders write, made once for all tests."""

import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np

from ingest_svc.formats.clip_container import ClipContainer
from tests.support.clips import Picture, make_clip

SIZE, FPS, SECONDS = (160, 96), 10, 4
TAKEN_AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
KINDS = {
    "mp4": ClipContainer.MP4,
    "mp4, index first": ClipContainer.MP4,
    "mp4, fragments": ClipContainer.MP4,
    "mov": ClipContainer.QUICKTIME,
    "3gp": ClipContainer.THREE_GP,
    "mkv": ClipContainer.MATROSKA,
    "mkv, live": ClipContainer.MATROSKA,
    "webm": ClipContainer.WEBM,
    "avi": ClipContainer.AVI,
    "ts": ClipContainer.MPEG_TS,
}
# Those whose containers do not say where they end.
OPEN_ENDED = ("mp4, fragments", "mkv, live", "ts")
OPTIONS = {
    "mp4, index first": {"movflags": "+faststart"},
    # Without an index at the end, as cameras write it.
    "mp4, fragments": {"movflags": FRAGMENTS["movflags"] + "+skip_trailer"},
    "mkv, live": {"live": "1"},
}
CODECS = {"webm": "libvpx-vp9", "avi": "mpeg4"}


@cache
def small_clip(kind: str, *, audio: bool = False, rotation: int | None = None) -> bytes:
    """One of KINDS, of 4 s."""
    with tempfile.TemporaryDirectory() as folder:
        path = make_clip(
            Path(folder) / f"clip.{kind.partition(',')[0]}",
            moving_square(SECONDS),
            fps=FPS,
            codec=CODECS.get(kind, "libx264"),
            gop=FPS,
            options=OPTIONS.get(kind),
            taken_at=TAKEN_AT,
            audio=audio,
            rotation=rotation,
        )
        return path.read_bytes()


def moving_square(seconds: float, fps: int = FPS, size: tuple[int, int] = SIZE) -> list[Picture]:
    pictures = []
    for number in range(round(seconds * fps)):
        picture = np.full((size[1], size[0], 3), 90, np.uint8)
        left = 2 * number % (size[0] - 20)
        picture[30:50, left : left + 20] = 220
        pictures.append(picture)
    return pictures
