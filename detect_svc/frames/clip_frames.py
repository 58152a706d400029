"""The chosen frames of a clip, decoded in child processes while the frames before are looked at."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from detect_svc.detectors.detector import DecodedPicture
from detect_svc.frames.choice import VERSION, FrameSettings, minutes
from lares.detect.v1.events_pb2 import FrameChoice
from mesh.config import Config
from mesh.problems import Internal, Invalid, NotFound
from mesh.processes.sandbox import Sandbox

TARGET = "detect_svc.frames.minute_decoder:load"
# For a minute of 4K HEVC on a slow machine, with as much again for the pass over a long clip's file.
MINUTE_SECONDS = 180.0
MEMORY_BYTES = 2**30
# Below the detector's processes: they are what a live photo waits for.
NICE = 10
# A child without work ends, because clips may be rare.
IDLE_SECONDS = 60.0
# Frames that are decoded and wait for the detector, of one clip.
WAITING_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """A frame that the detector is to look at. `movement` is 0..1."""

    index: int
    movement: float
    picture: DecodedPicture


@dataclass(slots=True)
class ClipSummary:
    """What is known of a clip once all its frames were decoded."""

    candidates: int = 0
    undecodable: int = 0


class ClipDecoders:
    """Decodes up to LARES_CLIP_DECODERS clips at a time, each in a child of its own."""

    def __init__(self, config: Config, input_size: tuple[int, int]) -> None:
        self.settings = FrameSettings(
            config.clip_frame_seconds,
            config.clip_frames_per_minute,
            config.clip_max_frames,
            config.motion_sensitivity,
            config.motion_threshold,
            max(input_size),
        )
        # Each call ends a minute, or brings at least one frame.
        self._most_calls = minutes(round(config.clip_max_seconds * 1000)) + config.clip_max_frames
        self.count = config.clip_decoders
        self._is_installed = find_spec("av") is not None
        # One child each, so that a clip stays with its child.
        self._sandboxes = [
            Sandbox(
                TARGET,
                setup=[config.ingest_max_pixels, round(config.clip_max_seconds * 1000), MINUTE_SECONDS],
                seconds=MINUTE_SECONDS,
                memory_bytes=MEMORY_BYTES,
                nice=NICE,
                idle_seconds=IDLE_SECONDS,
            )
            for _ in range(self.count)
        ]
        self._free: asyncio.LifoQueue[Sandbox] = asyncio.LifoQueue()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for sandbox in self._sandboxes:
            self._free.put_nowait(await self._stack.enter_async_context(sandbox))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def pids(self) -> list[int]:
        return [pid for sandbox in self._sandboxes for pid in sandbox.pids]

    def choice(self, summary: ClipSummary) -> FrameChoice:
        return FrameChoice(
            version=VERSION,
            frame_seconds=self.settings.frame_seconds,
            frames_per_minute=self.settings.frames_per_minute,
            max_frames=self.settings.max_frames,
            motion_sensitivity=self.settings.motion_sensitivity,
            motion_threshold=self.settings.motion_threshold,
            candidates=summary.candidates,
            undecodable=summary.undecodable,
        )

    @asynccontextmanager
    async def decoding(self, path: Path) -> AsyncIterator[tuple[AsyncIterator[ClipFrame], ClipSummary]]:
        """The chosen frames of the clip at `path`, in order, and its summary, which is complete once they
        are. Waits for a free decoder.

        The frames raise Invalid with the name of a RejectionReason, NotFound if there is no file, and what
        Sandbox.run raises. They are not for concurrent use.
        """
        if not self._is_installed:
            raise Invalid("the packages for clips are not installed", "CLIPS_NOT_INSTALLED")
        sandbox = await self._free.get()
        frames, summary = _WaitingFrames(WAITING_BYTES), ClipSummary()
        task = asyncio.create_task(self._decode(sandbox, path, frames, summary))
        try:
            yield frames.taken(), summary
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._free.put_nowait(sandbox)

    async def _decode(
        self, sandbox: Sandbox, path: Path, frames: "_WaitingFrames", summary: ClipSummary
    ) -> None:
        try:
            carry: dict[str, Any] | None = None
            skip, last = 0, -1
            for _ in range(self._most_calls):
                minute = await sandbox.run(str(path), carry, list(self.settings), skip)
                for message in minute["frames"]:
                    frame = _frame_of(message, last)
                    last = frame.index
                    await frames.put(frame)
                skip += len(minute["frames"])
                if minute["left"]:
                    continue
                carry, skip = minute["carry"], 0
                summary.candidates, summary.undecodable = int(carry["candidates"]), int(carry["undecodable"])
                if minute["is_last"]:
                    frames.end()
                    return
            raise ValueError("it does not come to an end")
        except Invalid as problem:
            is_gone = problem.reason == "BLOB_NOT_FOUND"
            frames.end(NotFound(problem.message, problem.reason) if is_gone else problem)
        except (KeyError, TypeError, ValueError, OverflowError):
            # The child reads bytes from outside, and may be under foreign control.
            frames.end(Internal("the decoder's process returned no frames", "DECODER_NONSENSE"))
        except Exception as error:
            frames.end(error)


class _WaitingFrames:
    """Frames between decoder and detector: up to `limit` bytes of pixels, and one frame in any case."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._frames: asyncio.Queue[ClipFrame | None] = asyncio.Queue()
        self._bytes = 0
        self._taken = asyncio.Event()
        self._error: Exception | None = None

    async def put(self, frame: ClipFrame) -> None:
        size = len(frame.picture.pixels)
        while self._bytes and self._bytes + size > self._limit:
            self._taken.clear()
            await self._taken.wait()
        self._bytes += size
        self._frames.put_nowait(frame)

    def end(self, error: Exception | None = None) -> None:
        self._error = error
        self._frames.put_nowait(None)

    async def taken(self) -> AsyncIterator[ClipFrame]:
        while (frame := await self._frames.get()) is not None:
            self._bytes -= len(frame.picture.pixels)
            self._taken.set()
            yield frame
        if self._error is not None:
            raise self._error


def _frame_of(message: dict[str, Any], last: int) -> ClipFrame:
    """Raises KeyError, TypeError, ValueError, OverflowError for anything that is no frame behind the one with
    the index `last`."""
    index, movement, pixels = int(message["index"]), float(message["movement"]), message["pixels"]
    size = (int(message["pixels_width"]), int(message["pixels_height"]))
    whole = (int(message["width"]), int(message["height"]))
    if not isinstance(pixels, bytes) or len(pixels) != size[0] * size[1] * 3 or min(*size, *whole) < 1:
        raise ValueError("not a picture")
    if not last < index < 2**31 or max(whole) >= 2**31:
        raise ValueError("not a frame that follows")
    picture = DecodedPicture(pixels, *size, *whole)
    return ClipFrame(index, min(1.0, max(0.0, movement)), picture)
