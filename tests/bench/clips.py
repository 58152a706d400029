"""Clips: what decoding costs, how much of decoder and detector the pipeline of both reaches, and which frames
with a person the motion gate keeps."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from detect_svc.detectors.detector import Detector
from detect_svc.detectors.factory import open_detector
from detect_svc.frames.choice import FrameSettings
from detect_svc.frames.clip_frames import ClipDecoders, ClipFrame
from detect_svc.frames.minute_decoder import load
from mesh.config import Config, load_config
from mesh.task_group import task_group
from tests.bench.measure import Row
from tests.bench.trees import Bench
from tests.support.clips import Picture, at_night, in_rain, make_clip, walker_scene

FULL_HD = (1920, 1080)
AIM = 0.85
# The clips whose frames are counted: 4 minutes, in which a person is there for one.
SECONDS, THERE = 240, (90.0, 150.0)
LIMITS = (36_000_000, 3_600_000, 600.0)


async def measure(bench: Bench) -> list[Row]:
    config = load_config()
    rows = [await _pipeline(bench.folder, config)]
    for codec in ("libx264", "libx265"):
        rows.append(await asyncio.to_thread(_decoding, bench.folder, config, codec))
    scenes = {
        "by day, somebody walks": _walker(stands=False),
        "by night, somebody walks": at_night(_walker(stands=False)),
        "in rain, somebody walks": in_rain(_walker(stands=False)),
        "by day, somebody stands still": _walker(stands=True),
        "by night, somebody stands still": at_night(_walker(stands=True)),
        "in rain, somebody stands still": in_rain(_walker(stands=True)),
    }
    for name, pictures in scenes.items():
        rows.append(await asyncio.to_thread(_kept, bench.folder, config, name, pictures))
    return rows


def _walker(*, stands: bool) -> Iterator[Picture]:
    return walker_scene(SECONDS, fps=5, walks=THERE, stands=stands)


async def _pipeline(folder: Path, config: Config) -> Row:
    """Decoding beside detection, against one after the other."""
    path = make_clip(folder / "pipeline.mp4", walker_scene(60, fps=25, size=(1280, 720)), gop=50)
    async with open_detector(config) as detector, ClipDecoders(config, detector.input_size) as decoders:
        await _frames(decoders, path)  # children start
        began = time.perf_counter()
        frames = await _frames(decoders, path)
        decoding = time.perf_counter() - began
        (child,) = (psutil.Process(pid) for pid in decoders.pids)
        memory = child.memory_info().rss / 2**20
        began = time.perf_counter()
        await _detected(detector, iter(frames))
        detecting = time.perf_counter() - began
        began = time.perf_counter()
        async with decoders.decoding(path) as (coming, _):
            taking = asyncio.Lock()

            async def look() -> None:
                while True:
                    async with taking:
                        frame = await anext(coming, None)
                    if frame is None:
                        return
                    await detector.detect(frame.picture)

            async with task_group() as group:
                for _ in range(detector.photos_in_flight):
                    group.create_task(look())
        both = time.perf_counter() - began
    alone = decoding + detecting
    return Row(
        f"{len(frames)} frames of a minute of 1280x720, decoder and detector side by side",
        f"{len(frames) / both:.1f} frames/s",
        f"{len(frames) / alone:.1f}/s one after the other; the decoder's child has {memory:.0f} MB",
        f"{alone / both:.2f}",
        f">= {AIM}",
        alone / both >= AIM,
    )


async def _frames(decoders: ClipDecoders, path: Path) -> list[ClipFrame]:
    async with decoders.decoding(path) as (frames, _):
        return [frame async for frame in frames]


async def _detected(detector: Detector, frames: Iterator[ClipFrame]) -> None:
    async def look() -> None:
        for frame in frames:
            await detector.detect(frame.picture)

    await asyncio.gather(*(look() for _ in range(detector.photos_in_flight)))


def _decoding(folder: Path, config: Config, codec: str) -> Row:
    path = make_clip(folder / "full.mp4", walker_scene(60, fps=25, size=FULL_HD), codec=codec, gop=50)
    began = time.process_time()
    _chosen(path, config)
    cost = time.process_time() - began
    return Row(
        f"decoding a minute of 1920x1080 at 25/s, {codec}", f"{cost:.1f} s of a core", "", "", "", True
    )


def _kept(folder: Path, config: Config, name: str, pictures: Iterator[Picture]) -> Row:
    """The share of the frames, 0.5 s apart, in which there is a person, that are chosen; beside it the share
    of the others."""
    path = make_clip(folder / "scene.mp4", pictures, fps=5, gop=10)
    chosen = set(_chosen(path, config))
    begin, end = (round(second * 1000) for second in THERE)
    looks = set(range(0, SECONDS * 1000, 500))
    there = {index for index in looks if begin <= index < end}
    with_person = sum(begin <= index < end for index in chosen)
    budget = 2 * config.clip_frames_per_minute
    return Row(
        f"{name} for a minute: frames of that minute",
        f"{with_person} of {len(there)} looks, {with_person / budget:.0%} of the budget of two minutes",
        f"{len(chosen) - with_person} frames of the other 3 minutes",
        "",
        "",
        True,
    )


def _chosen(path: Path, config: Config) -> list[int]:
    settings = FrameSettings(
        config.clip_frame_seconds,
        config.clip_frames_per_minute,
        config.clip_max_frames,
        config.motion_sensitivity,
        config.motion_threshold,
        320,
    )
    decode, found = load(*LIMITS), list[int]()
    carry, is_last = None, False
    while not is_last:
        left, skip = 1, 0
        while left:
            result = decode(str(path), carry, list(settings), skip)
            found += [frame["index"] for frame in result["frames"]]
            left, skip = result["left"], skip + len(result["frames"])
        carry, is_last = result["carry"], result["is_last"]
    return found
