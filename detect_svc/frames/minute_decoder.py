"""Decodes a clip minute by minute, and chooses the frames. Runs in a sandbox's child only.

Each call is about one minute of the clip's own time. All that it needs from the calls before comes with it,
so any child can do it. The child that did the minute before has the clip open and goes on without a jump: a
clip that stays with one child is decoded once.
"""

import math
import resource
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from av.video.frame import VideoFrame

from detect_svc.frames.choice import (
    LOOK_MS,
    MINUTE_MS,
    Candidate,
    FramePlan,
    FrameSettings,
    LookSorter,
    choose,
    needs_survey,
)
from detect_svc.frames.motion import MotionGate
from mesh.clip_reading import OpenClip, Picture, Pixels, luma, upright, upright_size
from mesh.processes.sandbox_child import InputRefused

# Of one result: far less than a sandbox takes.
RESULT_BYTES = 16 * 2**20
# All candidates of a minute are in memory until the minute's end.
PICTURE_BYTES = 256 * 2**20 * LOOK_MS // MINUTE_MS
# Key frames of a long clip that are looked at beforehand lie so far apart.
SURVEY_MS = 6000


@dataclass(slots=True)
class Kept:
    """A candidate with its picture: [h, w, 3] RGB, upright; `width` and `height` are the frame's own."""

    candidate: Candidate
    pixels: Pixels
    width: int
    height: int


@dataclass(slots=True)
class Progress:
    """What a minute needs to know of those before it."""

    plan: FramePlan
    sorter: LookSorter
    gate: MotionGate
    start: int = 0
    candidates: int = 0
    undecodable: int = 0

    @classmethod
    def of(cls, carry: dict[str, Any], settings: FrameSettings) -> "Progress":
        gate = MotionGate(settings.motion_sensitivity)
        gate.restore(carry["gate"])
        sorter = LookSorter(**carry["sorter"])
        plan, counts = FramePlan(**carry["plan"]), (carry["candidates"], carry["undecodable"])
        return cls(plan, sorter, gate, carry["start"], *counts)

    def to_carry(self) -> dict[str, Any]:
        return {
            "plan": asdict(self.plan),
            "sorter": asdict(self.sorter),
            "gate": self.gate.state(),
            "start": self.start,
            "candidates": self.candidates,
            "undecodable": self.undecodable,
        }


@dataclass(slots=True)
class Minute:
    """The outcome of one minute, from the frame `start`: its chosen frames, and what the next one needs."""

    path: str
    start: int
    frames: list[Kept]
    carry: dict[str, Any]
    is_last: bool


@dataclass(slots=True)
class Reading:
    """A clip that is open. `first` is the frame that was read last: the first of a minute, or None behind the
    last one. `lost` is how many of the clip's lost packets were counted."""

    clip: OpenClip
    path: str
    pictures: Iterator[Picture]
    first: Picture | None
    lost: int = 0


@dataclass(slots=True)
class MinuteDecoder:
    """`max_pixels` and `max_ms` limit a clip's pictures and its length; `seconds` is what a call may take."""

    max_pixels: int
    max_ms: int
    seconds: float
    _reading: Reading | None = field(default=None, init=False)
    _minute: Minute | None = field(default=None, init=False)

    def decode(
        self, path: str, carry: dict[str, Any] | None, settings: list[Any], skip: int
    ) -> dict[str, Any]:
        """Returns the chosen frames of a minute, those after the first `skip`, up to RESULT_BYTES of them.

        `carry` is None for a clip's first minute, and then what the minute before has returned, as long as it
        is not the last one. `left` says how many frames of this minute there are still to come.

        Raises InputRefused as `open_clip` does, NO_PICTURE, TOO_LONG.
        """
        _limit_processor_time(self.seconds)
        start = carry["start"] if carry else 0
        minute = self._minute
        if minute is None or (minute.path, minute.start) != (path, start):
            self._minute = None  # its frames are not needed any more
            minute = self._minute = self._decode(path, carry, FrameSettings(*settings))
        count = skip
        size = 0
        while count < len(minute.frames) and (size == 0 or size < RESULT_BYTES):
            size += minute.frames[count].pixels.nbytes
            count += 1
        return {
            "frames": [_message(kept) for kept in minute.frames[skip:count]],
            "left": len(minute.frames) - count,
            "carry": minute.carry,
            "is_last": minute.is_last,
        }

    def _decode(self, path: str, carry: dict[str, Any] | None, settings: FrameSettings) -> Minute:
        progress = Progress.of(carry, settings) if carry else self._begin(self._clip(path), settings)
        start, reading = progress.start, self._reading_at(path, progress.start)
        if reading.first is None:
            raise InputRefused("no picture of the clip can be decoded", "NO_PICTURE")
        kept = _look_at_minute(reading, progress, settings)
        next_index = reading.first.index if reading.first else -1
        self._require_short(next_index)
        chosen = choose([one.candidate for one in kept], progress.plan, settings, next_index)
        progress.start = next_index
        progress.candidates += len(kept)
        progress.undecodable += reading.clip.lost - reading.lost
        reading.lost = reading.clip.lost
        return Minute(path, start, [kept[at] for at in chosen], progress.to_carry(), reading.first is None)

    def _begin(self, clip: OpenClip, settings: FrameSettings) -> Progress:
        """Raises InputRefused TOO_LONG."""
        span = clip.span()
        self._require_short(span)
        moving = _moving_minutes(clip, settings) if needs_survey(settings, span) else 0
        plan = FramePlan.of(settings, span, moving)
        sorter = LookSorter(plan.step, settings.motion_threshold)
        return Progress(plan, sorter, MotionGate(settings.motion_sensitivity))

    def _require_short(self, span: int) -> None:
        """Raises InputRefused TOO_LONG."""
        if span > self.max_ms:
            raise InputRefused(f"the clip is {span // 1000} s long", "TOO_LONG")

    def _clip(self, path: str) -> OpenClip:
        """The open one if it is this one."""
        reading, self._reading = self._reading, None
        if reading is not None and reading.path == path:
            return reading.clip
        if reading is not None:
            reading.clip.close()
        return OpenClip(path, self.max_pixels)

    def _reading_at(self, path: str, start: int) -> Reading:
        """The clip with the frame `start` read last, as the minute before has left it or by a jump."""
        reading = self._reading
        if reading is None or reading.path != path or not reading.first or reading.first.index != start:
            clip = self._clip(path)
            pictures = clip.pictures(start)
            reading = self._reading = Reading(clip, path, pictures, next(pictures, None))
        return reading


def load(max_pixels: int, max_ms: int, seconds: float) -> Callable[..., dict[str, Any]]:
    """The sandbox's target."""
    return MinuteDecoder(max_pixels, max_ms, seconds).decode


def _look_at_minute(reading: Reading, progress: Progress, settings: FrameSettings) -> list[Kept]:
    """The candidates of a minute. Reads on to the first frame behind it, which `reading` then has."""
    kept: list[Kept] = []
    before: tuple[Picture, float] | None = None  # the last look
    end = (progress.start // MINUTE_MS + 1) * MINUTE_MS
    picture = last = reading.first
    reading.first = None  # if this fails, one cannot go on from here
    while picture is not None and picture.index < end:
        last = picture
        if before is None or picture.index // LOOK_MS > before[0].index // LOOK_MS:
            movement = progress.gate.look(luma(picture.frame))
            added = progress.sorter.next(
                picture.index,
                movement,
                (before[0].index, before[1]) if before else None,
                kept[-1].candidate if kept else None,
            )
            for candidate in added:
                seen = picture if candidate.index == picture.index else before[0] if before else picture
                kept.append(_kept(candidate, seen.frame, settings.input_side))
            before = picture, movement
        picture = next(reading.pictures, None)
    reading.first = picture
    if picture is None and last is not None and kept and kept[-1].candidate.index < last.index:
        movement = progress.gate.look(luma(last.frame))
        kept.append(_kept(Candidate(last.index, movement, False), last.frame, settings.input_side))
    return kept


def _moving_minutes(clip: OpenClip, settings: FrameSettings) -> int:
    """In how many minutes something moves, judged by key frames."""
    gate = MotionGate(settings.motion_sensitivity)
    return len(
        {
            picture.index // MINUTE_MS
            for picture in clip.key_pictures(SURVEY_MS)
            if gate.look(luma(picture.frame)) >= max(settings.motion_threshold, 1e-9)
        }
    )


def _kept(candidate: Candidate, frame: VideoFrame, input_side: int) -> Kept:
    """With a picture that is as large as the detector's input needs: its shorter side is at least that, as of
    a photo that is decoded for it."""
    width, height = upright_size(frame)
    scale = min(1.0, input_side / min(width, height))
    scale = min(scale, math.sqrt(PICTURE_BYTES / (3 * width * height)))
    return Kept(candidate, upright(frame, math.ceil(max(width, height) * scale)), width, height)


def _message(kept: Kept) -> dict[str, Any]:
    height, width, _ = kept.pixels.shape
    return {
        "index": kept.candidate.index,
        "movement": kept.candidate.movement,
        "width": kept.width,
        "height": kept.height,
        "pixels": kept.pixels.tobytes(),
        "pixels_width": width,
        "pixels_height": height,
    }


def _limit_processor_time(seconds: float) -> None:
    """Ends this process if a call takes more. Limits count from the process's start, so it is set anew."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(
        resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
    )
