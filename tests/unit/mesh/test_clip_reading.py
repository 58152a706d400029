"""Opening and decoding clips: whole ones, odd ones and hostile ones."""

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mesh.clip_reading import (
    MAX_FORWARD_MS,
    FrameTimes,
    luma,
    open_clip,
    quarter_turns,
    upright,
    upright_size,
)
from mesh.problems import Invalid
from mesh.processes.sandbox import Sandbox
from mesh.processes.sandbox_child import InputRefused
from tests.support.clips import make_clip

MAX_PIXELS = 36_000_000
FPS = 10


def counting(count: int, size: tuple[int, int] = (96, 64)) -> Iterator[NDArray[np.uint8]]:
    """Pictures that grow brighter."""
    for number in range(count):
        yield np.full((size[1], size[0], 3), 20 + number % 200, np.uint8)


def indices(path: Path, start: int = 0) -> list[int]:
    with open_clip(str(path), MAX_PIXELS) as clip:
        return [picture.index for picture in clip.pictures(start)]


def refusal(path: Path, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(InputRefused) as refused, open_clip(str(path), max_pixels):
        pass
    return refused.value.reason


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("clip.mp4", "libx264"),
        ("clip.mov", "libx264"),
        ("clip.3gp", "libx264"),
        ("clip.mkv", "libx265"),
        ("clip.webm", "libvpx-vp9"),
        ("clip.ts", "libx264"),
        ("clip.avi", "mpeg4"),
        ("clip.avi", "mjpeg"),
        ("clip.mp4", "libsvtav1"),
    ],
)
def test_each_container_gives_every_frame_at_its_time(tmp_path: Path, name: str, codec: str) -> None:
    path = make_clip(tmp_path / name, counting(25), fps=FPS, codec=codec)

    assert indices(path) == [100 * number for number in range(25)]


def test_the_header_is_what_the_container_says(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", counting(20), fps=FPS, audio=True, rotation=90)

    with open_clip(str(path), MAX_PIXELS) as clip:
        header, first = clip.header, next(clip.pictures())

    assert header.codec == "h264"
    assert "mp4" in header.container
    assert (header.width, header.height, header.frame_rate, header.has_audio) == (96, 64, FPS, True)
    assert header.duration_ms is not None
    assert 1900 <= header.duration_ms <= 2100
    assert quarter_turns(first.frame) == 1
    assert upright_size(first.frame) == (64, 96)


def test_pictures_are_turned_upright_and_scaled_down(tmp_path: Path) -> None:
    bright_left = np.zeros((64, 128, 3), np.uint8)
    bright_left[:, :64] = 255
    path = make_clip(tmp_path / "clip.mp4", [bright_left], rotation=90)

    with open_clip(str(path), MAX_PIXELS) as clip:
        frame = next(clip.pictures()).frame
        pixels = upright(frame, 64)

    assert pixels.shape == (64, 32, 3)
    # Counter-clockwise by 90 degrees, left is at the bottom.
    assert pixels[-10:].mean() > 200
    assert pixels[:10].mean() < 50


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_luma_is_the_decoders_plane(tmp_path: Path, codec: str) -> None:
    picture = np.full((50, 70, 3), 128, np.uint8)  # the plane has padding at this width
    path = make_clip(tmp_path / "clip.mkv", [picture], codec=codec)

    with open_clip(str(path), MAX_PIXELS) as clip:
        plane = luma(next(clip.pictures()).frame)

    assert plane.shape == (50, 70)
    assert 110 <= plane.mean() <= 140
    assert int(plane.max()) - int(plane.min()) <= 4


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.ts"])
def test_reading_from_the_middle_finds_the_same_frames(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = make_clip(tmp_path / name, counting(300), fps=FPS, codec=codec)

    whole = indices(path)

    assert indices(path, 20_050) == [index for index in whole if index >= 20_050]
    assert len(whole) == 300


def test_a_clip_can_be_read_again_from_anywhere(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", counting(200), fps=FPS)

    with open_clip(str(path), MAX_PIXELS) as clip:
        assert next(clip.pictures(12_000)).index == 12_000
        assert next(clip.pictures()).index == 0
        assert next(clip.pictures(19_000)).index == 19_000
        assert [picture.index for picture in clip.pictures(19_500)] == [
            19_500,
            19_600,
            19_700,
            19_800,
            19_900,
        ]


def with_times(path: Path, times: list[int], codec: str = "mpeg4") -> Path:
    """A clip whose frames have these presentation times in ms."""
    with av.open(str(path), "w") as output:
        video = cast(av.VideoStream, output.add_stream(codec, rate=FPS))
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.gop_size = 5
        video.codec_context.max_b_frames = 0
        for number, picture in enumerate(counting(len(times))):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pict_type = PictureType.NONE
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            for packet in video.encode(frame):
                packet.pts = packet.dts = times[number]
                packet.time_base = Fraction(1, 1000)
                output.mux(packet)
        output.mux(video.encode(None))
    return path


def test_a_variable_frame_rate_is_followed(tmp_path: Path) -> None:
    path = with_times(tmp_path / "clip.mkv", [500, 533, 900, 2900, 2950, 9000])

    assert indices(path) == [0, 33, 400, 2400, 2450, 8500]


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.integers(-(2**40), 2**40),
            st.integers(0, 5000),
        ),
        max_size=50,
    ),
    st.sampled_from([Fraction(1, 1000), Fraction(1, 90_000), Fraction(1, 3), Fraction(1, 10**6)]),
)
def test_indices_grow_whatever_the_times_are(times: list[int | None], time_base: Fraction) -> None:
    frame_times = FrameTimes(time_base, 40)

    found = [index for time in times if (index := frame_times.index_of(time)) is not None]

    assert found == sorted(set(found))
    assert found[:1] in ([], [0])
    assert all(after - before <= MAX_FORWARD_MS for before, after in pairwise(found))


def test_a_clock_that_was_set_does_not_lose_frames() -> None:
    frame_times = FrameTimes(Fraction(1, 1000), 40)

    # Back by 50 s, on by 11 days, a frame twice, none at all, and on.
    times = [60_000, 60_040, 10_000, 10_040, 10**9, 10**9, None, 10**9 + 80]
    assert [frame_times.index_of(time) for time in times] == [0, 40, 80, 120, 160, None, 200, 240]


def test_errors_within_a_clip_end_nothing(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv", noise(100), fps=FPS, gop=10)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    path.write_bytes(content)

    found = indices(path)

    assert 50 < len(found) < 101
    assert found[0] == 0
    assert found[-1] == 9900


def noise(count: int, size: tuple[int, int] = (96, 64)) -> Iterator[NDArray[np.uint8]]:
    random = np.random.default_rng(7)
    for _ in range(count):
        yield random.integers(0, 255, (size[1], size[0], 3), np.uint8)


def test_lost_packets_are_counted(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "clip.mp4", noise(50), fps=FPS, codec="mpeg4", options={"movflags": "faststart"}
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3] + bytes(len(content) // 3))

    with open_clip(str(path), MAX_PIXELS) as clip:
        found = [picture.index for picture in clip.pictures()]

    assert 20 < len(found) <= 50
    assert clip.lost or len(found) == 50


@pytest.mark.parametrize("tenth", range(1, 10))
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.ts"])
def test_a_clip_that_was_cut_gives_what_there_is(tmp_path: Path, name: str, tenth: int) -> None:
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = make_clip(tmp_path / name, noise(60), fps=FPS, codec=codec, options=options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])

    found = []
    with suppress(InputRefused):
        found = indices(path)

    assert found == sorted(set(found))
    assert len(found) <= 60
    assert found or tenth < 3


def test_a_clip_without_its_index_is_corrupt(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", noise(50))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

    assert refusal(path) == "CORRUPT"


HOSTILE = {
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    b"m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "ffconcat": b"ffconcat version 1.0\nfile 'good.mp4'\n",
    "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://good.mp4\n#EXT-X-ENDLIST\n",
    "text": b"hello world\n" * 100,
    "zeros": bytes(100_000),
    "random": np.random.default_rng(3).bytes(100_000),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "start of an MP4": struct.pack(">I4s4sI", 24, b"ftyp", b"isom", 0) + b"isomiso2",
    "absurd box": struct.pack(">I4s", 0xFFFFFFF0, b"moov") + bytes(1000),
    "empty": b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_not_a_clip_is_refused(tmp_path: Path, kind: str) -> None:
    make_clip(tmp_path / "good.mp4", counting(3))
    path = tmp_path / "hostile.mp4"
    path.write_bytes(HOSTILE[kind])

    assert refusal(path) in ("CORRUPT", "TRUNCATED", "NO_PICTURE", "UNSUPPORTED_VIDEO")


@pytest.mark.parametrize("name", ["concat:good.mp4|good.mp4", "http:example", "crypto:x", "data:video"])
def test_a_name_is_never_an_address(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "good.mp4", counting(3))

    assert refusal(Path(name)) == "BLOB_NOT_FOUND"

    os.rename("good.mp4", name)
    assert indices(Path(name)) == [0, 100, 200]


def test_an_encrypted_clip_is_refused(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "clip.mp4",
        counting(10),
        options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": "00112233445566778899aabbccddeeff",
            "encryption_kid": "00112233445566778899aabbccddeeff",
        },
    )

    with pytest.raises(InputRefused) as refused:
        indices(path)

    assert refused.value.reason == "ENCRYPTED"


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as output:
        sound = output.add_stream("aac", rate=48000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = 48000, 0, Fraction(1, 48000)
        output.mux(sound.encode(samples))
        output.mux(sound.encode(None))

    assert refusal(path) == "NO_PICTURE"


def test_a_codec_that_no_camera_writes_is_refused(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.avi", counting(3), codec="ffv1")

    assert refusal(path) == "UNSUPPORTED_VIDEO"


def test_other_decoders_see_no_bytes(tmp_path: Path) -> None:
    """Not even when a clip is opened, before its codec is known."""
    path = make_clip(tmp_path / "clip.avi", counting(3), codec="ffv1")
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as logged:
            assert refusal(path) == "UNSUPPORTED_VIDEO"
    finally:
        av.logging.set_level(before)
    assert any("not on whitelist" in text for _, _, text in logged)


def test_too_large_pictures_are_refused_by_the_header(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", counting(3, (640, 480)))

    assert refusal(path, 640 * 480 - 1) == "TOO_MANY_PIXELS"
    assert indices(path) == [0, 100, 200]


def test_a_clip_that_grows_within_gives_its_small_frames(tmp_path: Path) -> None:
    small = make_clip(tmp_path / "small.ts", counting(20), fps=FPS, gop=5)
    large = make_clip(tmp_path / "large.ts", counting(20, (1280, 960)), fps=FPS, gop=5)
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes() + small.read_bytes())

    with open_clip(str(both), 640 * 480) as clip:
        sizes = [upright_size(picture.frame) for picture in clip.pictures()]

    assert set(sizes) == {(96, 64)}
    assert len(sizes) > 20
    assert clip.lost


async def test_a_bomb_stays_within_the_memory_of_its_child(tmp_path: Path) -> None:
    black = np.zeros((6000, 8000, 3), np.uint8)
    path = make_clip(tmp_path / "bomb.mp4", [black])
    sandbox = Sandbox(
        "tests.support.clip_children:count_pictures", memory_bytes=700 * 2**20, seconds=60, idle_seconds=60
    )

    async with sandbox:
        with pytest.raises(Invalid, match="pixels") as refused:
            await sandbox.run(str(path), MAX_PIXELS)
        assert refused.value.reason == "TOO_MANY_PIXELS"
        assert await sandbox.run(str(make_clip(tmp_path / "good.mp4", counting(3))), MAX_PIXELS) == 3
