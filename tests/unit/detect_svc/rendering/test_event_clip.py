"""Cuts of clips: where they begin, sound, joined clips, and what cannot be cut."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
import pytest

from detect_svc.rendering.event_clip import MAX_EARLY_SECONDS, Span, event_clip
from mesh.processes.sandbox_child import InputRefused
from tests.support import clips
from tests.support.clips import Picture, empty_scene, make_clip, walker_scene
from tests.support.rendered_clips import (
    MAX_BYTES,
    MAX_PIXELS,
    begins_with_index,
    rendered,
    seen,
)

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def cut(folder: Path, *spans: Span, max_bytes: int = MAX_BYTES) -> Path:
    path = folder / "cut"
    parts, told = rendered(path, lambda file: event_clip(spans, MAX_PIXELS, file), max_bytes)
    assert parts == []
    assert told == sorted(told)
    assert told[-1] == 1
    return path


def counting(seconds: int, fps: int = 10) -> Iterable[Picture]:
    """Each picture's brightness is its number: 3 steps for each."""
    for number in range(seconds * fps):
        yield np.full((64, 96, 3), 8 + 3 * number, np.uint8)


def shown(path: Path) -> list[int]:
    """The numbers of the pictures of `counting`."""
    with av.open(str(path)) as clip:
        pictures = [frame.to_ndarray(format="rgb24") for frame in clip.decode(clip.streams.video[0])]
    return [round((float(picture.mean()) - 8) / 3) for picture in pictures]


@pytest.mark.parametrize(
    ("name", "codec", "container", "options", "stays"),
    [
        ("a.mp4", "libx264", None, {}, "h264"),
        ("a.mp4", "libx264", None, FRAGMENTED, "h264"),
        ("a.mov", "libx264", None, {}, "h264"),
        ("a.mkv", "libx264", None, {}, "h264"),
        ("a.avi", "libx264", None, {}, "h264"),
        ("a.ts", "libx264", "mpegts", {}, "h264"),
        ("a.3gp", "libx264", None, {}, "h264"),
        ("a.mp4", "libx265", None, {}, "hevc"),
        ("a.mkv", "libx265", None, {}, "hevc"),
        ("a.webm", "libvpx-vp9", None, {}, "vp9"),
        ("a.mp4", "libsvtav1", None, {}, "av1"),
        ("a.avi", "mpeg4", None, {}, "mpeg4"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_cut_begins_at_the_key_frame_and_plays_from_0(
    tmp_path: Path, name: str, codec: str, container: str | None, options: dict[str, str], stays: str
) -> None:
    source = make_clip(
        tmp_path / name, walker_scene(8), codec=codec, container=container, options=options, gop=20
    )
    whole, look = seen(source), seen(cut(tmp_path, Span(str(source), 3.3, 6.1)))
    assert begins_with_index(tmp_path / "cut")
    assert look.codec == stays
    assert look.times[0] == 0
    assert look.times == sorted(set(look.times))
    first = 20 if codec != "libx265" else min(20, whole.times.index(whole.times[20]))
    assert np.array_equal(look.pictures[0], whole.pictures[first])  # at 2.0 s
    assert 4.0 <= look.times[-1] <= 4.6
    assert look.metadata.keys() <= {
        "major_brand", "minor_version", "compatible_brands",
        "video language", "video handler_name", "video vendor_id",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts"])
def test_pictures_that_are_decoded_out_of_order_come_in_order(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(clips.FASTEST, "libx264", {"preset": "medium", "x264-params": "bframes=3:scenecut=0"})
    source = make_clip(tmp_path / name, counting(8), gop=20)
    with av.open(str(source)) as opened:
        assert opened.streams.video[0].codec_context.has_b_frames
    path = cut(tmp_path, Span(str(source), 3.3, 6.1))
    numbers = shown(path)
    assert numbers[0] == 20
    assert numbers == sorted(numbers)
    assert set(range(20, 60)) <= set(numbers)
    assert seen(path).times[0] == 0
    assert seen(path).times[10] == pytest.approx(1.0)
    assert all(a < b for a, b in itertools.pairwise(seen(path).packet_times))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_pictures_that_need_what_lies_before_the_key_frame_are_left_out(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = "open-gop=1:bframes=3:b-adapt=0:scenecut=0:keyint=20:min-keyint=20"
    monkeypatch.setitem(clips.FASTEST, "libx264", {"preset": "medium", "x264-params": params})
    source = make_clip(tmp_path / name, counting(8), gop=20)
    with av.open(str(source)) as opened:
        packets = [p for p in opened.demux(opened.streams.video[0]) if p.size and p.pts is not None]
    key = next(n for n, p in enumerate(packets) if n and p.is_keyframe)
    key_frame = packets[key]
    assert any((p.pts or 0) < (key_frame.pts or 0) for p in packets[key + 1 :])
    begin = float((key_frame.pts or 0) * key_frame.time_base)
    path = cut(tmp_path, Span(str(source), begin + 0.1, 6))
    assert shown(path)[:10] == list(range(round(begin * 10), round(begin * 10) + 10))
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        assert min(p.pts or 0 for p in opened.demux(stream) if p.size) == 0


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_sound_stays_in_step(tmp_path: Path, name: str) -> None:
    source = make_clip(tmp_path / name, walker_scene(10), audio=True)
    look = seen(cut(tmp_path, Span(str(source), 5, 8)))
    whole = seen(source)
    # A packet of sound is 1024 samples, so it begins up to 21 ms after the key frame at 4.0 s.
    assert 0 <= look.sound_times[0] < 0.0214
    assert look.sound_times[-1] == pytest.approx(4, abs=0.05)
    at = [time - 4 for time in whole.sound_times if time >= 4]
    assert look.sound_times[10] == pytest.approx(at[10], abs=0.001)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_kept_and_what_the_clip_says_of_its_place_is_not(tmp_path: Path, rotation: int) -> None:
    source = make_clip(
        tmp_path / "a.mp4",
        walker_scene(4),
        rotation=rotation,
        taken_at=datetime(2026, 5, 1, tzinfo=UTC),
        options={"movflags": "use_metadata_tags"},
    )
    located = tmp_path / "b.mp4"
    with av.open(str(source)) as old, av.open(str(located), "w") as new:
        new.metadata["location"] = "+48.2-016.3/"
        new.metadata["creation_time"] = "2026-05-01T00:00:00Z"
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert "location" in seen(located).metadata
    path = cut(tmp_path, Span(str(located), 1, 3))
    assert (seen(path).rotation - rotation) % 360 == 0
    assert "location" not in seen(path).metadata
    assert "creation_time" not in seen(path).metadata
    assert b"48.2" not in path.read_bytes()


def test_hevc_gets_the_name_that_apple_plays(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mkv", walker_scene(4), codec="libx265")
    assert seen(cut(tmp_path, Span(str(source), 1, 3))).tag == "hvc1"


def test_what_lies_outside_of_the_clip_is_left_out(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", counting(4))
    assert shown(cut(tmp_path, Span(str(source), -5, 60))) == list(range(40))
    with pytest.raises(InputRefused) as refused:
        cut(tmp_path, Span(str(source), 9, 12))
    assert refused.value.reason == "NOT_CUTTABLE"
    with pytest.raises(InputRefused) as refused:
        cut(tmp_path, Span(str(source), -9, -5))
    assert refused.value.reason == "NOT_CUTTABLE"


def test_clips_of_one_kind_are_joined(tmp_path: Path) -> None:
    """The second clip begins where the first ends: 2 s after the beginning of what is wanted."""
    one = make_clip(tmp_path / "1.mp4", counting(4), audio=True)
    two = make_clip(tmp_path / "2.mp4", counting(4), audio=True)
    path = cut(tmp_path, Span(str(one), 2, 5), Span(str(two), -2, 1))
    numbers = shown(path)
    assert numbers[:20] == list(range(20, 40))
    assert numbers[20:30] == list(range(10))
    look = seen(path)
    assert all(a < b for a, b in itertools.pairwise(look.times))
    assert all(a < b for a, b in itertools.pairwise(look.packet_times))
    assert all(a < b for a, b in itertools.pairwise(look.sound_times))
    # The second part begins when the first one's pictures and sound are over, and both of it together.
    assert look.times[20] == pytest.approx(2, abs=0.1)
    gap = next(b for a, b in itertools.pairwise(look.sound_times) if b - a > 0.022 or b >= look.times[20])
    assert gap == pytest.approx(look.times[20], abs=0.03)


def test_what_two_clips_show_is_shown_once(tmp_path: Path) -> None:
    """The second clip began 3 s after the first one, and holds the same: its key frame after the end of the
    first comes next."""
    one, two = (make_clip(tmp_path / f"{n}.mp4", counting(6), gop=10) for n in (1, 2))
    numbers = shown(cut(tmp_path, Span(str(one), 0, 12), Span(str(two), -3, 9)))
    assert numbers == [*range(60), *range(30, 60)]
    hidden = Span(str(two), -1, 2)  # ends before the first one does
    assert shown(cut(tmp_path, Span(str(one), 0, 5), hidden)) == list(range(51))


def test_of_clips_that_differ_those_that_cover_most_are_taken(tmp_path: Path) -> None:
    small = make_clip(tmp_path / "1.mp4", empty_scene(3, size=(320, 180)))
    large = make_clip(tmp_path / "2.mp4", walker_scene(8))
    broken = tmp_path / "3.mp4"
    broken.write_bytes(b"no clip")
    spans = Span(str(small), 0, 10), Span(str(large), -3, 7), Span(str(broken), -8, 2)
    look = seen(cut(tmp_path, *spans))
    assert look.size == (640, 360)
    assert len(look.times) == 71


def test_sound_that_differs_is_left_out(tmp_path: Path) -> None:
    loud = make_clip(tmp_path / "1.mp4", counting(4), audio=True)
    silent = make_clip(tmp_path / "2.mp4", counting(4))
    look = seen(cut(tmp_path, Span(str(loud), 0, 8), Span(str(silent), -4, 4)))
    assert (len(look.times), look.sound_times) == (80, [])


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mjpeg"), ("a.webm", "libvpx"), ("a.avi", "msmpeg4")])
def test_what_mp4_cannot_hold_is_not_cuttable(tmp_path: Path, name: str, codec: str) -> None:
    source = make_clip(tmp_path / name, walker_scene(2), codec=codec)
    with pytest.raises(InputRefused) as refused:
        cut(tmp_path, Span(str(source), 0, 1))
    assert refused.value.reason == "NOT_CUTTABLE"


def test_a_key_frame_that_lies_too_early_is_refused(tmp_path: Path) -> None:
    seconds = MAX_EARLY_SECONDS + 10
    still = itertools.islice(itertools.cycle(list(counting(2))), seconds * 2)
    source = make_clip(tmp_path / "a.mp4", still, fps=2, gop=10_000)
    with pytest.raises(InputRefused, match="too early") as refused:
        cut(tmp_path, Span(str(source), seconds - 2, seconds))
    assert refused.value.reason == "NOT_CUTTABLE"
    cut(tmp_path, Span(str(source), MAX_EARLY_SECONDS - 2, seconds))


def test_a_cut_is_bounded(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", walker_scene(8))
    with pytest.raises(InputRefused) as refused:
        cut(tmp_path, Span(str(source), 0, 8), max_bytes=100_000)
    assert refused.value.reason == "TOO_LARGE"
    assert (tmp_path / "cut").stat().st_size <= 100_000


@pytest.mark.parametrize("tenth", range(1, 10))
@pytest.mark.parametrize("name", ["a.mp4", "f.mp4", "a.mkv", "a.avi"])
def test_a_clip_that_is_cut_off_is_refused_or_ends_earlier(tmp_path: Path, name: str, tenth: int) -> None:
    options = FRAGMENTED if name.startswith("f") else {}
    source = make_clip(tmp_path / name, counting(8), options=options)
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * tenth // 10])
    try:
        path = cut(tmp_path, Span(str(source), 1, 7))
    except InputRefused as refusal:
        assert refusal.reason in ("CORRUPT", "TRUNCATED", "NOT_CUTTABLE", "NO_PICTURE", "UNSUPPORTED_VIDEO")  # noqa: PT017
    else:
        numbers = shown(path)
        assert numbers == list(range(len(numbers)))


def test_the_same_cut_gives_the_same_bytes(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", walker_scene(6), audio=True)
    span = Span(str(source), 2.5, 5)
    assert cut(tmp_path, span).read_bytes() == cut(tmp_path, span).read_bytes()
