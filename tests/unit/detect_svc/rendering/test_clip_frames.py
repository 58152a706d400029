"""JPEGs of a clip's frames."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect_svc.rendering.clip_frames import MAX_SIDE, clip_frames
from mesh.clip_reading import OpenClip, open_clip, upright
from mesh.processes.sandbox_child import InputRefused
from tests.support.clips import make_clip, walker_scene
from tests.support.rendered_clips import MAX_PIXELS, rendered


def pictures(folder: Path, source: Path, wanted: list[int]) -> dict[int, Image.Image]:
    path = folder / "frames"
    parts, told = rendered(path, lambda file: clip_frames(str(source), wanted, MAX_PIXELS, file))
    assert told == sorted(told)
    content, at = path.read_bytes(), 0
    found = {}
    for index, offset, size in parts:
        assert offset == at  # one behind another
        at += size
        found[index] = Image.open(io.BytesIO(content[offset:at])).convert("RGB")
    assert at == len(content)
    return found


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "libx264"),
        ("a.mkv", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.avi", "mjpeg"),
        ("a.webm", "libvpx-vp9"),
        ("a.mp4", "libx265"),
        ("a.mp4", "libsvtav1"),
        ("a.ts", "libx264"),
    ],
)
def test_the_wanted_frames_and_no_others(tmp_path: Path, name: str, codec: str) -> None:
    source = make_clip(tmp_path / name, walker_scene(22), codec=codec, gop=20)
    with open_clip(str(source), MAX_PIXELS) as clip:
        whole = {each.index: upright(each.frame, 640) for each in clip.pictures()}
    wanted = [0, 700, 2000, 11_900, 20_100, 21_900]
    found = pictures(tmp_path, source, [*wanted[:3], 2055, *wanted[3:], 99_000])
    assert list(found) == wanted
    for index in wanted:
        distance = np.abs(np.asarray(found[index]).astype(int) - whole[index]).mean()
        assert distance < 5, index


def test_frames_are_upright_and_fit(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", walker_scene(1, size=(2560, 1440)), codec="mpeg4", rotation=90)
    (found,) = pictures(tmp_path, source, [500]).values()
    assert found.size == (MAX_SIDE * 9 // 16, MAX_SIDE)


def test_what_lies_between_is_jumped_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_clip(tmp_path / "a.mp4", walker_scene(40, size=(96, 64)), gop=20)
    decoded, decode = list[int](), OpenClip._decode

    def counted(clip: OpenClip, packet: object) -> list[object]:
        decoded.append(1)
        return decode(clip, packet)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(OpenClip, "_decode", counted)
    assert list(pictures(tmp_path, source, [0, 15_100, 30_100, 39_900])) == [0, 15_100, 30_100, 39_900]
    assert len(decoded) < 120  # of 400: a run of 20 and the first frame again for each


def test_a_clip_with_one_key_frame_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_clip(tmp_path / "a.mp4", walker_scene(40, size=(96, 64)), gop=1000)
    decoded, decode = list[int](), OpenClip._decode

    def counted(clip: OpenClip, packet: object) -> list[object]:
        decoded.append(1)
        return decode(clip, packet)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(OpenClip, "_decode", counted)
    wanted = list(range(0, 40_000, 5_500))
    assert list(pictures(tmp_path, source, wanted)) == wanted
    assert len(decoded) <= 410


def test_none_of_the_frames(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", walker_scene(1))
    with pytest.raises(InputRefused) as refused:
        pictures(tmp_path, source, [77_000])
    assert refused.value.reason == "NO_PICTURE"


def test_the_same_clip_gives_the_same_bytes(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", walker_scene(2))
    first = [picture.tobytes() for picture in pictures(tmp_path, source, [0, 500]).values()]
    content = (tmp_path / "frames").read_bytes()
    assert [picture.tobytes() for picture in pictures(tmp_path, source, [0, 500]).values()] == first
    assert (tmp_path / "frames").read_bytes() == content
