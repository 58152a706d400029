"""Clips for tests, made of the photos of `tests.support.photos`: what moves in them and when is known."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from tests.support.photos import empty_photo, people

Picture = NDArray[np.uint8]  # [h, w, 3], RGB

SIZE = (640, 360)
# Where the walker is in the first photo of `people`: x_min, y_min, x_max, y_max in pixels.
WALKER = (75, 172, 151, 375)
FASTEST = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
}
PIXELS = {"mjpeg": "yuvj420p"}


def make_clip(
    path: Path,
    pictures: Iterable[Picture],
    *,
    fps: int = 10,
    codec: str = "libx264",
    container: str | None = None,
    gop: int = 20,
    rotation: int | None = None,
    taken_at: datetime | None = None,
    audio: bool = False,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Encodes pictures of one size. `container` is FFmpeg's name of the format, if the path's suffix does not
    say it; `gop` the number of frames from one key frame to the next; `taken_at` the creation time."""
    with av.open(str(path), "w", format=container, options=dict(options or {})) as output:
        if taken_at is not None:
            output.metadata["creation_time"] = taken_at.isoformat()
        video: av.VideoStream | None = None
        sound = output.add_stream("aac", rate=48000, layout="mono") if audio else None
        count = 0
        for number, picture in enumerate(pictures):
            if video is None:
                stream = output.add_stream(codec, rate=fps, options=FASTEST.get(codec, {}))
                video = cast(av.VideoStream, stream)
                video.height, video.width = picture.shape[:2]
                video.pix_fmt = PIXELS.get(codec, "yuv420p")
                video.codec_context.gop_size = gop
                if rotation is not None:
                    video.set_display_rotation(rotation)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pict_type = PictureType.NONE
            frame.pts, frame.time_base = number, Fraction(1, fps)
            output.mux(video.encode(frame))
            count += 1
        assert video is not None, "a clip needs a picture"
        output.mux(video.encode(None))
        if sound is not None:
            for start in range(0, round(count / fps * 48000), 1024):
                tone = (np.sin(np.arange(start, start + 1024) * 0.05) * 0.1).astype(np.float32)
                samples = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = 48000, start, Fraction(1, 48000)
                output.mux(sound.encode(samples))
            output.mux(sound.encode(None))
    return path


def empty_scene(seconds: float, *, fps: int = 10, size: tuple[int, int] = SIZE) -> Iterator[Picture]:
    """A harbour in which nothing moves."""
    background = _background(size)
    for _ in range(round(seconds * fps)):
        yield background


def walker_scene(
    seconds: float,
    *,
    fps: int = 10,
    size: tuple[int, int] = SIZE,
    walks: tuple[float, float] | None = None,
    stands: bool = False,
) -> Iterator[Picture]:
    """A person walks from left to right, from second `walks[0]` to `walks[1]` (the whole clip if None), and
    is not there at other times. With `stands` the person stays in the middle."""
    background = _background(size)
    width, height = size
    walker = _walker(round(height * 0.6))
    begin, end = walks or (0.0, seconds)
    for number in range(round(seconds * fps)):
        at = number / fps
        picture = background.copy()
        if begin <= at < end:
            share = 0.5 if stands else (at - begin) / (end - begin)
            left = round(share * (width - walker.shape[1]))
            top = round(height * 0.35)
            picture[top : top + walker.shape[0], left : left + walker.shape[1]] = walker
        yield picture


def at_night(pictures: Iterable[Picture], *, light: float = 0.3, noise: float = 12.0) -> Iterator[Picture]:
    """The same by little light, with the noise of a sensor that amplifies."""
    random = np.random.default_rng(11)
    for picture in pictures:
        dark = picture.mean(axis=2) * light
        grains = random.normal(0, noise, dark.shape)
        yield np.repeat(np.clip(dark + grains, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def in_rain(pictures: Iterable[Picture], *, streaks: int = 60) -> Iterator[Picture]:
    """The same with bright streaks that are elsewhere in each picture."""
    random = np.random.default_rng(12)
    for picture in pictures:
        wet = picture.copy()
        height, width, _ = wet.shape
        length = height // 12
        for _ in range(streaks):
            left, top = random.integers(0, width - 2), random.integers(0, height - length)
            streak = wet[top : top + length, left : left + 2]
            streak[:] = np.minimum(streak.astype(np.int16) + 50, 255)
        yield wet


def _background(size: tuple[int, int]) -> Picture:
    return _resized(_read(empty_photo()), size)


def _walker(height: int) -> Picture:
    x_min, y_min, x_max, y_max = WALKER
    cut = _read(people()[0])[y_min:y_max, x_min:x_max]
    return _resized(cut, (round(cut.shape[1] * height / cut.shape[0]), height))


def _read(photo: Path) -> Picture:
    picture = cv2.imread(str(photo))
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8)


def _resized(picture: Picture, size: tuple[int, int]) -> Picture:
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
