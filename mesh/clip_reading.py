"""Opening clips, and decoding their pictures one after another. Runs in a sandbox's child only.

A frame's index is its presentation time in whole milliseconds after that of the first frame that decodes.
Whoever looks for a frame again finds it under the same index: everything that reads clips reads them here.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any, NamedTuple, TypeAlias

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import ArgumentError, EOFError, FFmpegError, FileNotFoundError, MemoryError
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mesh.processes.sandbox_child import InputRefused

# FFmpeg's names of the containers that are read. Without such a list it takes playlists and session
# descriptions, too, which name other files and servers.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
# What cameras and recorders write. Each decoder more is code more that reads bytes from outside.
CODECS = {"av1", "h263", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9"}
CODECS |= {"msmpeg4v2", "msmpeg4v3"}
# Of sound, what they write.
SOUND_CODECS = {"aac", "ac3", "alac", "amr_nb", "amr_wb", "eac3", "flac", "mp2", "mp3", "opus", "vorbis"}
SOUND_CODECS |= {"adpcm_g726", "adpcm_g726le", "adpcm_ima_wav", "adpcm_ms", "pcm_alaw", "pcm_mulaw"}
SOUND_CODECS |= {"pcm_s16be", "pcm_s16le", "pcm_u8"}
# FFmpeg's names of the decoders of these codecs, as far as they are not those of the codecs. No other one
# sees bytes, not even to find out what a container does not say about its streams.
DECODERS = CODECS | SOUND_CODECS | {"libdav1d", "msmpeg4", "amrnb", "amrwb", "g726", "g726le", "mp3float"}
MAX_STREAMS = 64
# Packets in a row without a picture after which reading ends, and errors of the container in a row.
MAX_LOST_PACKETS, MAX_READ_ERRORS = 100_000, 100
# Times that jump by more than this are not taken for the time that passed: a clock was set, or a recorder
# put two recordings into one file. The next frame follows the one before by one frame's time.
MAX_BACKWARD_MS, MAX_FORWARD_MS = 1000, 600_000
# A jump costs one more picture to decode, and a pass over the file.
JUMP_FROM_MS = 5000
FOUND_WITHIN_MS = 1
FRAME_MS = 40  # the time of a frame if the container says nothing

Pixels: TypeAlias = NDArray[np.uint8]


class ClipHeader(NamedTuple):
    """What the container says, which may be wrong."""

    container: str  # FFmpeg's name
    codec: str
    width: int  # in pixels, before any rotation; 0 if the container does not say
    height: int
    duration_ms: int | None
    frame_rate: float  # 0 if the container does not say
    has_audio: bool
    creation_time: str | None  # ISO 8601, as it stands there


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded frame."""

    index: int
    frame: VideoFrame


@dataclass(slots=True)
class FrameTimes:
    """Gives each frame its index, in order of presentation. With `last` and `shift_ms` of another one, it
    goes on where that one stopped."""

    time_base: Fraction
    step_ms: int
    first_pts: int | None = None
    last: int = -1
    shift_ms: int = 0

    def index_of(self, pts: int | None) -> int | None:
        """None for a frame that does not lie behind the last one: it is a repeated or misplaced one."""
        if self.first_pts is None and pts is not None:
            self.first_pts = pts
        if pts is None or self.first_pts is None:
            return self._follow(self.last + self.step_ms if self.last >= 0 else 0)
        index = self.time_of(pts)
        if not -MAX_BACKWARD_MS <= index - max(self.last, 0) <= MAX_FORWARD_MS:
            self.shift_ms += self.last + self.step_ms - index
            index = self.last + self.step_ms
        return self._follow(index) if index > self.last else None

    def time_of(self, pts: int) -> int:
        """In ms after the first frame's."""
        return int((pts - (self.first_pts or 0)) * self.time_base * 1000 // 1) + self.shift_ms

    def _follow(self, index: int) -> int:
        self.last = index
        return index


class OpenClip:
    """A clip that is being read. `lost` counts the packets since the beginning, or since a jump, in which
    there was an error. Private to one thread."""

    def __init__(self, path: str, max_pixels: int) -> None:
        self._path, self._max_pixels = path, max_pixels
        self._can_jump: bool | None = None  # not known yet, like the span
        self._span = 0
        self._key_frames: list[int] = []  # roughly when there is one, if one can jump, in ms
        self._open()

    def pictures(self, start: int = 0) -> Iterator[Picture]:
        """The frames with an index of at least `start`, in order. Errors within a clip end nothing: the next
        frame that decodes follows. Ends an earlier iterator.

        Jumps to the key frame before `start` if the times in this clip allow it, and otherwise reads it from
        the beginning. Raises InputRefused ENCRYPTED.
        """
        pictures = self._from_key_frame(start) if start >= JUMP_FROM_MS else None
        if pictures is None:
            self._rewind()
            pictures = self._indexed()
        return (picture for picture in pictures if picture.index >= start)

    def pictures_at(self, wanted: Sequence[int]) -> Iterator[Picture]:
        """The frames with these indexes, in ascending order, each under the index that was wanted. One that
        is not within 1 ms of it is left out. Ends an earlier iterator.

        Decodes nothing twice, and jumps to a key frame where that leaves out much. Raises InputRefused
        ENCRYPTED.
        """
        if any(b - a >= JUMP_FROM_MS for a, b in pairwise((0, *wanted))):
            self._scan()
        pictures, at = self.pictures(), 0
        found = next(pictures, None)
        for index in wanted:
            if self._leaves_out_much(at, index):
                pictures = self.pictures(index - FOUND_WITHIN_MS)
                found = next(pictures, None)
            while found is not None and found.index < index - FOUND_WITHIN_MS:
                found = next(pictures, None)
            if found is None:
                return
            at = found.index
            if at <= index + FOUND_WITHIN_MS:
                yield Picture(index, found.frame)

    def packets(self, *, with_sound: bool) -> "Iterator[av.Packet[VideoStream] | av.Packet[AudioStream]]":
        """The packets of the video, and of the sound, in the order of the file, without those that are known
        to be incomplete. Ends an earlier iterator."""
        self._rewind()
        streams: list[VideoStream | AudioStream] = [self.video]
        if with_sound and self.sound is not None:
            self.sound.discard = Discard.default
            streams.append(self.sound)
        return self._packets(streams)

    @property
    def sound(self) -> AudioStream | None:
        """The stream whose sound counts. Of a codec that is not taken there is none."""
        found = self.container.streams.best("audio")
        if not isinstance(found, AudioStream) or found.codec_context is None:
            return None
        return found if found.codec_context.codec.canonical_name in SOUND_CODECS else None

    def span(self) -> int:
        """How many ms after the first frame the last one comes, as far as that can be told without decoding.
        Reads the file."""
        self._scan()
        return self._span

    def key_pictures(self, apart: int) -> Iterator[Picture]:
        """Key frames, at least `apart` ms from each other, without decoding what lies between. Their indices
        are about right. Ends an earlier iterator. Raises InputRefused ENCRYPTED."""
        self._rewind()
        next_index = 0
        for packet in self._packets([self.video]):
            index = self.times.index_of(packet.pts) if packet.is_keyframe else None
            if index is None or index < next_index:
                continue
            self.video.codec_context.flush_buffers()
            frames = self._decode(packet) + self.video.codec_context.decode(None)
            if frames:
                next_index = index + apart
                yield Picture(index, frames[0])

    def close(self) -> None:
        self.container.close()

    def _open(self) -> None:
        self.container = _open_container(self._path, self._max_pixels)
        try:
            self.video = _video_of(self.container, self._max_pixels)
        except InputRefused:
            self.container.close()
            raise
        self.header = _header(self.container, self.video)
        rate = self.header.frame_rate
        step_ms = max(1, round(1000 / rate)) if rate >= 1 else FRAME_MS
        self.times = FrameTimes(self.video.time_base or Fraction(1, 1000), step_ms)
        self.lost, self._is_read = 0, False

    def _rewind(self) -> None:
        """By opening it anew: not every container can be told to go back to its first packet."""
        if self._is_read:
            self.close()
            self._open()

    def _from_key_frame(self, start: int) -> Iterator[Picture] | None:
        """The frames from the last key frame that is not behind `start`. None if one cannot jump there."""
        self._scan()
        self._rewind()
        if not self._can_jump or next(self._indexed(), None) is None or self.times.first_pts is None:
            return None
        try:
            offset = int(Fraction(start, 1000) / self.times.time_base)
            self.container.seek(self.times.first_pts + offset, stream=self.video)
        except FFmpegError:
            return None
        self.lost = 0
        frames = self._frames()
        found = next(frames, None)
        if found is None or found.pts is None or not 0 < self.times.time_of(found.pts) <= start:
            return None  # there are containers that jump too far
        self.times.last = self.times.time_of(found.pts) - 1
        return self._indexed(chain([found], frames))

    def _scan(self) -> None:
        """Reads the file once without decoding: how long it is, and whether an index says where in it its
        frame is."""
        if self._can_jump is not None:
            return
        self._rewind()
        times = FrameTimes(self.times.time_base, self.times.step_ms)
        can_jump, has_gap, is_reordered, pts = True, False, False, list[int]()
        for packet in self._packets([self.video]):
            before = times.last
            can_jump = times.index_of(packet.dts) is not None and packet.dts is not None and can_jump
            has_gap = has_gap or times.last - before > MAX_BACKWARD_MS
            if packet.is_keyframe:
                self._key_frames.append(times.last)
            if packet.pts is not None:
                is_reordered = is_reordered or packet.pts < max([*pts, packet.pts])
                pts = [min([*pts, packet.pts]), max([*pts, packet.pts])]
        # If a gap lies among pictures that are decoded out of order, their times may seem to jump back.
        self._can_jump = can_jump and not times.shift_ms and not (has_gap and is_reordered)
        # Whatever jumps there are among the times, the order of the packets shows the length.
        self._span = max(0, times.last)
        if pts and self._can_jump:
            self._span = int((pts[1] - pts[0]) * times.time_base * 1000)

    def _leaves_out_much(self, at: int, index: int) -> bool:
        """Whether a jump from the frame `at` to that at `index` does."""
        if not self._can_jump or index - at < JUMP_FROM_MS:
            return False
        key_frame = bisect_right(self._key_frames, index) - 1
        return key_frame >= 0 and self._key_frames[key_frame] > at

    def _packets(self, streams: "list[VideoStream | AudioStream]") -> "Iterator[av.Packet[Any]]":
        self._is_read = True
        read_errors = 0
        while read_errors < MAX_READ_ERRORS:
            try:
                for packet in self.container.demux(streams):
                    read_errors = 0
                    if packet.size and not packet.is_corrupt:
                        yield packet
                return
            except FFmpegError:  # of the container; what follows may be readable
                read_errors += 1

    def _indexed(self, frames: Iterator[VideoFrame] | None = None) -> Iterator[Picture]:
        for frame in frames or self._frames():
            index = self.times.index_of(frame.pts if frame.pts is not None else frame.dts)
            if index is not None:
                yield Picture(index, frame)

    def _frames(self) -> Iterator[VideoFrame]:
        self._is_read = True
        without_picture = read_errors = 0
        while read_errors < MAX_READ_ERRORS:
            try:
                for packet in self.container.demux(self.video):
                    frames = self._decode(packet)
                    read_errors, without_picture = 0, 0 if frames else without_picture + 1
                    if without_picture >= MAX_LOST_PACKETS:
                        return
                    yield from frames
                return
            except FFmpegError:  # of the container; what follows may be readable
                read_errors += 1

    def _decode(self, packet: "av.Packet[VideoStream]") -> list[VideoFrame]:
        try:
            return packet.decode()
        except EOFError:
            return []
        except FFmpegError:
            if packet.has_sidedata("encryption_info"):
                raise InputRefused("the clip is encrypted", "ENCRYPTED") from None
            self.lost += 1
            return []


@contextmanager
def open_clip(path: str, max_pixels: int) -> Iterator[OpenClip]:
    """Opens the clip at `path` and reads its header. Larger pictures than `max_pixels` are not decoded.

    Raises InputRefused with the name of a RejectionReason: CORRUPT, TRUNCATED, NO_PICTURE,
    UNSUPPORTED_VIDEO, TOO_MANY_PIXELS; and BLOB_NOT_FOUND if there is no file.
    """
    clip = OpenClip(path, max_pixels)
    try:
        yield clip
    finally:
        clip.close()


def luma(frame: VideoFrame) -> Pixels:
    """[h, w]: the brightness as it was decoded, before any rotation, without conversion: the same on every
    machine. Of a picture without a plane for it, the green."""
    components, plane = frame.format.components, frame.planes[0]
    if plane.line_size <= 0 or (len(components) > 1 and not frame.format.is_planar):
        return frame.to_ndarray(format="gray").astype(np.uint8)
    if components[0].bits > 8:
        deep = np.frombuffer(memoryview(plane), np.dtype("<u2")).reshape(plane.height, -1)
        return (deep[:, : plane.width] >> (components[0].bits - 8)).astype(np.uint8)
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width]


def upright(frame: VideoFrame, longest_side: int) -> Pixels:
    """[h, w, 3] RGB, upright, scaled down so that its longer side is `longest_side` or less."""
    scale = min(1.0, longest_side / max(frame.width, frame.height))
    pixels = frame.to_ndarray(
        format="rgb24",
        width=max(1, round(frame.width * scale)),
        height=max(1, round(frame.height * scale)),
        interpolation="AREA" if scale < 1 else "BILINEAR",
    )
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns(frame)), np.uint8)


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """Width and height."""
    return (frame.height, frame.width) if quarter_turns(frame) % 2 else (frame.width, frame.height)


def quarter_turns(frame: VideoFrame) -> int:
    """How often the picture is to be turned by 90 degrees, counter-clockwise: 0 to 3."""
    return round(frame.rotation / 90) % 4


def _open_container(path: str, max_pixels: int) -> InputContainer:
    """Raises InputRefused."""
    try:
        return av.open(
            # With the protocol, a name such as "concat:..." is a file's.
            f"file:{os.path.abspath(path)}",
            options={
                "format_whitelist": CONTAINERS,
                "protocol_whitelist": "file",
                "codec_whitelist": ",".join(sorted(DECODERS)),
                "max_streams": str(MAX_STREAMS),
                "max_pixels": str(max_pixels),  # for what is decoded to find out what the header does not say
            },
            metadata_errors="replace",
        )
    except FileNotFoundError:
        raise InputRefused("this media's content is gone", "BLOB_NOT_FOUND") from None
    except EOFError:
        raise InputRefused("the clip ends too early", "TRUNCATED") from None
    except ArgumentError:
        raise InputRefused("not a kind of clip that is taken", "UNSUPPORTED_VIDEO") from None
    except MemoryError:
        raise InputRefused("reading the clip's header takes too much memory", "CORRUPT") from None
    except FFmpegError as error:
        raise InputRefused(f"the clip is corrupt: {error.strerror}", "CORRUPT") from None


def _video_of(container: InputContainer, max_pixels: int) -> VideoStream:
    """The stream whose pictures count, made ready to be decoded. Raises InputRefused."""
    video = container.streams.best("video")
    if not isinstance(video, VideoStream) or video.disposition & Disposition.attached_pic:
        raise InputRefused("the clip has no video", "NO_PICTURE")
    context = video.codec_context
    if context is None:
        raise InputRefused("the codec of this clip is not known", "UNSUPPORTED_VIDEO")
    codec = context.codec.canonical_name
    if codec not in CODECS:
        raise InputRefused(f"clips with the codec {codec} are not taken", "UNSUPPORTED_VIDEO")
    if context.width * context.height > max_pixels:
        detail = f"{context.width} x {context.height} are more than {max_pixels} pixels"
        raise InputRefused(detail, "TOO_MANY_PIXELS")
    # The limit is the decoder's own, because a clip's size may change within. One thread for itself costs
    # least; parallelism comes from several children.
    context.options = {"max_pixels": str(max_pixels), "flags": "+bitexact"}
    context.thread_count, context.thread_type = 1, ThreadType.SLICE
    for stream in container.streams:
        if stream.index != video.index:
            stream.discard = Discard.all
    return video


def _header(container: InputContainer, video: VideoStream) -> ClipHeader:
    duration_ms = None
    if container.duration is not None:
        duration_ms = max(0, container.duration // 1000)
    elif video.duration is not None and video.time_base:
        duration_ms = max(0, int(video.duration * video.time_base * 1000))
    return ClipHeader(
        container=container.format.name,
        codec=video.codec_context.codec.canonical_name,
        width=video.codec_context.width,
        height=video.codec_context.height,
        duration_ms=duration_ms,
        frame_rate=float(video.average_rate or 0),
        has_audio=bool(container.streams.audio),
        creation_time=container.metadata.get("creation_time"),
    )
