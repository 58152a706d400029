"""Decoding minute by minute: odd clips, fresh children, large results."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detect_svc.frames import minute_decoder
from detect_svc.frames.choice import FrameSettings
from detect_svc.frames.minute_decoder import load
from mesh.clip_reading import OpenClip, open_clip
from mesh.processes.sandbox_child import InputRefused
from tests.support.clips import empty_scene, make_clip, walker_scene

SETTINGS = FrameSettings(2.0, 30, 300, 0.5, 0.002, 320)
Message = dict[str, Any]


def frames_of(
    path: Path, settings: FrameSettings = SETTINGS, *, fresh: bool = False
) -> tuple[list[Message], Message]:
    """All frames and the last carry; with `fresh` from a new child in each call."""
    decode = load(36_000_000, 3_600_000, 60.0)
    frames: list[Message] = []
    carry, is_last = None, False
    while not is_last:
        left, skip = 1, 0
        while left:
            decode = load(36_000_000, 3_600_000, 60.0) if fresh else decode
            # As it arrives: JSON has lists only.
            result = decode(str(path), carry, list(settings), skip)
            frames += result["frames"]
            left, skip = result["left"], skip + len(result["frames"])
        carry, is_last = result["carry"], result["is_last"]
    return frames, carry or {}


def indices(frames: list[Message]) -> list[int]:
    return [frame["index"] for frame in frames]


def random_walk(count: int) -> Iterator[NDArray[np.uint8]]:
    """A bright square that jumps about in front of a pattern, the same in every run."""
    random = np.random.default_rng(5)
    background = np.kron(random.integers(40, 160, (9, 16, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    for number in range(count):
        picture = background.copy()
        if number // 100 % 2:
            left, top = (number * 7) % 280, 40 + number % 40
            picture[top : top + 60, left : left + 30] = 230
        yield picture


def test_a_child_that_begins_in_the_middle_chooses_the_same(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", random_walk(1500), gop=40)

    whole, carry = frames_of(path)
    parts, _ = frames_of(path, fresh=True)

    assert indices(parts) == indices(whole)
    assert [part["pixels"] == one["pixels"] for part, one in zip(parts, whole, strict=True)] == [True] * len(
        whole
    )
    assert carry["candidates"] >= len(whole)


def test_a_clip_is_opened_once_if_it_stays_with_its_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    original = OpenClip.pictures

    def pictures(self: Any, start: int = 0) -> Any:
        opened.append(start)
        return original(self, start)

    monkeypatch.setattr(OpenClip, "pictures", pictures)
    frames_of(make_clip(tmp_path / "clip.mp4", random_walk(1300)))

    assert opened == [0]


def test_large_results_come_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "clip.mp4", random_walk(400))
    whole, _ = frames_of(path)

    monkeypatch.setattr(minute_decoder, "RESULT_BYTES", 500_000)
    parts, _ = frames_of(path)

    assert parts == whole


def test_pictures_are_as_large_as_the_detector_needs(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", empty_scene(2, size=(1280, 720)), rotation=90)

    frames, _ = frames_of(path)

    assert {(one["width"], one["height"]) for one in frames} == {(720, 1280)}
    assert {(one["pixels_width"], one["pixels_height"]) for one in frames} == {(320, 569)}


def test_a_size_that_changes_within_is_followed(tmp_path: Path) -> None:
    small = make_clip(tmp_path / "small.ts", walker_scene(4, size=(320, 180)))
    large = make_clip(tmp_path / "large.ts", walker_scene(4))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())

    frames, _ = frames_of(both)

    assert indices(frames) == sorted(set(indices(frames)))
    assert {one["width"] for one in frames} == {320, 640}


@pytest.mark.parametrize("tenth", range(1, 10))
@pytest.mark.parametrize("kind", ["cut", "zeroed", "noise"])
def test_damaged_clips_end_in_frames_or_a_refusal(tmp_path: Path, kind: str, tenth: int) -> None:
    path = make_clip(tmp_path / "clip.mp4", random_walk(300), options={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    at, size = len(content) * tenth // 10, len(content) // 10
    if kind == "cut":
        del content[at:]
    else:
        content[at : at + size] = (
            bytes(size) if kind == "zeroed" else np.random.default_rng(tenth).bytes(size)
        )
    path.write_bytes(content)

    try:
        frames, _ = frames_of(path)
    except InputRefused as refused:
        reason = refused.reason
    else:
        reason = ""
        assert frames
        assert indices(frames) == sorted(set(indices(frames)))
    assert reason in (
        "",
        "CORRUPT",
        "TRUNCATED",
        "NO_PICTURE",
        "TOO_LONG",
        "TOO_MANY_PIXELS",
        "UNSUPPORTED_VIDEO",
    )


def test_lost_packets_are_told(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "clip.mp4", random_walk(700), codec="mpeg4", options={"movflags": "faststart"}
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))

    frames, carry = frames_of(path)

    assert carry["undecodable"] > 0
    assert len(frames) > 3


def test_one_frame_is_enough(tmp_path: Path) -> None:
    frames, _ = frames_of(make_clip(tmp_path / "clip.mp4", random_walk(1)))

    assert indices(frames) == [0]


def test_a_long_clip_keeps_its_limit(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv", itertools.islice(itertools.cycle(random_walk(200)), 1500), fps=2)

    frames, _ = frames_of(path, SETTINGS._replace(max_frames=60))

    assert len(frames) <= 60
    assert (frames[0]["index"], frames[-1]["index"]) == (0, 749_500)
    assert max(b - a for a, b in itertools.pairwise(indices(frames))) <= 15_000


def test_the_span_and_the_key_frames_are_found_without_decoding(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv", random_walk(300), gop=30)

    with open_clip(str(path), 36_000_000) as clip:
        assert clip.span() == 29_900
        assert [one.index for one in clip.key_pictures(6000)] == [0, 6000, 12_000, 18_000, 24_000]
        assert next(clip.pictures()).index == 0


@pytest.mark.parametrize(
    ("name", "digest"), [("h264.mkv", "2d547d23c3cbe7b4"), ("hevc.mp4", "6fbffed1046ffe59")]
)
def test_the_same_frames_are_chosen_on_every_machine(name: str, digest: str) -> None:
    """Of clips that are checked in (`random_walk`), because encoders may differ."""
    frames, _ = frames_of(Path(__file__).parent / "clips" / name)
    told = json.dumps([[one["index"], round(one["movement"], 4)] for one in frames])

    assert hashlib.sha256(told.encode()).hexdigest()[:16] == digest, told
