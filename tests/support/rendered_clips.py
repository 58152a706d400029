"""What the tests of renditions look at in a rendered clip, and how they get one."""

import asyncio
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import av
import httpx
import numpy as np
from numpy.typing import NDArray

from detect_svc.rendering.output_file import OutputFile, Parts
from tests.support.lares import Lares

MAX_BYTES = 2**26
MAX_PIXELS = 10**8

Work = Callable[[OutputFile], Generator[float, None, Parts]]


def rendered(path: Path, work: Work, max_bytes: int = MAX_BYTES) -> tuple[Parts, list[float]]:
    """Runs a renderer as the sandbox does. Returns its parts, and how much it said was done."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    told: list[float] = []
    renderer = work(OutputFile.empty(descriptor, max_bytes))
    try:
        while True:
            told.append(next(renderer))
    except StopIteration as end:
        return end.value, told
    finally:
        os.close(descriptor)


@dataclass
class Seen:
    """A clip as a player sees it. Times are in seconds."""

    codec: str
    tag: str
    size: tuple[int, int]
    times: list[float]
    rotation: int
    pictures: list[NDArray[np.uint8]]  # [h, w], brightness
    sound_times: list[float]
    metadata: dict[str, str]
    packet_times: list[float]


def seen(path: Path) -> Seen:
    with av.open(str(path)) as clip:
        video = clip.streams.video[0]
        frames = list(clip.decode(video))
        metadata = {**clip.metadata, **{f"video {key}": value for key, value in video.metadata.items()}}
        look = Seen(
            codec=video.codec_context.codec.canonical_name,
            tag=str(video.codec_context.codec_tag),
            size=(frames[0].width, frames[0].height),
            times=[frame.time or 0.0 for frame in frames],
            rotation=round(frames[0].rotation),
            pictures=[frame.to_ndarray(format="gray").astype(np.uint8) for frame in frames],
            sound_times=[],
            metadata=metadata,
            packet_times=[],
        )
        assert frames[0].key_frame
    with av.open(str(path)) as clip:
        if clip.streams.audio:
            look.sound_times = [frame.time or 0.0 for frame in clip.decode(clip.streams.audio[0])]
    with av.open(str(path)) as clip:
        packets = [packet for packet in clip.demux(clip.streams.video[0]) if packet.dts is not None]
        look.packet_times = [float((packet.dts or 0) * packet.time_base) for packet in packets]
    return look


def begins_with_index(path: Path) -> bool:
    content = path.read_bytes()
    return 0 < content.find(b"moov") < content.find(b"mdat")


async def fetched(lares: Lares, path: str, seconds: float = 60) -> httpx.Response:
    """Asks for something that is made when it is asked for, until it is there."""
    deadline = time.monotonic() + seconds
    while (answer := await lares.get(path)).status_code == 202:
        assert answer.json()["state"] == "WAITING"
        assert time.monotonic() < deadline, f"{path} is not made: {answer.text}\n{lares.tail()}"
        await asyncio.sleep(float(answer.headers["retry-after"]))
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
    return answer
