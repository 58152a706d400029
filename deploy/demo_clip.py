"""The clip of `lares demo`, made of two of its photos: somebody walks past a harbour. Runs in a sandbox's
child only."""

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import TypeAlias, cast

import av
import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]  # [h, w, 3], RGB

WIDTH, HEIGHT, FPS, SECONDS = 640, 360, 10, 8
# Where the walker is in the photo, in pixels, and how tall on the clip.
LEFT, TOP, RIGHT, BOTTOM = 75, 172, 151, 375
WALKER_HEIGHT, WALKER_TOP = 216, 126
# Browsers play H.264; not every build of FFmpeg can make it.
PREFERRED, OTHERWISE = "libx264", "mpeg4"


def make(harbour: str, walker: str) -> bytes:
    """Returns an MP4, made of the JPEGs at these paths."""
    written = io.BytesIO()
    with av.open(written, "w", format="mp4") as output:
        codec = PREFERRED if PREFERRED in av.codecs_available else OTHERWISE
        video = cast(av.VideoStream, output.add_stream(codec, rate=FPS))
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.gop_size = FPS
        for number, pixels in enumerate(_walk(_decoded(harbour), _decoded(walker))):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return written.getvalue()


def _walk(harbour: Pixels, photo: Pixels) -> Iterator[Pixels]:
    background = _scaled(harbour, WIDTH, HEIGHT)
    cut = np.ascontiguousarray(photo[TOP:BOTTOM, LEFT:RIGHT])
    walker = _scaled(cut, round(cut.shape[1] * WALKER_HEIGHT / cut.shape[0]), WALKER_HEIGHT)
    count = FPS * SECONDS
    for number in range(count):
        picture = background.copy()
        left = (WIDTH - walker.shape[1]) * number // count
        picture[WALKER_TOP : WALKER_TOP + WALKER_HEIGHT, left : left + walker.shape[1]] = walker
        yield picture


def _decoded(path: str) -> Pixels:
    with av.open(path) as photo:
        return next(photo.decode(video=0)).to_ndarray(format="rgb24").astype(np.uint8)


def _scaled(pixels: Pixels, width: int, height: int) -> Pixels:
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA").astype(np.uint8)
