"""Clips as H.264 MP4."""

from pathlib import Path

import av
import numpy as np
import pytest

from detect_svc.rendering import playable as module
from detect_svc.rendering.playable import playable
from mesh.processes.sandbox_child import InputRefused
from tests.support.clips import make_clip, walker_scene
from tests.support.rendered_clips import MAX_BYTES, MAX_PIXELS, begins_with_index, rendered, seen


def play(folder: Path, source: Path, max_bytes: int = MAX_BYTES) -> Path:
    path = folder / "playable"
    parts, told = rendered(path, lambda file: playable(str(source), MAX_PIXELS, file), max_bytes)
    assert parts == []
    assert len(told) > 10
    assert told == sorted(told)
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.avi", "mjpeg"),
        ("a.avi", "msmpeg4"),
        ("a.mp4", "libx265"),
        ("a.mkv", "libx265"),
        ("a.webm", "libvpx-vp9"),
        ("a.mp4", "libsvtav1"),
        ("a.mp4", "mpeg4"),
    ],
)
def test_every_codec_becomes_h264(tmp_path: Path, name: str, codec: str) -> None:
    source = make_clip(tmp_path / name, walker_scene(4), codec=codec)
    path = play(tmp_path, source)
    look, whole = seen(path), seen(source)
    assert begins_with_index(path)
    assert (look.codec, look.tag, look.size) == ("h264", "avc1", (640, 360))
    assert look.times == pytest.approx([number / 10 for number in range(40)], abs=0.002)
    for number in (0, 20, 39):
        near = np.abs(look.pictures[number].astype(int) - whole.pictures[number]).mean()
        assert near < 6, number
    with av.open(str(path)) as opened:
        assert opened.streams.video[0].codec_context.pix_fmt == "yuv420p"


@pytest.mark.parametrize(
    ("size", "smaller"),
    [
        ((1920, 1080), (1280, 720)),
        ((2048, 512), (1280, 320)),
        ((720, 1600), (576, 1280)),
        ((130, 98), (130, 98)),
    ],
)
def test_pictures_are_scaled_down_but_not_up(
    tmp_path: Path, size: tuple[int, int], smaller: tuple[int, int]
) -> None:
    source = make_clip(tmp_path / "a.mkv", walker_scene(1.5, size=size), codec="mpeg4")
    assert seen(play(tmp_path, source)).size == smaller


@pytest.mark.parametrize("name", ["a.mkv", "a.mov", "a.avi"])
def test_sound_stays_in_step(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name == "a.avi" else "libx265"
    source = make_clip(tmp_path / name, walker_scene(4), codec=codec, audio=True)
    look = seen(play(tmp_path, source))
    assert look.sound_times[0] == pytest.approx(0, abs=0.025)
    assert look.sound_times[-1] == pytest.approx(3.9, abs=0.15)
    with av.open(str(tmp_path / "playable")) as opened:
        assert opened.streams.audio[0].codec_context.name == "aac"


def test_rotation_is_kept(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", walker_scene(2), codec="libx265", rotation=90)
    look = seen(play(tmp_path, source))
    assert (look.rotation, look.size) == (90, (640, 360))


def test_it_is_bounded(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", walker_scene(8))
    with pytest.raises(InputRefused) as refused:
        play(tmp_path, source, max_bytes=50_000)
    assert refused.value.reason == "TOO_LARGE"


def test_without_an_encoder_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENCODERS", ("libnone",))
    source = make_clip(tmp_path / "a.mp4", walker_scene(1))
    with pytest.raises(InputRefused) as refused:
        play(tmp_path, source)
    assert refused.value.reason == "NO_ENCODER"


def test_damage_ends_nothing(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mkv", walker_scene(6), gop=10)
    content = bytearray(source.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    source.write_bytes(content)
    times = seen(play(tmp_path, source)).times
    assert times[-1] == pytest.approx(5.9, abs=0.01)
    assert len(times) > 40


def test_the_same_clip_gives_the_same_bytes(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mkv", walker_scene(4), codec="libx265", audio=True)
    assert play(tmp_path, source).read_bytes() == play(tmp_path, source).read_bytes()
