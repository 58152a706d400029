"""Clips: a whole Lares compared with decoder and detector alone, how soon a clip is detected, what decoding
costs, and which frames with a person the motion gate keeps."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import median

import psutil

from detect_svc.detectors.detector import Detector
from detect_svc.detectors.factory import open_detector
from detect_svc.frames.choice import FrameSettings
from detect_svc.frames.clip_frames import ClipDecoders, ClipFrame
from detect_svc.frames.minute_decoder import load
from mesh.bus import open_bus
from mesh.config import Config, load_config
from mesh.task_group import task_group
from mesh.topics import DETECTED
from tests.bench.measure import Row, cpu_by_program, cpu_seconds, milliseconds
from tests.bench.photo_backlog import process_backlog
from tests.bench.trees import NOW, Bench, lares_of
from tests.support.clips import Picture, at_night, in_rain, make_clip, walker_scene

HD, FULL_HD = (1280, 720), (1920, 1080)
AIM = 0.85
# The clips that a whole Lares gets, and the seconds of each.
CLIPS, CLIP_SECONDS = 8, 20
# The clips whose frames are counted, and when there is a person in them, in seconds.
SECONDS, THERE, SCENE_SIZE = 120, (40.0, 90.0), (320, 180)
LIMITS = (36_000_000, 3_600_000, 600.0)


async def measure(bench: Bench) -> list[Row]:
    config = load_config()
    rows = await _whole(bench, config)
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
    return walker_scene(SECONDS, fps=5, size=SCENE_SIZE, walks=THERE, stands=stands)


async def _whole(bench: Bench, config: Config) -> list[Row]:
    """Clips that come at once to a whole Lares, against decoder and detector alone with the same clips; and
    the seconds from a clip's close until it is detected, when nothing else waits. Only the ratio of CPU has a
    limit, because other work affects that of time."""
    clips = await asyncio.to_thread(_clips, bench.folder / "clips")
    frames, alone, alone_cpu, memory = await _alone(clips, config)
    async with lares_of(bench.trees[NOW], bench.folder / "home") as lares:
        (lares.cameras / "first").mkdir()
        waits: list[float] = []
        for _ in range(5):
            path = make_clip(bench.folder / "first.mp4", walker_scene(5, fps=25, size=HD), gop=50)
            content = path.read_bytes() + bytes(len(waits) + 1)  # another clip each time
            async with (
                open_bus(lares.admin_kafka_url, client_id="bench") as bus,
                bus.tail(DETECTED, start="end") as tail,
            ):
                (lares.cameras / "first" / f"{len(waits)}.mp4").write_bytes(content)
                began = time.monotonic()
                await anext(tail)
                waits.append(time.monotonic() - began)
        before = sum(cpu_by_program(lares).values())
        seconds = await process_backlog(lares, bench.folder / "clips", CLIPS)
        cpu = sum(cpu_by_program(lares).values()) - before
    title = f"{CLIPS} clips of {CLIP_SECONDS} s of 720p at once, {frames} frames, whole pipeline"
    share = alone_cpu / cpu
    return [
        Row(
            f"{title}, CPU of a frame",
            milliseconds(cpu / frames),
            f"decode+detect {milliseconds(alone_cpu / frames)}",
            f"{share:.0%}",
            f">= {AIM:.0%}",
            share >= AIM,
        ),
        Row(
            "  frames per second",
            f"{frames / seconds:.1f}",
            f"decode+detect {frames / alone:.1f}",
            f"{alone / seconds:.0%}",
            "",
            True,
        ),
        Row("  memory of the decoder's child", f"{memory:.0f} MB", "", "", "", True),
        Row(
            "a clip of 5 s of 720p, from its close to its detections",
            f"{median(waits):.2f} s",
            "",
            "",
            "",
            True,
        ),
    ]


def _clips(staging: Path) -> list[Path]:
    """Different clips, in one folder for each camera."""
    files = []
    for number in range(CLIPS):
        folder = staging / f"clips-{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        scene = walker_scene(CLIP_SECONDS, fps=25, size=HD, walks=(number / 2, CLIP_SECONDS - 1))
        files.append(make_clip(folder / f"{number}.mp4", scene, gop=50))
    return files


async def _alone(clips: list[Path], config: Config) -> tuple[int, float, float, float]:
    """Returns the number of frames, the seconds and CPU seconds of decoder and detector for all of them, when
    they wait for nothing but each other, and the decoder's memory in MB."""
    async with open_detector(config) as detector, ClipDecoders(config, detector.input_size) as decoders:
        await _detected(detector, iter((await _frames(decoders, clips[0]))[:4]))  # the children start
        own = psutil.Process()
        tree = [own, *own.children(recursive=True)]
        cpu, began, count = cpu_seconds(tree), time.monotonic(), 0
        for clip in clips:
            count += await _decode_and_detect(clip, decoders, detector)
        memory = max(psutil.Process(pid).memory_info().rss for pid in decoders.pids) / 2**20
        return count, time.monotonic() - began, cpu_seconds(tree) - cpu, memory


async def _decode_and_detect(clip: Path, decoders: ClipDecoders, detector: Detector) -> int:
    """Returns the number of frames."""
    count, taking = 0, asyncio.Lock()

    async def look(coming: AsyncIterator[ClipFrame]) -> None:
        nonlocal count
        while True:
            async with taking:
                frame = await anext(coming, None)
            if frame is None:
                return
            count += 1
            await detector.detect(frame.picture)

    async with decoders.decoding(clip) as (coming, _), task_group() as group:
        for _ in range(detector.photos_in_flight):
            group.create_task(look(coming))
    return count


async def _frames(decoders: ClipDecoders, path: Path) -> list[ClipFrame]:
    async with decoders.decoding(path) as (frames, _):
        return [frame async for frame in frames]


async def _detected(detector: Detector, frames: Iterator[ClipFrame]) -> None:
    async def look() -> None:
        for frame in frames:
            await detector.detect(frame.picture)

    await asyncio.gather(*(look() for _ in range(detector.photos_in_flight)))


def _decoding(folder: Path, config: Config, codec: str) -> Row:
    path = make_clip(folder / "full.mp4", walker_scene(10, fps=25, size=FULL_HD), codec=codec, gop=50)
    began = time.process_time()
    _chosen(path, config)
    cost = 6 * (time.process_time() - began)
    return Row(
        f"decoding 1080p at 25/s, {codec}, a minute (from 10 s)", f"{cost:.1f} s CPU", "", "", "", True
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
    return Row(
        f"{name} for 50 s: frames of these, of {len(there)}",
        f"{with_person}",
        f"of the other 70 s {len(chosen) - with_person}",
        f"{with_person / len(there):.0%}",
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
