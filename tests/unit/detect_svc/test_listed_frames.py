"""A frame that the detector looked at is found again under its index, whatever the clip's container and times
are: the two read a clip in different ways."""

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from detect_svc.frames.choice import FrameSettings
from detect_svc.frames.minute_decoder import MinuteDecoder
from detect_svc.rendering.clip_frames import clip_frames
from tests.support import clips
from tests.support.clips import Picture, make_clip
from tests.support.rendered_clips import MAX_PIXELS, rendered

SETTINGS = FrameSettings(2.0, 30, 300, 0.5, 0.002, 64)
B_FRAMES = {"preset": "medium", "x264-params": "bframes=3:b-adapt=0:scenecut=0"}
OPEN_GOPS = {"preset": "medium", "x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0:keyint=20"}
FPS = 24  # whose frames do not lie at whole milliseconds
Retime = Callable[[int, int], int]


def numbered(count: int) -> Iterator[Picture]:
    """Pictures of which no two within 12 s have the same brightness."""
    for number in range(count):
        yield np.full((64, 96, 3), 16 + number * 37 % 120 * 2, np.uint8)


def retimed(source: Path, path: Path, times: Retime, container: str | None = None) -> Path:
    """The same packets with other times: `times` is given a packet's number and its time in ms."""
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as clip, av.open(str(path), "w", format=container, options=options) as output:
        stream = output.add_stream_from_template(clip.streams.video[0])
        last = -(2**62)
        for number, packet in enumerate(clip.demux(clip.streams.video[0])):
            if packet.pts is None or packet.dts is None:
                continue
            ms = round(packet.dts * packet.time_base * 1000)
            change = round((times(number, ms) - ms) / 1000 / packet.time_base)
            packet.pts, packet.dts = packet.pts + change, packet.dts + change
            if packet.dts <= last:
                continue  # the muxer would refuse it
            last, packet.stream = packet.dts, stream
            output.mux(packet)
    return path


def listed(path: Path) -> dict[int, float]:
    """The brightness of each frame that the detector looks at, by index."""
    decoder = MinuteDecoder(MAX_PIXELS, 4 * 3_600_000, 3600.0)
    found: dict[int, float] = {}
    carry: dict[str, Any] | None = None
    is_last = False
    while not is_last:
        minute = decoder.decode(str(path), carry, list(SETTINGS), 0)
        assert not minute["left"]
        for frame in minute["frames"]:
            found[frame["index"]] = np.frombuffer(frame["pixels"], np.uint8).mean()
        carry, is_last = minute["carry"], minute["is_last"]
    return found


def rendered_frames(folder: Path, source: Path, wanted: list[int]) -> dict[int, float]:
    path = folder / "frames"
    path.unlink(missing_ok=True)
    parts, _ = rendered(path, lambda file: clip_frames(str(source), wanted, MAX_PIXELS, file))
    content = path.read_bytes()
    pictures = {index: content[offset : offset + size] for index, offset, size in parts}
    return {index: np.asarray(Image.open(io.BytesIO(one))).mean() for index, one in pictures.items()}


def require_found(folder: Path, path: Path, least: int) -> None:
    """All together, and each alone, with a jump to it if the clip allows one."""
    frames = listed(path)
    assert len(frames) >= least
    for wanted in [list(frames), *([index] for index in list(frames)[:: max(1, len(frames) // 6)])]:
        found = rendered_frames(folder, path, wanted)
        assert list(found) == wanted
        assert {i: v for i, v in found.items() if abs(v - frames[i]) > 3} == {}


@pytest.fixture
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder limits the processor time of its process, which is the tests' here."""
    monkeypatch.setattr("detect_svc.frames.minute_decoder._limit_processor_time", lambda _: None)


pytestmark = pytest.mark.usefixtures("no_limit")


@pytest.mark.parametrize(
    ("name", "codec", "encoder", "options"),
    [
        ("a.mp4", "libx264", None, {}),
        ("a.mp4", "libx264", B_FRAMES, {}),
        ("a.mp4", "libx264", OPEN_GOPS, {}),
        ("a.mp4", "libx264", B_FRAMES, {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
        ("a.mp4", "libx264", B_FRAMES, {"movflags": "+faststart"}),
        ("a.mp4", "libx265", None, {}),
        ("a.mp4", "libsvtav1", None, {}),
        ("a.mov", "libx264", B_FRAMES, {}),
        ("a.3gp", "libx264", B_FRAMES, {}),
        ("a.mkv", "libx264", B_FRAMES, {}),
        ("a.mkv", "libx264", OPEN_GOPS, {}),
        ("a.mkv", "libx264", B_FRAMES, {"live": "1"}),
        ("a.webm", "libvpx-vp9", None, {}),
        ("a.avi", "mpeg4", None, {}),
        ("a.avi", "mjpeg", None, {}),
        ("a.avi", "libx264", B_FRAMES, {}),
        ("a.ts", "libx264", B_FRAMES, {}),
        ("a.ts", "libx264", OPEN_GOPS, {}),
        ("a.ts", "mpeg2video", None, {}),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_each_container(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    codec: str,
    encoder: dict[str, str] | None,
    options: dict[str, str],
) -> None:
    if encoder:
        monkeypatch.setitem(clips.FASTEST, "libx264", encoder)
    path = make_clip(tmp_path / name, numbered(24 * FPS), fps=FPS, codec=codec, gop=20, options=options)
    require_found(tmp_path, path, 12)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.ts"])
@pytest.mark.parametrize(
    "times",
    [
        lambda n, ms: ms + 7300,  # does not begin at 0
        lambda n, ms: ms - 1050,  # begins before 0: the container says to leave that out
        lambda n, ms: ms + n % 7 * 9,  # a variable frame rate
        lambda n, ms: ms * 3 // 2 if n < 100 else ms + 5000,  # another one from the middle on
        lambda n, ms: ms + (4000 if n >= 130 else 0),  # a gap
        lambda n, ms: ms + (3_700_000 if n >= 130 else 0),  # a clock that was set
        lambda n, ms: ms + (95_443_000 - 8000),  # MPEG-TS counts up to 95,443.7 s and begins anew
    ],
    ids=["late", "early", "variable", "slower", "gap", "set", "wrap"],
)
@pytest.mark.parametrize("encoder", [None, B_FRAMES], ids=["plain", "b-frames"])
def test_odd_times(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    times: Retime,
    encoder: dict[str, str] | None,
) -> None:
    if encoder:
        monkeypatch.setitem(clips.FASTEST, "libx264", encoder)
    source = make_clip(tmp_path / "source.mp4", numbered(240), gop=20)
    require_found(tmp_path, retimed(source, tmp_path / name, times), 12)


def test_parts_of_a_transport_stream_put_together(tmp_path: Path) -> None:
    """As recorders do: the second part's clock begins anew."""
    first = make_clip(tmp_path / "a.ts", numbered(130), gop=20)
    second = make_clip(tmp_path / "b.ts", numbered(130), gop=20)
    path = tmp_path / "both.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert os.path.getsize(path) % 188 == 0
    require_found(tmp_path, path, 12)
