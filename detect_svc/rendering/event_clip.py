"""The parts of clips that cover an event, in one MP4, without encoding them again. Runs in a sandbox's child
only.

A part begins with a key frame, the last one that is not behind the wanted time. Several clips are joined if
their video is alike: codec, parameter sets, size, rotation and time base. Of others, those that cover most of
the event are taken. Sound is kept if that of all parts is alike, too. Of what the clips say about themselves,
nothing is copied but the rotation.
"""

from collections.abc import Generator, Hashable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import inf
from typing import Any, NamedTuple, TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from detect_svc.rendering.mp4_output import mp4_output
from detect_svc.rendering.output_file import OutputFile, Parts
from mesh.clip_reading import OpenClip, open_clip
from mesh.processes.sandbox_child import InputRefused

VIDEO_CODECS = frozenset(("h264", "hevc", "av1", "vp9", "mpeg4"))
SOUND_CODECS = frozenset(("aac", "mp3", "opus", "ac3", "eac3", "flac", "alac"))
# Apple's browsers refuse HEVC under its other name, hev1.
TAGS = {"hevc": "hvc1"}
NO_TAG = "\0\0\0\0"
MAX_EARLY_SECONDS = 60
# By how much sound may lie behind the video of the same time.
INTERLEAVED_SECONDS = 2

Packet: TypeAlias = "av.Packet[Any]"


class Span(NamedTuple):
    """What is wanted of a clip, in seconds after its first frame; both may lie outside of the clip."""

    path: str
    start: float
    end: float


class KeyFrame(NamedTuple):
    packet: int  # its number in the clip
    seconds: float  # after the clip's first frame


@dataclass(frozen=True, slots=True)
class Part:
    """A clip of which something is taken."""

    clip: OpenClip
    span: Span
    zero: Fraction  # the time of the first frame, in the clip's own count
    rotation: int

    def kind_of_video(self) -> Hashable:
        context = self.clip.video.codec_context
        size = context.width, context.height
        return self.clip.header.codec, context.extradata, size, self.clip.video.time_base, self.rotation

    def kind_of_sound(self) -> Hashable:
        """None if there is none, or none that MP4 holds."""
        sound = self.clip.sound
        if sound is None or sound.codec_context.codec.canonical_name not in SOUND_CODECS:
            return None
        context = sound.codec_context
        return context.name, context.extradata, context.sample_rate, context.layout.name, sound.time_base

    def packets(self) -> Iterator[Packet]:
        return self.clip.packets(with_sound=self.kind_of_sound() is not None)

    def is_video(self, packet: Packet) -> bool:
        return packet.stream_index == self.clip.video.index

    def seconds(self, time: int, packet: Packet) -> float:
        """After the clip's first frame."""
        return float(time * packet.time_base - self.zero)


@dataclass(frozen=True, slots=True)
class Cut:
    """What is taken of a clip. `end` is when that ends, in seconds after the beginning of what is wanted."""

    part: Part
    key_frame: KeyFrame
    end: float

    @property
    def covered(self) -> float:
        """Seconds of what is wanted that it holds."""
        return self.end - max(0.0, self.key_frame.seconds - self.part.span.start)


def event_clip(spans: Sequence[Span], max_pixels: int, file: OutputFile) -> Generator[float, None, Parts]:
    """Writes what is wanted of each clip, one behind another. Raises InputRefused: NOT_CUTTABLE if that is
    not possible, TOO_LARGE, and the refusal of a clip if there is no other one."""
    with ExitStack() as stack:
        cuts, refusals = list[Cut](), list[InputRefused]()
        for number, span in enumerate(spans):
            try:
                cuts.append(_cut(_part(stack.enter_context(open_clip(span.path, max_pixels)), span)))
            except InputRefused as refusal:
                refusals.append(refusal)
            yield 0.5 * (number + 1) / len(spans)
        if not cuts:
            raise refusals[0]
        cuts = _joined(cuts)
        for number, _ in enumerate(_written(cuts, file)):
            yield 0.5 + 0.5 * (number + 1) / len(cuts)
    return []


def _part(clip: OpenClip, span: Span) -> Part:
    """Raises InputRefused."""
    if clip.header.codec not in VIDEO_CODECS:
        raise InputRefused(f"MP4 does not hold {clip.header.codec}", "NOT_CUTTABLE")
    first = next(clip.pictures(), None)
    if first is None or clip.times.first_pts is None:
        raise InputRefused("no picture can be decoded", "NO_PICTURE")
    return Part(clip, span, clip.times.first_pts * clip.times.time_base, round(first.frame.rotation))


def _cut(part: Part, not_before: float = -inf) -> Cut:
    """Takes the last key frame that is not behind the wanted time, else the first; with `not_before`, in
    seconds after the beginning of what is wanted, the first key frame from then on.

    Reads the packets up to there, and does not jump: after a jump, some containers do not say when a packet
    is to be decoded, and others land behind the wanted time. Raises InputRefused NOT_CUTTABLE.
    """
    found: KeyFrame | None = None
    last = -inf
    for number, packet in enumerate(part.packets()):
        if not part.is_video(packet) or packet.dts is None:
            continue
        last = part.seconds(packet.dts, packet)
        if last > part.span.end:
            break
        if not packet.is_keyframe or packet.pts is None:
            continue
        key_frame = KeyFrame(number, part.seconds(packet.pts, packet))
        after = key_frame.seconds - part.span.start
        if after >= not_before and (found is None or (not_before == -inf and after <= 0)):
            found = key_frame
    end = min(last, part.span.end) - part.span.start
    if found is None or end < 0:
        raise InputRefused("the clip has no key frame for this time", "NOT_CUTTABLE")
    early = part.span.start - found.seconds
    if early > MAX_EARLY_SECONDS:
        raise InputRefused(f"it would begin {early:.0f} s too early, at a key frame", "NOT_CUTTABLE")
    return Cut(part, found, end)


def _joined(cuts: Sequence[Cut]) -> list[Cut]:
    """Those with one kind of video that cover most, each without what the one before has shown."""
    by_kind: dict[Hashable, list[Cut]] = {}
    for cut in cuts:
        by_kind.setdefault(cut.part.kind_of_video(), []).append(cut)
    first, *others = max(by_kind.values(), key=lambda alike: sum(cut.covered for cut in alike))
    joined = [first]
    for cut in others:
        if cut.end > joined[-1].end:
            with suppress(InputRefused):  # it has no key frame behind the end of the one before
                joined.append(_cut(cut.part, joined[-1].end))
    return joined


@dataclass(slots=True)
class Track:
    """A stream of the result. `end` is when its last packet ends, in seconds."""

    stream: VideoStream | AudioStream
    container: OutputContainer
    end: Fraction = Fraction(0)
    last_dts: int | None = None

    def mux(self, packet: Packet, begin: Fraction) -> None:
        """`begin` is added to the packet's times."""
        assert packet.pts is not None
        assert packet.dts is not None
        shift = round(begin / packet.time_base)
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
        if self.last_dts is not None:
            packet.dts = max(packet.dts, self.last_dts + 1)
        if packet.dts > packet.pts:
            return  # it lies before what has been written
        self.last_dts = packet.dts
        self.end = max(self.end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        packet.stream = self.stream
        self.container.mux(packet)


def _written(cuts: Sequence[Cut], file: OutputFile) -> Iterator[Cut]:
    """Yields each cut when it has been written. Raises InputRefused."""
    first = cuts[0].part
    with mp4_output(file) as container:
        video = container.add_stream_from_template(first.clip.video, opaque=True)
        video.codec_context.codec_tag = TAGS.get(first.clip.header.codec, NO_TAG)
        tracks = [Track(video, container)]
        if (
            first.clip.sound
            and first.kind_of_sound()
            and len({cut.part.kind_of_sound() for cut in cuts}) == 1
        ):
            sound = container.add_stream_from_template(first.clip.sound, opaque=True)
            sound.codec_context.codec_tag = NO_TAG
            tracks.append(Track(sound, container))
        begin = Fraction(0)
        for cut in cuts:
            for packet in _packets(cut):
                if cut.part.is_video(packet):
                    tracks[0].mux(packet, begin)
                elif len(tracks) > 1:
                    tracks[1].mux(packet, begin)
            begin = max(track.end for track in tracks)
            yield cut


def _packets(cut: Cut) -> Iterator[Packet]:
    """Those of a cut, with times after its key frame. Raises InputRefused NOT_CUTTABLE."""
    part, held, zero = cut.part, list[Packet](), Fraction(0)
    end = cut.end + part.span.start

    def shifted(packet: Packet) -> Iterator[Packet]:
        assert packet.pts is not None
        assert packet.dts is not None
        if part.seconds(packet.dts, packet) > end:
            return
        shift = round(zero / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if packet.pts >= 0:  # else it needs what lies before the key frame
            yield packet

    for number, packet in enumerate(islice(part.packets(), cut.key_frame.packet, None)):
        if packet.pts is None:
            if part.is_video(packet):
                raise InputRefused("the clip does not say when its pictures are shown", "NOT_CUTTABLE")
            continue
        if number == 0:
            zero = packet.pts * packet.time_base
        if not part.is_video(packet):
            packet.dts = packet.pts
            yield from shifted(packet)
        elif packet.dts is None:  # the first ones of some containers
            held.append(packet)
        else:
            for place, earlier in enumerate(held):
                earlier.dts = packet.dts - (len(held) - place) * max(earlier.duration or 0, 1)
                yield from shifted(earlier)
            held.clear()
            if part.seconds(packet.dts, packet) > end + INTERLEAVED_SECONDS:
                return
            yield from shifted(packet)
