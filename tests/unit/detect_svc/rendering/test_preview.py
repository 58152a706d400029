"""Animated previews of events."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect_svc.rendering.preview import Shot, Source, preview
from mesh.boxes import LabelledBox
from mesh.picture_drawing import COLOURS
from mesh.processes.sandbox_child import InputRefused
from tests.support.clips import make_clip, walker_scene
from tests.support.photos import people
from tests.support.rendered_clips import MAX_BYTES, MAX_PIXELS, rendered

BOX: LabelledBox = ("person", 0.9, 0.25, 0.25, 0.75, 0.75)


def made(folder: Path, *sources: Source, max_bytes: int = MAX_BYTES) -> list[Image.Image]:
    path = folder / "preview"
    rendered(path, lambda file: preview(sources, MAX_PIXELS, file), max_bytes)
    pictures = []
    with Image.open(path) as animated:
        assert animated.format == "WEBP"
        for number in range(getattr(animated, "n_frames", 1)):
            animated.seek(number)
            pictures.append(animated.convert("RGB"))
    return pictures


def durations(path: Path) -> list[int]:
    found = []
    with Image.open(path) as animated:
        for number in range(animated.n_frames):  # type: ignore[attr-defined]
            animated.seek(number)
            animated.load()
            found.append(animated.info["duration"])
    return found


def photo(folder: Path, name: str, size: tuple[int, int], shade: int) -> Path:
    path = folder / name
    Image.fromarray(np.full((size[1], size[0], 3), shade, np.uint8)).save(path, "JPEG")
    return path


def test_photos_and_clips_with_boxes(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", walker_scene(3))
    still = photo(tmp_path, "b", (1280, 720), 128)
    pictures = made(
        tmp_path,
        Source(str(still), False, [Shot(0, 300, [BOX])]),
        Source(str(clip), True, [Shot(0, 400, []), Shot(2000, 1500, [BOX])]),
    )
    assert [picture.size for picture in pictures] == [(640, 360)] * 3
    assert durations(tmp_path / "preview") == [300, 400, 1500]
    for number, drawn in enumerate((True, False, True)):
        edge = np.asarray(pictures[number])[180, 160].astype(int)  # the left edge of the box
        near = bool(np.abs(edge - COLOURS["person"]).max() < 70)
        assert near is drawn, (number, edge)


def test_pictures_of_other_sizes_are_centred(tmp_path: Path) -> None:
    wide, high = photo(tmp_path, "a", (1280, 720), 200), photo(tmp_path, "b", (300, 600), 200)
    sources = [Source(str(path), False, [Shot(0, 500, [])]) for path in (wide, high)]
    pictures = [np.asarray(picture) for picture in made(tmp_path, *sources)]
    assert {picture.shape for picture in pictures} == {(600, 640, 3)}
    assert pictures[0][10].max() < 20
    assert pictures[0][300].min() > 180
    assert pictures[1][300, 10].max() < 20
    assert pictures[1][300, 320].min() > 180


def test_what_cannot_be_decoded_is_left_out(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"neither photo nor clip")
    good = photo(tmp_path, "a", (64, 64), 9)
    shots = [Shot(0, 500, [])]
    sources = [Source(str(broken), False, shots), Source(str(broken), True, shots)]
    assert len(made(tmp_path, *sources, Source(str(good), False, shots))) == 1
    with pytest.raises(InputRefused) as refused:
        made(tmp_path, *sources)
    assert refused.value.reason == "NOT_AN_IMAGE"
    with pytest.raises(InputRefused) as refused:
        made(tmp_path, Source(str(tmp_path / "gone"), False, shots), Source(str(good), False, shots))
    assert refused.value.reason == "BLOB_NOT_FOUND"


def test_it_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(InputRefused) as refused:
        made(tmp_path, Source(str(people()[0]), False, [Shot(0, 500, [])]), max_bytes=1000)
    assert refused.value.reason == "TOO_LARGE"


def test_the_same_event_gives_the_same_bytes(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", walker_scene(3))
    source = Source(str(clip), True, [Shot(ms, 300, [BOX]) for ms in (0, 1000, 2000)])
    made(tmp_path, source)
    content = (tmp_path / "preview").read_bytes()
    made(tmp_path, source)
    assert (tmp_path / "preview").read_bytes() == content


def test_photos_need_no_package_for_clips(tmp_path: Path) -> None:
    still = photo(tmp_path, "a", (64, 64), 9)
    order = {
        "kind": "EVENT_PREVIEW",
        "max_pixels": MAX_PIXELS,
        "sources": [{"path": str(still), "is_clip": False, "shots": [[0, 500, []]]}],
    }
    program = f"""
import os, sys
sys.modules["av"] = None
from detect_svc.rendering.child import render
assert list(render({order!r}, os.open({str(tmp_path / "out")!r}, os.O_RDWR | os.O_CREAT), 10**6)) == [1.0]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "out").read_bytes().startswith(b"RIFF")
